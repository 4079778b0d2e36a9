//! Building: what is missing is planned, fetched and built in sandboxes, and registered in the store.
//! This crate evaluates nothing, speaks no network protocol and prints nothing.

pub mod backend;
pub mod builtins;
pub mod cancel;
pub mod environment;
pub mod limits;
pub mod local;
pub mod log;
pub mod sandbox;

pub use builtins::Builtins;
pub use cancel::CancelToken;
pub use local::Local;
pub use sandbox::child_main;
