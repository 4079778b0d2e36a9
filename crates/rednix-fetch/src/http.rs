//! HTTP and HTTPS: one file from one address, resumable.
//!
//! Knows no mirrors, no retries and no wanted hashes; see [`crate::fetcher`].

use std::fs;
use std::io::{self, Read};
use std::time::Duration;

use ureq::http::{HeaderMap, Response, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy, Timeout};

use crate::config::FetchConfig;
use crate::error::FetchError;
use crate::forward_proxy;
use crate::limits;

/// Connections to all servers, with the system's roots and the user's proxies.
#[derive(Debug)]
pub struct Http {
    direct: Agent,
    http_proxy: Option<Agent>,
    /// For `http_proxy` when it is sent whole urls; a tunnel gets its credentials from the agent.
    authorization: Option<String>,
    https_proxy: Option<Agent>,
    no_proxy: Vec<String>,
    headers: Vec<(String, String, String)>,
    connect_timeout: Duration,
    read_timeout: Duration,
}

/// What identifies one state of a file at a server, to resume only what has not changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Validator {
    pub etag: Option<String>,
    pub last_modified: Option<String>,
}

impl Validator {
    /// The value for `If-Range`: a strong entity tag, else a date.
    fn if_range(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| !etag.starts_with("W/")).or(self.last_modified.as_deref())
    }
}

/// An answer whose body has not been read yet.
pub struct Download {
    /// Where in the file the body begins: the wanted offset, or 0 when the server sends the whole file.
    pub offset: u64,
    /// Size of the whole file, where the server says it.
    pub size_bytes: Option<u64>,
    pub validator: Validator,
    url: String,
    read_timeout: Duration,
    body: Box<dyn Read + Send>,
}

enum Answer {
    Body(Box<Download>),
    Elsewhere(String),
}

impl Http {
    pub fn new(config: &FetchConfig) -> Result<Self, FetchError> {
        let roots = read_roots(config)?;
        let settings = |proxy: Option<Proxy>| {
            let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build();
            Agent::config_builder()
                .tls_config(tls)
                .proxy(proxy)
                .http_status_as_error(false)
                // Followed here, as each step may need another proxy.
                .max_redirects(0)
                .user_agent(concat!("rednix/", env!("CARGO_PKG_VERSION")))
                .timeout_resolve(Some(config.connect_timeout))
                .timeout_connect(Some(config.connect_timeout))
                .timeout_recv_response(Some(config.read_timeout))
                .timeout_per_read(Some(config.read_timeout))
                .max_idle_connections_per_host(config.parallel)
                .max_idle_connections(config.parallel * 2)
                .build()
        };
        let wrong = |address: &str| FetchError::BadUrl {
            url: address.to_owned(),
            reason: "it is no proxy's address".to_owned(),
        };
        let given = |address: &Option<String>| address.clone().filter(|address| !address.is_empty());
        let tunnel = |address: String| match Proxy::new(&address) {
            Ok(proxy) => Ok(Agent::new_with_config(settings(Some(proxy)))),
            Err(_) => Err(wrong(&address)),
        };
        let mut authorization = None;
        let forward = |address: String| {
            let whole = if address.contains("://") { address } else { format!("http://{address}") };
            if !whole.starts_with("http://") {
                return tunnel(whole);
            }
            let proxy: Uri = whole.parse().map_err(|_| wrong(&whole))?;
            authorization = forward_proxy::authorization(&proxy);
            Ok(forward_proxy::agent(settings(None), proxy))
        };
        let http_proxy = given(&config.http_proxy).map(forward).transpose()?;
        let no_proxy = config.no_proxy.as_deref().unwrap_or_default().split(',');
        Ok(Http {
            direct: Agent::new_with_config(settings(None)),
            http_proxy,
            authorization,
            https_proxy: given(&config.https_proxy).map(tunnel).transpose()?,
            no_proxy: no_proxy
                .map(|host| host.trim().to_ascii_lowercase())
                .filter(|host| !host.is_empty())
                .collect(),
            headers: config.headers.clone(),
            connect_timeout: config.connect_timeout,
            read_timeout: config.read_timeout,
        })
    }

