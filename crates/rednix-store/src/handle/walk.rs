//! Walking a tree by handles, in sorted order, parents before children. Changes nothing itself.

use std::path::{Path, PathBuf};

use super::{Dir, Entry, Kind};
use crate::error::{Error, Result};
use crate::limits::WALK_DEPTH_MAX;

/// What to do after an entry was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    Continue,
    /// Do not enter this directory.
    Skip,
}

/// One entry met on a walk.
#[derive(Debug)]
pub struct Visit<'a> {
    /// The directory the entry is in.
    pub parent: &'a Dir,
    pub entry: &'a Entry,
    /// Relative to where the walk began.
    pub relative: &'a Path,
}

impl Dir {
    /// Calls `visit` for everything below this directory, sorted by bytes within each directory.
    pub fn walk(&self, visit: &mut dyn FnMut(Visit<'_>) -> Result<Walk>) -> Result<()> {
        let mut levels = vec![(self.try_clone()?, PathBuf::new(), self.entries()?.into_iter())];
        while let Some((dir, at, entries)) = levels.last_mut() {
            let Some(entry) = entries.next() else {
                levels.pop();
                continue;
            };
            let relative = at.join(&entry.name);
            let next = visit(Visit { parent: dir, entry: &entry, relative: &relative })?;
            if entry.kind == Kind::Directory && next == Walk::Continue {
                let (deeper, entries) = dir.open_dir_listed(&entry.name)?;
                if levels.len() >= WALK_DEPTH_MAX {
                    let reason = format!("folders are nested deeper than {WALK_DEPTH_MAX}");
                    return Err(Error::Unstorable { path: deeper.path().to_path_buf(), reason });
                }
                levels.push((deeper, relative, entries.into_iter()));
            }
        }
        Ok(())
    }
}
