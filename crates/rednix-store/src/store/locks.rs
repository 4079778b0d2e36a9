//! Locks between processes (and threads: every lock is a file opened anew): one per path that is being made, and
//! one against collection. Follows C++ Nix's own files, so that both can work on one store.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::Store;
use crate::error::{Error, Result};
use crate::limits::LOCK_POLL_MS;
use crate::path::StorePath;

/// Waits for a lock.
pub(super) fn flock(file: &File, path: &Path, operation: FlockOperation) -> Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::INTR) => {}
            other => return other.map_err(|errno| Error::io("lock", path, errno)),
        }
    }
}

/// Takes a lock if nobody else has it.
pub(super) fn try_flock(file: &File, path: &Path, operation: FlockOperation) -> Result<bool> {
    loop {
        match rustix::fs::flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::io("lock", path, errno)),
        }
    }
}

pub(super) fn open_lock_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| Error::io("open the lock", path, error))
}

/// Keeps collection away (shared), or everyone else while collecting (exclusive).
#[derive(Debug)]
pub struct GcGuard {
    _file: File,
}

/// Locks on paths being made; released when dropped.
#[derive(Debug, Default)]
pub struct PathLocks {
    held: Vec<(PathBuf, File)>,
}

impl Drop for PathLocks {
    fn drop(&mut self) {
        for (path, file) in &self.held {
            // One byte tells whoever waits on this very file that its name is gone; a failure leaves a lock file
            // behind, which collection removes.
            if std::fs::remove_file(path).is_ok() {
                let _ = std::io::Write::write_all(&mut &*file, b"d");
            }
        }
    }
}

impl Store {
    /// Waits until no collection runs, and keeps the next one from beginning while the guard lives.
    pub(super) fn lock_against_collection(&self) -> Result<GcGuard> {
        let path = self.layout.gc_lock();
        let file = open_lock_file(&path)?;
        if !try_flock(&file, &path, FlockOperation::NonBlockingLockShared)? {
            self.notice("waiting for a garbage collection of the store to end");
            flock(&file, &path, FlockOperation::LockShared)?;
        }
        Ok(GcGuard { _file: file })
    }

    pub(super) fn lock_for_collection(&self) -> Result<GcGuard> {
        let path = self.layout.gc_lock();
        let file = open_lock_file(&path)?;
        if !try_flock(&file, &path, FlockOperation::NonBlockingLockExclusive)? {
            self.notice("waiting until no other process adds to the store or collects");
            flock(&file, &path, FlockOperation::LockExclusive)?;
        }
        Ok(GcGuard { _file: file })
    }

    fn path_lock_file(&self, path: &StorePath) -> PathBuf {
        self.layout.contents().join(format!("{}.lock", path.basename()))
    }

    /// Locks all of `paths` if nobody else holds any of them; `None` otherwise, with nothing locked.
    pub fn try_lock_paths(&self, paths: &BTreeSet<StorePath>) -> Result<Option<PathLocks>> {
        self.need_writable("lock paths")?;
        let mut locks = PathLocks::default();
        for path in paths {
            let name = self.path_lock_file(path);
            loop {
                let file = open_lock_file(&name)?;
                if !try_flock(&file, &name, FlockOperation::NonBlockingLockExclusive)? {
                    return Ok(None);
                }
                // Its last holder removed the name between our opening and locking it: nobody else will find it.
                let stat = file.metadata().map_err(|error| Error::io("examine", &name, error))?;
                if stat.size() == 0 && stat.nlink() > 0 {
                    locks.held.push((name, file));
                    break;
                }
            }
        }
        Ok(Some(locks))
    }

    /// Locks all of `paths`, waiting for others as long as `keep_waiting`, called about every 20 ms with the time
    /// waited so far, says so. After waiting, the caller should look again whether the paths are valid by now.
    pub fn lock_paths(
        &self,
        paths: &BTreeSet<StorePath>,
        keep_waiting: &mut dyn FnMut(Duration) -> bool,
    ) -> Result<PathLocks> {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(locks) = self.try_lock_paths(paths)? {
                return Ok(locks);
            }
            if !keep_waiting(waited) {
                let path = paths.first().map(StorePath::to_string).unwrap_or_default();
                return Err(Error::LockTimeout { path, waited_s: waited.as_secs() });
            }
            let pause = Duration::from_millis(LOCK_POLL_MS);
            std::thread::sleep(pause);
            waited += pause;
        }
    }

    /// Locks one path, waiting as long as it takes.
    pub fn lock_path(&self, path: &StorePath) -> Result<PathLocks> {
        self.lock_paths(&BTreeSet::from([path.clone()]), &mut |_| true)
    }
}