    fn agent(&self, url: &str) -> &Agent {
        let proxy = if url.starts_with("https:") { &self.https_proxy } else { &self.http_proxy };
        let Some(proxy) = proxy else { return &self.direct };
        let host = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase));
        if is_direct(&self.no_proxy, &host.unwrap_or_default()) { &self.direct } else { proxy }
    }

    /// Asks for a file from `offset` on. A server that cannot resume, or whose file has changed, sends it whole.
    pub fn open(&self, url: &str, offset: u64, validator: &Validator) -> Result<Download, FetchError> {
        let mut at = url.to_owned();
        for _ in 0..=limits::REDIRECTS_MAX {
            match self.open_once(url, &at, offset, validator)? {
                Answer::Body(download) => return Ok(*download),
                Answer::Elsewhere(next) => at = next,
            }
        }
        Err(protocol(url, format!("it redirects more than {} times, maybe in a loop", limits::REDIRECTS_MAX)))
    }

    fn ask(&self, at: &str, offset: u64, validator: &Validator) -> Result<Response<Body>, FetchError> {
        let agent = self.agent(at);
        let mut request = agent.get(at).header("Accept-Encoding", "identity");
        let is_forwarded = self.http_proxy.as_ref().is_some_and(|proxy| std::ptr::eq(proxy, agent));
        if is_forwarded && let Some(value) = &self.authorization {
            request = request.header("Proxy-Authorization", value);
        }
        for (_, name, value) in self.headers.iter().filter(|(origin, ..)| at.starts_with(origin.as_str())) {
            request = request.header(name, value);
        }
        if offset > 0 {
            request = request.header("Range", format!("bytes={offset}-"));
            if let Some(value) = validator.if_range() {
                request = request.header("If-Range", value);
            }
        }
        request.call().map_err(|error| self.describe(at, error))
    }

    fn open_once(
        &self,
        url: &str,
        at: &str,
        offset: u64,
        validator: &Validator,
    ) -> Result<Answer, FetchError> {
        let response = self.ask(at, offset, validator)?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let length = number(header(&headers, "content-length"));
        let (offset, size_bytes) = match status {
            200 => (0, length),
            206 => {
                let (start, size) = content_range(header(&headers, "content-range"))
                    .filter(|(start, _)| *start == offset)
                    .ok_or_else(|| protocol(url, "it sent another range than was asked for"))?;
                (start, size.or(length.map(|length| start + length)))
            }
            301 | 302 | 303 | 307 | 308 => {
                let location = header(&headers, "location").and_then(|location| join(at, &location));
                return location
                    .map(Answer::Elsewhere)
                    .ok_or_else(|| protocol(url, "it redirects to nowhere"));
            }
            // Nothing after `offset`: what is there is whole, or belongs to another state of the file.
            416 if offset > 0 => return self.open_once(url, at, 0, &Validator::default()),
            404 | 410 => return Err(FetchError::NotFound { url: url.to_owned(), status }),
            401 | 402 | 403 | 407 | 451 => return Err(FetchError::Denied { url: url.to_owned(), status }),
            _ => return Err(FetchError::Server { url: url.to_owned(), status }),
        };
        let validator =
            Validator { etag: header(&headers, "etag"), last_modified: header(&headers, "last-modified") };
        let body = Box::new(response.into_body().into_with_config().limit(u64::MAX).reader());
        Ok(Answer::Body(Box::new(Download {
            offset,
            size_bytes,
            validator,
            url: url.to_owned(),
            read_timeout: self.read_timeout,
            body,
        })))
    }

    fn describe(&self, url: &str, error: ureq::Error) -> FetchError {
        describe(url, error, self.connect_timeout, self.read_timeout)
    }
}

impl Download {
    /// Reads on; 0 is the end of the body, which may come too early: compare with `size_bytes`.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FetchError> {
        loop {
            match self.body.read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The connection went away; the caller sees how much is missing.
                Err(error) if is_cut(&error) && self.size_bytes.is_some() => return Ok(0),
                Err(error) => {
                    let error = ureq::Error::from(error);
                    return Err(describe(&self.url, error, self.read_timeout, self.read_timeout));
                }
            }
        }
    }
}

fn is_cut(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// A redirect's target: a whole url, or relative to the url it came from (RFC 3986, section 5.3).
fn join(at: &str, location: &str) -> Option<String> {
    let location = location.split('#').next().unwrap_or_default();
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.to_owned());
    }
    let (scheme, rest) = at.split_once("://")?;
    if let Some(other_host) = location.strip_prefix("//") {
        return Some(format!("{scheme}://{other_host}"));
    }
    let path_start = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(path_start);
    if location.starts_with('/') {
        return Some(format!("{scheme}://{host}{location}"));
    }
    // Any other scheme (file, ftp) is not followed.
    if location.is_empty() || location.split(['/', '?']).next()?.contains(':') {
        return None;
    }
    let path = path.split('?').next().unwrap_or_default();
    let folder = path.rsplit_once('/').map(|(folder, _)| folder).unwrap_or_default();
    Some(format!("{scheme}://{host}{folder}/{location}"))
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn number(text: Option<String>) -> Option<u64> {
    text?.trim().parse().ok()
}

