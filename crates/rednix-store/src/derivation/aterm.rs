//! The ATerm text of derivations: a parser that accepts what the peer writes and a writer that writes the same
//! bytes. Knows no hashing beyond spelling hashes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Derivation, Output};
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::limits::DERIVATION_BYTES_MAX;
use crate::path::{ContentMethod, STORE_DIR, StorePath, check_name};

/// Writes a derivation. `masked` blanks output paths and the variables named like outputs; `inputs` replaces
/// the input derivations.
pub(super) fn write(
    derivation: &Derivation,
    masked: bool,
    inputs: Option<&[(&str, &BTreeSet<String>)]>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(estimate(derivation));
    out.extend_from_slice(b"Derive([");
    separated(&mut out, &derivation.outputs, |out, (name, output)| {
        let (path, method, hash) = output_fields(output, masked);
        out.push(b'(');
        separated(out, [name, &path, &method, &hash], |out, text| string(out, text.as_bytes()));
        out.push(b')');
    });
    out.extend_from_slice(b"],[");
    match inputs {
        Some(inputs) => separated(&mut out, inputs, |out, (hash, outputs)| input(out, hash, outputs)),
        None => separated(&mut out, &derivation.input_derivations, |out, (path, outputs)| {
            out.push(b'(');
            store_path(out, path);
            rest_of_input(out, outputs);
        }),
    }
    out.extend_from_slice(b"],[");
    separated(&mut out, &derivation.input_sources, store_path);
    out.extend_from_slice(b"],");
    string(&mut out, &derivation.system);
    out.push(b',');
    string(&mut out, &derivation.builder);
    out.extend_from_slice(b",[");
    separated(&mut out, &derivation.arguments, |out, argument| string(out, argument));
    out.extend_from_slice(b"],[");
    separated(&mut out, &derivation.environment, |out, (name, value)| {
        let is_output = || std::str::from_utf8(name).is_ok_and(|name| derivation.outputs.contains_key(name));
        out.push(b'(');
        string(out, name);
        out.push(b',');
        string(out, if masked && is_output() { b"" } else { value });
        out.push(b')');
    });
    out.extend_from_slice(b"])");
    out
}

/// Roughly the length of the text, so that it is allocated once.
fn estimate(derivation: &Derivation) -> usize {
    let variables: usize =
        derivation.environment.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let arguments: usize = derivation.arguments.iter().map(|argument| argument.len() + 8).sum();
    let paths =
        derivation.input_derivations.len() + derivation.input_sources.len() + derivation.outputs.len();
    (variables + arguments) * 9 / 8 + paths * 160 + 64
}

fn output_fields(output: &Output, masked: bool) -> (String, String, String) {
    let path = match output.path() {
        Some(path) if !masked => path.to_string(),
        _ => String::new(),
    };
    match output {
        Output::InputAddressed(_) | Output::Deferred => (path, String::new(), String::new()),
        Output::Fixed { method, hash, .. } => {
            (path, format!("{}{}", method.prefix(), hash.algorithm()), hash.to_hex())
        }
        Output::Floating { method, algorithm } => {
            (path, format!("{}{algorithm}", method.prefix()), String::new())
        }
    }
}

fn separated<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

fn input(out: &mut Vec<u8>, key: &str, outputs: &BTreeSet<String>) {
    out.push(b'(');
    string(out, key.as_bytes());
    rest_of_input(out, outputs);
}

/// No byte of a path needs an escape.
fn store_path(out: &mut Vec<u8>, path: &StorePath) {
    out.push(b'"');
    out.extend_from_slice(STORE_DIR.as_bytes());
    out.push(b'/');
    out.extend_from_slice(path.basename().as_bytes());
    out.push(b'"');
}

fn rest_of_input(out: &mut Vec<u8>, outputs: &BTreeSet<String>) {
    out.extend_from_slice(b",[");
    separated(out, outputs, |out, output| string(out, output.as_bytes()));
    out.extend_from_slice(b"])");
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut plain_from = 0;
    for (index, byte) in text.iter().enumerate() {
        let escape = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            _ => continue,
        };
        out.extend_from_slice(&text[plain_from..index]);
        out.extend_from_slice(&[b'\\', escape]);
        plain_from = index + 1;
    }
    out.extend_from_slice(&text[plain_from..]);
    out.push(b'"');
}

/// Reads a whole `.drv` text.
pub(super) fn parse(name: &str, text: &[u8]) -> Result<Derivation> {
    check_name(name)?;
    let mut parser = Parser { name, text, offset: 0 };
    if text.len() > DERIVATION_BYTES_MAX {
        return Err(parser.fault(format!("it has more than {DERIVATION_BYTES_MAX} bytes")));
    }
    if text.starts_with(b"DrvWithVersion(") {
        return Err(parser.fault("dynamic derivations are not supported"));
    }
    parser.expect(b"Derive(")?;
    let derivation = parser.body()?;
    parser.expect(b")")?;
    if parser.offset != text.len() {
        return Err(parser.fault("there is text after its end"));
    }
    Ok(derivation)
}

struct Parser<'a> {
    name: &'a str,
    text: &'a [u8],
    offset: usize,
}

