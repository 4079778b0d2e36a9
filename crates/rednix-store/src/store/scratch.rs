//! Folders for half-made things, inside the store's file system but outside its contents. Each is locked by its
//! maker, so that collection can tell leftovers of a crash from work going on.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;

use super::{Store, locks};
use crate::error::{Error, Result};
use crate::handle::Dir;

/// A private folder (mode 0700) that is removed when dropped.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    dir: Dir,
    /// Holds the lock: collection leaves locked folders alone.
    lock: File,
    keep: bool,
}

impl ScratchDir {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Leaves the folder where it is, unlocked: the next collection removes it.
    pub fn keep(mut self) -> PathBuf {
        self.keep = true;
        self.path.clone()
    }

    /// Removes the folder now, saying what went wrong; dropping it would keep that quiet.
    pub fn close(mut self) -> Result<()> {
        self.keep = true;
        self.remove()
    }

    fn remove(&self) -> Result<()> {
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Ok(()) };
        Dir::open(parent)?.remove_tree(name).map(drop)
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if !self.keep {
            // Collection removes what could not be removed here.
            let _ = self.remove();
        }
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

impl Store {
    /// Makes a scratch folder; `purpose` becomes part of its name.
    pub fn scratch_dir(&self, purpose: &str) -> Result<ScratchDir> {
        self.need_writable("make a scratch folder")?;
        let parent = self.layout.scratch();
        std::fs::create_dir_all(&parent).map_err(|error| Error::io("create the folder", &parent, error))?;
        // Between making and locking it, it would look like a leftover.
        let _guard = self.lock_against_collection()?;
        loop {
            let path = parent.join(unique_name(purpose));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(|error| Error::io("create the folder", &path, error))?,
            }
            let dir = Dir::open(&path)?;
            let lock = File::open(&path).map_err(|error| Error::io("open the folder", &path, error))?;
            locks::flock(&lock, &path, FlockOperation::LockExclusive)?;
            drop_default_access_list(&dir);
            return Ok(ScratchDir { path, dir, lock, keep: false });
        }
    }
}

/// A default access list would be inherited by all contents made here.
fn drop_default_access_list(dir: &Dir) {
    // Mostly there is none, and some file systems have none at all.
    let _ = rustix::fs::fremovexattr(dir, "system.posix_acl_default");
}

/// A name no other process (of any pid namespace) is likely to choose at the same time.
pub(super) fn unique_name(purpose: &str) -> OsString {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    format!("{}-{now:x}-{number}-{purpose}", std::process::id()).into()
}
