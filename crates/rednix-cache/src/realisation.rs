//! Realisations as caches keep them, in both layouts: by the derivation's hash (`realisations/`, C++ Nix up to 2.34)
//! and by its path (`build-trace-v2/`, newer). Reads and writes text; trusts nothing and fetches nothing.

use rednix_store::path::{StorePath, check_name};
use rednix_store::store::{Realisation, RealisationId};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::keys::{SecretKey, Trust, names};
use crate::limits::{REALISATION_BYTES_MAX, SIGNATURES_MAX};

/// What names a realisation at a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// By the masked hash of the derivation.
    Hash(RealisationId),
    /// By the path of the derivation.
    Derivation(StorePath, String),
}

impl Key {
    /// The place below the cache.
    pub fn place(&self) -> String {
        match self {
            Key::Hash(id) => format!("realisations/{id}.doi"),
            Key::Derivation(path, output) => format!("build-trace-v2/{}/{output}.doi", path.basename()),
        }
    }

    /// Takes [`Key::place`] back.
    pub fn parse(place: &str) -> Option<Key> {
        let name = place.strip_suffix(".doi")?;
        if let Some(id) = name.strip_prefix("realisations/") {
            let id: RealisationId = id.parse().ok()?;
            // One spelling only, so that there is one place.
            return (id.to_string() == name["realisations/".len()..]).then_some(Key::Hash(id));
        }
        let (path, output) = name.strip_prefix("build-trace-v2/")?.split_once('/')?;
        check_name(output).ok()?;
        let path = StorePath::from_basename(path).ok().filter(StorePath::is_derivation)?;
        Some(Key::Derivation(path, output.to_owned()))
    }

    /// What a signature of this realisation is over: JSON with sorted keys.
    pub fn fingerprint(&self, path: &StorePath) -> String {
        let path = path.basename();
        match self {
            Key::Hash(id) => {
                json!({ "dependentRealisations": {}, "id": id.to_string(), "outPath": path }).to_string()
            }
            Key::Derivation(derivation, output) => json!({
                "key": { "drvPath": derivation.basename(), "outputName": output },
                "value": { "outPath": path },
            })
            .to_string(),
        }
    }

    /// The file's text.
    pub fn to_text(&self, path: &StorePath, signatures: &[String]) -> String {
        let path = path.basename();
        match self {
            Key::Hash(id) => json!({
                "dependentRealisations": {},
                "id": id.to_string(),
                "outPath": path,
                "signatures": signatures,
            })
            .to_string(),
            Key::Derivation(..) => json!({ "outPath": path, "signatures": signatures }).to_string(),
        }
    }

    /// Reads a realisation's file, which must be the one for this key.
    pub fn read(&self, text: &[u8]) -> Result<Found> {
        let what = self.place();
        let bad = |reason: &str| Error::malformed(&what, reason);
        if text.len() as u64 > REALISATION_BYTES_MAX {
            return Err(Error::TooLarge { what, limit: REALISATION_BYTES_MAX });
        }
        let object: Map<String, Value> = serde_json::from_slice(text)
            .map_err(|error| bad(&format!("it is not a JSON object: {error}")))?;
        if let (Key::Hash(id), Some(found)) = (self, object.get("id"))
            && found.as_str() != Some(&id.to_string())
        {
            return Err(bad("it is about another derivation"));
        }
        let path = object.get("outPath").and_then(Value::as_str).ok_or_else(|| bad("it has no `outPath`"))?;
        let path = StorePath::from_basename(path).map_err(|error| bad(&error.to_string()))?;
        let mut signatures = Vec::new();
        for signature in object.get("signatures").and_then(Value::as_array).into_iter().flatten() {
            let signature = match signature {
                Value::String(text) => Some(text.clone()),
                Value::Object(parts) => {
                    let part = |name: &str| parts.get(name).and_then(Value::as_str);
                    part("keyName").zip(part("sig")).map(|(name, sig)| format!("{name}:{sig}"))
                }
                _ => None,
            };
            let signature = signature
                .filter(|text| {
                    text.contains(':') && !text.contains(|c: char| c.is_whitespace() || c.is_control())
                })
                .ok_or_else(|| bad("a signature is not NAME:BASE64"))?;
            signatures.push(signature);
            if signatures.len() > SIGNATURES_MAX {
                return Err(bad("it has too many signatures"));
            }
        }
        Ok(Found { path, signatures })
    }

