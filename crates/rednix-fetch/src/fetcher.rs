//! Fetching in batches: every request ends in a verified file or in an error that says what to do.
//!
//! Bytes are hashed while they arrive and get their name only when they are the wanted ones. Knows no store:
//! the caller says where the files go.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rednix_events::{Activity, Event, Events};
use rednix_store::hash::{Hash, HashAlgorithm};

use crate::config::FetchConfig;
use crate::crates::{self, CrateRequest};
use crate::debian;
use crate::error::FetchError;
use crate::http::Http;
use crate::limits;
use crate::source::{self, Place, Source};
use crate::transfer::{self, Wanted};

/// One wanted file.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// Canonical or plain urls of the same bytes, tried in order.
    pub urls: Vec<String>,
    /// Name below the destination folder; unique within a batch.
    pub file_name: String,
    /// Hash of the file's bytes. None only where the caller checks otherwise.
    pub hash: Option<Hash>,
    pub size_bytes: Option<u64>,
}

/// A file that arrived; its bytes have the wanted hash.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub path: PathBuf,
    pub size_bytes: u64,
    /// By the wanted hash's algorithm, else SHA-256.
    pub hash: Hash,
}

/// Fetches by one configuration; keeps connections open between batches.
#[derive(Debug)]
pub struct Fetcher {
    pub(crate) config: FetchConfig,
    /// Made at the first need: reading the certificates takes longer than a no-op build may.
    http: OnceLock<Result<Http, String>>,
}

impl Fetcher {
    pub fn new(config: FetchConfig) -> Self {
        Fetcher { config, http: OnceLock::new() }
    }

    pub fn config(&self) -> &FetchConfig {
        &self.config
    }

    pub(crate) fn http(&self) -> Result<&Http, FetchError> {
        let made = self.http.get_or_init(|| Http::new(&self.config).map_err(|error| error.reason()));
        made.as_ref()
            .map_err(|reason| FetchError::Tls { url: "any server".to_owned(), reason: reason.clone() })
    }

    /// Fetches all requests into the folder `destination`, which must exist. Results are in the requests' order.
    pub fn fetch_batch(
        &self,
        requests: &[FetchRequest],
        destination: &Path,
        events: &Events,
    ) -> Vec<Result<Fetched, FetchError>> {
        self.run(requests, Folders::One(destination), events, &|_, _| {})
    }

    /// As [`Fetcher::fetch_batch`], each request into its own folder of `folders`; `done` is called once for
    /// each, from any thread, as soon as its outcome is known.
    pub fn fetch_each(
        &self,
        requests: &[FetchRequest],
        folders: &[PathBuf],
        events: &Events,
        done: &(dyn Fn(usize, &Result<Fetched, FetchError>) + Sync),
    ) -> Vec<Result<Fetched, FetchError>> {
        assert_eq!(requests.len(), folders.len(), "every request has its folder");
        self.run(requests, Folders::Each(folders), events, done)
    }

    fn run(
        &self,
        requests: &[FetchRequest],
        folders: Folders,
        events: &Events,
        done: &Done,
    ) -> Vec<Result<Fetched, FetchError>> {
        let batch = Batch::new(self, requests, folders, events, done);
        // Crates no mirror has go through one run of cargo, while everything else is transferred.
        let (through_cargo, others): (Vec<usize>, Vec<usize>) =
            batch.pending().partition(|index| batch.is_for_cargo_only(*index));
        std::thread::scope(|scope| {
            let batch = &batch;
            scope.spawn(move || batch.run_cargo(&through_cargo));
            batch.run_transfers(&others);
        });
        let missing: Vec<usize> = batch.pending().filter(|index| batch.crate_of(*index).is_some()).collect();
        batch.run_cargo(&missing);
        batch.explain_gone_packages();
        batch.finish()
    }

    /// Fetches one file.
    pub fn fetch(
        &self,
        request: &FetchRequest,
        destination: &Path,
        events: &Events,
    ) -> Result<Fetched, FetchError> {
        self.fetch_batch(std::slice::from_ref(request), destination, events).remove(0)
    }
}

type Outcome = Option<Result<Fetched, FetchError>>;

type Done<'d> = dyn Fn(usize, &Result<Fetched, FetchError>) + Sync + 'd;

/// Where the files of a batch go.
#[derive(Clone, Copy)]
enum Folders<'f> {
    One(&'f Path),
    Each(&'f [PathBuf]),
}

impl<'f> Folders<'f> {
    fn of(self, index: usize) -> &'f Path {
        match self {
            Folders::One(folder) => folder,
            Folders::Each(folders) => &folders[index],
        }
    }
}

