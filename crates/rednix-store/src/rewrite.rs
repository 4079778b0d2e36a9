//! Replaces hash parts in streams and trees by others of the same length: for outputs whose path follows from
//! their contents. Finds out no references; see [`crate::scan`].

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use crate::error::Result;
use crate::hash::{Hash, HashAlgorithm, Hasher};
use crate::nar;
use crate::nix32;
use crate::path::{HASH_PART_LEN, StorePath};

pub type HashPart = [u8; HASH_PART_LEN];

/// What replaces what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrites(BTreeMap<HashPart, HashPart>);

impl Rewrites {
    pub fn new() -> Rewrites {
        Rewrites::default()
    }

    /// Every mention of `from` becomes one of `to`; only the hash parts matter.
    pub fn insert(&mut self, from: &StorePath, to: &StorePath) {
        if from.hash_part() != to.hash_part() {
            self.0.insert(from.hash_part_bytes(), to.hash_part_bytes());
        }
    }

    /// Every mention of `from` becomes zero bytes, as self-references are hashed.
    pub fn blank(&mut self, from: &StorePath) {
        self.0.insert(from.hash_part_bytes(), [0; HASH_PART_LEN]);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Rewrites bytes in place; returns how many places.
    pub fn apply(&self, bytes: &mut [u8]) -> usize {
        let mut matches = 0;
        self.each_match(bytes, |_| matches += 1);
        matches
    }

    /// Rewrites and reports where; returns from where on the bytes are undecided without what follows.
    fn each_match(&self, bytes: &mut [u8], mut found: impl FnMut(usize)) -> usize {
        let mut start = 0;
        while let Some(window) = bytes.get_mut(start..start + HASH_PART_LEN) {
            if let Some(foreign) = window.iter().rposition(|byte| !nix32::is_digit(*byte)) {
                start += foreign + 1;
            } else if let Some(to) = self.0.get(&*window) {
                window.copy_from_slice(to);
                found(start);
                start += HASH_PART_LEN;
            } else {
                start += 1;
            }
        }
        start.min(bytes.len())
    }
}

/// A stream that rewrites what passes through. [`Rewriter::finish`] passes on the last bytes.
pub struct Rewriter<'r, W> {
    rewrites: &'r Rewrites,
    out: W,
    held: Vec<u8>,
    passed: u64,
    /// Offsets of the matches in the whole stream.
    matches: Vec<u64>,
}

/// Bytes gathered before they are searched.
const HELD_BYTES: usize = 64 << 10;

impl<'r, W: Write> Rewriter<'r, W> {
    pub fn new(rewrites: &'r Rewrites, out: W) -> Self {
        Rewriter { rewrites, out, held: Vec::new(), passed: 0, matches: Vec::new() }
    }

    fn advance(&mut self) -> io::Result<()> {
        let (passed, matches) = (self.passed, &mut self.matches);
        let decided = self.rewrites.each_match(&mut self.held, |at| matches.push(passed + at as u64));
        self.out.write_all(&self.held[..decided])?;
        self.held.drain(..decided);
        self.passed += decided as u64;
        Ok(())
    }

    /// Passes on what is left; the stream below, and where something was replaced.
    pub fn finish(mut self) -> io::Result<(W, Vec<u64>)> {
        self.advance()?;
        self.out.write_all(&self.held)?;
        Ok((self.out, self.matches))
    }
}

impl<W: Write> Write for Rewriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= HELD_BYTES {
            self.advance()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.advance()?;
        self.out.flush()
    }
}

/// How self-references count in the hash of content-addressed contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfReferences {
    /// Zero bytes in their place (C++ Nix 2.17 to 2.34): what is written here.
    Blanked,
    /// Zero bytes, and their offsets after the contents (before and after those versions).
    BlankedWithOffsets,
}

/// The hash of a tree's NAR with mentions of its own path `own` blanked, and whether there were any.
pub fn hash_modulo_self(
    path: impl AsRef<Path>,
    own: &StorePath,
    algorithm: HashAlgorithm,
    style: SelfReferences,
) -> Result<(Hash, bool)> {
    let mut rewrites = Rewrites::new();
    rewrites.blank(own);
    let mut rewriter = Rewriter::new(&rewrites, Hasher::new(algorithm));
    nar::dump(path, &mut rewriter)?;
    let (mut hasher, matches) = rewriter.finish().expect("a hasher accepts every write");
    if style == SelfReferences::BlankedWithOffsets {
        for offset in &matches {
            hasher.update(format!("|{offset}").as_bytes());
        }
    }
    Ok((hasher.finish(), !matches.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(seed: u8) -> StorePath {
        StorePath::from_parts(&[seed; 20], "n").unwrap()
    }

    fn rewritten(text: &[u8], rewrites: &Rewrites, size: usize) -> (Vec<u8>, Vec<u64>) {
        let mut rewriter = Rewriter::new(rewrites, Vec::new());
        for chunk in text.chunks(size) {
            rewriter.write_all(chunk).unwrap();
            rewriter.flush().unwrap();
        }
        rewriter.finish().unwrap()
    }

    #[test]
    fn rewrites_whole_parts_only() {
        let mut rewrites = Rewrites::new();
        rewrites.insert(&path(1), &path(2));
        rewrites.blank(&path(3));
        rewrites.insert(&path(4), &path(4));
        let [one, two, three] = [1, 2, 3].map(|seed| path(seed).hash_part().to_owned());
        let text = format!("{one}{three}-{one}x{}", &one[..31]);
        let expected = format!("{two}{}-{two}x{}", "\0".repeat(32), &one[..31]);
        for size in 1..text.len() {
            let (bytes, matches) = rewritten(text.as_bytes(), &rewrites, size);
            assert_eq!(String::from_utf8(bytes).unwrap(), expected, "{size}");
            assert_eq!(matches, [0, 32, 65], "{size}");
        }
        let mut bytes = text.into_bytes();
        assert_eq!(rewrites.apply(&mut bytes), 3);
        assert_eq!(bytes, expected.as_bytes());
    }

    #[test]
    fn self_references_do_not_count_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let hash = |seed: u8, style| {
            let file = folder.path().join(seed.to_string());
            std::fs::write(&file, format!("I am {}", path(seed))).unwrap();
            hash_modulo_self(&file, &path(seed), HashAlgorithm::Sha256, style).unwrap()
        };
        assert_eq!(hash(1, SelfReferences::Blanked), hash(2, SelfReferences::Blanked));
        assert_ne!(hash(1, SelfReferences::Blanked), hash(1, SelfReferences::BlankedWithOffsets));
        assert!(hash(1, SelfReferences::Blanked).1);
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "nobody").unwrap();
        let (hash, found) =
            hash_modulo_self(&plain, &path(1), HashAlgorithm::Sha256, SelfReferences::Blanked).unwrap();
        assert_eq!((hash, found), (nar::hash_path(&plain, HashAlgorithm::Sha256).unwrap().0, false));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            pieces in proptest::collection::vec(("[0-9a-f ]{0,40}", 0u8..4), 0..10),
            size in 1usize..50,
        ) {
            let mut rewrites = Rewrites::new();
            rewrites.insert(&path(0), &path(9));
            rewrites.blank(&path(1));
            let text: String =
                pieces.iter().flat_map(|(noise, seed)| [noise.clone(), path(*seed).hash_part().to_owned()]).collect();
            let whole = rewritten(text.as_bytes(), &rewrites, text.len().max(1));
            prop_assert_eq!(rewritten(text.as_bytes(), &rewrites, size), whole);
        }
    }
}
