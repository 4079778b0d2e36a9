//! The archive of what is on disk as a stream to be read: made piece by piece as it is asked for, in the memory of one
//! piece, without a thread that writes it. Changes nothing on disk.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::vec::IntoIter;

use super::MAGIC;
use super::write::padding;
use crate::error::{Error, Result};
use crate::handle::{Dir, Entry, Kind};
use crate::limits::NAR_DEPTH_MAX;

/// Strings and small files are gathered up to this length before they are handed out, in bytes.
const GATHERED_BYTES: usize = 32 << 10;

/// Reads the archive of a file, symbolic link or folder. What cannot be archived is an error of reading.
pub struct Archive {
    /// The open directories and what is left of them.
    levels: Vec<(Arc<Dir>, IntoIter<Entry>)>,
    /// Bytes to be handed out, from `at` on.
    pending: Vec<u8>,
    at: usize,
    /// A file in the middle of which we are; it comes after what is pending.
    file: Option<(File, u64, u64)>,
}

impl Archive {
    /// Symbolic links above `path` are followed, `path` itself is not. It must have a name.
    pub fn open(path: &Path) -> Result<Archive> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            let reason = "it has no name".to_owned();
            return Err(Error::Unstorable { path: path.to_path_buf(), reason });
        };
        let parent = Dir::open(parent)?;
        let entry = Entry { name: name.to_os_string(), kind: parent.kind(name)? };
        let pending = Vec::with_capacity(GATHERED_BYTES * 2);
        let mut archive = Archive { levels: Vec::new(), pending, at: 0, file: None };
        archive.strings(&[MAGIC]);
        archive.node(&parent, &entry)?;
        Ok(archive)
    }

    fn strings(&mut self, texts: &[&[u8]]) {
        for text in texts {
            let length = text.len() as u64;
            self.pending.extend_from_slice(&length.to_le_bytes());
            self.pending.extend_from_slice(text);
            self.pending.extend_from_slice(&[0; 8][..padding(length)]);
        }
    }

    /// Begins a node; it is ended here unless it is a folder or a large file.
    fn node(&mut self, parent: &Dir, entry: &Entry) -> Result<()> {
        match entry.kind {
            Kind::Directory => {
                let (dir, entries) = parent.open_dir_listed(&entry.name)?;
                if self.levels.len() >= NAR_DEPTH_MAX {
                    let reason = format!("folders are nested {NAR_DEPTH_MAX} deep or deeper");
                    return Err(Error::Unstorable { path: dir.path().to_path_buf(), reason });
                }
                self.strings(&[b"(", b"type", b"directory"]);
                self.levels.push((Arc::new(dir), entries.into_iter()));
                Ok(())
            }
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(parent, &entry.name, Vec::new())
                    .map_err(|errno| parent.error("read the symbolic link", &entry.name, errno))?;
                self.strings(&[b"(", b"type", b"symlink", b"target", target.to_bytes()]);
                self.end_node();
                Ok(())
            }
            Kind::File => self.begin_file(parent, entry),
            Kind::Other => {
                let reason = "it is a device, a socket or a pipe".to_owned();
                Err(Error::Unstorable { path: parent.path_of(&entry.name), reason })
            }
        }
    }

    fn begin_file(&mut self, parent: &Dir, entry: &Entry) -> Result<()> {
        let (mut file, stat) = parent.open_file_examined(&entry.name)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.strings(&[b"(", b"type", b"regular"]);
        if stat.st_mode & 0o100 != 0 {
            self.strings(&[b"executable", b""]);
        }
        self.strings(&[b"contents"]);
        self.pending.extend_from_slice(&size.to_le_bytes());
        if size > GATHERED_BYTES as u64 {
            self.file = Some((file, size, size));
            return Ok(());
        }
        let start = self.pending.len();
        self.pending.resize(start + size as usize, 0);
        file.read_exact(&mut self.pending[start..])
            .map_err(|error| parent.error("read", &entry.name, error))?;
        self.end_file(size);
        Ok(())
    }

    fn end_file(&mut self, size: u64) {
        self.pending.extend_from_slice(&[0; 8][..padding(size)]);
        self.end_node();
    }

    /// Closes a node, and the entry that it is of a folder.
    fn end_node(&mut self) {
        self.strings(&[b")"]);
        if !self.levels.is_empty() {
            self.strings(&[b")"]);
        }
    }

    /// Gathers some more; nothing more comes where nothing is pending afterwards.
    fn gather(&mut self) -> Result<()> {
        (self.at, self.file) = (0, None);
        self.pending.clear();
        while self.pending.len() < GATHERED_BYTES && self.file.is_none() {
            let Some((dir, entries)) = self.levels.last_mut() else { return Ok(()) };
            let Some(entry) = entries.next() else {
                self.levels.pop();
                self.end_node();
                continue;
            };
            let dir = dir.clone();
            self.strings(&[b"entry", b"(", b"name", entry.name.as_bytes(), b"node"]);
            self.node(&dir, &entry)?;
        }
        Ok(())
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.at < self.pending.len() {
                let count = buffer.len().min(self.pending.len() - self.at);
                buffer[..count].copy_from_slice(&self.pending[self.at..self.at + count]);
                self.at += count;
                return Ok(count);
            }
            if let Some((file, left, size)) = &mut self.file {
                let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                let count = file.read(&mut buffer[..wanted])?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= count as u64;
                if *left == 0 {
                    let size = *size;
                    (self.at, self.file) = (0, None);
                    self.pending.clear();
                    self.end_file(size);
                }
                return Ok(count);
            }
            self.gather().map_err(|error| io::Error::other(error.to_string()))?;
            if self.pending.is_empty() {
                return Ok(0);
            }
        }
    }
}
