//! What a client sends, piece by piece, and how it was compressed on its way. Knows not what it is.

use std::io::Read;
use std::pin::Pin;
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};

use super::{Fault, Patience};
use crate::compression::Compression;
use crate::error::quoted;
use crate::limits::{DRAINED_BYTES_MAX, RATE_BYTES_MIN, SMALL_FILE_BYTES_MAX};

/// How what is sent is compressed on its way: C++ Nix does that with entries, realisations and logs where it is told to.
pub fn encoding(headers: &HeaderMap) -> Result<Compression, Fault> {
    let name = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
    let name = name.unwrap_or_default().to_ascii_lowercase();
    let known = if name == "identity" { Some(Compression::None) } else { Compression::parse(&name) };
    known.ok_or_else(|| {
        let message = format!("the encoding `{}` is not known here", quoted(&name));
        Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    })
}

pub fn unpack_fault(error: &std::io::Error) -> Fault {
    Fault::new(StatusCode::UNPROCESSABLE_ENTITY, format!("what was sent does not unpack: {error}"))
}

/// A small file as it was before it was sent.
pub fn plain(bytes: Vec<u8>, packed: Compression) -> Result<Vec<u8>, Fault> {
    if packed == Compression::None {
        return Ok(bytes);
    }
    let (mut text, limit) = (Vec::new(), SMALL_FILE_BYTES_MAX + 1);
    let decoder = packed.decoder(bytes.as_slice(), limit);
    decoder
        .and_then(|decoder| decoder.take(limit).read_to_end(&mut text))
        .map_err(|error| unpack_fault(&error))?;
    match text.len() as u64 == limit {
        true => {
            Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {SMALL_FILE_BYTES_MAX} bytes")))
        }
        false => Ok(text),
    }
}

/// What a client sends, unless it is too long in coming.
pub struct Incoming<'b> {
    body: &'b mut Body,
    patience: Patience,
    since: Instant,
    bytes: u64,
}

impl Incoming<'_> {
    pub fn new(body: &mut Body, patience: Patience) -> Incoming<'_> {
        Incoming { body, patience, since: Instant::now(), bytes: 0 }
    }

    /// From here on it is waited for.
    pub fn begin(&mut self) {
        self.since = Instant::now();
    }

    pub async fn piece(&mut self) -> Result<Option<Bytes>, Fault> {
        let slow = |what: &str| Fault::new(StatusCode::REQUEST_TIMEOUT, format!("the upload {what}"));
        let body = &mut *self.body;
        let next = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        let piece = match tokio::time::timeout(self.patience.silence, next).await {
            Err(_) => return Err(slow("stood still")),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                return Err(Fault::new(StatusCode::BAD_REQUEST, format!("the upload broke off: {error}")));
            }
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        self.bytes += piece.len() as u64;
        let time = self.since.elapsed();
        if time >= self.patience.slow_after {
            if self.bytes < RATE_BYTES_MIN * time.as_secs().max(1) {
                return Err(slow("is too slow"));
            }
            (self.since, self.bytes) = (Instant::now(), 0);
        }
        Ok(Some(piece))
    }

    pub async fn drain(&mut self) {
        let mut size = 0;
        while let Ok(Some(piece)) = self.piece().await {
            size += piece.len() as u64;
            if size > DRAINED_BYTES_MAX {
                return;
            }
        }
    }

    pub async fn small(&mut self) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > SMALL_FILE_BYTES_MAX {
                let message = format!("at most {SMALL_FILE_BYTES_MAX} bytes");
                return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
        }
        Ok(bytes)
    }
}
