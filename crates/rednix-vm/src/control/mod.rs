//! What can be asked of a running machine, whatever runs it. It decides nothing by itself.

pub mod http;
mod qmp;
pub(crate) mod rest;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

pub use qmp::Qmp;

use crate::error::{Error, Result};

/// One wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// The monitor ends at once, as with the plug pulled.
    Quit,
    /// The button that asks the guest to power off. It may not listen.
    PowerButton,
    Reset,
    Pause,
    Resume,
    /// Keys pressed together, by QEMU's names (`ret`, `ctrl`, `a`).
    Press(&'a [String]),
    /// The screen to a PNG file of the host.
    Screenshot(&'a Path),
    /// The state of a machine that stands still to a folder.
    Save(&'a Path),
    /// Bytes of the guest's memory, by physical address, to a file of the host.
    Memory {
        address: u64,
        length: u64,
        file: &'a Path,
    },
}

impl std::fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Request::Quit => "end a machine",
            Request::PowerButton => "press the power button",
            Request::Reset => "reset a machine",
            Request::Pause => "pause a machine",
            Request::Resume => "let a machine go on",
            Request::Press(_) => "press keys",
            Request::Screenshot(_) => "take a screenshot",
            Request::Save(_) => "save a machine's state",
            Request::Memory { .. } => "read a machine's memory",
        })
    }
}

/// A connection to a monitor.
pub trait Control: Send {
    /// Whether the monitor got as far as having a machine.
    fn has_machine(&self) -> bool;

    /// Why the machine shut down, in QEMU's words (`guest-shutdown`, `guest-reset`, `host-qmp-quit`, …), where the
    /// monitor says so. Call it after the process has ended.
    fn end_reason(&self) -> Option<String>;

    fn ask(&mut self, request: &Request<'_>) -> Result<()>;

    /// One call in the monitor's own terms: method, path, body.
    fn send(&mut self, method: &'static str, path: &str, _body: &serde_json::Value) -> Result<()> {
        Err(Error::Control(format!("the monitor has no interface for `{method} {path}`")))
    }
}

/// A connection that more than one thread asks over, one wish at a time.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Box<dyn Control>>>);

impl Shared {
    pub fn new(control: Box<dyn Control>) -> Self {
        Shared(Arc::new(Mutex::new(control)))
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Control>> {
        self.0.lock().expect("no holder panics")
    }

    /// For a thread that is to end with the machine.
    pub fn follow(&self) -> Follower {
        Follower(Arc::downgrade(&self.0))
    }
}

impl Control for Shared {
    fn has_machine(&self) -> bool {
        self.lock().has_machine()
    }

    fn end_reason(&self) -> Option<String> {
        self.lock().end_reason()
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<()> {
        self.lock().ask(request)
    }

    fn send(&mut self, method: &'static str, path: &str, body: &serde_json::Value) -> Result<()> {
        self.lock().send(method, path, body)
    }
}

/// Such a connection without a hold on it.
pub(crate) struct Follower(Weak<Mutex<Box<dyn Control>>>);

impl Follower {
    /// The connection, for as long as its machine is there.
    pub fn get(&self) -> Option<Shared> {
        self.0.upgrade().map(Shared)
    }
}

/// The error of a monitor that has no such thing.
pub(crate) fn cannot(monitor: &str, request: &Request<'_>) -> Error {
    Error::Control(format!("{monitor} cannot {request}"))
}
