//! Making a damaged store right again: contents from the archive, else the path is taken back; and a new database
//! from what the contents prove about themselves. Builds nothing: what was taken back can be built again by others.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rednix_events::Event;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::FlockOperation;

use super::database::Database;
use super::layout::Layout;
use super::open::OpenOptions;
use super::scratch::unique_name;
use super::{PathInfo, Problem, Store, VerifyOptions, locks, schema};
use crate::derivation::Derivation;
use crate::error::{Error, Result};
use crate::handle::Dir;
use crate::hash::{Hash, HashAlgorithm, Hasher};
use crate::nar::{self, HashingReader};
use crate::path::{ContentMethod, StorePath, content_address, fixed_output_path, text_path};
use crate::rewrite::{SelfReferences, hash_modulo_self};
use crate::scan::{Scanned, scan_path};

/// What became of damaged paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Contents came back from the archive.
    pub restored: Vec<StorePath>,
    /// Deleted from the archive, which could not give them back.
    pub forgotten: Vec<StorePath>,
    /// Not valid any more: damaged, or referring to something damaged; with what they were built from.
    pub taken_back: BTreeMap<StorePath, Option<StorePath>>,
}

/// What became of a store whose database was damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Paths whose old rows could be read and are true.
    pub salvaged: usize,
    /// Paths whose contents prove their names.
    pub proven: usize,
    /// Paths of which neither is so: collection removes them, or the next build replaces them.
    pub given_up: Vec<StorePath>,
    /// Where the old database is now.
    pub old_database: PathBuf,
}

impl Store {
    /// Checks all contents and makes right what is not.
    pub fn repair(&self) -> Result<RepairReport> {
        self.need_writable("repair")?;
        let mut report = RepairReport::default();
        let problems = self.verify(VerifyOptions::default())?.problems;
        let mut hopeless = Vec::new();
        for problem in problems {
            match problem {
                Problem::Archived(path) => report.forgotten.push(path),
                other if self.put_back(other.path())? => report.restored.push(other.path().clone()),
                other => hopeless.push(other.path().clone()),
            }
        }
        self.forget_archived(&report.forgotten)?;
        let all = self.with_referrers(hopeless)?;
        for (path, info) in self.path_infos(&all)? {
            report.taken_back.insert(path, info.deriver);
        }
        self.unregister(&all)?;
        self.flush()?;
        Ok(report)
    }

    /// Replaces a valid path's contents by what the archive has, if that is what was registered.
    fn put_back(&self, path: &StorePath) -> Result<bool> {
        self.add_temp_root(path)?;
        let _lock = self.lock_path(path)?;
        let Some(info) = self.path_info(path)? else { return Ok(false) };
        let Some(nar) = self.archived_nar(path)? else { return Ok(false) };
        let scratch = self.scratch_dir("repair")?;
        let mut reader = HashingReader::new(nar, HashAlgorithm::Sha256);
        let unpacked = nar::restore_canonical(&mut reader, scratch.dir(), path.basename().as_bytes());
        if unpacked.is_err() || reader.finish() != (info.nar_hash, info.nar_size) {
            return Ok(false);
        }
        self.place(scratch.dir(), OsStr::new(path.basename()), path, None)?;
        scratch.close()?;
        Ok(true)
    }

    /// Gives the store below `root` a new database: rows of the old one that can be read and are true, and paths
    /// whose contents give them their names. The old database is moved aside.
    pub fn rebuild_database(root: &Path, options: OpenOptions) -> Result<(Store, Rebuilt)> {
        let layout = Layout::new(root);
        if !layout.contents().is_dir() {
            return Err(Error::NoStore { root: root.to_path_buf() });
        }
        let salvaged = salvage(&layout.database());
        let old_database = {
            let lock = locks::open_lock_file(&layout.schema_lock())?;
            locks::flock(&lock, &layout.schema_lock(), FlockOperation::LockExclusive)?;
            let aside = move_aside(&layout)?;
            Database::open(&layout.database())?.set_up(schema::create)?;
            std::fs::write(layout.schema(), schema::SCHEMA.to_string())
                .map_err(|error| Error::io("write", layout.schema(), error))?;
            aside
        };
        let store = Store::open(root, options)?;
        let mut rebuilt = Rebuilt { old_database, ..Rebuilt::default() };
        store.register_proven(salvaged, &mut rebuilt)?;
        store.flush()?;
        Ok((store, rebuilt))
    }

