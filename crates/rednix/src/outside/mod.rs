//! What an evaluation gets from outside: sources and files by their addresses, and builds it has to read.
//!
//! How bytes are fetched is `rednix-fetch`'s and how they are stored `rednix-store`'s; here they meet, and what was
//! found out is remembered for a while.

pub mod flakes;
mod known;
mod registries;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rednix_eval::{FetchedTree, FileRequest, WorldError, WorldResult};
use rednix_events::{Event, Events};
use rednix_fetch::{FetchConfig, FetchedInput, Fetcher, InputOptions};
use rednix_flake::{Attributes, Input, Kind, Registries, Registry};
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::path::{ContentMethod, StorePath, fixed_output_path};
use rednix_store::store::{Source, Store};

use crate::failure::chain;
use crate::session::Builds;
use known::Known;

/// Shared by the clones of one world.
pub struct Outside {
    store: Arc<Store>,
    events: Events,
    fetcher: Fetcher,
    pub builds: Builds,
    registries: registries::Files,
    known: Known,
    /// What was fetched by this evaluation: the same input is the same source to its end.
    done: RefCell<BTreeMap<(Attributes, bool), FetchedTree>>,
    /// Sources are asked again, however lately they were.
    pub refresh: std::cell::Cell<bool>,
}

/// What such a thing is made from; unlike it, this may go to other threads.
#[derive(Clone)]
pub struct OutsideMaker {
    pub store: Arc<Store>,
    pub events: Events,
    pub fetching: FetchConfig,
    pub builds: Builds,
    pub registries: Vec<PathBuf>,
}

impl OutsideMaker {
    pub fn make(&self) -> Rc<Outside> {
        let Self { store, events, fetching, builds, registries } = self.clone();
        Outside::new(store, events, Fetcher::new(fetching), builds, registries)
    }
}

fn failed(message: impl ToString) -> WorldError {
    WorldError::Failed(message.to_string())
}

fn store_error(error: rednix_store::Error) -> WorldError {
    failed(chain(&error))
}

impl Outside {
    pub fn new(
        store: Arc<Store>,
        events: Events,
        fetcher: Fetcher,
        builds: Builds,
        registry_files: Vec<PathBuf>,
    ) -> Rc<Outside> {
        let known = Known::new(&fetcher.config().cache_dir, fetcher.config().fresh_s);
        let registries = registries::Files::new(registry_files);
        Rc::new(Outside {
            store,
            events,
            fetcher,
            builds,
            registries,
            known,
            done: RefCell::default(),
            refresh: std::cell::Cell::new(false),
        })
    }

    pub fn warn(&self, message: &str) {
        self.events.emit(Event::Notice { message: format!("warning: {message}") });
    }

