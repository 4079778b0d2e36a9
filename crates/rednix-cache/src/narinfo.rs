//! narinfo: what a binary cache says about one path. Reads and writes text; trusts nothing and fetches nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use rednix_store::PathInfo;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::path::{ContentMethod, StorePath, fixed_output_path, parse_content_address};

use crate::compression::Compression;
use crate::error::{Error, Result, quoted};
use crate::limits::{NAR_BYTES_MAX, REFERENCES_MAX, SIGNATURES_MAX, SMALL_FILE_BYTES_MAX, URL_BYTES_MAX};
use crate::proof::Proof;

/// One entry of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarInfo {
    pub path: StorePath,
    /// Where the archive is, relative to the cache.
    pub url: String,
    pub compression: Compression,
    /// Of the file as it lies at the cache.
    pub file_hash: Option<Hash>,
    pub file_size: Option<u64>,
    pub nar_hash: Hash,
    pub nar_size: u64,
    pub references: BTreeSet<StorePath>,
    pub deriver: Option<StorePath>,
    pub signatures: Vec<String>,
    pub content_address: Option<String>,
}

impl NarInfo {
    /// The entry for a path of a store, with no signatures but its own.
    pub fn of(info: &PathInfo, url: String, compression: Compression) -> NarInfo {
        NarInfo {
            path: info.path.clone(),
            url,
            compression,
            file_hash: None,
            file_size: None,
            nar_hash: info.nar_hash,
            nar_size: info.nar_size,
            references: info.references.clone(),
            deriver: info.deriver.clone(),
            signatures: info.signatures.clone(),
            content_address: info.content_address.clone(),
        }
    }

    /// As a store registers it: not built here.
    pub fn to_path_info(&self) -> PathInfo {
        let mut info = PathInfo::new(self.path.clone(), self.nar_hash, self.nar_size);
        info.references.clone_from(&self.references);
        info.deriver.clone_from(&self.deriver);
        info.signatures.clone_from(&self.signatures);
        info.content_address.clone_from(&self.content_address);
        info
    }

    /// What is signed.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.to_path_info())
    }

    /// Reads an entry; `what` names it in errors.
    pub fn parse(what: &str, text: &[u8]) -> Result<NarInfo> {
        Parser { what }.parse(text)
    }

    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            writeln!(text, "{key}: {value}").expect("a string takes everything");
        };
        line("StorePath", &self.path);
        line("URL", &self.url);
        line("Compression", &self.compression);
        if let Some(hash) = &self.file_hash {
            line("FileHash", &prefixed(hash));
        }
        if let Some(size) = self.file_size {
            line("FileSize", &size);
        }
        line("NarHash", &prefixed(&self.nar_hash));
        line("NarSize", &self.nar_size);
        let references: Vec<&str> = self.references.iter().map(StorePath::basename).collect();
        line("References", &references.join(" "));
        if let Some(deriver) = &self.deriver {
            line("Deriver", &deriver.basename());
        }
        for signature in &self.signatures {
            line("Sig", signature);
        }
        if let Some(address) = &self.content_address {
            line("CA", address);
        }
        text
    }

    /// What the contents have to be by the content address, which no signature covers. `None` where there is none, or
    /// one that cannot be checked here (`git:`).
    pub fn content_proof(&self) -> Result<Option<Proof>> {
        content_proof(&self.to_path_info())
    }
}

/// What the contents of a path have to be by its content address; one that belongs to another path is an error.
pub fn content_proof(info: &PathInfo) -> Result<Option<Proof>> {
    let Some(address) = &info.content_address else { return Ok(None) };
    let bad = |reason: String| Error::malformed(info.path.to_string(), &reason);
    let (method, hash) = parse_content_address(address).map_err(|error| bad(error.to_string()))?;
    let mut references = info.references.clone();
    let is_own = references.remove(&info.path);
    if method == ContentMethod::Git {
        return Ok(None);
    }
    let path = fixed_output_path(method, &hash, info.path.name(), &references, is_own);
    if path.map_err(|error| bad(error.to_string()))? != info.path {
        return Err(bad(format!("its content address `{address}` belongs to another path")));
    }
    Ok(Some(Proof { method, hash, own: is_own.then(|| info.path.clone()) }))
}

/// Whether a text can be the part of a store path that names its entry.
pub fn is_hash_part(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What a signature of a path is over.
pub fn fingerprint(info: &PathInfo) -> String {
    let references: Vec<String> = info.references.iter().map(StorePath::to_string).collect();
    format!("1;{};{};{};{}", info.path, prefixed(&info.nar_hash), info.nar_size, references.join(","))
}

fn prefixed(hash: &Hash) -> String {
    format!("{}:{}", hash.algorithm(), hash.to_nix32())
}

struct Parser<'a> {
    what: &'a str,
}