    fn register_proven(&self, salvaged: BTreeMap<StorePath, PathInfo>, rebuilt: &mut Rebuilt) -> Result<()> {
        let entries = self.contents.entries()?;
        let present: BTreeSet<StorePath> =
            entries.iter().filter_map(|entry| StorePath::from_basename(entry.name.to_str()?).ok()).collect();
        self.events.emit(Event::Step { what: format!("looking at {} store paths", present.len()) });
        let mut known: BTreeMap<StorePath, PathInfo> = BTreeMap::new();
        let mut from_rows = BTreeSet::new();
        for path in &present {
            let Ok(scanned) = scan_path(self.real_path(path), &present) else { continue };
            match salvaged.get(path) {
                Some(info) if (info.nar_hash, info.nar_size) == (scanned.nar_hash, scanned.nar_size) => {
                    from_rows.insert(path.clone());
                    known.insert(path.clone(), info.clone());
                }
                _ => {
                    if let Some(info) = prove(&self.real_path(path), path, &scanned) {
                        known.insert(path.clone(), info);
                    }
                }
            }
        }
        // Nothing may refer to what is not known itself.
        loop {
            let count = known.len();
            let names: BTreeSet<StorePath> = known.keys().cloned().collect();
            known.retain(|_, info| info.references.iter().all(|reference| names.contains(reference)));
            if known.len() == count {
                break;
            }
        }
        let infos: Vec<PathInfo> = known.values().cloned().collect();
        self.register_valid_paths(&infos)?;
        rebuilt.salvaged = known.keys().filter(|path| from_rows.contains(*path)).count();
        rebuilt.proven = known.len() - rebuilt.salvaged;
        rebuilt.given_up = present.into_iter().filter(|path| !known.contains_key(path)).collect();
        Ok(())
    }
}

/// Moves the database's files into a folder beside them.
fn move_aside(layout: &Layout) -> Result<PathBuf> {
    let aside = layout.database_folder().join(unique_name("damaged"));
    std::fs::create_dir(&aside).map_err(|error| Error::io("create the folder", &aside, error))?;
    for name in ["db.sqlite", "db.sqlite-wal", "db.sqlite-shm"] {
        let from = layout.database_folder().join(name);
        match std::fs::rename(&from, aside.join(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.map_err(|error| Error::io("move", &from, error))?,
        }
    }
    // It speaks of rows that are no more.
    match std::fs::remove_file(layout.own_state().join("flushed.json")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", layout.own_state(), error));
        }
        _ => {}
    }
    Ok(aside)
}

