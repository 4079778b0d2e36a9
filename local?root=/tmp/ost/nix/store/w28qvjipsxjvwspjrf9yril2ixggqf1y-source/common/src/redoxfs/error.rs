//! What can be wrong with a file system or a question to it.

use alloc::string::String;
use core::fmt;

use crate::device::DeviceError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSystemError {
    Device(DeviceError),
    /// No valid header at this block of the device.
    NotFound {
        block: u64,
    },
    Encrypted {
        block: u64,
    },
    /// A block's bytes do not have the hash their pointer states.
    WrongHash {
        what: &'static str,
        block: u64,
    },
    /// Fields that contradict the format or a limit.
    Corrupt {
        what: &'static str,
        number: u64,
    },
    NoSuchFile {
        path: String,
    },
    NotADirectory {
        path: String,
    },
    NotAFile {
        path: String,
    },
    TooManyLinks {
        path: String,
    },
    TooLarge {
        path: String,
        bytes: u64,
        limit: u64,
    },
}

impl From<DeviceError> for FileSystemError {
    fn from(error: DeviceError) -> Self {
        FileSystemError::Device(error)
    }
}

impl fmt::Display for FileSystemError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileSystemError::Device(error) => error.fmt(formatter),
            FileSystemError::NotFound { block } => {
                write!(formatter, "no RedoxFS of version 8 at block {block}")
            }
            FileSystemError::Encrypted { block } => {
                write!(formatter, "the RedoxFS at block {block} is encrypted")
            }
            FileSystemError::WrongHash { what, block } => {
                write!(formatter, "RedoxFS is damaged: {what} in block {block} has a wrong hash")
            }
            FileSystemError::Corrupt { what, number } => {
                write!(formatter, "RedoxFS is damaged: {what} ({number:#x})")
            }
            FileSystemError::NoSuchFile { path } => write!(formatter, "`{path}` is not there"),
            FileSystemError::NotADirectory { path } => write!(formatter, "`{path}` is not a directory"),
            FileSystemError::NotAFile { path } => write!(formatter, "`{path}` is not a file"),
            FileSystemError::TooManyLinks { path } => {
                write!(formatter, "`{path}` has too many links or components")
            }
            FileSystemError::TooLarge { path, bytes, limit } => {
                write!(formatter, "`{path}` has {bytes} bytes, the limit is {limit}")
            }
        }
    }
}
