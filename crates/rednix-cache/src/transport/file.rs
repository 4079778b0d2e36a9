//! A cache that is a folder. Reads nothing outside of it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use tempfile::NamedTempFile;

use super::{Answer, Body, Opened, Transport};
use crate::error::{Error, Result};
use crate::limits::{LOG_BYTES_MAX, SMALL_FILE_BYTES_MAX, UNNAMED_BYTES_MAX, UNNAMED_FOR, UNNAMED_MAX};
use crate::streams::Limited;

pub struct Folder {
    root: PathBuf,
    unnamed: Mutex<Unnamed>,
}

/// Small files that are still to be written: one wait for the disk is for all of them.
#[derive(Default)]
struct Unnamed {
    files: Vec<(PathBuf, Vec<u8>)>,
    bytes: usize,
    since: Option<Instant>,
    /// Some got their names and may lose them in a power cut.
    is_named: bool,
}

impl Folder {
    pub fn new(root: PathBuf) -> Folder {
        Folder { root, unnamed: Mutex::default() }
    }

    fn unnamed(&self) -> MutexGuard<'_, Unnamed> {
        self.unnamed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_later(&self, target: PathBuf, bytes: Vec<u8>) -> Result<()> {
        let mut unnamed = self.unnamed();
        unnamed.bytes += bytes.len();
        unnamed.files.push((target, bytes));
        let since = *unnamed.since.get_or_insert_with(Instant::now);
        let is_enough = unnamed.files.len() >= UNNAMED_MAX || unnamed.bytes >= UNNAMED_BYTES_MAX;
        if is_enough || since.elapsed() > UNNAMED_FOR { self.give_names(&mut unnamed) } else { Ok(()) }
    }

    /// What stands in the files, and what was put before them, is on the disk before they have names.
    fn give_names(&self, unnamed: &mut Unnamed) -> Result<()> {
        let mut written = Vec::with_capacity(unnamed.files.len());
        for (target, bytes) in &unnamed.files {
            let file = self.write(target, &mut bytes.as_slice())?;
            // Many open files at once would be too many.
            written.push((file.into_temp_path(), target));
        }
        if written.is_empty() {
            return Ok(());
        }
        self.sync()?;
        for (file, target) in written {
            file.persist(target).map_err(|error| Error::io("write", target, error.error))?;
        }
        *unnamed = Unnamed { is_named: true, ..Unnamed::default() };
        Ok(())
    }

    /// A file beside the place where it belongs.
    fn write(&self, target: &Path, from: &mut dyn Read) -> Result<NamedTempFile> {
        let fail = |error| Error::io("write", target, error);
        let readable = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
        let mut builder = tempfile::Builder::new();
        let folder = target.parent().unwrap_or(&self.root);
        let mut file = builder.prefix(".rednix-").permissions(readable).tempfile_in(folder).map_err(fail)?;
        io::copy(from, file.as_file_mut()).map_err(fail)?;
        Ok(file)
    }

    fn sync(&self) -> Result<()> {
        let root = File::open(&self.root).map_err(|error| Error::io("open", &self.root, error))?;
        rustix::fs::syncfs(&root).map_err(|errno| Error::io("flush", &self.root, errno.into()))
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

    fn whole(&self, place: &str) -> Result<Option<Answer>> {
        let Some(file) = self.file(place)? else { return Ok(None) };
        let fail = |error| Error::io("read", self.root.join(place), error);
        let size = file.metadata().map_err(fail)?.len();
        if size > SMALL_FILE_BYTES_MAX {
            return Err(Error::TooLarge { what: self.url(place), limit: SMALL_FILE_BYTES_MAX });
        }
        let share = Answer::share(size);
        let mut bytes = if share.is_some() { super::buffer() } else { Vec::new() };
        // What it grew meanwhile has no share.
        file.take(size).read_to_end(&mut bytes).map_err(fail)?;
        Ok(Some(Answer { bytes, share }))
    }
}

impl Transport for Folder {
    fn url(&self, place: &str) -> String {
        format!("file://{}/{place}", self.root.display())
    }

    fn get(&self, place: &str) -> Result<Option<Answer>> {
        self.whole(place)
    }

    fn log(&self, place: &str) -> Result<Option<Box<dyn Read + Send>>> {
        let file = self.file(place)?;
        Ok(file.map(|file| Box::new(Limited::new(file, LOG_BYTES_MAX)) as _))
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
        match body {
            Body::Bytes(bytes) => self.write_later(target, bytes),
            Body::File(file, _) if name(&file, &target) => Ok(()),
            // Something may stand there that entries name already: nothing unfinished takes its place.
            Body::File(mut from, _) => {
                let fail = |error| Error::io("write", &target, error);
                let file = self.write(&target, &mut from)?;
                file.as_file().sync_data().map_err(fail)?;
                file.persist(&target).map(drop).map_err(|error| fail(error.error))
            }
        }
    }

    fn settle(&self) -> Result<()> {
        let mut unnamed = self.unnamed();
        if unnamed.files.is_empty() && !unnamed.is_named {
            return Ok(());
        }
        self.give_names(&mut unnamed)?;
        unnamed.is_named = false;
        self.sync()
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
fn name(file: &File, target: &Path) -> bool {
    let readable = rustix::fs::fchmod(file, Mode::from_raw_mode(0o644)).is_ok();
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    readable && rustix::fs::linkat(CWD, own, CWD, target, AtFlags::SYMLINK_FOLLOW).is_ok()
}
