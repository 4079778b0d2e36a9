//! One path from a cache into a store: streamed, resumed, decompressed, checked, registered. Asks for no entry.

use std::io::Read;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rednix_events::{Activity, Event, Events};
use rednix_store::Store;
use rednix_store::hash::Hasher;

use crate::cache::Cache;
use crate::compression::Compression;
use crate::decoders::TooMuchMemory;
use crate::error::{Error, Result, quoted};
use crate::keys::{Trust, names};
use crate::limits::NAR_BYTES_MAX;
use crate::narinfo::NarInfo;
use crate::proof::Proven;
use crate::streams::{Bounded, Cause, Paced};
use crate::transport::Resuming;

/// Why an entry is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    /// A trusted key signed it, or the whole cache is trusted. Signatures do not cover content addresses: contents have
    /// to prove those all the same.
    Vouched,
    /// Its contents have to prove the path's name.
    Contents,
}

/// Whether an entry may be believed, before anything of it is transferred.
pub fn believe(entry: &NarInfo, trust: &Trust, cache_trusted: bool) -> Result<Belief> {
    // Checked in any case: a false content address must not get into the database.
    let proof = entry.content_proof()?;
    if cache_trusted || trust.accepts(&entry.fingerprint(), &entry.signatures) {
        return Ok(Belief::Vouched);
    }
    match proof {
        Some(proof) if proof.is_enough() => Ok(Belief::Contents),
        _ => Err(Error::Untrusted { path: entry.path.to_string(), found: names(&entry.signatures) }),
    }
}

/// Brings a path into the store. All it refers to must be valid by now.
pub fn transfer(
    store: &Store,
    cache: &Cache,
    entry: &NarInfo,
    belief: Belief,
    cancelled: &Arc<AtomicBool>,
    events: &Events,
) -> Result<()> {
    let url = cache.transport.url(&entry.url);
    let opened = cache.guarded(|| cache.transport.open(&entry.url, 0, None))?;
    let opened = opened.ok_or_else(|| Error::Missing { url: url.clone(), path: entry.path.to_string() })?;
    let size = opened.size.or(entry.file_size);
    if let (Some(promised), Some(size)) = (entry.file_size.filter(|&size| size > 0), opened.size)
        && promised != size
    {
        let reason = format!("it has {size} bytes, and its entry says {promised}");
        return Err(Error::Corrupt { url, reason });
    }
    let (id, started) = (Activity::next(), Instant::now());
    events.emit(Event::FetchStarted { id, url: url.clone(), size_bytes: size });
    let cause = Cause::default();
    let raw = Resuming::new(
        cache.transport.clone(),
        &entry.url,
        opened,
        entry.file_size.filter(|&size| size > 0),
        cancelled.clone(),
        cause.clone(),
    );
    let raw = Told {
        inner: Paced::new(raw, url.clone(), cache.transport.patience().slow_after, cause.clone()),
        id,
        events: events.clone(),
        done: 0,
        told: started,
    };
    let result = unpack(store, entry, belief, raw, &url, &cause);
    if let Err(error @ (Error::Truncated { .. } | Error::TimedOut { .. } | Error::NoRoute { .. })) = &result {
        cache.note(error);
    }
    let duration_ms = started.elapsed().as_millis() as u64;
    match &result {
        Ok(done) => events.emit(Event::FetchDone { id, size_bytes: *done, duration_ms }),
        Err(error) => events.emit(Event::FetchFailed { id, message: error.to_string() }),
    }
    result.map(drop)
}

