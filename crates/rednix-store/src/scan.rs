//! Finds store paths' hash parts in bytes that come in pieces: what a build's output refers to.
//! Looks for the 32 digits only; names, and text around them, do not matter.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;

use crate::error::Result;
use crate::hash::{Hash, HashAlgorithm, Hasher};
use crate::nar;
use crate::nix32;
use crate::path::{HASH_PART_LEN, StorePath};

/// A stream that remembers which of its candidates it saw. An [`io::Write`] that never fails.
#[derive(Clone, Debug)]
pub struct Scanner {
    /// Candidates not yet seen.
    wanted: HashMap<[u8; HASH_PART_LEN], StorePath>,
    found: BTreeSet<StorePath>,
    /// The last bytes, where a hash part may have begun.
    tail: Vec<u8>,
}

impl Scanner {
    pub fn new<'a>(candidates: impl IntoIterator<Item = &'a StorePath>) -> Scanner {
        let wanted = candidates.into_iter().map(|path| (path.hash_part_bytes(), path.clone())).collect();
        Scanner { wanted, found: BTreeSet::new(), tail: Vec::new() }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        if self.wanted.is_empty() {
            return;
        }
        const OVERLAP: usize = HASH_PART_LEN - 1;
        let mut seam = std::mem::take(&mut self.tail);
        let tail_len = seam.len();
        seam.extend_from_slice(&bytes[..bytes.len().min(OVERLAP)]);
        if tail_len > 0 {
            self.search(&seam);
        }
        self.search(bytes);
        if bytes.len() >= OVERLAP {
            seam.clear();
            seam.extend_from_slice(&bytes[bytes.len() - OVERLAP..]);
        } else {
            seam.drain(..seam.len().saturating_sub(OVERLAP));
        }
        self.tail = seam;
    }

    /// Looks at every 32nd byte first: where that is no digit, no hash part covers it.
    fn search(&mut self, bytes: &[u8]) {
        let mut start = 0;
        while let Some(window) = bytes.get(start..start + HASH_PART_LEN) {
            if let Some(foreign) = window.iter().rposition(|byte| !nix32::is_digit(*byte)) {
                start += foreign + 1;
                continue;
            }
            let part: [u8; HASH_PART_LEN] = window.try_into().expect("the window has a hash part's length");
            if let Some(path) = self.wanted.remove(&part) {
                self.found.insert(path);
            }
            start += 1;
        }
    }

    /// The candidates seen.
    pub fn finish(self) -> BTreeSet<StorePath> {
        self.found
    }
}

impl io::Write for Scanner {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What one pass over a tree's archive tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    pub references: BTreeSet<StorePath>,
    /// SHA-256 of the NAR.
    pub nar_hash: Hash,
    pub nar_size: u64,
}

/// Reads a tree once: its references among `candidates`, its NAR's hash and size.
pub fn scan_path<'a>(
    path: impl AsRef<Path>,
    candidates: impl IntoIterator<Item = &'a StorePath>,
) -> Result<Scanned> {
    let mut both = Both { scanner: Scanner::new(candidates), hasher: Hasher::new(HashAlgorithm::Sha256) };
    let nar_size = nar::dump(path, &mut both)?;
    Ok(Scanned { references: both.scanner.finish(), nar_hash: both.hasher.finish(), nar_size })
}

struct Both {
    scanner: Scanner,
    hasher: Hasher,
}

impl io::Write for Both {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.scanner.update(bytes);
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(seed: u8) -> StorePath {
        StorePath::from_parts(&[seed; 20], &format!("n{seed}")).unwrap()
    }

    fn scan(chunks: &[&[u8]], candidates: &[StorePath]) -> Vec<StorePath> {
        let mut scanner = Scanner::new(candidates);
        for chunk in chunks {
            scanner.update(chunk);
        }
        scanner.finish().into_iter().collect()
    }

    #[test]
    fn finds_across_every_seam() {
        let (one, two) = (path(1), path(2));
        let text = format!("x{}y{}", one.hash_part(), two.hash_part());
        let mut both = vec![one.clone(), two.clone()];
        both.sort();
        for first in 0..text.len() {
            for second in first..text.len() {
                let bytes = text.as_bytes();
                let chunks = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(scan(&chunks, &both), both, "{first} {second}");
            }
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(scan(&bytes, &both), both);
    }

    #[test]
    fn finds_inside_a_run_of_digits() {
        let one = path(7);
        let text = format!("000000{}1111111", one.hash_part());
        assert_eq!(scan(&[text.as_bytes()], std::slice::from_ref(&one)), std::slice::from_ref(&one));
        let broken = text.replacen(&one.hash_part()[..1], "e", 1);
        let without = broken.replace(one.hash_part(), "");
        assert!(scan(&[without.as_bytes()], &[one]).is_empty());
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_search(
            pieces in proptest::collection::vec(("[0-9a-f ]{0,40}", 0u8..6, any::<bool>()), 0..12),
            size in 1usize..50,
        ) {
            let candidates: Vec<StorePath> = (0..6).map(path).collect();
            let mut text = String::new();
            for (noise, seed, whole) in &pieces {
                text.push_str(noise);
                let part = path(*seed).hash_part().to_owned();
                text.push_str(if *whole { &part } else { &part[..31] });
            }
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let mut expected: Vec<_> =
                candidates.iter().filter(|path| text.contains(path.hash_part())).cloned().collect();
            expected.sort();
            prop_assert_eq!(scan(&chunks, &candidates), expected);
        }
    }
}
