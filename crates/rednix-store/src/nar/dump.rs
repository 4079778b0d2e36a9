//! Writes the archive of what is on disk, by handles, whole or in part. Changes nothing on disk.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;

use super::Writer;
use crate::error::{Error, Result};
use crate::handle::{Dir, Entry, Kind};
use crate::limits::NAR_DEPTH_MAX;

/// Decides whether an entry, given relative to the root, becomes part of the archive.
pub type Accept<'a> = &'a mut dyn FnMut(&Path, Kind) -> Result<bool>;

/// Writes the archive of a file, symbolic link or folder; returns its length. Symbolic links above `path` are
/// followed, `path` itself is not.
pub fn dump(path: impl AsRef<Path>, out: &mut (impl Write + ?Sized)) -> Result<u64> {
    dump_accepted(path, &mut |_, _| Ok(true), out)
}

/// [`dump`] with only those entries that `accept` takes. A folder not taken is not looked into; the root is
/// always taken.
pub fn dump_accepted(
    path: impl AsRef<Path>,
    accept: Accept<'_>,
    out: &mut (impl Write + ?Sized),
) -> Result<u64> {
    let path = path.as_ref();
    let (parent, name) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if parent.as_os_str().is_empty() => (Dir::open(".")?, name),
        (Some(parent), Some(name)) => (Dir::open(parent)?, name),
        // `/`, or something ending in `..`: not a name, so a folder.
        _ => return dump_opened(&Dir::open(path)?, accept, out),
    };
    let entry = Entry { name: name.to_os_string(), kind: parent.kind(name)? };
    if entry.kind == Kind::Directory {
        return dump_opened(&parent.open_dir(name)?, accept, out);
    }
    let mut dumper = Dumper { writer: Writer::new(out), buffer: Vec::new() };
    dumper.leaf(&parent, &entry, b"")?;
    dumper.writer.finish()
}

/// Writes the archive of an open folder.
pub fn dump_dir(dir: &Dir, out: &mut (impl Write + ?Sized)) -> Result<u64> {
    dump_opened(dir, &mut |_, _| Ok(true), out)
}

/// Writes the archive of one file that is in memory.
pub fn dump_file(executable: bool, contents: &[u8], out: &mut (impl Write + ?Sized)) -> Result<u64> {
    let mut writer = Writer::new(out);
    writer.file(b"", executable, contents)?;
    writer.finish()
}

fn dump_opened(root: &Dir, accept: Accept<'_>, out: &mut (impl Write + ?Sized)) -> Result<u64> {
    let mut dumper = Dumper { writer: Writer::new(out), buffer: Vec::new() };
    dumper.writer.enter_directory(b"")?;
    let mut levels = vec![(root.try_clone()?, PathBuf::new(), root.entries()?.into_iter())];
    while let Some((dir, at, entries)) = levels.last_mut() {
        let Some(entry) = entries.next() else {
            levels.pop();
            dumper.writer.leave_directory()?;
            continue;
        };
        let relative = at.join(&entry.name);
        if !accept(&relative, entry.kind)? {
            continue;
        }
        if entry.kind != Kind::Directory {
            dumper.leaf(dir, &entry, entry.name.as_bytes())?;
            continue;
        }
        let (deeper, entries) = dir.open_dir_listed(&entry.name)?;
        if levels.len() >= NAR_DEPTH_MAX {
            let reason = format!("folders are nested {NAR_DEPTH_MAX} deep or deeper");
            return Err(Error::Unstorable { path: deeper.path().to_path_buf(), reason });
        }
        dumper.writer.enter_directory(entry.name.as_bytes())?;
        levels.push((deeper, relative, entries.into_iter()));
    }
    dumper.writer.finish()
}

struct Dumper<'w, W: Write + ?Sized> {
    writer: Writer<'w, W>,
    buffer: Vec<u8>,
}

impl<W: Write + ?Sized> Dumper<'_, W> {
    /// A file or symbolic link, under another name than its own where it is the root.
    fn leaf(&mut self, parent: &Dir, entry: &Entry, name: &[u8]) -> Result<()> {
        match entry.kind {
            Kind::File => {
                let (mut file, stat) = parent.open_file_examined(&entry.name)?;
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                let executable = stat.st_mode & 0o100 != 0;
                self.writer.file_from(name, executable, size, &mut file, &mut self.buffer).map_err(|error| {
                    match error {
                        // The writer knows only the last component.
                        Error::Io { operation: "read", source, .. } => {
                            parent.error("read", &entry.name, source)
                        }
                        other => other,
                    }
                })
            }
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(parent, &entry.name, Vec::new())
                    .map_err(|errno| parent.error("read the symbolic link", &entry.name, errno))?;
                self.writer.symlink(name, target.to_bytes())
            }
            Kind::Directory | Kind::Other => {
                // The kind came from a listing: say what it is now.
                let now = rustix::fs::statat(parent, &entry.name, AtFlags::SYMLINK_NOFOLLOW);
                let reason = match now.map(|stat| Kind::of(&stat)) {
                    Ok(Kind::Other) => "it is a device, a socket or a pipe",
                    _ => "it changed while it was read",
                };
                Err(Error::Unstorable { path: parent.path_of(&entry.name), reason: reason.to_owned() })
            }
        }
    }
}
