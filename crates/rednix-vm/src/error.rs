//! Why a machine could not be started or run. Errors name the operation and its object and end with what to do.

use std::path::{Path, PathBuf};

use crate::control::Request;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {operation} `{}`: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },

    /// A program or firmware the host has not. Tests are skipped for this reason, everything else fails.
    #[error("{what} was not found\n\nhint: {how}")]
    Missing { what: String, how: String },

    #[error("there is no monitor `{name}`\n\nhint: use one of {known}")]
    NoMonitor { name: String, known: String },

    /// The specification is impossible or beyond what the runner can do.
    #[error("machine `{machine}`: {message}")]
    Specification { machine: String, message: String },

    /// A test that cannot be run as it is written.
    #[error("test `{test}`: {message}")]
    Test { test: String, message: String },

    /// The virtual machine monitor ended before there was a machine.
    #[error(
        "{program} did not start machine `{machine}` (status {status}){}{}",
        diagnostics_text(diagnostics), hint.as_ref().map(|hint| format!("\n\nhint: {hint}")).unwrap_or_default()
    )]
    Start { program: String, machine: String, status: i32, diagnostics: String, hint: Option<String> },

    /// The virtual machine monitor failed under a machine that ran.
    #[error(
        "{program} failed with status {status} while it ran machine `{machine}`{}",
        diagnostics_text(diagnostics)
    )]
    Broke { program: String, machine: String, status: i32, diagnostics: String },

    /// A port of the host's loopback that a machine cannot have.
    #[error("machine `{machine}`: port {port} of the host, {purpose}, {reason}\n\nhint: {how}")]
    Port { machine: String, port: u16, purpose: String, reason: &'static str, how: String },

    /// Two machines must never write to one file.
    #[error(
        "`{}` is in use by another machine\n\nhint: end that one first, or give this one a file of its own",
        path.display()
    )]
    InUse { path: PathBuf },

    /// What is where a layer is to be belongs to something else, or to nothing.
    #[error(
        "cannot go on with the layer `{}` over the image `{}`: {reason}\n\nhint: name another file for what the machine \
         writes; or remove `{}`, and what is in it is lost",
        path.display(), image.display(), path.display()
    )]
    Layer { path: PathBuf, image: PathBuf, reason: String },

    /// A folder that no machine of that kind is saved in, or can be.
    #[error(
        "cannot use `{}` for the state of a machine: {reason}\n\nhint: name a folder that is new or empty, or one where \
         this monitor has saved a machine before",
        folder.display()
    )]
    State { folder: PathBuf, reason: String },

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

    /// The monitor has no such thing.
    #[error("{monitor} cannot {operation}\n\nhint: {how}")]
    Cannot { monitor: String, operation: String, how: &'static str },

    /// One of both, with the machine's name.
    #[error("machine `{machine}`: cannot {operation}: {reason}")]
    Asked { machine: String, operation: String, reason: String },
}

fn diagnostics_text(diagnostics: &str) -> String {
    if diagnostics.trim().is_empty() { String::new() } else { format!(":\n{}", diagnostics.trim_end()) }
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { operation, path, source }
    }

    /// What a machine was asked for in vain, with its name.
    pub(crate) fn of(self, machine: &str, request: &Request<'_>) -> Self {
        let reason = match self {
            Error::Control(reason) => format!("control socket: {reason}"),
            Error::Cannot { monitor, how, .. } => format!("{monitor} has no such thing\n\nhint: {how}"),
            other => return other,
        };
        Error::Asked { machine: machine.to_owned(), operation: request.to_string(), reason }
    }

    /// Whether it was asked for what cannot be, so that another call is needed and not another host.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Error::Specification { .. } | Error::NoMonitor { .. } | Error::State { .. } | Error::Layer { .. }
        )
    }

    /// Whether the host lacks something, so that a test cannot say anything.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::Missing { .. })
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