/// One batch on its way.
struct Batch<'b> {
    fetcher: &'b Fetcher,
    requests: &'b [FetchRequest],
    folders: Folders<'b>,
    events: &'b Events,
    done: &'b Done<'b>,
    outcomes: Vec<Mutex<Outcome>>,
}

impl<'b> Batch<'b> {
    fn new(
        fetcher: &'b Fetcher,
        requests: &'b [FetchRequest],
        folders: Folders<'b>,
        events: &'b Events,
        done: &'b Done<'b>,
    ) -> Self {
        let outcomes = requests.iter().map(|_| Mutex::new(None)).collect();
        let batch = Batch { fetcher, requests, folders, events, done, outcomes };
        let mut names = HashSet::new();
        for (index, request) in requests.iter().enumerate() {
            let name = request.file_name.as_str();
            let is_plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
            if index >= limits::BATCH_FILES_MAX || !is_plain || !names.insert((folders.of(index), name)) {
                batch.settle(index, Err(FetchError::SameName { name: name.to_owned() }));
            } else if request.urls.is_empty() {
                batch.settle(index, Err(no_address(name)));
            }
        }
        batch
    }

    /// Notes an outcome and tells whoever waits for it.
    fn settle(&self, index: usize, outcome: Result<Fetched, FetchError>) {
        (self.done)(index, &outcome);
        *self.outcome(index) = Some(outcome);
    }

    fn wanted(&self, index: usize, activity: Activity) -> Wanted<'_> {
        let destination = self.folders.of(index);
        Wanted { request: &self.requests[index], destination, activity, events: self.events }
    }

    fn pending(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.requests.len()).filter(|index| self.outcome(*index).is_none())
    }

    fn outcome(&self, index: usize) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcomes[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The crate a request names, if any of its urls does.
    fn crate_of(&self, index: usize) -> Option<(String, String)> {
        self.requests[index].urls.iter().find_map(|url| match Source::parse(url) {
            Ok(Source::Crate { name, version }) => Some((name, version)),
            _ => None,
        })
    }

    fn is_for_cargo_only(&self, index: usize) -> bool {
        let [url] = self.requests[index].urls.as_slice() else { return false };
        let places = source::places(&self.fetcher.config, url).unwrap_or_default();
        matches!(places.as_slice(), [Place::Cargo { .. }])
    }

    fn run_transfers(&self, indexes: &[usize]) {
        let next = AtomicUsize::new(0);
        let threads = self.fetcher.config.parallel.clamp(1, 64).min(indexes.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(index) = indexes.get(next.fetch_add(1, Ordering::Relaxed)) {
                        match self.transfer(*index) {
                            // What is gone is explained before anyone is told.
                            Some(Err(error)) if self.gone(*index, &error).is_some() => {
                                *self.outcome(*index) = Some(Err(error));
                            }
                            Some(outcome) => self.settle(*index, outcome),
                            None => {}
                        }
                    }
                });
            }
        });
    }

    /// Tries all places but cargo. None: only cargo is left to ask.
    fn transfer(&self, index: usize) -> Outcome {
        let request = &self.requests[index];
        let mut attempts = Vec::new();
        let mut asks_cargo = false;
        let activity = Activity::next();
        let started = Instant::now();
        let shown = request.urls.first().cloned().unwrap_or_default();
        self.events.emit(Event::FetchStarted {
            id: activity,
            url: shown.clone(),
            size_bytes: request.size_bytes,
        });
        for url in &request.urls {
            let places = match source::places(&self.fetcher.config, url) {
                Ok(places) => places,
                Err(error) => {
                    attempts.push(error);
                    continue;
                }
            };
            for place in places {
                if let Place::Cargo { .. } = place {
                    asks_cargo = true;
                    continue;
                }
                match self.try_place(index, &place, activity) {
                    Ok(fetched) => {
                        let duration_ms = started.elapsed().as_millis() as u64;
                        let size_bytes = fetched.size_bytes;
                        self.events.emit(Event::FetchDone { id: activity, size_bytes, duration_ms });
                        return Some(Ok(fetched));
                    }
                    Err(error) => attempts.push(error),
                }
            }
        }
        if asks_cargo {
            self.events.emit(Event::FetchDone { id: activity, size_bytes: 0, duration_ms: 0 });
            return None;
        }
        let error = combine(&shown, attempts);
        self.events.emit(Event::FetchFailed { id: activity, message: error.reason() });
        Some(Err(error))
    }

    fn try_place(&self, index: usize, place: &Place, activity: Activity) -> Result<Fetched, FetchError> {
        let wanted = self.wanted(index, activity);
        let config = &self.fetcher.config;
        config.check_cancel()?;
        match place {
            Place::File(path) => transfer::copy_file(&wanted, path),
            Place::Web(url) => {
                let mut attempt = 0;
                loop {
                    config.check_cancel()?;
                    match transfer::download(self.fetcher, &wanted, url) {
                        Err(error) if error.is_passing() && attempt < config.retries => {
                            let factor = 1 << attempt.min(3);
                            std::thread::sleep((config.retry_delay / 8 * factor).min(config.retry_delay));
                            attempt += 1;
                        }
                        result => return result,
                    }
                }
            }
            Place::Cargo { .. } => unreachable!("cargo is asked in batches"),
        }
    }

    /// Asks cargo for all given crates at once.
    fn run_cargo(&self, indexes: &[usize]) {
        if indexes.is_empty() {
            return;
        }
        let activity = Activity::next();
        let started = Instant::now();
        let url = format!("{} crates through cargo", indexes.len());
        self.events.emit(Event::FetchStarted { id: activity, url, size_bytes: None });
        let mut requests = Vec::new();
        for index in indexes {
            let Some((name, version)) = self.crate_of(*index) else { continue };
            requests.push(CrateRequest { name, version, hash: self.requests[*index].hash, tag: *index });
        }
        let mut size_bytes = 0;
        let mut failed = None;
        for (index, found) in crates::fetch(&self.fetcher.config, &requests, self.events) {
            let wanted = self.wanted(index, activity);
            let outcome = found.and_then(|path| transfer::copy_file(&wanted, &path));
            match &outcome {
                Ok(fetched) => size_bytes += fetched.size_bytes,
                Err(error) => failed = failed.or(Some(error.reason())),
            }
            self.settle(index, outcome);
        }
        let duration_ms = started.elapsed().as_millis() as u64;
        self.events.emit(match failed {
            None => Event::FetchDone { id: activity, size_bytes, duration_ms },
            Some(message) => Event::FetchFailed { id: activity, message },
        });
    }

    /// Suite and path of a package that every mirror says it does not have.
    fn gone(&self, index: usize, error: &FetchError) -> Option<(String, String)> {
        let [url] = self.requests[index].urls.as_slice() else { return None };
        match Source::parse(url) {
            Ok(Source::Debian { suite, path }) if path.ends_with(".deb") && error.is_absent() => {
                Some((suite, path))
            }
            _ => None,
        }
    }

    /// Says for packages that are gone what the mirrors offer now.
    fn explain_gone_packages(&self) {
        let gone: Vec<(usize, (String, String))> = (0..self.requests.len())
            .filter_map(|index| match &*self.outcome(index) {
                Some(Err(error)) => Some((index, self.gone(index, error)?)),
                _ => None,
            })
            .collect();
        let packages: Vec<(String, String)> = gone.iter().map(|(_, package)| package.clone()).collect();
        let errors = debian::gone::describe(self.fetcher, &packages, self.events);
        for ((index, _), error) in gone.into_iter().zip(errors) {
            self.settle(index, Err(error));
        }
    }

    fn finish(self) -> Vec<Result<Fetched, FetchError>> {
        let outcomes = self.outcomes.into_iter().map(|outcome| {
            let outcome = outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            outcome.expect("every request was settled: transferred, asked of cargo, or refused")
        });
        outcomes.collect()
    }
}

