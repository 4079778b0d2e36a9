//! Removing a tree by handles: without following links, without recursion, and without running out of handles
//! however deep the tree is.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::{Dir, Kind};
use crate::error::{Error, Result};
use crate::limits::REMOVE_HANDLES_MAX;

/// What was removed. Bytes are those the file system gave back: files with other names left count nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub bytes: u64,
    pub entries: u64,
}

impl Removed {
    fn add(&mut self, other: Removed) {
        self.bytes += other.bytes;
        self.entries += other.entries;
    }

    fn count(&mut self, stat: &rustix::fs::Stat) {
        self.entries += 1;
        if Kind::of(stat) == Kind::Directory || stat.st_nlink <= 1 {
            // st_blocks counts units of 512 bytes whatever the file system's own block is.
            self.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
    }
}

/// One open directory on the way down, its name in its parent, and what is left in it.
struct Level {
    dir: Dir,
    name: OsString,
    left: Vec<super::Entry>,
}

/// Deep subtrees wait under this name, directly below the tree's root.
const MOVED_PREFIX: &str = ".rednix-moved-";

impl Dir {
    /// Removes an entry with everything below it; nothing there is fine. Directories are made writable first.
    pub fn remove_tree(&self, relative: impl AsRef<Path>) -> Result<Removed> {
        let relative = relative.as_ref();
        let (parent, name) = match relative.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => (self.open_dir(parent)?, relative.file_name()),
            None => (self.try_clone()?, relative.file_name()),
        };
        let name = name.ok_or_else(|| Error::Escapes {
            path: relative.to_path_buf(),
            reason: "only an entry below the folder can be removed".to_owned(),
        })?;
        let mut removed = Removed::default();
        let stat = match parent.metadata(name) {
            Err(error) if error.is_not_found() => return Ok(removed),
            other => other?,
        };
        if Kind::of(&stat) == Kind::Directory {
            parent.remove_directory(name, &mut removed)?;
        } else {
            parent.unlink(name, AtFlags::empty())?;
        }
        removed.count(&stat);
        Ok(removed)
    }

    /// [`Dir::remove_tree`] of many entries, by several threads. The first error ends it, with some of them removed.
    pub fn remove_trees(&self, names: &[&OsStr], threads: usize) -> Result<Removed> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<Removed> {
            let mut sum = Removed::default();
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                match self.remove_tree(name) {
                    Ok(removed) => sum.add(removed),
                    Err(error) => {
                        next.store(names.len(), Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            Ok(sum)
        };
        let mut sum = Removed::default();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (1..threads.min(names.len())).map(|_| scope.spawn(work)).collect();
            let own = work();
            let others = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            std::iter::once(own).chain(others).try_for_each(|removed| removed.map(|removed| sum.add(removed)))
        })?;
        Ok(sum)
    }

    fn remove_directory(&self, name: &OsStr, removed: &mut Removed) -> Result<()> {
        let mut moved = 0u64;
        let mut levels = vec![self.open_for_removal(name)?];
        let top = levels[0].dir.try_clone()?;
        loop {
            let depth = levels.len();
            let Some(level) = levels.last_mut() else { return Ok(()) };
            let Some(entry) = level.left.pop() else {
                let emptied = levels.pop().expect("it was there just now");
                let parent = levels.last().map_or(self, |level| &level.dir);
                parent.unlink(&emptied.name, AtFlags::REMOVEDIR)?;
                continue;
            };
            let stat = match level.dir.metadata(&entry.name) {
                Err(error) if error.is_not_found() => continue,
                other => other?,
            };
            removed.count(&stat);
            if Kind::of(&stat) != Kind::Directory {
                level.dir.unlink(&entry.name, AtFlags::empty())?;
            } else if depth < REMOVE_HANDLES_MAX {
                let deeper = level.dir.open_for_removal(&entry.name)?;
                levels.push(deeper);
            } else {
                let waiting = OsString::from(format!("{MOVED_PREFIX}{moved}"));
                moved += 1;
                level.dir.make_accessible(&entry.name)?;
                level.dir.rename(&entry.name, &top, &waiting)?;
                levels[0].left.push(super::Entry { name: waiting, kind: Kind::Directory });
                removed.entries -= 1;
            }
        }
    }

    fn open_for_removal(&self, name: &OsStr) -> Result<Level> {
        self.make_accessible(name)?;
        let dir = self.open_dir(name)?;
        let left = dir.entries()?;
        Ok(Level { dir, name: name.to_os_string(), left })
    }

    /// Store directories are read-only: their owner needs the right to write before emptying them.
    fn make_accessible(&self, name: &OsStr) -> Result<()> {
        const OWNER_ALL: u32 = 0o700;
        let stat = self.metadata(name)?;
        if stat.st_mode & OWNER_ALL == OWNER_ALL {
            return Ok(());
        }
        self.set_mode_of(name, stat.st_mode & 0o7777 | OWNER_ALL)
    }

    fn unlink(&self, name: &OsStr, flags: AtFlags) -> Result<()> {
        debug_assert!(!name.as_bytes().contains(&b'/'), "entries are single names");
        match rustix::fs::unlinkat(self, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.error("remove", name, errno)),
        }
    }
}
