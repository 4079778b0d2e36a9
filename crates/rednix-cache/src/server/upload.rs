//! Uploads. An archive waits beside the store until its entry comes; then both are checked, and only what is right
//! becomes a path of the store, at once and whole. The same upload twice changes nothing.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use rednix_events::Event;
use rednix_store::PathInfo;
use rednix_store::hash::Hasher;
use rednix_store::path::{StorePath, check_name};
use rednix_store::store::Realisation;

use super::entering::Entered;
use super::incoming::{Incoming, encoding, plain, unpack_fault};
use super::quota::Reserved;
use super::taken::{self, PART, file_room};
use super::{Counters, Fault, Shared, answer, blocking, respond};
use crate::compression::Compression;
use crate::error::Error;
use crate::limits::{
    ARCHIVE_NAME_BYTES, BUFFER_BYTES, LOG_BYTES_MAX, NAR_BYTES_MAX, REALISATION_BYTES, UPLOAD_BYTES_MAX,
};
use crate::narinfo::{NarInfo, fingerprint};
use crate::realisation::{Found, Key};
use crate::streams::{Cause, Hashing};
use crate::transfer::{Belief, believe, unpack};

/// To an entry whose archive is not here (any more): who sends the archive again is served.
pub const ARCHIVE_WANTED: StatusCode = StatusCode::FAILED_DEPENDENCY;

fn done(created: bool) -> Response {
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    respond(status, "text/plain", Vec::new(), true)
}

fn refuse(status: StatusCode, message: impl Into<String>) -> Fault {
    Fault::new(status, message)
}

/// How often each archive was sent and not used yet: paths with equal contents have one archive between them, which
/// must stay until the last of their entries has come.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<HashMap<String, u32>>);

impl Waiting {
    /// Held while the file gets its name or loses it, so that the count is about that very file.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes an archive whose entry never came.
    pub fn forget(&self, name: &str, file: &Path) -> bool {
        let mut waiting = self.lock();
        waiting.remove(name);
        std::fs::remove_file(file).is_ok()
    }
}

/// Makes what was written survive a power cut, together with whatever else came meanwhile.
fn flush(shared: &Shared) -> Result<(), Fault> {
    shared.flushes.flush(|| shared.store.flush()).map_err(Fault::from)
}

/// Room for so many bytes. Where there is none, it is counted what there is: roots may be gone.
fn reserve(shared: &Shared, bytes: u64) -> Result<Reserved, Fault> {
    shared.quota.reserve(bytes).or_else(|fault| match shared.quota.is_recount_due() {
        true => {
            taken::sweep(shared);
            shared.quota.reserve(bytes)
        }
        false => Err(fault),
    })
}

pub(super) async fn receive(shared: &Arc<Shared>, place: &str, request: Request) -> Result<Response, Fault> {
    let (head, mut body) = request.into_parts();
    let mut incoming = Incoming::new(&mut body, shared.patience);
    let result = take(shared, place, &head.headers, &mut incoming).await;
    // Whoever is not done sending would not see the answer; who asked whether to send at all does.
    if result.is_err() && !head.headers.contains_key(header::EXPECT) {
        let _ = tokio::time::timeout(shared.patience.slow_after, incoming.drain()).await;
    }
    result
}

async fn take(
    shared: &Arc<Shared>,
    place: &str,
    headers: &HeaderMap,
    body: &mut Incoming<'_>,
) -> Result<Response, Fault> {
    super::authorise(shared, headers)?;
    let _permit = shared.receiving.clone().acquire_owned().await.expect("it is never closed");
    body.begin();
    let (shared, place, packed) = (shared.clone(), place.to_owned(), encoding(headers)?);
    if let Some(name) = place.strip_prefix("nar/") {
        if packed != Compression::None {
            let message = "an archive is sent as it is: its entry says how it is compressed";
            return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        archive(&shared, name, headers, body).await
    } else if let Some(hash_part) = place.strip_suffix(".narinfo") {
        let (text, hash_part) = (body.small().await?, hash_part.to_owned());
        blocking(move || {
            let text = plain(text, packed)?;
            let response = entry(&shared, &hash_part, &text)?;
            flush(&shared).map(|()| response)
        })
        .await
    } else if let Some(key) = Key::parse(&place) {
        let text = body.small().await?;
        blocking(move || {
            let text = plain(text, packed)?;
            let response = realisation(&shared, &key, &text)?;
            flush(&shared).map(|()| response)
        })
        .await
    } else if let Some(name) = place.strip_prefix("log/") {
        let derivation = StorePath::from_basename(name).ok().filter(StorePath::is_derivation);
        let derivation =
            derivation.ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "this is no derivation's name"))?;
        match packed {
            Compression::None => log(&shared, derivation, body).await,
            packed => {
                let bytes = body.small().await?;
                blocking(move || packed_log(&shared, &derivation, &bytes, packed)).await
            }
        }
    } else if place == "nix-cache-info" {
        // It is what it is; whoever copies here first offers one.
        body.small().await.map(|_| done(false))
    } else {
        Err(refuse(StatusCode::NOT_FOUND, "nothing of this name can be uploaded"))
    }
}

