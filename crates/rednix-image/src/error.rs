//! Why an image could not be written or verified. Each variant names the operation and its object.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's file system refused; nothing can be read or written any more.
    #[error("cannot {operation} `{}`: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },

    /// The derivation's attributes are not what the builder understands.
    #[error("{builder}: {message}")]
    Attributes { builder: &'static str, message: String },

    /// The system configuration asks for something impossible.
    #[error("configuration: {0}")]
    Config(String),

    /// A configuration file is not valid.
    #[error("{}: {message}", path.display())]
    ConfigFile { path: PathBuf, message: String },

    /// What should go to `path` inside the image cannot go there.
    #[error("image path `/{path}`: {message}")]
    Content { path: String, message: String },

    /// The disk is too small for its contents.
    #[error(
        "the contents do not fit: `general.filesystem_size` is {size_mib} MiB\n\nhint: set `filesystem_size` to {needed_mib} or more"
    )]
    DoesNotFit { size_mib: u64, needed_mib: u64 },

    /// The EFI partition is too small for the loader.
    #[error(
        "the UEFI loader ({loader_bytes} bytes) does not fit into an EFI partition of {size_mib} MiB\n\nhint: set `general.efi_partition_size` to {needed_mib} or more (BIOS boot needs 1)"
    )]
    LoaderDoesNotFit { loader_bytes: u64, size_mib: u64, needed_mib: u64 },

    /// RedoxFS refused an operation.
    #[error("RedoxFS: cannot {operation} `/{path}`: {message}")]
    FileSystem { operation: &'static str, path: String, message: String },

    /// Bytes that should be an initfs image, a partition table or a file system are not.
    #[error("{what}: {message}")]
    Malformed { what: &'static str, message: String },

    /// An image differs from its manifest; at most `limits::DIFFERENCES_MAX` lines.
    #[error("the image differs from its manifest:\n{}", .0.join("\n"))]
    Differs(Vec<String>),
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { operation, path, source }
    }

    pub(crate) fn content(path: &str, message: impl Into<String>) -> Self {
        Error::Content { path: path.to_owned(), message: message.into() }
    }

    pub(crate) fn malformed(what: &'static str, message: impl Into<String>) -> Self {
        Error::Malformed { what, message: message.into() }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
