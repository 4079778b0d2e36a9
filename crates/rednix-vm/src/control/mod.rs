//! What can be asked of a running machine, whatever runs it. It decides nothing by itself.

pub mod http;
mod qmp;
pub(crate) mod rest;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

pub use qmp::Qmp;

use crate::error::{Error, Result};
use crate::spec::MachineSpec;

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
    /// The state of a machine that stands still to a folder, with what it is like.
    Save(&'a Path, &'a MachineSpec),
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
            Request::Quit => "end it",
            Request::PowerButton => "press its power button",
            Request::Reset => "press its reset button",
            Request::Pause => "pause it",
            Request::Resume => "let it go on",
            Request::Press(_) => "press keys",
            Request::Screenshot(_) => "take a screenshot",
            Request::Save(..) => "save its state",
            Request::Memory { .. } => "read its memory",
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
pub(crate) struct Shared(Arc<Mutex<Asked>>);

struct Asked {
    control: Box<dyn Control>,
    /// It did what it was asked for.
    answered: bool,
}

impl Asked {
    fn note<T>(&mut self, result: Result<T>) -> Result<T> {
        self.answered |= result.is_ok();
        result
    }
}

impl Shared {
    /// `answered`: it did something before.
    pub fn new(control: Box<dyn Control>, answered: bool) -> Self {
        Shared(Arc::new(Mutex::new(Asked { control, answered })))
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().expect("no holder panics")
    }

    /// For a thread that is to end with the machine.
    pub fn follow(&self) -> Follower {
        Follower(Arc::downgrade(&self.0))
    }
}

impl Control for Shared {
    /// Not all monitors say so by themselves, but none does anything without a machine.
    fn has_machine(&self) -> bool {
        let asked = self.lock();
        asked.answered || asked.control.has_machine()
    }

    fn end_reason(&self) -> Option<String> {
        self.lock().control.end_reason()
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<()> {
        let mut asked = self.lock();
        let result = asked.control.ask(request);
        asked.note(result)
    }

    fn send(&mut self, method: &'static str, path: &str, body: &serde_json::Value) -> Result<()> {
        let mut asked = self.lock();
        let result = asked.control.send(method, path, body);
        asked.note(result)
    }
}

/// Such a connection without a hold on it.
pub(crate) struct Follower(Weak<Mutex<Asked>>);

impl Follower {
    /// The connection, for as long as its machine is there.
    pub fn get(&self) -> Option<Shared> {
        self.0.upgrade().map(Shared)
    }
}

/// The error of a monitor that has no such thing.
pub(crate) fn cannot(monitor: &str, request: &Request<'_>) -> Error {
    let how = match request {
        Request::PowerButton => "power it off in the guest, or end it at the terminal (Ctrl-A X)",
        Request::Reset => "restart it in the guest, or end it (Ctrl-A X) and start it again",
        Request::Save(..) => "use `--vmm cloud-hypervisor` or `--vmm firecracker`",
        Request::Press(_) | Request::Screenshot(_) | Request::Memory { .. } => {
            "use `--vmm qemu`, with `--graphics=headless` where nobody looks at the screen"
        }
        Request::Quit | Request::Pause | Request::Resume => "use another monitor",
    };
    Error::Cannot { monitor: monitor.to_owned(), operation: request.to_string(), how }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_monitor_cannot_do_names_machine_operation_and_way_out() {
        let file = Path::new("/x");
        let spec = MachineSpec::new("x", "x".into());
        let memory = Request::Memory { address: 0, length: 1, file };
        let requests = [
            (Request::Screenshot(file), "take a screenshot", "--vmm qemu"),
            (Request::Press(&[]), "press keys", "--vmm qemu"),
            (memory, "read its memory", "--vmm qemu"),
            (Request::Save(file, &spec), "save its state", "--vmm firecracker"),
            (Request::Reset, "press its reset button", "restart it in the guest"),
            (Request::PowerButton, "press its power button", "power it off in the guest"),
        ];
        for (request, operation, way_out) in requests {
            let text = cannot("kvmtool", &request).of("probe", &request).to_string();
            assert!(
                text.starts_with(&format!("machine `probe`: cannot {operation}: kvmtool has no")),
                "{text}"
            );
            assert!(text.contains("hint: ") && text.contains(way_out), "{text}");
        }
        let text = Error::Control("no answer".into()).of("probe", &Request::Pause).to_string();
        assert_eq!(text, "machine `probe`: cannot pause it: control socket: no answer");
    }
}