/// A log is kept as it came first: it proves nothing, and a second one would only make the first one doubtful.
async fn log(
    shared: &Arc<Shared>,
    derivation: StorePath,
    body: &mut Incoming<'_>,
) -> Result<Response, Fault> {
    let (from, of) = (shared.clone(), derivation.clone());
    let opened = blocking(move || {
        let room = reserve(&from, file_room(0))?;
        Ok(crate::log::Incoming::new(&from.store, &of)?.map(|log| (log, room)))
    });
    let mut log = opened.await?;
    let mut size = 0;
    while let Some(piece) = body.piece().await? {
        size += piece.len() as u64;
        if size > LOG_BYTES_MAX {
            return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {LOG_BYTES_MAX} bytes")));
        }
        let Some((mut file, mut room)) = log else { continue };
        log = blocking(move || {
            room.more(piece.len() as u64)?;
            file.write(&piece)?;
            Ok(Some((file, room)))
        })
        .await?;
    }
    let Some((file, room)) = log else { return Ok(done(false)) };
    let shared = shared.clone();
    blocking(move || keep_log(&shared, &derivation, file, room)).await
}

/// A log that was compressed to little.
fn packed_log(
    shared: &Arc<Shared>,
    derivation: &StorePath,
    bytes: &[u8],
    packed: Compression,
) -> Result<Response, Fault> {
    let mut room = reserve(shared, file_room(0))?;
    let Some(mut file) = crate::log::Incoming::new(&shared.store, derivation)? else {
        return Ok(done(false));
    };
    let mut text = packed.decoder(bytes, LOG_BYTES_MAX + 1).map_err(|error| unpack_fault(&error))?;
    let (mut buffer, mut size) = (vec![0; BUFFER_BYTES], 0);
    loop {
        let count = text.read(&mut buffer).map_err(|error| unpack_fault(&error))?;
        if count == 0 {
            return keep_log(shared, derivation, file, room);
        }
        size += count as u64;
        if size > LOG_BYTES_MAX {
            return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {LOG_BYTES_MAX} bytes")));
        }
        room.more(count as u64)?;
        file.write(&buffer[..count])?;
    }
}

fn keep_log(
    shared: &Arc<Shared>,
    derivation: &StorePath,
    file: crate::log::Incoming,
    mut room: Reserved,
) -> Result<Response, Fault> {
    let Some((path, size)) = file.keep()? else { return Ok(done(false)) };
    // So that it is known as uploaded later, too. Where there is no such link it counts until the server ends.
    let _ = std::fs::hard_link(path, shared.folders.logs.join(derivation.basename()));
    room.keep_only(file_room(size));
    Ok(done(true))
}

/// One name, without a leading dot.
fn upload_name(name: &str) -> Result<&str, Fault> {
    match check_name(name) {
        Ok(()) if !name.starts_with('.') => Ok(name),
        _ => Err(refuse(StatusCode::BAD_REQUEST, "this is no archive's name")),
    }
}

