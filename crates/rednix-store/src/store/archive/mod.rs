//! The archive: paths not in use, as NARs cut into content-defined chunks that are stored once and compressed in
//! blocks, those of a newer version against those of an older one. What is archived is not valid; it comes back through
//! the same door as anything copied in, checked against its hash. One SQLite file of our own, which C++ Nix never looks at. Decides nothing about what is needed.

mod alignment;
mod blocks;
mod chunks;
mod index;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use rednix_events::Event;

use super::database::Database;
use super::gc::Collection;
use super::protocol::{self, at_once};
use super::{GcOptions, PathInfo, Realisation, RealisationId, Store};
use crate::error::{Error, Result};
use crate::hash::HashAlgorithm;
use crate::limits::ARCHIVE_BATCH;
use crate::nar::{self, HashingReader};
use crate::path::StorePath;
#[cfg(test)]
use chunks::cut;
use chunks::{ChunkReader, Chunker};

/// An open archive.
pub(super) struct Archive {
    database: Database,
}

/// One path in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedPath {
    pub info: PathInfo,
    pub realisations: Vec<Realisation>,
}

/// What went into the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveReport {
    /// Referrers first.
    pub paths: Vec<StorePath>,
    /// Sum of the archives' (NAR) sizes of `paths`.
    pub nar_bytes: u64,
    /// What the file grew by.
    pub stored_bytes: u64,
    /// Bytes the folder of contents gave back.
    pub freed_bytes: u64,
    pub duration_ms: u64,
}

/// The whole archive in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveSizes {
    pub paths: u64,
    pub nar_bytes: u64,
    /// Size of the archive's file without what is free in it.
    pub stored_bytes: u64,
    pub chunks: u64,
}

/// Paths on their way into the archive, a batch at a time; each batch is one transaction that survives a power cut.
pub(super) struct Archiving<'a> {
    store: &'a Store,
    archive: &'a Archive,
    nar_bytes: u64,
}

fn is_no_space(error: &Error) -> bool {
    matches!(error, Error::NoSpace { .. })
}

impl Archiving<'_> {
    pub fn keep<'p>(&mut self, paths: impl Iterator<Item = &'p StorePath>) -> Result<()> {
        let (store, archive) = (self.store, self.archive);
        archive.database.write_through("archive paths", |transaction| {
            let mut chunker = Chunker::new(transaction, archive)?;
            for path in paths {
                let info = store.path_info(path)?;
                let info = info.ok_or_else(|| Error::NotValid { path: path.to_string() })?;
                self.nar_bytes += info.nar_size;
                let realisations = store.realisations_of(path)?;
                // Also what is there already: the store is about to lose its copy, so the archive's must be readable.
                let older = archive.older_in(transaction, &info)?;
                chunker.begin(older.as_deref(), info.nar_size)?;
                let dumped = nar::dump(store.real_path(path), &mut chunker);
                let (recipe, hash, size) = chunker.end(dumped)?;
                if (hash, size) != (info.nar_hash, info.nar_size) {
                    return Err(Error::HashMismatch {
                        what: format!("`{path}` is damaged and was not archived (see `rednix store verify`)"),
                        expected: format!("{} of {} bytes", info.nar_hash.to_sri(), info.nar_size),
                        found: format!("{} of {size} bytes", hash.to_sri()),
                    });
                }
                archive.put(transaction, &info, &recipe)?;
                archive.put_realisations(transaction, &realisations)?;
            }
            chunker.close()
        })
    }
}

impl Store {
    fn archive_file(&self) -> PathBuf {
        self.layout.own_state().join("archive.sqlite")
    }

    /// The archive, where there is one.
    pub(super) fn archive_if_any(&self) -> Result<Option<&Archive>> {
        if self.archive.get().is_none() {
            let file = self.archive_file();
            if !file.exists() {
                return Ok(None);
            }
            let opened = Archive::open(&file, self.is_read_only())?;
            let _ = self.archive.set(opened);
        }
        Ok(self.archive.get())
    }

    /// Moves what no root needs out of the store and into the archive. Takes what collection with the same options
    /// would delete.
    pub fn archive_unneeded(&self, options: &GcOptions) -> Result<ArchiveReport> {
        self.need_writable("archive paths")?;
        let started = Instant::now();
        if self.archive_if_any()?.is_none() {
            let _ = self.archive.set(Archive::open(&self.archive_file(), false)?);
        }
        let archive = self.archive.get().expect("it was set just now");
        let before = archive.sizes()?.stored_bytes;
        let archiving = Archiving { store: self, archive, nar_bytes: 0 };
        let mut leaving = Collection::new(self, options, Some(archiving));
        at_once(protocol::leave(&mut leaving, ARCHIVE_BATCH))?;
        let (report, archiving) = leaving.finish();
        archive.shorten_log();
        let mut nar_bytes = archiving.map_or(0, |archiving| archiving.nar_bytes);
        if options.dry_run {
            nar_bytes = report.bytes;
        }
        Ok(ArchiveReport {
            paths: report.removed,
            nar_bytes,
            stored_bytes: archive.sizes()?.stored_bytes.saturating_sub(before),
            freed_bytes: if options.dry_run { 0 } else { report.bytes },
            duration_ms: started.elapsed().as_millis() as u64,
        })
    }

    /// What the archive knows about a path.
    pub fn archived(&self, path: &StorePath) -> Result<Option<ArchivedPath>> {
        let Some(archive) = self.archive_if_any()? else { return Ok(None) };
        archive.database.read("look up an archived path", |connection| archive.info_in(connection, path))
    }

