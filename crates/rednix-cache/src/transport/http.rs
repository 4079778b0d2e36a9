//! A cache over HTTP/1.1 and HTTP/2, a bucket of S3-compatible storage among them. Every time-out is bounded; repetitions
//! are for what passes only. How requests to a bucket are signed is `s3`'s.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE,
    RETRY_AFTER,
};
use reqwest::{Method, NoProxy, Proxy, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::s3::{Bucket, S3Settings};
use super::{Answer, Body, Opened, Transport};
use crate::cache::Address;
use crate::compression::Compression;
use crate::error::{Error, Result, quoted};
use crate::limits::{
    BUSY_WAITED_ALL_MAX, BUSY_WAITED_MAX, CONNECT_TIMEOUT, INTERRUPT_LOOK, LOG_BYTES_MAX, REDIRECTS_MAX,
    REFUSAL_BYTES_MAX, REST, RETRIES_MAX, RETRY_PAUSE, S3_PART_BYTES_MIN, SILENCE_TIMEOUT, SLOW_AFTER,
    SMALL_FILE_BYTES_MAX, SMALL_FILE_TIMEOUT,
};
use crate::netrc::{Login, Netrc};
use crate::streams::{Cause, Limited, Paced};

/// What all caches over HTTP share.
#[derive(Clone, Debug, Default)]
pub struct HttpSettings {
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
    /// Hosts reached without a proxy, comma-separated.
    pub no_proxy: Option<String>,
    /// Certificate authorities, PEM.
    pub certificates: Option<PathBuf>,
    pub netrc: Netrc,
    pub s3: S3Settings,
    pub patience: Patience,
    /// Set where nobody waits for answers any more.
    pub cancelled: Arc<AtomicBool>,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub connect: Duration,
    /// Before an answer, and within it.
    pub silence: Duration,
    /// How long a transfer may be next to dead.
    pub slow_after: Duration,
    /// For the whole of a small file.
    pub small: Duration,
    /// Before the first repetition; it doubles.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: CONNECT_TIMEOUT,
            silence: SILENCE_TIMEOUT,
            slow_after: SLOW_AFTER,
            small: SMALL_FILE_TIMEOUT,
            pause: RETRY_PAUSE,
        }
    }
}

/// Connections to all caches, with the settings they have in common.
#[derive(Debug, Default)]
pub struct Connections {
    settings: HttpSettings,
    /// Made for the first cache that needs it.
    client: OnceLock<std::result::Result<Client, String>>,
}

impl Connections {
    pub fn new(settings: HttpSettings) -> Connections {
        Connections { settings, client: OnceLock::new() }
    }

    pub(super) fn s3(&self) -> &S3Settings {
        &self.settings.s3
    }

    fn client(&self) -> std::result::Result<Client, String> {
        self.client.get_or_init(|| self.settings.build()).clone()
    }
}

