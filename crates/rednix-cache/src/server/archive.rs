//! Archives, packed while they are sent. A part can be asked for: what comes before it is packed and dropped. Each has the
//! name that its entry says here; and the one under which it was uploaded, for C++ Nix remembers its own entries.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use liblzma::write::XzEncoder;
use rednix_events::Event;
use rednix_store::hash::Hash;
use rednix_store::path::StorePath;
use rednix_store::{PathInfo, nar};

use super::pieces::{Pieces, Turn, way};
use super::{Counters, Fault, Shared, blocking};
use crate::compression::Compression;
use crate::encoders::ENCODERS;
use crate::limits::{CLIENTS_MAX, XZ_LEVEL, ZSTD_LEVEL};
use crate::narinfo::is_hash_part;

/// Sizes of packed archives, as far as they were seen.
#[derive(Default)]
pub struct Sizes(Mutex<HashMap<(Hash, Compression), u64>>);

impl Sizes {
    fn get(&self, hash: Hash, compression: Compression) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(hash, compression)).copied()
    }

    fn insert(&self, hash: Hash, compression: Compression, size: u64) {
        let mut sizes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sizes.len() >= CLIENTS_MAX {
            sizes.clear();
        }
        sizes.insert((hash, compression), size);
    }
}

pub(super) fn compression(shared: &Shared) -> Compression {
    if shared.config.compress { Compression::Zstd } else { Compression::None }
}

/// Where an entry says the archive is: the name has the path and what it must contain.
pub(super) fn name(info: &PathInfo, compression: Compression) -> String {
    format!("nar/{}-{}.nar{}", info.path.hash_part(), info.nar_hash.to_nix32(), compression.suffix())
}

fn find(shared: &Shared, asked: &str) -> Result<(PathInfo, Compression), Fault> {
    let compression = match asked.rsplit_once(".nar").map(|(_, suffix)| suffix) {
        Some("") => Compression::None,
        Some(".zst") => Compression::Zstd,
        Some(".xz") => Compression::Xz,
        _ => return Err(Fault::absent()),
    };
    let by_own_name = |path: &StorePath| -> Result<Option<PathInfo>, Fault> {
        let info = shared.store.path_info(path)?;
        Ok(info.filter(|info| name(info, compression).strip_prefix("nar/") == Some(asked)))
    };
    let hash_part = asked.split('-').next().filter(|part| is_hash_part(part));
    if let Some(part) = hash_part.filter(|_| compression != Compression::Xz)
        && let Some(path) = shared.store.path_from_hash_part(part)?
        && let Some(info) = by_own_name(&path)?
    {
        return Ok((info, compression));
    }
    let uploaded = shared.folders.uploaded_as(asked).ok_or_else(Fault::absent)?;
    let info = shared.store.path_info(&uploaded)?.ok_or_else(Fault::absent)?;
    Ok((info, compression))
}

pub(super) async fn serve(
    shared: &Arc<Shared>,
    client: IpAddr,
    asked: &str,
    headers: &HeaderMap,
    with_body: bool,
) -> Result<Response, Fault> {
    let (info, compression) = {
        let (shared, asked) = (shared.clone(), asked.to_owned());
        blocking(move || find(&shared, &asked)).await?
    };
    let tag = match compression {
        Compression::None => format!("\"{}\"", info.nar_hash.to_nix32()),
        Compression::Xz => format!("\"{}-x{XZ_LEVEL}\"", info.nar_hash.to_nix32()),
        // Another library may pack the same bytes otherwise.
        _ => format!("\"{}-z{ZSTD_LEVEL}-{}\"", info.nar_hash.to_nix32(), zstd::zstd_safe::version_number()),
    };
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, "application/x-nix-nar")
        .header(header::ETAG, &tag)
        .header(header::ACCEPT_RANGES, "bytes")
        .header("X-Content-Type-Options", "nosniff");
    let known = match compression {
        Compression::None => Some(info.nar_size),
        _ => shared.sizes.get(info.nar_hash, compression),
    };
    if !with_body {
        if let Some(size) = known {
            response = response.header(header::CONTENT_LENGTH, size);
        }
        return Ok(response.body(Body::empty()).expect("these headers are right"));
    }
    let mut turn = shared.turns.take(client).await;
    let mut range = asked_range(headers, &tag);
    let mut size = known;
    if range.is_some() && size.is_none() {
        let (found, again) = measure(shared, &info, compression, turn).await?;
        (size, turn) = (Some(found), again);
    }
    if let (Some((start, _)), Some(size)) = (range, size)
        && start >= size
    {
        let range = format!("bytes */{size}");
        let response = Response::builder().status(StatusCode::RANGE_NOT_SATISFIABLE);
        let response = response.header(header::CONTENT_RANGE, range).body(Body::empty());
        return Ok(response.expect("these headers are right"));
    }
    if let (Some((start, end)), Some(size)) = (&mut range, size) {
        let last = end.unwrap_or(size - 1).min(size - 1);
        *end = Some(last);
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {start}-{last}/{size}"))
            .header(header::CONTENT_LENGTH, last + 1 - *start);
    } else if let Some(size) = size {
        response = response.header(header::CONTENT_LENGTH, size);
    }
    Counters::add(&shared.counters.archives);
    let (start, end) = range.map_or((0, None), |(start, end)| (start, end));
    let body = stream(shared.clone(), info, compression, start, end, turn);
    Ok(response.body(Body::new(body)).expect("these headers are right"))
}