async fn archive(
    shared: &Arc<Shared>,
    name: &str,
    headers: &HeaderMap,
    body: &mut Incoming<'_>,
) -> Result<Response, Fault> {
    let name = upload_name(name)?.to_owned();
    let promised = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let too_large = || refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {UPLOAD_BYTES_MAX} bytes"));
    if promised.is_some_and(|size| size > UPLOAD_BYTES_MAX) {
        return Err(too_large());
    }
    let from = shared.clone();
    let opened = blocking(move || {
        let room = reserve(&from, promised.unwrap_or(0))?;
        let folder = &from.folders.uploads;
        let file = tempfile::Builder::new().prefix(PART).tempfile_in(folder);
        Ok((room, file.map_err(|error| Error::io("write in", folder, error))?.into_parts()))
    });
    let (mut room, (mut file, path)) = opened.await?;
    let (mut size, mut pending) = (0u64, Vec::with_capacity(BUFFER_BYTES * 2));
    loop {
        let next = body.piece().await?;
        size += next.as_ref().map_or(0, |piece| piece.len() as u64);
        if size > UPLOAD_BYTES_MAX {
            return Err(too_large());
        }
        if promised.is_none() {
            room.more(next.as_ref().map_or(0, |piece| piece.len() as u64))?;
        }
        let is_last = next.is_none();
        pending.extend_from_slice(&next.unwrap_or_default());
        if pending.len() >= BUFFER_BYTES || is_last {
            let bytes = std::mem::take(&mut pending);
            file = blocking(move || match file.write_all(&bytes) {
                Ok(()) => Ok(file),
                Err(error) => Err(Fault::from(Error::io("write", "an upload", error))),
            })
            .await?;
        }
        if is_last {
            break;
        }
    }
    if promised.is_some_and(|promised| promised != size) {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            format!("the upload has {size} bytes, fewer than promised"),
        ));
    }
    let shared = shared.clone();
    blocking(move || {
        let target = shared.folders.uploads.join(&name);
        let mut waiting = shared.waiting.lock();
        let before = target.metadata().map_or(0, |metadata| metadata.len());
        path.persist(&target).map_err(|error| Error::io("write", &target, error.error))?;
        *waiting.entry(name).or_default() += 1;
        room.keep();
        shared.quota.give_back(before);
        Ok(done(true))
    })
    .await
}

/// An archive that one of its entries has no more use for.
fn discard(shared: &Shared, name: &str) {
    let mut waiting = shared.waiting.lock();
    if let Some(count) = waiting.get_mut(name) {
        *count -= 1;
        if *count > 0 {
            return;
        }
        waiting.remove(name);
    }
    let upload = shared.folders.uploads.join(name);
    let size = upload.metadata().map_or(0, |metadata| metadata.len());
    if std::fs::remove_file(&upload).is_ok() {
        shared.quota.give_back(size);
    }
}

/// An entry makes its archive a path, if everything about both is right.
fn entry(shared: &Arc<Shared>, hash_part: &str, text: &[u8]) -> Result<Response, Fault> {
    let entry = NarInfo::parse(hash_part, text)?;
    if entry.path.hash_part() != hash_part {
        return Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, format!("the entry is about `{}`", entry.path)));
    }
    let name = upload_name(entry.url.strip_prefix("nar/").unwrap_or_default())?;
    let result = enter(shared, &entry, name);
    // Right or wrong, this entry has no more use for it.
    discard(shared, name);
    result
}

