//! All caches of a user together: which of them has what, and bringing whole closures into a store. What one cannot
//! give, the next one is asked for. Builds nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rednix_events::{Event, Events};
use rednix_store::Store;
use rednix_store::hash::Hash;
use rednix_store::path::StorePath;
use rednix_store::store::RealisationId;

use crate::cache::{Address, Asking, Cache};
use crate::error::{Error, Result};
use crate::keys::Trust;
use crate::limits::{
    CLOSURE_PATHS_MAX, ENTRIES_LARGE_BYTES_MAX, ENTRY_BYTES_USUAL, QUESTIONS_PARALLEL, TRANSFERS_PARALLEL,
    WARNINGS_MAX,
};
use crate::narinfo::NarInfo;
use crate::queue::Queue;
use crate::realisation::{Found, Key};
use crate::transfer::{Belief, believe, transfer};
use crate::transport::{Connections, HttpSettings};

/// What the user configured.
#[derive(Debug, Default)]
pub struct Settings {
    pub caches: Vec<Address>,
    pub trust: Trust,
    pub http: HttpSettings,
    /// Folder for what is remembered between runs.
    pub state: Option<PathBuf>,
    /// Only caches on this machine's disk.
    pub offline: bool,
}

/// An output somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub derivation: StorePath,
    pub output: String,
    /// Known beforehand, unless the output floats.
    pub path: Option<StorePath>,
    /// Names the realisation where the path is not known.
    pub realisation: Option<RealisationId>,
}

/// What a cache has for a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub path: StorePath,
    /// Of all that is missing here, as far as entries tell.
    pub transfer_bytes: u64,
}

/// What became of a pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    pub paths: u64,
    pub nar_bytes: u64,
}

/// An entry, where it is, and why it is believed.
#[derive(Clone)]
struct Entry {
    cache: usize,
    entry: Arc<NarInfo>,
    belief: Belief,
}

#[derive(Default)]
struct Known {
    /// `None`: no cache has it.
    entries: HashMap<StorePath, Option<Entry>>,
    realisations: HashMap<RealisationId, Option<(Key, Found)>>,
    /// Entries that turned out to be bad: cache and path.
    bad: HashSet<(usize, StorePath)>,
    told: HashSet<Hash>,
    /// Of the entries that are larger than usual.
    large_bytes: usize,
}

pub struct Caches {
    caches: Vec<Cache>,
    trust: Trust,
    events: Events,
    cancelled: Arc<AtomicBool>,
    /// By priority; settled at the first question.
    order: std::sync::OnceLock<Vec<usize>>,
    known: Mutex<Known>,
}

impl Caches {
    /// Opens all; one with a wrong address is an error, an unreachable one is not.
    pub fn open(settings: Settings, events: Events, cancelled: Arc<AtomicBool>) -> Result<Caches> {
        let mut caches = Vec::new();
        let http = HttpSettings { cancelled: cancelled.clone(), ..settings.http };
        let connections = Arc::new(Connections::new(http));
        for address in settings.caches {
            let cache = Cache::open(address, &connections, settings.state.as_deref(), events.clone())?;
            if !settings.offline || cache.transport.is_local() {
                caches.push(cache);
            }
        }
        Ok(Caches::over(caches, settings.trust, events, cancelled))
    }

    pub fn over(caches: Vec<Cache>, trust: Trust, events: Events, cancelled: Arc<AtomicBool>) -> Caches {
        Caches { caches, trust, events, cancelled, order: Default::default(), known: Mutex::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.caches.is_empty()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn order(&self) -> &[usize] {
        self.order.get_or_init(|| {
            let indices: Vec<usize> = (0..self.caches.len()).collect();
            let priorities = in_parallel(&indices, |&index| self.caches[index].priority());
            let mut order: Vec<usize> = indices;
            order.sort_by_key(|&index| (priorities[index], index));
            order
        })
    }

    /// Says something once.
    fn warn(&self, error: &Error) {
        if matches!(error, Error::Cancelled) {
            return;
        }
        let message = error.to_string();
        let mut known = self.known();
        if known.told.len() > WARNINGS_MAX || !known.told.insert(Hash::sha256(message.as_bytes())) {
            return;
        }
        let is_last = known.told.len() > WARNINGS_MAX;
        drop(known);
        // What to do stays at the end.
        let (what, hint) = message.split_once("\n\n").unwrap_or((&message, ""));
        let message = match is_last {
            true => format!("caches give more troubles than the {WARNINGS_MAX} that were told; no more are"),
            false => format!("{what}; it is not used\n\n{hint}").trim_end().to_owned(),
        };
        self.events.emit(Event::Warning { message });
    }

    /// A cache that is out as a whole is told of where it is sent to rest.
    fn warn_unless_out(&self, error: &Error) {
        if !error.is_outage() || matches!(error, Error::Server { .. }) {
            self.warn(error);
        }
    }

    /// For each question, what can be had with everything it refers to. Never fails: a build can go on without.
    pub fn offers(&self, store: &Store, asked: &[Ask]) -> Vec<Option<Offer>> {
        if self.caches.is_empty() || self.is_cancelled() {
            return vec![None; asked.len()];
        }
        let paths = in_parallel(asked, |ask| match (&ask.path, &ask.realisation) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(id)) => self.realisation(ask, id).map(|(_, found)| found.path),
            (None, None) => None,
        });
        if self.learn(store, paths.iter().flatten(), Asking::Remembering).is_err() {
            return vec![None; asked.len()];
        }
        let mut memo = HashMap::new();
        let offer = |path: Option<StorePath>| {
            let path = path?;
            let transfer_bytes = self.closure(store, &path, &mut memo)?;
            Some(Offer { path, transfer_bytes })
        };
        paths.into_iter().map(offer).collect()
    }

