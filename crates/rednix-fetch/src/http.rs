//! HTTP and HTTPS: one file from one address, resumable.
//!
//! Knows no mirrors, no retries and no wanted hashes; see [`crate::fetcher`].

use std::fs;
use std::io::{self, Read};
use std::time::Duration;

use ureq::http::{HeaderMap, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Proxy, Timeout};

use crate::config::FetchConfig;
use crate::error::FetchError;
use crate::limits;

/// Connections to all servers, with the system's roots and the user's proxies.
#[derive(Debug)]
pub struct Http {
    direct: Agent,
    http_proxy: Option<Agent>,
    https_proxy: Option<Agent>,
    no_proxy: Vec<String>,
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

impl Http {
    pub fn new(config: &FetchConfig) -> Result<Self, FetchError> {
        let roots = read_roots(config)?;
        let agent = |proxy: Option<Proxy>| {
            let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build();
            Agent::new_with_config(
                Agent::config_builder()
                    .tls_config(tls)
                    .proxy(proxy)
                    .http_status_as_error(false)
                    .max_redirects(limits::REDIRECTS_MAX)
                    .user_agent(concat!("rednix/", env!("CARGO_PKG_VERSION")))
                    .timeout_resolve(Some(config.connect_timeout))
                    .timeout_connect(Some(config.connect_timeout))
                    .timeout_recv_response(Some(config.read_timeout))
                    .timeout_per_read(Some(config.read_timeout))
                    .max_idle_connections_per_host(config.parallel)
                    .max_idle_connections(config.parallel * 2)
                    .build(),
            )
        };
        let proxied =
            |address: &Option<String>| match address.as_deref().filter(|address| !address.is_empty()) {
                None => Ok(None),
                Some(address) => match Proxy::new(address) {
                    Ok(proxy) => Ok(Some(agent(Some(proxy)))),
                    Err(_) => Err(FetchError::BadUrl {
                        url: address.to_owned(),
                        reason: "it is no proxy's address".to_owned(),
                    }),
                },
            };
        let no_proxy = config.no_proxy.as_deref().unwrap_or_default().split(',');
        Ok(Http {
            direct: agent(None),
            http_proxy: proxied(&config.http_proxy)?,
            https_proxy: proxied(&config.https_proxy)?,
            no_proxy: no_proxy
                .map(|host| host.trim().to_ascii_lowercase())
                .filter(|host| !host.is_empty())
                .collect(),
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
        let mut request = self.agent(url).get(url).header("Accept-Encoding", "identity");
        if offset > 0 {
            request = request.header("Range", format!("bytes={offset}-"));
            if let Some(value) = validator.if_range() {
                request = request.header("If-Range", value);
            }
        }
        let response = request.call().map_err(|error| self.describe(url, error))?;
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
            // Nothing after `offset`: what is there is whole, or belongs to another state of the file.
            416 if offset > 0 => return self.open(url, 0, &Validator::default()),
            404 | 410 => return Err(FetchError::NotFound { url: url.to_owned(), status }),
            401 | 402 | 403 | 407 | 451 => return Err(FetchError::Denied { url: url.to_owned(), status }),
            _ => return Err(FetchError::Server { url: url.to_owned(), status }),
        };
        let validator =
            Validator { etag: header(&headers, "etag"), last_modified: header(&headers, "last-modified") };
        let body = Box::new(response.into_body().into_with_config().limit(u64::MAX).reader());
        Ok(Download {
            offset,
            size_bytes,
            validator,
            url: url.to_owned(),
            read_timeout: self.read_timeout,
            body,
        })
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
