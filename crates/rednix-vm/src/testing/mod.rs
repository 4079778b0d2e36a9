//! Machine tests: start machines, talk to their consoles step by step, judge. Tests are data, so they can come from
//! Nix. It prints nothing.

mod base64;
mod guest;
pub(crate) mod keyboard;
pub mod network;
mod pattern;
mod ports;
mod push;
mod report;
mod results;
mod run;
pub mod schedule;
pub mod screen;
pub mod shell;
mod spec;
mod step;
pub mod transfer;

pub use guest::{Done, Guest, Meanwhile, Place, Problem, Surroundings};
pub use pattern::Pattern;
pub use push::{Pushed, push};
pub use report::{StepReport, TestReport, counts, to_json, to_junit};
pub use run::{OnFailure, check, run_test, run_test_by_name};
pub use shell::{Answer, Shell};
pub use spec::{TestMachine, TestSpec};
pub use step::{Action, Run, Screenshot, Step};
