//! Derivations: what is built, from what, into which outputs; read and written as ATerm `.drv` text, hashed
//! modulo fixed outputs, and resolved. Does not build, and does not touch a store.

mod aterm;
mod modulo;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use modulo::{DerivationHash, DerivationHashes, hash_modulo, hash_modulo_masked};
pub use resolve::{placeholder, resolve_inputs, scratch_output_path, upstream_placeholder};

use crate::error::{Error, Result};
use crate::hash::{Hash, HashAlgorithm};
use crate::path::{self, ContentMethod, StorePath};

/// One output of a derivation, by how its path comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The path follows from the derivation's own contents.
    InputAddressed(StorePath),
    /// The contents are known by their hash before they are there, and the path follows from it.
    Fixed { method: ContentMethod, hash: Hash, path: StorePath },
    /// The path follows from the contents, once built.
    Floating { method: ContentMethod, algorithm: HashAlgorithm },
    /// Input-addressed, but below something floating: the path is known once all inputs are.
    Deferred,
}

impl Output {
    /// A fixed output, with the path that follows for `output` of derivation `name`.
    pub fn fixed(method: ContentMethod, hash: Hash, name: &str, output: &str) -> Result<Output> {
        let name = path::output_name(name, output);
        let path = path::fixed_output_path(method, &hash, &name, &BTreeSet::new(), false)?;
        Ok(Output::Fixed { method, hash, path })
    }

    /// The path, where it is known before building.
    pub fn path(&self) -> Option<&StorePath> {
        match self {
            Output::InputAddressed(path) | Output::Fixed { path, .. } => Some(path),
            Output::Floating { .. } | Output::Deferred => None,
        }
    }
}

/// A derivation. The fields are public: the evaluator fills them and calls [`Derivation::fill_output_paths`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derivation {
    pub outputs: BTreeMap<String, Output>,
    /// Other derivations' outputs that this one needs, by `.drv` path.
    pub input_derivations: BTreeMap<StorePath, BTreeSet<String>>,
    /// Store paths needed as they are.
    pub input_sources: BTreeSet<StorePath>,
    pub system: Vec<u8>,
    pub builder: Vec<u8>,
    pub arguments: Vec<Vec<u8>>,
    pub environment: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Without `.drv`.
    pub name: String,
}

/// Input derivations as they stand in a hashed ATerm: modulo hash in hex instead of a path.
pub type HashedInputs = BTreeMap<String, BTreeSet<String>>;

impl Derivation {
    /// An empty derivation to be filled in.
    pub fn new(name: &str, system: impl Into<Vec<u8>>, builder: impl Into<Vec<u8>>) -> Derivation {
        Derivation {
            outputs: BTreeMap::new(),
            input_derivations: BTreeMap::new(),
            input_sources: BTreeSet::new(),
            system: system.into(),
            builder: builder.into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            name: name.to_owned(),
        }
    }

    /// Reads the text of a `.drv` file; `name` is without `.drv`.
    pub fn parse(name: &str, text: &[u8]) -> Result<Derivation> {
        aterm::parse(name, text)
    }

    /// Reads the text of the `.drv` file at `path`.
    pub fn parse_at(path: &StorePath, text: &[u8]) -> Result<Derivation> {
        aterm::parse(derivation_name(path)?, text)
    }

    /// The text of the `.drv` file.
    pub fn to_aterm(&self) -> Vec<u8> {
        aterm::write(self, false, None)
    }

    /// The text that is hashed: output paths and their variables blank, inputs by their hashes.
    pub fn to_aterm_masked(&self, inputs: &HashedInputs) -> Vec<u8> {
        let inputs: Vec<_> = inputs.iter().map(|(hash, outputs)| (hash.as_str(), outputs)).collect();
        aterm::write(self, true, Some(&inputs))
    }

    /// Everything the `.drv` file refers to.
    pub fn references(&self) -> BTreeSet<StorePath> {
        self.input_sources.iter().chain(self.input_derivations.keys()).cloned().collect()
    }

    /// The path of the `.drv` file.
    pub fn store_path(&self) -> Result<StorePath> {
        self.store_path_of(&self.to_aterm())
    }

    /// [`Derivation::store_path`] for a caller who has the text already.
    pub fn store_path_of(&self, aterm: &[u8]) -> Result<StorePath> {
        path::text_path(&format!("{}.drv", self.name), &Hash::sha256(aterm), &self.references())
    }

