//! `fetchurl` and `fetchTarball`: a file, or an archive's contents, from an address.
//!
//! What is downloaded, and whether it has to be, is the world's business.

use super::paths::base_name;
use super::{Outcome, ready, value};
use crate::error::{EvalError, Result};
use crate::value::{Value, entries};
use crate::vm::Vm;
use crate::world::FileRequest;
use rednix_store::hash::{Hash, HashAlgorithm};

/// Whether an entry of the search path, or what `fetchTarball` was given, is an address and no path.
pub(crate) fn is_address(text: &[u8]) -> bool {
    if text.starts_with(b"channel:") || text.starts_with(b"flake:") {
        return true;
    }
    let Some(end) = memchr::memmem::find(text, b"://") else { return false };
    [b"http".as_slice(), b"https", b"file", b"channel", b"git", b"s3", b"ssh"].contains(&&text[..end])
}

pub(super) fn fetch_url(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    fetch(vm, arguments[0], "fetchurl", false)
}

pub(super) fn fetch_tarball(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    fetch(vm, arguments[0], "fetchTarball", true)
}

fn fetch(vm: &mut Vm, argument: Value, who: &str, unpack: bool) -> Result<Outcome> {
    let (mut url, mut expected, mut given) = (None, None, None);
    let is_set = matches!(argument, Value::Attrs(_));
    if let Value::Attrs(set) = argument {
        for entry in entries(&mut vm.heap, set) {
            let name = vm.text_of(entry.name);
            if !["url", "sha256", "name"].contains(&name.as_str()) {
                return Err(refuse(vm, format!("unsupported argument '{name}' to '{who}'")));
            }
            let computed = ready!(entry.value.get());
            let context = match name.as_str() {
                "url" => "while evaluating the url we should fetch",
                "sha256" => "while evaluating the sha256 of the content we should fetch",
                _ => "while evaluating the name of the content we should fetch",
            };
            let bytes = vm.want_plain_string(computed, context)?;
            let text = String::from_utf8_lossy(bytes).into_owned();
            match name.as_str() {
                "url" => url = Some(text),
                "sha256" => expected = Some(vm.parse_hash(text.as_bytes(), Some(HashAlgorithm::Sha256))?),
                _ => given = Some(text),
            }
        }
    } else {
        let bytes = vm.want_plain_string(argument, "while evaluating the url we should fetch")?;
        url = Some(String::from_utf8_lossy(bytes).into_owned());
    }
    let Some(url) = url else { return Err(refuse(vm, "'url' argument required".to_owned())) };
    let name = match &given {
        Some(name) if !name.is_empty() => name.clone(),
        _ if unpack && given.is_none() => "source".to_owned(),
        _ => String::from_utf8_lossy(base_name(url.as_bytes())).into_owned(),
    };
    check_name(vm, &url, &name, who, given.is_some(), is_set)?;
    if vm.settings.pure && expected.is_none() {
        let message = format!("in pure evaluation mode, '{who}' requires a 'sha256' argument");
        return Err(refuse(vm, message));
    }
    download(vm, &FileRequest { url: &url, name: &name, unpack, expected: expected.as_ref() })
}

fn download(vm: &mut Vm, request: &FileRequest<'_>) -> Result<Outcome> {
    let path = vm.world.fetch_file(request).map_err(|error| vm.world_error(&error))?;
    value(vm.store_path_string(path))
}

fn refuse(vm: &Vm, message: String) -> Box<EvalError> {
    EvalError::evaluation(message).at(vm.here())
}

fn check_name(vm: &Vm, url: &str, name: &str, who: &str, given: bool, is_set: bool) -> Result<()> {
    let Err(error) = rednix_store::path::check_name(name) else { return Ok(()) };
    let advice = if given {
        format!(
            "Please change the value for the 'name' attribute passed to '{who}', so that it can create a valid store path."
        )
    } else if is_set {
        format!(
            "Please add a valid 'name' attribute to the argument for '{who}', so that it can create a valid store path."
        )
    } else {
        format!(
            "Please pass an attribute set with 'url' and 'name' attributes to '{who}',  so that it can create a valid store path."
        )
    };
    Err(refuse(vm, format!("invalid store path name when fetching URL '{url}': {error}. {advice}")))
}

/// The error of a world whose download has another hash than the one wanted.
pub fn hash_mismatch(url: &str, specified: &Hash, got: &Hash) -> String {
    let show = |hash: &Hash| format!("{}:{}", hash.algorithm(), hash.to_nix32());
    format!(
        "hash mismatch in file downloaded from '{url}':\n  specified: {}\n  got:       {}",
        show(specified),
        show(got)
    )
}
