//! The world an evaluation sees: this machine's files and environment, and the store. Derivations are
//! gathered and written in one transaction when the evaluation is over.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rednix_eval::{AddPath, FileKind, World, WorldError, WorldResult};
use rednix_events::{Event, Events};
use rednix_store::derivation::Derivation;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::path::{PathHashing, STORE_DIR, StorePath, text_path};
use rednix_store::store::{DerivationText, Source, Store};

use crate::failure::chain;

/// Clones share what is gathered: one goes into the evaluator, the other flushes.
#[derive(Clone)]
pub struct StoreWorld {
    store: Arc<Store>,
    events: Events,
    gathered: Rc<RefCell<Gathered>>,
    /// Nothing is added to the store: what would be only gets its name.
    names_only: bool,
}

#[derive(Default)]
struct Gathered {
    pending: Vec<DerivationText>,
    pending_bytes: usize,
    known: HashSet<StorePath, PathHashing>,
}

/// Derivations are written whenever this many bytes of them are gathered: in few transactions, and without keeping
/// the texts of thousands.
const PENDING_BYTES_MAX: usize = 16 << 20;

impl StoreWorld {
    pub fn new(store: Arc<Store>, events: Events) -> StoreWorld {
        StoreWorld { store, events, gathered: Rc::default(), names_only: false }
    }

    /// The same, for an evaluation that writes nothing.
    pub fn names_only(self, names_only: bool) -> StoreWorld {
        StoreWorld { names_only, ..self }
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
        std::fs::read(self.real(path)).map_err(|e| io_error("read", path, &e))
    }

    fn read_dir(&mut self, path: &Path) -> WorldResult<Vec<(Vec<u8>, FileKind)>> {
        use std::os::unix::ffi::OsStringExt;
        let failed = |e: std::io::Error| io_error("list", path, &e);
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(self.real(path)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            entries.push((entry.file_name().into_vec(), kind_of(entry.file_type().map_err(failed)?)));
        }
        Ok(entries)
    }

    fn file_kind(&mut self, path: &Path) -> WorldResult<Option<FileKind>> {
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
        std::fs::read_link(self.real(path)).map_err(|e| io_error("read the link", path, &e))
    }

    fn environment(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        std::env::var_os(std::ffi::OsStr::from_bytes(name)).map(OsStringExt::into_vec)
    }

    fn add_path(&mut self, request: &AddPath<'_>) -> WorldResult<StorePath> {
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
        let path = self.real(request.path);
        if self.names_only {
            return Store::name_of_path(&path, source).map_err(store_error);
        }
        Ok(self.store.add_from_path(&path, source).map_err(store_error)?.path)
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
        self.store.add_text(name, text, references).map_err(store_error)
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
        for (path, output) in wanted {
            match output {
                None if self.store.is_valid(path).map_err(store_error)? => {}
                None => return Err(WorldError::Failed(format!("path '{path}' is not valid"))),
                Some(output) => {
                    let derivation = self.read_derivation(path)?;
                    let known = derivation.outputs.get(output).and_then(|o| o.path());
                    match known {
                        Some(known) if self.store.is_valid(known).map_err(store_error)? => {
                            paths.push(known.clone())
                        }
                        _ => {
                            return Err(WorldError::Failed(format!(
                                "evaluation needs the output `{output}` of `{path}`, which is not built; build it first"
                            )));
                        }
                    }
                }
            }
        }
        Ok(paths)
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
