//! Writing a tree below one folder, through handles: what archives and builders say goes nowhere else.
//!
//! Decides nothing about names but whether they are allowed; reads no archive.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rednix_store::Error as StoreError;
use rednix_store::handle::{Dir, Kind, Visit, Walk};
use rustix::io::Errno;

use super::Error;
use crate::limits;

/// Writes entries below a folder, last one wins. Holds the folder of the last entry open, as archives come
/// folder by folder.
#[derive(Debug)]
pub struct TreeWriter {
    root: Dir,
    current: Option<(PathBuf, Dir)>,
    buffer: Vec<u8>,
    entries: usize,
    bytes: u64,
}

const FOLDER_MODE: u32 = 0o755;

impl TreeWriter {
    /// Creates the output folder, which must not be there yet.
    pub fn create(output: &Path) -> Result<Self, Error> {
        std::fs::create_dir(output).map_err(|error| Error::io("create the output folder", output, error))?;
        Self::open(output)
    }

    /// Writes into a folder that is there.
    pub fn open(output: &Path) -> Result<Self, Error> {
        let root = Dir::open(output)?;
        Ok(TreeWriter { root, current: None, buffer: vec![0; limits::BUFFER_BYTES], entries: 0, bytes: 0 })
    }

    pub fn root(&self) -> &Dir {
        &self.root
    }

    fn count(&mut self, path: &Path) -> Result<(), StoreError> {
        self.entries += 1;
        let reason = if self.entries > limits::ARCHIVE_ENTRIES_MAX {
            format!("the tree has more than {} entries", limits::ARCHIVE_ENTRIES_MAX)
        } else if path.as_os_str().len() > limits::ARCHIVE_PATH_BYTES_MAX {
            format!("the path is longer than {} bytes", limits::ARCHIVE_PATH_BYTES_MAX)
        } else if path.components().count() > limits::ARCHIVE_DEPTH_MAX {
            format!("the path is deeper than {} folders", limits::ARCHIVE_DEPTH_MAX)
        } else {
            return Ok(());
        };
        Err(StoreError::Unstorable { path: path.to_path_buf(), reason })
    }

