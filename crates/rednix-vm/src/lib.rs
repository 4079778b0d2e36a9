//! Virtual machines: runs images, interactively or under a test's control, and lets none of them outlive us.
//!
//! [`runner::Runner`] is what a monitor must answer; each has a module. The crate builds no images, reads
//! no environment variables and prints nothing; everything to see is an event.

mod ability;
pub mod acceleration;
pub mod cloud_hypervisor;
mod console;
pub mod control;
mod error;
pub mod exchange;
pub mod exit;
pub mod firecracker;
mod host_ports;
mod kept;
mod kvm_only;
pub mod kvmtool;
mod launch;
pub mod layer;
pub mod limits;
mod locked;
mod machine;
mod menu;
#[allow(unsafe_code)]
mod process;
mod qcow2;
pub mod qemu;
pub mod runner;
mod scratch;
mod smoke;
mod sparse;
pub mod spec;
pub mod state;
mod terminal;
pub mod testing;

pub use console::Plain;
pub use error::{Error, Result};
pub use exit::{Exit, ExitKind};
pub use launch::{Extras, PrivateCard, check_plan, dry_run};
pub use machine::Machine;
pub use runner::{Config, Program, Runner, Stop, by_name};
pub use spec::MachineSpec;
pub use terminal::{Attached, Keyboard, Turn, restore_terminal, run};
pub use testing::{TestReport, TestSpec, run_test};