impl HttpSettings {
    fn build(&self) -> std::result::Result<Client, String> {
        let text = |error: reqwest::Error| error.to_string();
        let mut builder = Client::builder()
            .user_agent(concat!("rednix/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.patience.connect)
            // Of this client it counts for the answer's head and for each piece of its body, not for the whole.
            .timeout(self.patience.silence)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
            .tls_backend_preconfigured(self.tls()?)
            .no_proxy();
        let direct = self.no_proxy.as_deref().and_then(NoProxy::from_string);
        let given = |address: &Option<String>| address.clone().filter(|address| !address.is_empty());
        if let Some(address) = given(&self.http_proxy) {
            builder = builder.proxy(Proxy::http(address).map_err(text)?.no_proxy(direct.clone()));
        }
        if let Some(address) = given(&self.https_proxy) {
            builder = builder.proxy(Proxy::https(address).map_err(text)?.no_proxy(direct));
        }
        builder.build().map_err(text)
    }

    fn tls(&self) -> std::result::Result<rustls::ClientConfig, String> {
        let mut roots = rustls::RootCertStore::empty();
        if let Some(path) = &self.certificates {
            let pem = std::fs::read(path)
                .map_err(|error| format!("cannot read the certificates `{}`: {error}", path.display()))?;
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(|c| c.ok()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// What is asked, and with which credentials.
enum Site {
    /// The address without a slash at the end, its host, and who asks where the address said so.
    Server {
        base: String,
        host: String,
        login: Option<Login>,
    },
    Bucket(Bucket),
}

pub struct Http {
    site: Site,
    connections: Arc<Connections>,
    quiet: Mutex<Quiet>,
}

/// What a cache that has too much to do was granted.
#[derive(Default)]
struct Quiet {
    /// Before this it is asked nothing.
    until: Option<Instant>,
    /// How long it was waited for since when.
    waited: Duration,
    since: Option<Instant>,
}

impl Quiet {
    /// False where it was waited for long enough.
    fn extend(&mut self, wait: Duration, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) > REST) {
            (self.since, self.waited) = (Some(now), Duration::ZERO);
        }
        // Many are told the same at once, and wait together.
        let until = self.until.map_or(now, |until| until.max(now));
        let more = (now + wait).saturating_duration_since(until);
        if wait > BUSY_WAITED_MAX || self.waited + more > BUSY_WAITED_ALL_MAX {
            return false;
        }
        self.waited += more;
        self.until = Some(until + more);
        true
    }
}

impl Http {
    pub fn new(address: &Address, connections: Arc<Connections>) -> Result<Http> {
        let url = address.url.as_str();
        // A password with a slash in it ends up where no user is looked for.
        let shown = || url.rsplit_once('@').map_or(url.to_owned(), |(_, rest)| format!("…@{rest}"));
        let bad = |reason: String| Error::BadAddress { url: shown(), reason };
        let parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        let host = parsed.host_str().ok_or_else(|| bad("it names no host".to_owned()))?.to_owned();
        let login = address.login.clone();
        let site = Site::Server { base: url.trim_end_matches('/').to_owned(), host, login };
        Ok(Http { site, connections, quiet: Mutex::default() })
    }

    pub fn bucket(bucket: Bucket, connections: Arc<Connections>) -> Http {
        Http { site: Site::Bucket(bucket), connections, quiet: Mutex::default() }
    }

    /// A request for a place, with whatever shows who asks. A signature has its time, so every attempt needs its own.
    pub(super) fn request(
        &self,
        method: Method,
        place: &str,
        query: &[(&str, &str)],
    ) -> Result<RequestBuilder> {
        let client = self.connections.client();
        let client = client.map_err(|reason| Error::NoRoute { url: self.url(place), reason })?;
        Ok(match &self.site {
            Site::Bucket(bucket) => {
                let address = bucket.signed(&method, place, query);
                client.request(method, address)
            }
            Site::Server { base, host, login } => {
                let request = client.request(method, format!("{base}/{place}"));
                let login = login.as_ref().map(|login| login.authorization().to_owned());
                match login.or_else(|| self.connections.settings.netrc.authorization(host)) {
                    Some(value) => request.header(AUTHORIZATION, value),
                    None => request,
                }
            }
        })
    }

    /// Puts a question, again after passing trouble.
    pub(super) fn ask<T>(&self, mut once: impl FnMut() -> Result<T>) -> Result<T> {
        let mut attempt = 0;
        loop {
            self.keep_quiet();
            if self.is_cancelled() {
                return Err(Error::Cancelled);
            }
            match once() {
                Err(Error::Busy { wait, .. }) if attempt < RETRIES_MAX && self.be_quiet(wait) => attempt += 1,
                Err(error) if error.is_passing() && attempt < RETRIES_MAX => {
                    // A host that is not there does not come back within a second, nor before it says so.
                    if matches!(error, Error::NoRoute { .. } | Error::TimedOut { .. } | Error::Busy { .. }) {
                        return Err(error);
                    }
                    std::thread::sleep(self.connections.settings.patience.pause * (1 << attempt));
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// All questions wait, not only the one that was answered so. False where it is not waited for.
    fn be_quiet(&self, wait: Duration) -> bool {
        let wait = wait.max(self.connections.settings.patience.pause);
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner).extend(wait, Instant::now())
    }

    fn keep_quiet(&self) {
        let until = self.quiet.lock().unwrap_or_else(PoisonError::into_inner).until;
        while let Some(left) = until.and_then(|until| until.checked_duration_since(Instant::now())) {
            if self.is_cancelled() {
                return;
            }
            std::thread::sleep(left.min(INTERRUPT_LOOK));
        }
    }

    fn is_cancelled(&self) -> bool {
        self.connections.settings.cancelled.load(Ordering::Relaxed)
    }

    /// At most `limit` bytes of a body, within a time: one that trickles must not hold anybody up, whatever of it comes
    /// in time for the single piece.
    pub(super) fn read_whole(
        &self,
        url: &str,
        mut body: impl Read,
        promised: Option<u64>,
        limit: u64,
        time: Duration,
    ) -> Result<Answer> {
        let (mut bytes, mut buffer, mut began) = (Vec::new(), [0; 16 << 10], Instant::now());
        let mut share = None;
        loop {
            if self.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if began.elapsed() > time {
                let (url, phase) = (url.to_owned(), "to send a small file");
                return Err(Error::TimedOut { url, phase, limit_s: time.as_secs() });
            }
            match body.read(&mut buffer) {
                Ok(0) => return Ok(Answer { bytes, share }),
                Ok(count) if (bytes.len() + count) as u64 > limit => {
                    return Err(Error::TooLarge { what: url.to_owned(), limit });
                }
                Ok(count) => {
                    if share.is_none() {
                        // It is not the cache's fault that others take the memory.
                        let waiting = Instant::now();
                        share = Answer::share((bytes.len() + count) as u64);
                        began += waiting.elapsed();
                        if share.is_some() {
                            let first = std::mem::replace(&mut bytes, super::buffer());
                            bytes.extend_from_slice(&first);
                        }
                    }
                    bytes.extend_from_slice(&buffer[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(body_error(url, &error, bytes.len() as u64, promised, self.patience()));
                }
            }
        }
    }

    /// The answer to a question about a file; `None` where there is none.
    fn send(&self, url: &str, request: RequestBuilder) -> Result<Option<Response>> {
        let response =
            request.send().map_err(|error| describe(url, error, &self.connections.settings.patience))?;
        match response.status().as_u16() {
            200 | 201 | 204 | 206 => Ok(Some(response)),
            404 | 410 => match &self.site {
                // No file, or no bucket at all, which is not an answer about a file.
                Site::Bucket(_) => match self.refusal(url, response) {
                    Error::NotWritable { reason, .. } if !reason.contains("NoSuchBucket") => Ok(None),
                    error => Err(error),
                },
                Site::Server { .. } => Ok(None),
            },
            _ => Err(self.refusal(url, response)),
        }
    }

    /// A whole file of at most `limit` bytes.
    fn whole(&self, place: &str, limit: u64) -> Result<Option<Answer>> {
        let url = self.url(place);
        self.ask(|| {
            let request = self.request(Method::GET, place, &[])?;
            let Some(response) = self.send(&url, request)? else { return Ok(None) };
            let promised = response.content_length();
            let encoding = response.headers().get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
            let encoding = encoding.map(str::to_ascii_lowercase);
            let bytes = self.read_whole(&url, response, promised, limit, self.patience().small)?;
            decoded(&url, encoding.as_deref(), bytes, limit).map(Some)
        })
    }

    /// The answer to something written, which may take as long as the server likes to look at it: nobody who was
    /// interrupted waits for that. The request ends by its own time-out, or with the process.
    pub(super) fn deliver(&self, url: &str, request: RequestBuilder) -> Result<Response> {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || drop(answer.send(request.send())));
        let sent = loop {
            match answered.recv_timeout(INTERRUPT_LOOK) {
                Ok(sent) => break sent,
                Err(RecvTimeoutError::Timeout) if !self.is_cancelled() => {}
                Err(RecvTimeoutError::Timeout) => return Err(Error::Cancelled),
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = "sending it failed within rednix".to_owned();
                    return Err(Error::Protocol { url: url.to_owned(), reason });
                }
            }
        };
        let response = sent.map_err(|error| describe(url, error, &self.connections.settings.patience))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(url, response)) }
    }

    fn refusal(&self, url: &str, response: Response) -> Error {
        let status = response.status().as_u16();
        let url = url.to_owned();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.and_then(|value| retry_after(value, Timestamp::now()));
        if let (Some(wait), 429 | 503) = (after, status) {
            return Error::Busy { url, status, wait };
        }
        let body = response.take(REFUSAL_BYTES_MAX);
        let read = self.read_whole(&url, body, None, REFUSAL_BYTES_MAX, self.patience().small);
        let text = read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        if let Site::Bucket(_) = self.site {
            return super::s3::refusal(url, status, &text);
        }
        let said = quoted(text.lines().next().unwrap_or_default());
        match status {
            401 | 402 | 403 | 407 | 451 => Error::Denied { url, status },
            // Too large, or no more room: sending it again changes nothing.
            404 | 405 | 410 | 413 | 507 => {
                Error::NotWritable { url, reason: format!("HTTP {status}: {said}") }
            }
            408 | 425 | 429 | 500.. => Error::Server { url, status },
            _ => Error::Protocol { url, reason: format!("HTTP {status}: {said}") },
        }
    }
}

/// Ends in an error where nobody waits any more.
struct Watched<R> {
    inner: R,
    cancelled: Arc<AtomicBool>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted"));
        }
        self.inner.read(buffer)
    }
}

/// By a `Content-Encoding`.
fn compression(url: &str, encoding: Option<&str>) -> Result<Compression> {
    let name = match encoding {
        None | Some("identity") => "",
        Some(name) => name,
    };
    Compression::parse(name).ok_or_else(|| {
        let reason = format!("its encoding `{}` is unknown", quoted(name));
        Error::Protocol { url: url.to_owned(), reason }
    })
}

fn not_unpacked(url: &str, error: &io::Error) -> Error {
    Error::Protocol { url: url.to_owned(), reason: format!("it does not unpack: {error}") }
}

/// What a small file says, where the cache keeps or sends it compressed.
fn decoded(url: &str, encoding: Option<&str>, mut answer: Answer, limit: u64) -> Result<Answer> {
    let compression = compression(url, encoding)?;
    if compression == Compression::None {
        return Ok(answer);
    }
    // However little it is, it may unpack to much.
    let share = answer.share.take().or_else(|| Answer::share(limit));
    let mut plain = super::buffer();
    let read = compression
        .decoder(&*answer, limit + 1)
        .and_then(|decoder| decoder.take(limit + 1).read_to_end(&mut plain));
    read.map_err(|error| not_unpacked(url, &error))?;
    if plain.len() as u64 > limit {
        return Err(Error::TooLarge { what: url.to_owned(), limit });
    }
    Ok(Answer { bytes: plain, share })
}

impl Transport for Http {
    fn url(&self, place: &str) -> String {
        match &self.site {
            Site::Server { base, .. } => format!("{base}/{place}"),
            Site::Bucket(bucket) => bucket.shown(place),
        }
    }

    fn get(&self, place: &str) -> Result<Option<Answer>> {
        self.whole(place, SMALL_FILE_BYTES_MAX)
    }

    fn log(&self, place: &str) -> Result<Option<Box<dyn Read + Send>>> {
        let url = self.url(place);
        self.ask(|| {
            let Some(response) = self.send(&url, self.request(Method::GET, place, &[])?)? else {
                return Ok(None);
            };
            let encoding = response.headers().get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
            let encoding = encoding.map(str::to_ascii_lowercase);
            let compression = compression(&url, encoding.as_deref())?;
            let watched = Watched { inner: response, cancelled: self.connections.settings.cancelled.clone() };
            let paced = Paced::new(watched, url.clone(), self.patience().slow_after, Cause::default());
            let plain = compression.decoder(paced, LOG_BYTES_MAX + 1);
            let plain = plain.map_err(|error| not_unpacked(&url, &error))?;
            Ok(Some(Box::new(Limited::new(plain, LOG_BYTES_MAX)) as Box<dyn Read + Send>))
        })
    }

    fn exists(&self, place: &str) -> Result<bool> {
        let url = self.url(place);
        self.ask(|| Ok(self.send(&url, self.request(Method::HEAD, place, &[])?)?.is_some()))
    }

    fn open(&self, place: &str, offset: u64, tag: Option<&str>) -> Result<Option<Opened>> {
        let url = self.url(place);
        self.ask(|| {
            let mut request = self.request(Method::GET, place, &[])?;
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
                if let Some(tag) = tag {
                    request = request.header(IF_RANGE, tag);
                }
            }
            let Some(response) = self.send(&url, request)? else { return Ok(None) };
            opened(&url, offset, response).map(Some)
        })
    }

    fn put(&self, place: &str, kind: &'static str, body: Body) -> Result<()> {
        let url = self.url(place);
        let send = |body: reqwest::blocking::Body, wait| {
            let request = self.request(Method::PUT, place, &[])?.header(CONTENT_TYPE, kind);
            self.deliver(&url, request.timeout(wait).body(body)).map(drop)
        };
        match body {
            Body::Bytes(bytes) => self.ask(|| send(bytes.clone().into(), patience(bytes.len() as u64))),
            Body::File(file, size) if size > S3_PART_BYTES_MIN && matches!(self.site, Site::Bucket(_)) => {
                super::multipart::put(self, place, kind, &file, size)
            }
            Body::File(file, size) => self.ask(|| {
                let again = |error| Error::io("read", "the archive to be sent", error);
                let mut file = file.try_clone().map_err(again)?;
                io::Seek::rewind(&mut file).map_err(again)?;
                send(reqwest::blocking::Body::sized(file, size), patience(size))
            }),
        }
    }

    fn patience(&self) -> Patience {
        self.connections.settings.patience
    }

    fn is_local(&self) -> bool {
        false
    }
}

/// Time for a whole transfer at the slowest rate that counts as alive, and for the server to check it.
pub(super) fn patience(size: u64) -> Duration {
    SILENCE_TIMEOUT * 20 + Duration::from_secs(size / crate::limits::RATE_BYTES_MIN.max(64 << 10))
}

/// A file as an answer gives it, from `offset` on or from its start.
fn opened(url: &str, offset: u64, response: Response) -> Result<Opened> {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    // Weak tags name no bytes.
    let tag = text(ETAG).filter(|tag| !tag.starts_with("W/")).or_else(|| text(LAST_MODIFIED));
    let tag = tag.map(str::to_owned);
    let length = response.content_length();
    let (offset, size) = match response.status().as_u16() {
        206 => {
            let range = text(CONTENT_RANGE).and_then(content_range).filter(|range| range.0 == offset);
            let (start, size) = range.ok_or_else(|| {
                let reason = "it sent another range than was asked for".to_owned();
                Error::Protocol { url: url.to_owned(), reason }
            })?;
            (start, size.or(length.map(|length| start.saturating_add(length))))
        }
        _ => (0, length),
    };
    Ok(Opened { offset, size, tag, body: Box::new(response) })
}

/// How long to wait by a `Retry-After` (RFC 9110, section 10.2.3): so many seconds, or until a time.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are long enough.
        return Some(Duration::from_secs(value.parse().unwrap_or(u32::MAX).into()));
    }
    let until = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::from_secs(u64::try_from(until.as_second() - now.as_second()).unwrap_or(0)))
}

