//! Small answers: about the cache, about paths, about realisations; and refusals.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use rednix_store::derivation::DerivationHashes;
use rednix_store::path::StorePath;
use rednix_store::store::RealisationId;

use super::pieces::way;
use super::{CONTENT_POLICY, Counters, Shared, archive, blocking, page, respond};
use crate::error::Error;
use crate::limits::{BUFFER_BYTES, REQUESTS_RETRY};
use crate::narinfo::is_hash_part;
use crate::push::{cache_info, signatures};
use crate::realisation::{Found, Key};

/// A refusal: a status and a sentence for whoever asked.
#[derive(Debug)]
pub struct Fault {
    pub status: StatusCode,
    pub message: String,
}

impl Fault {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Fault {
        Fault { status, message: message.into() }
    }

    pub fn absent() -> Fault {
        Fault::new(StatusCode::NOT_FOUND, "404")
    }

    pub fn into_response(self) -> Response {
        let mut response = Response::builder()
            .status(self.status)
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .header("X-Content-Type-Options", "nosniff");
        if self.status == StatusCode::UNAUTHORIZED {
            response = response.header(header::WWW_AUTHENTICATE, "Basic realm=\"rednix\"");
        }
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response = response.header(header::RETRY_AFTER, REQUESTS_RETRY.as_secs());
        }
        response.body(Body::from(format!("{}\n", self.message))).expect("these headers are right")
    }
}

