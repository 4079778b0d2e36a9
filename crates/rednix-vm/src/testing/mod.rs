//! Machine tests: start a machine, talk to its console step by step, judge. Tests are data, so they can come from
//! Nix. It prints nothing.

mod run;
mod spec;

pub use run::{TestReport, run_test};
pub use spec::{Action, Pattern, Step, TestSpec};
