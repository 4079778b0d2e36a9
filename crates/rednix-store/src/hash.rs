//! Hashes with their algorithm, in every text form Nix knows: hex, nix32, base 64, SRI, with or without a
//! leading `algorithm:`. Does not hash files or trees; see [`crate::nar`].

use std::fmt;
use std::io;
use std::str::FromStr;

use sha2::Digest;

use crate::error::{Error, Result};
use crate::nix32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgorithm {
    Md5,
    Sha1,
    Sha256,
    Sha512,
    Blake3,
}

impl HashAlgorithm {
    pub const ALL: [HashAlgorithm; 5] = [
        HashAlgorithm::Md5,
        HashAlgorithm::Sha1,
        HashAlgorithm::Sha256,
        HashAlgorithm::Sha512,
        HashAlgorithm::Blake3,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            HashAlgorithm::Md5 => "md5",
            HashAlgorithm::Sha1 => "sha1",
            HashAlgorithm::Sha256 => "sha256",
            HashAlgorithm::Sha512 => "sha512",
            HashAlgorithm::Blake3 => "blake3",
        }
    }

    /// Bytes of a digest.
    pub const fn size(self) -> usize {
        match self {
            HashAlgorithm::Md5 => 16,
            HashAlgorithm::Sha1 => 20,
            HashAlgorithm::Sha256 | HashAlgorithm::Blake3 => 32,
            HashAlgorithm::Sha512 => 64,
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HashAlgorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        HashAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or_else(|| {
            bad(text, "unknown hash algorithm (known are `md5`, `sha1`, `sha256`, `sha512` and `blake3`)")
        })
    }
}

/// The largest digest, SHA-512's.
const DIGEST_BYTES_MAX: usize = 64;

/// A digest and the algorithm it came from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash {
    algorithm: HashAlgorithm,
    /// Zero beyond the algorithm's size, so that comparing whole arrays is right.
    bytes: [u8; DIGEST_BYTES_MAX],
}

impl Hash {
    /// Hashes bytes in memory.
    pub fn of(algorithm: HashAlgorithm, bytes: &[u8]) -> Hash {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    pub fn sha256(bytes: &[u8]) -> Hash {
        Hash::of(HashAlgorithm::Sha256, bytes)
    }

    /// Takes a digest as it is; its length must be the algorithm's.
    pub fn from_digest(algorithm: HashAlgorithm, digest: &[u8]) -> Result<Hash> {
        if digest.len() != algorithm.size() {
            let reason = format!("{algorithm} needs {} bytes, not {}", algorithm.size(), digest.len());
            return Err(bad(&hex(digest), reason));
        }
        let mut bytes = [0; DIGEST_BYTES_MAX];
        bytes[..digest.len()].copy_from_slice(digest);
        Ok(Hash { algorithm, bytes })
    }

    /// All zero: what an empty `outputHash` stands for.
    pub fn zero(algorithm: HashAlgorithm) -> Hash {
        Hash { algorithm, bytes: [0; DIGEST_BYTES_MAX] }
    }

    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    pub fn digest(&self) -> &[u8] {
        &self.bytes[..self.algorithm.size()]
    }

    pub fn to_hex(&self) -> String {
        hex(self.digest())
    }

    pub fn to_nix32(&self) -> String {
        nix32::encode(self.digest())
    }

    pub fn to_base64(&self) -> String {
        base64_encode(self.digest())
    }

    /// `sha256-<base64>`, as in subresource integrity.
    pub fn to_sri(&self) -> String {
        format!("{}-{}", self.algorithm, self.to_base64())
    }

    /// `sha256:<hex>`, as in the texts that store paths are made of.
    pub fn to_prefixed_hex(&self) -> String {
        format!("{}:{}", self.algorithm, self.to_hex())
    }

    /// Reads any form. The algorithm comes from the text or from `algorithm`; where both say one, they must
    /// agree. The encoding follows from the length.
    pub fn parse_any(text: &str, algorithm: Option<HashAlgorithm>) -> Result<Hash> {
        let (named, rest, sri) = if let Some((name, rest)) = text.split_once(':') {
            (Some(name), rest, false)
        } else if let Some((name, rest)) = text.split_once('-') {
            (Some(name), rest, true)
        } else {
            (None, text, false)
        };
        let algorithm = match (named.map(str::parse::<HashAlgorithm>).transpose()?, algorithm) {
            (Some(named), Some(wanted)) if named != wanted => {
                return Err(bad(text, format!("it should be a {wanted} hash")));
            }
            (Some(named), _) => named,
            (None, Some(wanted)) => wanted,
            (None, None) => return Err(bad(text, "it does not say its algorithm, and nothing else does")),
        };
        let size = algorithm.size();
        let digest = if !sri && rest.len() == size * 2 {
            hex_decode(rest)
        } else if !sri && rest.len() == nix32::encoded_len(size) {
            nix32::decode(rest)
        } else if rest.len() == size.div_ceil(3) * 4 {
            base64_decode(rest)
        } else {
            return Err(bad(text, format!("it has the wrong length for {algorithm}")));
        };
        match digest {
            Some(digest) if digest.len() == size => Hash::from_digest(algorithm, &digest),
            _ => Err(bad(text, format!("it is not a {algorithm} digest in hex, nix32 or base 64"))),
        }
    }

    /// XOR of byte `i` into place `i mod 20`: what store paths keep of a hash.
    pub fn fold160(&self) -> [u8; 20] {
        let mut folded = [0; 20];
        for (index, byte) in self.digest().iter().enumerate() {
            folded[index % 20] ^= byte;
        }
        folded
    }
}

/// `sha256:<nix32>`, as in the database and in narinfo.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.to_nix32())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Hash::parse_any(text, None)
    }
}