impl From<rednix_store::Error> for Fault {
    fn from(error: rednix_store::Error) -> Fault {
        let status = match error {
            rednix_store::Error::NoSpace { .. } => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Fault::new(status, error.to_string())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match error {
            Error::Store(error) => error.into(),
            Error::Io { source, .. } if is_no_space(&source) => {
                Fault::new(StatusCode::INSUFFICIENT_STORAGE, "the disk of this cache is full")
            }
            Error::Io { .. } => Fault::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            Error::TooLarge { .. } => Fault::new(StatusCode::PAYLOAD_TOO_LARGE, error.brief()),
            // Whatever else can be wrong is wrong with what was sent.
            _ => Fault::new(StatusCode::UNPROCESSABLE_ENTITY, error.brief()),
        }
    }
}

fn is_no_space(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

pub(super) fn small(
    shared: &Shared,
    place: &str,
    headers: &HeaderMap,
    with_body: bool,
) -> Result<Response, Fault> {
    let (kind, text) = match place {
        "" => ("text/html; charset=utf-8", page::overview(shared, headers)?),
        "nix-cache-info" => ("text/x-nix-cache-info", cache_info(shared.config.priority)),
        "robots.txt" => ("text/plain", "User-agent: *\nDisallow: /\n".to_owned()),
        _ => {
            let found = match place.strip_suffix(".narinfo") {
                Some(hash_part) => narinfo(shared, hash_part)?.map(|text| ("text/x-nix-narinfo", text)),
                None => match Key::parse(place) {
                    Some(key) => realisation(shared, &key)?.map(|text| ("application/json", text)),
                    None => None,
                },
            };
            Counters::add(if found.is_some() { &shared.counters.hits } else { &shared.counters.misses });
            found.ok_or_else(Fault::absent)?
        }
    };
    Ok(respond(StatusCode::OK, kind, text.into_bytes(), with_body))
}

/// What a build printed. A long one is unpacked while it is sent.
pub(super) async fn log(
    shared: &Arc<Shared>,
    client: IpAddr,
    name: &str,
    with_body: bool,
) -> Result<Response, Fault> {
    const KIND: &str = "text/plain; charset=utf-8";
    let derivation = StorePath::from_basename(name).ok().filter(StorePath::is_derivation);
    let derivation = derivation.ok_or_else(Fault::absent)?;
    if !shared.store.log_path(&derivation).exists() {
        return Err(Fault::absent());
    }
    // Unpacking takes memory, too.
    let turn = shared.turns.take(client).await;
    let from = shared.clone();
    let opened = blocking(move || {
        let Some(mut text) = crate::log::open(&from.store, &derivation)? else { return Ok(None) };
        let mut start = Vec::new();
        let read = (&mut text).take(BUFFER_BYTES as u64 + 1).read_to_end(&mut start);
        read.map_err(|error| Error::io("read the log", from.store.log_path(&derivation), error))?;
        Ok(Some((start, text)))
    });
    let (start, mut text) = opened.await?.ok_or_else(Fault::absent)?;
    if start.len() <= BUFFER_BYTES {
        return Ok(respond(StatusCode::OK, KIND, start, with_body));
    }
    let response = Response::builder()
        .header(header::CONTENT_TYPE, KIND)
        .header("X-Content-Type-Options", "nosniff")
        .header(CONTENT_POLICY.0, CONTENT_POLICY.1);
    if !with_body {
        return Ok(response.body(Body::empty()).expect("these headers are right"));
    }
    let (sending, pieces) = way(turn, shared.patience, 0, None);
    tokio::task::spawn_blocking(move || {
        let mut sending = sending.buffered();
        let mut send = || {
            sending.write_all(&start)?;
            std::io::copy(&mut text, &mut sending)?;
            sending.flush()
        };
        let result = send();
        sending.into_parts().0.end(result);
    });
    Ok(response.body(Body::new(pieces)).expect("these headers are right"))
}

fn narinfo(shared: &Shared, hash_part: &str) -> Result<Option<String>, Fault> {
    if !is_hash_part(hash_part) {
        return Ok(None);
    }
    let Some(path) = shared.store.path_from_hash_part(hash_part)? else { return Ok(None) };
    let Some(info) = shared.store.path_info(&path)? else { return Ok(None) };
    let compression = archive::compression(shared);
    let mut entry = crate::NarInfo::of(&info, archive::name(&info, compression), compression);
    entry.signatures = signatures(&info, shared.config.key.as_ref());
    if compression == crate::compression::Compression::None {
        entry.file_hash = Some(info.nar_hash);
        entry.file_size = Some(info.nar_size);
    }
    Ok(Some(entry.to_text()))
}

fn realisation(shared: &Shared, key: &Key) -> Result<Option<String>, Fault> {
    let id = match key {
        Key::Hash(id) => Some(id.clone()),
        Key::Derivation(path, output) => identify(shared, path, output)?,
    };
    let known = id.map_or(Ok(None), |id| shared.store.query_realisation(&id))?;
    let Some(realisation) = known else { return Ok(trace(shared, key).map(|(text, _)| text)) };
    let Some(info) = shared.store.path_info(&realisation.path)? else { return Ok(None) };
    let mut signatures = match key {
        Key::Hash(_) => realisation.signatures,
        Key::Derivation(..) => trace(shared, key)
            .filter(|(_, found)| found.path == realisation.path)
            .map_or(Vec::new(), |(_, found)| found.signatures),
    };
    // Vouched for is what was built here; and uploads that were believed were signed as they came.
    if let Some(secret) = shared.config.key.as_ref().filter(|_| info.ultimate) {
        let own = format!("{}:", secret.name());
        signatures.retain(|signature| !signature.starts_with(&own));
        signatures.push(key.sign(&realisation.path, secret));
    }
    Ok(Some(key.to_text(&realisation.path, &signatures)))
}

pub(super) fn trace_name(path: &StorePath, output: &str) -> String {
    format!("{}^{output}.doi", path.basename())
}

/// What was uploaded about a derivation that was not here, or signed by others in this layout.
pub(super) fn trace(shared: &Shared, key: &Key) -> Option<(String, Found)> {
    let Key::Derivation(path, output) = key else { return None };
    let text = std::fs::read_to_string(shared.folders.traces.join(trace_name(path, output))).ok()?;
    let found = key.read(text.as_bytes()).ok()?;
    Some((text, found))
}

/// The realisation of a derivation that is here.
pub(super) fn identify(
    shared: &Shared,
    path: &StorePath,
    output: &str,
) -> Result<Option<RealisationId>, Fault> {
    let store = &shared.store;
    if !store.is_valid(path)? {
        return Ok(None);
    }
    let derivation = store.read_derivation(path)?;
    if !derivation.outputs.contains_key(output) {
        return Ok(None);
    }
    let mut load = |path: &StorePath| store.read_derivation(path);
    let derivation_hash = *DerivationHashes::new().masked(&derivation, &mut load)?.hash();
    Ok(Some(RealisationId { derivation_hash, output: output.to_owned() }))
}
