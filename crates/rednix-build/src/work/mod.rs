//! Working copies: a derivation that names one (`rednixWork`) is built incrementally, in folders that stay from one
//! build to the next and are mounted where the recipe's own would be. The binary says which copies there are; a
//! derivation can name no folder of the host by itself.
//!
//! Per derivation, below the copy's kept folder:
//!
//! ```text
//! index.json                what the user's folder held when it was last looked at
//! <name>-<target>/source    what the builder sees of it, and whatever it wrote there
//! <name>-<target>/build     the builder's build folder
//! <name>-<target>/state.json  what was put into `source`, and for which tools
//! ```

mod scan;
mod sync;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rednix_store::derivation::Derivation;
use rednix_store::handle::Dir;
use rednix_store::hash::{Hash, HashAlgorithm, Hasher};
use rustix::fs::FlockOperation;

pub use scan::{Entry, Scan, scan};

use crate::backend::KeptFolder;
use crate::error::Reason;

/// Names the working copy.
const ATTRIBUTE: &str = "rednixWork";
/// The copy's contents as they were when the derivation was made.
const CONTENT_ATTRIBUTE: &str = "rednixWorkContent";
/// What incremental tools notice by themselves; a change of anything else starts from nothing.
const NOTICED: [&str; 12] = [
    ATTRIBUTE,
    CONTENT_ATTRIBUTE,
    "cookbookSysroot",
    "cookbookSysrootNames",
    "cookbookToolchain",
    "cookbookToolchainNames",
    "cookbookScript",
    "cookbookRecipeFolder",
    "cookbookVendor",
    "cookbookCargoConfig",
    "cookbookClaims",
    "cookbookPatched",
];

/// A working copy on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkFolder {
    /// The user's own folder. It is only read.
    pub folder: PathBuf,
    /// Where its builds are kept.
    pub kept: PathBuf,
}

/// Working copies by the names derivations call them.
pub type WorkFolders = BTreeMap<String, WorkFolder>;

/// Folders to be mounted for one build, held against other builds in them.
#[derive(Debug)]
pub struct Opened {
    pub folders: Vec<KeptFolder>,
    /// True where nothing was kept, or not for these tools.
    pub is_fresh: bool,
    _lock: File,
}

/// Whether the derivation is one of a working copy.
pub fn is_work(derivation: &Derivation) -> bool {
    derivation.variable(ATTRIBUTE).is_some()
}

/// Brings the kept folders of a working copy's derivation up to date with the user's folder.
pub fn open(derivation: &Derivation, folders: &WorkFolders) -> Result<Option<Opened>, Reason> {
    let Some(name) = derivation.variable(ATTRIBUTE) else { return Ok(None) };
    let work = folders.get(name).ok_or_else(|| Reason::NoWork(name.to_owned()))?;
    let target = derivation.variable("TARGET").unwrap_or("any");
    let kept = work.kept.join(format!("{}-{target}", derivation.name));
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| Reason::Store(rednix_store::Error::io(operation, path, error))
    };
    // Nobody else may look in: a builder can leave programs with odd modes.
    let private = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
    private(&kept).map_err(failed("create the folder", &kept))?;
    let lock_path = kept.join("lock");
    let lock = File::create(&lock_path).map_err(failed("create", &lock_path))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| failed("lock", &lock_path)(error.into()))?;

    let scanned = scan(&work.folder, &work.kept)?;
    if Some(scanned.content.to_sri().as_str()) != derivation.variable(CONTENT_ATTRIBUTE) {
        return Err(Reason::WorkChanged(work.folder.clone()));
    }
    let dir = Dir::open(&kept)?;
    let is_fresh = sync::bring_up_to_date(&dir, &work.folder, &scanned, &fingerprint(derivation))?;
    let folder =
        |name: &str, is_supplied| KeptFolder { name: name.to_owned(), host: kept.join(name), is_supplied };
    let folders = vec![folder("source", true), folder("build", false)];
    Ok(Some(Opened { folders, is_fresh, _lock: lock }))
}

/// A hash of everything about a derivation that incremental tools would not notice: tools, scripts around the
/// recipe's own, where the roots are.
fn fingerprint(derivation: &Derivation) -> String {
    let mut hasher = Hasher::new(HashAlgorithm::Sha256);
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(&derivation.builder);
    derivation.arguments.iter().for_each(|argument| part(argument));
    for (name, value) in &derivation.environment {
        let is_noticed = NOTICED.iter().any(|noticed| noticed.as_bytes() == name);
        if !is_noticed && !derivation.outputs.keys().any(|output| output.as_bytes() == name) {
            part(name);
            part(value);
        }
    }
    Hash::to_nix32(&hasher.finish())
}

#[cfg(test)]
mod tests;
