//! NAR, the archive that gives a tree one hash: writing it from a folder, from memory or from parts, reading it
//! into a folder or into memory. Knows no store paths.
//!
//! A string is its length (64 bits, little-endian), its bytes and zeros up to a multiple of eight. A node is
//! a file (with one bit: executable), a symbolic link or a directory with entries sorted by name. There are no
//! times, owners or modes.

mod dump;
mod pull;
mod read;
mod restore;
#[cfg(test)]
mod tests;
mod tree;
mod write;

use std::io::Read;
use std::path::Path;

pub use dump::{Accept, dump, dump_accepted, dump_dir, dump_file};
pub use pull::Archive;
pub use read::{Visitor, read};
pub use restore::{Discard, restore, restore_canonical, restore_into};
pub use tree::Tree;
pub use write::{Writer, node_size, padding};

use crate::error::Result;
use crate::hash::{Hash, HashAlgorithm, Hasher};

/// The first string of every archive.
pub const MAGIC: &[u8] = b"nix-archive-1";

/// The hash and the length in bytes of the NAR of what is at `path`.
pub fn hash_path(path: impl AsRef<Path>, algorithm: HashAlgorithm) -> Result<(Hash, u64)> {
    let mut hasher = Hasher::new(algorithm);
    dump(path, &mut hasher)?;
    let size = hasher.len();
    Ok((hasher.finish(), size))
}

/// Passes a stream on and hashes what passes.
#[derive(Clone)]
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> HashingReader<R> {
    pub fn new(inner: R, algorithm: HashAlgorithm) -> Self {
        HashingReader { inner, hasher: Hasher::new(algorithm) }
    }

    /// The hash and length of what was read so far.
    pub fn finish(self) -> (Hash, u64) {
        let size = self.hasher.len();
        (self.hasher.finish(), size)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
