//! The sandbox: one command, or one function of rednix, in namespaces of its own with only its inputs.
//! It knows no store and no derivation; see [`crate::backend`] for those.

#[allow(unsafe_code)]
mod child;
mod farm;
mod mounts;
mod probe;
mod run;
mod seccomp;
mod skeleton;
mod spec;
#[allow(unsafe_code)]
mod system;

pub use child::{CHILD_ARGUMENT, child_main};
pub use farm::compose_farm;
pub use probe::{Capabilities, probe, remedy, try_one};
pub use run::{Control, Ending, SandboxError, run};
pub use spec::{Bytes, Confinement, Input, Kept, Program, ResourceLimits, Root, SandboxSpec};
