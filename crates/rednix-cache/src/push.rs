//! From a store to a cache: what it lacks is packed, uploaded and signed, each path after what it refers to. Decides
//! nothing about what should be pushed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rednix_events::{Activity, Event, Events};
use rednix_store::derivation::{DerivationHashes, resolve_inputs};
use rednix_store::hash::{HashAlgorithm, Hasher};
use rednix_store::nar;
use rednix_store::path::{STORE_DIR, StorePath};
use rednix_store::store::{Realisation, RealisationId};
use rednix_store::{PathInfo, Store};

use crate::caches::in_parallel;
use crate::compression::Compression;
use crate::error::{Error, Result};
use crate::keys::SecretKey;
use crate::limits::{PRIORITY_DEFAULT, TRANSFERS_PARALLEL, ZSTD_LEVEL};
use crate::narinfo::{NarInfo, fingerprint};
use crate::queue::Queue;
use crate::realisation::Key;
use crate::transport::{Body, Transport};

/// What became of a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    pub paths: u64,
    pub nar_bytes: u64,
    pub file_bytes: u64,
    /// Paths the cache had already.
    pub present: u64,
    pub realisations: u64,
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
}

/// The text of a `nix-cache-info`.
pub fn cache_info(priority: u32) -> String {
    format!("StoreDir: {STORE_DIR}\nWantMassQuery: 1\nPriority: {priority}\n")
}

/// The signatures a path leaves with. Signed is what was built here, and what proves itself anyway: never what came
/// from elsewhere on somebody else's word, nor what was built of a working copy.
pub fn signatures(info: &PathInfo, key: Option<&SecretKey>) -> Vec<String> {
    let mut signatures = info.signatures.clone();
    if let Some(key) = key.filter(|_| info.ultimate || info.content_address.is_some()) {
        let own = format!("{}:", key.name());
        signatures.retain(|signature| !signature.starts_with(&own));
        signatures.push(key.sign(&fingerprint(info)));
    }
    signatures
}