/// `bytes=START-END?`, unless it is about another state of the file. Several parts at once are nobody's wish.
fn asked_range(headers: &HeaderMap, tag: &str) -> Option<(u64, Option<u64>)> {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    if text(header::IF_RANGE).is_some_and(|wanted| wanted != tag) {
        return None;
    }
    let (start, end) = text(header::RANGE)?.strip_prefix("bytes=")?.split_once('-')?;
    let start: u64 = start.parse().ok()?;
    let end: Option<u64> = match end {
        "" => None,
        end => Some(end.parse().ok()?),
    };
    end.is_none_or(|end| end >= start).then_some((start, end))
}

/// The size of a packed archive, found by packing it; nobody else has the turn meanwhile, and it ends when the client goes.
async fn measure(
    shared: &Arc<Shared>,
    info: &PathInfo,
    compression: Compression,
    turn: Turn,
) -> Result<(u64, Turn), Fault> {
    let wanted = Wanted(Arc::new(AtomicBool::new(true)));
    let (shared, info, is_wanted) = (shared.clone(), info.clone(), wanted.0.clone());
    blocking(move || {
        let mut sink = Counted { count: 0, is_wanted: &is_wanted };
        pack(&shared, &info, compression, &mut sink)
            .map_err(|error| Fault::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        shared.sizes.insert(info.nar_hash, compression, sink.count);
        Ok((sink.count, turn))
    })
    .await
}

/// Says, when it goes, that nobody waits any more.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn pack(shared: &Shared, info: &PathInfo, compression: Compression, out: &mut dyn Write) -> io::Result<()> {
    let from = shared.store.real_path(&info.path);
    let other = |error: rednix_store::Error| io::Error::other(error.to_string());
    match compression {
        Compression::None => nar::dump(from, out).map(drop).map_err(other),
        Compression::Xz => {
            let mut packer = XzEncoder::new(out, XZ_LEVEL);
            nar::dump(from, &mut packer).map_err(other)?;
            packer.finish().map(drop)
        }
        _ => {
            let mut encoder = ENCODERS.take(ZSTD_LEVEL)?;
            // The size is told beforehand, so that every pass gives the same bytes.
            let mut packer = encoder.over(out, info.nar_size)?;
            nar::dump(from, &mut packer).map_err(other)?;
            packer.finish()
        }
    }
}

fn stream(
    shared: Arc<Shared>,
    info: PathInfo,
    compression: Compression,
    start: u64,
    end: Option<u64>,
    turn: Turn,
) -> Pieces {
    let (sending, pieces) = way(turn, shared.patience, start, end.map(|end| end + 1));
    tokio::task::spawn_blocking(move || {
        // No root: a server that runs for months would keep all it ever sent. What a collection takes meanwhile breaks
        // off, and is built by whoever wanted it.
        let mut sending = sending.buffered();
        let result = pack(&shared, &info, compression, &mut sending).and_then(|()| sending.flush());
        let (sending, _) = sending.into_parts();
        let (position, sent) = sending.position();
        shared.counters.bytes_sent.fetch_add(sent, Ordering::Relaxed);
        if result.is_ok() && compression != Compression::None {
            shared.sizes.insert(info.nar_hash, compression, position);
        }
        if let Err(error) = &result
            && !(sending.is_done() || sending.is_left())
        {
            let message = format!("`{}` could not be sent whole: {error}", info.path);
            shared.events.emit(Event::Warning { message });
        }
        sending.end(result);
    });
    pieces
}

/// Counts, as long as somebody wants to know.
struct Counted<'w> {
    count: u64,
    is_wanted: &'w AtomicBool,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.count += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_found_out_as_long_as_somebody_wants_it() {
        let wanted = Wanted(Arc::new(AtomicBool::new(true)));
        let is_wanted = wanted.0.clone();
        let mut sink = Counted { count: 0, is_wanted: &is_wanted };
        sink.write_all(b"some").unwrap();
        drop(wanted);
        assert!(sink.write_all(b"more").is_err());
        assert_eq!(sink.count, 4);
    }
}
