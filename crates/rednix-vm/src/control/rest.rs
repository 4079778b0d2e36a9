//! Cloud Hypervisor's and Firecracker's interfaces over a socket: which request is which call.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::http::Interface;
use super::{Control, Request, cannot};
use crate::error::{Error, Result};
use crate::limits::SAVE_TIMEOUT;

/// Name of a saved machine's layer, in its folder as in the private folder of a machine.
pub const LAYER: &str = "disk.layer";
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

/// Makes the folder of a saved state anew: parts of two states must not mix.
fn make_folder(folder: &Path) -> Result<()> {
    for name in ["config.json", "state.json", "memory-ranges", FIRECRACKER_STATE, FIRECRACKER_MEMORY, LAYER] {
        let file = folder.join(name);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &file)(error));
            }
            _ => {}
        }
    }
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))
}

/// What the machine wrote to its disk belongs to its state.
fn keep_layer(scratch: &Path, folder: &Path) -> Result<()> {
    let layer = scratch.join(LAYER);
    if layer.exists() {
        let kept = folder.join(LAYER);
        std::fs::copy(&layer, &kept).map_err(Error::io("write", &kept))?;
    }
    Ok(())
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
            Request::Save(folder) => {
                make_folder(folder)?;
                let body = json!({ "destination_url": format!("file://{}", folder.display()) });
                self.send("PUT", "/api/v1/vm.snapshot", &body)?;
                keep_layer(&self.scratch, folder)
            }
            Request::Press(_) | Request::Screenshot(_) | Request::Memory { .. } => {
                Err(cannot("Cloud Hypervisor", request))
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
            Request::Save(folder) => {
                make_folder(folder)?;
                let body = json!({
                    "snapshot_type": "Full",
                    "snapshot_path": folder.join(FIRECRACKER_STATE),
                    "mem_file_path": folder.join(FIRECRACKER_MEMORY),
                });
                self.send("PUT", "/snapshot/create", &body)?;
                keep_layer(&self.scratch, folder)
            }
            Request::Quit
            | Request::Reset
            | Request::Press(_)
            | Request::Screenshot(_)
            | Request::Memory { .. } => Err(cannot("Firecracker", request)),
        }
    }
}
