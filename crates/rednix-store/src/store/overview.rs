//! What a cache tells and copies about a store as a whole: totals, the newest paths, realisations by path. Changes
//! nothing.

use rusqlite::{OptionalExtension, params};

use super::query::stored_path;
use super::{Realisation, Store};
use crate::error::Result;
use crate::path::StorePath;

/// Everything valid, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub paths: u64,
    /// Of all archives together.
    pub nar_bytes: u64,
}

/// Rows of the database seen so far; the beginning is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    path: i64,
    realisation: i64,
}

impl Store {
    pub fn totals(&self) -> Result<Totals> {
        self.database.with("count paths", |connection| {
            connection.query_row("SELECT count(*), coalesce(sum(narSize), 0) FROM ValidPaths", [], |row| {
                let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
                Ok(Totals { paths: unsigned(row.get(0)?), nar_bytes: unsigned(row.get(1)?) })
            })
        })
    }

    /// Valid paths, the last registered first, without derivations.
    pub fn newest_paths(&self, count: usize) -> Result<Vec<StorePath>> {
        let texts = self.database.with("look up the newest paths", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT path FROM ValidPaths WHERE path NOT LIKE '%.drv' \
                 ORDER BY id DESC LIMIT ?1",
            )?;
            let rows = statement.query_map([i64::try_from(count).unwrap_or(i64::MAX)], |row| row.get(0))?;
            rows.collect::<Result<Vec<String>, _>>()
        })?;
        texts.iter().map(|text| stored_path(text)).collect()
    }

    /// Everything that this path is the output of, as far as realisations say.
    pub fn realisations_of(&self, path: &StorePath) -> Result<Vec<Realisation>> {
        self.realisation_rows("WHERE v.path = ?1", &path.to_string())
    }

    /// Paths and realisations registered since, in that order, and where the next look begins.
    pub fn registered_since(&self, seen: Seen) -> Result<(Vec<StorePath>, Vec<Realisation>, Seen)> {
        let latest = |table: &'static str| {
            self.database.with("look for new paths", move |connection| {
                // Before 2.4 of C++ Nix, and in its stores without the feature, there are no realisations.
                let sql = format!("SELECT coalesce(max(id), 0) FROM {table}");
                match connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).optional() {
                    Ok(found) => Ok(found.unwrap_or(0)),
                    Err(error) if error.to_string().contains("no such table") => Ok(0),
                    Err(error) => Err(error),
                }
            })
        };
        let now = Seen { path: latest("ValidPaths")?, realisation: latest("Realisations")? };
        let texts = self.database.with("look for new paths", |connection| {
            let mut statement = connection
                .prepare_cached("SELECT path FROM ValidPaths WHERE id > ?1 AND id <= ?2 ORDER BY id")?;
            let rows = statement.query_map(params![seen.path, now.path], |row| row.get(0))?;
            rows.collect::<Result<Vec<String>, _>>()
        })?;
        let paths = texts.iter().map(|text| stored_path(text)).collect::<Result<_>>()?;
        let realisations = match now.realisation > seen.realisation {
            true => self.realisation_rows("WHERE r.id > ?1", &seen.realisation)?,
            false => Vec::new(),
        };
        Ok((paths, realisations, now))
    }

    fn realisation_rows(&self, which: &str, value: &dyn rusqlite::ToSql) -> Result<Vec<Realisation>> {
        let sql = format!(
            "SELECT r.drvPath, r.outputName, v.path, r.signatures FROM Realisations r \
             JOIN ValidPaths v ON r.outputPath = v.id {which} ORDER BY r.id"
        );
        let rows = self.database.with("look up realisations", |connection| {
            let mut statement = match connection.prepare_cached(&sql) {
                Err(error) if error.to_string().contains("no such table") => return Ok(Vec::new()),
                other => other?,
            };
            let rows = statement.query_map([value], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, Option<String>>(3)?))
            })?;
            rows.collect::<Result<Vec<(String, String, String, Option<String>)>, _>>()
        })?;
        rows.into_iter()
            .map(|(hash, output, path, signatures)| {
                Ok(Realisation {
                    id: format!("{hash}!{output}").parse()?,
                    path: stored_path(&path)?,
                    signatures: signatures
                        .unwrap_or_default()
                        .split_whitespace()
                        .map(str::to_owned)
                        .collect(),
                })
            })
            .collect()
    }
}
