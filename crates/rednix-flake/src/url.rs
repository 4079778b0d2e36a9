//! Addresses in the form flakes use them: parsed leniently, printed in one way.
//!
//! Resolves nothing against anything, and knows no scheme's meaning but that `file` has no host.

use std::collections::BTreeMap;
use std::fmt;

use crate::{FlakeError, Result};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url {
    pub scheme: String,
    pub authority: Option<Authority>,
    /// Decoded; an absolute path begins with an empty piece.
    pub path: Vec<String>,
    pub query: BTreeMap<String, String>,
    pub fragment: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    user: Option<String>,
    password: Option<String>,
    /// Decoded, but for what stands in brackets.
    pub host: String,
    port: Option<u16>,
}

fn bad(text: &str, reason: &str) -> FlakeError {
    FlakeError::BadUrl(format!("'{text}' is not a valid URL: {reason}"))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@%/".contains(&byte)
}

/// Everything but unreserved bytes and `keep` as `%XX`.
pub fn percent_encode(text: &str, keep: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_unreserved(byte) || keep.contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

pub fn percent_decode(text: &str) -> Result<String> {
    let wrong = |reason: &str| FlakeError::BadUrl(format!("invalid URI parameter '{text}': {reason}"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|byte| (*byte as char).to_digit(16));
        match (digit(0), digit(1)) {
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => return Err(wrong("`%` is not followed by two digits")),
        }
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))
}

/// `a=b&c=d`; the first of two with one name counts, one without `=` does not.
pub fn parse_query(text: &str) -> Result<BTreeMap<String, String>> {
    let mut query = BTreeMap::new();
    for pair in text.split('&') {
        if let Some((name, value)) = pair.split_once('=') {
            query.entry(percent_decode(name)?).or_insert(percent_decode(value)?);
        }
    }
    Ok(query)
}

impl Authority {
    fn parse(text: &str) -> Result<Authority> {
        let wrong = |reason: &str| FlakeError::BadUrl(format!("invalid URL authority: '{text}': {reason}"));
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (host, port) = match rest.strip_prefix('[') {
            Some(inside) => {
                let (host, after) = inside.split_once(']').ok_or_else(|| wrong("a bracket is open"))?;
                (format!("[{host}]"), after.strip_prefix(':').unwrap_or(after))
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (percent_decode(host)?, port),
                None => (percent_decode(rest)?, ""),
            },
        };
        let port = match port {
            "" => None,
            digits => Some(digits.parse().map_err(|_| wrong("its port is no number"))?),
        };
        let (user, password) =
            match user.map(|user| user.split_once(':').map_or((user, None), |(u, p)| (u, Some(p)))) {
                None => (None, None),
                Some((user, password)) => (
                    Some(percent_decode(user)?),
                    match password {
                        Some(password) => Some(percent_decode(password)?),
                        None => None,
                    },
                ),
            };
        Ok(Authority { user, password, host, port })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            f.write_str(&percent_encode(user, b""))?;
            if let Some(password) = &self.password {
                write!(f, ":{}", percent_encode(password, b""))?;
            }
            f.write_str("@")?;
        }
        if self.host.starts_with('[') {
            f.write_str(&self.host)?;
        } else {
            f.write_str(&percent_encode(&self.host, b""))?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Url {
    /// Blanks and quotes may stand in a query as they are, and `^` too in a fragment.
    pub fn parse(text: &str) -> Result<Url> {
        if text.len() > crate::limits::REFERENCE_BYTES_MAX {
            return Err(bad("…", "it is too long"));
        }
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (scheme, rest) = rest
            .split_once(':')
            .ok_or_else(|| FlakeError::BadUrl(format!("'{text}' doesn't have a scheme")))?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
            // `git+https` becomes `https` on the way.
            && transport(scheme).starts_with(|c: char| c.is_ascii_alphabetic());
        if !is_scheme {
            return Err(bad(text, "its scheme is none"));
        }
        let (authority, path) = match rest.strip_prefix("//") {
            None => (None, rest),
            Some(rest) => {
                let end = rest.find('/').unwrap_or(rest.len());
                (Some(Authority::parse(&rest[..end])?), &rest[end..])
            }
        };
        if !path.bytes().all(is_path_byte) {
            return Err(bad(text, "its path holds a character that must be escaped"));
        }
        if !query.bytes().all(|b| is_path_byte(b) || b"? \"".contains(&b))
            || !fragment.bytes().all(|b| is_path_byte(b) || b"? \"^".contains(&b))
        {
            return Err(bad(text, "its query or fragment holds a character that must be escaped"));
        }
        let is_file = transport(scheme) == "file";
        if let (true, Some(authority)) = (is_file, &authority)
            && !authority.host.is_empty()
        {
            return Err(FlakeError::BadUrl(format!(
                "file:// URL '{text}' has unexpected authority '{authority}'"
            )));
        }
        let path = if is_file && path.is_empty() { "/" } else { path };
        Ok(Url {
            scheme: scheme.to_owned(),
            authority,
            path: path.split('/').map(percent_decode).collect::<Result<_>>()?,
            query: parse_query(query)?,
            fragment: percent_decode(fragment)?,
        })
    }

    /// An address of a path, which may be relative.
    pub fn of_path(scheme: &str, path: &str, with_authority: bool) -> Url {
        Url {
            scheme: scheme.to_owned(),
            authority: with_authority.then(Authority::default),
            path: path.split('/').map(str::to_owned).collect(),
            ..Url::default()
        }
    }

    /// The path as a file's name.
    pub fn file_path(&self) -> Result<String> {
        for piece in &self.path {
            if piece.contains('/') {
                return Err(FlakeError::BadUrl(format!(
                    "URL path component '{piece}' contains '/', which is not allowed in file names"
                )));
            }
            if piece.contains('\0') {
                return Err(FlakeError::BadUrl(format!(
                    "URL path component '{}' contains NUL byte which is not allowed",
                    piece.replace('\0', "␀")
                )));
            }
        }
        let absolute = self.path.first().is_some_and(String::is_empty);
        let mut pieces: Vec<&str> = self.path.iter().map(String::as_str).collect();
        if absolute {
            pieces.remove(0);
        }
        // Empty pieces vanish, a last one stays as a slash.
        let last = pieces.last().is_some_and(|piece| piece.is_empty()) && pieces.len() > 1;
        let mut joined: String =
            pieces.into_iter().filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join("/");
        if last && !joined.is_empty() {
            joined.push('/');
        }
        Ok(if absolute { format!("/{joined}") } else { joined })
    }

    /// Pieces of the path that are not empty.
    pub fn pieces(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).filter(|piece| !piece.is_empty()).collect()
    }
}

/// `git+https` → `git`, if there is such a part.
pub fn application(scheme: &str) -> Option<&str> {
    scheme.split_once('+').map(|(application, _)| application)
}

/// `git+https` → `https`.
pub fn transport(scheme: &str) -> &str {
    scheme.split_once('+').map_or(scheme, |(_, transport)| transport)
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if let Some(authority) = &self.authority {
            write!(f, "//{authority}")?;
        }
        let path: Vec<String> = self.path.iter().map(|piece| percent_encode(piece, b":@")).collect();
        f.write_str(&path.join("/"))?;
        for (number, (name, value)) in self.query.iter().enumerate() {
            let mark = if number == 0 { '?' } else { '&' };
            write!(f, "{mark}{}={}", percent_encode(name, b":@/?"), percent_encode(value, b":@/?"))?;
        }
        match self.fragment.as_str() {
            "" => Ok(()),
            fragment => write!(f, "#{}", percent_encode(fragment, b"")),
        }
    }
}