    /// The opened parent of a path, created where it is missing, and the last name.
    fn parent<'p>(&mut self, path: &'p Path) -> Result<(&Dir, &'p OsStr), StoreError> {
        rednix_store::handle::check_relative(path)
            .map_err(|reason| StoreError::Escapes { path: path.to_path_buf(), reason: reason.to_owned() })?;
        let name = path.file_name().unwrap_or_default();
        let above = path.parent().unwrap_or(Path::new(""));
        if above.as_os_str().is_empty() {
            return Ok((&self.root, name));
        }
        if self.current.as_ref().is_none_or(|(open, _)| open != above) {
            let dir = match self.root.open_dir(above) {
                Err(error) if error.is_not_found() => {
                    self.root.create_dir_all(above, FOLDER_MODE)?;
                    self.root.open_dir(above)?
                }
                dir => dir?,
            };
            self.current = Some((above.to_path_buf(), dir));
        }
        match &self.current {
            Some((_, dir)) => Ok((dir, name)),
            None => Ok((&self.root, name)),
        }
    }

    /// A folder; one that is there already stays.
    pub fn folder(&mut self, path: &Path) -> Result<(), StoreError> {
        self.count(path)?;
        let (parent, name) = self.parent(path)?;
        match parent.create_dir(name, FOLDER_MODE) {
            Err(error) if error.is_already_exists() => match parent.kind(name)? {
                Kind::Directory => Ok(()),
                _ => Err(StoreError::Escapes {
                    path: path.to_path_buf(),
                    reason: "a folder would replace something that is none".to_owned(),
                }),
            },
            result => result,
        }
    }

    /// A file with everything `contents` gives. `wanted_bytes` is what it must give, where that is known.
    pub fn file(
        &mut self,
        path: &Path,
        executable: bool,
        wanted_bytes: Option<u64>,
        contents: &mut dyn Read,
    ) -> Result<(), StoreError> {
        self.count(path)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let allowed = limits::ARCHIVE_BYTES_MAX.saturating_sub(self.bytes);
        let (parent, name) = self.parent(path)?;
        let mode = if executable { 0o755 } else { 0o644 };
        let create = || parent.create_file(name, mode);
        let mut file = match create() {
            Err(error) if error.is_already_exists() => {
                remove(parent, name)?;
                create()?
            }
            file => file?,
        };
        let written = pour(&mut file, contents, &mut buffer, allowed);
        self.buffer = buffer;
        let written = written.map_err(|error| self.root.error("write", path, error))?;
        self.bytes += written;
        match wanted_bytes {
            Some(wanted) if wanted != written => {
                let reason = format!("it has {written} of its {wanted} bytes");
                Err(StoreError::Unstorable { path: path.to_path_buf(), reason })
            }
            _ => Ok(()),
        }
    }

    /// A symbolic link; its target is stored and never looked at.
    pub fn symlink(&mut self, path: &Path, target: &OsStr) -> Result<(), StoreError> {
        self.count(path)?;
        if target.is_empty() || target.len() > limits::ARCHIVE_PATH_BYTES_MAX {
            let reason =
                format!("the link's target is empty or longer than {} bytes", limits::ARCHIVE_PATH_BYTES_MAX);
            return Err(StoreError::Unstorable { path: path.to_path_buf(), reason });
        }
        let (parent, name) = self.parent(path)?;
        match parent.symlink(target, name) {
            Err(error) if error.is_already_exists() => {
                remove(parent, name)?;
                parent.symlink(target, name)
            }
            result => result,
        }
    }

    /// A second name for an entry written before.
    pub fn hard_link(&mut self, path: &Path, earlier: &Path) -> Result<(), StoreError> {
        self.count(path)?;
        if self.root.kind(earlier)? == Kind::Directory {
            let reason = "a hard link would name a folder".to_owned();
            return Err(StoreError::Unstorable { path: path.to_path_buf(), reason });
        }
        // A link to itself keeps the file that is there.
        if path.components().eq(earlier.components()) {
            return Ok(());
        }
        let root = self.root.try_clone()?;
        let (parent, name) = self.parent(path)?;
        match root.hard_link(earlier, parent, name) {
            Err(error) if error.is_already_exists() => {
                remove(parent, name)?;
                root.hard_link(earlier, parent, name)
            }
            result => result,
        }
    }

    /// Copies a tree to `at`. `skip` names entries (relative to `from`) to leave out.
    pub fn copy_tree(
        &mut self,
        from: &Dir,
        at: &Path,
        skip: &mut dyn FnMut(&Visit<'_>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        if !at.as_os_str().is_empty() {
            self.folder(at)?;
        }
        from.walk(&mut |visit| {
            if skip(&visit)? {
                return Ok(Walk::Skip);
            }
            let path = at.join(visit.relative);
            match visit.entry.kind {
                Kind::Directory => self.folder(&path)?,
                Kind::Symlink => self.symlink(&path, &visit.parent.read_link(&visit.entry.name)?)?,
                _ => {
                    let mut file = visit.parent.open_file(&visit.entry.name)?;
                    let executable = is_executable(&file)
                        .map_err(|error| visit.parent.error("inspect", &visit.entry.name, error))?;
                    self.file(&path, executable, None, &mut file)?;
                }
            }
            Ok(Walk::Continue)
        })
    }
}

pub(crate) fn is_executable(file: &File) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.metadata()?.permissions().mode() & 0o111 != 0)
}

/// Makes room for an entry that comes again.
fn remove(parent: &Dir, name: &OsStr) -> Result<(), StoreError> {
    match parent.kind(name)? {
        Kind::Directory => parent.remove_dir(name),
        _ => parent.remove_file(name),
    }
}

fn pour(file: &mut File, contents: &mut dyn Read, buffer: &mut [u8], allowed: u64) -> std::io::Result<u64> {
    let mut written = 0;
    loop {
        let count = match contents.read(buffer) {
            Ok(0) => return Ok(written),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        written += count as u64;
        if written > allowed {
            return Err(Errno::FBIG.into());
        }
        file.write_all(&buffer[..count])?;
    }
}
