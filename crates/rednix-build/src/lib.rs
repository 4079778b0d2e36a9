//! Building: what is missing is planned, fetched and built in sandboxes, and registered in the store.
//! This crate evaluates nothing, speaks no network protocol and prints nothing.

pub mod backend;
pub mod builtins;
pub mod cancel;
pub mod compare;
pub mod config;
pub mod environment;
pub mod error;
pub mod fetch;
mod fetching;
mod job;
pub mod limits;
pub mod local;
pub mod log;
mod outputs;
pub mod plan;
pub mod rebuild;
pub mod sandbox;
mod scheduler;
pub mod substitute;
pub mod work;

pub use backend::{Backend, BuildOutcome, BuildRequest, KeptFolder};
pub use builtins::Builtins;
pub use cancel::CancelToken;
pub use config::BuildConfig;
pub use error::{BuildError, BuildErrors, Reason};
pub use fetch::{Fetch, FetchRequest, NoFetch};
pub use local::Local;
pub use plan::{Plan, Task, Wanted};
pub use rebuild::{Rebuilt, RebuiltOutput, Verdict};
pub use sandbox::child_main;
pub use scheduler::{Builder, Built};
pub use substitute::{Ask, NoSubstitute, Substitute};
pub use work::{WorkFolder, WorkFolders};
