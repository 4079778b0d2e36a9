//! Opening a store, and creating one. Refuses databases of other schemas; migrates nothing.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use rednix_events::{Events, Silent};
use rustix::fs::FlockOperation;

use super::database::Database;
use super::layout::Layout;
use super::roots::TemporaryRoots;
use super::schema::{self, Migrations, SCHEMA};
use super::{Store, locks};
use crate::error::{Error, Result};
use crate::handle::Dir;

/// What the store may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing is written, and nothing needs to be writable.
    ReadOnly,
    /// The store must be there.
    ReadWrite,
    /// A store is made where there is none.
    Create,
}

/// How much is flushed to disk before a path counts as valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The database only. After a power cut the next opening hashes what was not flushed yet, and takes back what
    /// is not whole.
    Fast,
    /// Contents before their registration, one flush of the file system per batch.
    Safe,
}

#[derive(Clone)]
pub struct OpenOptions {
    pub access: Access,
    pub durability: Durability,
    /// Files of new paths that are equal to files of the store become the same file.
    pub link_equal_files: bool,
    /// Where notices go ("waiting for a collection to end").
    pub events: Events,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            access: Access::Create,
            durability: Durability::Fast,
            link_equal_files: false,
            events: Arc::new(Silent),
        }
    }
}

impl OpenOptions {
    pub fn read_only() -> Self {
        OpenOptions { access: Access::ReadOnly, ..OpenOptions::default() }
    }

    pub fn with_events(mut self, events: Events) -> Self {
        self.events = events;
        self
    }
}

impl Store {
    /// Opens the store below `root`.
    pub fn open(root: impl AsRef<Path>, options: OpenOptions) -> Result<Store> {
        let root = std::path::absolute(root.as_ref())
            .map_err(|source| Error::io("find the absolute name of", root.as_ref(), source))?;
        let layout = Layout::new(root.clone());
        let reads_only = options.access == Access::ReadOnly;
        Store::open_at(layout, options).map_err(|error| match error.os_error() {
            Some(code) if !reads_only && is_refusal(code) => {
                Error::NotWritable { root, source: std::io::Error::from_raw_os_error(code) }
            }
            _ => error,
        })
    }

    fn open_at(layout: Layout, options: OpenOptions) -> Result<Store> {
        let present = read_schema(&layout)?.is_some();
        if !present && options.access != Access::Create {
            return Err(Error::NoStore { root: layout.root().to_path_buf() });
        }
        let (database, lock) = match options.access {
            Access::ReadOnly => (Database::open_read_only(&layout.database())?, None),
            Access::ReadWrite | Access::Create => {
                if !present {
                    create(&layout)?;
                }
                let lock = open_lock(&layout)?;
                locks::flock(&lock, &layout.schema_lock(), FlockOperation::LockShared)?;
                (Database::open(&layout.database())?, Some(lock))
            }
        };
        check_migrations(&layout, &database, options.access)?;
        let store = Store {
            contents: Dir::open(layout.contents())?,
            temporary_roots: Mutex::new(TemporaryRoots::default()),
            layout,
            database,
            access: options.access,
            durability: options.durability,
            link_equal_files: options.link_equal_files,
            events: options.events,
            archive: OnceLock::new(),
            _schema_lock: lock,
        };
        if options.access != Access::ReadOnly {
            store.recover_from_power_cut()?;
        }
        Ok(store)
    }
}

fn is_refusal(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::ROFS, Errno::ACCESS, Errno::PERM].map(Errno::raw_os_error).contains(&code)
}

/// Makes folders, database and schema file; another process may be doing the same.
fn create(layout: &Layout) -> Result<()> {
    for folder in [
        layout.contents(),
        layout.database_folder(),
        layout.indirect_roots(),
        layout.profiles(),
        layout.temporary_roots(),
        layout.scratch(),
        layout.logs(),
    ] {
        std::fs::create_dir_all(&folder).map_err(|error| Error::io("create the folder", &folder, error))?;
    }
    let lock = open_lock(layout)?;
    locks::flock(&lock, &layout.schema_lock(), FlockOperation::LockExclusive)?;
    if read_schema(layout)?.is_some() {
        return Ok(());
    }
    Database::open(&layout.database())?.set_up(schema::create)?;
    // The schema file comes last: where it is, the tables are.
    let temporary = layout.database_folder().join(format!("schema.new-{}", std::process::id()));
    File::create(&temporary)
        .and_then(|mut file| {
            write!(file, "{SCHEMA}")?;
            file.sync_all()
        })
        .map_err(|error| Error::io("write", &temporary, error))?;
    std::fs::rename(&temporary, layout.schema()).map_err(|error| Error::io("rename", &temporary, error))
}

fn open_lock(layout: &Layout) -> Result<File> {
    locks::open_lock_file(&layout.schema_lock())
}

/// The number in the schema file, which must be ours; `None` where there is no store.
fn read_schema(layout: &Layout) -> Result<Option<u32>> {
    let path = layout.schema();
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| Error::io("read", &path, error))?,
    };
    let (root, what) = (layout.root().to_path_buf(), "schema");
    let found = text.trim().to_owned();
    match found.parse::<u32>() {
        Ok(SCHEMA) => Ok(Some(SCHEMA)),
        Ok(number) if number > SCHEMA => Err(Error::NewerSchema { root, what, found, known: SCHEMA }),
        Ok(_) => Err(Error::OlderSchema { root, what, found, known: SCHEMA }),
        Err(_) => Err(Error::Corrupt {
            place: path.display().to_string(),
            reason: format!("`{}` is not a schema's number", found.escape_debug()),
        }),
    }
}

fn check_migrations(layout: &Layout, database: &Database, access: Access) -> Result<()> {
    match database.with("read the schema", schema::migrations)? {
        Migrations::Current => Ok(()),
        Migrations::Newer(found) => Err(Error::NewerSchema {
            root: layout.root().to_path_buf(),
            what: "database migration",
            found: format!("`{found}`"),
            known: SCHEMA,
        }),
        Migrations::WithoutRealisations if access == Access::ReadOnly => Ok(()),
        Migrations::WithoutRealisations => database.write("add the tables for realisations", |transaction| {
            schema::add_realisations(transaction).map_err(|source| database.error("set up", source))
        }),
    }
}
