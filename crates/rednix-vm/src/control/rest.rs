//! Cloud Hypervisor's and Firecracker's interfaces over a socket: which request is which call.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::http::Interface;
use super::{Control, Request, cannot};
use crate::error::Result;
use crate::limits::SAVE_TIMEOUT;
use crate::state::Saving;

/// The monitors' names, which their saved states are marked by.
pub const CLOUD_HYPERVISOR: &str = "cloud-hypervisor";
pub const FIRECRACKER: &str = "firecracker";

/// Names of Firecracker's two files of a saved state.
pub const FIRECRACKER_STATE: &str = "state";
pub const FIRECRACKER_MEMORY: &str = "memory";

pub struct CloudHypervisor {
    pub interface: Interface,
    pub scratch: PathBuf,
}

pub struct Firecracker {
    pub interface: Interface,
    pub scratch: PathBuf,
}

impl Control for CloudHypervisor {
    /// It says nothing by itself.
    fn has_machine(&self) -> bool {
        false
    }

    fn end_reason(&self) -> Option<String> {
        None
    }

    fn send(&mut self, method: &'static str, path: &str, body: &Value) -> Result<()> {
        let body = Some(body).filter(|body| !body.is_null());
        self.interface.request_within(method, path, body, SAVE_TIMEOUT).map(|_| ())
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<()> {
        let call = |name: &str| self.interface.request("PUT", &format!("/api/v1/{name}"), None).map(|_| ());
        match request {
            Request::Quit => call("vmm.shutdown"),
            Request::PowerButton => call("vm.power-button"),
            Request::Reset => call("vm.reboot"),
            Request::Pause => call("vm.pause"),
            Request::Resume => call("vm.resume"),
            Request::Save(folder, spec) => {
                let saving = Saving::begin(folder, CLOUD_HYPERVISOR)?;
                let body = json!({ "destination_url": format!("file://{}", saving.target().display()) });
                self.send("PUT", "/api/v1/vm.snapshot", &body)?;
                saving.keep(spec, &self.scratch)?;
                saving.finish()
            }
            Request::Press(_) | Request::Screenshot(_) | Request::Memory { .. } => {
                Err(cannot(CLOUD_HYPERVISOR, request))
            }
        }
    }
}

impl Control for Firecracker {
    fn has_machine(&self) -> bool {
        false
    }

    fn end_reason(&self) -> Option<String> {
        None
    }

    fn send(&mut self, method: &'static str, path: &str, body: &Value) -> Result<()> {
        self.interface.request_within(method, path, Some(body), SAVE_TIMEOUT).map(|_| ())
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<()> {
        let state =
            |word: &str| self.interface.request("PATCH", "/vm", Some(&json!({ "state": word }))).map(|_| ());
        match request {
            // The keys that ask a guest to restart are the only button it has; a restart ends the machine.
            Request::PowerButton => {
                let body = json!({ "action_type": "SendCtrlAltDel" });
                self.interface.request("PUT", "/actions", Some(&body)).map(|_| ())
            }
            Request::Pause => state("Paused"),
            Request::Resume => state("Resumed"),
            Request::Save(folder, spec) => {
                let saving = Saving::begin(folder, FIRECRACKER)?;
                let body = json!({
                    "snapshot_type": "Full",
                    "snapshot_path": saving.target().join(FIRECRACKER_STATE),
                    "mem_file_path": saving.target().join(FIRECRACKER_MEMORY),
                });
                self.send("PUT", "/snapshot/create", &body)?;
                saving.keep(spec, &self.scratch)?;
                saving.finish()
            }
            Request::Quit
            | Request::Reset
            | Request::Press(_)
            | Request::Screenshot(_)
            | Request::Memory { .. } => Err(cannot(FIRECRACKER, request)),
        }
    }
}