impl Parser<'_> {
    fn fault(&self, reason: impl Into<String>) -> Error {
        Error::BadDerivation { name: self.name.to_owned(), offset: self.offset, reason: reason.into() }
    }

    fn expect(&mut self, literal: &[u8]) -> Result<()> {
        if !self.text[self.offset..].starts_with(literal) {
            return Err(self.fault(format!("expected `{}`", literal.escape_ascii())));
        }
        self.offset += literal.len();
        Ok(())
    }

    fn body(&mut self) -> Result<Derivation> {
        let mut derivation = Derivation::new(self.name, "", "");
        let mut outputs = BTreeMap::new();
        self.list(|parser| {
            let (name, output) = parser.output()?;
            parser.insert(&mut outputs, name, output)
        })?;
        derivation.outputs = outputs;
        self.expect(b",")?;
        let mut inputs = BTreeMap::new();
        self.list(|parser| {
            let (path, names) = parser.input()?;
            parser.insert(&mut inputs, path, names)
        })?;
        derivation.input_derivations = inputs;
        self.expect(b",")?;
        let mut sources = BTreeSet::new();
        self.list(|parser| {
            sources.insert(parser.store_path()?);
            Ok(())
        })?;
        derivation.input_sources = sources;
        self.expect(b",")?;
        derivation.system = self.bytes()?;
        self.expect(b",")?;
        derivation.builder = self.bytes()?;
        self.expect(b",")?;
        let mut arguments = Vec::new();
        self.list(|parser| {
            arguments.push(parser.bytes()?);
            Ok(())
        })?;
        derivation.arguments = arguments;
        self.expect(b",")?;
        let mut environment = BTreeMap::new();
        self.list(|parser| {
            parser.expect(b"(")?;
            let name = parser.bytes()?;
            parser.expect(b",")?;
            let value = parser.bytes()?;
            parser.expect(b")")?;
            parser.insert(&mut environment, name, value)
        })?;
        derivation.environment = environment;
        Ok(derivation)
    }

    /// A key that comes twice would be lost when the text is written again.
    fn insert<K: Ord, V>(&self, map: &mut BTreeMap<K, V>, key: K, value: V) -> Result<()> {
        match map.insert(key, value) {
            None => Ok(()),
            Some(_) => Err(self.fault("the same name stands here twice")),
        }
    }

    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.expect(b"[")?;
        if self.text.get(self.offset) == Some(&b']') {
            self.offset += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            match self.text.get(self.offset) {
                Some(b',') => self.offset += 1,
                Some(b']') => {
                    self.offset += 1;
                    return Ok(());
                }
                _ => return Err(self.fault("expected `,` or `]`")),
            }
        }
    }

    fn bytes(&mut self) -> Result<Vec<u8>> {
        self.expect(b"\"")?;
        let mut value = Vec::new();
        loop {
            let rest = &self.text[self.offset..];
            let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            let Some(plain) = plain else { return Err(self.fault("a string has no end")) };
            value.extend_from_slice(&rest[..plain]);
            self.offset += plain + 1;
            if rest[plain] == b'"' {
                return Ok(value);
            }
            let Some(escaped) = rest.get(plain + 1) else {
                return Err(self.fault("a string has no end"));
            };
            value.push(match escaped {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other => *other,
            });
            self.offset += 1;
        }
    }

    fn utf8(&mut self) -> Result<String> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes).map_err(|_| self.fault("this string must be UTF-8"))
    }

    fn store_path(&mut self) -> Result<StorePath> {
        let text = self.utf8()?;
        StorePath::parse(&text).map_err(|error| self.fault(error.to_string()))
    }

    fn output_name(&mut self) -> Result<String> {
        let name = self.utf8()?;
        check_name(&name).map_err(|error| self.fault(error.to_string()))?;
        Ok(name)
    }

    fn input(&mut self) -> Result<(StorePath, BTreeSet<String>)> {
        self.expect(b"(")?;
        let path = self.store_path()?;
        if !path.is_derivation() {
            return Err(self.fault(format!("the input `{path}` is not a derivation")));
        }
        self.expect(b",")?;
        let mut outputs = BTreeSet::new();
        self.list(|parser| {
            outputs.insert(parser.output_name()?);
            Ok(())
        })?;
        self.expect(b")")?;
        Ok((path, outputs))
    }

    fn output(&mut self) -> Result<(String, Output)> {
        self.expect(b"(")?;
        let name = self.output_name()?;
        self.expect(b",")?;
        let path = self.utf8()?;
        self.expect(b",")?;
        let algorithm = self.utf8()?;
        self.expect(b",")?;
        let hash = self.utf8()?;
        self.expect(b")")?;
        let output = self.interpret_output(&path, &algorithm, &hash).map_err(|error| match error {
            Error::BadDerivation { .. } => error,
            other => self.fault(other.to_string()),
        })?;
        Ok((name, output))
    }

    fn interpret_output(&self, path: &str, algorithm: &str, hash: &str) -> Result<Output> {
        if algorithm.is_empty() {
            return match (path, hash) {
                (_, hash) if !hash.is_empty() => Err(self.fault("an output has a hash but no algorithm")),
                ("", _) => Ok(Output::Deferred),
                (path, _) => Ok(Output::InputAddressed(StorePath::parse(path)?)),
            };
        }
        let (method, algorithm) = ContentMethod::parse_with_algorithm(algorithm)?;
        match (path, hash) {
            ("", "") => Ok(Output::Floating { method, algorithm }),
            (_, "") => Err(self.fault("a floating output cannot have a path")),
            (_, "impure") => Err(self.fault("impure derivations are not supported")),
            (path, hash) if hash.len() == algorithm.size() * 2 && hash == hash.to_ascii_lowercase() => {
                let hash = Hash::parse_any(hash, Some(algorithm))?;
                Ok(Output::Fixed { method, hash, path: StorePath::parse(path)? })
            }
            _ => Err(self.fault(format!("`{hash}` is not a {algorithm} hash in lower-case hex"))),
        }
    }
}