    fn options(&self) -> InputOptions<'_> {
        InputOptions { events: &self.events, refresh: self.refresh.get() }
    }

    /// What a name stands for, and the flake's folder in it where a registry says one.
    pub fn resolve(&self, input: &Input, which: Registries) -> WorldResult<(Input, Option<String>)> {
        let registries: Vec<Registry> = match which {
            Registries::None if input.is_direct() => return Ok((input.clone(), None)),
            Registries::None => Vec::new(),
            Registries::Limited => self.registries.limited(&self.events),
            Registries::All => self.registries.all(&self.events),
        };
        rednix_flake::resolve(input, &registries).map_err(failed)
    }

    /// Fetches a source into the store.
    pub fn tree(&self, input: &Input, is_final: bool) -> WorldResult<FetchedTree> {
        let key = (input.attributes.clone(), is_final);
        if let Some(done) = self.done.borrow().get(&key) {
            return Ok(done.clone());
        }
        let fetched = self.fetch_tree(input, is_final).map_err(|error| match error {
            WorldError::Failed(message) => {
                let doing = format!("while fetching the input '{}'", input.show());
                match message.split_once("\n\nhint: ") {
                    Some((message, hint)) => failed(format!("{message}\n  {doing}\n\nhint: {hint}")),
                    None => failed(format!("{message}\n  {doing}")),
                }
            }
            other => other,
        })?;
        self.done.borrow_mut().insert(key, fetched.clone());
        Ok(fetched)
    }

    /// Forgets what this evaluation fetched: a source was changed on purpose.
    pub fn forget(&self) {
        self.done.borrow_mut().clear();
    }

    fn fetch_tree(&self, input: &Input, is_final: bool) -> WorldResult<FetchedTree> {
        if let Some(hash) = input.nar_hash().map_err(failed)?.filter(|_| is_final) {
            let path = tree_path(input.name(), &hash)?;
            if self.store.is_valid(&path).map_err(store_error)? {
                self.store.add_temp_root(&path).map_err(store_error)?;
                return Ok(FetchedTree { path, attributes: input.attributes.clone() });
            }
        }
        let may_know = !self.refresh.get() || input.is_locked();
        if let Some(attributes) = self.known.tree(input).filter(|_| may_know)
            && let Some(fetched) = self.present(input, Input { attributes }, is_final)?
        {
            return Ok(fetched);
        }
        let (mut result, path) = self.fetch_and_add(input)?;
        self.known.note_tree(input, &result.attributes);
        input.check_fetched(&mut result, is_final).map_err(failed)?;
        Ok(FetchedTree { path, attributes: result.attributes })
    }

    /// What is known of an input, if its tree is still in the store.
    fn present(&self, input: &Input, mut found: Input, is_final: bool) -> WorldResult<Option<FetchedTree>> {
        let Some(hash) = found.nar_hash().map_err(failed)? else { return Ok(None) };
        let path = tree_path(input.name(), &hash)?;
        if !self.store.is_valid(&path).map_err(store_error)? {
            return Ok(None);
        }
        self.store.add_temp_root(&path).map_err(store_error)?;
        input.check_fetched(&mut found, is_final).map_err(failed)?;
        Ok(Some(FetchedTree { path, attributes: found.attributes }))
    }

    fn fetch_and_add(&self, input: &Input) -> WorldResult<(Input, StorePath)> {
        if let Some((result, path)) = self.store_input(input)? {
            return Ok((result, path));
        }
        let fetched = match self.in_store(input) {
            // The fetcher sees the disk, where the store may lie elsewhere than it says.
            Some(real) => {
                let mut moved = input.clone();
                moved.attributes.set("path", real.to_string_lossy().into_owned());
                let mut fetched = self.fetcher.fetch_input(&moved, self.options()).map_err(failed)?;
                let named = input.text("path").unwrap_or_default().to_owned();
                fetched.input.attributes.set("path", named);
                fetched
            }
            None => self.fetcher.fetch_input(input, self.options()).map_err(failed)?,
        };
        for warning in &fetched.warnings {
            self.warn(warning);
        }
        let path = self.add(&fetched)?;
        let mut result = fetched.input;
        result.attributes.set("narHash", self.nar_hash(&path)?.to_sri());
        Ok((result, path))
    }

    /// A `path` input that is a source in the store already.
    fn store_input(&self, input: &Input) -> WorldResult<Option<(Input, StorePath)>> {
        let Some(text) = input.text("path").filter(|_| input.kind() == Kind::Path) else { return Ok(None) };
        let Ok(path) = StorePath::parse(text) else { return Ok(None) };
        if path.name() != "source" || !self.store.is_valid(&path).map_err(store_error)? {
            return Ok(None);
        }
        let mut result = input.clone();
        if result.last_modified().is_none() {
            result.attributes.set("lastModified", 0);
        }
        result.attributes.set("narHash", self.nar_hash(&path)?.to_sri());
        Ok(Some((result, path)))
    }

    fn in_store(&self, input: &Input) -> Option<PathBuf> {
        let text = input.text("path").filter(|_| input.kind() == Kind::Path)?;
        let rest = Path::new(text).strip_prefix(rednix_store::path::STORE_DIR).ok()?;
        Some(self.store.layout().contents().join(rest))
    }

    fn nar_hash(&self, path: &StorePath) -> WorldResult<Hash> {
        let info = self.store.path_info(path).map_err(store_error)?;
        info.map(|info| info.nar_hash).ok_or_else(|| failed(format!("path '{path}' is not valid")))
    }

    fn add(&self, fetched: &FetchedInput) -> WorldResult<StorePath> {
        self.add_from(
            &fetched.place,
            fetched.input.name(),
            ContentMethod::Recursive,
            fetched.accepted.as_ref(),
        )
    }

    fn add_from(
        &self,
        place: &Path,
        name: &str,
        method: ContentMethod,
        accepted: Option<&BTreeSet<PathBuf>>,
    ) -> WorldResult<StorePath> {
        let mut accept = |relative: &Path, _| {
            Ok(accepted.is_none_or(|all| relative.as_os_str().is_empty() || all.contains(relative)))
        };
        let source = Source {
            name,
            method,
            algorithm: HashAlgorithm::Sha256,
            accept: if accepted.is_some() { Some(&mut accept) } else { None },
            expected: None,
        };
        Ok(self.store.add_from_path(place, source).map_err(store_error)?.path)
    }

    /// Fetches a file or an archive's contents into the store.
    pub fn file(&self, request: &FileRequest<'_>) -> WorldResult<StorePath> {
        let method = if request.unpack { ContentMethod::Recursive } else { ContentMethod::Flat };
        if let Some(hash) = request.expected.filter(|hash| hash.algorithm() == HashAlgorithm::Sha256) {
            let path = fixed_output_path(method, hash, request.name, &Default::default(), false)
                .map_err(store_error)?;
            if self.store.is_valid(&path).map_err(store_error)? {
                self.store.add_temp_root(&path).map_err(store_error)?;
                return Ok(path);
            }
        }
        let url = pseudo_url(request.url);
        let key = format!("{url}\n{}\n{}", request.name, request.unpack);
        if request.expected.is_none()
            && !self.refresh.get()
            && let Some(path) = self.known.file(&key)
            && self.store.is_valid(&path).map_err(store_error)?
        {
            self.store.add_temp_root(&path).map_err(store_error)?;
            return Ok(path);
        }
        let path = if request.unpack {
            let tree = self.fetcher.fetch_archive(&url, &[], self.options()).map_err(failed)?;
            self.add_from(&tree.place, request.name, method, None)?
        } else {
            let fetched = self.fetcher.fetch_plain(&url, None, &[], self.options()).map_err(failed)?;
            if let Some(wanted) = request.expected {
                let got =
                    rednix_store::store::hash_flat(&fetched.0, wanted.algorithm()).map_err(store_error)?;
                if got != *wanted {
                    return Err(failed(rednix_eval::hash_mismatch(request.url, wanted, &got)));
                }
            }
            self.add_from(&fetched.0, request.name, method, None)?
        };
        if let Some(wanted) = request.expected.filter(|_| request.unpack) {
            let got = self.nar_hash(&path)?;
            if got != *wanted {
                return Err(failed(rednix_eval::hash_mismatch(request.url, wanted, &got)));
            }
        }
        self.known.note_file(&key, &path);
        Ok(path)
    }

    /// Where an entry of the search path lies that is an address.
    pub fn search_entry(&self, entry: &str) -> WorldResult<StorePath> {
        if let Some(reference) = entry.strip_prefix("flake:") {
            let reference = rednix_flake::FlakeRef::parse(reference, true, false).map_err(failed)?;
            let (input, _) = self.resolve(&reference.input, Registries::All)?;
            return Ok(self.tree(&input, false)?.path);
        }
        self.file(&FileRequest { url: entry, name: "source", unpack: true, expected: None })
    }

    /// The real folder of a store path.
    pub fn real(&self, path: &StorePath) -> PathBuf {
        self.store.real_path(path)
    }
}

fn tree_path(name: &str, hash: &Hash) -> WorldResult<StorePath> {
    fixed_output_path(ContentMethod::Recursive, hash, name, &Default::default(), false).map_err(store_error)
}

/// `channel:NAME` as the address it is short for.
fn pseudo_url(url: &str) -> String {
    match url.strip_prefix("channel:") {
        Some(name) => format!("https://channels.nixos.org/{name}/nixexprs.tar.xz"),
        None => url.to_owned(),
    }
}
