//! From a store to a cache: what it lacks is packed, uploaded and signed, each path after what it refers to. Decides
//! nothing about what should be pushed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rednix_events::{Activity, Event, Events};
use rednix_store::derivation::{Derivation, DerivationHashes, resolve_inputs};
use rednix_store::hash::{Hash, HashAlgorithm, Hasher};
use rednix_store::nar;
use rednix_store::path::{STORE_DIR, StorePath};
use rednix_store::store::{Realisation, RealisationId};
use rednix_store::{PathInfo, Store};

use crate::caches::in_parallel;
use crate::compression::Compression;
use crate::encoders::ENCODERS;
use crate::error::{Error, Result};
use crate::keys::SecretKey;
use crate::limits::{
    ARCHIVE_SENT_MAX, PRIORITY_DEFAULT, PUSHED_LOG_BYTES_MAX, TRANSFERS_PARALLEL, ZSTD_LEVEL,
};
use crate::narinfo::{NarInfo, content_proof, fingerprint};
use crate::queue::Queue;
use crate::realisation::Key;
use crate::transport::{Body, Transport};

/// How a server's wish for an archive begins, as the transport tells it.
const ARCHIVE_WANTED: &str = "HTTP 424:";

static LOG_TURN: Mutex<()> = Mutex::new(());

/// What became of a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    pub paths: u64,
    pub nar_bytes: u64,
    pub file_bytes: u64,
    /// Paths the cache had already.
    pub present: u64,
    pub realisations: u64,
    /// What the cache did not take, or what is not fit to be pushed, and why; with what refers to it.
    pub refused: BTreeMap<StorePath, String>,
}

/// A store and where it is pushed to.
pub struct Push<'a> {
    pub store: &'a Store,
    pub transport: &'a dyn Transport,
    /// Signs what was built here, and what proves itself.
    pub key: Option<&'a SecretKey>,
    pub events: &'a Events,
    pub cancelled: &'a AtomicBool,
    /// Folder for archives on their way.
    pub scratch: PathBuf,
    /// What keeps one path from being pushed keeps no other from it that does not refer to it.
    pub keep_going: bool,
}

/// The text of a `nix-cache-info`.
pub fn cache_info(priority: u32) -> String {
    format!("StoreDir: {STORE_DIR}\nWantMassQuery: 1\nPriority: {priority}\n")
}

/// The signatures a path leaves with. Signed is what was built here, and what its archive's hash alone proves: never
/// what came from elsewhere on somebody else's word, nor what was built of a working copy. A content address in the
/// database is no proof, for earlier versions took it unchecked; other contents that prove themselves need no signature.
pub fn signatures(info: &PathInfo, key: Option<&SecretKey>) -> Vec<String> {
    let mut signatures = info.signatures.clone();
    if let Some(key) = key.filter(|_| info.ultimate || is_proven(info)) {
        let own = format!("{}:", key.name());
        signatures.retain(|signature| !signature.starts_with(&own));
        signatures.push(key.sign(&fingerprint(info)));
    }
    signatures
}

fn is_proven(info: &PathInfo) -> bool {
    content_proof(info).ok().flatten().is_some_and(|proof| proof.is_given_by(&info.nar_hash))
}

/// Works out the keys of realisations, and remembers what it found out about derivations on the way.
pub struct Keys<'s> {
    store: &'s Store,
    hashes: DerivationHashes,
    outputs: HashMap<(StorePath, String), Option<StorePath>>,
}

