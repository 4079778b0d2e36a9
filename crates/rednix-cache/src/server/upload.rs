//! Uploads. An archive waits beside the store until its entry comes; then both are checked, and only what is right
//! becomes a path of the store, at once and whole. The same upload twice changes nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use rednix_events::Event;
use rednix_store::Store;
use rednix_store::hash::Hasher;
use rednix_store::path::{StorePath, check_name};
use rednix_store::store::Realisation;

use super::quota::Quota;
use super::{Counters, Fault, Shared, answer, blocking, respond};
use crate::error::Error;
use crate::limits::{
    BUFFER_BYTES, DRAINED_BYTES_MAX, LOG_BYTES_MAX, NAR_BYTES_MAX, SILENCE_TIMEOUT, SMALL_FILE_BYTES_MAX,
    UPLOAD_BYTES_MAX, UPLOAD_KEPT,
};
use crate::narinfo::{NarInfo, fingerprint};
use crate::realisation::{Found, Key};
use crate::streams::{Cause, Hashing};
use crate::transfer::{Belief, believe, unpack};

fn done(created: bool) -> Response {
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    respond(status, "text/plain", Vec::new(), true)
}

fn refuse(status: StatusCode, message: impl Into<String>) -> Fault {
    Fault::new(status, message)
}

/// Archives whose entry never came.
pub(super) fn sweep(folder: &Path, quota: &Quota) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > UPLOAD_KEPT) && std::fs::remove_file(entry.path()).is_ok() {
            quota.give_back(metadata.len());
        }
    }
}

/// Bytes that uploads took before this start: those that wait, and paths that are roots for having been uploaded.
pub(super) fn taken(store: &Store, folder: &Path) -> crate::Result<u64> {
    let waiting = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let waiting: u64 = waiting.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum();
    let roots =
        std::fs::read_dir(store.layout().roots().join("rednix/cache")).into_iter().flatten().flatten();
    let names = roots.filter_map(|entry| entry.file_name().into_string().ok());
    let paths: BTreeSet<StorePath> = names.filter_map(|name| StorePath::from_basename(&name).ok()).collect();
    let kept: u64 = store.path_infos(&paths)?.values().map(|info| info.nar_size).sum();
    Ok(waiting.saturating_add(kept))
}

pub(super) async fn receive(shared: &Arc<Shared>, place: &str, request: Request) -> Result<Response, Fault> {
    let (head, mut body) = request.into_parts();
    let result = take(shared, place, &head.headers, &mut body).await;
    // Whoever is not done sending would not see the answer; who asked whether to send at all does.
    if result.is_err() && !head.headers.contains_key(header::EXPECT) {
        drain(&mut body).await;
    }
    result
}

async fn drain(body: &mut Body) {
    let mut size = 0;
    while let Ok(Some(piece)) = piece(body).await {
        size += piece.len() as u64;
        if size > DRAINED_BYTES_MAX {
            return;
        }
    }
}

async fn take(
    shared: &Arc<Shared>,
    place: &str,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Response, Fault> {
    super::authorise(shared, headers)?;
    let _permit = shared.receiving.clone().acquire_owned().await.expect("it is never closed");
    let (shared, place) = (shared.clone(), place.to_owned());
    if let Some(name) = place.strip_prefix("nar/") {
        archive(&shared, name, headers, body).await
    } else if let Some(hash_part) = place.strip_suffix(".narinfo") {
        let (text, hash_part) = (small(body).await?, hash_part.to_owned());
        blocking(move || entry(&shared, &hash_part, &text)).await
    } else if let Some(key) = Key::parse(&place) {
        let text = small(body).await?;
        blocking(move || realisation(&shared, &key, &text)).await
    } else if let Some(name) = place.strip_prefix("log/") {
        let derivation = StorePath::from_basename(name).ok().filter(StorePath::is_derivation);
        let derivation =
            derivation.ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "this is no derivation's name"))?;
        let text = whole(body, LOG_BYTES_MAX).await?;
        blocking(move || log(&shared, &derivation, &text)).await
    } else if place == "nix-cache-info" {
        // It is what it is; whoever copies here first offers one.
        small(body).await.map(|_| done(false))
    } else {
        Err(refuse(StatusCode::NOT_FOUND, "nothing of this name can be uploaded"))
    }
}

/// The next piece of a body, unless it is too long in coming.
async fn piece(body: &mut Body) -> Result<Option<axum::body::Bytes>, Fault> {
    let next = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
    match tokio::time::timeout(SILENCE_TIMEOUT, next).await {
        Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "the upload stood still")),
        Ok(None) => Ok(None),
        Ok(Some(Err(error))) => {
            Err(refuse(StatusCode::BAD_REQUEST, format!("the upload broke off: {error}")))
        }
        Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
    }
}

async fn small(body: &mut Body) -> Result<Vec<u8>, Fault> {
    whole(body, SMALL_FILE_BYTES_MAX).await
}

async fn whole(body: &mut Body, limit: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    while let Some(piece) = piece(body).await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > limit {
            return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {limit} bytes")));
        }
    }
    Ok(bytes)
}