/// Whatever rows of a damaged database can still be read. They are claims: contents decide.
fn salvage(database: &Path) -> BTreeMap<StorePath, PathInfo> {
    let mut found = BTreeMap::new();
    let Ok(connection) = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY) else {
        return found;
    };
    let text = "SELECT v.path, v.hash, v.narSize, v.deriver, v.ultimate, v.sigs, v.ca, \
                (SELECT group_concat(w.path, ' ') FROM Refs r JOIN ValidPaths w ON r.reference = w.id WHERE r.referrer = v.id) \
                FROM ValidPaths v";
    let Ok(mut statement) = connection.prepare(text) else { return found };
    let Ok(mut rows) = statement.query([]) else { return found };
    while let Ok(Some(row)) = rows.next() {
        let read = || -> Option<PathInfo> {
            let optional = |column: usize| row.get::<_, Option<String>>(column).ok().flatten();
            let path = StorePath::parse(&row.get::<_, String>(0).ok()?).ok()?;
            let hash = Hash::parse_any(&row.get::<_, String>(1).ok()?, None).ok()?;
            let size = u64::try_from(row.get::<_, i64>(2).ok()?).ok()?;
            let mut info = PathInfo::new(path, hash, size);
            info.deriver = optional(3).and_then(|text| StorePath::parse(&text).ok());
            info.ultimate = row.get::<_, Option<i64>>(4).ok().flatten() == Some(1);
            info.signatures = words(optional(5));
            info.content_address = optional(6);
            for word in words(optional(7)) {
                info.references.insert(StorePath::parse(&word).ok()?);
            }
            Some(info)
        };
        if let Some(info) = read() {
            found.insert(info.path.clone(), info);
        }
    }
    found
}

fn words(text: Option<String>) -> Vec<String> {
    text.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Information about a path whose name follows from its contents; nothing where it does not.
fn prove(real: &Path, path: &StorePath, scanned: &Scanned) -> Option<PathInfo> {
    let mut info = PathInfo::new(path.clone(), scanned.nar_hash, scanned.nar_size);
    let name = path.name();
    if let Some((hash, contents)) = plain_file(real) {
        // A derivation says itself what it refers to; of other texts, whatever of it is there.
        let references = match Derivation::parse_at(path, &contents) {
            Ok(derivation) if path.is_derivation() => derivation.references(),
            _ => scanned.references.clone(),
        };
        if text_path(name, &hash, &references).ok().as_ref() == Some(path) {
            info.references = references;
            info.content_address = Some(content_address(ContentMethod::Text, &hash));
            return Some(info);
        }
        for algorithm in HashAlgorithm::ALL {
            let hash = Hash::of(algorithm, &contents);
            let found = fixed_output_path(ContentMethod::Flat, &hash, name, &BTreeSet::new(), false);
            if found.ok().as_ref() == Some(path) {
                info.content_address = Some(content_address(ContentMethod::Flat, &hash));
                return Some(info);
            }
        }
    }
    let mut others = scanned.references.clone();
    let own = others.remove(path);
    let address = if own {
        hash_modulo_self(real, path, HashAlgorithm::Sha256, SelfReferences::Blanked).ok()?.0
    } else {
        scanned.nar_hash
    };
    if fixed_output_path(ContentMethod::Recursive, &address, name, &others, own).ok().as_ref() == Some(path) {
        info.references = scanned.references.clone();
        info.content_address = Some(content_address(ContentMethod::Recursive, &address));
        return Some(info);
    }
    for algorithm in HashAlgorithm::ALL.into_iter().filter(|algorithm| *algorithm != HashAlgorithm::Sha256) {
        let hash = nar::hash_path(real, algorithm).ok()?.0;
        let found = fixed_output_path(ContentMethod::Recursive, &hash, name, &BTreeSet::new(), false);
        if found.ok().as_ref() == Some(path) {
            info.content_address = Some(content_address(ContentMethod::Recursive, &hash));
            return Some(info);
        }
    }
    None
}

/// Hash and bytes of a file that is not executable.
fn plain_file(real: &Path) -> Option<(Hash, Vec<u8>)> {
    let (parent, name) = (Dir::open(real.parent()?).ok()?, real.file_name()?);
    let stat = parent.metadata(name).ok()?;
    if crate::handle::Kind::of(&stat) != crate::handle::Kind::File || stat.st_mode & 0o100 != 0 {
        return None;
    }
    let mut contents = Vec::new();
    std::io::Read::read_to_end(&mut parent.open_file(name).ok()?, &mut contents).ok()?;
    let mut hasher = Hasher::new(HashAlgorithm::Sha256);
    hasher.update(&contents);
    Some((hasher.finish(), contents))
}
