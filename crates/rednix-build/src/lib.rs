//! Building: what is missing is planned, fetched and built in sandboxes, and registered in the store.
//! This crate evaluates nothing, speaks no network protocol and prints nothing.

pub mod builtins;
pub mod cancel;
pub mod limits;
pub mod sandbox;

pub use builtins::Builtins;
pub use cancel::CancelToken;
pub use sandbox::child_main;
