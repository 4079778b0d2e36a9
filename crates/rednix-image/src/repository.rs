//! A package repository in upstream's format: archives, a description of each, a list of all, and the public key.
//! It builds and serves nothing.
//!
//! ```text
//! id_ed25519.pub.toml
//! <target>/repo.toml         build_id, packages = { name = hash }
//! <target>/<name>.toml       what the package is and needs
//! <target>/<name>.pkgar      its files; meta packages have none
//! ```
//!
//! Descriptions hold nothing that changes from day to day: the same packages and key give the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::limits::{CARGO_TOML_SIZE_MAX, CONFIG_SIZE_MAX};
use crate::manifest::hex;
use crate::pkgar::{Contents, PublicKey, SecretKey, write_archive};

/// Name of the file with the public key.
pub const KEY_NAME: &str = "id_ed25519.pub.toml";
/// Name of the list, which no package may have.
const INDEX_NAME: &str = "repo.toml";
/// In place of the recipe tree's commit and the time of the build, which say nothing about a package.
const COMMIT: &str = "0000000000000000000000000000000000000000";
const TIME: &str = "1980-01-01T00:00:00Z";

/// One package to publish.
#[derive(Debug)]
pub struct Publication<'a> {
    pub name: &'a str,
    /// Empty for meta packages.
    pub version: String,
    /// The revision or hash its source is pinned to; may be empty.
    pub source: String,
    pub depends: Vec<String>,
    /// None for meta packages.
    pub contents: Option<&'a Contents>,
}

#[derive(Serialize)]
struct Description<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    blake3: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    source_identifier: &'a str,
    commit_identifier: &'a str,
    time_identifier: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    storage_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    network_size: u64,
    depends: &'a [String],
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize)]
struct Index {
    build_id: String,
    packages: BTreeMap<String, String>,
    outdated_packages: BTreeMap<String, String>,
}

/// A name for exactly these packages: 40 hex digits of a hash over names and hashes, in the order given.
pub fn build_id<'a>(packages: impl Iterator<Item = (&'a str, &'a [u8; 32])>) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("rednix build id, version 1");
    for (name, hash) in packages {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(hash);
    }
    hex(&hasher.finalize().as_bytes()[..20])
}

/// Writes packages into a repository, which may exist and then keeps its others. A file is there whole or as it was.
pub fn publish(folder: &Path, target: &str, key: &SecretKey, packages: &[Publication<'_>]) -> Result<()> {
    check_key(folder, key.public())?;
    let place = folder.join(target);
    fs::create_dir_all(&place).map_err(Error::io("create", &place))?;
    let key_file = folder.join(KEY_NAME);
    write_whole(&key_file, key.public().to_toml().as_bytes())?;
    for package in packages {
        let archive = place.join(format!("{}.pkgar", package.name));
        if let Some(contents) = package.contents {
            let scratch = place.join(format!(".{}.pkgar.part", package.name));
            write_archive(contents, key, &scratch)?;
            fs::rename(&scratch, &archive).map_err(Error::io("rename", &scratch))?;
        }
        let size = package.contents.map_or(0, |contents| contents.head.archive_size());
        let description = Description {
            name: package.name,
            version: &package.version,
            target,
            blake3: package.contents.map(|contents| contents.head.hash_hex()).unwrap_or_default(),
            source_identifier: &package.source,
            commit_identifier: COMMIT,
            time_identifier: TIME,
            storage_size: size,
            network_size: size,
            depends: &package.depends,
        };
        let text = toml::to_string(&description).expect("a description is texts and numbers");
        write_whole(&place.join(format!("{}.toml", package.name)), text.as_bytes())?;
    }
    write_index(&place)
}

/// One repository has one key: what was signed with another would no longer verify.
fn check_key(folder: &Path, key: PublicKey) -> Result<()> {
    let file = folder.join(KEY_NAME);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", &file)(error)),
    };
    if PublicKey::from_toml(&text)? == key {
        return Ok(());
    }
    Err(Error::malformed(
        "repository",
        format!(
            "the packages in `{}` are signed with another key\n\nhint: name that key with `--key`, or write to another folder",
            folder.display()
        ),
    ))
}

/// Lists what the folder holds, by hash, or by version for what has no archive.
fn write_index(place: &Path) -> Result<()> {
    #[derive(Deserialize)]
    struct Found {
        #[serde(default)]
        version: String,
        #[serde(default)]
        blake3: String,
    }
    let mut packages = BTreeMap::new();
    for item in fs::read_dir(place).map_err(Error::io("list", place))? {
        let path = item.map_err(Error::io("list", place))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".toml")) else {
            continue;
        };
        if path.file_name().is_some_and(|name| name == INDEX_NAME) || name.starts_with('.') {
            continue;
        }
        let text = read_bounded(&path, CONFIG_SIZE_MAX)?;
        let found: Found = toml::from_str(&text).map_err(|error| Error::ConfigFile {
            path: path.clone(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        packages.insert(name.to_owned(), if found.blake3.is_empty() { found.version } else { found.blake3 });
    }
    let hashes: Vec<(&str, [u8; 32])> = packages
        .iter()
        .map(|(name, hash)| (name.as_str(), *blake3::hash(hash.as_bytes()).as_bytes()))
        .collect();
    let build_id = build_id(hashes.iter().map(|(name, hash)| (*name, hash)));
    let index = Index { build_id, packages, outdated_packages: BTreeMap::new() };
    let text = toml::to_string(&index).expect("an index is tables of texts");
    write_whole(&place.join(INDEX_NAME), text.as_bytes())
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    let scratch = path.with_file_name(format!(".{name}.part"));
    fs::File::create(&scratch)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&scratch, path))
        .map_err(Error::io("write", path))
}

fn read_bounded(path: &Path, size_max: u64) -> Result<String> {
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(size_max).read_to_string(&mut text))
        .map_err(Error::io("read", path))?;
    Ok(text)
}

/// The version of a package, as upstream guesses it: the one its recipe states, else the first number with dots in
/// one of `texts` (the tar's URL; or revision, then branch), else the one in its source's Cargo.toml, else `TODO`.
pub fn version(stated: Option<&str>, texts: &[&str], source: Option<&Path>) -> String {
    stated
        .map(str::to_owned)
        .or_else(|| texts.iter().find_map(|text| version_in(text)))
        .or_else(|| {
            let file = source?.join("Cargo.toml");
            cargo_version(&read_bounded(&file, CARGO_TOML_SIZE_MAX).ok()?)
        })
        .unwrap_or_else(|| "TODO".to_owned())
}

/// The first two or three numbers with dots between them.
pub fn version_in(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = 0;
    while at < bytes.len() {
        let first = digits(at);
        if first == 0 {
            at += 1;
            continue;
        }
        let mut end = at + first;
        for _ in 0..2 {
            match bytes.get(end) {
                Some(b'.') if digits(end + 1) > 0 => end += 1 + digits(end + 1),
                _ => break,
            }
        }
        if end > at + first {
            return Some(text[at..end].to_owned());
        }
        at = end;
    }
    None
}

fn cargo_version(manifest: &str) -> Option<String> {
    let manifest: toml::Table = manifest.parse().ok()?;
    let of = |table: Option<&toml::Value>| table?.get("package")?.get("version")?.as_str().map(str::to_owned);
    of(Some(&toml::Value::Table(manifest.clone()))).or_else(|| of(manifest.get("workspace")))
}

#[cfg(test)]
#[path = "repository_tests.rs"]
mod tests;
