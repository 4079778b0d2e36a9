//! The world an evaluation sees: this machine's files and environment, and the store. Derivations are
//! gathered and written in one transaction when the evaluation is over.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rednix_eval::{
    AddPath, FetchedTree, FileKind, FileRequest, FlakeSources, World, WorldError, WorldResult,
};
use rednix_events::{Event, Events};
use rednix_flake::{FlakeRef, Input, LockOptions, Registries};
use rednix_store::derivation::Derivation;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::path::{PathHashing, STORE_DIR, StorePath, text_path};
use rednix_store::store::{DerivationText, Source, Store};

use crate::failure::chain;
use crate::outside::{self, Outside};
use crate::session::Wanted;

/// Which files an evaluation may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    #[default]
    All,
    /// Only what this evaluation itself put into the store.
    Pure,
    /// That, and what the search path names.
    Restricted,
}

/// Clones share what is gathered: one goes into the evaluator, the other flushes.
#[derive(Clone)]
pub struct StoreWorld {
    store: Arc<Store>,
    events: Events,
    gathered: Rc<RefCell<Gathered>>,
    outside: Rc<Outside>,
    access: Access,
    /// Nothing is added to the store: what would be only gets its name.
    names_only: bool,
}

#[derive(Default)]
struct Gathered {
    pending: Vec<DerivationText>,
    pending_bytes: usize,
    known: HashSet<StorePath, PathHashing>,
    /// What may be read where not everything may.
    allowed: BTreeSet<PathBuf>,
}

/// Derivations are written whenever this many bytes of them are gathered: in few transactions, and without keeping
/// the texts of thousands.
const PENDING_BYTES_MAX: usize = 16 << 20;

impl StoreWorld {
    pub fn new(store: Arc<Store>, events: Events, outside: Rc<Outside>, access: Access) -> StoreWorld {
        StoreWorld { store, events, gathered: Rc::default(), outside, access, names_only: false }
    }

    /// The same, for an evaluation that writes nothing.
    pub fn names_only(self, names_only: bool) -> StoreWorld {
        StoreWorld { names_only, ..self }
    }

    pub fn outside(&self) -> &Outside {
        &self.outside
    }

    /// Lets the evaluation read a store path, and what is in it.
    pub fn allow(&self, path: &StorePath) {
        self.allow_path(PathBuf::from(path.to_string()));
    }

    pub fn allow_path(&self, path: PathBuf) {
        if self.access != Access::All {
            self.gathered.borrow_mut().allowed.insert(path);
        }
    }

    fn is_allowed(&self, path: &Path) -> bool {
        self.access == Access::All
            || self
                .gathered
                .borrow()
                .allowed
                .iter()
                .any(|allowed| path.starts_with(allowed) || allowed.starts_with(path))
    }

    fn check_access(&self, path: &Path) -> WorldResult<()> {
        if self.is_allowed(path) {
            return Ok(());
        }
        let mode = match self.access {
            Access::Pure => "pure evaluation mode (use '--impure' to override)",
            _ => "restricted mode",
        };
        Err(WorldError::Failed(format!(
            "access to absolute path '{}' is forbidden in {mode}",
            path.display()
        )))
    }

    /// What is built already of an output; a floating one is known only to the builder.
    fn built(&mut self, path: &StorePath, output: &str) -> WorldResult<Option<StorePath>> {
        let derivation = self.read_derivation(path)?;
        let Some(found) = derivation.outputs.get(output) else {
            return Err(WorldError::Failed(format!(
                "derivation '{path}' does not have an output named '{output}'"
            )));
        };
        let Some(known) = found.path() else { return Ok(None) };
        let is_valid = self.store.is_valid(known).map_err(store_error)?;
        Ok(is_valid.then(|| known.clone()))
    }

    /// Writes what is gathered. Later calls write only what came since.
    pub fn flush(&self) -> Result<(), rednix_store::Error> {
        let pending = {
            let mut gathered = self.gathered.borrow_mut();
            gathered.pending_bytes = 0;
            std::mem::take(&mut gathered.pending)
        };
        if !pending.is_empty() {
            self.store.write_derivation_texts(pending)?;
        }
        Ok(())
    }