/// A log is kept as it came first: it proves nothing, and a second one would only make the first one doubtful.
fn log(shared: &Arc<Shared>, derivation: &StorePath, text: &[u8]) -> Result<Response, Fault> {
    let room = shared.quota.reserve(text.len() as u64)?;
    let is_new = crate::log::keep(&shared.store, derivation, text)?;
    if is_new {
        room.keep();
    }
    Ok(done(is_new))
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
    body: &mut Body,
) -> Result<Response, Fault> {
    let name = upload_name(name)?.to_owned();
    let promised = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let too_large = || refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {UPLOAD_BYTES_MAX} bytes"));
    if promised.is_some_and(|size| size > UPLOAD_BYTES_MAX) {
        return Err(too_large());
    }
    let fail = |error: std::io::Error| Fault::from(Error::io("write", shared.uploads.clone(), error));
    let mut room = shared.quota.reserve(promised.unwrap_or(0))?;
    let file = tempfile::Builder::new().prefix(".part-").tempfile_in(&shared.uploads).map_err(fail)?;
    let (mut file, path) = file.into_parts();
    let (mut size, mut pending) = (0u64, Vec::with_capacity(BUFFER_BYTES * 2));
    loop {
        let next = piece(body).await?;
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
    let target = shared.uploads.join(&name);
    let before = target.metadata().map_or(0, |metadata| metadata.len());
    path.persist(&target).map_err(|error| fail(error.error))?;
    room.keep();
    shared.quota.give_back(before);
    Ok(done(true))
}

/// An archive that is of no more use.
fn discard(shared: &Shared, upload: &Path) {
    let size = upload.metadata().map_or(0, |metadata| metadata.len());
    if std::fs::remove_file(upload).is_ok() {
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
    let upload = shared.uploads.join(name);
    let belief = match (believe(&entry, &trust(shared), false), shared.config.accept_unsigned) {
        (Ok(belief), _) => belief,
        (Err(Error::Untrusted { .. }), true) => Belief::Vouched,
        (Err(error), _) => return Err(error.into()),
    };
    // What it refers to must stay while it is added; and it stays as long as somebody wants this cache to have it.
    shared.store.add_temp_roots(entry.references.iter().chain([&entry.path]))?;
    let valid = shared.store.valid_among(&entry.references)?;
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
    if let Some(info) = shared.store.path_info(&entry.path)? {
        discard(shared, &upload);
        if (info.nar_hash, info.nar_size) != (entry.nar_hash, entry.nar_size) {
            let message = format!("`{}` is here with other contents, which stay", entry.path);
            return Err(refuse(StatusCode::CONFLICT, message));
        }
        keep(shared, &entry, belief)?;
        return Ok(done(false));
    }
    let file = File::open(&upload).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            refuse(StatusCode::UNPROCESSABLE_ENTITY, format!("upload `{}` first", entry.url))
        }
        _ => Error::io("open", &upload, error).into(),
    })?;
    let room = shared.quota.reserve(entry.nar_size).inspect_err(|_| discard(shared, &upload))?;
    check_file(&entry, &file, name)?;
    let result = unpack(&shared.store, &entry, belief, file, &entry.url, &Cause::default());
    // Right or wrong, it is of no more use.
    discard(shared, &upload);
    result?;
    room.keep();
    keep(shared, &entry, belief)?;
    Counters::add(&shared.counters.uploads);
    shared.events.emit(Event::Notice { message: format!("received {}", entry.path) });
    Ok(done(true))
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

/// Signs what was taken on the token's word, adds signatures somebody trusted made, and makes a root.
fn keep(shared: &Arc<Shared>, entry: &NarInfo, belief: Belief) -> Result<(), Fault> {
    let mut signatures = entry.signatures.clone();
    if let Some(key) =
        shared.config.key.as_ref().filter(|_| shared.config.accept_unsigned || belief == Belief::Contents)
    {
        signatures.push(key.sign(&fingerprint(&entry.to_path_info())));
    }
    // Only what can be checked is kept: others' signatures would be served as if somebody had looked.
    signatures
        .retain(|signature| trust(shared).accepts(&entry.fingerprint(), std::slice::from_ref(signature)));
    if !signatures.is_empty() {
        shared.store.add_signatures(&entry.path, &signatures)?;
    }
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
    let Some(id) = id else {
        let Key::Derivation(path, output) = key else { unreachable!("a hash is its own name") };
        return trace(shared, path, output, key, &found);
    };
    let known = shared.store.query_realisation(&id)?;
    if let Some(known) = &known
        && known.path != found.path
    {
        let message = format!("`{id}` is known as `{}`, which stays", known.path);
        return Err(refuse(StatusCode::CONFLICT, message));
    }
    let signatures = if matches!(key, Key::Hash(_)) { found.signatures } else { Vec::new() };
    shared.store.register_realisations(&[Realisation { id, path: found.path, signatures }])?;
    Ok(done(known.is_none()))
}

/// A realisation of a derivation that is not here, in the newer layout.
fn trace(
    shared: &Arc<Shared>,
    path: &StorePath,
    output: &str,
    key: &Key,
    found: &Found,
) -> Result<Response, Fault> {
    let target = shared.traces.join(answer::trace_name(path, output));
    if let Ok(text) = std::fs::read(&target)
        && let Ok(known) = key.read(&text)
        && known.path != found.path
    {
        let message = format!("`{}` of `{path}` is known as `{}`, which stays", output, known.path);
        return Err(refuse(StatusCode::CONFLICT, message));
    }
    let fail = |error: std::io::Error| Fault::from(Error::io("write", &target, error));
    let mut file = tempfile::Builder::new().prefix(".part-").tempfile_in(&shared.traces).map_err(fail)?;
    file.write_all(key.to_text(&found.path, &found.signatures).as_bytes()).map_err(fail)?;
    file.persist(&target).map_err(|error| fail(error.error))?;
    Ok(done(true))
}
