//! Equal files stored once: each gets a second name, its hash, in `.links`, and later equal ones become that file.
//! The layout is C++ Nix's, so both can do this to one store. Changes no path's contents.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io::Read;

use rednix_events::Event;
use rustix::fs::Stat;

use super::{ScratchDir, Store};
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
        match self.contents.create_dir(LINKS, 0o755) {
            Err(error) if error.is_already_exists() => {}
            other => other?,
        }
        let mut linker = Linker {
            store: self,
            links: self.contents.open_dir(LINKS)?,
            scratch: self.scratch_dir("optimise")?,
            known: HashSet::new(),
            number: 0,
            report: OptimiseReport::default(),
        };
        for entry in linker.links.entries()? {
            linker.known.insert(linker.links.metadata(&entry.name)?.st_ino);
        }
        for path in paths {
            // While this is held nothing is collected; a path gone before is passed over.
            let _guard = self.lock_against_collection()?;
            if self.is_valid(path)? {
                linker.path(path)?;
            }
        }
        let Linker { scratch, report, .. } = linker;
        scratch.close()?;
        Ok(report)
    }
}

struct Linker<'a> {
    store: &'a Store,
    links: Dir,
    scratch: ScratchDir,
    /// Files that have a name in `.links`.
    known: HashSet<u64>,
    number: u64,
    report: OptimiseReport,
}

impl Linker<'_> {
    fn path(&mut self, path: &StorePath) -> Result<()> {
        let (top, name) = (&self.store.contents, OsStr::new(path.basename()));
        let top = top.try_clone()?;
        match top.kind(name)? {
            Kind::File => self.file(&top, name),
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
        match self.links.metadata(link) {
            Err(error) if error.is_not_found() => self.first(parent, name, link, &stat),
            Err(error) => Err(error),
            Ok(_) if !same_bytes(parent, name, &self.links, link)? => {
                // The older one was damaged: whoever has it keeps it, and nobody new gets it.
                self.links.remove_file(link)?;
                self.first(parent, name, link, &stat)
            }
            Ok(older) if usize::try_from(older.st_nlink).unwrap_or(usize::MAX) >= LINKS_MAX => Ok(()),
            Ok(_) => self.replace(parent, name, link, &stat),
        }
    }

    fn first(&mut self, parent: &Dir, name: &OsStr, link: &OsStr, stat: &Stat) -> Result<()> {
        match parent.hard_link(name, &self.links, link) {
            // Another process was faster; the next run links this one.
            Err(error) if error.is_already_exists() => return Ok(()),
            Err(error) if too_many_links(&error) => return Ok(()),
            other => other?,
        }
        self.known.insert(stat.st_ino);
        Ok(())
    }

    /// Puts the older file in the place of the newer one, in one step.
    fn replace(&mut self, parent: &Dir, name: &OsStr, link: &OsStr, stat: &Stat) -> Result<()> {
        self.number += 1;
        let temporary = self.number.to_string();
        match self.links.hard_link(link, self.scratch.dir(), &temporary) {
            Err(error) if too_many_links(&error) => return Ok(()),
            other => other?,
        }
        let is_top = parent.path() == self.store.contents.path();
        if !is_top {
            parent.set_mode(0o755)?;
        }
        let renamed = self.scratch.dir().rename(&temporary, parent, name);
        if !is_top {
            canonical::settle(parent, canonical::MODE_DIRECTORY)
                .map_err(|errno| parent.error("set the mode of", "", errno))?;
        }
        renamed?;
        self.report.linked += 1;
        if stat.st_nlink == 1 {
            self.report.freed_bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
        Ok(())
    }
}

fn too_many_links(error: &Error) -> bool {
    error.os_error() == Some(rustix::io::Errno::MLINK.raw_os_error())
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
