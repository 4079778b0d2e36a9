//! Builtins that hash, and convert hashes.

use super::{Outcome, ready, value};
use crate::error::{EvalError, Result};
use crate::value::Value;
use crate::vm::Vm;
use rednix_store::hash::{Hash, HashAlgorithm};

fn algorithm(vm: &mut Vm, name: &[u8]) -> Result<HashAlgorithm> {
    let name = String::from_utf8_lossy(name);
    name.parse().map_err(|_| EvalError::evaluation(format!("unknown hash algorithm '{name}'")).at(vm.here()))
}

pub(super) fn hash_string(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let name = vm.want_plain_string(
        arguments[0],
        "while evaluating the first argument passed to builtins.hashString",
    )?;
    let algorithm = algorithm(vm, name)?;
    let text =
        vm.want_string(arguments[1], "while evaluating the second argument passed to builtins.hashString")?;
    let hash = Hash::of(algorithm, text).to_hex();
    value(vm.string(hash.as_bytes()))
}

pub(super) fn hash_file(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let name = vm
        .want_plain_string(arguments[0], "while evaluating the first argument passed to builtins.hashFile")?;
    algorithm(vm, name)?;
    super::paths::with_path(
        vm,
        arguments[1],
        "while realising the context of a path",
        [arguments[0]; 3],
        |vm, path, kept| {
            let algorithm = algorithm(vm, kept[0].as_bytes().unwrap_or_default())?;
            let bytes = vm.read_file(&path)?;
            let hash = Hash::of(algorithm, &bytes).to_hex();
            value(vm.string(hash.as_bytes()))
        },
    )
}

pub(super) fn convert_hash(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let set =
        vm.want_attrs(arguments[0], "while evaluating the first argument passed to builtins.convertHash")?;
    let symbols = vm.symbols;
    let hash = vm.want_attribute(set, symbols.hash, "while locating the attribute 'hash'")?.value.get();
    let hash = ready!(hash);
    let hash = vm.want_plain_string(hash, "while evaluating the attribute 'hash'")?;
    let hash = String::from_utf8_lossy(hash).into_owned();
    let mut wanted = None;
    if let Some(entry) = set.get(symbols.hash_algo) {
        let name = ready!(entry.value.get());
        let name = vm.want_plain_string(name, "while evaluating the attribute 'hashAlgo'")?;
        wanted = Some(algorithm(vm, name)?);
    }
    let format =
        vm.want_attribute(set, symbols.to_hash_format, "while locating the attribute 'toHashFormat'")?;
    let format = ready!(format.value.get());
    let format = vm.want_plain_string(format, "while evaluating the attribute 'toHashFormat'")?;
    let parsed = Hash::parse_any(&hash, wanted)
        .map_err(|error| EvalError::evaluation(error.to_string()).at(vm.here()))?;
    let text = match format {
        b"base16" => parsed.to_hex(),
        b"nix32" => parsed.to_nix32(),
        b"base32" => {
            vm.warn_once("\"base32\" is a deprecated alias for hash format \"nix32\".");
            parsed.to_nix32()
        }
        b"base64" => parsed.to_base64(),
        b"sri" => parsed.to_sri(),
        other => {
            let other = String::from_utf8_lossy(other);
            let message =
                format!("unknown hash format '{other}', expect 'base16', 'base32', 'base64', or 'sri'");
            return Err(EvalError::evaluation(message).at(vm.here()));
        }
    };
    value(vm.string(text.as_bytes()))
}

impl Vm {
    pub(crate) fn warn_once(&mut self, text: &'static str) {
        if self.warned_once.insert(text) {
            self.world.message(&format!("warning: {text}"));
        }
    }
}