/// Start and whole size of `bytes <start>-<end>/<size or *>` (RFC 9110, section 14.4).
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = value.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, size.trim().parse().ok()))
}

/// A transfer that broke within the body.
pub fn body_error(url: &str, error: &io::Error, got: u64, wanted: Option<u64>, patience: Patience) -> Error {
    let url = url.to_owned();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>());
    if error.kind() == io::ErrorKind::TimedOut || inner.is_some_and(reqwest::Error::is_timeout) {
        return Error::TimedOut { url, phase: "to go on sending", limit_s: patience.silence.as_secs() };
    }
    match wanted {
        Some(wanted) => Error::Truncated { url, got, wanted },
        None => Error::Truncated { url, got, wanted: got + 1 },
    }
}

fn describe(url: &str, error: reqwest::Error, patience: &Patience) -> Error {
    let url = url.to_owned();
    // Its own address may have a signature in it.
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        reason = inner.to_string();
        cause = inner.source();
    }
    if error.is_timeout() && error.is_connect() {
        return Error::TimedOut { url, phase: "to be connected", limit_s: patience.connect.as_secs() };
    }
    if error.is_timeout() {
        return Error::TimedOut { url, phase: "to answer", limit_s: patience.silence.as_secs() };
    }
    if error.is_redirect() {
        let reason = format!("it redirects more than {REDIRECTS_MAX} times, maybe in a loop");
        return Error::Protocol { url, reason };
    }
    // Bodies are only sent here: it hung up before it had all of one.
    if error.is_connect() || error.is_request() || error.is_body() {
        return Error::NoRoute { url, reason };
    }
    Error::Protocol { url, reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_to_wait_is_read_in_both_forms() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        let cases = [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 07:49:37 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
            ("1.5", None),
            ("", None),
        ];
        for (value, seconds) in cases {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn a_cache_is_waited_for_briefly_and_not_for_ever() {
        let (mut quiet, start, second) = (Quiet::default(), Instant::now(), Duration::from_secs(1));
        assert!(!quiet.extend(second * 6, start), "too long for once");
        // Thirty are told the same at the same time: one wait.
        assert!((0..30).all(|_| quiet.extend(second * 5, start)));
        assert_eq!((quiet.until, quiet.waited), (Some(start + second * 5), second * 5));
        let granted = (1..100).filter(|&n| quiet.extend(second * 5, start + second * 5 * n)).count();
        // Twelve within each two minutes.
        assert!((40..=50).contains(&granted), "{granted}");
        assert!(!quiet.extend(second * 6, start + second * 1000));
        assert!(quiet.extend(second * 5, start + second * 1000));
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_to_wait_or_not(text in "[A-Z0-9a-z:, +-]{0,40}", at in any::<i32>()) {
            let _ = retry_after(&text, Timestamp::from_second(at.into()).unwrap());
        }
    }
}
