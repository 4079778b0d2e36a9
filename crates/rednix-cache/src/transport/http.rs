//! A cache over HTTP/1.1 and HTTP/2. Every time-out is bounded; repetitions are for what passes only.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{NoProxy, Proxy, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Body, Opened, Transport};
use crate::error::{Error, Result};
use crate::limits::{
    CONNECT_TIMEOUT, REDIRECTS_MAX, RETRIES_MAX, RETRY_PAUSE, SILENCE_TIMEOUT, SMALL_FILE_BYTES_MAX,
};
use crate::netrc::Netrc;

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

    fn client(&self) -> std::result::Result<Client, String> {
        self.client.get_or_init(|| self.settings.build()).clone()
    }
}

impl HttpSettings {
    fn build(&self) -> std::result::Result<Client, String> {
        let text = |error: reqwest::Error| error.to_string();
        let mut builder = Client::builder()
            .user_agent(concat!("rednix/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // Of this client it counts for the answer's head and for each piece of its body, not for the whole.
            .timeout(SILENCE_TIMEOUT)
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

pub struct Http {
    base: String,
    host: String,
    connections: Arc<Connections>,
}

impl Http {
    pub fn new(url: &str, connections: Arc<Connections>) -> Result<Http> {
        let bad = |reason: String| Error::BadAddress { url: url.to_owned(), reason };
        let parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        let host = parsed.host_str().ok_or_else(|| bad("it names no host".to_owned()))?.to_owned();
        Ok(Http { base: url.trim_end_matches('/').to_owned(), host, connections })
    }

    fn client(&self) -> Result<Client> {
        self.connections.client().map_err(|reason| Error::NoRoute { url: self.base.clone(), reason })
    }

    fn with_user(&self, request: RequestBuilder) -> RequestBuilder {
        match self.connections.settings.netrc.authorization(&self.host) {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        }
    }

    /// Puts a question, again after passing trouble.
    fn ask<T>(&self, mut once: impl FnMut() -> Result<T>) -> Result<T> {
        let mut attempt = 0;
        loop {
            match once() {
                Err(error) if error.is_passing() && attempt < RETRIES_MAX => {
                    // A host that is not there does not come back within a second.
                    if matches!(error, Error::NoRoute { .. } | Error::TimedOut { .. }) {
                        return Err(error);
                    }
                    std::thread::sleep(RETRY_PAUSE * (1 << attempt));
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    fn send(&self, url: &str, request: RequestBuilder) -> Result<Option<Response>> {
        let response = self.with_user(request).send().map_err(|error| describe(url, &error))?;
        let status = response.status().as_u16();
        match status {
            200 | 201 | 204 | 206 => Ok(Some(response)),
            404 | 410 => Ok(None),
            401 | 402 | 403 | 407 | 451 => Err(Error::Denied { url: url.to_owned(), status }),
            408 | 425 | 429 | 500.. => Err(Error::Server { url: url.to_owned(), status }),
            _ => Err(Error::Protocol { url: url.to_owned(), reason: format!("HTTP {status}") }),
        }
    }

    fn refusal(&self, url: &str, response: Response) -> Error {
        let status = response.status().as_u16();
        let mut text = String::new();
        let _ = response.take(4096).read_to_string(&mut text);
        let text = text.lines().next().unwrap_or_default().escape_debug().to_string();
        match status {
            401 | 402 | 403 | 407 | 451 => Error::Denied { url: url.to_owned(), status },
            404 | 405 | 410 => {
                Error::NotWritable { url: url.to_owned(), reason: format!("HTTP {status}: {text}") }
            }
            500.. | 429 => Error::Server { url: url.to_owned(), status },
            _ => Error::Protocol { url: url.to_owned(), reason: format!("HTTP {status}: {text}") },
        }
    }
}

impl Transport for Http {
    fn url(&self, place: &str) -> String {
        format!("{}/{place}", self.base)
    }

    fn get(&self, place: &str) -> Result<Option<Vec<u8>>> {
        let (client, url) = (self.client()?, self.url(place));
        self.ask(|| {
            let Some(response) = self.send(&url, client.get(&url))? else { return Ok(None) };
            let promised = response.content_length();
            let mut bytes = Vec::new();
            let read = response.take(SMALL_FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
            read.map_err(|error| body_error(&url, &error, bytes.len() as u64, promised))?;
            if bytes.len() as u64 > SMALL_FILE_BYTES_MAX {
                return Err(Error::TooLarge { what: url.clone(), limit: SMALL_FILE_BYTES_MAX });
            }
            Ok(Some(bytes))
        })
    }

    fn exists(&self, place: &str) -> Result<bool> {
        let (client, url) = (self.client()?, self.url(place));
        self.ask(|| Ok(self.send(&url, client.head(&url))?.is_some()))
    }

    fn open(&self, place: &str, offset: u64, tag: Option<&str>) -> Result<Option<Opened>> {
        let (client, url) = (self.client()?, self.url(place));
        self.ask(|| {
            let mut request = client.get(&url);
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
                if let Some(tag) = tag {
                    request = request.header(IF_RANGE, tag);
                }
            }
            let Some(response) = self.send(&url, request)? else { return Ok(None) };
            let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            // Weak tags name no bytes.
            let tag = text(ETAG).filter(|tag| !tag.starts_with("W/")).or_else(|| text(LAST_MODIFIED));
            let tag = tag.map(str::to_owned);
            let length = response.content_length();
            let (offset, size) = match response.status().as_u16() {
                206 => {
                    let (start, size) = text(CONTENT_RANGE)
                        .and_then(content_range)
                        .filter(|r| r.0 == offset)
                        .ok_or_else(|| {
                            let reason = "it sent another range than was asked for".to_owned();
                            Error::Protocol { url: url.clone(), reason }
                        })?;
                    (start, size.or(length.map(|length| start + length)))
                }
                _ => (0, length),
            };
            Ok(Some(Opened { offset, size, tag, body: Box::new(response) }))
        })
    }

    fn put(&self, place: &str, kind: &'static str, body: Body) -> Result<()> {
        let (client, url) = (self.client()?, self.url(place));
        let send = |body: reqwest::blocking::Body, wait| {
            let request = client.put(&url).header(CONTENT_TYPE, kind).timeout(wait).body(body);
            let response = self.with_user(request).send().map_err(|error| describe(&url, &error))?;
            if response.status().is_success() { Ok(()) } else { Err(self.refusal(&url, response)) }
        };
        // Time for the whole transfer at the slowest rate that counts as alive, and for the server to check it.
        let wait = |size: u64| {
            SILENCE_TIMEOUT * 20
                + std::time::Duration::from_secs(size / crate::limits::RATE_BYTES_MIN.max(64 << 10))
        };
        match body {
            Body::Bytes(bytes) => self.ask(|| send(bytes.clone().into(), wait(bytes.len() as u64))),
            Body::File(file, size) => self.ask(|| {
                let again = |error| Error::io("read", "the archive to be sent", error);
                let mut file = file.try_clone().map_err(again)?;
                io::Seek::rewind(&mut file).map_err(again)?;
                send(reqwest::blocking::Body::sized(file, size), wait(size))
            }),
        }
    }

    fn is_local(&self) -> bool {
        false
    }
}

/// Start and whole size of `bytes <start>-<end>/<size or *>` (RFC 9110, section 14.4).
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = value.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, size.trim().parse().ok()))
}

/// A transfer that broke within the body.
pub fn body_error(url: &str, error: &io::Error, got: u64, wanted: Option<u64>) -> Error {
    let url = url.to_owned();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>());
    if error.kind() == io::ErrorKind::TimedOut || inner.is_some_and(reqwest::Error::is_timeout) {
        return Error::TimedOut { url, phase: "to go on sending", limit_s: SILENCE_TIMEOUT.as_secs() };
    }
    match wanted {
        Some(wanted) => Error::Truncated { url, got, wanted },
        None => Error::Truncated { url, got, wanted: got + 1 },
    }
}

fn describe(url: &str, error: &reqwest::Error) -> Error {
    let url = url.to_owned();
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        reason = inner.to_string();
        cause = inner.source();
    }
    if error.is_timeout() && error.is_connect() {
        return Error::TimedOut { url, phase: "to be connected", limit_s: CONNECT_TIMEOUT.as_secs() };
    }
    if error.is_timeout() {
        return Error::TimedOut { url, phase: "to answer", limit_s: SILENCE_TIMEOUT.as_secs() };
    }
    if error.is_redirect() {
        let reason = format!("it redirects more than {REDIRECTS_MAX} times, maybe in a loop");
        return Error::Protocol { url, reason };
    }
    if error.is_connect() || error.is_request() {
        return Error::NoRoute { url, reason };
    }
    Error::Protocol { url, reason }
}
