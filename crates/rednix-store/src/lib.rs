//! Store paths, hashes, derivations, NAR (pure parts), and the store itself: database, roots, locks, collection.
//!
//! The pure modules ([`nix32`], [`hash`], [`path`], [`derivation`], [`nar`] on readers and writers) touch
//! nothing; [`handle`] and [`store`] do. No other crate writes the database. Nothing here reads the environment
//! or the home directory, and nothing prints.

pub mod canonical;
pub mod derivation;
pub mod error;
pub mod handle;
pub mod hash;
pub mod limits;
pub mod nar;
pub mod nix32;
pub mod path;
pub mod rewrite;
pub mod scan;
pub mod store;

pub use error::{Error, Result};
pub use store::{PathInfo, Store};
