//! The one stream of typed events: everything a user can be shown while rednix works.
//!
//! Rooms emit events into a [`Sink`]; the plain log, the live view and the JSON log are views of the same
//! stream. This crate prints nothing and knows no terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Names one running activity (a fetch, a build, a machine) between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Activity(pub u64);

impl Activity {
    /// A number no other activity of this process has.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Activity(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Something that happened. Times are milliseconds, sizes are bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Event {
    /// Evaluation of `what` (a file, an attribute) begins.
    EvalStarted {
        what: String,
    },
    EvalDone {
        what: String,
        duration_ms: u64,
    },
    /// What has to be done before the wanted outputs exist. Sent once the missing paths are known, and again
    /// when content-addressed outputs turn out to need more.
    Plan {
        builds: u64,
        fetches: u64,
        fetch_bytes: u64,
    },
    FetchStarted {
        id: Activity,
        url: String,
        size_bytes: Option<u64>,
    },
    /// `done_bytes` counts from the start of the file, so a resumed transfer begins above zero.
    FetchProgress {
        id: Activity,
        done_bytes: u64,
    },
    FetchDone {
        id: Activity,
        size_bytes: u64,
        duration_ms: u64,
    },
    FetchFailed {
        id: Activity,
        message: String,
    },
    BuildStarted {
        id: Activity,
        name: String,
        derivation: String,
    },
    /// The build enters a phase, and leaves the one it was in.
    BuildPhase {
        id: Activity,
        phase: String,
    },
    /// One line of a builder's output, without its newline; invalid UTF-8 already replaced.
    BuildLog {
        id: Activity,
        line: String,
    },
    BuildDone {
        id: Activity,
        duration_ms: u64,
        outputs: Vec<String>,
    },
    /// `log_tail` holds the last lines of the log, oldest first.
    BuildFailed {
        id: Activity,
        message: String,
        log_tail: Vec<String>,
    },
    /// A step of a longer in-process task (image writing, collection), for people.
    Step {
        what: String,
    },
    MachineStarted {
        id: Activity,
        name: String,
        command: Vec<String>,
    },
    MachineOutput {
        id: Activity,
        line: String,
    },
    MachineDone {
        id: Activity,
        duration_ms: u64,
        message: String,
    },
    TestDone {
        name: String,
        outcome: Outcome,
        duration_ms: u64,
        message: String,
    },
    /// Something the user should know that stops nothing.
    Warning {
        message: String,
    },
    Notice {
        message: String,
    },
}

/// How a test ended. `Skipped` always carries its reason in the event's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Where events go. Called from many threads; must be quick and must not panic.
pub trait Sink: Send + Sync {
    fn emit(&self, event: Event);
}

/// A sink as rooms hold it.
pub type Events = Arc<dyn Sink>;

/// Drops everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Sink for Silent {
    fn emit(&self, _: Event) {}
}

/// Keeps everything, for tests.
#[derive(Debug, Default)]
pub struct Recorder(std::sync::Mutex<Vec<Event>>);

impl Recorder {
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().expect("no holder of the recorder's lock panics").clone()
    }
}

impl Sink for Recorder {
    fn emit(&self, event: Event) {
        self.0.lock().expect("no holder of the recorder's lock panics").push(event);
    }
}
