//! Private folders for one machine's files, and for one smoke test's. Each is locked while in use, so that the next start
//! removes those that a killed process left. It knows nothing of what is in them.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::error::{Error, Result};

const MACHINE: &str = "rednix-machine-";
const SMOKE_TEST: &str = "rednix-smoke-";
const LOCK: &str = "lock";

/// Such a folder. It goes with the value.
#[derive(Debug)]
pub(crate) struct Scratch {
    // Before the lock: while it goes it is still locked.
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    pub fn new(parent: &Path) -> Result<Self> {
        Self::make(parent, MACHINE)
    }

    pub fn for_smoke_test(parent: &Path) -> Result<Self> {
        Self::make(parent, SMOKE_TEST)
    }

    fn make(parent: &Path, prefix: &str) -> Result<Self> {
        std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        // One process at a time looks at what is there and makes what is new: between a folder and the lock inside of it
        // nobody may take it for one that was left. Where folders cannot be locked nothing is removed.
        let whole = File::open(parent).map_err(Error::io("open", parent))?;
        if flock(&whole, FlockOperation::LockExclusive).is_ok() {
            sweep(parent);
        }
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(parent)
            .map_err(Error::io("make a folder in", parent))?;
        let path = folder.path().join(LOCK);
        let lock = File::create(&path).map_err(Error::io("create", &path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| Error::io("lock", &path)(error.into()))?;
        Ok(Scratch { folder, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes folders whose lock nobody holds. What cannot be removed stays: it is only space.
fn sweep(parent: &Path) {
    for item in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = item.file_name();
        let name = name.to_string_lossy();
        if ![MACHINE, SMOKE_TEST].iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let is_held = match File::open(item.path().join(LOCK)) {
            Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err(),
            // Without a lock its owner died while it made the folder: whoever makes one now waits for us. Of one that
            // cannot be opened nothing is known.
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        };
        if !is_held {
            let _ = std::fs::remove_dir_all(item.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_and_what_is_used_stays() {
        let parent = tempfile::tempdir().unwrap();
        let used = Scratch::for_smoke_test(parent.path()).unwrap();
        // Its lock cannot be opened, which says nothing of who has it: a link that leads to itself.
        let odd = parent.path().join("rednix-machine-odd");
        std::fs::create_dir(&odd).unwrap();
        std::os::unix::fs::symlink(LOCK, odd.join(LOCK)).unwrap();
        for name in ["rednix-machine-left", "rednix-smoke-left", "rednix-machine-young", "else"] {
            let folder = parent.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            if !name.ends_with("young") {
                std::fs::write(folder.join(LOCK), "").unwrap();
            }
        }
        let new = Scratch::new(parent.path()).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(parent.path()).unwrap().map(|item| item.unwrap().path()).collect();
        left.sort();
        let mut expected =
            vec![used.path().to_owned(), new.path().to_owned(), parent.path().join("else"), odd];
        expected.sort();
        assert_eq!(left, expected);
        drop((used, new));
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 2);
    }

    #[test]
    fn many_that_start_at_once_keep_their_folders() {
        let parent = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..40 {
                        let scratch = Scratch::new(parent.path()).unwrap();
                        std::fs::write(scratch.path().join("file"), "").unwrap();
                        std::thread::yield_now();
                        assert!(scratch.path().join("file").exists());
                    }
                });
            }
        });
    }

    #[test]
    fn whoever_makes_a_folder_is_waited_for() {
        let parent = tempfile::tempdir().unwrap();
        let maker = File::open(parent.path()).unwrap();
        flock(&maker, FlockOperation::LockExclusive).unwrap();
        // Made, and not locked yet.
        let young = parent.path().join("rednix-machine-young");
        std::fs::create_dir(&young).unwrap();
        let lock = File::create(young.join(LOCK)).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Scratch::new(parent.path()).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(young.exists() && !second.is_finished());
            flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
            drop(maker);
            second.join().unwrap();
        });
        assert!(young.exists());
    }
}