fn no_address(name: &str) -> FetchError {
    FetchError::BadUrl { url: name.to_owned(), reason: "no address is given".to_owned() }
}

/// One error for several attempts: the only one as it is, "not there" only if every place said so.
fn combine(url: &str, mut attempts: Vec<FetchError>) -> FetchError {
    if let Some(cancelled) = attempts.iter().position(|error| matches!(error, FetchError::Cancelled)) {
        return attempts.swap_remove(cancelled);
    }
    if attempts.len() > 1 && !attempts.iter().all(FetchError::is_absent) {
        let reasons: Vec<String> = attempts.iter().map(|error| format!("  {}", error.reason())).collect();
        return FetchError::NoPlace {
            url: url.to_owned(),
            count: attempts.len(),
            attempts: reasons.join("\n"),
        };
    }
    attempts.pop().unwrap_or_else(|| no_address(url))
}

/// Hashes a file.
pub fn hash_file(path: &Path, algorithm: HashAlgorithm) -> Result<(Hash, u64), FetchError> {
    let mut file = File::open(path).map_err(|error| FetchError::io("open", path, error))?;
    let mut hasher = rednix_store::hash::Hasher::new(algorithm);
    let size = io::copy(&mut file, &mut hasher).map_err(|error| FetchError::io("read", path, error))?;
    Ok((hasher.finish(), size))
}

/// Creates a folder with its parents.
pub(crate) fn make_folder(path: &Path) -> Result<(), FetchError> {
    fs::create_dir_all(path).map_err(|error| FetchError::io("create the folder", path, error))
}

/// Gap between progress events.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_millis(limits::PROGRESS_INTERVAL_MS);
