//! A cache that is a folder. Reads nothing outside of it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};

use super::{Body, Opened, Transport};
use crate::error::{Error, Result};
use crate::limits::{LOG_BYTES_MAX, SMALL_FILE_BYTES_MAX};

pub struct Folder {
    root: PathBuf,
}

impl Folder {
    pub fn new(root: PathBuf) -> Folder {
        Folder { root }
    }

    fn file(&self, place: &str) -> Result<Option<File>> {
        let place = place.split('?').next().unwrap_or_default();
        let fail = |error: io::Error| Error::io("open", self.root.join(place), error);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match rustix::fs::open(&self.root, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            other => other.map_err(|errno| fail(errno.into()))?,
        };
        // Not blocking: a pipe in the folder would otherwise be waited for.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&root, place, flags, Mode::empty(), beneath) {
            Ok(found) => {
                let file = File::from(found);
                let is_file = file.metadata().map_err(fail)?.is_file();
                if is_file { Ok(Some(file)) } else { Err(fail(io::Error::other("it is no file"))) }
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(fail(errno.into())),
        }
    }

    fn whole(&self, place: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.file(place)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::io("read", self.root.join(place), error))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { what: self.url(place), limit });
        }
        Ok(Some(bytes))
    }
}

impl Transport for Folder {
    fn url(&self, place: &str) -> String {
        format!("file://{}/{place}", self.root.display())
    }

    fn get(&self, place: &str) -> Result<Option<Vec<u8>>> {
        self.whole(place, SMALL_FILE_BYTES_MAX)
    }

    fn log(&self, place: &str) -> Result<Option<Vec<u8>>> {
        self.whole(place, LOG_BYTES_MAX)
    }

    fn exists(&self, place: &str) -> Result<bool> {
        Ok(self.file(place)?.is_some())
    }

    fn open(&self, place: &str, offset: u64, _: Option<&str>) -> Result<Option<Opened>> {
        let Some(mut file) = self.file(place)? else { return Ok(None) };
        let fail = |error| Error::io("read", self.root.join(place), error);
        let size = file.metadata().map_err(fail)?.len();
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        // No tag: where a local file breaks off, reading again changes nothing.
        Ok(Some(Opened { offset, size: Some(size), tag: None, body: Box::new(file) }))
    }

    fn put(&self, place: &str, _: &'static str, body: Body) -> Result<()> {
        let target = self.root.join(place);
        let folder = target.parent().unwrap_or(&self.root);
        std::fs::create_dir_all(folder).map_err(|error| Error::io("create the folder", folder, error))?;
        let fail = |error| Error::io("write", &target, error);
        // On the disk before it has a name, so that a power cut leaves no empty file behind.
        if let Body::File(file, _) = &body {
            file.sync_data().map_err(fail)?;
            if name(file, &target) {
                return Ok(());
            }
        }
        let mut builder = tempfile::Builder::new();
        let readable = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
        let mut file = builder.prefix(".rednix-").permissions(readable).tempfile_in(folder).map_err(fail)?;
        match body {
            Body::Bytes(bytes) => file.write_all(&bytes).map_err(fail)?,
            Body::File(mut from, _) => drop(io::copy(&mut from, file.as_file_mut()).map_err(fail)?),
        }
        file.as_file().sync_data().map_err(fail)?;
        file.persist(&target).map_err(|error| fail(error.error))?;
        Ok(())
    }

    fn workshop(&self) -> Option<PathBuf> {
        std::fs::create_dir_all(&self.root).ok()?;
        Some(self.root.clone())
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// Gives a file without a name its name, where it is in the same file system and has none yet. False where that cannot
/// be, and then it is to be copied.
fn name(file: &File, target: &std::path::Path) -> bool {
    let readable = rustix::fs::fchmod(file, Mode::from_raw_mode(0o644)).is_ok();
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    readable && rustix::fs::linkat(CWD, own, CWD, target, AtFlags::SYMLINK_FOLLOW).is_ok()
}
