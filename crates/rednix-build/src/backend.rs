//! Where builds run: a self-contained request goes in, folders with outputs come out. This file only says
//! what a backend is; [`crate::local`] is the one there is. A backend touches no store and no database.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rednix_store::path::StorePath;

use crate::sandbox::{Bytes, Control, Ending, Program, SandboxError};

/// Everything needed to build once, by value: what runs, with what, and which outputs it must leave.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// For messages.
    pub name: String,
    pub program: Program,
    /// The builder's whole environment.
    pub environment: Vec<(Bytes, Bytes)>,
    /// Folders laid over each other as the root, the first on top.
    pub root_layers: Vec<PathBuf>,
    /// Every store path visible inside and where its contents are on this machine.
    pub inputs: BTreeMap<StorePath, PathBuf>,
    /// Files the builder finds in `/build`, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Folders that stay from build to build, each writable at `/build/<name>`. A backend elsewhere cannot have them.
    pub kept: Vec<KeptFolder>,
    /// Where the builder puts each output, by output name.
    pub outputs: BTreeMap<String, StorePath>,
    /// An empty folder of the caller, on the file system where the outputs are wanted.
    pub work_folder: PathBuf,
}

/// A folder that outlives the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFolder {
    /// Below `/build`; one component.
    pub name: String,
    pub host: PathBuf,
    /// Whether the caller put things into it since the last build, which the builder must be able to change.
    pub is_supplied: bool,
}

/// A finished run. Nothing of it runs any more.
#[derive(Debug)]
pub struct BuildOutcome {
    pub ending: Ending,
    /// Folder that holds what the builder made, by base name of its scratch path; below the work folder.
    pub output_folder: PathBuf,
    /// The builder's `/build`, to be kept for those who ask; below the work folder.
    pub build_folder: PathBuf,
}

/// A way to run build requests. Called from many threads at once.
pub trait Backend: Send + Sync {
    /// Runs the request to its end; `on_output` gets what the builder prints.
    fn run(
        &self,
        request: &BuildRequest,
        control: &Control,
        on_output: &mut dyn FnMut(&[u8]),
    ) -> Result<BuildOutcome, BackendError>;
}

/// Why a request was not run at all.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The same refusal for every build of this process.
    #[error("{0}")]
    Unavailable(String),
    #[error("cannot {operation} `{}`: {source}", path.display())]
    Folder { operation: &'static str, path: PathBuf, source: std::io::Error },
}
