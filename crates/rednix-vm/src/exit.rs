//! How a machine ended. It maps numbers; it waits for nothing.

use serde::Serialize;

/// Status by which guests of redoxer's kind say "success" through the exit device, and the one for failure.
pub const STATUS_SUCCESS: i32 = 51;
pub const STATUS_FAILURE: i32 = 53;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitKind {
    /// The guest powered off, or the user ended the machine at its console.
    PoweredOff,
    /// The guest reset the machine where that ends it.
    Reset,
    /// The guest wrote to the exit device; the process status is what tests compare.
    Guest,
    /// The monitor failed.
    Failed,
    /// The monitor was killed by this signal.
    Killed(i32),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exit {
    pub kind: ExitKind,
    /// The monitor's process status; 128 + signal when it was killed.
    pub status: i32,
}

impl Exit {
    /// What `rednix run` should end with: 0 for a power-off or the success status.
    pub fn code(&self) -> i32 {
        match self.kind {
            ExitKind::PoweredOff => 0,
            ExitKind::Guest if self.status == STATUS_SUCCESS => 0,
            ExitKind::Reset if self.status == 0 => 1,
            _ => self.status,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            ExitKind::PoweredOff => write!(f, "powered off"),
            ExitKind::Reset => write!(f, "the guest reset the machine"),
            ExitKind::Guest => write!(f, "the guest ended with status {}", self.status),
            ExitKind::Failed => write!(f, "the monitor failed with status {}", self.status),
            ExitKind::Killed(signal) => write!(f, "the monitor was killed by signal {signal}"),
        }
    }
}
