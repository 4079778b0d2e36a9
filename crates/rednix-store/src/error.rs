//! The one error type of the crate: each variant says why work must stop, at which operation, on what object.
//! It prints nothing.

use std::io;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Without the right bytes nothing may get a name.
    #[error("`{text}` is not a hash: {reason}")]
    BadHash { text: String, reason: String },

    #[error("`{name}` cannot be the name of a store path: {reason}")]
    BadName { name: String, reason: String },

    #[error("`{text}` is not a store path: {reason}")]
    BadPath { text: String, reason: String },

    /// No store path exists for this combination of method, hash and references.
    #[error("no store path for `{name}`: {reason}")]
    BadContentAddress { name: String, reason: String },

    #[error("derivation `{name}` is malformed at byte {offset}: {reason}")]
    BadDerivation { name: String, offset: usize, reason: String },

    #[error("the archive (NAR) is malformed at byte {offset}: {reason}")]
    BadNar { offset: u64, reason: String },

    /// Not storable: a device, a socket, a name that NAR cannot hold.
    #[error("cannot put `{}` into the store: {reason}", path.display())]
    Unstorable { path: PathBuf, reason: String },

    /// A name given by an archive or a caller would leave the folder it belongs to.
    #[error("refused `{}`: {reason}", path.display())]
    Escapes { path: PathBuf, reason: String },

    #[error("cannot {operation} `{}`: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },

    /// Apart from `Io`, because the remedy is always the same.
    #[error(
        "no space left while trying to {operation} `{}`\n\nhint: free some space there (`rednix gc` removes what nothing needs) and run the command again; nothing half-written was registered",
        path.display()
    )]
    NoSpace { operation: &'static str, path: PathBuf },

    /// Apart from `Io`, for the same reason.
    #[error(
        "cannot {operation} `{}`: it lies on another file system than the rest of the store\n\nhint: keep `nix/store` and `nix/var` of a store on one file system: paths are made beside it and moved into it whole",
        path.display()
    )]
    Apart { operation: &'static str, path: PathBuf },

    #[error("cannot {operation} in the store's database `{}`: {source}", path.display())]
    Database { operation: &'static str, path: PathBuf, source: rusqlite::Error },

    /// Apart from `Database`, because there is a remedy.
    #[error(
        "the store's database `{}` is damaged: {source}\n\nhint: `rednix store verify --repair` makes a new one of what the store's contents prove",
        path.display()
    )]
    DamagedDatabase { path: PathBuf, source: rusqlite::Error },

    #[error(
        "the store at `{}` has {what} version {found}, but this rednix knows versions up to {known}\n\nhint: use a newer rednix for this store, or another store (`REDNIX_STORE`)",
        root.display()
    )]
    NewerSchema { root: PathBuf, what: &'static str, found: String, known: u32 },

    #[error(
        "the store at `{}` has {what} version {found}, older than the {known} this rednix needs\n\nhint: opening it once for writing brings it up to date, a database with a current C++ Nix, an archive with `rednix store archive --list`; or use another store (`REDNIX_STORE`)",
        root.display()
    )]
    OlderSchema { root: PathBuf, what: &'static str, found: String, known: u32 },

    #[error("there is no store at `{}`", root.display())]
    NoStore { root: PathBuf },

    #[error(
        "cannot write to the store at `{}`: {source}\n\nhint: use another store (`--store FOLDER`, or `REDNIX_STORE`); what only reads works here",
        root.display()
    )]
    NotWritable { root: PathBuf, source: io::Error },

    #[error(
        "cannot {operation}: the store was opened read-only\n\nhint: it lies where you cannot write; use another store (`--store FOLDER`, or `REDNIX_STORE`)"
    )]
    ReadOnly { operation: &'static str },

    #[error("`{path}` is not in the store")]
    NotValid { path: String },

    #[error("{what}: expected hash {expected}, got {found}")]
    HashMismatch { what: String, expected: String, found: String },

    /// References must be registered before or together with what refers to them.
    #[error("cannot register `{path}`: it refers to `{reference}`, which is not in the store")]
    MissingReference { path: String, reference: String },

    #[error("the store's database holds something unexpected in {place}: {reason}")]
    Corrupt { place: String, reason: String },

    /// Apart from `HashMismatch`, because there is a remedy, and builds go on without.
    #[error(
        "`{path}` cannot be restored: its copy in the archive is damaged\n\nhint: `rednix store verify --repair` deletes it there; what was built can be built again"
    )]
    DamagedArchive { path: String },

    #[error("waiting for another process to finish `{path}` was given up after {waited_s} seconds")]
    LockTimeout { path: String, waited_s: u64 },

    #[error(
        "the list of what a process works with, `{}`, has {bytes_max} bytes or more\n\nhint: end that process (the file is named by its number) before collecting",
        path.display()
    )]
    TooManyRoots { path: PathBuf, bytes_max: u64 },

    #[error("`{}` cannot become a root: {reason}", path.display())]
    BadRoot { path: PathBuf, reason: String },
}

impl Error {
    /// Wraps a system error, keeping "no space left" apart.
    pub fn io(operation: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Error {
        let source = source.into();
        let path = path.as_ref().to_path_buf();
        match source.raw_os_error() {
            Some(code) if is_no_space(code) => Error::NoSpace { operation, path },
            Some(code) if code == rustix::io::Errno::XDEV.raw_os_error() => Error::Apart { operation, path },
            _ => Error::Io { operation, path, source },
        }
    }

    /// The system's error code, where there is one.
    pub fn os_error(&self) -> Option<i32> {
        match self {
            Error::Io { source, .. } => source.raw_os_error(),
            Error::NoSpace { .. } => Some(rustix::io::Errno::NOSPC.raw_os_error()),
            Error::Apart { .. } => Some(rustix::io::Errno::XDEV.raw_os_error()),
            _ => None,
        }
    }

    /// Whether the object of the operation is absent (and not, say, denied).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the object of the operation is there already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }
}

/// A full disk, a full quota and a file-size limit are one thing to the user.
fn is_no_space(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].iter().any(|errno| errno.raw_os_error() == code)
}