impl<'s> Keys<'s> {
    pub fn new(store: &'s Store) -> Keys<'s> {
        Keys { store, hashes: DerivationHashes::new(), outputs: HashMap::new() }
    }

    fn hash(&mut self, derivation: &Derivation) -> Result<Hash> {
        let store = self.store;
        Ok(*self.hashes.masked(derivation, &mut |path| store.read_derivation(path))?.hash())
    }

    /// What an output of a derivation is known to be.
    fn output(&mut self, path: &StorePath, output: &str) -> Result<Option<StorePath>> {
        let key = (path.clone(), output.to_owned());
        if let Some(known) = self.outputs.get(&key) {
            return Ok(known.clone());
        }
        let derivation = self.store.read_derivation(path)?;
        let found = match derivation.output_path(output) {
            Some(known) => Some(known.clone()),
            None => {
                let id =
                    RealisationId { derivation_hash: self.hash(&derivation)?, output: output.to_owned() };
                self.store.query_realisation(&id)?.map(|found| found.path)
            }
        };
        self.outputs.insert(key, found.clone());
        Ok(found)
    }

    /// The keys under which newer caches keep a realisation: the deriver's path, as asked for and as resolved.
    pub fn of(&mut self, id: &RealisationId, deriver: Option<&StorePath>) -> Result<Vec<Key>> {
        let Some(deriver) = deriver.filter(|path| path.is_derivation()) else { return Ok(Vec::new()) };
        if !self.store.is_valid(deriver)? {
            return Ok(Vec::new());
        }
        let derivation = self.store.read_derivation(deriver)?;
        let mut keys = Vec::new();
        if !derivation.outputs.contains_key(&id.output) {
            return Ok(keys);
        }
        if self.hash(&derivation)? == id.derivation_hash {
            keys.push(Key::Derivation(deriver.clone(), id.output.clone()));
        }
        if derivation.input_derivations.is_empty() {
            return Ok(keys);
        }
        let resolved = resolve_inputs(&derivation, &mut |path, output| {
            self.output(path, output).map_err(|error| match error {
                Error::Store(error) => error,
                other => rednix_store::Error::NotValid { path: other.brief() },
            })
        });
        // Where an input is gone there is no resolved name, which only costs that key.
        if let Ok(Some(resolved)) = resolved
            && self.hash(&resolved)? == id.derivation_hash
        {
            keys.push(Key::Derivation(resolved.store_path()?, id.output.clone()));
        }
        Ok(keys)
    }
}

/// What became of a push so far, and what ended it.
fn shared_of(results: &Mutex<(Pushed, Option<Error>)>) -> MutexGuard<'_, (Pushed, Option<Error>)> {
    results.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Push<'_> {
    /// Pushes paths with all they refer to, and what is known about which derivations they come from.
    pub fn run(&self, paths: &BTreeSet<StorePath>) -> Result<Pushed> {
        self.greet()?;
        self.store.add_temp_roots(paths)?;
        let infos = self.store.closure(paths)?;
        let all: Vec<&PathInfo> = infos.values().collect();
        let present = in_parallel(&all, |info| match self.cancelled.load(Ordering::Relaxed) {
            true => Err(Error::Cancelled),
            false => self.transport.exists(&format!("{}.narinfo", info.path.hash_part())),
        });
        let mut missing = BTreeMap::new();
        let mut pushed = Pushed::default();
        for (info, present) in all.into_iter().zip(present) {
            match present? {
                true => pushed.present += 1,
                false => drop(missing.insert(info.path.clone(), info.references.clone())),
            }
        }
        let twins = Twins::among(missing.keys().map(|path| &infos[path]));
        let queue = Queue::new(missing);
        let results = Mutex::new((pushed, None::<Error>));
        std::thread::scope(|scope| {
            for _ in 0..TRANSFERS_PARALLEL.min(queue.len()) {
                scope.spawn(|| {
                    while let Some(path) = queue.next() {
                        let failed = shared_of(&results).1.is_some();
                        let result = match failed || self.cancelled.load(Ordering::Relaxed) {
                            true => Err(Error::Cancelled),
                            false => self.upload(&infos[&path], &twins),
                        };
                        let mut shared = shared_of(&results);
                        let outcome = match result {
                            Ok(file_bytes) => {
                                shared.0.paths += 1;
                                shared.0.nar_bytes += infos[&path].nar_size;
                                shared.0.file_bytes += file_bytes;
                                Ok(())
                            }
                            Err(error) => {
                                let reason = error.brief();
                                if !(self.keep_going && error.is_about_one_path()) {
                                    shared.1.get_or_insert(error);
                                }
                                Err(reason)
                            }
                        };
                        drop(shared);
                        let settled = queue.finish(&path, outcome);
                        let mut shared = shared_of(&results);
                        for (path, result) in settled {
                            result.err().map(|reason| shared.0.refused.insert(path, reason));
                        }
                    }
                });
            }
        });
        let (mut pushed, error) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        // What was uploaded whole counts, whatever failed after it.
        self.transport.settle()?;
        if let Some(error) = error {
            return Err(error);
        }
        let there = infos.values().filter(|info| !pushed.refused.contains_key(&info.path));
        let (realisations, refused) = self.realisations(there)?;
        pushed.realisations = realisations;
        pushed.refused.extend(refused);
        self.transport.settle()?;
        Ok(pushed)
    }

