//! RedoxFS, on-disk version 8, for reading: finding the newest header, nodes, files, directories, symbolic links. Every
//! block is verified against the hash in the pointer that names it.
//!
//! Writes nothing, knows nothing of free space, and refuses encrypted file systems. Bytes of a damaged or hostile image
//! end in an error, never in a panic or in unbounded work.

mod block;
mod directory;
mod error;
mod header;
mod node;
mod reader;
mod walk;

#[cfg(test)]
mod tests;

pub use directory::DirectoryEntry;
pub use error::FileSystemError;
pub use header::Header;
pub use node::{Node, NodeKind, ROOT_NODE};
pub use reader::FileSystem;
pub use walk::{Visit, WalkError};
