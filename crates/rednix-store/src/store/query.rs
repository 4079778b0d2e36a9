//! Reading the database: what is valid, and what refers to what. Writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Row};

use super::{PathInfo, Store};
use crate::derivation::Derivation;
use crate::error::{Error, Result};
use crate::hash::{Hash, HashAlgorithm};
use crate::limits::DERIVATION_BYTES_MAX;
use crate::path::{HASH_PART_LEN, STORE_DIR, StorePath};

const SELECT_INFO: &str = "SELECT id, hash, registrationTime, deriver, narSize, ultimate, sigs, ca \
                           FROM ValidPaths WHERE path = ?1";
const SELECT_REFERENCES: &str = "SELECT path FROM Refs JOIN ValidPaths ON reference = id WHERE referrer = ?1";
pub(super) const SELECT_ID: &str = "SELECT id FROM ValidPaths WHERE path = ?1";

/// A row's text columns, before they are understood.
struct RawInfo {
    id: i64,
    hash: String,
    registration_time_s: i64,
    deriver: Option<String>,
    nar_size: Option<i64>,
    ultimate: Option<i64>,
    signatures: Option<String>,
    content_address: Option<String>,
}

impl RawInfo {
    fn read(row: &Row<'_>) -> rusqlite::Result<RawInfo> {
        Ok(RawInfo {
            id: row.get(0)?,
            hash: row.get(1)?,
            registration_time_s: row.get(2)?,
            deriver: row.get(3)?,
            nar_size: row.get(4)?,
            ultimate: row.get(5)?,
            signatures: row.get(6)?,
            content_address: row.get(7)?,
        })
    }
}

impl Store {
    /// Whether the database knows the path; says nothing about its contents.
    pub fn is_valid(&self, path: &StorePath) -> Result<bool> {
        self.database.with("look up a path", |connection| {
            let mut statement = connection.prepare_cached(SELECT_ID)?;
            statement.exists([path.to_string()])
        })
    }