    /// Puts what is known about which derivations these paths come from; returns how many realisations that are, and the
    /// paths of those that were refused.
    fn realisations<'i>(
        &self,
        infos: impl Iterator<Item = &'i PathInfo>,
    ) -> Result<(u64, BTreeMap<StorePath, String>)> {
        let mut keys = Keys::new(self.store);
        let mut known = Vec::new();
        for info in infos {
            for realisation in self.store.realisations_of(&info.path)? {
                let mut places = vec![Key::Hash(realisation.id.clone())];
                places.extend(keys.of(&realisation.id, info.deriver.as_ref())?);
                known.push((realisation, places, info));
            }
        }
        let put =
            in_parallel(&known, |(realisation, places, info)| match self.cancelled.load(Ordering::Relaxed) {
                true => Err(Error::Cancelled),
                false => self.realisation(realisation, places, info),
            });
        let (mut count, mut refused) = (0, BTreeMap::new());
        for ((_, _, info), put) in known.iter().zip(put) {
            match put {
                Ok(one) => count += one,
                Err(error) if self.keep_going && error.is_about_one_path() => {
                    refused.insert(info.path.clone(), error.brief());
                }
                Err(error) => return Err(error),
            }
        }
        Ok((count, refused))
    }

    /// A folder that is no cache yet becomes one.
    fn greet(&self) -> Result<()> {
        if self.transport.get("nix-cache-info")?.is_none() {
            let text = cache_info(PRIORITY_DEFAULT).into_bytes();
            self.put("nix-cache-info", "text/x-nix-cache-info", Body::Bytes(text))?;
        }
        Ok(())
    }

    /// Writes a file; a cache that does not want it as it is says so in its own words.
    fn put(&self, place: &str, kind: &'static str, body: Body) -> Result<()> {
        self.transport.put(place, kind, body).map_err(|error| match error {
            Error::Protocol { url, reason } => Error::NotTaken { url, reason },
            error => error,
        })
    }

    /// Packs, checks and uploads one path; returns the size of the packed file.
    fn upload(&self, info: &PathInfo, twins: &Twins) -> Result<u64> {
        let (id, started) = (Activity::next(), Instant::now());
        let url = self.transport.url(&format!("{}.narinfo", info.path.hash_part()));
        self.events.emit(Event::FetchStarted { id, url, size_bytes: None });
        let mut turn = twins.turn(info);
        let result = self.pack(info).and_then(|(file, hash, size)| {
            let mut entry = NarInfo::of(info, String::new(), Compression::Zstd);
            entry.url = format!("nar/{}.nar{}", hash.to_nix32(), Compression::Zstd.suffix());
            entry.file_hash = Some(hash);
            entry.file_size = Some(size);
            entry.signatures = signatures(info, self.key);
            let was_sent = turn.as_ref().is_some_and(|sent| **sent);
            self.place(&entry, &file, size, was_sent && self.transport.exists(&entry.url)?)?;
            self.log(info)?;
            Ok(size)
        });
        if let Some(sent) = &mut turn {
            **sent |= result.is_ok();
        }
        drop(turn);
        let duration_ms = started.elapsed().as_millis() as u64;
        match &result {
            Ok(size) => self.events.emit(Event::FetchDone { id, size_bytes: *size, duration_ms }),
            Err(error) => self.events.emit(Event::FetchFailed { id, message: error.to_string() }),
        }
        result
    }

    /// The archive, then the entry: a cache must never name an archive it does not have. One that keeps archives only
    /// until they are used may say that it has not got it any more, where somebody else pushes the same contents.
    fn place(&self, entry: &NarInfo, archive: &File, size: u64, mut is_there: bool) -> Result<()> {
        let place = format!("{}.narinfo", entry.path.hash_part());
        for attempt in 1.. {
            if !is_there {
                let again = |error| Error::io("read", "the archive to be sent", error);
                let file = archive.try_clone().map_err(again)?;
                self.put(&entry.url, "application/x-nix-nar", Body::File(file, size))?;
            }
            is_there = false;
            match self.put(&place, "text/x-nix-narinfo", Body::Bytes(entry.to_text().into_bytes())) {
                Err(Error::NotTaken { reason, .. })
                    if reason.starts_with(ARCHIVE_WANTED) && attempt < ARCHIVE_SENT_MAX => {}
                other => return other,
            }
        }
        unreachable!("the last attempt returns")
    }

    /// What its build printed, where that is here.
    fn log(&self, info: &PathInfo) -> Result<()> {
        let Some(derivation) = info.deriver.as_ref().filter(|_| info.ultimate) else { return Ok(()) };
        // One at a time: they are held in memory. One that is too long is left out: half a log misleads.
        let _turn = LOG_TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = PUSHED_LOG_BYTES_MAX + 1;
        let Some(text) = crate::log::read_some(self.store, derivation, limit)? else { return Ok(()) };
        if text.len() as u64 == limit {
            return Ok(());
        }
        match self.transport.put(
            &crate::log::place(derivation),
            "text/plain; charset=utf-8",
            Body::Bytes(text),
        ) {
            // Not every cache keeps logs, and nothing needs them.
            Err(Error::NotWritable { .. } | Error::Protocol { .. }) => Ok(()),
            other => other,
        }
    }

    /// The compressed archive in a file without a name. What the store holds must still be what was registered.
    fn pack(&self, info: &PathInfo) -> Result<(File, Hash, u64)> {
        // Where it only needs a name in the end, if there is such a place.
        let folder = self.transport.workshop().unwrap_or_else(|| self.scratch.clone());
        let fail = |error: io::Error| Error::io("write an archive in", &folder, error);
        let file = tempfile::tempfile_in(&folder).map_err(fail)?;
        let file = Digest { inner: file, hasher: Hasher::new(HashAlgorithm::Sha256) };
        let mut encoder = ENCODERS.take(ZSTD_LEVEL).map_err(fail)?;
        let packer = encoder.over(io::BufWriter::new(file), info.nar_size).map_err(fail)?;
        let packer = Exact { inner: packer, left: info.nar_size, is_too_long: false };
        let mut plain = Digest { inner: packer, hasher: Hasher::new(HashAlgorithm::Sha256) };
        let dumped = nar::dump(self.store.real_path(&info.path), &mut plain);
        let mut packer = plain.inner;
        if !packer.is_too_long {
            dumped?;
        }
        let found = plain.hasher.finish();
        if packer.is_too_long || packer.left > 0 || found != info.nar_hash {
            return Err(Error::Store(rednix_store::Error::HashMismatch {
                what: format!(
                    "the contents of `{}` (they are damaged; `rednix verify` looks for more)",
                    info.path
                ),
                expected: info.nar_hash.to_sri(),
                found: found.to_sri(),
            }));
        }
        packer.inner.finish().map_err(fail)?;
        let (buffered, _) = packer.inner.into_inner();
        let digest = buffered.into_inner().map_err(|error| fail(error.into_error()))?;
        let (size, mut file) = (digest.hasher.len(), digest.inner);
        file.rewind().map_err(fail)?;
        Ok((file, digest.hasher.finish(), size))
    }

    /// Puts a realisation in both layouts where somebody vouches for it; returns 1, or 0 where nobody does.
    fn realisation(&self, realisation: &Realisation, keys: &[Key], info: &PathInfo) -> Result<u64> {
        let mut count = 0;
        for key in keys {
            let mut signatures = match key {
                Key::Hash(_) => realisation.signatures.clone(),
                Key::Derivation(..) => Vec::new(),
            };
            if let Some(secret) = self.key.filter(|_| info.ultimate) {
                signatures.push(key.sign(&info.path, secret));
            }
            if signatures.is_empty() && !info.ultimate {
                continue;
            }
            count = 1;
            // The first answer stays, and nobody's signature gets lost.
            if let Some(there) = self.transport.get(&key.place())?
                && let Ok(there) = key.read(&there)
            {
                let own = signatures.len();
                signatures.retain(|signature| !there.signatures.contains(signature));
                if there.path != info.path || signatures.is_empty() || own == 0 {
                    continue;
                }
                signatures.extend(there.signatures);
            }
            let text = key.to_text(&info.path, &signatures).into_bytes();
            self.put(&key.place(), "application/json", Body::Bytes(text))?;
        }
        Ok(count)
    }
}

/// Paths with equal contents have the same archive: they are uploaded one after the other, so that a cache that keeps
/// archives gets each once.
struct Twins(HashMap<Hash, Mutex<bool>>);

impl Twins {
    fn among<'i>(infos: impl Iterator<Item = &'i PathInfo>) -> Twins {
        let mut counts: HashMap<Hash, usize> = HashMap::new();
        for info in infos {
            *counts.entry(info.nar_hash).or_default() += 1;
        }
        counts.retain(|_, count| *count > 1);
        Twins(counts.into_keys().map(|hash| (hash, Mutex::new(false))).collect())
    }

    /// Waits for this one's turn among its like; says whether one of them has brought the archive.
    fn turn(&self, info: &PathInfo) -> Option<MutexGuard<'_, bool>> {
        self.0.get(&info.nar_hash).map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Hashes what is written.
struct Digest<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Write for Digest<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Takes as many bytes as were promised and no more.
struct Exact<W> {
    inner: W,
    left: u64,
    is_too_long: bool,
}

impl<W: Write> Write for Exact<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            self.is_too_long = true;
            return Err(io::Error::other("longer than it was"));
        }
        let count = self.inner.write(bytes)?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
