//! Bootable images, written in process: initfs, root tree, RedoxFS, EFI partition, partition table, manifest.
//!
//! Same input, same bits: nothing here reads a clock, an environment variable or a random number. Nothing is
//! mounted and nothing needs privileges. It builds no packages and starts no machines.

mod assemble;
pub mod builtin;
pub mod config;
mod disk;
mod error;
mod esp;
mod filesystem;
mod gpt;
pub mod initfs;
pub mod limits;
pub mod manifest;
mod tree;
mod users;
pub mod verify;

pub use assemble::{Collision, Package};
pub use disk::{Request, write};
pub use error::{Error, Result};
