//! The archive's tables: what is archived, of which chunks, in which blocks. Compresses and cuts nothing.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use super::super::database::Database;
use super::{Archive, ArchiveSizes, ArchivedPath};
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::limits::CHUNKS_MAX;
use crate::path::StorePath;
use crate::store::{PathInfo, Realisation, RealisationId};

/// Version of the tables, kept in the file's own header.
const VERSION: u32 = 2;

const TABLES: &str = "
CREATE TABLE blocks (id INTEGER PRIMARY KEY, bytes INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE chunks (id INTEGER PRIMARY KEY, hash BLOB UNIQUE NOT NULL, block INTEGER NOT NULL,
    offset INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE paths (path TEXT PRIMARY KEY NOT NULL, narSize INTEGER NOT NULL, info TEXT NOT NULL,
    recipe BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE realisations (id TEXT PRIMARY KEY NOT NULL, path TEXT NOT NULL, signatures TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX realisationsOfPath ON realisations(path);
";

/// What version 2 added: blocks compressed against a part of another block, and what tells versions of one thing.
const SINCE_2: &str = "
ALTER TABLE blocks ADD COLUMN base INTEGER;
ALTER TABLE blocks ADD COLUMN baseFrom INTEGER;
ALTER TABLE blocks ADD COLUMN baseBytes INTEGER;
ALTER TABLE blocks ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
ALTER TABLE paths ADD COLUMN kind TEXT;
ALTER TABLE paths ADD COLUMN number INTEGER;
CREATE INDEX pathsOfKind ON paths(kind, number);
";

/// Older paths of one kind that are looked at for the one most like a new path.
const OLDER_MAX: u32 = 16;

/// What a path was registered with, as text.
#[derive(Serialize, Deserialize)]
struct Info {
    nar_hash: String,
    nar_size: u64,
    references: Vec<String>,
    deriver: Option<String>,
    ultimate: bool,
    signatures: Vec<String>,
    content_address: Option<String>,
}

impl Archive {
    pub fn open(file: &Path, read_only: bool) -> Result<Archive> {
        if read_only {
            return Archive { database: Database::open_read_only(file)? }.checked(file);
        }
        let database = Database::open(file)?;
        database.set_up(|connection| {
            let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            if version == 0 {
                connection.execute_batch("PRAGMA auto_vacuum = incremental; VACUUM")?;
            }
            if version < VERSION {
                // Another process may be doing the same.
                let transaction =
                    connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
                let version: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
                if version == 0 {
                    transaction.execute_batch(TABLES)?;
                }
                if version < 2 {
                    transaction.execute_batch(SINCE_2)?;
                }
                transaction.pragma_update(None, "user_version", VERSION.max(version))?;
                transaction.commit()?;
            }
            Ok(())
        })?;
        Archive { database }.checked(file)
    }

    fn checked(self, file: &Path) -> Result<Archive> {
        let version: u32 = self.database.with("read the archive's version", |connection| {
            connection.query_row("PRAGMA user_version", [], |row| row.get(0))
        })?;
        if version < VERSION {
            return Err(Error::OlderSchema {
                root: file.to_path_buf(),
                what: "archive",
                found: version.to_string(),
                known: VERSION,
            });
        }
        if version > VERSION {
            return Err(Error::NewerSchema {
                root: file.to_path_buf(),
                what: "archive",
                found: version.to_string(),
                known: VERSION,
            });
        }
        Ok(self)
    }

    /// Moves what is in the log into the file, so that it is on the disk once. A reader elsewhere may prevent it;
    /// the next time does it.
    pub fn shorten_log(&self) {
        let _ = self
            .database
            .set_up(|connection| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    }

    pub(super) fn fail(&self, source: rusqlite::Error) -> Error {
        self.database.error("use the archive", source)
    }

    pub fn put(&self, transaction: &Transaction<'_>, info: &PathInfo, recipe: &[u64]) -> Result<()> {
        let text = Info {
            nar_hash: info.nar_hash.to_prefixed_hex(),
            nar_size: info.nar_size,
            references: info.references.iter().map(StorePath::to_string).collect(),
            deriver: info.deriver.as_ref().map(StorePath::to_string),
            ultimate: info.ultimate,
            signatures: info.signatures.clone(),
            content_address: info.content_address.clone(),
        };
        let text = serde_json::to_string(&text).expect("information is plain data");
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO paths (path, narSize, info, recipe, kind, number) \
                 VALUES (?1, ?2, ?3, ?4, ?5, (SELECT coalesce(max(number), 0) + 1 FROM paths WHERE kind = ?5))",
            )
            .and_then(|mut statement| {
                let size = i64::try_from(info.nar_size).unwrap_or(i64::MAX);
                let kind = kind_of(info.path.name());
                statement.execute(params![info.path.to_string(), size, text, encode(recipe), kind])
            })
            .map_err(|source| self.fail(source))?;
        Ok(())
    }

    pub fn put_realisations(&self, transaction: &Transaction<'_>, all: &[Realisation]) -> Result<()> {
        for one in all {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO realisations (id, path, signatures) VALUES (?1, ?2, ?3)",
                )
                .and_then(|mut statement| {
                    let signatures = one.signatures.join(" ");
                    statement.execute(params![one.id.to_string(), one.path.to_string(), signatures])
                })
                .map_err(|source| self.fail(source))?;
        }
        Ok(())
    }

    pub fn info_in(&self, connection: &Connection, path: &StorePath) -> Result<Option<ArchivedPath>> {
        let text: Option<String> = connection
            .prepare_cached("SELECT info FROM paths WHERE path = ?1")
            .and_then(|mut statement| statement.query_row([path.to_string()], |row| row.get(0)).optional())
            .map_err(|source| self.fail(source))?;
        let Some(text) = text else { return Ok(None) };
        let bad = |reason: String| Error::Corrupt { place: format!("the archive at `{path}`"), reason };
        let info: Info = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        let rows = connection
            .prepare_cached("SELECT id, signatures FROM realisations WHERE path = ?1")
            .and_then(|mut statement| {
                statement
                    .query_map([path.to_string()], |row| {
                        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
                    })?
                    .collect::<Result<Vec<_>, _>>()
            })
            .map_err(|source| self.fail(source))?;
        let realisation = |(id, signatures): (String, String)| {
            Ok(Realisation {
                id: id.parse()?,
                path: path.clone(),
                signatures: signatures.split_whitespace().map(str::to_owned).collect(),
            })
        };
        let info = PathInfo {
            path: path.clone(),
            nar_hash: Hash::parse_any(&info.nar_hash, None)?,
            nar_size: info.nar_size,
            references: info.references.iter().map(|text| StorePath::parse(text)).collect::<Result<_>>()?,
            deriver: info.deriver.as_deref().map(StorePath::parse).transpose()?,
            registration_time_s: 0,
            ultimate: info.ultimate,
            signatures: info.signatures,
            content_address: info.content_address,
        };
        Ok(Some(ArchivedPath {
            info,
            realisations: rows.into_iter().map(realisation).collect::<Result<_>>()?,
        }))
    }

    pub fn recipe_in(&self, connection: &Connection, path: &StorePath) -> Result<Vec<u64>> {
        let bytes: Option<Vec<u8>> = connection
            .prepare_cached("SELECT recipe FROM paths WHERE path = ?1")
            .and_then(|mut statement| statement.query_row([path.to_string()], |row| row.get(0)).optional())
            .map_err(|source| self.fail(source))?;
        let bytes = bytes.ok_or_else(|| Error::NotValid { path: path.to_string() })?;
        decode(&bytes).ok_or_else(|| Error::Corrupt {
            place: format!("the archive at `{path}`"),
            reason: "its list of chunks cannot be read".to_owned(),
        })
    }

    /// The chunks of the archived path that is most like a new one: of those of its kind archived last, the youngest of
    /// about its size, else the one whose size is nearest.
    pub fn older_in(&self, connection: &Connection, info: &PathInfo) -> Result<Option<Vec<u64>>> {
        let rows = connection
            .prepare_cached("SELECT narSize, path FROM paths WHERE kind = ?1 ORDER BY number DESC LIMIT ?2")
            .and_then(|mut statement| {
                statement
                    .query_map(params![kind_of(info.path.name()), OLDER_MAX], |row| {
                        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
                    })?
                    .collect::<Result<Vec<_>, _>>()
            })
            .map_err(|source| self.fail(source))?;
        let size = i64::try_from(info.nar_size).unwrap_or(i64::MAX);
        let about = size.unsigned_abs() / 8;
        let distance = |other: i64| other.abs_diff(size).max(about);
        // The first of those that are equally near: the youngest.
        let nearest = rows.into_iter().min_by_key(|(other, _)| distance(*other));
        let Some((_, path)) = nearest else { return Ok(None) };
        self.recipe_in(connection, &StorePath::parse(&path)?).map(Some)
    }

    pub fn paths(&self) -> Result<BTreeMap<StorePath, u64>> {
        let rows = self.database.with("list the archive", |connection| {
            connection
                .prepare_cached("SELECT path, narSize FROM paths")?
                .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?
                .collect::<Result<Vec<_>, _>>()
        })?;
        rows.into_iter()
            .map(|(path, size)| Ok((StorePath::parse(&path)?, u64::try_from(size).unwrap_or(0))))
            .collect()
    }

    pub fn sizes(&self) -> Result<ArchiveSizes> {
        self.database.with("measure the archive", |connection| {
            let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0));
            let pages = number("PRAGMA page_count")? - number("PRAGMA freelist_count")?;
            Ok(ArchiveSizes {
                paths: number("SELECT count(*) FROM paths")? as u64,
                nar_bytes: number("SELECT coalesce(sum(narSize), 0) FROM paths")? as u64,
                stored_bytes: (pages * number("PRAGMA page_size")?) as u64,
                chunks: number("SELECT count(*) FROM chunks")? as u64,
            })
        })
    }

    pub fn realisation(&self, id: &RealisationId) -> Result<Option<StorePath>> {
        let path: Option<String> = self.database.with("look up a realisation", |connection| {
            connection
                .prepare_cached("SELECT path FROM realisations WHERE id = ?1")?
                .query_row([id.to_string()], |row| row.get(0))
                .optional()
        })?;
        path.map(|path| StorePath::parse(&path)).transpose()
    }

    pub fn forget<'a>(&self, paths: impl IntoIterator<Item = &'a StorePath>) -> Result<u64> {
        let mut forgotten = 0;
        self.database.write_through("delete archived paths", |transaction| {
            let fail = |source| self.fail(source);
            for path in paths {
                let path = path.to_string();
                forgotten +=
                    transaction.execute("DELETE FROM paths WHERE path = ?1", [&path]).map_err(fail)? as u64;
                transaction.execute("DELETE FROM realisations WHERE path = ?1", [&path]).map_err(fail)?;
            }
            let mut used: HashSet<u64> = HashSet::new();
            let mut statement = transaction.prepare("SELECT recipe FROM paths").map_err(fail)?;
            let mut rows = statement.query([]).map_err(fail)?;
            while let Some(row) = rows.next().map_err(fail)? {
                let recipe: Vec<u8> = row.get(0).map_err(fail)?;
                // Deleting on the word of a list that cannot be read would delete too much.
                let recipe = decode(&recipe).ok_or_else(|| Error::Corrupt {
                    place: "the archive".to_owned(),
                    reason: "a list of chunks cannot be read".to_owned(),
                })?;
                used.extend(recipe);
            }
            let mut statement = transaction.prepare("SELECT id FROM chunks").map_err(fail)?;
            let all: Vec<i64> =
                statement.query_map([], |row| row.get(0)).and_then(|rows| rows.collect()).map_err(fail)?;
            for id in all.into_iter().filter(|id| !used.contains(&(*id as u64))) {
                transaction
                    .prepare_cached("DELETE FROM chunks WHERE id = ?1")
                    .and_then(|mut statement| statement.execute([id]))
                    .map_err(fail)?;
            }
            // What others are compressed against stays, and what that is compressed against.
            let unused = "WITH RECURSIVE used(id) AS (SELECT block FROM chunks UNION \
                SELECT base FROM blocks JOIN used USING (id) WHERE base IS NOT NULL) \
                DELETE FROM blocks WHERE id NOT IN (SELECT id FROM used)";
            transaction.execute(unused, []).map_err(fail)?;
            Ok(())
        })?;
        // Gives the room back; where somebody reads, the next time does.
        let _ = self.database.set_up(|connection| connection.execute_batch("PRAGMA incremental_vacuum"));
        self.shorten_log();
        Ok(forgotten)
    }
}

