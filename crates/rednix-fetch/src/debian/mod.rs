//! Debian archives: versions, indexes, dependency resolution and the lock made of them.

pub mod control;
pub mod index;
pub mod relation;
pub mod resolve;
pub mod version;