    /// The only output's method, hash and path, where it is fixed.
    pub fn fixed_output(&self) -> Option<(ContentMethod, &Hash, &StorePath)> {
        match self.outputs.values().next() {
            Some(Output::Fixed { method, hash, path }) if self.outputs.len() == 1 => {
                Some((*method, hash, path))
            }
            _ => None,
        }
    }

    pub fn is_fixed(&self) -> bool {
        self.fixed_output().is_some()
    }

    pub fn is_floating(&self) -> bool {
        self.outputs.values().any(|output| matches!(output, Output::Floating { .. }))
    }

    pub fn is_deferred(&self) -> bool {
        self.outputs.values().any(|output| matches!(output, Output::Deferred))
    }

    /// The output's path, where it is known before building.
    pub fn output_path(&self, output: &str) -> Option<&StorePath> {
        self.outputs.get(output)?.path()
    }

    /// The name of the output's path.
    pub fn output_name(&self, output: &str) -> String {
        path::output_name(&self.name, output)
    }

    /// An environment variable as text; `None` too where it is not UTF-8.
    pub fn variable(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.environment.get(name.as_bytes())?).ok()
    }

    /// One kind of output per derivation; a fixed one is alone and called `out`.
    pub fn check_outputs(&self) -> Result<()> {
        let fault = |reason: &str| {
            Err(Error::BadDerivation { name: self.name.clone(), offset: 0, reason: reason.to_owned() })
        };
        let kind = |output: &Output| match output {
            Output::InputAddressed(_) | Output::Deferred => 0,
            Output::Fixed { .. } => 1,
            Output::Floating { .. } => 2,
        };
        let Some(first) = self.outputs.values().next().map(kind) else {
            return fault("it has no outputs");
        };
        if self.outputs.values().any(|output| kind(output) != first) {
            return fault("its outputs are of different kinds (fixed, floating, input-addressed)");
        }
        if first == 1 && (self.outputs.len() != 1 || !self.outputs.contains_key("out")) {
            return fault("a fixed output must be the only one and be called `out`");
        }
        Ok(())
    }

    /// Settles every output's path and its environment variable, as the last step of making a derivation:
    /// fixed outputs from their hash, floating ones by placeholder, the others from the derivation's hash, or
    /// left open below something floating. `resolve` gives the (unmasked) hash of an input derivation.
    pub fn fill_output_paths(
        &mut self,
        resolve: &mut dyn FnMut(&StorePath) -> Result<DerivationHash>,
    ) -> Result<()> {
        self.check_outputs()?;
        let names: Vec<String> = self.outputs.keys().cloned().collect();
        let mut hash = None;
        for name in names {
            let value = match &self.outputs[&name] {
                Output::Fixed { method, hash, .. } => {
                    let output = Output::fixed(*method, *hash, &self.name, &name)?;
                    let value = output.path().map(StorePath::to_string);
                    self.outputs.insert(name.clone(), output);
                    value
                }
                Output::Floating { .. } => Some(placeholder(&name)),
                Output::InputAddressed(_) | Output::Deferred => {
                    let hash = match &hash {
                        Some(hash) => hash,
                        None => {
                            self.defer_outputs();
                            hash.insert(hash_modulo_masked(self, resolve)?)
                        }
                    };
                    match hash {
                        DerivationHash::Deferred(_) => None,
                        DerivationHash::Regular(hash) => {
                            let path = path::output_path(&name, hash, &self.output_name(&name))?;
                            let value = path.to_string();
                            self.outputs.insert(name.clone(), Output::InputAddressed(path));
                            Some(value)
                        }
                    }
                }
            };
            self.environment.insert(name.into_bytes(), value.unwrap_or_default().into_bytes());
        }
        Ok(())
    }

    /// What [`Derivation::fill_output_paths`] comes to where something below floats: paths stay open, and the hash
    /// that would tell so is not worked out.
    pub fn leave_outputs_open(&mut self) -> Result<()> {
        self.check_outputs()?;
        self.defer_outputs();
        Ok(())
    }

    /// Every output has a variable, even while its value is open: the hash covers the name.
    fn defer_outputs(&mut self) {
        for (name, output) in &mut self.outputs {
            *output = Output::Deferred;
            self.environment.insert(name.clone().into_bytes(), Vec::new());
        }
    }
}

/// The derivation's name from the path of its `.drv` file.
pub fn derivation_name(path: &StorePath) -> Result<&str> {
    path.name().strip_suffix(".drv").ok_or_else(|| Error::BadPath {
        text: path.to_string(),
        reason: "it is not a derivation: its name does not end in `.drv`".to_owned(),
    })
}
