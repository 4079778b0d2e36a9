//! The SQLite connection: opening, transactions, and errors that name the operation. Knows no tables.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Error, Result};
use crate::limits::{DATABASE_WAIT_MS, STATEMENTS_MAX, WAL_BYTES_KEPT, WAL_PAGES};

pub struct Database {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Database {
    /// Opens for reading and writing, creating the file where it is missing.
    pub fn open(path: &Path) -> Result<Database> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Database::connect(path, flags)?;
        database.with("set up", |connection| {
            let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
            if mode != "wal" {
                connection.query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))?;
            }
            // Log pages are flushed before they enter the file: a power failure loses the last registrations,
            // never the database.
            connection.execute_batch("PRAGMA synchronous = normal; PRAGMA foreign_keys = on")?;
            connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
            connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
            // Whoever comes next goes on with the log; closing stays quick.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
        })?;
        Ok(database)
    }

    /// Opens for reading; also where nothing may be written at all (other users' stores, read-only media).
    pub fn open_read_only(path: &Path) -> Result<Database> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let probe = |database: &Database| {
            database.with("read", |connection| {
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
            })
        };
        let usual = Database::connect(path, flags).and_then(|database| probe(&database).map(|()| database));
        let log = path.with_extension("sqlite-wal");
        match usual {
            // Without the right to make the shared index beside it, SQLite needs to be told that nobody writes;
            // true only while no log waits to be read.
            Err(_) if std::fs::metadata(&log).map_or(true, |log| log.len() == 0) => {
                let text = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
                let uri = PathBuf::from(format!("file:{text}?immutable=1"));
                let database = Database::connect(&uri, flags | OpenFlags::SQLITE_OPEN_URI)?;
                probe(&database)?;
                Ok(database)
            }
            other => other,
        }
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Database> {
        let connection = Connection::open_with_flags(path, flags)
            .and_then(|connection| {
                connection.busy_timeout(Duration::from_millis(DATABASE_WAIT_MS))?;
                connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
                Ok(connection)
            })
            .map_err(|source| error("open", path, source))?;
        Ok(Database { connection: Mutex::new(connection), path: path.to_path_buf() })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panicking holder leaves no half-done transaction: dropping one rolls it back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs reading statements; `operation` ("look up a path") is for the message.
    pub fn with<T>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        run(&self.lock()).map_err(|source| error(operation, &self.path, source))
    }

    /// Runs several reads that must see one state.
    pub fn read<T>(&self, operation: &'static str, run: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut connection = self.lock();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(|source| error(operation, &self.path, source))?;
        run(&transaction)
    }

    /// Runs one writing transaction; an error rolls everything back.
    pub fn write<T>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut connection = self.lock();
        let result = transact(&mut connection, operation, &self.path, run);
        if matches!(result, Err(Error::NoSpace { .. })) {
            // The log keeps the room of a transaction that did not fit, though nothing in it counts: give it back.
            // A reader elsewhere may prevent that, and the next transaction reuses the room anyway.
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
        result
    }

    /// [`Database::write`] that survives a power cut once it has returned. Others become durable with the next of
    /// these, or when the log is full.
    pub fn write_through<T>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let level = |level: &str| {
            self.with(operation, |connection| connection.pragma_update(None, "synchronous", level))
        };
        level("full")?;
        let result = self.write(operation, run);
        // The stricter level does no harm but to speed.
        let _ = level("normal");
        result
    }

    /// Runs something on the connection itself, for setting up.
    pub fn set_up(&self, run: impl FnOnce(&mut Connection) -> rusqlite::Result<()>) -> Result<()> {
        run(&mut self.lock()).map_err(|source| error("set up", &self.path, source))
    }

    /// The error for damage that SQLite found when it was asked to look.
    pub fn damaged(&self, reason: String) -> Error {
        let failure = rusqlite::ffi::Error { code: ErrorCode::DatabaseCorrupt, extended_code: 11 };
        let source = rusqlite::Error::SqliteFailure(failure, Some(reason));
        Error::DamagedDatabase { path: self.path.clone(), source }
    }

    pub fn error(&self, operation: &'static str, source: rusqlite::Error) -> Error {
        error(operation, &self.path, source)
    }
}

fn transact<T>(
    connection: &mut Connection,
    operation: &'static str,
    path: &Path,
    run: impl FnOnce(&Transaction<'_>) -> Result<T>,
) -> Result<T> {
    let fail = |source| error(operation, path, source);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
    let result = run(&transaction)?;
    transaction.commit().map_err(fail)?;
    Ok(result)
}

/// Below this many free bytes an unexplained failure to write is explained by them.
const FREE_BYTES_MIN: u64 = 256 << 10;

fn error(operation: &'static str, path: &Path, source: rusqlite::Error) -> Error {
    let full = match &source {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => true,
            // Some of SQLite's files fail without saying why.
            ErrorCode::SystemIoFailure | ErrorCode::CannotOpen => is_nearly_full(path),
            _ => false,
        },
        _ => false,
    };
    let path = path.to_path_buf();
    match &source {
        _ if full => Error::NoSpace { operation, path },
        rusqlite::Error::SqliteFailure(failure, _)
            if matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) =>
        {
            Error::DamagedDatabase { path, source }
        }
        _ => Error::Database { operation, path, source },
    }
}

fn is_nearly_full(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    rustix::fs::statvfs(folder).is_ok_and(|stat| stat.f_bavail * stat.f_frsize < FREE_BYTES_MIN)
}