/// The keys under which newer caches keep a realisation: the deriver's path, as asked for and as resolved.
pub fn derivation_keys(store: &Store, id: &RealisationId, deriver: Option<&StorePath>) -> Result<Vec<Key>> {
    let Some(deriver) = deriver.filter(|path| path.is_derivation()) else { return Ok(Vec::new()) };
    if !store.is_valid(deriver)? {
        return Ok(Vec::new());
    }
    let mut hashes = DerivationHashes::new();
    let mut load = |path: &StorePath| store.read_derivation(path);
    let derivation = store.read_derivation(deriver)?;
    let mut keys = Vec::new();
    if !derivation.outputs.contains_key(&id.output) {
        return Ok(keys);
    }
    if *hashes.masked(&derivation, &mut load)?.hash() == id.derivation_hash {
        keys.push(Key::Derivation(deriver.clone(), id.output.clone()));
    }
    let resolved = {
        let mut built = |path: &StorePath, output: &str| {
            let input = store.read_derivation(path)?;
            if let Some(known) = input.output_path(output) {
                return Ok(Some(known.clone()));
            }
            let derivation_hash =
                *DerivationHashes::new().masked(&input, &mut |path| store.read_derivation(path))?.hash();
            let id = RealisationId { derivation_hash, output: output.to_owned() };
            Ok(store.query_realisation(&id)?.map(|found| found.path))
        };
        resolve_inputs(&derivation, &mut built)
    };
    // Where an input is gone there is no resolved name, which only costs that key.
    if let Ok(Some(resolved)) = resolved
        && !derivation.input_derivations.is_empty()
        && *DerivationHashes::new().masked(&resolved, &mut load)?.hash() == id.derivation_hash
    {
        keys.push(Key::Derivation(resolved.store_path()?, id.output.clone()));
    }
    Ok(keys)
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
        let queue = Queue::new(missing);
        let shared = Mutex::new((pushed, None::<Error>));
        std::thread::scope(|scope| {
            for _ in 0..TRANSFERS_PARALLEL.min(queue.len()) {
                scope.spawn(|| {
                    while let Some(path) = queue.next() {
                        let failed = shared.lock().unwrap_or_else(|e| e.into_inner()).1.is_some();
                        let result = match failed || self.cancelled.load(Ordering::Relaxed) {
                            true => Err(Error::Cancelled),
                            false => self.upload(&infos[&path]),
                        };
                        let mut shared = shared.lock().unwrap_or_else(|e| e.into_inner());
                        let outcome = match result {
                            Ok(file_bytes) => {
                                shared.0.paths += 1;
                                shared.0.nar_bytes += infos[&path].nar_size;
                                shared.0.file_bytes += file_bytes;
                                Ok(())
                            }
                            Err(error) => {
                                let reason = error.brief();
                                shared.1.get_or_insert(error);
                                Err(reason)
                            }
                        };
                        drop(shared);
                        queue.finish(&path, outcome);
                    }
                });
            }
        });
        let (mut pushed, error) = shared.into_inner().unwrap_or_else(|e| e.into_inner());
        if let Some(error) = error {
            return Err(error);
        }
        for info in infos.values() {
            for realisation in self.store.realisations_of(&info.path)? {
                pushed.realisations += self.realisation(&realisation, info)?;
            }
        }
        Ok(pushed)
    }

    /// A folder that is no cache yet becomes one.
    fn greet(&self) -> Result<()> {
        if self.transport.get("nix-cache-info")?.is_none() {
            let text = cache_info(PRIORITY_DEFAULT).into_bytes();
            self.transport.put("nix-cache-info", "text/x-nix-cache-info", Body::Bytes(text))?;
        }
        Ok(())
    }

    /// Packs, checks and uploads one path; returns the size of the packed file.
    fn upload(&self, info: &PathInfo) -> Result<u64> {
        let (id, started) = (Activity::next(), Instant::now());
        let url = self.transport.url(&format!("{}.narinfo", info.path.hash_part()));
        self.events.emit(Event::FetchStarted { id, url, size_bytes: None });
        let result = self.pack(info).and_then(|(file, hash, size)| {
            let url = format!("nar/{}.nar{}", hash.to_nix32(), Compression::Zstd.suffix());
            let mut entry = NarInfo::of(info, url.clone(), Compression::Zstd);
            entry.file_hash = Some(hash);
            entry.file_size = Some(size);
            entry.signatures = signatures(info, self.key);
            // The entry last: a cache must never name an archive it does not have.
            self.transport.put(&url, "application/x-nix-nar", Body::File(file, size))?;
            let place = format!("{}.narinfo", info.path.hash_part());
            self.transport.put(&place, "text/x-nix-narinfo", Body::Bytes(entry.to_text().into_bytes()))?;
            self.log(info)?;
            Ok(size)
        });
        let duration_ms = started.elapsed().as_millis() as u64;
        match &result {
            Ok(size) => self.events.emit(Event::FetchDone { id, size_bytes: *size, duration_ms }),
            Err(error) => self.events.emit(Event::FetchFailed { id, message: error.to_string() }),
        }
        result
    }

    /// What its build printed, where that is here.
    fn log(&self, info: &PathInfo) -> Result<()> {
        let Some(derivation) = info.deriver.as_ref().filter(|_| info.ultimate) else { return Ok(()) };
        let Some(text) = crate::log::read(self.store, derivation)? else { return Ok(()) };
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
    fn pack(&self, info: &PathInfo) -> Result<(File, rednix_store::hash::Hash, u64)> {
        // Where it only needs a name in the end, if there is such a place.
        let folder = self.transport.workshop().unwrap_or_else(|| self.scratch.clone());
        let fail = |error: io::Error| Error::io("write an archive in", &folder, error);
        let file = tempfile::tempfile_in(&folder).map_err(fail)?;
        let file = Digest { inner: file, hasher: Hasher::new(HashAlgorithm::Sha256) };
        let encoder = zstd::stream::Encoder::new(io::BufWriter::new(file), ZSTD_LEVEL).map_err(fail)?;
        let mut plain = Digest { inner: encoder, hasher: Hasher::new(HashAlgorithm::Sha256) };
        nar::dump(self.store.real_path(&info.path), &mut plain)?;
        let size = plain.hasher.len();
        let found = plain.hasher.finish();
        if (found, size) != (info.nar_hash, info.nar_size) {
            return Err(Error::Store(rednix_store::Error::HashMismatch {
                what: format!(
                    "the contents of `{}` (they are damaged; `rednix verify` looks for more)",
                    info.path
                ),
                expected: info.nar_hash.to_sri(),
                found: found.to_sri(),
            }));
        }
        let buffered = plain.inner.finish().map_err(fail)?;
        let digest = buffered.into_inner().map_err(|error| fail(error.into_error()))?;
        let (size, mut file) = (digest.hasher.len(), digest.inner);
        file.rewind().map_err(fail)?;
        Ok((file, digest.hasher.finish(), size))
    }

    /// Puts a realisation in both layouts where somebody vouches for it; returns 1, or 0 where nobody does.
    pub fn realisation(&self, realisation: &Realisation, info: &PathInfo) -> Result<u64> {
        let mut keys = vec![Key::Hash(realisation.id.clone())];
        keys.extend(derivation_keys(self.store, &realisation.id, info.deriver.as_ref())?);
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
            self.transport.put(&key.place(), "application/json", Body::Bytes(text))?;
        }
        Ok(count)
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