impl Parser<'_> {
    fn bad(&self, reason: impl Into<String>) -> Error {
        Error::malformed(self.what, &reason.into())
    }

    fn parse(&self, text: &[u8]) -> Result<NarInfo> {
        if text.len() as u64 > SMALL_FILE_BYTES_MAX {
            return Err(Error::TooLarge { what: self.what.to_owned(), limit: SMALL_FILE_BYTES_MAX });
        }
        let text = std::str::from_utf8(text).map_err(|_| self.bad("it is not text"))?;
        let mut fields = Fields::default();
        for line in text.lines() {
            // C++ Nix needs the blank; an empty value may come without.
            let Some((key, value)) = line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, "")))
            else {
                return Err(self.bad(format!("a line without `: `: `{}`", quoted(line))));
            };
            self.field(&mut fields, key, value.trim_end())?;
        }
        let need = |name: &str| self.bad(format!("it has no {name}"));
        Ok(NarInfo {
            path: fields.path.ok_or_else(|| need("StorePath"))?,
            url: fields.url.ok_or_else(|| need("URL"))?,
            // What the format's first version meant by silence.
            compression: fields.compression.unwrap_or(Compression::Bzip2),
            file_hash: fields.file_hash,
            file_size: fields.file_size,
            nar_hash: fields.nar_hash.ok_or_else(|| need("NarHash"))?,
            nar_size: fields.nar_size.filter(|&size| size > 0).ok_or_else(|| need("NarSize"))?,
            references: fields.references.unwrap_or_default(),
            deriver: fields.deriver,
            signatures: fields.signatures,
            content_address: fields.content_address,
        })
    }

    fn field(&self, fields: &mut Fields, key: &str, value: &str) -> Result<()> {
        match key {
            "StorePath" => self.once(key, &mut fields.path, self.path(StorePath::parse(value))?),
            "URL" => self.once(key, &mut fields.url, self.url(value)?),
            "Compression" => {
                let known = Compression::parse(value)
                    .ok_or_else(|| self.bad(format!("the compression `{}` is unknown", quoted(value))))?;
                self.once(key, &mut fields.compression, known)
            }
            "FileHash" => self.once(key, &mut fields.file_hash, self.hash(value)?),
            "NarHash" => {
                let hash = self.hash(value)?;
                if hash.algorithm() != HashAlgorithm::Sha256 {
                    return Err(self.bad("its NarHash is not SHA-256"));
                }
                self.once(key, &mut fields.nar_hash, hash)
            }
            "FileSize" => self.once(key, &mut fields.file_size, self.size(value)?),
            "NarSize" => self.once(key, &mut fields.nar_size, self.size(value)?),
            "References" => {
                let names: Vec<&str> = value.split(' ').filter(|word| !word.is_empty()).collect();
                if names.len() > REFERENCES_MAX {
                    return Err(self.bad(format!("it has more than {REFERENCES_MAX} references")));
                }
                let paths = names.into_iter().map(|name| self.path(StorePath::from_basename(name)));
                self.once(key, &mut fields.references, paths.collect::<Result<_>>()?)
            }
            "Deriver" if value == "unknown-deriver" || value.is_empty() => Ok(()),
            "Deriver" => self.once(key, &mut fields.deriver, self.path(StorePath::from_basename(value))?),
            "Sig" if fields.signatures.len() >= SIGNATURES_MAX => {
                Err(self.bad(format!("it has more than {SIGNATURES_MAX} signatures")))
            }
            "Sig" => {
                if value.contains(|c: char| c.is_whitespace() || c.is_control()) || !value.contains(':') {
                    return Err(self.bad("a signature is not NAME:BASE64"));
                }
                fields.signatures.push(value.to_owned());
                Ok(())
            }
            "CA" if value.is_empty() => Ok(()),
            "CA" => {
                parse_content_address(value).map_err(|error| self.bad(error.to_string()))?;
                self.once(key, &mut fields.content_address, value.to_owned())
            }
            // Later versions may say more.
            _ => Ok(()),
        }
    }

    /// A field said twice could mean one thing here and another elsewhere.
    fn once<T>(&self, key: &str, place: &mut Option<T>, value: T) -> Result<()> {
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(self.bad(format!("it has {key} twice"))),
        }
    }

    fn path(&self, parsed: rednix_store::Result<StorePath>) -> Result<StorePath> {
        parsed.map_err(|error| self.bad(error.to_string()))
    }

    fn hash(&self, value: &str) -> Result<Hash> {
        if !value.contains([':', '-']) {
            return Err(self.bad(format!("the hash `{}` does not name its algorithm", quoted(value))));
        }
        Hash::parse_any(value, None).map_err(|error| self.bad(error.to_string()))
    }

    fn size(&self, value: &str) -> Result<u64> {
        let is_plain = value.bytes().all(|byte| byte.is_ascii_digit());
        let size = value.parse().ok().filter(|&size: &u64| is_plain && size <= NAR_BYTES_MAX);
        size.ok_or_else(|| self.bad(format!("`{}` is no size", quoted(value))))
    }

    /// Only a place below the cache: an entry must not send anyone elsewhere.
    fn url(&self, value: &str) -> Result<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=%~?&@!,".contains(c);
        let inside = !value.starts_with('/')
            && value.split(['/', '?']).all(|part| !matches!(part, "" | "." | ".."))
            && !value.to_ascii_lowercase().contains("%2e");
        if value.len() > URL_BYTES_MAX || !value.chars().all(plain) || !inside {
            return Err(self.bad(format!("its URL `{}` is not a place below the cache", quoted(value))));
        }
        Ok(value.to_owned())
    }
}

