//! Flakes as data: references to sources, lock files, and the rules by which one is made of the other.
//!
//! Fetches nothing, evaluates nothing and touches no file: whoever locks a flake brings those as [`Sources`].
//! The formats and rules are those of C++ Nix 2.34.

mod attributes;
mod diff;
mod error;
mod forge;
mod input;
pub mod limits;
mod lock;
mod locking;
mod reference;
mod registry;
mod schemes;
#[cfg(test)]
mod tests;
mod url;

pub use attributes::{Attribute, Attributes};
pub use diff::difference;
pub use error::FlakeError;
pub use forge::{Forge, ForgeAddress};
pub use input::{Input, Kind};
pub use lock::{Edge, InputPath, LockFile, Locked, Node, parse_input_path, show_input_path};
pub use locking::{
    Declaration, DeclaredInput, Fetched, Flake, LockOptions, LockedFlake, Registries, Sources, compact_date,
    date, lock_flake,
};
pub use reference::{FlakeRef, Parsed, split_outputs};
pub use registry::{Registry, RegistryEntry, resolve};
pub use url::Url;

pub type Result<T> = std::result::Result<T, FlakeError>;
