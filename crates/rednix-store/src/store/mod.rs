//! The store: a folder of immutable trees, a database of what is valid, roots, locks and collection. A chroot
//! store: everything lies below one root folder, while paths always say `/nix/store`. Builds and fetches
//! nothing.
//!
//! ```text
//! <root>/nix/store/<hash>-<name>           contents
//! <root>/nix/store/<hash>-<name>.lock      held by whoever makes that path
//! <root>/nix/var/nix/db                    database in C++ Nix's schema
//! <root>/nix/var/nix/gcroots, profiles     what must be kept
//! <root>/nix/var/nix/temproots             what running processes need
//! <root>/nix/var/log/nix/drvs              build logs
//! <root>/nix/var/rednix/tmp                half-made things, each locked by its maker
//! <root>/nix/var/rednix/flushed.json       what is known to survive a power cut
//! <root>/nix/var/rednix/archive.sqlite     paths not in use, in chunks
//! ```

mod add;
mod archive;
mod database;
mod flush;
mod gc;
mod import;
mod layout;
mod locks;
mod open;
mod optimise;
mod overview;
pub mod protocol;
mod query;
mod realisations;
mod register;
mod repair;
mod roots;
mod schema;
mod scratch;
mod verify;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use rednix_events::{Event, Events};

pub use add::{AddedPath, DerivationText, Source};
pub use archive::{ArchiveReport, ArchiveSizes, ArchivedPath};
pub use gc::{GcOptions, GcReport};
pub use import::{ContentName, ImportMode, Imported, hash_flat, name_by_contents};
pub use layout::Layout;
pub use locks::{GcGuard, PathLocks};
pub use open::{Access, Durability, OpenOptions};
pub use optimise::OptimiseReport;
pub use overview::{Seen, Totals};
pub use realisations::{Realisation, RealisationId};
pub use repair::{Rebuilt, RepairReport};
pub use roots::{Root, RootKind};
pub use scratch::ScratchDir;
pub use verify::{Problem, VerifyOptions, VerifyReport};

use crate::error::{Error, Result};
use crate::handle::Dir;
use crate::hash::Hash;
use crate::path::StorePath;
use database::Database;
use roots::TemporaryRoots;

/// What the database knows about a valid path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    pub path: StorePath,
    /// SHA-256 of the NAR.
    pub nar_hash: Hash,
    pub nar_size: u64,
    pub references: BTreeSet<StorePath>,
    pub deriver: Option<StorePath>,
    /// Seconds since 1970; zero is replaced by the present when registering.
    pub registration_time_s: i64,
    /// Built here, not copied from elsewhere.
    pub ultimate: bool,
    /// `<key name>:<base64>`.
    pub signatures: Vec<String>,
    /// As in narinfo: `text:…` or `fixed:…`.
    pub content_address: Option<String>,
}

impl PathInfo {
    /// Information with the optional parts empty.
    pub fn new(path: StorePath, nar_hash: Hash, nar_size: u64) -> PathInfo {
        PathInfo {
            path,
            nar_hash,
            nar_size,
            references: BTreeSet::new(),
            deriver: None,
            registration_time_s: 0,
            ultimate: false,
            signatures: Vec::new(),
            content_address: None,
        }
    }
}

/// An open store. Safe to share between threads; other processes may use the same store at the same time.
pub struct Store {
    layout: Layout,
    database: Database,
    access: Access,
    durability: Durability,
    link_equal_files: bool,
    events: Events,
    /// Handle of the folder of contents.
    contents: Dir,
    temporary_roots: Mutex<TemporaryRoots>,
    /// Opened when first asked for.
    archive: OnceLock<archive::Archive>,
    /// Held shared while the store is open, so that nobody changes the schema below it.
    _schema_lock: Option<std::fs::File>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("root", &self.layout.root()).field("access", &self.access).finish()
    }
}

impl Store {
    pub fn root(&self) -> &Path {
        self.layout.root()
    }

    /// Where everything is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where a path's contents really are on this machine.
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.layout.real_path(path)
    }

    /// Where the compressed log of a derivation belongs.
    pub fn log_path(&self, derivation: &StorePath) -> PathBuf {
        self.layout.log_path(derivation)
    }

    /// The folder of contents, open.
    pub fn contents(&self) -> &Dir {
        &self.contents
    }

    pub fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    fn need_writable(&self, operation: &'static str) -> Result<()> {
        if self.is_read_only() { Err(Error::ReadOnly { operation }) } else { Ok(()) }
    }

    fn notice(&self, message: impl Into<String>) {
        self.events.emit(Event::Notice { message: message.into() });
    }
}
