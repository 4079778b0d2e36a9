//! What uploads take, as it is on the disk: archives that wait for their entry, paths that are roots for having been
//! uploaded with their realisations, logs, and what is known of derivations that are not here. Takes no uploads.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rednix_store::Store;
use rednix_store::path::{StorePath, check_name};

use super::Shared;
use super::upload::Waiting;
use crate::limits::{ARCHIVE_NAME_BYTES, FILE_BYTES_MIN, PART_KEPT, REALISATION_BYTES, UPLOAD_KEPT};
use crate::realisation::Key;

/// How files begin that have no name yet.
pub const PART: &str = ".part-";

/// Where uploads are kept that are no paths.
pub struct Folders {
    pub uploads: PathBuf,
    pub traces: PathBuf,
    /// Second names of the logs that were uploaded: built here or uploaded, logs lie in the same place.
    pub logs: PathBuf,
    /// Links from the names of archives that were uploaded to the paths that were made of them.
    pub names: PathBuf,
}

impl Folders {
    pub fn of(store: &Store) -> Folders {
        let own = store.layout().own_state();
        Folders {
            uploads: own.join("uploads"),
            traces: own.join("build-trace-v2"),
            logs: own.join("uploaded-logs"),
            names: own.join("uploaded-names"),
        }
    }

    pub fn create(&self) -> crate::Result<()> {
        for folder in [&self.uploads, &self.traces, &self.logs, &self.names] {
            let created = std::fs::create_dir_all(folder);
            created.map_err(|error| crate::Error::io("create the folder", folder, error))?;
        }
        Ok(())
    }

    /// The path that was made of an archive of this name.
    pub fn uploaded_as(&self, name: &str) -> Option<StorePath> {
        let name = check_name(name).ok().map(|()| name)?;
        StorePath::from_basename(std::fs::read_link(self.names.join(name)).ok()?.to_str()?).ok()
    }

    /// Remembers the name of an archive; false where it is remembered. The name of equal contents is as good.
    pub fn remember(
        &self,
        name: &str,
        path: &StorePath,
        is_valid: impl Fn(&StorePath) -> bool,
    ) -> io::Result<bool> {
        let link = self.names.join(name);
        if self.uploaded_as(name).is_some_and(|known| is_valid(&known)) {
            return Ok(false);
        }
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match std::os::unix::fs::symlink(path.basename(), &link) {
            // Somebody else did the same.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|()| true),
        }
    }
}

/// Room that a small file takes.
pub fn file_room(bytes: u64) -> u64 {
    bytes.max(FILE_BYTES_MIN)
}

/// Bytes that uploads take, apart from those that are still coming. Removes what nobody has a use for on the way.
pub fn measure(store: &Store, folders: &Folders, waiting: &Waiting) -> crate::Result<u64> {
    let mut total = archives(&folders.uploads, waiting);
    for (path, metadata) in files(&folders.logs) {
        // The store's name of it is gone: it was removed.
        if metadata.nlink() < 2 {
            let _ = std::fs::remove_file(path);
        } else {
            total = total.saturating_add(file_room(metadata.len()));
        }
    }
    total = total.saturating_add(traces(store, &folders.traces)?);
    total = total.saturating_add(names(store, folders)?);
    let roots =
        std::fs::read_dir(store.layout().roots().join("rednix/cache")).into_iter().flatten().flatten();
    let names = roots.filter_map(|entry| entry.file_name().into_string().ok());
    let paths: BTreeSet<StorePath> = names.filter_map(|name| StorePath::from_basename(&name).ok()).collect();
    for (path, info) in store.path_infos(&paths)? {
        let realisations = store.realisations_of(&path)?.len() as u64;
        let room = file_room(info.nar_size).saturating_add(realisations * REALISATION_BYTES);
        total = total.saturating_add(room);
    }
    Ok(total)
}

/// The same for a server that runs.
pub fn sweep(shared: &Shared) {
    let measured = shared.quota.recount(|| measure(&shared.store, &shared.folders, &shared.waiting));
    if let Err(error) = measured {
        let message = format!("what uploads take could not be counted: {}", error.brief());
        shared.events.emit(rednix_events::Event::Warning { message });
    }
}

fn files(folder: &Path) -> impl Iterator<Item = (PathBuf, Metadata)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
}

fn is_older(metadata: &Metadata, limit: Duration) -> bool {
    let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age > limit)
}

fn archives(folder: &Path, waiting: &Waiting) -> u64 {
    let mut total = 0u64;
    for (path, metadata) in files(folder) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // One that is still coming has its room already.
        let is_part = name.starts_with(PART);
        let limit = if is_part { PART_KEPT } else { UPLOAD_KEPT };
        if !is_older(&metadata, limit) || !waiting.forget(&name, &path) {
            total = total.saturating_add(if is_part { 0 } else { metadata.len() });
        }
    }
    total
}

/// The name of an archive goes with what was made of it.
fn names(store: &Store, folders: &Folders) -> crate::Result<u64> {
    let mut total = 0u64;
    for entry in std::fs::read_dir(&folders.names).into_iter().flatten().flatten() {
        let path = entry.file_name().to_str().and_then(|name| folders.uploaded_as(name));
        let is_of_use = path.map_or(Ok(false), |path| store.is_valid(&path))?;
        if is_of_use || std::fs::remove_file(entry.path()).is_err() {
            total = total.saturating_add(ARCHIVE_NAME_BYTES);
        }
    }
    Ok(total)
}

/// What a derivation is known to be goes with the path.
fn traces(store: &Store, folder: &Path) -> crate::Result<u64> {
    let mut total = 0u64;
    for (path, metadata) in files(folder) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let place = name.replacen('^', "/", 1);
        let known = Key::parse(&format!("build-trace-v2/{place}"));
        let known = known.and_then(|key| key.read(&std::fs::read(&path).ok()?).ok());
        let is_of_use = match known {
            Some(known) => store.is_valid(&known.path)?,
            // One that is being written, or nothing of ours.
            None => !is_older(&metadata, PART_KEPT),
        };
        if is_of_use || std::fs::remove_file(&path).is_err() {
            total = total.saturating_add(file_room(metadata.len()));
        }
    }
    Ok(total)
}
