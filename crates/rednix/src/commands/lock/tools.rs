//! What every part of locking shares: the fetcher, the store that keeps what was fetched, scratch space, and
//! doing several things at once. Knows nothing of recipes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rednix_events::{Event, Events};
use rednix_fetch::Fetcher;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::path::{ContentMethod, fixed_output_path};
use rednix_store::store::{Source, Store};

use crate::failure::Failure;
use crate::session::Session;

/// Shared by all threads of one run.
pub struct Tools {
    pub fetcher: Fetcher,
    pub events: Events,
    /// The end of the day as of which branches are taken.
    pub date: Option<String>,
    /// The host's `patch`, where it has one.
    pub patch: Option<PathBuf>,
    store: Arc<Store>,
    scratch: tempfile::TempDir,
    number: AtomicUsize,
}

impl Tools {
    pub fn new(session: &Session, date: Option<&str>) -> Result<Tools, Failure> {
        Ok(Tools {
            fetcher: session.fetcher(),
            events: session.events().clone(),
            date: date.map(|day| format!("{day}T23:59:59Z")),
            patch: session.config.find_program("patch"),
            store: session.store()?,
            scratch: tempfile::tempdir_in(session.cache_folder("lock")?)?,
            number: AtomicUsize::new(0),
        })
    }

    pub fn step(&self, what: String) {
        self.events.emit(Event::Step { what });
    }

    pub fn notice(&self, message: String) {
        self.events.emit(Event::Notice { message });
    }

    pub fn warn(&self, message: String) {
        self.events.emit(Event::Warning { message });
    }

    /// A fresh name below the scratch folder.
    pub fn fresh(&self) -> PathBuf {
        self.scratch.path().join(self.number.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// A fresh folder.
    pub fn folder(&self) -> Result<PathBuf, Failure> {
        let folder = self.fresh();
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// Puts a tree into the store under the name its derivation has, so that nothing fetches it again; gives the
    /// place where it lies now.
    pub fn keep_tree(&self, tree: &Path, name: &str) -> Result<PathBuf, Failure> {
        let added = self.store.add_from_path(tree, Source::tree(name))?;
        let _ = std::fs::remove_dir_all(tree);
        Ok(self.store.real_path(&added.path))
    }

    /// The same for a file.
    pub fn keep_file(&self, file: &Path, name: &str) -> Result<PathBuf, Failure> {
        let source = Source { method: ContentMethod::Flat, ..Source::tree(name) };
        let added = self.store.add_from_path(file, source)?;
        Ok(self.store.real_path(&added.path))
    }

    /// A pinned tree or file, where the store has it.
    pub fn kept(&self, method: ContentMethod, hash: &str, name: &str) -> Option<PathBuf> {
        let hash = Hash::parse_any(hash, Some(HashAlgorithm::Sha256)).ok()?;
        let path = fixed_output_path(method, &hash, name, &Default::default(), false).ok()?;
        self.store.is_valid(&path).ok()?.then(|| self.store.real_path(&path))
    }
}

/// The characters a store path's name cannot have, as the library replaces them.
pub fn store_name(name: &str) -> String {
    name.replace(['~', ':', '@', '/', '%'], "-")
}

/// Does something with every item, several at a time. All failures are told together.
pub fn parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R, Failure> + Sync,
) -> Result<Vec<R>, Failure> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<R, Failure>>>> = items.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    *results[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    let mut done = Vec::new();
    let mut failures = Vec::new();
    for result in results {
        match result.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(Ok(value)) => done.push(value),
            Some(Err(failure)) => failures.push(failure),
            None => failures.push(Failure::interrupted()),
        }
    }
    if failures.is_empty() { Ok(done) } else { Err(together(failures)) }
}

/// One failure as it is, several as a list without saying anything twice.
fn together(mut failures: Vec<Failure>) -> Failure {
    if failures.len() == 1 {
        return failures.remove(0);
    }
    let mut texts: Vec<String> = Vec::new();
    let mut hints: Vec<String> = Vec::new();
    for failure in &failures {
        let (message, hint) = failure.message.split_once("\n\nhint: ").unwrap_or((&failure.message, ""));
        let hint = failure.hint.as_deref().unwrap_or(hint);
        for (list, text) in [(&mut texts, message), (&mut hints, hint)] {
            if !text.is_empty() && !list.iter().any(|t| t == text) {
                list.push(text.to_owned());
            }
        }
    }
    let status = failures.iter().map(|f| f.status).max().unwrap_or(crate::failure::EXIT_FAILED);
    let list: Vec<String> =
        texts.iter().map(|text| format!("  - {}", text.replace('\n', "\n    "))).collect();
    Failure { status, ..Failure::failed(format!("{} sources cannot be pinned", texts.len())) }
        .details(list.join("\n"))
        .hint(hints.join("; "))
}
