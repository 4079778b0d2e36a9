//! Placeholders for paths not yet known, and derivations with the real paths in their place.
//! Does not find out what was built; its callers say.

use std::collections::BTreeMap;

use super::{Derivation, derivation_name};
use crate::error::{Error, Result};
use crate::hash::{Hash, HashAlgorithm};
use crate::nix32;
use crate::path::{StorePath, output_name, scratch_path};

/// Stands for the derivation's own floating output inside its environment.
pub fn placeholder(output: &str) -> String {
    slash_digest(&format!("nix-output:{output}"))
}

/// Stands for a floating output of `derivation` inside derivations that use it.
pub fn upstream_placeholder(derivation: &StorePath, output: &str) -> String {
    let name = derivation.name().strip_suffix(".drv").unwrap_or(derivation.name());
    slash_digest(&format!("nix-upstream-output:{}:{}", derivation.hash_part(), output_name(name, output)))
}

fn slash_digest(text: &str) -> String {
    format!("/{}", nix32::encode(Hash::sha256(text.as_bytes()).digest()))
}

/// Where a floating output is put while it is built, until its contents give it its own path.
pub fn scratch_output_path(derivation: &StorePath, output: &str) -> Result<StorePath> {
    let kind = format!("rewrite:{}:name:{output}", derivation.basename());
    scratch_path(
        &kind,
        &Hash::zero(HashAlgorithm::Sha256),
        &output_name(derivation_name(derivation)?, output),
    )
}

/// The derivation with every input derivation replaced by the paths its outputs have in fact: placeholders
/// become those paths, deferred outputs get theirs. `None` where `built` does not know an output yet.
///
/// What is built under a resolved derivation is the same whichever derivations its inputs came from, which is
/// what stops a rebuild early.
pub fn resolve_inputs(
    derivation: &Derivation,
    built: &mut dyn FnMut(&StorePath, &str) -> Result<Option<StorePath>>,
) -> Result<Option<Derivation>> {
    let mut rewrites: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut resolved = derivation.clone();
    resolved.input_derivations.clear();
    for (path, outputs) in &derivation.input_derivations {
        for output in outputs {
            let Some(actual) = built(path, output)? else { return Ok(None) };
            rewrites.insert(upstream_placeholder(path, output).into_bytes(), actual.to_string().into_bytes());
            resolved.input_sources.insert(actual);
        }
    }
    resolved.builder = rewrite(&resolved.builder, &rewrites);
    for argument in &mut resolved.arguments {
        *argument = rewrite(argument, &rewrites);
    }
    resolved.environment = std::mem::take(&mut resolved.environment)
        .into_iter()
        .map(|(name, value)| (rewrite(&name, &rewrites), rewrite(&value, &rewrites)))
        .collect();
    if resolved.is_deferred() {
        resolved.fill_output_paths(&mut |input| Err(Error::NotValid { path: input.to_string() }))?;
    }
    Ok(Some(resolved))
}

/// Length of a placeholder: a slash and a SHA-256 in nix32.
const PLACEHOLDER_LEN: usize = 53;

/// Replaces placeholders, which all have the same length and begin with a slash.
fn rewrite(text: &[u8], rewrites: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(slash) = rest.iter().position(|byte| *byte == b'/') {
        result.extend_from_slice(&rest[..slash]);
        rest = &rest[slash..];
        match rest.get(..PLACEHOLDER_LEN).and_then(|candidate| rewrites.get(candidate)) {
            Some(actual) => {
                result.extend_from_slice(actual);
                rest = &rest[PLACEHOLDER_LEN..];
            }
            None => {
                result.push(b'/');
                rest = &rest[1..];
            }
        }
    }
    result.extend_from_slice(rest);
    result
}