fn enter(shared: &Arc<Shared>, entry: &NarInfo, name: &str) -> Result<Response, Fault> {
    let upload = shared.folders.uploads.join(name);
    let belief = match (believe(entry, &trust(shared), false), shared.config.accept_unsigned) {
        (Ok(belief), _) => belief,
        (Err(Error::Untrusted { .. }), true) => Belief::Vouched,
        (Err(error), _) => return Err(error.into()),
    };
    let mut turn = Entered::wait(shared, &entry.path)?;
    // What it refers to must stay while it is added. Only what is here becomes a root, for an entry may name what it likes.
    let here = shared.store.valid_among(&entry.references)?;
    turn.need(here.clone())?;
    let valid = shared.store.valid_among(&here)?;
    if let Some(absent) = entry.references.iter().find(|path| **path != entry.path && !valid.contains(*path))
    {
        let reason = "is not here; upload it first";
        let error = Error::UnexpectedReference {
            path: entry.path.to_string(),
            reference: absent.to_string(),
            reason,
        };
        return Err(error.into());
    }
    if let Some(info) = kept_info(shared, &entry.path)? {
        if (info.nar_hash, info.nar_size) != (entry.nar_hash, entry.nar_size) {
            let message = format!("`{}` is here with other contents, which stay", entry.path);
            return Err(refuse(StatusCode::CONFLICT, message));
        }
        // Nothing was unpacked, so only the archive's hash can be the proof: what is here may be older than checks are.
        let is_proven = entry.content_proof()?.is_some_and(|proof| proof.is_given_by(&info.nar_hash));
        // Who vouches for other references does not vouch for what is here.
        if entry.fingerprint() == fingerprint(&info) {
            sign(shared, entry, belief == Belief::Contents && is_proven)?;
        }
        keep(shared, entry)?;
        remember(shared, entry, name)?;
        return Ok(done(false));
    }
    let file = File::open(&upload).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => refuse(ARCHIVE_WANTED, format!("upload `{}` first", entry.url)),
        _ => Error::io("open", &upload, error).into(),
    })?;
    let room = reserve(shared, file_room(entry.nar_size))?;
    check_file(entry, &file, name)?;
    unpack(&shared.store, entry, belief, file, &entry.url, &Cause::default())?;
    room.keep();
    sign(shared, entry, belief == Belief::Contents)?;
    keep(shared, entry)?;
    remember(shared, entry, name)?;
    Counters::add(&shared.counters.uploads);
    shared.events.emit(Event::Notice { message: format!("received {}", entry.path) });
    Ok(done(true))
}

/// About a path that is here, which stays.
fn kept_info(shared: &Shared, path: &StorePath) -> Result<Option<PathInfo>, Fault> {
    if !shared.store.is_valid(path)? {
        return Ok(None);
    }
    Ok(shared.store.path_info(path)?)
}

/// The archive's name, for whoever remembers it as C++ Nix does of what it uploaded. Where there is no room for that, it
/// is only asked for anew.
fn remember(shared: &Arc<Shared>, entry: &NarInfo, name: &str) -> Result<(), Fault> {
    let is_written = matches!(entry.compression, Compression::None | Compression::Xz | Compression::Zstd);
    if !(is_written && name.ends_with(&format!(".nar{}", entry.compression.suffix()))) {
        return Ok(());
    }
    let Ok(room) = reserve(shared, ARCHIVE_NAME_BYTES) else { return Ok(()) };
    let is_valid = |path: &StorePath| shared.store.is_valid(path).unwrap_or(false);
    let remembered = shared.folders.remember(name, &entry.path, is_valid);
    if remembered.map_err(|error| Error::io("remember the name of", name, error))? {
        room.keep();
    }
    Ok(())
}

/// The keys that make an upload believable, the server's own among them.
fn trust(shared: &Shared) -> crate::Trust {
    match &shared.config.key {
        Some(key) => shared.config.trust.with(key.public()),
        None => shared.config.trust.clone(),
    }
}

/// The file as it came, before anything is made of it.
fn check_file(entry: &NarInfo, mut file: &File, name: &str) -> Result<(), Fault> {
    let fail = |error| Fault::from(Error::io("read", name, error));
    let size = file.metadata().map_err(fail)?.len();
    let wrong = |what: String| refuse(StatusCode::UNPROCESSABLE_ENTITY, what);
    if entry.file_size.is_some_and(|wanted| wanted > 0 && wanted != size) {
        return Err(wrong(format!("`{name}` has {size} bytes, not what the entry says")));
    }
    if entry.nar_size > NAR_BYTES_MAX {
        return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {NAR_BYTES_MAX} bytes")));
    }
    if let Some(wanted) = entry.file_hash {
        let mut reader = Hashing::new(file, Hasher::new(wanted.algorithm()));
        std::io::copy(&mut (&mut reader).take(u64::MAX), &mut std::io::sink()).map_err(fail)?;
        if reader.finish().0 != wanted {
            return Err(wrong(format!("`{name}` does not have the hash that the entry says")));
        }
        file.rewind().map_err(fail)?;
    }
    Ok(())
}

