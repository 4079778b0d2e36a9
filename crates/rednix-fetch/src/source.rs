//! Canonical urls, and the places where their bytes may be.
//!
//! Pure: turns names into places by the configuration, touches neither disk nor network.

use std::path::PathBuf;

use crate::apt;
use crate::config::FetchConfig;
use crate::debian::index::is_plain_path;
use crate::error::FetchError;
use crate::overrides::Replacement;

/// A source as derivations name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `debian:<suite>/<path below a mirror's base>`
    Debian { suite: String, path: String },
    /// `crate:<name>/<version>`
    Crate { name: String, version: String },
    /// `http://…` or `https://…`
    Web(String),
    /// `file:///…`
    File(PathBuf),
}

/// Somewhere to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Web(String),
    File(PathBuf),
    /// Through cargo, with the user's own configuration.
    Cargo {
        name: String,
        version: String,
    },
}

impl Place {
    pub fn is_local(&self) -> bool {
        matches!(self, Place::File(_))
    }
}

fn bad(url: &str, reason: &str) -> FetchError {
    FetchError::BadUrl { url: url.to_owned(), reason: reason.to_owned() }
}

impl Source {
    pub fn parse(url: &str) -> Result<Source, FetchError> {
        if url.contains(|c: char| c.is_control() || c == ' ') {
            return Err(bad(url, "it holds blanks or control characters"));
        }
        if let Some(rest) = url.strip_prefix("debian:") {
            let (suite, path) = rest.split_once('/').ok_or_else(|| bad(url, "it names no path"))?;
            if !is_plain_path(path) || suite.is_empty() || suite.starts_with('.') {
                return Err(bad(url, "its suite or path is not a plain one"));
            }
            return Ok(Source::Debian { suite: suite.to_owned(), path: path.to_owned() });
        }
        if let Some(rest) = url.strip_prefix("crate:") {
            let (name, version) = rest.split_once('/').ok_or_else(|| bad(url, "it names no version"))?;
            if !is_crate_name(name) || !is_crate_version(version) {
                return Err(bad(url, "its name or version is not one a crate can have"));
            }
            return Ok(Source::Crate { name: name.to_owned(), version: version.to_owned() });
        }
        if let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            return if host.is_empty() {
                Err(bad(url, "it names no host"))
            } else {
                Ok(Source::Web(url.to_owned()))
            };
        }
        match url.strip_prefix("file://") {
            Some(path) if path.starts_with('/') => Ok(Source::File(PathBuf::from(percent_decode(path)))),
            Some(_) => Err(bad(url, "a file's path must be absolute")),
            None => Err(bad(url, "its scheme is unknown")),
        }
    }
}

pub(crate) fn is_crate_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