    /// Every archived path with the size of its NAR.
    pub fn archived_paths(&self) -> Result<BTreeMap<StorePath, u64>> {
        self.archive_if_any()?.map_or(Ok(BTreeMap::new()), Archive::paths)
    }

    pub fn archive_sizes(&self) -> Result<ArchiveSizes> {
        self.archive_if_any()?.map_or(Ok(ArchiveSizes::default()), Archive::sizes)
    }

    /// What an output turned out to be, as far as the archive remembers.
    pub fn archived_realisation(&self, id: &RealisationId) -> Result<Option<StorePath>> {
        self.archive_if_any()?.map_or(Ok(None), |archive| archive.realisation(id))
    }

    /// Makes those of `paths` valid again that are archived, with what they refer to. Returns what came back, and
    /// passes over what neither the store nor the archive has.
    pub fn restore_archived<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a StorePath>,
    ) -> Result<Vec<StorePath>> {
        let mut restored = Vec::new();
        let Some(archive) = self.archive_if_any()? else { return Ok(restored) };
        if self.is_read_only() {
            return Ok(restored);
        }
        for path in paths {
            let Some(order) = self.restoring_order(path)? else { continue };
            for one in order {
                let read = |connection: &_| archive.recipe_in(connection, &one.info.path);
                let recipe = archive.database.read("look up an archived path", read)?;
                let mut reader = ChunkReader::new(archive, recipe);
                match self.add_nar(&mut reader, &one.info) {
                    Ok(true) => restored.push(one.info.path.clone()),
                    Ok(false) => {}
                    Err(error) if is_no_space(&error) || self.check_archived(&one.info.path)? => {
                        return Err(error);
                    }
                    Err(_) => return Err(Error::DamagedArchive { path: one.info.path.to_string() }),
                }
                self.register_realisations(&one.realisations)?;
            }
        }
        Ok(restored)
    }

    /// [`Store::restore_archived`], passing over what is damaged there, with a notice: it can be made again.
    pub fn restore_readable<'a>(&self, paths: impl IntoIterator<Item = &'a StorePath>) -> Result<()> {
        for path in paths {
            match self.restore_archived([path]) {
                Err(error @ Error::DamagedArchive { .. }) => self.notice(error.to_string()),
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// What has to come back for a path, references first; nothing where something of it is in neither place.
    fn restoring_order(&self, path: &StorePath) -> Result<Option<Vec<ArchivedPath>>> {
        // Rooted before looking: what is valid now stays so.
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        let mut pending = vec![(path.clone(), false)];
        let mut found: BTreeMap<StorePath, ArchivedPath> = BTreeMap::new();
        while let Some((path, is_done)) = pending.pop() {
            if is_done {
                order.extend(found.remove(&path));
                continue;
            }
            if !seen.insert(path.clone()) {
                continue;
            }
            self.add_temp_root(&path)?;
            if self.is_valid(&path)? {
                continue;
            }
            let Some(one) = self.archived(&path)? else { return Ok(None) };
            pending.push((path.clone(), true));
            pending
                .extend(one.info.references.iter().filter(|to| **to != path).map(|to| (to.clone(), false)));
            found.insert(path, one);
        }
        Ok(Some(order))
    }

    /// Archived paths that cannot be read back as what they were, in the order of their names.
    pub fn damaged_in_archive(&self) -> Result<Vec<StorePath>> {
        let paths = self.archived_paths()?;
        if !paths.is_empty() {
            self.events.emit(Event::Step { what: format!("checking {} archived paths", paths.len()) });
        }
        let mut damaged = Vec::new();
        for path in paths.into_keys() {
            if !self.check_archived(&path)? {
                damaged.push(path);
            }
        }
        Ok(damaged)
    }

    /// Whether an archived path can be read back and is what it was; nothing is written.
    pub fn check_archived(&self, path: &StorePath) -> Result<bool> {
        let (Some(archive), Some(one)) = (self.archive_if_any()?, self.archived(path)?) else {
            return Ok(false);
        };
        let read = |connection: &_| archive.recipe_in(connection, path);
        let recipe = match archive.database.read("look up an archived path", read) {
            Err(Error::Corrupt { .. }) => return Ok(false),
            other => other?,
        };
        let mut reader = HashingReader::new(ChunkReader::new(archive, recipe), HashAlgorithm::Sha256);
        match std::io::copy(&mut reader, &mut std::io::sink()) {
            Ok(_) => {}
            // So a damaged chunk is told.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Ok(false),
            Err(error) => return Err(Error::io("read the archive", self.archive_file(), error)),
        }
        Ok(reader.finish() == (one.info.nar_hash, one.info.nar_size))
    }

    /// The archive of a path, as a stream; fails like a file that is cut off where the archive is damaged.
    pub(super) fn archived_nar(&self, path: &StorePath) -> Result<Option<impl std::io::Read + '_>> {
        let Some(archive) = self.archive_if_any()? else { return Ok(None) };
        if self.archived(path)?.is_none() {
            return Ok(None);
        }
        let read = |connection: &_| archive.recipe_in(connection, path);
        let recipe = archive.database.read("look up an archived path", read)?;
        Ok(Some(ChunkReader::new(archive, recipe)))
    }

    /// Deletes paths from the archive, and what only they used. Returns how many there were.
    pub fn forget_archived<'a>(&self, paths: impl IntoIterator<Item = &'a StorePath>) -> Result<u64> {
        self.need_writable("delete archived paths")?;
        // Whoever archives relies on what it finds there, and takes the path from the store.
        let _guard = self.lock_against_collection()?;
        self.archive_if_any()?.map_or(Ok(0), |archive| archive.forget(paths))
    }
}