/// Signs what is proven and what was taken on the token's word, and adds signatures somebody trusted made.
fn sign(shared: &Arc<Shared>, entry: &NarInfo, is_proven: bool) -> Result<(), Fault> {
    let mut signatures = entry.signatures.clone();
    if let Some(key) = shared.config.key.as_ref().filter(|_| shared.config.accept_unsigned || is_proven) {
        signatures.push(key.sign(&fingerprint(&entry.to_path_info())));
    }
    // Only what can be checked is kept: others' signatures would be served as if somebody had looked.
    signatures
        .retain(|signature| trust(shared).accepts(&entry.fingerprint(), std::slice::from_ref(signature)));
    if !signatures.is_empty() {
        shared.store.add_signatures(&entry.path, &signatures)?;
    }
    Ok(())
}

fn keep(shared: &Arc<Shared>, entry: &NarInfo) -> Result<(), Fault> {
    shared.store.add_root(&format!("cache/{}", entry.path.basename()), &entry.path)?;
    Ok(())
}

fn realisation(shared: &Arc<Shared>, key: &Key, text: &[u8]) -> Result<Response, Fault> {
    let mut found = key.read(text)?;
    if !shared.config.accept_unsigned {
        key.check(&found, &trust(shared))?;
    }
    if !shared.store.is_valid(&found.path)? {
        let message = format!("`{}` is not here; upload it first", found.path);
        return Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    let trust = trust(shared);
    let message = key.fingerprint(&found.path);
    if let Some(secret) = shared.config.key.as_ref().filter(|_| shared.config.accept_unsigned) {
        found.signatures.push(secret.sign(&message));
    }
    found.signatures.retain(|signature| trust.accepts(&message, std::slice::from_ref(signature)));
    found.signatures.sort();
    found.signatures.dedup();
    let id = match key {
        Key::Hash(id) => Some(id.clone()),
        Key::Derivation(path, output) => answer::identify(shared, path, output)?,
    };
    let known = id.as_ref().map_or(Ok(None), |id| shared.store.query_realisation(id))?;
    let traced = answer::trace(shared, key).map(|(_, found)| found.path);
    if let Some(known) = known.as_ref().map(|known| &known.path).or(traced.as_ref())
        && *known != found.path
    {
        let message = format!("`{}` is known as `{known}`, which stays", key.place());
        return Err(refuse(StatusCode::CONFLICT, message));
    }
    let is_signed = !found.signatures.is_empty();
    let created = match key {
        Key::Derivation(path, output) if id.is_none() || is_signed => {
            trace(shared, path, output, key, &found)?
        }
        _ => known.is_none(),
    };
    let Some(id) = id else { return Ok(done(created)) };
    let room = if known.is_none() { Some(reserve(shared, REALISATION_BYTES)?) } else { None };
    let signatures = if matches!(key, Key::Hash(_)) { found.signatures } else { Vec::new() };
    shared.store.register_realisations(&[Realisation { id, path: found.path, signatures }])?;
    if let Some(room) = room {
        room.keep();
    }
    Ok(done(known.is_none()))
}

/// A realisation in the newer layout, beside the database: of a derivation that is not here, or with signatures, which
/// are over this layout's text. Those that were there before stay. Says whether there was none.
fn trace(
    shared: &Arc<Shared>,
    path: &StorePath,
    output: &str,
    key: &Key,
    found: &Found,
) -> Result<bool, Fault> {
    let target = shared.folders.traces.join(answer::trace_name(path, output));
    let fail = |error: std::io::Error| Fault::from(Error::io("write", &target, error));
    let before = answer::trace(shared, key).map_or(Vec::new(), |(_, before)| before.signatures);
    let signatures: BTreeSet<String> = before.into_iter().chain(found.signatures.iter().cloned()).collect();
    let text = key.to_text(&found.path, &signatures.into_iter().collect::<Vec<_>>());
    let room = reserve(shared, file_room(text.len() as u64))?;
    let folder = &shared.folders.traces;
    let mut file = tempfile::Builder::new().prefix(PART).tempfile_in(folder).map_err(fail)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(fail)?;
    let before = target.metadata().ok().map(|metadata| file_room(metadata.len()));
    file.persist(&target).map_err(|error| fail(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)?;
    room.keep();
    shared.quota.give_back(before.unwrap_or(0));
    Ok(before.is_none())
}
