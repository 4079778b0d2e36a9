//! Contents that prove the name of their path: an archive is hashed as its content address says while it passes. Reads
//! no entry and decides nothing about trust.

use std::io::{self, Read};

use rednix_store::hash::{Hash, Hasher};
use rednix_store::path::{ContentMethod, HASH_PART_LEN, StorePath};

use crate::error::Error;
use crate::limits::SELF_OFFSETS_MAX;
use crate::streams::Cause;

/// What contents have to hash to, for a path whose name follows from just that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub method: ContentMethod,
    pub hash: Hash,
    /// Where the path refers to itself: what stands for its own name in the contents is hashed as zero bytes. Contents
    /// with zero bytes at such a place prove the same name, so this shows damage and needs somebody's word beside it.
    pub own: Option<StorePath>,
}

impl Proof {
    /// Whether the contents need nobody's word.
    pub fn is_enough(&self) -> bool {
        self.own.is_none()
    }

    /// Whether an archive with this SHA-256 is the proof already.
    pub fn is_given_by(&self, nar_hash: &Hash) -> bool {
        self.own.is_none() && self.method == ContentMethod::Recursive && self.hash == *nar_hash
    }
}

/// The archive of one plain file begins with these strings, and the length of its contents follows.
const FLAT_STRINGS: [&str; 5] = ["nix-archive-1", "(", "type", "regular", "contents"];

fn flat_header() -> Vec<u8> {
    let mut header = Vec::new();
    for text in FLAT_STRINGS {
        header.extend_from_slice(&(text.len() as u64).to_le_bytes());
        header.extend_from_slice(text.as_bytes());
        header.resize(header.len().next_multiple_of(8), 0);
    }
    header
}

/// Picks from an archive what is hashed.
enum Digest {
    Whole(Hasher),
    Flat(Flat),
    Modulo(Modulo),
}

/// The bytes of the one plain file in an archive.
struct Flat {
    hasher: Hasher,
    header: Vec<u8>,
    expected: Vec<u8>,
    left: u64,
}

impl Flat {
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        let whole = self.expected.len() + 8;
        if self.header.len() < whole {
            let part = bytes.len().min(whole - self.header.len());
            self.header.extend_from_slice(&bytes[..part]);
            bytes = &bytes[part..];
            let seen = self.header.len().min(self.expected.len());
            if self.header[..seen] != self.expected[..seen] {
                return Err("something else than one plain file".to_owned());
            }
            if self.header.len() == whole {
                let length = &self.header[self.expected.len()..];
                self.left = u64::from_le_bytes(length.try_into().expect("a length has eight bytes"));
            }
        }
        let contents = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.hasher.update(&bytes[..contents]);
        self.left -= contents as u64;
        Ok(())
    }
}

/// An archive with zero bytes in place of its path's own hash part.
struct Modulo {
    hasher: Hasher,
    own: [u8; HASH_PART_LEN],
    /// Not hashed yet: what follows could make it the name.
    held: Vec<u8>,
    position: u64,
    /// Where the name stood; `None` where that was too often to remember.
    offsets: Option<Vec<u64>>,
}

impl Modulo {
    fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        let (mut at, mut done) = (0, 0);
        while let Some(window) = self.held.get(at..at + HASH_PART_LEN) {
            if window != self.own {
                at += 1;
                continue;
            }
            self.hasher.update(&self.held[done..at]);
            self.hasher.update(&[0; HASH_PART_LEN]);
            let offset = self.position + at as u64;
            self.offsets = self.offsets.take().filter(|offsets| offsets.len() < SELF_OFFSETS_MAX);
            if let Some(offsets) = &mut self.offsets {
                offsets.push(offset);
            }
            at += HASH_PART_LEN;
            done = at;
        }
        // Less than a name is left behind `at`.
        self.hasher.update(&self.held[done..at]);
        self.held.drain(..at);
        self.position += at as u64;
    }

    /// The hash as C++ Nix 2.17 to 2.34 has it, and with the places of the name behind the contents, as others do.
    fn finish(mut self) -> (Hash, Option<Hash>) {
        self.hasher.update(&self.held);
        let plain = self.hasher.clone().finish();
        let with_offsets = self.offsets.map(|offsets| {
            for offset in offsets {
                self.hasher.update(format!("|{offset}").as_bytes());
            }
            self.hasher.finish()
        });
        (plain, with_offsets)
    }
}

impl Digest {
    fn new(proof: &Proof) -> Digest {
        let hasher = Hasher::new(proof.hash.algorithm());
        match (proof.method, &proof.own) {
            (ContentMethod::Flat | ContentMethod::Text, _) => {
                Digest::Flat(Flat { hasher, header: Vec::new(), expected: flat_header(), left: 0 })
            }
            (_, Some(own)) => Digest::Modulo(Modulo {
                hasher,
                own: own.hash_part_bytes(),
                held: Vec::new(),
                position: 0,
                offsets: Some(Vec::new()),
            }),
            (_, None) => Digest::Whole(hasher),
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Digest::Whole(hasher) => hasher.update(bytes),
            Digest::Flat(flat) => return flat.feed(bytes),
            Digest::Modulo(modulo) => modulo.feed(bytes),
        }
        Ok(())
    }

