//! Hashing of derivations modulo fixed outputs: what output paths and realisations are named by.
//! Does not read derivations itself; its callers say where they are.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Derivation, aterm};
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::path::{PathHashing, StorePath, fixed_output_digest};

/// A derivation's hash modulo fixed outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerivationHash {
    Regular(Hash),
    /// Something in the closure floats, so no output path can follow from this hash.
    Deferred(Hash),
}

impl DerivationHash {
    pub fn hash(&self) -> &Hash {
        match self {
            DerivationHash::Regular(hash) | DerivationHash::Deferred(hash) => hash,
        }
    }

    pub fn is_deferred(&self) -> bool {
        matches!(self, DerivationHash::Deferred(_))
    }
}

/// The hash that stands for a derivation where it is another's input. `resolve` gives the inputs' hashes of the
/// same kind and should remember them: asking again and again takes exponential time.
pub fn hash_modulo(
    derivation: &Derivation,
    resolve: &mut dyn FnMut(&StorePath) -> Result<DerivationHash>,
) -> Result<DerivationHash> {
    hash_with(derivation, false, resolve)
}

/// The hash of a derivation's own output paths and realisations: its output paths do not count.
/// `resolve` gives the inputs' unmasked hashes, as for [`hash_modulo`].
pub fn hash_modulo_masked(
    derivation: &Derivation,
    resolve: &mut dyn FnMut(&StorePath) -> Result<DerivationHash>,
) -> Result<DerivationHash> {
    hash_with(derivation, true, resolve)
}

fn hash_with(
    derivation: &Derivation,
    masked: bool,
    resolve: &mut dyn FnMut(&StorePath) -> Result<DerivationHash>,
) -> Result<DerivationHash> {
    if let Some((method, hash, path)) = derivation.fixed_output() {
        return Ok(DerivationHash::Regular(fixed_output_digest(method, hash, &path.to_string())));
    }
    let mut deferred = derivation.is_floating();
    let mut inputs: Vec<(String, Cow<'_, BTreeSet<String>>)> =
        Vec::with_capacity(derivation.input_derivations.len());
    for (path, outputs) in &derivation.input_derivations {
        let hash = resolve(path)?;
        deferred |= hash.is_deferred();
        inputs.push((hash.hash().to_hex(), Cow::Borrowed(outputs)));
    }
    inputs.sort_by(|a, b| a.0.cmp(&b.0));
    // Different derivations of the same fixed output have one hash: their outputs unite.
    inputs.dedup_by(|second, first| {
        let same = second.0 == first.0;
        if same {
            first.1.to_mut().extend(second.1.iter().cloned());
        }
        same
    });
    let inputs: Vec<(&str, &BTreeSet<String>)> =
        inputs.iter().map(|(hash, outputs)| (hash.as_str(), outputs.as_ref())).collect();
    let hash = Hash::sha256(&aterm::write(derivation, masked, Some(&inputs)));
    Ok(if deferred { DerivationHash::Deferred(hash) } else { DerivationHash::Regular(hash) })
}

/// Remembers the hashes of derivations, and works through closures without recursion.
#[derive(Clone, Debug, Default)]
pub struct DerivationHashes {
    known: HashMap<StorePath, DerivationHash, PathHashing>,
}

impl DerivationHashes {
    pub fn new() -> DerivationHashes {
        DerivationHashes::default()
    }

    pub fn get(&self, path: &StorePath) -> Option<DerivationHash> {
        self.known.get(path).copied()
    }

    pub fn insert(&mut self, path: StorePath, hash: DerivationHash) {
        self.known.insert(path, hash);
    }

    /// The hash of the derivation at `path`; `load` reads a derivation whose hash is not yet known.
    pub fn resolve(
        &mut self,
        path: &StorePath,
        load: &mut dyn FnMut(&StorePath) -> Result<Derivation>,
    ) -> Result<DerivationHash> {
        if let Some(known) = self.known.get(path) {
            return Ok(*known);
        }
        let mut pending: Vec<(StorePath, Option<Derivation>)> = vec![(path.clone(), None)];
        let mut open: HashSet<StorePath> = HashSet::new();
        while let Some((path, loaded)) = pending.pop() {
            if self.known.contains_key(&path) {
                continue;
            }
            let first_visit = loaded.is_none();
            let derivation = match loaded {
                Some(derivation) => derivation,
                None => load(&path)?,
            };
            // A fixed output's hash does not depend on how it is fetched: its inputs need no visit.
            let missing: Vec<StorePath> = match derivation.is_fixed() {
                true => Vec::new(),
                false => {
                    let inputs = derivation.input_derivations.keys();
                    inputs.filter(|input| !self.known.contains_key(*input)).cloned().collect()
                }
            };
            if missing.is_empty() {
                let hash = hash_modulo(&derivation, &mut |input| self.need(input))?;
                open.remove(&path);
                self.known.insert(path, hash);
                continue;
            }
            if first_visit {
                open.insert(path.clone());
            }
            if let Some(cycle) = missing.iter().find(|input| open.contains(*input)) {
                return Err(Error::BadDerivation {
                    name: derivation.name,
                    offset: 0,
                    reason: format!("it needs itself through `{cycle}`"),
                });
            }
            pending.push((path, Some(derivation)));
            pending.extend(missing.into_iter().map(|input| (input, None)));
        }
        self.need(path)
    }

    /// [`hash_modulo_masked`] of a derivation whose inputs are remembered or can be loaded.
    pub fn masked(
        &mut self,
        derivation: &Derivation,
        load: &mut dyn FnMut(&StorePath) -> Result<Derivation>,
    ) -> Result<DerivationHash> {
        hash_modulo_masked(derivation, &mut |input| self.resolve(input, load))
    }

    fn need(&self, path: &StorePath) -> Result<DerivationHash> {
        self.get(path).ok_or_else(|| Error::NotValid { path: path.to_string() })
    }
}
