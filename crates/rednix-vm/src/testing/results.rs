//! The folder that one run of a test keeps its files in: marked as such, emptied only where it is, and locked for as long
//! as the run takes. It does not know what the files are.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};
use crate::limits::RESULT_FOLDERS_MAX;

/// The file that says whose folder it is, and that is locked.
const MARK: &str = ".rednix-test-results";
const WORDS: &str = "Here are the files of one machine test. They are removed when it runs again.\n";

/// A test's folder. Goes away with the value when nothing is in it.
#[derive(Debug)]
pub struct Results {
    folder: PathBuf,
    _lock: File,
}

impl Results {
    /// The folder `name` below `parent`, without the files of an earlier run; while another run has that one, the same
    /// with a number. Refuses a folder that has files and no mark.
    pub fn take(parent: &Path, name: &str) -> Result<Results> {
        let mut number = 1;
        while number <= RESULT_FOLDERS_MAX {
            let folder = parent.join(if number == 1 { name.to_owned() } else { format!("{name}-{number}") });
            std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
            let mark = folder.join(MARK);
            if !mark.exists() && !files(&folder).is_empty() {
                return Err(Error::Occupied { folder });
            }
            let failed = || Error::io("lock", &mark);
            let mut lock = match File::options().append(true).create(true).open(&mark) {
                Ok(lock) => lock,
                // Another run has just removed the folder, which had nothing in it.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed()(error)),
            };
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    number += 1;
                    continue;
                }
                Err(error) => return Err(failed()(error.into())),
            }
            let held = lock.metadata().map_err(failed())?;
            let is_there = std::fs::metadata(&mark)
                .is_ok_and(|found| (found.dev(), found.ino()) == (held.dev(), held.ino()));
            if !is_there {
                continue;
            }
            if held.len() == 0 {
                use std::io::Write;
                lock.write_all(WORDS.as_bytes()).map_err(failed())?;
            }
            for file in files(&folder) {
                std::fs::remove_file(&file).map_err(Error::io("remove", &file))?;
            }
            return Ok(Results { folder, _lock: lock });
        }
        Err(Error::InUse { path: parent.join(name) })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was kept, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        files(&self.folder)
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        if self.files().is_empty() {
            let _ = std::fs::remove_file(self.folder.join(MARK));
            let _ = std::fs::remove_dir(&self.folder);
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let items = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = items
        .filter(|item| item.file_name() != MARK)
        .map(|item| item.path())
        .filter(|path| !path.is_dir())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|item| item.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_folders_of_tests_are_emptied() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("notes")).unwrap();
        std::fs::write(place.path().join("notes/thesis.txt"), "years of work").unwrap();
        let error = Results::take(place.path(), "notes").unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        assert_eq!(names(&place.path().join("notes")), ["thesis.txt"]);

        let first = Results::take(place.path(), "test").unwrap();
        std::fs::write(first.folder().join("box.console"), "old").unwrap();
        std::fs::create_dir(first.folder().join("mine")).unwrap();
        drop(first);
        let second = Results::take(place.path(), "test").unwrap();
        assert_eq!(names(second.folder()), [MARK, "mine"], "the console of the run before is gone");
    }

    #[test]
    fn two_runs_have_two_folders() {
        let place = tempfile::tempdir().unwrap();
        let first = Results::take(place.path(), "test").unwrap();
        std::fs::write(first.folder().join("box.console"), "first").unwrap();
        let second = Results::take(place.path(), "test").unwrap();
        assert_eq!(second.folder(), place.path().join("test-2"));
        assert_eq!(first.files(), [place.path().join("test/box.console")]);
        drop(first);
        drop(second);
        assert_eq!(names(place.path()), ["test"], "nothing is left of a run that kept nothing");
        let third = Results::take(place.path(), "test").unwrap();
        assert_eq!(third.folder(), place.path().join("test"));
    }
}
