//! Realisations: what the floating outputs of derivations turned out to be. Trusts its caller about what was
//! built.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use rusqlite::{OptionalExtension, params};

use super::Store;
use super::query::{SELECT_ID, stored_path};
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::path::StorePath;

/// Names one output of a derivation by the derivation's (masked) modulo hash: `sha256:<hex>!<output>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RealisationId {
    pub derivation_hash: Hash,
    pub output: String,
}

impl fmt::Display for RealisationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}!{}", self.derivation_hash.to_prefixed_hex(), self.output)
    }
}

impl FromStr for RealisationId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |reason: &str| Error::BadHash { text: text.to_owned(), reason: reason.to_owned() };
        let (hash, output) = text.split_once('!').ok_or_else(|| bad("it has no `!` and output"))?;
        crate::path::check_name(output)?;
        Ok(RealisationId { derivation_hash: Hash::parse_any(hash, None)?, output: output.to_owned() })
    }
}

/// One floating output, built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realisation {
    pub id: RealisationId,
    pub path: StorePath,
    pub signatures: Vec<String>,
}

impl Store {
    /// Remembers what outputs turned out to be, in one transaction. The paths must be valid. Where an output is
    /// known already, the first answer stays (its users are built on it), with the signatures of all who gave the same
    /// one; the answers in force are returned.
    pub fn register_realisations(
        &self,
        realisations: &[Realisation],
    ) -> Result<BTreeMap<RealisationId, StorePath>> {
        self.need_writable("register realisations")?;
        let fail = |source| self.database.error("register realisations", source);
        self.database.write("register realisations", |transaction| {
            let mut in_force = BTreeMap::new();
            for realisation in realisations {
                let id = &realisation.id;
                if let Some((path, signatures)) = self.realisation_in(transaction, id).map_err(fail)? {
                    let path = stored_path(&path)?;
                    if path == realisation.path {
                        let known = signatures.unwrap_or_default();
                        self.sign_realisation(transaction, realisation, &known).map_err(fail)?;
                    }
                    in_force.insert(id.clone(), path);
                    continue;
                }
                let path: Option<i64> = transaction
                    .prepare_cached(SELECT_ID)
                    .and_then(|mut statement| {
                        statement.query_row([realisation.path.to_string()], |row| row.get(0)).optional()
                    })
                    .map_err(fail)?;
                let path = path.ok_or_else(|| Error::NotValid { path: realisation.path.to_string() })?;
                transaction
                    .prepare_cached(
                        "INSERT INTO Realisations (drvPath, outputName, outputPath, signatures) \
                         VALUES (?1, ?2, ?3, ?4)",
                    )
                    .and_then(|mut statement| {
                        let hash = id.derivation_hash.to_prefixed_hex();
                        statement.execute(params![hash, id.output, path, realisation.signatures.join(" ")])
                    })
                    .map_err(fail)?;
                in_force.insert(id.clone(), realisation.path.clone());
            }
            Ok(in_force)
        })
    }

    /// Adds signatures to those that are known.
    fn sign_realisation(
        &self,
        transaction: &rusqlite::Transaction<'_>,
        realisation: &Realisation,
        known: &str,
    ) -> rusqlite::Result<()> {
        let mut signatures: BTreeSet<&str> = known.split_whitespace().collect();
        let count = signatures.len();
        signatures.extend(realisation.signatures.iter().map(String::as_str));
        if signatures.len() == count {
            return Ok(());
        }
        let text = signatures.into_iter().collect::<Vec<_>>().join(" ");
        let (id, path) = (&realisation.id, realisation.path.to_string());
        transaction
            .prepare_cached(
                "UPDATE Realisations SET signatures = ?1 WHERE drvPath = ?2 AND outputName = ?3 \
                 AND outputPath = (SELECT id FROM ValidPaths WHERE path = ?4)",
            )?
            .execute(params![text, id.derivation_hash.to_prefixed_hex(), id.output, path])
            .map(drop)
    }

    /// What an output turned out to be, where that is known and still valid.
    pub fn query_realisation(&self, id: &RealisationId) -> Result<Option<Realisation>> {
        let row =
            self.database.with("look up a realisation", |connection| self.realisation_in(connection, id));
        let row = match row {
            // A store without the feature, opened read-only, has no such table and no realisations.
            Err(Error::Database { source: rusqlite::Error::SqliteFailure(_, Some(message)), .. })
                if message.contains("no such table") =>
            {
                None
            }
            other => other?,
        };
        row.map(|(path, signatures)| {
            Ok(Realisation {
                id: id.clone(),
                path: stored_path(&path)?,
                signatures: signatures.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            })
        })
        .transpose()
    }

    fn realisation_in(
        &self,
        connection: &rusqlite::Connection,
        id: &RealisationId,
    ) -> rusqlite::Result<Option<(String, Option<String>)>> {
        let mut statement = connection.prepare_cached(
            "SELECT v.path, r.signatures FROM Realisations r JOIN ValidPaths v ON r.outputPath = v.id \
             WHERE r.drvPath = ?1 AND r.outputName = ?2 ORDER BY r.id LIMIT 1",
        )?;
        let hash = id.derivation_hash.to_prefixed_hex();
        statement.query_row([&hash, &id.output], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(sha256:)?[0-9a-f]{0,64}!?[a-z/.]{0,5}") {
            if let Ok(id) = text.parse::<RealisationId>() {
                prop_assert_eq!(id.to_string().parse::<RealisationId>().unwrap(), id);
            }
        }

        #[test]
        fn every_id_reads_back(seed: Vec<u8>, output in "[a-z]{1,8}") {
            let id = RealisationId { derivation_hash: Hash::sha256(&seed), output };
            prop_assert_eq!(id.to_string().parse::<RealisationId>().unwrap(), id);
        }
    }

    #[test]
    fn stores_are_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Store>();
    }
}