/// Start and whole size of `bytes <start>-<end>/<size or *>` (RFC 9110, section 14.4).
fn content_range(value: Option<String>) -> Option<(u64, Option<u64>)> {
    let value = value?;
    let (range, size) = value.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, size.trim().parse().ok()))
}

fn is_direct(no_proxy: &[String], host: &str) -> bool {
    no_proxy.iter().any(|entry| {
        let domain = entry.trim_start_matches("*.").trim_start_matches('.');
        entry == "*" || host == domain || host.strip_suffix(domain).is_some_and(|front| front.ends_with('.'))
    })
}

fn protocol(url: &str, reason: impl ToString) -> FetchError {
    FetchError::Protocol { url: url.to_owned(), reason: reason.to_string() }
}

fn describe(url: &str, error: ureq::Error, connect: Duration, read: Duration) -> FetchError {
    let no_route = |reason: String| FetchError::NoRoute { url: url.to_owned(), reason };
    let tls = |reason: String| FetchError::Tls { url: url.to_owned(), reason };
    let timed_out = |phase, limit: Duration| FetchError::TimedOut {
        url: url.to_owned(),
        phase,
        limit_s: limit.as_secs().max(1),
    };
    match error {
        ureq::Error::Timeout(Timeout::Resolve) => timed_out("finding the host", connect),
        ureq::Error::Timeout(Timeout::Connect) => timed_out("connecting", connect),
        ureq::Error::Timeout(_) => timed_out("waiting for data", read),
        ureq::Error::HostNotFound => no_route("the host's name is unknown".to_owned()),
        ureq::Error::ConnectionFailed => no_route("the connection failed".to_owned()),
        ureq::Error::Rustls(error) => tls(error.to_string()),
        ureq::Error::Tls(reason) => tls(reason.to_owned()),
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::NetworkDown => no_route(error.to_string()),
            // The resolver has no kind of its own.
            _ if error.to_string().contains("lookup address") => no_route(error.to_string()),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => timed_out("waiting for data", read),
            // rustls reports a refused certificate through an io::Error.
            io::ErrorKind::InvalidData if error.to_string().contains("certificate") => tls(error.to_string()),
            _ => protocol(url, error),
        },
        other => protocol(url, other),
    }
}

/// The system's certificate authorities. None at all is no error here: plain http and files need none.
fn read_roots(config: &FetchConfig) -> Result<Vec<Certificate<'static>>, FetchError> {
    let Some(path) = config.ca_bundle_path() else { return Ok(Vec::new()) };
    let pem = fs::read(&path).map_err(|error| FetchError::io("read the certificate bundle", &path, error))?;
    let items = ureq::tls::parse_pem(&pem).filter_map(Result::ok);
    Ok(items
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let cases = [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes */10", None),
            ("lines 1-2/3", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(content_range(Some(text.to_owned())), expected, "{text}");
        }
    }

    #[test]
    fn redirects() {
        let cases = [
            ("http://a/b/c?x=1/2", "d", Some("http://a/b/d")),
            ("http://a/b/c", "/d?e", Some("http://a/d?e")),
            ("https://a/b", "//c/d", Some("https://c/d")),
            ("https://a/b", "http://c/d#e", Some("http://c/d")),
            ("http://a", "b", Some("http://a/b")),
            ("http://a/b", "file:///etc/passwd", None),
            ("http://a/b", "", None),
        ];
        for (at, location, expected) in cases {
            assert_eq!(join(at, location).as_deref(), expected, "{at} {location}");
        }
    }

    #[test]
    fn hosts_reached_directly() {
        let list: Vec<String> =
            ["localhost", ".in.test", "*.ex.test", "10.0.0.1"].map(str::to_owned).to_vec();
        let cases = [
            ("localhost", true),
            ("a.in.test", true),
            ("in.test", true),
            ("xin.test", false),
            ("b.ex.test", true),
            ("10.0.0.1", true),
            ("other", false),
        ];
        for (host, expected) in cases {
            assert_eq!(is_direct(&list, host), expected, "{host}");
        }
        assert!(is_direct(&["*".to_owned()], "anything"));
    }
}
