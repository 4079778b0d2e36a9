//! Registration: making paths valid, many in one transaction. Their contents must be in place already.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{OptionalExtension, Transaction, params};

use super::open::Durability;
use super::query::SELECT_ID;
use super::{PathInfo, Store};
use crate::error::{Error, Result};
use crate::path::StorePath;

/// Outputs of derivations whose paths are known beforehand, by derivation.
pub(super) type KnownOutputs = BTreeMap<StorePath, Vec<(String, StorePath)>>;

impl Store {
    /// Makes paths valid in one transaction: all of them or none. What they refer to must be valid or among them.
    /// A path valid already gets its information replaced.
    pub fn register_valid_paths(&self, infos: &[PathInfo]) -> Result<()> {
        self.need_writable("register paths")?;
        let mut outputs = KnownOutputs::new();
        for info in infos.iter().filter(|info| info.path.is_derivation()) {
            let derivation = self.read_derivation(&info.path)?;
            outputs.insert(info.path.clone(), known_outputs(&derivation));
        }
        self.register_with_outputs(infos, &outputs)
    }

    pub(super) fn register_with_outputs(&self, infos: &[PathInfo], outputs: &KnownOutputs) -> Result<()> {
        if infos.is_empty() {
            return Ok(());
        }
        if self.durability == Durability::Safe {
            rustix::fs::syncfs(&self.contents).map_err(|errno| self.contents.error("flush", "", errno))?;
        }
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs() as i64);
        self.database.write("register paths", |transaction| {
            let mut batch = Batch { store: self, transaction, now_s, ids: HashMap::new() };
            for info in infos {
                batch.insert(info)?;
            }
            for info in infos {
                batch.refer(info)?;
            }
            for (derivation, outputs) in outputs {
                batch.outputs(derivation, outputs)?;
            }
            Ok(())
        })
    }

    /// Adds signatures to a valid path.
    pub fn add_signatures(&self, path: &StorePath, signatures: &[String]) -> Result<()> {
        self.need_writable("add signatures")?;
        self.database.write("add signatures", |transaction| {
            let info = self.info_in(transaction, path)?;
            let info = info.ok_or_else(|| Error::NotValid { path: path.to_string() })?;
            let all: BTreeSet<&str> = info.signatures.iter().chain(signatures).map(String::as_str).collect();
            let text = all.into_iter().collect::<Vec<_>>().join(" ");
            transaction
                .prepare_cached("UPDATE ValidPaths SET sigs = ?2 WHERE path = ?1")
                .and_then(|mut statement| statement.execute(params![path.to_string(), text]))
                .map_err(|source| self.database.error("add signatures", source))?;
            Ok(())
        })
    }
}

pub(super) fn known_outputs(derivation: &crate::derivation::Derivation) -> Vec<(String, StorePath)> {
    let outputs = derivation.outputs.iter();
    outputs.filter_map(|(name, output)| Some((name.clone(), output.path()?.clone()))).collect()
}

struct Batch<'a> {
    store: &'a Store,
    transaction: &'a Transaction<'a>,
    now_s: i64,
    ids: HashMap<StorePath, i64>,
}

impl Batch<'_> {
    fn fail(&self, source: rusqlite::Error) -> Error {
        self.store.database.error("register paths", source)
    }

    fn id(&mut self, path: &StorePath) -> Result<Option<i64>> {
        if let Some(id) = self.ids.get(path) {
            return Ok(Some(*id));
        }
        let id: Option<i64> = self
            .transaction
            .prepare_cached(SELECT_ID)
            .and_then(|mut statement| statement.query_row([path.to_string()], |row| row.get(0)).optional())
            .map_err(|source| self.fail(source))?;
        if let Some(id) = id {
            self.ids.insert(path.clone(), id);
        }
        Ok(id)
    }

    fn insert(&mut self, info: &PathInfo) -> Result<()> {
        let time_s = if info.registration_time_s == 0 { self.now_s } else { info.registration_time_s };
        let values = params![
            info.path.to_string(),
            info.nar_hash.to_prefixed_hex(),
            time_s,
            info.deriver.as_ref().map(StorePath::to_string),
            i64::try_from(info.nar_size).unwrap_or(i64::MAX),
            info.ultimate.then_some(1),
            (!info.signatures.is_empty()).then(|| info.signatures.join(" ")),
            info.content_address,
        ];
        // The row's number is not part of the format: an update must keep it, or references would dangle.
        let id: i64 = self
            .transaction
            .prepare_cached(
                "INSERT INTO ValidPaths (path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (path) DO UPDATE SET hash = excluded.hash, \
                 deriver = coalesce(excluded.deriver, deriver), narSize = excluded.narSize, \
                 ultimate = excluded.ultimate, sigs = excluded.sigs, ca = excluded.ca RETURNING id",
            )
            .and_then(|mut statement| statement.query_row(values, |row| row.get(0)))
            .map_err(|source| self.fail(source))?;
        self.ids.insert(info.path.clone(), id);
        Ok(())
    }

    fn refer(&mut self, info: &PathInfo) -> Result<()> {
        let referrer = self.ids[&info.path];
        for reference in &info.references {
            let id = self.id(reference)?.ok_or_else(|| Error::MissingReference {
                path: info.path.to_string(),
                reference: reference.to_string(),
            })?;
            self.transaction
                .prepare_cached("INSERT OR IGNORE INTO Refs (referrer, reference) VALUES (?1, ?2)")
                .and_then(|mut statement| statement.execute([referrer, id]))
                .map_err(|source| self.fail(source))?;
        }
        Ok(())
    }

    fn outputs(&mut self, derivation: &StorePath, outputs: &[(String, StorePath)]) -> Result<()> {
        let drv = self.ids[derivation];
        for (name, path) in outputs {
            self.transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO DerivationOutputs (drv, id, path) VALUES (?1, ?2, ?3)",
                )
                .and_then(|mut statement| statement.execute(params![drv, name, path.to_string()]))
                .map_err(|source| self.fail(source))?;
        }
        Ok(())
    }
}
