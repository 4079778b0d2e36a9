//! Unpacks an archive into a folder through handles. Gives files their final modes, not their times.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::read::{Visitor, read};
use crate::canonical;
use crate::error::{Error, Result};
use crate::handle::Dir;
use crate::limits::COPY_BUFFER_BYTES;

/// Unpacks an archive to `destination`, which must not be there yet; returns the archive's length. What was
/// unpacked before an error is left for the caller to remove.
pub fn restore(stream: &mut (impl Read + ?Sized), destination: impl AsRef<Path>) -> Result<u64> {
    let destination = destination.as_ref();
    let name = destination.file_name().ok_or_else(|| Error::Escapes {
        path: destination.to_path_buf(),
        reason: "an archive needs a name to be unpacked to".to_owned(),
    })?;
    let parent = match destination.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => Dir::open(parent)?,
        _ => Dir::open(".")?,
    };
    restore_into(stream, &parent, name.as_bytes())
}

/// Unpacks an archive as entry `name` of an open folder.
pub fn restore_into(stream: &mut (impl Read + ?Sized), parent: &Dir, name: &[u8]) -> Result<u64> {
    unpack(stream, parent, name, false)
}

/// [`restore_into`] in the shape of store contents, but for the top, which [`canonical::settle_root`] finishes.
pub fn restore_canonical(stream: &mut (impl Read + ?Sized), parent: &Dir, name: &[u8]) -> Result<u64> {
    unpack(stream, parent, name, true)
}

fn unpack(stream: &mut (impl Read + ?Sized), parent: &Dir, name: &[u8], canonical: bool) -> Result<u64> {
    let levels = vec![parent.try_clone()?];
    let mut restorer = Restorer { levels, root: name.to_vec(), buffer: Vec::new(), canonical };
    read(stream, &mut restorer)
}

struct Restorer {
    /// The folder that receives the root, then every open directory.
    levels: Vec<Dir>,
    root: Vec<u8>,
    buffer: Vec<u8>,
    canonical: bool,
}

impl Restorer {
    fn dir(&self) -> &Dir {
        self.levels.last().expect("the receiving folder is never left")
    }

    fn name(&self, name: &[u8]) -> std::ffi::OsString {
        let name = if self.levels.len() == 1 { &self.root } else { name };
        std::ffi::OsStr::from_bytes(name).to_os_string()
    }
}

impl Visitor for Restorer {
    fn file(&mut self, name: &[u8], executable: bool, size: u64, contents: &mut dyn Read) -> Result<()> {
        let name = self.name(name);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mode = if executable { 0o777 } else { 0o666 };
        let mut file = self.dir().create_file(&name, mode)?;
        copy(contents, &mut file, size, &mut buffer).map_err(|(reading, error)| match reading {
            true if error.kind() == io::ErrorKind::UnexpectedEof => {
                Error::BadNar { offset: 0, reason: "it ends too early".to_owned() }
            }
            true => Error::io("read", "the archive", error),
            false => self.dir().error("write", &name, error),
        })?;
        self.buffer = buffer;
        if self.canonical {
            canonical::settle(&file, canonical::file_mode(executable))
                .map_err(|errno| self.dir().error("set the mode of", &name, errno))?;
        }
        Ok(())
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        let name = self.name(name);
        self.dir().symlink(std::ffi::OsStr::from_bytes(target), &name)?;
        if self.canonical { canonical::settle_symlink(self.dir(), &name) } else { Ok(()) }
    }

    fn enter_directory(&mut self, name: &[u8]) -> Result<()> {
        let name = self.name(name);
        self.dir().create_dir(&name, 0o777)?;
        let deeper = self.dir().open_dir(&name)?;
        self.levels.push(deeper);
        Ok(())
    }

    fn leave_directory(&mut self) -> Result<()> {
        let left = self.levels.pop().expect("only entered directories are left");
        // The top must stay writable until it stands where it stays.
        if self.canonical && self.levels.len() > 1 {
            canonical::settle(&left, canonical::MODE_DIRECTORY)
                .map_err(|errno| left.error("set the mode of", "", errno))?;
        }
        Ok(())
    }
}

/// Copies a file's bytes; an error says whether reading failed (else writing did).
fn copy(
    from: &mut dyn Read,
    to: &mut File,
    size: u64,
    buffer: &mut Vec<u8>,
) -> Result<(), (bool, io::Error)> {
    let wanted = usize::try_from(size).unwrap_or(usize::MAX).min(COPY_BUFFER_BYTES);
    if buffer.len() < wanted {
        buffer.resize(wanted, 0);
    }
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match from.read(&mut buffer[..wanted]) {
            Ok(0) => return Err((true, io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                to.write_all(&buffer[..count]).map_err(|error| (false, error))?;
                left -= count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((true, error)),
        }
    }
    Ok(())
}

/// Reads an archive only to check it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl Visitor for Discard {
    fn file(&mut self, _: &[u8], _: bool, _: u64, _: &mut dyn Read) -> Result<()> {
        Ok(())
    }

    fn symlink(&mut self, _: &[u8], _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn enter_directory(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn leave_directory(&mut self) -> Result<()> {
        Ok(())
    }
}