pub(crate) fn is_crate_version(version: &str) -> bool {
    version.starts_with(|c: char| c.is_ascii_digit())
        && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte))
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |position: usize| after.get(position).and_then(|byte| (*byte as char).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    // A path that is not UTF-8 keeps its escapes: it names nothing then, which the error will say.
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Rewrites `url` by one mirror entry. The prefix must end at a boundary, so that `…/foo` is not taken for `…/foobar`.
pub fn rewrite(url: &str, prefix: &str, replacement: &str) -> Option<String> {
    let rest = url.strip_prefix(prefix)?;
    let at_boundary =
        prefix.ends_with(['/', ':']) || rest.is_empty() || rest.starts_with('/') || rest.starts_with(".git");
    if prefix.is_empty() || !at_boundary {
        return None;
    }
    let needs_slash = !rest.is_empty() && prefix.ends_with(['/', ':']) && !replacement.ends_with(['/', ':']);
    Some(format!("{replacement}{}{rest}", if needs_slash { "/" } else { "" }))
}

/// A mirror's replacement as a place: an url or an absolute path.
fn place_of(address: &str) -> Result<Place, FetchError> {
    if address.starts_with('/') {
        return Ok(Place::File(PathBuf::from(address)));
    }
    match Source::parse(address)? {
        Source::Web(url) => Ok(Place::Web(url)),
        Source::File(path) => Ok(Place::File(path)),
        _ => Err(bad(address, "a mirror must be an http(s) or file address or a folder")),
    }
}

/// The bases of a suite in the order to try them.
pub fn debian_bases(config: &FetchConfig, suite: &str) -> Vec<String> {
    let configured = config.debian_mirrors.iter().filter(|(pattern, _)| pattern == "*" || pattern == suite);
    let mut bases: Vec<String> = configured.map(|(_, base)| base.trim_end_matches('/').to_owned()).collect();
    for base in apt::bases(&config.apt_sources, suite) {
        if !bases.contains(&base) {
            bases.push(base);
        }
    }
    bases
}

/// Where a crate is at a mirror for `crate:`: a template with `{name}` and `{version}`, or a place that holds
/// `<name>-<version>.crate`.
fn crate_at(mirror: &str, name: &str, version: &str) -> String {
    if mirror.contains("{name}") {
        return mirror.replace("{name}", name).replace("{version}", version);
    }
    format!("{}/{name}-{version}.crate", mirror.trim_end_matches('/'))
}

/// Everywhere the bytes of `url` may be, mirrors first. Offline, only local places.
pub fn places(config: &FetchConfig, url: &str) -> Result<Vec<Place>, FetchError> {
    if let Some(recipe) = url.strip_prefix("recipe:") {
        return match config.overrides.of_recipe(recipe) {
            Some(Replacement::Path(file)) => Ok(vec![Place::File(file.clone())]),
            _ => Err(FetchError::NoOverride { url: url.to_owned() }),
        };
    }
    let source = Source::parse(url)?;
    let mut places = Vec::new();
    if let Some(Replacement::Path(file)) = config.overrides.of_url(url) {
        // Nothing else may answer: the lock has the hash of this one.
        return Ok(vec![Place::File(file.clone())]);
    }
    for (prefix, replacement) in &config.mirrors {
        let address = match &source {
            Source::Crate { name, version } if prefix == "crate:" => {
                Some(crate_at(replacement, name, version))
            }
            _ => rewrite(url, prefix, replacement),
        };
        if let Some(address) = address {
            places.push(place_of(&address)?);
        }
    }
    match source {
        Source::Debian { suite, path } => {
            let bases = debian_bases(config, &suite);
            if bases.is_empty() && places.is_empty() {
                return Err(FetchError::NoDebianMirror { suite });
            }
            for base in bases {
                // Prefix mirrors hold for a mirror's own address too.
                let address = format!("{base}/{path}");
                let rewritten = config.mirrors.iter().filter_map(|(from, to)| rewrite(&address, from, to));
                for address in rewritten.chain([address.clone()]) {
                    places.push(place_of(&address)?);
                }
            }
        }
        Source::Crate { name, version } => places.push(Place::Cargo { name, version }),
        Source::Web(url) => places.push(Place::Web(url)),
        Source::File(path) => places.push(Place::File(path)),
    }
    if config.offline {
        places.retain(|place| !matches!(place, Place::Web(_)));
        if places.is_empty() {
            return Err(FetchError::Offline { url: url.to_owned() });
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config() -> FetchConfig {
        let mut config = FetchConfig::new("/cache");
        config.mirrors = vec![
            ("https://site.test/a".into(), "/srv/a".into()),
            ("https://site.test/".into(), "http://mirror.test/site".into()),
            ("debian:trixie/".into(), "file:///srv/debian/".into()),
            ("crate:".into(), "https://crates.test/{name}/{version}/get".into()),
            ("crate:".into(), "/srv/crates".into()),
        ];
        config.debian_mirrors = vec![("*".into(), "http://deb.test/debian/".into())];
        config
    }

    #[test]
    fn places_in_order() {
        let cargo = || Place::Cargo { name: "serde".into(), version: "1.0.0".into() };
        let web = |url: &str| Place::Web(url.into());
        let file = |path: &str| Place::File(path.into());
        let cases = [
            (
                "https://site.test/a/x",
                vec![file("/srv/a/x"), web("http://mirror.test/site/a/x"), web("https://site.test/a/x")],
            ),
            ("https://site.test/ab", vec![web("http://mirror.test/site/ab"), web("https://site.test/ab")]),
            (
                "debian:trixie/pool/x.deb",
                vec![file("/srv/debian/pool/x.deb"), web("http://deb.test/debian/pool/x.deb")],
            ),
            (
                "crate:serde/1.0.0",
                vec![
                    web("https://crates.test/serde/1.0.0/get"),
                    file("/srv/crates/serde-1.0.0.crate"),
                    cargo(),
                ],
            ),
            ("file:///x%20y/%zz", vec![file("/x y/%zz")]),
        ];
        for (url, expected) in cases {
            assert_eq!(places(&config(), url).unwrap(), expected, "{url}");
        }
        let offline = FetchConfig { offline: true, ..config() };
        assert_eq!(
            places(&offline, "crate:serde/1.0.0").unwrap(),
            [file("/srv/crates/serde-1.0.0.crate"), cargo()]
        );
        assert!(matches!(places(&offline, "http://x.test/y"), Err(FetchError::Offline { .. })));
        let bare = FetchConfig::new("/cache");
        assert!(matches!(places(&bare, "debian:trixie/pool/x"), Err(FetchError::NoDebianMirror { .. })));
    }

    #[test]
    fn wrong_urls() {
        let wrong = [
            "",
            "x",
            "ftp://x/y",
            "file://x",
            "http://",
            "https:///x",
            "debian:trixie",
            "debian:trixie/../x",
            "debian:trixie//x",
            "crate:a",
            "crate:a/b",
            "crate:../1.0",
            "http://a b",
        ];
        for url in wrong {
            assert!(matches!(Source::parse(url), Err(FetchError::BadUrl { .. })), "{url}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed(url in "(debian:|crate:|https?://|file:///)?[ -~]{0,30}") {
            if let Ok(Source::Debian { path, .. }) = Source::parse(&url) {
                prop_assert!(!path.split('/').any(|part| part == ".."));
            }
        }
    }
}