/// What versions of one thing have in common: the name without the parts that begin with a digit.
fn kind_of(name: &str) -> String {
    let parts = name.split('-').filter(|part| !part.starts_with(|first: char| first.is_ascii_digit()));
    parts.collect::<Vec<_>>().join("-")
}

/// Chunk numbers mostly follow each other: differences from "the next one", small either way, seven bits a byte.
pub fn encode(recipe: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(recipe.len());
    let mut expected = 0u64;
    for number in recipe {
        let difference = number.wrapping_sub(expected) as i64;
        let mut value = ((difference << 1) ^ (difference >> 63)) as u64;
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                bytes.push(low);
                break;
            }
            bytes.push(low | 0x80);
        }
        expected = number.wrapping_add(1);
    }
    bytes
}

pub fn decode(bytes: &[u8]) -> Option<Vec<u64>> {
    let mut recipe = Vec::new();
    let (mut expected, mut value, mut shift) = (0u64, 0u64, 0u32);
    for byte in bytes {
        if shift > 63 || recipe.len() >= CHUNKS_MAX {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            let difference = (value >> 1) as i64 ^ -((value & 1) as i64);
            let number = expected.wrapping_add(difference as u64);
            recipe.push(number);
            (expected, value, shift) = (number.wrapping_add(1), 0, 0);
        }
    }
    (shift == 0).then_some(recipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn kinds() {
        for (name, kind) in [
            ("ion", "ion"),
            ("ruff-0.11.2", "ruff"),
            ("lib-2-dev", "lib-dev"),
            ("7zip-1", ""),
            ("x-1.2.drv", "x"),
        ] {
            assert_eq!(kind_of(name), kind, "{name}");
        }
    }

    proptest! {
        #[test]
        fn recipes_read_back(recipe: Vec<u64>) {
            prop_assert_eq!(decode(&encode(&recipe)), Some(recipe));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Some(recipe) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&recipe)), Some(recipe));
            }
        }

        /// Cutting in pieces cuts where cutting at once does.
        #[test]
        fn cuts_do_not_depend_on_how_bytes_arrive(seed: u64, pieces in prop::collection::vec(1usize..200_000, 1..8)) {
            let mut state = seed | 1;
            let total: usize = pieces.iter().sum();
            let bytes: Vec<u8> = (0..total).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            }).collect();
            let whole = super::super::cut(&bytes, true);
            let (mut lengths, mut buffer, mut at) = (Vec::new(), Vec::new(), 0);
            for piece in pieces {
                buffer.extend_from_slice(&bytes[at..at + piece]);
                at += piece;
                let cut = super::super::cut(&buffer, false);
                buffer.drain(..cut.iter().sum::<usize>());
                lengths.extend(cut);
            }
            lengths.extend(super::super::cut(&buffer, true));
            prop_assert_eq!(lengths, whole);
        }
    }
}