    /// Those of `paths` that are valid.
    pub fn valid_among<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a StorePath>,
    ) -> Result<BTreeSet<StorePath>> {
        let paths: Vec<&StorePath> = paths.into_iter().collect();
        self.database.with("look up paths", |connection| {
            let mut statement = connection.prepare_cached(SELECT_ID)?;
            let mut valid = BTreeSet::new();
            for path in paths {
                if statement.exists([path.to_string()])? {
                    valid.insert(path.clone());
                }
            }
            Ok(valid)
        })
    }

    pub fn path_info(&self, path: &StorePath) -> Result<Option<PathInfo>> {
        self.database.read("look up a path", |connection| self.info_in(connection, path))
    }

    /// Information about those of `paths` that are valid, as of one moment.
    pub fn path_infos<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a StorePath>,
    ) -> Result<BTreeMap<StorePath, PathInfo>> {
        self.database.read("look up paths", |connection| {
            let mut infos = BTreeMap::new();
            for path in paths {
                if let Some(info) = self.info_in(connection, path)? {
                    infos.insert(path.clone(), info);
                }
            }
            Ok(infos)
        })
    }

    pub(super) fn info_in(&self, connection: &Connection, path: &StorePath) -> Result<Option<PathInfo>> {
        let fail = |source| self.database.error("look up a path", source);
        let raw = connection
            .prepare_cached(SELECT_INFO)
            .and_then(|mut statement| statement.query_row([path.to_string()], RawInfo::read).optional())
            .map_err(fail)?;
        let Some(raw) = raw else { return Ok(None) };
        let references = connection
            .prepare_cached(SELECT_REFERENCES)
            .and_then(|mut statement| {
                statement.query_map([raw.id], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
            })
            .map_err(fail)?;
        let references = references.iter().map(|text| stored_path(text)).collect::<Result<_>>()?;
        understand(path, raw, references).map(Some)
    }

    pub fn references(&self, path: &StorePath) -> Result<BTreeSet<StorePath>> {
        let info = self.path_info(path)?;
        info.map(|info| info.references).ok_or_else(|| Error::NotValid { path: path.to_string() })
    }

    /// Valid paths that refer to this one.
    pub fn referrers(&self, path: &StorePath) -> Result<BTreeSet<StorePath>> {
        self.paths_by(
            "look up referrers",
            "SELECT path FROM Refs JOIN ValidPaths ON referrer = id \
             WHERE reference = (SELECT id FROM ValidPaths WHERE path = ?1)",
            &path.to_string(),
        )
    }

    /// Valid derivations that have this path as an output known beforehand.
    pub fn valid_derivers(&self, path: &StorePath) -> Result<BTreeSet<StorePath>> {
        self.paths_by(
            "look up derivations",
            "SELECT v.path FROM DerivationOutputs d JOIN ValidPaths v ON d.drv = v.id WHERE d.path = ?1",
            &path.to_string(),
        )
    }

    /// Every valid path.
    pub fn all_valid_paths(&self) -> Result<BTreeSet<StorePath>> {
        self.paths_by("list the paths", "SELECT path FROM ValidPaths WHERE ?1 = ''", "")
    }

    fn paths_by(&self, operation: &'static str, query: &str, argument: &str) -> Result<BTreeSet<StorePath>> {
        let texts = self.database.with(operation, |connection| {
            let mut statement = connection.prepare_cached(query)?;
            statement.query_map([argument], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        })?;
        texts.iter().map(|text| stored_path(text)).collect()
    }

    /// The outputs of a valid derivation whose paths are known beforehand.
    pub fn derivation_outputs(&self, derivation: &StorePath) -> Result<BTreeMap<String, StorePath>> {
        let rows = self.database.with("look up outputs", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT d.id, d.path FROM DerivationOutputs d JOIN ValidPaths v ON d.drv = v.id WHERE v.path = ?1",
            )?;
            statement
                .query_map([derivation.to_string()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
                .collect::<Result<Vec<_>, _>>()
        })?;
        rows.into_iter().map(|(id, path)| Ok((id, stored_path(&path)?))).collect()
    }

    /// The valid path with this hash part.
    pub fn path_from_hash_part(&self, hash_part: &str) -> Result<Option<StorePath>> {
        if hash_part.len() != HASH_PART_LEN {
            return Ok(None);
        }
        let prefix = format!("{STORE_DIR}/{hash_part}");
        let found = self.database.with("look up a hash part", |connection| {
            let mut statement =
                connection.prepare_cached("SELECT path FROM ValidPaths WHERE path >= ?1 LIMIT 1")?;
            statement.query_row([&prefix], |row| row.get::<_, String>(0)).optional()
        })?;
        found.filter(|path| path.starts_with(&prefix)).map(|path| stored_path(&path)).transpose()
    }

    /// `paths` and everything they refer to, directly or not. All must be valid.
    pub fn closure<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a StorePath>,
    ) -> Result<BTreeMap<StorePath, PathInfo>> {
        self.database.read("look up a closure", |connection| {
            let mut pending: Vec<StorePath> = paths.into_iter().cloned().collect();
            let mut closure = BTreeMap::new();
            while let Some(path) = pending.pop() {
                if closure.contains_key(&path) {
                    continue;
                }
                let info = self
                    .info_in(connection, &path)?
                    .ok_or_else(|| Error::NotValid { path: path.to_string() })?;
                pending.extend(info.references.iter().filter(|path| !closure.contains_key(*path)).cloned());
                closure.insert(path, info);
            }
            Ok(closure)
        })
    }

    /// Reads a valid derivation.
    pub fn read_derivation(&self, path: &StorePath) -> Result<Derivation> {
        let real = self.real_path(path);
        let text = match std::fs::metadata(&real) {
            Ok(metadata) if metadata.len() > DERIVATION_BYTES_MAX as u64 => {
                let reason = format!("it has more than {DERIVATION_BYTES_MAX} bytes");
                return Err(Error::BadDerivation { name: path.name().to_owned(), offset: 0, reason });
            }
            Ok(_) => std::fs::read(&real).map_err(|error| Error::io("read the derivation", &real, error))?,
            Err(error) => return Err(Error::io("read the derivation", &real, error)),
        };
        Derivation::parse_at(path, &text)
    }
}

/// A path as the database spells it.
pub(super) fn stored_path(text: &str) -> Result<StorePath> {
    StorePath::parse(text).map_err(|error| corrupt("a path", error))
}

fn corrupt(place: &str, error: Error) -> Error {
    Error::Corrupt { place: place.to_owned(), reason: error.to_string() }
}

fn understand(path: &StorePath, raw: RawInfo, references: BTreeSet<StorePath>) -> Result<PathInfo> {
    let nar_hash = Hash::parse_any(&raw.hash, Some(HashAlgorithm::Sha256))
        .map_err(|error| corrupt(&format!("the hash of `{path}`"), error))?;
    let deriver = raw.deriver.as_deref().filter(|text| !text.is_empty()).map(stored_path).transpose()?;
    Ok(PathInfo {
        path: path.clone(),
        nar_hash,
        nar_size: raw.nar_size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        references,
        deriver,
        registration_time_s: raw.registration_time_s,
        ultimate: raw.ultimate == Some(1),
        signatures: raw.signatures.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
        content_address: raw.content_address.filter(|text| !text.is_empty()),
    })
}
