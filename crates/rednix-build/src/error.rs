//! What can go wrong with a build: one reason per derivation, told with its log's end and what to do next.
//! It decides nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rednix_store::path::StorePath;

use crate::backend::BackendError;
use crate::environment::PrepareError;

/// Why one derivation has no outputs.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    #[error("its builder ended with exit status {0}")]
    Exit(i32),
    #[error("its builder was ended by signal {0}{hint}", hint = signal_name(*.0))]
    Signal(i32),
    #[error("{0}")]
    Builtin(String),
    #[error(
        "it was ended because it took longer than {} s\n\nhint: a longer `timeout` can be configured",
        .0.as_secs_f64()
    )]
    TimedOut(Duration),
    #[error(
        "it was ended because it printed nothing for {} s\n\nhint: a longer `max-silent-time` can be configured",
        .0.as_secs_f64()
    )]
    Silent(Duration),
    #[error("it was interrupted")]
    Cancelled,
    /// Bytes that are not what was promised never get the promised name.
    #[error(
        "its output does not have the hash it must have\n  wanted: {wanted}\n  found:  {found}\n\nhint: if the new contents are right, update the hash (or the lock file) and build again"
    )]
    WrongHash { wanted: String, found: String },
    #[error("it did not make its output `{output}` at `{path}`")]
    MissingOutput { output: String, path: String },
    #[error("its output `{output}` cannot be stored: {reason}")]
    BadOutput { output: String, reason: String },
    #[error("its outputs refer to each other in a circle: {0}")]
    OutputCycle(String),
    #[error("`{0}`, which it needs, is not in the store")]
    MissingInput(String),
    #[error("it is for `{wanted}`, but this machine builds for {available}")]
    OtherSystem { wanted: String, available: String },
    #[error("it requires the feature `{0}`, which this rednix does not have")]
    MissingFeature(String),
    #[error(
        "it is built from the working copy `{0}`, which is not known here\n\nhint: `rednix work` lists the copies there are"
    )]
    NoWork(String),
    /// What was evaluated is not there any more; building something else under its name would be wrong.
    #[error("the working copy `{}` changed while it was looked at\n\nhint: run the command again", .0.display())]
    WorkChanged(PathBuf),
    /// The dispatcher must hear of it, or it would wait for ever.
    #[error("rednix itself failed while working on it; this is a bug, its message is above")]
    Panicked,
    #[error("{0}")]
    Fetch(String),
    #[error(
        "its source is not in the store, and rednix is offline\n\nhint: run the command again without `--offline`"
    )]
    Offline,
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Store(#[from] rednix_store::Error),
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGKILL => " (SIGKILL: perhaps the machine ran out of memory)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGXFSZ => " (SIGXFSZ: a file became larger than allowed)",
        libc::SIGTERM => " (SIGTERM)",
        libc::SIGSYS => " (SIGSYS: a program for another processor architecture?)",
        _ => "",
    }
}

/// One derivation that failed, with all a user needs to go on.
#[derive(Debug)]
pub struct BuildError {
    pub derivation: StorePath,
    pub reason: Reason,
    /// The last lines the builder printed, oldest first.
    pub log_tail: Vec<String>,
    pub log_file: Option<PathBuf>,
    /// The builder's folder, where it was kept.
    pub kept: Option<PathBuf>,
    /// True where the store's disk was full when the build ended.
    pub disk_full: bool,
}

impl BuildError {
    pub fn new(derivation: &StorePath, reason: impl Into<Reason>) -> Self {
        BuildError {
            derivation: derivation.clone(),
            reason: reason.into(),
            log_tail: Vec::new(),
            log_file: None,
            kept: None,
            disk_full: false,
        }
    }

    /// The derivation's name, without `.drv`.
    pub fn name(&self) -> &str {
        let name = self.derivation.name();
        name.strip_suffix(".drv").unwrap_or(name)
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot build `{}`: {}", self.name(), self.reason)?;
        if self.disk_full {
            write!(formatter, "\n\nhint: the store's disk is full; free some space there (`rednix gc`)")?;
        }
        if let Some(kept) = &self.kept {
            write!(formatter, "\n\nnote: its build folder is kept at `{}`", kept.display())?;
        }
        if self.log_file.is_some() {
            write!(formatter, "\n\nhint: the whole log: `rednix log {}`", self.derivation)?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildError {}

/// Why a whole request could not be met. What was built before stays built.
#[derive(Debug, Default)]
pub struct BuildErrors {
    /// Each derivation that failed by itself.
    pub failed: Vec<BuildError>,
    /// Derivations not tried because something they need failed, and how many of their inputs did.
    pub not_tried: BTreeMap<StorePath, usize>,
    /// Trouble before anything was planned.
    pub store: Option<Box<rednix_store::Error>>,
    /// True after Ctrl-C.
    pub cancelled: bool,
}

impl From<rednix_store::Error> for BuildErrors {
    fn from(error: rednix_store::Error) -> Self {
        BuildErrors { store: Some(Box::new(error)), ..BuildErrors::default() }
    }
}

impl fmt::Display for BuildErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut separate = |formatter: &mut fmt::Formatter<'_>| {
            if !std::mem::take(&mut first) { writeln!(formatter) } else { Ok(()) }
        };
        if let Some(error) = &self.store {
            separate(formatter)?;
            write!(formatter, "{error}")?;
        }
        let shown = self.failed.iter().filter(|error| !matches!(error.reason, Reason::Cancelled));
        for error in shown {
            separate(formatter)?;
            write!(formatter, "{error}")?;
        }
        if self.cancelled {
            separate(formatter)?;
            write!(formatter, "interrupted; what was built before stays built")?;
        } else if !self.not_tried.is_empty() {
            separate(formatter)?;
            let count = self.not_tried.len();
            let (things, were) = if count == 1 { ("derivation", "was") } else { ("derivations", "were") };
            write!(formatter, "{count} other {things} {were} not built because of this")?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildErrors {}