    /// The first cache's answer that somebody trusted vouches for.
    fn realisation(&self, ask: &Ask, id: &RealisationId) -> Option<(Key, Found)> {
        if let Some(known) = self.known().realisations.get(id) {
            return known.clone();
        }
        let keys = [Key::Hash(id.clone()), Key::Derivation(ask.derivation.clone(), ask.output.clone())];
        let mut answer = None;
        'caches: for &index in self.order() {
            let cache = &self.caches[index];
            for key in &keys {
                if !cache.is_awake() || self.is_cancelled() {
                    break;
                }
                let found = match cache.realisation(key) {
                    Ok(Some(found)) => found,
                    Ok(None) => continue,
                    Err(error) => {
                        self.warn_unless_out(&error);
                        continue;
                    }
                };
                match key.check(&found, &self.trust) {
                    Err(error) if !cache.address.trusted => self.warn(&error),
                    _ => {
                        answer = Some((key.clone(), found));
                        break 'caches;
                    }
                }
            }
        }
        self.known().realisations.insert(id.clone(), answer.clone());
        answer
    }

    /// Gets the entries of paths and all they refer to, level by level. What is valid here needs none.
    fn learn<'p>(
        &self,
        store: &Store,
        paths: impl Iterator<Item = &'p StorePath>,
        asking: Asking,
    ) -> Result<()> {
        let mut level: BTreeSet<StorePath> = paths.cloned().collect();
        let mut count = 0;
        while !level.is_empty() && !self.is_cancelled() {
            count += level.len();
            if count > CLOSURE_PATHS_MAX {
                let limit = CLOSURE_PATHS_MAX as u64;
                return Err(Error::TooLarge { what: "the closure".to_owned(), limit });
            }
            let valid = store.valid_among(level.iter())?;
            level.retain(|path| !valid.contains(path));
            let mut next = BTreeSet::new();
            let mut unknown = Vec::new();
            for path in level {
                match self.known().entries.get(&path) {
                    Some(Some(entry)) => next.extend(entry.entry.references.iter().cloned()),
                    Some(None) => {}
                    None => unknown.push(path),
                }
            }
            let found = in_parallel(&unknown, |path| self.entry(path, asking));
            for (path, entry) in unknown.iter().zip(found) {
                if let Some(entry) = &entry {
                    next.extend(entry.entry.references.iter().cloned());
                }
                self.known().entries.insert(path.clone(), entry);
            }
            let known = &self.known().entries;
            level = next.into_iter().filter(|path| !known.contains_key(path)).collect();
        }
        Ok(())
    }

    /// The first believable entry for a path.
    fn entry(&self, path: &StorePath, asking: Asking) -> Option<Entry> {
        for &index in self.order() {
            let cache = &self.caches[index];
            if !cache.is_awake() || self.is_cancelled() || self.known().bad.contains(&(index, path.clone())) {
                continue;
            }
            let mut bytes = 0;
            let entry = cache.narinfo(path, asking, |size| {
                self.take_room(path, size)?;
                bytes = size;
                Ok(())
            });
            let entry =
                match entry {
                    Ok(Some(entry)) => believe(&entry, &self.trust, cache.address.trusted)
                        .map(|belief| Entry { cache: index, entry: Arc::new(entry), belief }),
                    Ok(None) => continue,
                    Err(error) => Err(error),
                };
            match entry {
                Ok(entry) => return Some(entry),
                Err(error) => {
                    self.give_room_back(bytes);
                    self.warn_unless_out(&error);
                }
            }
        }
        None
    }

    /// Room for an entry beside the others that are larger than usual.
    fn take_room(&self, path: &StorePath, bytes: usize) -> Result<()> {
        let mut known = self.known();
        if bytes > ENTRY_BYTES_USUAL && known.large_bytes + bytes > ENTRIES_LARGE_BYTES_MAX {
            let what = format!("all large entries of caches together, with that of `{path}`,");
            return Err(Error::TooLarge { what, limit: ENTRIES_LARGE_BYTES_MAX as u64 });
        }
        known.large_bytes += if bytes > ENTRY_BYTES_USUAL { bytes } else { 0 };
        Ok(())
    }

    fn give_room_back(&self, bytes: usize) {
        if bytes > ENTRY_BYTES_USUAL {
            self.known().large_bytes -= bytes;
        }
    }

    /// Bytes to transfer for a path with all it refers to; `None` where something of it is nowhere.
    fn closure(&self, store: &Store, path: &StorePath, memo: &mut HashMap<StorePath, bool>) -> Option<u64> {
        let known = self.known();
        let (mut seen, mut left, mut bytes) = (HashSet::new(), vec![path.clone()], 0u64);
        while let Some(next) = left.pop() {
            if !seen.insert(next.clone()) {
                continue;
            }
            match known.entries.get(&next) {
                Some(Some(entry)) => {
                    bytes = bytes.saturating_add(entry.entry.file_size.unwrap_or(entry.entry.nar_size));
                    left.extend(entry.entry.references.iter().cloned());
                }
                _ => {
                    let valid =
                        *memo.entry(next.clone()).or_insert_with(|| store.is_valid(&next).unwrap_or(false));
                    if !valid {
                        return None;
                    }
                }
            }
        }
        Some(bytes)
    }

    /// Brings what was offered into the store; `done` is called once for each question, by index, as soon as it is
    /// there with everything it refers to.
    pub fn bring(&self, store: &Store, asked: &[Ask], done: &(dyn Fn(usize, Result<StorePath>) + Sync)) {
        let mut wanted: BTreeMap<StorePath, Vec<usize>> = BTreeMap::new();
        for (index, offer) in self.offers(store, asked).into_iter().enumerate() {
            match offer {
                Some(offer) => wanted.entry(offer.path).or_default().push(index),
                None if self.is_cancelled() => done(index, Err(Error::Cancelled)),
                None => done(index, Err(Error::Gone { path: asked[index].derivation.to_string() })),
            }
        }
        self.bring_paths(store, wanted.keys().cloned().collect(), &|path, result| {
            for &index in wanted.get(path).into_iter().flatten() {
                done(
                    index,
                    match &result {
                        Ok(()) => self.register(store, &asked[index], path.clone()),
                        Err(reason) => Err(Error::NotHad { path: path.to_string(), reason: reason.clone() }),
                    },
                );
            }
        });
    }

    /// Brings paths with all they refer to, whoever has them: for whoever names paths and not what they are made by.
    /// Returns how many were missing and came. What caches did not have a moment ago they are asked for again.
    pub fn pull(&self, store: &Store, paths: &BTreeSet<StorePath>) -> Result<Pulled> {
        self.known().entries.retain(|_, entry| entry.is_some());
        self.learn(store, paths.iter(), Asking::Anew)?;
        let pulled = Mutex::new((Pulled::default(), None::<Error>));
        let missing: BTreeSet<StorePath> = paths.difference(&store.valid_among(paths)?).cloned().collect();
        self.bring_paths(store, missing, &|path, result| {
            let mut pulled = pulled.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(()) => {
                    pulled.0.paths += 1;
                    let known = self.known().entries.get(path).cloned().flatten();
                    pulled.0.nar_bytes += known.map_or(0, |found| found.entry.nar_size);
                }
                Err(_) if self.is_cancelled() => drop(pulled.1.insert(Error::Cancelled)),
                Err(reason) => {
                    let (path, asked) = (path.to_string(), self.asked());
                    pulled.1.get_or_insert(Error::NotPulled { path, reason, asked });
                }
            }
        });
        let (pulled, error) = pulled.into_inner().unwrap_or_else(PoisonError::into_inner);
        let absent = paths.difference(&store.valid_among(paths)?).next().cloned();
        match (error, absent) {
            (Some(error), _) => Err(error),
            (None, Some(path)) => Err(Error::Nowhere { path: path.to_string(), asked: self.asked() }),
            (None, None) => Ok(pulled),
        }
    }

    /// The caches, in the order they are asked.
    fn asked(&self) -> String {
        let shown: Vec<String> =
            self.order().iter().map(|&index| self.caches[index].address.shown()).collect();
        shown.join(", ")
    }

    /// The first cache's log of a build.
    pub fn log(&self, derivation: &StorePath) -> Option<Box<dyn Read + Send>> {
        self.order().iter().find_map(|&index| {
            let cache = &self.caches[index];
            if !cache.is_awake() || self.is_cancelled() {
                return None;
            }
            cache.log(derivation).unwrap_or_else(|error| {
                self.warn_unless_out(&error);
                None
            })
        })
    }

    /// Brings paths with all they refer to; `done` is called once for each path of the closure that was missing.
    fn bring_paths(
        &self,
        store: &Store,
        wanted: BTreeSet<StorePath>,
        done: &(dyn Fn(&StorePath, Result<(), String>) + Sync),
    ) {
        let queue = match self.queue(store, &wanted) {
            Ok(queue) => queue,
            Err(error) => {
                for path in &wanted {
                    done(path, Err(error.to_string()));
                }
                return;
            }
        };
        for path in wanted.iter().filter(|path| !queue.has(path)) {
            done(path, Ok(()));
        }
        std::thread::scope(|scope| {
            for _ in 0..TRANSFERS_PARALLEL.min(queue.len()) {
                scope.spawn(|| {
                    while let Some(path) = queue.next() {
                        let result = match self.is_cancelled() {
                            true => Err("interrupted".to_owned()),
                            false => self.bring_one(store, &path).map_err(|error| error.brief()),
                        };
                        for (path, result) in queue.finish(&path, result) {
                            done(&path, result);
                        }
                    }
                });
            }
        });
    }

    /// What is missing of a closure, each after what it refers to.
    fn queue(&self, store: &Store, wanted: &BTreeSet<StorePath>) -> Result<Queue> {
        let mut references = BTreeMap::new();
        let mut left: Vec<StorePath> = wanted.iter().cloned().collect();
        while let Some(path) = left.pop() {
            if references.contains_key(&path) {
                continue;
            }
            if let Some(Some(entry)) = self.known().entries.get(&path) {
                left.extend(entry.entry.references.iter().cloned());
                references.insert(path, entry.entry.references.clone());
            }
        }
        // Rooted first, looked at then: a collection between the two cannot take them away.
        store.add_temp_roots(references.keys().chain(references.values().flatten()))?;
        let valid = store.valid_among(references.keys())?;
        references.retain(|path, _| !valid.contains(path));
        Ok(Queue::new(references))
    }

    /// One path, from the first cache that gives it whole and right.
    fn bring_one(&self, store: &Store, path: &StorePath) -> Result<()> {
        let mut known = self.known().entries.get(path).cloned().flatten();
        loop {
            let Some(found) = known else { return Err(Error::Gone { path: path.to_string() }) };
            let cache = &self.caches[found.cache];
            let error = if cache.is_awake() {
                match transfer(store, cache, &found.entry, found.belief, &self.cancelled, &self.events) {
                    Ok(()) => return Ok(()),
                    // Not the cache's fault: another one would not help.
                    Err(error @ (Error::Store(_) | Error::Cancelled)) => return Err(error),
                    Err(error) => error,
                }
            } else {
                // It failed others: waiting for it again would only cost time.
                Error::Resting { url: cache.address.shown() }
            };
            if !matches!(error, Error::Resting { .. }) {
                self.warn(&error);
            }
            self.known().bad.insert((found.cache, path.clone()));
            known = self.entry(path, Asking::Remembering);
            self.known().entries.insert(path.clone(), known.clone());
            if known.is_none() {
                return Err(error);
            }
        }
    }

    /// Remembers what the output is; where another answer is in force here already, that one counts.
    fn register(&self, store: &Store, ask: &Ask, path: StorePath) -> Result<StorePath> {
        let Some(id) = ask.realisation.as_ref().filter(|_| ask.path.is_none()) else { return Ok(path) };
        let Some((key, found)) = self.known().realisations.get(id).cloned().flatten() else {
            return Ok(path);
        };
        let in_force = store.register_realisations(&[found.to_realisation(id, &key)])?;
        Ok(in_force.get(id).cloned().unwrap_or(path))
    }
}

/// Asks many questions at once, and keeps the answers' order.
pub(crate) fn in_parallel<Q: Sync, A: Send>(questions: &[Q], ask: impl Fn(&Q) -> A + Sync) -> Vec<A> {
    if questions.len() <= 1 {
        return questions.iter().map(ask).collect();
    }
    let next = AtomicUsize::new(0);
    let answers: Vec<Mutex<Option<A>>> = questions.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..QUESTIONS_PARALLEL.min(questions.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(question) = questions.get(index) else { return };
                    let answer = ask(question);
                    *answers[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                }
            });
        }
    });
    let taken = answers.into_iter().map(|answer| answer.into_inner().unwrap_or_else(PoisonError::into_inner));
    taken.map(|answer| answer.expect("every question was taken by some thread")).collect()
}
