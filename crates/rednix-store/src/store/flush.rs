//! What survives a power cut: a mark says up to which row contents are known to be on the disk, and in which start
//! of the machine that was written. The first opening after another start hashes what is younger and takes back
//! what is not whole. Flushes nothing while paths are added: that would cost every build a wait for the disk.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

use super::protocol::{self, Flushing, Recovering, at_once};
use super::query::stored_path;
use super::{GcGuard, Store};
use crate::error::{Error, Result};
use crate::path::StorePath;

/// Version of the mark's file.
const MARK_VERSION: u32 = 1;
/// Changes with every start of the kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    version: u32,
    /// The kernel's name for this start of the machine.
    start: String,
    /// Contents of rows up to this one are on the disk.
    row: i64,
}

impl Store {
    /// Makes what is registered by now survive a power cut, and notes that it does.
    pub fn flush(&self) -> Result<()> {
        self.need_writable("flush")?;
        at_once(protocol::flush(&mut Power { store: self, start: this_start() }))
    }

    /// [`Store::flush`] where something was registered since the last one.
    pub fn flush_if_needed(&self) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        let mut power = Power { store: self, start: this_start() };
        let marked = self.read_mark()?.map_or(0, |mark| mark.row);
        if at_once(power.youngest_row())? > marked { at_once(protocol::flush(&mut power)) } else { Ok(()) }
    }

    /// Called on opening. Nothing to do costs reading two small files.
    pub(super) fn recover_from_power_cut(&self) -> Result<()> {
        let mut power = Power { store: self, start: this_start() };
        if self.read_mark()?.is_none() {
            // A new store, or one that was kept without marks so far: there is nothing to hold against it.
            let row = at_once(power.youngest_row())?;
            return at_once(power.mark(row));
        }
        at_once(protocol::recover(&mut power))
    }

    fn mark_file(&self) -> PathBuf {
        self.layout.own_state().join("flushed.json")
    }

    /// A mark that cannot be understood says nothing is known to be flushed.
    fn read_mark(&self) -> Result<Option<Mark>> {
        let path = self.mark_file();
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::io("read", &path, error))?,
        };
        let unknown = Mark { version: MARK_VERSION, start: String::new(), row: 0 };
        let mark: Mark = serde_json::from_slice(&text).unwrap_or_else(|_| unknown.clone());
        Ok(Some(if mark.version == MARK_VERSION { mark } else { unknown }))
    }

    /// For tests: makes the store look as if the machine had been started anew since the last flush.
    #[doc(hidden)]
    pub fn pretend_restart(&self) -> Result<()> {
        let mark = self.read_mark()?.unwrap_or(Mark { version: 1, start: String::new(), row: 0 });
        at_once(Power { store: self, start: "another".to_owned() }.mark(mark.row))
    }
}

/// Nothing, where the kernel has no such file: then no start is told from another, as before there were marks.
fn this_start() -> String {
    std::fs::read_to_string(BOOT_ID).map(|text| text.trim().to_owned()).unwrap_or_default()
}

struct Power<'a> {
    store: &'a Store,
    start: String,
}

impl Flushing for Power<'_> {
    type Error = Error;

    async fn youngest_row(&mut self) -> Result<i64> {
        self.store.database.with("look up the youngest path", |connection| {
            connection.query_row("SELECT coalesce(max(id), 0) FROM ValidPaths", [], |row| row.get(0))
        })
    }

    async fn flush_contents(&mut self) -> Result<()> {
        let contents = &self.store.contents;
        rustix::fs::syncfs(contents).map_err(|errno| contents.error("flush", "", errno))
    }

    async fn mark(&mut self, row: i64) -> Result<()> {
        let path = self.store.mark_file();
        let folder = self.store.layout.own_state();
        std::fs::create_dir_all(&folder).map_err(|error| Error::io("create the folder", &folder, error))?;
        let temporary = path.with_file_name(super::scratch::unique_name("flushed"));
        let mark = Mark { version: MARK_VERSION, start: self.start.clone(), row };
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(serde_json::to_string(&mark).expect("a mark is plain data").as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)
        });
        written.map_err(|error| {
            let _ = std::fs::remove_file(&temporary);
            Error::io("write", &path, error)
        })
    }
}

impl Recovering for Power<'_> {
    type Lock = GcGuard;
    type Path = StorePath;

    async fn is_marked_before_start(&mut self) -> Result<bool> {
        Ok(self.store.read_mark()?.is_some_and(|mark| mark.start != self.start))
    }

    async fn lock_all(&mut self) -> Result<GcGuard> {
        self.store.lock_for_collection()
    }

    async fn damaged(&mut self) -> Result<Vec<StorePath>> {
        let row = self.store.read_mark()?.map_or(0, |mark| mark.row);
        let young = self.store.database.with("look up young paths", |connection| {
            let mut statement = connection.prepare("SELECT path FROM ValidPaths WHERE id > ?1")?;
            statement.query_map([row], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        })?;
        let young = young.iter().map(|text| stored_path(text)).collect::<Result<BTreeSet<_>>>()?;
        let wrong = self.store.problems_among(&young)?.into_iter().map(|problem| problem.path().clone());
        self.store.with_referrers(wrong)
    }

    async fn unregister(&mut self, paths: &[StorePath]) -> Result<()> {
        if !paths.is_empty() {
            self.store.notice(format!(
                "the machine ended without writing everything to the disk: {} store paths are not whole and will be made again",
                paths.len()
            ));
        }
        self.store.unregister(paths)
    }
}

impl Store {
    /// `paths` and everything that refers to them, directly or not; referrers first.
    pub(super) fn with_referrers(
        &self,
        paths: impl IntoIterator<Item = StorePath>,
    ) -> Result<Vec<StorePath>> {
        let (mut found, mut pending): (BTreeSet<StorePath>, Vec<StorePath>) =
            (BTreeSet::new(), paths.into_iter().collect());
        while let Some(path) = pending.pop() {
            if found.insert(path.clone()) {
                pending.extend(self.referrers(&path)?);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Takes rows away, through a power cut: paths that only each other refer to. Contents stay where they are.
    pub(super) fn unregister(&self, paths: &[StorePath]) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        self.database.write_through("remove paths", |transaction| {
            let fail = |source| self.database.error("remove paths", source);
            let mut ids = Vec::with_capacity(paths.len());
            for path in paths {
                let id: Option<i64> = transaction
                    .prepare_cached(super::query::SELECT_ID)
                    .and_then(|mut statement| {
                        statement.query_row([path.to_string()], |row| row.get(0)).optional()
                    })
                    .map_err(fail)?;
                ids.extend(id);
            }
            delete_rows(transaction, &ids).map_err(fail)
        })
    }
}

/// All references first: among the rows may be some that refer to each other.
pub(super) fn delete_rows(transaction: &rusqlite::Transaction<'_>, ids: &[i64]) -> rusqlite::Result<()> {
    for query in ["DELETE FROM Refs WHERE referrer = ?1", "DELETE FROM ValidPaths WHERE id = ?1"] {
        let mut statement = transaction.prepare_cached(query)?;
        for id in ids {
            statement.execute([id])?;
        }
    }
    Ok(())
}
