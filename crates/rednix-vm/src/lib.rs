//! Virtual machines: runs images, interactively or under a test's control, and lets none of them outlive us.
//!
//! [`runner::Runner`] is what a monitor must answer, [`qemu::Qemu`] the first one. The crate builds no images, reads
//! no environment variables and prints nothing; everything to see is an event.

pub mod acceleration;
mod console;
pub mod control;
mod error;
pub mod exit;
pub mod limits;
mod machine;
#[allow(unsafe_code)]
mod process;
pub mod qemu;
pub mod runner;
pub mod spec;
pub mod testing;

pub use console::Plain;
pub use error::{Error, Result};
pub use exit::{Exit, ExitKind};
pub use machine::{Machine, PrivateCard, dry_run, run};
pub use runner::{Config, Program, Runner, Stop, by_name};
pub use spec::MachineSpec;
pub use testing::{TestReport, TestSpec, run_test};
