//! Bootable images, written in process: initfs, root tree, RedoxFS, EFI partition, partition table, manifest; and
//! repositories of package archives.
//!
//! Same input, same bits: nothing here reads a clock, an environment variable or a random number. Nothing is
//! mounted and nothing needs privileges. It builds no packages and starts no machines.

pub mod additions;
mod assemble;
pub mod builtin;
pub mod closure;
pub mod config;
mod disk;
pub mod elf;
mod error;
mod esp;
mod files;
mod filesystem;
mod gpt;
pub mod initfs;
pub mod limits;
mod loaders;
pub mod manifest;
pub mod pkgar;
pub mod repository;
pub mod state;
mod tree;
mod users;
pub mod verify;

pub use assemble::Collision;
pub use disk::{Request, Written, write};
pub use error::{Error, Result};
