//! Sources: from an url to bytes whose hash is known, and from archives to trees.
//!
//! Builds nothing, writes no database, reads no environment variable and no home directory, and prints
//! nothing: configuration is passed in, progress goes out as events.

pub mod apt;
pub mod archive;
pub mod cargo_lock;
pub mod config;
pub mod crates;
pub mod debian;
pub mod error;
pub mod fetcher;
mod forward_proxy;
pub mod git;
pub mod http;
pub mod inputs;
pub mod limits;
pub mod overrides;
mod process;
pub mod source;
mod transfer;

pub use archive::Error;
pub use archive::deb::unpack_deb;
pub use archive::tar::unpack;
pub use archive::tree::tree;
pub use archive::vendor::vendor;
pub use config::FetchConfig;
pub use debian::{DebianLock, LockSpec, SuiteSpec, lock_debian};
pub use error::FetchError;
pub use fetcher::{FetchRequest, Fetched, Fetcher};
pub use git::{GitRequest, GitTree};
pub use inputs::{FetchedInput, InputOptions};
pub use overrides::{Overrides, Replacement};