/// Unpacks a compressed archive from anywhere into the store, and returns how many bytes of it were read.
pub fn unpack(
    store: &Store,
    entry: &NarInfo,
    belief: Belief,
    raw: impl Read + Send,
    url: &str,
    cause: &Cause,
) -> Result<u64> {
    if entry.nar_size > NAR_BYTES_MAX {
        return Err(Error::TooLarge { what: entry.path.to_string(), limit: NAR_BYTES_MAX });
    }
    // Before anything is moved, so that nothing without a registration stays behind.
    let valid = store.valid_among(&entry.references)?;
    let absent = entry.references.iter().find(|path| **path != entry.path && !valid.contains(*path));
    if let Some(reference) = absent {
        let reference = reference.to_string();
        let reason = "is not in the store";
        return Err(Error::UnexpectedReference { path: entry.path.to_string(), reference, reason });
    }
    let file = Arc::new(Mutex::new(Weight::new(entry)));
    let raw = Weighed { inner: raw, weight: file.clone() };
    let decoder = entry
        .compression
        .decoder(raw, entry.nar_size.saturating_add(1))
        .map_err(|error| corrupt(url, &error))?;
    let (path, wanted) = (entry.path.to_string(), entry.nar_size);
    let too_long = {
        let (url, path) = (url.to_owned(), path.clone());
        move || Error::WrongSize { url, path, wanted, found: format!("more than {wanted}") }
    };
    // The file as it lies at the cache is checked before the archive's last byte is let through.
    let file_is_right = {
        let (url, entry, file) = (url.to_owned(), entry.clone(), file.clone());
        move || lock(&file).check(&url, &entry)
    };
    let bounded = Bounded::new(decoder, wanted, cause.clone(), too_long).then(file_is_right);
    let mut nar: Box<dyn Read + '_> = Box::new(bounded);
    let mut info = entry.to_path_info();
    match entry.content_proof()? {
        // What cannot be checked is not claimed.
        None if belief == Belief::Vouched => info.content_address = None,
        None => return Err(Error::Untrusted { path, found: names(&entry.signatures) }),
        // The store hashes the whole archive anyway.
        Some(proof) if proof.is_given_by(&entry.nar_hash) => {}
        Some(proof) => {
            let (url, path, wanted) = (url.to_owned(), path.clone(), proof.hash.to_sri());
            let mismatch = move |found| Error::WrongHash { url, path, wanted, found };
            nar = Box::new(Proven::new(nar, entry.nar_size, &proof, cause.clone(), mismatch));
        }
    }
    // Large reads for the hashes; the archive's reader asks for eight bytes at a time.
    let mut nar = std::io::BufReader::with_capacity(crate::limits::BUFFER_BYTES, nar);
    let added = store.add_nar(&mut nar, &info);
    drop(nar);
    // The first trouble in the pipeline is the cause of what the store says.
    match (added, cause.take()) {
        (Ok(_), None) => Ok(lock(&file).bytes),
        (_, Some(error)) => Err(error),
        (Err(rednix_store::Error::HashMismatch { expected, found, .. }), None) => {
            Err(Error::WrongHash { url: url.to_owned(), path, wanted: expected, found })
        }
        (Err(error @ rednix_store::Error::BadNar { .. }), None) => {
            Err(Error::Corrupt { url: url.to_owned(), reason: quoted(&error.to_string()) })
        }
        // Not the system's: a decompressor's.
        (Err(rednix_store::Error::Io { source, .. }), None) if source.raw_os_error().is_none() => {
            Err(match TooMuchMemory::of(&source) {
                Some(too_much) => Error::Memory { url: url.to_owned(), too_much },
                None => corrupt(url, &source),
            })
        }
        (Err(error), None) => Err(error.into()),
    }
}

fn corrupt(url: &str, error: &std::io::Error) -> Error {
    Error::Corrupt { url: url.to_owned(), reason: error.to_string() }
}

fn lock(file: &Mutex<Weight>) -> MutexGuard<'_, Weight> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Size and hash of a file as it comes.
struct Weight {
    bytes: u64,
    /// Where the entry names a hash that the archive's own does not cover.
    hasher: Option<Hasher>,
}

impl Weight {
    fn new(entry: &NarInfo) -> Weight {
        let hash = entry.file_hash.filter(|_| entry.compression != Compression::None);
        Weight { bytes: 0, hasher: hash.map(|hash| Hasher::new(hash.algorithm())) }
    }

    fn check(&mut self, url: &str, entry: &NarInfo) -> Result<()> {
        let corrupt = |reason: String| Err(Error::Corrupt { url: url.to_owned(), reason });
        if let Some(size) = entry.file_size.filter(|&size| size > 0 && size != self.bytes) {
            return corrupt(format!("it has {} bytes, and its entry says {size}", self.bytes));
        }
        match (self.hasher.take().map(Hasher::finish), entry.file_hash) {
            (Some(found), Some(wanted)) if found != wanted => {
                let (found, wanted) = (found.to_sri(), wanted.to_sri());
                corrupt(format!("the file's hash is {found}, and its entry says {wanted}"))
            }
            _ => Ok(()),
        }
    }
}

struct Weighed<R> {
    inner: R,
    weight: Arc<Mutex<Weight>>,
}

impl<R: Read> Read for Weighed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let mut weight = lock(&self.weight);
        weight.bytes += count as u64;
        if let Some(hasher) = &mut weight.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}

/// Tells how far it is, a few times per second.
struct Told<R> {
    inner: R,
    id: Activity,
    events: Events,
    done: u64,
    told: Instant,
}

impl<R: Read> Read for Told<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        if self.told.elapsed().as_millis() >= 200 {
            self.told = Instant::now();
            self.events.emit(Event::FetchProgress { id: self.id, done_bytes: self.done });
        }
        Ok(count)
    }
}
