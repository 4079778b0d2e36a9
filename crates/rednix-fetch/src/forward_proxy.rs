//! Plain http through a forward proxy: the proxy is sent whole urls (RFC 9112, section 3.2.2).
//!
//! The http client itself only tunnels with CONNECT, which many proxies allow for https alone; Debian mirrors
//! speak plain http. Encrypted targets do not come here.

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport,
};
use ureq::{Agent, Error};

/// An agent whose every connection goes to the proxy.
pub fn agent(config: Config, proxy: Uri) -> Agent {
    Agent::with_parts(
        config,
        TcpConnector::default().chain(AbsoluteForm),
        ToProxy { proxy, inner: DefaultResolver::default() },
    )
}

/// The value of `Proxy-Authorization` for a proxy's url with user and password.
pub fn authorization(proxy: &Uri) -> Option<String> {
    let (user, _) = proxy.authority()?.as_str().rsplit_once('@')?;
    Some(format!("Basic {}", base64(user.as_bytes())))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            (0..3).fold(0u32, |group, place| group << 8 | u32::from(chunk.get(place).copied().unwrap_or(0)));
        for place in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { letter as char } else { '=' });
        }
    }
    text
}

/// Finds the proxy whatever host is asked for.
#[derive(Debug)]
struct ToProxy {
    proxy: Uri,
    inner: DefaultResolver,
}

impl Resolver for ToProxy {
    fn resolve(&self, _: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.inner.resolve(&self.proxy, config, timeout)
    }
}

#[derive(Debug)]
struct AbsoluteForm;

impl<In: Transport> Connector<In> for AbsoluteForm {
    type Out = AbsoluteTransport<In>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let origin =
            format!("http://{}", details.uri.authority().map(|name| name.as_str()).unwrap_or_default());
        Ok(chained.map(|inner| AbsoluteTransport { origin: origin.into_bytes(), inner }))
    }
}

/// Puts the origin in front of the path of each request line.
#[derive(Debug)]
struct AbsoluteTransport<In> {
    origin: Vec<u8>,
    inner: In,
}

const METHOD: &[u8] = b"GET ";

impl<In: Transport> Transport for AbsoluteTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, mut amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = self.inner.buffers().output();
        let starts_request = output[..amount].strip_prefix(METHOD).is_some_and(|rest| rest.starts_with(b"/"));
        if starts_request {
            let longer = amount + self.origin.len();
            if longer > output.len() {
                return Err(Error::LargeResponseHeader(longer, output.len()));
            }
            output.copy_within(METHOD.len()..amount, METHOD.len() + self.origin.len());
            output[METHOD.len()..METHOD.len() + self.origin.len()].copy_from_slice(&self.origin);
            amount = longer;
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials() {
        let cases = [
            ("http://a:b@proxy.test:3128", Some("Basic YTpi")),
            ("http://user:pass@proxy.test", Some("Basic dXNlcjpwYXNz")),
            ("http://u@proxy.test", Some("Basic dQ==")),
            ("http://proxy.test:3128", None),
        ];
        for (proxy, expected) in cases {
            assert_eq!(authorization(&proxy.parse().unwrap()).as_deref(), expected, "{proxy}");
        }
    }
}