fn bad(text: &str, reason: impl Into<String>) -> Error {
    Error::BadHash { text: text.to_owned(), reason: reason.into() }
}

/// Hashes a stream; a [`io::Write`] that never fails.
#[derive(Clone)]
pub struct Hasher {
    state: State,
    /// Bytes seen so far.
    len: u64,
}

#[derive(Clone)]
enum State {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    pub fn new(algorithm: HashAlgorithm) -> Hasher {
        let state = match algorithm {
            HashAlgorithm::Md5 => State::Md5(md5::Md5::new()),
            HashAlgorithm::Sha1 => State::Sha1(sha1::Sha1::new()),
            HashAlgorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            HashAlgorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
            HashAlgorithm::Blake3 => State::Blake3(Box::new(blake3::Hasher::new())),
        };
        Hasher { state, len: 0 }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        match &mut self.state {
            State::Md5(state) => state.update(bytes),
            State::Sha1(state) => state.update(bytes),
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
            State::Blake3(state) => {
                state.update(bytes);
            }
        }
    }

    /// Bytes hashed so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn finish(self) -> Hash {
        let (algorithm, digest) = match self.state {
            State::Md5(state) => (HashAlgorithm::Md5, state.finalize().to_vec()),
            State::Sha1(state) => (HashAlgorithm::Sha1, state.finalize().to_vec()),
            State::Sha256(state) => (HashAlgorithm::Sha256, state.finalize().to_vec()),
            State::Sha512(state) => (HashAlgorithm::Sha512, state.finalize().to_vec()),
            State::Blake3(state) => (HashAlgorithm::Blake3, state.finalize().as_bytes().to_vec()),
        };
        Hash::from_digest(algorithm, &digest).expect("every digest has its algorithm's size")
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Either case; `None` for anything else or an odd length.
pub fn hex_decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    digits.chunks_exact(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard alphabet with padding.
pub fn base64_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte));
        let group = group << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            if digit <= chunk.len() {
                text.push(char::from(BASE64[(group >> (18 - 6 * digit)) as usize & 63]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// Standard alphabet; padding may be missing, and bits beyond the last byte are ignored, as the peer does.
pub fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut group, mut bits) = (0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        group = group << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((group >> bits) as u8);
            group &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_digests() {
        for (algorithm, expected) in [
            (HashAlgorithm::Md5, "5d41402abc4b2a76b9719d911017c592"),
            (HashAlgorithm::Sha1, "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"),
            (HashAlgorithm::Sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
            (HashAlgorithm::Blake3, "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"),
        ] {
            assert_eq!(Hash::of(algorithm, b"hello").to_hex(), expected);
        }
        let sha512 = Hash::of(HashAlgorithm::Sha512, b"hello");
        assert_eq!(
            sha512.to_sri(),
            "sha512-m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw=="
        );
    }

    #[test]
    fn every_form_of_one_hash() {
        let sri = "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
        let hash = Hash::sha256(b"hello");
        let wanted = Some(HashAlgorithm::Sha256);
        assert_eq!(hash.to_sri(), sri);
        for (text, algorithm) in [
            (sri.to_owned(), None),
            (sri.to_owned(), wanted),
            (hash.to_hex(), wanted),
            (hash.to_hex().to_uppercase(), wanted),
            (hash.to_nix32(), wanted),
            (hash.to_base64(), wanted),
            (hash.to_string(), None),
            (hash.to_prefixed_hex(), wanted),
            (format!("sha256:{}", hash.to_base64()), None),
        ] {
            assert_eq!(Hash::parse_any(&text, algorithm).unwrap(), hash, "{text}");
        }
    }

    #[test]
    fn refused_forms() {
        let hex = Hash::sha256(b"hello").to_hex();
        for (text, algorithm) in [
            (hex.clone(), None),
            (hex.clone(), Some(HashAlgorithm::Sha1)),
            (format!("sha1:{hex}"), Some(HashAlgorithm::Sha256)),
            (format!("sha256-{hex}"), None),
            (format!("sha3:{hex}"), None),
            (String::new(), Some(HashAlgorithm::Sha256)),
            ("sha256-".to_owned(), None),
            (hex.replace('2', "g"), Some(HashAlgorithm::Sha256)),
            ("sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLm===".to_owned(), None),
        ] {
            let message = Hash::parse_any(&text, algorithm).unwrap_err().to_string();
            assert!(message.contains(&text) || message.contains("sha3"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn base64_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(base64_decode(&base64_encode(&bytes)), Some(bytes));
        }

        #[test]
        fn hex_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(hex_decode(&hex(&bytes)), Some(bytes));
        }

        #[test]
        fn every_hash_reads_back(bytes in any::<Vec<u8>>(), index in 0usize..5) {
            let hash = Hash::of(HashAlgorithm::ALL[index], &bytes);
            for text in [hash.to_string(), hash.to_sri(), hash.to_prefixed_hex()] {
                prop_assert_eq!(Hash::parse_any(&text, None).unwrap(), hash);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(sha256|md5|x)?[:-]?\\PC{0,70}", index in 0usize..5) {
            let _ = Hash::parse_any(&text, None);
            let _ = Hash::parse_any(&text, Some(HashAlgorithm::ALL[index]));
        }
    }
}