    /// The hash, as it was found where it is not the expected one.
    fn check(self, expected: &Hash) -> Result<(), String> {
        let (found, other) = match self {
            Digest::Whole(hasher) | Digest::Flat(Flat { hasher, .. }) => (hasher.finish(), None),
            Digest::Modulo(modulo) => modulo.finish(),
        };
        if found == *expected || other.as_ref() == Some(expected) { Ok(()) } else { Err(found.to_sri()) }
    }
}

/// Checks, before it lets the last bytes of an archive through, that the contents have the hash that names the path.
pub struct Proven<R> {
    inner: R,
    position: u64,
    size: u64,
    digest: Option<Digest>,
    expected: Hash,
    cause: Cause,
    mismatch: Option<Box<dyn FnOnce(String) -> Error + Send>>,
}

impl<R: Read> Proven<R> {
    pub fn new(
        inner: R,
        size: u64,
        proof: &Proof,
        cause: Cause,
        mismatch: impl FnOnce(String) -> Error + Send + 'static,
    ) -> Self {
        let (digest, expected) = (Some(Digest::new(proof)), proof.hash);
        Proven { inner, position: 0, size, digest, expected, cause, mismatch: Some(Box::new(mismatch)) }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Some(digest) = &mut self.digest else { return Ok(()) };
        digest.feed(bytes)?;
        self.position += bytes.len() as u64;
        match self.digest.take_if(|_| self.position >= self.size) {
            Some(digest) => digest.check(&self.expected),
            None => Ok(()),
        }
    }
}

impl<R: Read> Read for Proven<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match (self.feed(&buffer[..count]), self.mismatch.take()) {
            (Ok(()), mismatch) => {
                self.mismatch = mismatch;
                Ok(count)
            }
            (Err(found), Some(mismatch)) => Err(self.cause.set(mismatch(found))),
            (Err(_), None) => Err(io::Error::other("read on after an error")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use rednix_store::hash::HashAlgorithm;
    use rednix_store::rewrite::{Rewriter, Rewrites};

    use super::*;

    /// Both hashes with the own name blanked, by the store's own means.
    fn blanked(bytes: &[u8], own: &StorePath) -> (Hash, Hash) {
        let mut rewrites = Rewrites::new();
        rewrites.blank(own);
        let mut rewriter = Rewriter::new(&rewrites, Hasher::new(HashAlgorithm::Sha256));
        rewriter.write_all(bytes).unwrap();
        let (mut hasher, offsets) = rewriter.finish().unwrap();
        let plain = hasher.clone().finish();
        offsets.iter().for_each(|offset| hasher.update(format!("|{offset}").as_bytes()));
        (plain, hasher.finish())
    }

    #[test]
    fn names_beyond_number_take_no_memory() {
        let own = StorePath::from_parts(&[3; 20], "n").unwrap();
        let bytes = own.hash_part().repeat(SELF_OFFSETS_MAX + 1).into_bytes();
        let proof = |hash| Proof { method: ContentMethod::Recursive, hash, own: Some(own.clone()) };
        let read = |hash| {
            let cause = Cause::default();
            let mismatch = |found| Error::Protocol { url: String::new(), reason: found };
            let proven = Proven::new(bytes.as_slice(), bytes.len() as u64, &proof(hash), cause, mismatch);
            io::copy(&mut { proven }, &mut io::sink())
        };
        let (plain, with_offsets) = blanked(&bytes, &own);
        read(plain).unwrap();
        read(with_offsets).unwrap_err();
    }

    proptest! {
        #[test]
        fn own_names_are_blanked_as_the_store_does(
            pieces in proptest::collection::vec(("[0-9a-f ]{0,40}", any::<bool>()), 0..10),
            size in 1usize..80,
            changed in any::<bool>(),
        ) {
            let own = StorePath::from_parts(&[3; 20], "n").unwrap();
            let mut text = String::from("x");
            for (noise, is_name) in pieces {
                text.push_str(&noise);
                if is_name {
                    text.push_str(own.hash_part());
                }
            }
            let (plain, with_offsets) = blanked(text.as_bytes(), &own);
            let mut bytes = text.into_bytes();
            if changed {
                bytes[0] = b'y';
            }
            for hash in [plain, with_offsets] {
                let proof = Proof { method: ContentMethod::Recursive, hash, own: Some(own.clone()) };
                let mismatch = |found| Error::Protocol { url: String::new(), reason: found };
                let mut proven =
                    Proven::new(bytes.as_slice(), bytes.len() as u64, &proof, Cause::default(), mismatch);
                let mut buffer = vec![0; size];
                let end = loop {
                    match proven.read(&mut buffer) {
                        Ok(0) => break true,
                        Ok(_) => {}
                        Err(_) => break false,
                    }
                };
                prop_assert_eq!(end, !changed);
            }
        }
    }
}
