//! Signing keys and the files they are kept in. It draws no random numbers and touches no file: callers do.

use ed25519_dalek::{Signer, SigningKey, Verifier, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::manifest::hex;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The text of an `id_ed25519.pub.toml`.
    pub fn to_toml(self) -> String {
        format!("pkey = \"{}\"\n", hex(&self.0))
    }

    pub fn from_toml(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct File {
            pkey: String,
        }
        let file: File = toml::from_str(text)
            .map_err(|error| Error::malformed("public key", error.to_string().trim_end().to_owned()))?;
        Ok(PublicKey(unhex("public key", "pkey", &file.pkey)?))
    }

    pub(super) fn verify(self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok())
    }
}

/// Never shown: it has no `Debug`.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of 32 bytes, which only its owner may know.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        SecretKey(SigningKey::from_bytes(&seed))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// A secret key in upstream's key file: TOML with `salt`, `nonce` and `skey` in hex. `salt` and `nonce` matter
/// only to encrypted files, which are refused; they are kept so that upstream's tools read the file.
#[derive(Serialize, Deserialize)]
pub struct KeyFile {
    salt: String,
    nonce: String,
    skey: String,
}

impl KeyFile {
    /// A new file from 88 random bytes: seed, salt, nonce.
    pub fn new(random: &[u8; 88]) -> Self {
        let mut seed = [0; 32];
        seed.copy_from_slice(&random[..32]);
        let key = SecretKey::from_seed(seed);
        KeyFile {
            salt: hex(&random[32..64]),
            nonce: hex(&random[64..]),
            skey: hex(&seed) + &hex(&key.public().0),
        }
    }

    pub fn to_toml(&self) -> String {
        format!("salt = \"{}\"\nnonce = \"{}\"\nskey = \"{}\"\n", self.salt, self.nonce, self.skey)
    }

    /// Reads the text of a key file. Messages never repeat what it holds.
    pub fn from_toml(text: &str) -> Result<SecretKey> {
        let fail = |message: &str| Error::malformed("secret key", message);
        let file: KeyFile =
            toml::from_str(text).map_err(|_| fail("not a TOML file with `salt`, `nonce` and `skey`"))?;
        if file.skey.len() == 160 {
            return Err(fail("it is encrypted; pass one that is not"));
        }
        let pair: [u8; 64] = unhex("secret key", "skey", &file.skey)?;
        let (mut seed, mut public) = ([0; 32], [0; 32]);
        seed.copy_from_slice(&pair[..32]);
        public.copy_from_slice(&pair[32..]);
        let key = SecretKey::from_seed(seed);
        if key.public().0 != public {
            return Err(fail("its two halves do not belong together"));
        }
        Ok(key)
    }
}

fn unhex<const N: usize>(what: &'static str, field: &str, text: &str) -> Result<[u8; N]> {
    let fail = || Error::malformed(what, format!("`{field}` is not {} hex digits", N * 2));
    if text.len() != N * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(fail());
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| fail())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| fail())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_comes_back() {
        let file = KeyFile::new(&std::array::from_fn(|n| n as u8));
        let key = KeyFile::from_toml(&file.to_toml()).unwrap();
        assert_eq!(key.public(), SecretKey::from_seed(std::array::from_fn(|n| n as u8)).public());
        assert_eq!(PublicKey::from_toml(&key.public().to_toml()).unwrap(), key.public());
        let signature = key.sign(b"message");
        assert!(key.public().verify(b"message", &signature));
        assert!(!key.public().verify(b"massage", &signature));
    }

    #[test]
    fn wrong_key_files_are_refused_without_showing_them() {
        let good = KeyFile::new(&[7; 88]);
        let with = |skey: String| KeyFile { salt: good.salt.clone(), nonce: good.nonce.clone(), skey };
        let cases = [
            (with(good.skey[..64].repeat(2)).to_toml(), "halves"),
            (with("00".repeat(80)).to_toml(), "encrypted"),
            (with("0g".repeat(64)).to_toml(), "128 hex digits"),
            (with("é".repeat(64)).to_toml(), "128 hex digits"),
            ("skey = 7".to_owned(), "not a TOML file"),
        ];
        for (text, expected) in cases {
            let Err(error) = KeyFile::from_toml(&text) else { panic!("{expected}") };
            let message = error.to_string();
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains(&good.skey[..16]), "{message}");
        }
        assert!(PublicKey::from_toml("pkey = \"12\"").is_err());
    }
}
