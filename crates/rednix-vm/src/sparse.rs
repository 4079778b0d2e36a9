//! Copies of disks: blocks are shared where the file system can, holes stay holes, and a copy stops when it is asked to.
//! It does not say where copies belong.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::limits::{COPIED_AT_ONCE, COPY_BUFFER};
use crate::runner::Stop;

/// A new file with the contents of another, which may be read only.
pub(crate) fn copy_file(from: &Path, to: &Path, stop: &Stop) -> Result<()> {
    let source = File::open(from).map_err(Error::io("open", from))?;
    let target = File::create(to).map_err(Error::io("create", to))?;
    copy(&source, &target, stop).map_err(failed("write a copy of a disk to", to))
}

/// What a copy that did not come about is called: one that was stopped is no failure.
pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| match error.kind() {
        io::ErrorKind::Interrupted => Error::Interrupted,
        _ => Error::io(operation, path)(error),
    }
}

/// Fills an empty file. An error of the kind `Interrupted` says that it was stopped.
pub(crate) fn copy(from: &File, to: &File, stop: &Stop) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut at = 0;
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        copy_range(from, to, start, end, stop)?;
        at = end;
    }
    Ok(())
}

fn copy_range(from: &File, to: &File, start: u64, end: u64, stop: &Stop) -> io::Result<()> {
    let mut at = start;
    while at < end {
        if stop.requested() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = (end - at).min(COPIED_AT_ONCE);
        let (mut source, mut target) = (at, at);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), length as usize) {
            Ok(0) => return Err(io::Error::other("what is copied became shorter")),
            Ok(_) => at = source,
            Err(Errno::INTR) => {}
            // Between two kinds of file system the kernel copies nothing.
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                at += copy_piece(from, to, at, length)?
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_piece(from: &File, to: &File, at: u64, length: u64) -> io::Result<u64> {
    let mut buffer = vec![0; length.min(COPY_BUFFER) as usize];
    from.read_exact_at(&mut buffer, at)?;
    to.write_all_at(&buffer, at)?;
    Ok(buffer.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    /// Data at both ends and in the middle, and holes between them.
    fn source(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("source");
        let file = File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        for at in [0, 32 << 20, (64 << 20) - 6] {
            file.write_all_at(b"middle", at).unwrap();
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
        path
    }

    #[test]
    fn holes_stay_holes_on_every_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir_in("/dev/shm");
        let source = source(folder.path());
        for target in [Some(folder.path()), elsewhere.as_ref().ok().map(|found| found.path())] {
            let Some(target) = target else {
                println!("skipped: a second file system is not at /dev/shm");
                continue;
            };
            let copy = target.join("copy");
            copy_file(&source, &copy, &Stop::default()).unwrap();
            assert!(std::fs::read(&source).unwrap() == std::fs::read(&copy).unwrap());
            let found = std::fs::metadata(&copy).unwrap();
            assert!(found.blocks() < 1 << 13, "the holes are holes");
            assert_ne!(found.permissions().mode() & 0o200, 0, "it can be written to");
        }
    }

    #[test]
    fn a_copy_stops() {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path());
        let stop = Stop::default();
        stop.request();
        let (from, to) = (File::open(&source).unwrap(), File::create(folder.path().join("copy")).unwrap());
        if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
            println!("skipped: this file system shares blocks, so nothing is copied");
            return;
        }
        let result = copy_file(&source, &folder.path().join("copy"), &stop);
        assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    }
}
