//! Equal files stored once: each gets a second name, its hash, in `.links`, and later equal ones become that file.
//! The layout is C++ Nix's, so both can do this to one store. Changes no path's contents.
//!
//! A path that is on the disk must not come to depend on a file that is not: all files of valid paths, and what `.links`
//! had before, are flushed first, and what others put there since is flushed before it is used. New paths, linked
//! before they are registered, need none of that: after a power cut they are hashed anyway.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io::Read;

use rednix_events::Event;
use rustix::fs::Stat;
use rustix::io::Errno;

use super::protocol::{self, Linking, at_once};
use super::{GcGuard, Store};
use crate::canonical;
use crate::error::{Error, Result};
use crate::handle::{Dir, Kind, Walk};
use crate::hash::{HashAlgorithm, Hasher};
use crate::limits::{COPY_BUFFER_BYTES, LINKS_MAX};
use crate::nar::Writer;
use crate::path::StorePath;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptimiseReport {
    /// Files looked at that were not linked before.
    pub files: u64,
    /// Files that became another name of an equal one.
    pub linked: u64,
    pub freed_bytes: u64,
}

const LINKS: &str = ".links";

impl Store {
    /// Links equal files of all valid paths.
    pub fn optimise(&self) -> Result<OptimiseReport> {
        let paths = self.all_valid_paths()?;
        self.optimise_paths(&paths)
    }

    /// Links files of these paths with equal ones that were optimised before, and with each other.
    pub fn optimise_paths(&self, paths: &BTreeSet<StorePath>) -> Result<OptimiseReport> {
        self.need_writable("optimise")?;
        self.events.emit(Event::Step { what: format!("linking equal files of {} store paths", paths.len()) });
        let scratch = self.scratch_dir("optimise")?;
        let mut linker = Linker::new(self, scratch.dir(), false)?;
        at_once(protocol::link(&mut linker, paths.iter().cloned()))?;
        let report = linker.report;
        scratch.close()?;
        Ok(report)
    }

    /// Links files of a finished tree that is not yet where it stays with equal ones of the store, where the store is
    /// opened for that. `temporary` is a folder of the caller's on the same file system.
    pub(super) fn link_new(&self, parent: &Dir, name: &OsStr, temporary: &Dir) -> Result<()> {
        if !self.link_equal_files {
            return Ok(());
        }
        Linker::new(self, temporary, true)?.tree(parent, name)
    }
}

struct Linker<'a> {
    store: &'a Store,
    links: Dir,
    /// New names are made here first.
    temporary: &'a Dir,
    /// Files that have a name in `.links`, and whose contents are on the disk.
    known: HashSet<u64>,
    /// Whether this is about a tree that is not valid yet.
    is_new: bool,
    number: u64,
    report: OptimiseReport,
}

impl Linking for Linker<'_> {
    type Error = Error;
    type Guard = GcGuard;
    type Path = StorePath;

    async fn flush_contents(&mut self) -> Result<()> {
        // Listed first: what is there before the flush is on the disk after it.
        self.known = self.links.inodes()?;
        let contents = &self.store.contents;
        rustix::fs::syncfs(contents).map_err(|errno| contents.error("flush", "", errno))
    }

    async fn keep_from_collection(&mut self) -> Result<GcGuard> {
        self.store.lock_against_collection()
    }

    async fn is_valid(&mut self, path: &StorePath) -> Result<bool> {
        self.store.is_valid(path)
    }

    async fn link(&mut self, path: &StorePath) -> Result<()> {
        let store = self.store;
        self.tree(&store.contents, OsStr::new(path.basename()))
    }
}

