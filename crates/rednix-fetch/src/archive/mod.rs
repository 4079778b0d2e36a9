//! Archives and trees: the builtin builders that turn fetched files into folders.
//!
//! Pure functions of their inputs: sorted, no clock, no environment, no network. Everything is written through
//! directory handles, below the output and through no symbolic link; modes become canonical later, in the store.

pub mod ar;
pub mod deb;
pub mod manifest;
pub mod tar;
pub mod tree;
pub mod vendor;
pub mod writer;

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a tree could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mistake in whoever wrote the derivation.
    #[error("{builder}: {reason}\n\nhint: the derivation's attributes are not what this builder takes")]
    Attributes { builder: &'static str, reason: String },

    /// Nothing hostile is unpacked half: the whole output is dropped.
    #[error("{archive}: entry `{entry}`: {reason}\n\nhint: the archive is damaged or malicious; check where it comes from", archive = .archive.display())]
    Entry { archive: PathBuf, entry: String, reason: String },

    #[error("{archive}: {reason}\n\nhint: the archive is damaged or of an unknown kind; check where it comes from", archive = .archive.display())]
    Archive { archive: PathBuf, reason: String },

    #[error("{path}: {reason}\n\nhint: the crate's `Cargo.toml` cannot be made to stand alone; override the dependency with a copy that does", path = .path.display())]
    Manifest { path: PathBuf, reason: String },

    #[error(transparent)]
    Store(#[from] rednix_store::Error),
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Store(rednix_store::Error::io(operation, path, source))
    }
}

/// Reads a builder's attributes and checks their format version.
pub(crate) fn attributes<T: DeserializeOwned>(
    builder: &'static str,
    value: &serde_json::Value,
) -> Result<T, Error> {
    let wrong = |reason: String| Error::Attributes { builder, reason };
    match value.get("formatVersion").and_then(serde_json::Value::as_u64) {
        Some(1) => {}
        Some(other) => return Err(wrong(format!("formatVersion is {other}, this rednix knows 1"))),
        None => return Err(wrong("formatVersion is missing".to_owned())),
    }
    serde_json::from_value(value.clone()).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
