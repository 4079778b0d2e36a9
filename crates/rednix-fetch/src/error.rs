//! Why bytes could not be had: one variant per thing a user would do differently.

use std::io;
use std::path::{Path, PathBuf};

use crate::debian::index::IndexError;
use crate::debian::resolve::ResolveError;

/// A failed fetch. Each message names the source and ends with what to do next.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(
        "{url} is not there (HTTP status {status})\n\nhint: check the address, or add a mirror that has the file"
    )]
    NotFound { url: String, status: u16 },

    #[error("{path} is not there\n\nhint: check the path, or the mirror it belongs to", path = .path.display())]
    NoFile { path: PathBuf },

    /// Refused is not absent: another mirror or credentials may help, another version will not.
    #[error(
        "{url} refuses access (HTTP status {status})\n\nhint: check the proxy and the credentials, or use a mirror that may be read"
    )]
    Denied { url: String, status: u16 },

    #[error("{url} answers with HTTP status {status}\n\nhint: try again later, or use another mirror")]
    Server { url: String, status: u16 },

    #[error(
        "{url} did not answer in time ({phase} took over {limit_s} s)\n\nhint: check the network, use another mirror, or raise the time-out; the part already there is kept"
    )]
    TimedOut { url: String, phase: &'static str, limit_s: u64 },

    #[error(
        "{url} broke off after {got_bytes} of {wanted_bytes} bytes\n\nhint: run the command again, it goes on where it stopped"
    )]
    Truncated { url: String, got_bytes: u64, wanted_bytes: u64 },

    #[error(
        "{url} is larger than the {limit_bytes} bytes that were expected\n\nhint: the file was changed at its source; check it, then update the lock"
    )]
    TooLarge { url: String, limit_bytes: u64 },

    #[error(
        "{name} from {url} has the wrong contents: got {got}, wanted {wanted}\n\nhint: the file was changed at its source or on the way; check it, then update the lock, or use another mirror"
    )]
    WrongHash { name: String, url: String, got: String, wanted: String },

    #[error(
        "cannot reach {url}: {reason}\n\nhint: check the network, the proxy and the mirrors, or work offline with what is there"
    )]
    NoRoute { url: String, reason: String },

    #[error(
        "no secure connection to {url}: {reason}\n\nhint: if the network re-signs connections, point `SSL_CERT_FILE` at a bundle with its authority"
    )]
    Tls { url: String, reason: String },

    #[error("{url}: {reason}\n\nhint: check the server or use another mirror")]
    Protocol { url: String, reason: String },

    #[error(
        "{url} is not here and rednix works offline\n\nhint: run once without `--offline`, or add a local mirror that has it"
    )]
    Offline { url: String },

    #[error(
        "no mirror is known for Debian suite `{suite}`\n\nhint: name one in the configuration, `[debian]` with `{suite} = [\"address or folder\"]` (the machine's apt sources have none that fits)"
    )]
    NoDebianMirror { suite: String },

    /// A pin rots: mirrors delete superseded versions.
    #[error(
        "package {package} {version} (suite {suite}) is on no mirror any more; {offered}\n\nhint: lock again (`rednix lock debian`) to take a version that is offered, or add a mirror that keeps old versions"
    )]
    PackageGone { package: String, version: String, suite: String, offered: String },

    #[error("{url}: none of its {count} places works:\n{attempts}\n\nhint: see the reasons above")]
    NoPlace { url: String, count: usize, attempts: String },

    #[error(
        "`{url}` is no address rednix can fetch: {reason}\n\nhint: use http(s)://, file://, debian:<suite>/<pool path> or crate:<name>/<version>"
    )]
    BadUrl { url: String, reason: String },

    #[error(
        "two files of one batch want the name `{name}`\n\nhint: this is a mistake in rednix, please report it"
    )]
    SameName { name: String },

    #[error(
        "crate {name} {version}: {reason}\n\nhint: check that `cargo fetch` works on this machine (rednix uses cargo's own configuration), or add a mirror for `crate:`"
    )]
    Crate { name: String, version: String, reason: String },

    #[error(
        "{url}: git {operation} failed: {reason}\n\nhint: check that the repository and revision exist and that git on this machine can reach them"
    )]
    Git { url: String, operation: &'static str, reason: String },

    #[error(
        "the override of {url} cannot be used: {reason}\n\nhint: check `[overrides]` in the configuration and `--override`"
    )]
    Override { url: String, reason: String },

    #[error(
        "the lock says that {url} is replaced by a folder or file, but no override names one\n\nhint: pass the one it was locked with (`--override`), or lock again without it"
    )]
    NoOverride { url: String },

    #[error(
        "`{lock}` cannot be resolved with what replaces its git dependencies: {reason}\n\nhint: choose a version nearer to the one the lock names"
    )]
    Resolution { lock: String, reason: String },

    #[error("interrupted\n\nhint: run the command again, it goes on where it stopped")]
    Cancelled,

    #[error("cannot run `{program}`: {source}\n\nhint: install it (`rednix doctor` says how)")]
    Program { program: String, source: io::Error },

    #[error(
        "{suite}: the signature of `InRelease` is wrong: {reason}\n\nhint: do not use this mirror before you know why"
    )]
    BadSignature { suite: String, reason: String },

    #[error("suite {suite} has no {what}\n\nhint: check the suite, its components and the architecture")]
    NotInSuite { suite: String, what: String },

    #[error("{0}\n\nhint: the mirror's index is damaged; use another mirror")]
    Index(#[from] IndexError),

    #[error("{0}\n\nhint: change the package list, add a suite, or exclude the package that is missing")]
    Resolve(#[from] ResolveError),

    #[error("{what}: {reason}\n\nhint: lock again with this version of rednix")]
    BadLock { what: String, reason: String },

    #[error("cannot {operation} `{path}`: {source}\n\nhint: check that the path is there and may be used", path = .path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },

    #[error("no space left to {operation} `{path}`\n\nhint: free some space (`rednix gc`) and run the command again", path = .path.display())]
    NoSpace { operation: &'static str, path: PathBuf },
}

impl FetchError {
    pub fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                FetchError::NoSpace { operation, path }
            }
            _ => FetchError::Io { operation, path, source },
        }
    }

    /// The message without its hint, for lists of attempts.
    pub fn reason(&self) -> String {
        let text = self.to_string();
        text.split("\n\nhint: ").next().unwrap_or_default().to_owned()
    }

    /// Whether the same request may work a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        use FetchError::*;
        matches!(self, Server { .. } | TimedOut { .. } | Truncated { .. } | NoRoute { .. } | Protocol { .. })
    }

    /// Whether the place exists and does not have the file.
    pub fn is_absent(&self) -> bool {
        matches!(self, FetchError::NotFound { .. } | FetchError::NoFile { .. })
    }
}