#[derive(Default)]
struct Fields {
    path: Option<StorePath>,
    url: Option<String>,
    compression: Option<Compression>,
    file_hash: Option<Hash>,
    file_size: Option<u64>,
    nar_hash: Option<Hash>,
    nar_size: Option<u64>,
    references: Option<BTreeSet<StorePath>>,
    deriver: Option<StorePath>,
    signatures: Vec<String>,
    content_address: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "StorePath: /nix/store/x6asrkpc4v9lsljx3dky3fa5mi34jrn1-top\nURL: nar/a.nar.xz\nCompression: xz\n\
        FileHash: sha256:1i7zzjgsmp7xmyfzqzhcb1ah9bcv3hqnbg1q3yw8arlcmmmfwsgn\nFileSize: 10\n\
        NarHash: sha256:1i7zzjgsmp7xmyfzqzhcb1ah9bcv3hqnbg1q3yw8arlcmmmfwsgn\nNarSize: 96\n\
        References: x6asrkpc4v9lsljx3dky3fa5mi34jrn1-top\nDeriver: x6asrkpc4v9lsljx3dky3fa5mi34jrn1-top.drv\nSig: a:AAAA\n";

    #[test]
    fn an_entry_reads_back() {
        let entry = NarInfo::parse("x", TEXT.as_bytes()).unwrap();
        assert_eq!(entry.to_text(), TEXT);
        let fingerprint = entry.fingerprint();
        assert!(
            fingerprint.starts_with("1;/nix/store/x6a")
                && fingerprint.ends_with(";96;/nix/store/x6asrkpc4v9lsljx3dky3fa5mi34jrn1-top")
        );
    }

    #[test]
    fn old_and_odd_entries_are_understood_or_refused() {
        let without = |line: &str| {
            TEXT.lines().filter(|l| !l.starts_with(line)).map(|l| format!("{l}\n")).collect::<String>()
        };
        let old = NarInfo::parse("x", without("Compression").as_bytes()).unwrap();
        assert_eq!(old.compression, Compression::Bzip2);
        for needed in ["StorePath", "URL", "NarHash", "NarSize"] {
            assert!(NarInfo::parse("x", without(needed).as_bytes()).is_err(), "{needed}");
        }
        let with = |from: &str, to: &str| NarInfo::parse("x", TEXT.replace(from, to).as_bytes());
        for (from, to) in [
            ("NarSize: 96", "NarSize: 0"),
            ("NarSize: 96", "NarSize: -1"),
            ("NarSize: 96", "NarSize: 99999999999999"),
            ("NarSize: 96", "NarSize: +96"),
            ("Compression: xz", "Compression: lzma"),
            ("Sig: a:AAAA", "Sig: a"),
            ("Sig: a:AAAA", "CA: nonsense"),
            ("References: ", "References: ../"),
            ("NarHash: sha256:", "NarHash: md5:"),
            ("NarHash: sha256:", "NarHash: "),
        ] {
            assert!(with(from, to).is_err(), "{to}");
        }
        assert!(
            with("Deriver: x6asrkpc4v9lsljx3dky3fa5mi34jrn1-top.drv", "Deriver: unknown-deriver")
                .unwrap()
                .deriver
                .is_none()
        );
        assert!(with("Sig: a:AAAA", "Later: anything").is_ok());
        let many = format!("{TEXT}{}", "Sig: b:AAAA\n".repeat(SIGNATURES_MAX));
        assert!(NarInfo::parse("x", many.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(at in 0usize..400, bytes: Vec<u8>, cut in 0usize..8) {
            let mut text = TEXT.as_bytes().to_vec();
            let at = at.min(text.len());
            text.splice(at..(at + cut).min(text.len()), bytes);
            if let Ok(entry) = NarInfo::parse("x", &text) {
                prop_assert_eq!(NarInfo::parse("x", entry.to_text().as_bytes()).unwrap(), entry);
            }
        }
    }
}
