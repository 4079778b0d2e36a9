//! Signing keys and signatures, in C++ Nix's forms `NAME:BASE64`. It draws no random numbers and touches no file.

use ed25519_dalek::{Signer, SigningKey, Verifier, VerifyingKey};
use rednix_store::hash::{base64_decode, base64_encode};

use crate::error::{Error, Result, quoted};
use crate::limits::SIGNATURES_MAX;

/// A key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pub name: String,
    key: VerifyingKey,
}

fn split<'t>(what: &'static str, text: &'t str) -> Result<(&'t str, Vec<u8>)> {
    // A secret is never quoted.
    let bad = |reason: &str| Error::BadKey { what: what.to_owned(), reason: reason.to_owned() };
    let (name, data) = text.trim().split_once(':').ok_or_else(|| bad("it has no `:`"))?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(bad("its name is empty or has blanks"));
    }
    Ok((name, base64_decode(data).ok_or_else(|| bad("what follows the `:` is not base64"))?))
}

impl PublicKey {
    pub fn parse(text: &str) -> Result<PublicKey> {
        let (name, bytes) = split("the public key", text)?;
        let bad = |reason: &str| Error::BadKey { what: text.to_owned(), reason: reason.to_owned() };
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| bad("it does not have 32 bytes"))?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| bad("it is no point of the curve"))?;
        Ok(PublicKey { name: name.to_owned(), key })
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = <[u8; 64]>::try_from(signature) else { return false };
        self.key.verify(message, &ed25519_dalek::Signature::from_bytes(&signature)).is_ok()
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.name, base64_encode(self.key.as_bytes()))
    }
}

/// Never shown: it has no `Debug`.
#[derive(Clone)]
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

impl SecretKey {
    /// The key of 32 bytes, which only its owner may know.
    pub fn from_seed(name: &str, seed: [u8; 32]) -> Result<SecretKey> {
        let public = SigningKey::from_bytes(&seed).verifying_key();
        split("the secret key", &format!("{name}:{}", base64_encode(public.as_bytes())))?;
        if name.contains(':') {
            let reason = "its name has a `:`".to_owned();
            return Err(Error::BadKey { what: name.to_owned(), reason });
        }
        Ok(SecretKey { name: name.to_owned(), key: SigningKey::from_bytes(&seed) })
    }

    pub fn parse(text: &str) -> Result<SecretKey> {
        let (name, bytes) = split("the secret key", text)?;
        let bad =
            |reason: &str| Error::BadKey { what: "the secret key".to_owned(), reason: reason.to_owned() };
        let bytes: [u8; 64] = bytes.try_into().map_err(|_| bad("it does not have 64 bytes"))?;
        let key =
            SigningKey::from_keypair_bytes(&bytes).map_err(|_| bad("its halves do not belong together"))?;
        Ok(SecretKey { name: name.to_owned(), key })
    }

    /// The text of a key file.
    pub fn to_text(&self) -> String {
        format!("{}:{}", self.name, base64_encode(&self.key.to_keypair_bytes()))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    pub fn sign(&self, message: &str) -> String {
        format!("{}:{}", self.name, base64_encode(&self.key.sign(message.as_bytes()).to_bytes()))
    }
}

/// The keys whose word counts.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    keys: Vec<PublicKey>,
}

impl Trust {
    pub fn new(keys: Vec<PublicKey>) -> Trust {
        Trust { keys }
    }

    /// One key more.
    pub fn with(&self, key: PublicKey) -> Trust {
        let mut trust = self.clone();
        trust.keys.push(key);
        trust
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether one of the signatures is by a trusted key over this very message.
    pub fn accepts(&self, message: &str, signatures: &[String]) -> bool {
        signatures.iter().take(SIGNATURES_MAX).any(|signature| {
            let Some((name, data)) = signature.split_once(':') else { return false };
            let mut keys = self.keys.iter().filter(|key| key.name == name).peekable();
            keys.peek().is_some()
                && base64_decode(data)
                    .is_some_and(|bytes| keys.any(|key| key.verifies(message.as_bytes(), &bytes)))
        })
    }
}

/// The names of the keys of some signatures, for messages.
pub fn names(signatures: &[String]) -> String {
    let names: Vec<&str> =
        signatures.iter().take(SIGNATURES_MAX).filter_map(|s| Some(s.split_once(':')?.0)).collect();
    if names.is_empty() { "none".to_owned() } else { quoted(&names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_sign() {
        let secret = SecretKey::from_seed("team-1", [7; 32]).unwrap();
        let again = SecretKey::parse(&secret.to_text()).unwrap();
        let public = PublicKey::parse(&again.public().to_string()).unwrap();
        let signature = again.sign("message");
        let trust = Trust::new(vec![public]);
        assert!(trust.accepts("message", std::slice::from_ref(&signature)));
        assert!(!trust.accepts("massage", std::slice::from_ref(&signature)));
        // The right bytes under another key's name are no signature.
        let renamed = signature.replace("team-1", "team-2");
        assert!(!trust.accepts("message", &[renamed, "team-1:AAAA".to_owned(), "x".to_owned()]));
    }

    #[test]
    fn wrong_keys_are_refused_without_being_shown() {
        for text in ["", "a", "a:", ":AAAA", "a b:AAAA", "a:!!!", "a:c2VjcmV0"] {
            let error = SecretKey::parse(text).err().unwrap().to_string();
            assert!(!error.contains("c2VjcmV0"), "{error}");
            assert!(PublicKey::parse(text).is_err(), "{text}");
        }
        assert!(SecretKey::from_seed("a:b", [1; 32]).is_err());
        let mut torn = SecretKey::from_seed("a", [1; 32]).unwrap().to_text().into_bytes();
        torn[70] = if torn[70] == b'A' { b'B' } else { b'A' };
        assert!(SecretKey::parse(&String::from_utf8(torn).unwrap()).is_err());
    }
}