    /// Where a path really is: below `/nix/store` it is the store's own folder.
    fn real(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(STORE_DIR) {
            Ok(rest) => self.store.layout().contents().join(rest),
            Err(_) => path.to_path_buf(),
        }
    }
}

fn store_error(error: rednix_store::Error) -> WorldError {
    WorldError::Failed(chain(&error))
}

fn io_error(operation: &str, path: &Path, error: &std::io::Error) -> WorldError {
    if error.kind() == std::io::ErrorKind::NotFound {
        WorldError::Missing(path.display().to_string())
    } else {
        WorldError::Failed(format!("cannot {operation} `{}`: {error}", path.display()))
    }
}

/// What the system says, without its number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

fn kind_of(kind: std::fs::FileType) -> FileKind {
    if kind.is_file() {
        FileKind::Regular
    } else if kind.is_dir() {
        FileKind::Directory
    } else if kind.is_symlink() {
        FileKind::Symlink
    } else {
        FileKind::Other
    }
}

impl World for StoreWorld {
    fn read_file(&mut self, path: &Path) -> WorldResult<Vec<u8>> {
        self.check_access(path)?;
        std::fs::read(self.real(path)).map_err(|e| io_error("read", path, &e))
    }

    fn read_dir(&mut self, path: &Path) -> WorldResult<Vec<(Vec<u8>, FileKind)>> {
        self.check_access(path)?;
        use std::os::unix::ffi::OsStringExt;
        let failed = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => WorldError::Missing(path.display().to_string()),
            _ => WorldError::Failed(format!("cannot read directory \"{}\": {}", path.display(), reason(&e))),
        };
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(self.real(path)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            entries.push((entry.file_name().into_vec(), kind_of(entry.file_type().map_err(failed)?)));
        }
        Ok(entries)
    }

    fn file_kind(&mut self, path: &Path) -> WorldResult<Option<FileKind>> {
        if !self.is_allowed(path) {
            return Ok(None);
        }
        match std::fs::symlink_metadata(self.real(path)) {
            Ok(metadata) => Ok(Some(kind_of(metadata.file_type()))),
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(e) => Err(io_error("look at", path, &e)),
        }
    }

    fn read_link(&mut self, path: &Path) -> WorldResult<PathBuf> {
        self.check_access(path)?;
        std::fs::read_link(self.real(path)).map_err(|e| io_error("read the link", path, &e))
    }

    fn environment(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        std::env::var_os(std::ffi::OsStr::from_bytes(name)).map(OsStringExt::into_vec)
    }

    fn add_path(&mut self, request: &AddPath<'_>) -> WorldResult<StorePath> {
        self.check_access(request.path)?;
        let algorithm = request.expected.map_or(HashAlgorithm::Sha256, |hash| hash.algorithm());
        let mut accept = |relative: &Path, _| {
            Ok(request
                .accepted
                .is_none_or(|accepted| relative.as_os_str().is_empty() || accepted.contains(relative)))
        };
        let source = Source {
            name: request.name,
            method: request.method,
            algorithm,
            accept: if request.accepted.is_some() { Some(&mut accept) } else { None },
            expected: request.expected.cloned(),
        };
        let real = self.real(request.path);
        if self.file_kind(request.path)?.is_none() {
            return Err(WorldError::Missing(request.path.display().to_string()));
        }
        if self.names_only {
            return Store::name_of_path(&real, source).map_err(store_error);
        }
        let added = self.store.add_from_path(&real, source).map_err(store_error)?;
        self.allow(&added.path);
        Ok(added.path)
    }

    fn add_text(
        &mut self,
        name: &str,
        text: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> WorldResult<StorePath> {
        if self.names_only {
            return text_path(name, &Hash::sha256(text), references).map_err(store_error);
        }
        if references.iter().any(StorePath::is_derivation) {
            self.flush().map_err(store_error)?;
        }
        let path = self.store.add_text(name, text, references).map_err(store_error)?;
        self.allow(&path);
        Ok(path)
    }

    fn write_derivation(
        &mut self,
        path: &StorePath,
        derivation: &Derivation,
        aterm: &[u8],
    ) -> WorldResult<()> {
        let mut gathered = self.gathered.borrow_mut();
        if !gathered.known.insert(path.clone()) {
            return Ok(());
        }
        gathered.pending.push(DerivationText::new(path.clone(), derivation, aterm.to_vec()));
        gathered.pending_bytes += aterm.len();
        let full = gathered.pending_bytes > PENDING_BYTES_MAX;
        drop(gathered);
        if full { self.flush().map_err(store_error) } else { Ok(()) }
    }

    fn read_derivation(&mut self, path: &StorePath) -> WorldResult<Derivation> {
        self.flush().map_err(store_error)?;
        self.store.read_derivation(path).map_err(store_error)
    }

    fn realise(&mut self, wanted: &[(StorePath, Option<String>)]) -> WorldResult<Vec<StorePath>> {
        let mut paths = Vec::new();
        let mut missing = Vec::new();
        for (path, output) in wanted {
            let Some(output) = output else {
                if !self.is_valid(path)? {
                    return Err(WorldError::Failed(format!("path '{path}' is not valid")));
                }
                continue;
            };
            let built = self.built(path, output)?;
            if built.is_none() {
                missing.push((paths.len(), Wanted { derivation: path.clone(), output: output.clone() }));
            }
            paths.push(built);
        }
        if !missing.is_empty() {
            let wanted: Vec<Wanted> = missing.iter().map(|(_, wanted)| wanted.clone()).collect();
            let built = self.outside.builds.build(&wanted).map_err(|failure| {
                let names: Vec<&str> = wanted.iter().map(|wanted| wanted.derivation.name()).collect();
                WorldError::Failed(format!(
                    "evaluation needs what `{}` builds, and that failed: {}",
                    names.join("`, `"),
                    failure.message
                ))
            })?;
            for ((index, _), path) in missing.into_iter().zip(built) {
                paths[index] = Some(path);
            }
        }
        let paths: Vec<StorePath> = paths.into_iter().flatten().collect();
        for path in &paths {
            self.allow(path);
        }
        Ok(paths)
    }

    fn fetch_tree(&mut self, input: &Input, is_final: bool) -> WorldResult<FetchedTree> {
        let registries = if self.access == Access::Pure { Registries::None } else { Registries::Limited };
        let (input, _) = self.outside.resolve(input, registries)?;
        let fetched = self.outside.tree(&input, is_final)?;
        self.allow(&fetched.path);
        Ok(fetched)
    }

    fn fetch_file(&mut self, request: &FileRequest<'_>) -> WorldResult<StorePath> {
        let path = self.outside.file(request)?;
        self.allow(&path);
        Ok(path)
    }

    fn search_entry(&mut self, entry: &str) -> WorldResult<Option<PathBuf>> {
        let path = self.outside.search_entry(entry)?;
        self.allow(&path);
        Ok(Some(PathBuf::from(path.to_string())))
    }

    fn get_flake(&mut self, reference: &FlakeRef, pure: bool) -> WorldResult<FlakeSources> {
        let options = LockOptions { use_registries: !pure, allow_unlocked: !pure, ..LockOptions::default() };
        let failed = |error: rednix_flake::FlakeError| WorldError::Failed(error.to_string());
        let locked = outside::flakes::lock(self, reference, &options).map_err(failed)?;
        let is_changed = locked.is_changed();
        if is_changed {
            let changes = rednix_flake::difference(&locked.old, &locked.lock);
            let message =
                format!("not writing modified lock file of flake '{reference}':\n{}", changes.trim_end());
            self.outside.warn(&message);
        }
        Ok(outside::flakes::sources(&locked, is_changed))
    }

    fn is_valid(&mut self, path: &StorePath) -> WorldResult<bool> {
        Ok(self.gathered.borrow().known.contains(path) || self.store.is_valid(path).map_err(store_error)?)
    }

    fn current_system(&self) -> String {
        format!("{}-linux", std::env::consts::ARCH)
    }

    fn tells_time(&self) -> bool {
        true
    }

    fn current_time(&self) -> Option<i64> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(now.as_secs() as i64)
    }

    fn message(&mut self, text: &str) {
        self.events.emit(Event::Notice { message: text.to_owned() });
    }
}