    /// Whether somebody trusted vouches for it: nothing about a realisation proves itself.
    pub fn check(&self, found: &Found, trust: &Trust) -> Result<()> {
        if trust.accepts(&self.fingerprint(&found.path), &found.signatures) {
            return Ok(());
        }
        Err(Error::Untrusted { path: self.place(), found: names(&found.signatures) })
    }

    pub fn sign(&self, path: &StorePath, key: &SecretKey) -> String {
        key.sign(&self.fingerprint(path))
    }
}

/// What a cache says an output is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub path: StorePath,
    pub signatures: Vec<String>,
}

impl Found {
    /// As a store registers it; signatures over another layout's text would be worthless there.
    pub fn to_realisation(&self, id: &RealisationId, key: &Key) -> Realisation {
        let keep = matches!(key, Key::Hash(_));
        let signatures = if keep { self.signatures.clone() } else { Vec::new() };
        Realisation { id: id.clone(), path: self.path.clone(), signatures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rednix_store::hash::Hash;

    fn keys() -> [Key; 2] {
        let id = RealisationId { derivation_hash: Hash::sha256(b"d"), output: "out".to_owned() };
        let path = StorePath::from_parts(&[7; 20], "d.drv").unwrap();
        [Key::Hash(id), Key::Derivation(path, "dev".to_owned())]
    }

    /// The very bytes that C++ Nix 2.34 and 2.35 sign.
    #[test]
    fn what_is_signed() {
        let path = StorePath::from_parts(&[1; 20], "p").unwrap();
        let [by_hash, by_path] = keys();
        let (id, base) = (by_hash.place(), path.basename());
        let id = id.strip_prefix("realisations/").unwrap().strip_suffix(".doi").unwrap();
        assert_eq!(
            by_hash.fingerprint(&path),
            format!("{{\"dependentRealisations\":{{}},\"id\":\"{id}\",\"outPath\":\"{base}\"}}")
        );
        let drv = StorePath::from_parts(&[7; 20], "d.drv").unwrap();
        assert_eq!(
            by_path.fingerprint(&path),
            format!(
                "{{\"key\":{{\"drvPath\":\"{}\",\"outputName\":\"dev\"}},\"value\":{{\"outPath\":\"{base}\"}}}}",
                drv.basename()
            )
        );
    }

    #[test]
    fn both_layouts_read_back() {
        let path = StorePath::from_parts(&[1; 20], "p").unwrap();
        for key in keys() {
            assert_eq!(Key::parse(&key.place()), Some(key.clone()));
            let signatures = vec!["a:AAAA".to_owned()];
            let found = Found { path: path.clone(), signatures: signatures.clone() };
            assert_eq!(key.read(key.to_text(&path, &signatures).as_bytes()).unwrap(), found);
            let parts = format!(
                "{{\"outPath\":\"{}\",\"signatures\":[{{\"keyName\":\"a\",\"sig\":\"AAAA\"}}]}}",
                path.basename()
            );
            assert_eq!(key.read(parts.as_bytes()).unwrap(), found);
        }
        for wrong in [
            "realisations/x.doi",
            "build-trace-v2/../x.doi",
            "build-trace-v2/x.drv/out.doi",
            "realisations/.doi",
            "x",
        ] {
            assert_eq!(Key::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}", json in "\\{\"outPath\":\"[a-z0-9-]{0,40}\",\"signatures\":\\[.{0,20}\\]\\}") {
            for key in keys() {
                for text in [&text, &json] {
                    if let Ok(found) = key.read(text.as_bytes()) {
                        prop_assert_eq!(key.read(key.to_text(&found.path, &found.signatures).as_bytes()).unwrap(), found);
                    }
                }
            }
            if let Some(key) = Key::parse(&text) {
                prop_assert_eq!(key.place(), text);
            }
        }
    }
}
