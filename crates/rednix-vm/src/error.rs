//! Why a machine could not be started or run. Errors name the operation and its object and end with what to do.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {operation} `{}`: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },

    /// A program or firmware the host has not. Tests are skipped for this reason, everything else fails.
    #[error("{what} was not found\n\nhint: {how}")]
    Missing { what: String, how: String },

    /// The specification is impossible or beyond what the runner can do.
    #[error("machine `{machine}`: {message}")]
    Specification { machine: String, message: String },

    /// A test that cannot be run as it is written.
    #[error("test `{test}`: {message}")]
    Test { test: String, message: String },

    /// The virtual machine monitor ended before there was a machine.
    #[error(
        "{program} did not start machine `{machine}` (status {status}){}{}",
        diagnostics_text(diagnostics), hint.map(|hint| format!("\n\nhint: {hint}")).unwrap_or_default()
    )]
    Start { program: String, machine: String, status: i32, diagnostics: String, hint: Option<&'static str> },

    /// Two machines must never write to one file.
    #[error(
        "`{}` is in use by another machine\n\nhint: end that one first, or give this one a file of its own",
        path.display()
    )]
    InUse { path: PathBuf },

    /// A folder for a test's files that has files of somebody else.
    #[error(
        "`{}` has files that no machine test left there\n\nhint: name another folder by `--results`, or move them away",
        folder.display()
    )]
    Occupied { folder: PathBuf },

    /// The user, or a signal, asked to stop.
    #[error("interrupted")]
    Interrupted,

    /// A system call on a running machine failed.
    #[error("machine `{machine}`: cannot {operation}: {source}")]
    Machine { machine: String, operation: &'static str, source: std::io::Error },

    /// The control socket did not answer as the protocol says.
    #[error("control socket: {0}")]
    Control(String),
}

fn diagnostics_text(diagnostics: &str) -> String {
    if diagnostics.trim().is_empty() { String::new() } else { format!(":\n{}", diagnostics.trim_end()) }
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { operation, path, source }
    }

    /// Whether the host lacks something, so that a test cannot say anything.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::Missing { .. })
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