impl<'a> Linker<'a> {
    fn new(store: &'a Store, temporary: &'a Dir, is_new: bool) -> Result<Linker<'a>> {
        let links = match store.contents.open_dir(LINKS) {
            Err(error) if error.is_not_found() => {
                match store.contents.create_dir(LINKS, 0o755) {
                    Err(error) if error.is_already_exists() => {}
                    other => other?,
                }
                store.contents.open_dir(LINKS)?
            }
            other => other?,
        };
        let (known, report) = Default::default();
        Ok(Linker { store, links, temporary, known, is_new, number: 0, report })
    }

    fn tree(&mut self, top: &Dir, name: &OsStr) -> Result<()> {
        match top.kind(name)? {
            Kind::File => self.file(top, name),
            Kind::Directory if self.is_new => top.open_dir(name)?.walk(&mut |visit| {
                if visit.entry.kind == Kind::File {
                    self.file(visit.parent, &visit.entry.name)?;
                }
                Ok(Walk::Continue)
            }),
            Kind::Directory => {
                let dir = top.open_dir(name)?;
                settle_if_needed(&dir)?;
                dir.walk(&mut |visit| {
                    match visit.entry.kind {
                        Kind::File => self.file(visit.parent, &visit.entry.name)?,
                        // What an interrupted run left writable.
                        Kind::Directory => settle_if_needed(&visit.parent.open_dir(&visit.entry.name)?)?,
                        _ => {}
                    }
                    Ok(Walk::Continue)
                })
            }
            _ => Ok(()),
        }
    }

    fn file(&mut self, parent: &Dir, name: &OsStr) -> Result<()> {
        let stat = parent.metadata(name)?;
        if stat.st_size == 0 || self.known.contains(&stat.st_ino) {
            return Ok(());
        }
        self.report.files += 1;
        let link = file_hash(parent, name, &stat)?;
        let link = OsStr::new(&link);
        let older = match self.links.metadata(link) {
            Err(error) if error.is_not_found() => return self.first(parent, name, link, &stat),
            other => other?,
        };
        match same_bytes(parent, name, &self.links, link) {
            Ok(true) if usize::try_from(older.st_nlink).unwrap_or(usize::MAX) >= LINKS_MAX => Ok(()),
            Ok(true) if older.st_ino == stat.st_ino => Ok(()),
            Ok(true) => self.replace(parent, name, link, &stat),
            Ok(false) => {
                // The older one was damaged: whoever has it keeps it, and nobody new gets it.
                self.links.remove_file(link)?;
                self.first(parent, name, link, &stat)
            }
            // A collection took its last name meanwhile.
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn first(&mut self, parent: &Dir, name: &OsStr, link: &OsStr, stat: &Stat) -> Result<()> {
        match parent.hard_link(name, &self.links, link) {
            // Another process was faster; the next run links this one.
            Err(error) if error.is_already_exists() => return Ok(()),
            Err(error) if cannot_link(&error) => return Ok(()),
            other => other?,
        }
        self.known.insert(stat.st_ino);
        Ok(())
    }

    /// Puts the older file in the place of the newer one, in one step.
    fn replace(&mut self, parent: &Dir, name: &OsStr, link: &OsStr, stat: &Stat) -> Result<()> {
        self.number += 1;
        let temporary = format!(".link-{}", self.number);
        match self.links.hard_link(link, self.temporary, &temporary) {
            Err(error) if cannot_link(&error) => return Ok(()),
            other => other?,
        }
        if !self.is_new {
            self.flush_once(&temporary)?;
        }
        // As it was: a tree that is to be moved keeps its top writable.
        let before = parent.metadata("")?.st_mode & 0o7777;
        let is_settled = before == canonical::MODE_DIRECTORY;
        if is_settled {
            parent.set_mode(0o755)?;
        }
        let renamed = self.temporary.rename(&temporary, parent, name);
        if is_settled {
            canonical::settle(parent, before).map_err(|errno| parent.error("set the mode of", "", errno))?;
        }
        renamed?;
        self.report.linked += 1;
        if stat.st_nlink == 1 {
            self.report.freed_bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
        Ok(())
    }

    /// What others put into `.links` since all was flushed may not be on the disk.
    fn flush_once(&mut self, temporary: &str) -> Result<()> {
        let inode = self.temporary.metadata(temporary)?.st_ino;
        if !self.known.contains(&inode) {
            let file = self.temporary.open_file(temporary)?;
            file.sync_data().map_err(|error| self.temporary.error("flush", temporary, error))?;
            self.known.insert(inode);
        }
        Ok(())
    }
}

/// What keeps one file from being stored once and harms nothing: too many names, a full index of `.links`, a file system
/// without second names, another mount, or a name that a collection took meanwhile.
fn cannot_link(error: &Error) -> bool {
    let harmless = [Errno::MLINK, Errno::NOSPC, Errno::PERM, Errno::NOTSUP, Errno::XDEV, Errno::NOENT];
    harmless.iter().any(|errno| error.os_error() == Some(errno.raw_os_error()))
}

fn settle_if_needed(dir: &Dir) -> Result<()> {
    let stat = dir.metadata("")?;
    if stat.st_mode & 0o7777 == canonical::MODE_DIRECTORY && stat.st_mtime == canonical::TIME_S {
        return Ok(());
    }
    canonical::settle(dir, canonical::MODE_DIRECTORY).map_err(|errno| dir.error("set the mode of", "", errno))
}

/// The name in `.links`: SHA-256 of the file's own NAR, so that what may be executed differs from what may not.
fn file_hash(parent: &Dir, name: &OsStr, stat: &Stat) -> Result<String> {
    let mut file = parent.open_file(name)?;
    let mut hasher = Hasher::new(HashAlgorithm::Sha256);
    let mut writer = Writer::new(&mut hasher);
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    writer.file_from(b"", stat.st_mode & 0o100 != 0, size, &mut file, &mut Vec::new())?;
    writer.finish()?;
    Ok(hasher.finish().to_nix32())
}

fn same_bytes(a: &Dir, a_name: &OsStr, b: &Dir, b_name: &OsStr) -> Result<bool> {
    let (mut one, mut two) = (a.open_file(a_name)?, b.open_file(b_name)?);
    let (mut left, mut right) = (vec![0; COPY_BUFFER_BYTES], vec![0; COPY_BUFFER_BYTES]);
    loop {
        let count = one.read(&mut left).map_err(|error| a.error("read", a_name, error))?;
        if count == 0 {
            return Ok(two.read(&mut right[..1]).map_err(|error| b.error("read", b_name, error))? == 0);
        }
        match two.read_exact(&mut right[..count]) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other.map_err(|error| b.error("read", b_name, error))?,
        }
        if left[..count] != right[..count] {
            return Ok(false);
        }
    }
}
