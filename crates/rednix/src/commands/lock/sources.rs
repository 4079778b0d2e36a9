//! Pins of a tree's sources: for every recipe the git revision with its tree's hash, or the tarball's hash, and
//! what the Cargo.lock files in it name.
//!
//! The lock's shape (JSON): `sources.<recipe>` = `{ type: "git", url, rev, narHash }` or `{ type: "tar", url,
//! sha256 }`, each with `cargo.<path of Cargo.lock>` = `{ crates: [[name, version, sha256]…], git: [{ name,
//! version, source }…] }`; `cargoGit.<source line>` = `{ narHash, packages: { <name>-<version>: subfolder } }`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rednix_events::Event;
use rednix_fetch::git::GitRequest;
use rednix_fetch::{FetchRequest, Fetcher};
use rednix_store::hash::HashAlgorithm;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::LockArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::project::{self, Project};
use crate::session::Session;

use super::write_whole;

/// The version of the lock's format.
const VERSION: u32 = 1;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lock {
    version: u32,
    sources: BTreeMap<String, Pin>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    cargo_git: BTreeMap<String, CargoGit>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pin {
    #[serde(flatten)]
    source: Source,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    cargo: BTreeMap<String, CargoLock>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rust_targets: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Source {
    Git {
        url: String,
        rev: String,
        nar_hash: String,
    },
    Tar {
        url: String,
        sha256: String,
    },
    /// Nothing of the source itself is pinned: it is a folder here, or another recipe's.
    Path,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct CargoLock {
    crates: Vec<(String, String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    git: Vec<GitPackage>,
}

#[derive(Debug, Serialize, Deserialize)]
struct GitPackage {
    name: String,
    version: String,
    source: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CargoGit {
    nar_hash: String,
    packages: BTreeMap<String, String>,
}

pub fn run(session: &Session, project: &Project, arguments: &LockArgs) -> Result<(), Failure> {
    let file = match (&arguments.output, &project.lock) {
        (Some(file), _) | (None, Some(file)) => file.clone(),
        (None, None) if arguments.tree.tree.is_some() => PathBuf::from("rednix.lock"),
        (None, None) => project.tree.join("rednix.lock"),
    };
    let mut lock = read(&file)?;
    let recipes = wanted_recipes(session, project, &arguments.names)?;
    let mut work = Work {
        session,
        fetcher: session.fetcher(),
        scratch: tempfile::tempdir_in(session.cache_folder("lock")?)?,
        date: arguments.date.as_ref().map(|day| format!("{day}T23:59:59Z")),
        lock: &mut lock,
        number: 0,
    };
    for (name, recipe) in &recipes {
        work.pin(name, recipe)?;
    }
    let text =
        compact(&serde_json::to_string_pretty(&lock).expect("a lock holds nothing JSON cannot")) + "\n";
    write_whole(&file, &text)
        .map_err(|e| Failure::failed(format!("cannot write `{}`: {e}", file.display())))?;
    session.view.finish();
    super::super::print(&format!("{}\n", file.display()))
}

/// Puts lists of texts on one line each: a lock has hundreds of crates, and a change of one should show as one.
fn compact(pretty: &str) -> String {
    let mut out = String::with_capacity(pretty.len());
    let mut lines = pretty.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        if line.trim_start() == "[" {
            while let Some(item) = lines.next_if(|next| next.trim_start().starts_with('"')) {
                out.push_str(item.trim_start());
                if item.ends_with(',') {
                    out.push(' ');
                }
            }
            if let Some(end) = lines.next_if(|next| next.trim_start().starts_with(']')) {
                out.push_str(end.trim_start());
            }
        }
        out.push('\n');
    }
    out.pop();
    out
}

fn read(file: &Path) -> Result<Lock, Failure> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Lock { version: VERSION, ..Lock::default() });
        }
        Err(e) => return Err(Failure::usage(format!("cannot read `{}`: {e}", file.display()))),
    };
    let lock: Lock = serde_json::from_str(&text).map_err(|e| {
        Failure::usage(format!("the lock `{}` is wrong: {e}", file.display()))
            .hint("delete it and lock again")
    })?;
    if lock.version > VERSION {
        return Err(Failure::usage(format!(
            "the lock `{}` has version {}; this rednix knows up to {VERSION}",
            file.display(),
            lock.version
        ))
        .hint("use a newer rednix"));
    }
    Ok(lock)
}

/// The recipes by name, as parsed. A system's name stands for every recipe its image needs.
fn wanted_recipes(
    session: &Session,
    project: &Project,
    names: &[String],
) -> Result<BTreeMap<String, Value>, Failure> {
    let list: Vec<String> = names.iter().map(|name| project::quote(name)).collect();
    let attribute = format!("cookbook.lockable [ {} ]", list.join(" "));
    let value = evaluation::json(session, &Target::attribute(project, &attribute))?;
    serde_json::from_value(value)
        .map_err(|e| Failure::failed(format!("the library's `lockable` is no set of recipes: {e}")))
}

struct Work<'w> {
    session: &'w Session,
    fetcher: Fetcher,
    scratch: tempfile::TempDir,
    date: Option<String>,
    lock: &'w mut Lock,
    number: usize,
}

impl Work<'_> {
    fn pin(&mut self, name: &str, recipe: &Value) -> Result<(), Failure> {
        let text = |key: &str| recipe["source"][key].as_str().map(str::to_owned);
        let (source, tree) = if let Some(url) = text("git") {
            let reference = text("rev").or_else(|| text("branch")).unwrap_or_else(|| "HEAD".to_owned());
            self.step(format!("pinning {name} from {url}"));
            let rev = self.fetcher.resolve_ref(&url, &reference, self.date.as_deref())?;
            let (tree, nar_hash) = self.git(&url, &rev)?;
            (Source::Git { url, rev, nar_hash }, tree)
        } else if let Some(url) = text("tar") {
            self.step(format!("pinning {name} from {url}"));
            self.tar(&url, text("blake3").as_deref())?
        } else {
            return Ok(());
        };
        let cargo = self.cargo_locks(&tree)?;
        let rust_targets = rust_targets(&tree);
        self.lock.sources.insert(name.to_owned(), Pin { source, cargo, rust_targets });
        Ok(())
    }

    /// Fetches a revision's tree; gives its folder and the hash of its NAR.
    fn git(&mut self, url: &str, rev: &str) -> Result<(PathBuf, String), Failure> {
        let tree = self.folder();
        let request = GitRequest { url: url.to_owned(), rev: rev.to_owned(), submodules: true };
        let fetched = self.fetcher.fetch_git(&request, &tree, self.session.events())?;
        Ok((tree, fetched.hash.to_sri()))
    }

    fn tar(&mut self, url: &str, blake3: Option<&str>) -> Result<(Source, PathBuf), Failure> {
        let folder = self.folder();
        std::fs::create_dir(&folder)?;
        let hash = match (self.known_tar(url), blake3) {
            (Some(hash), _) => Some(rednix_store::hash::Hash::parse_any(&hash, Some(HashAlgorithm::Sha256))?),
            (None, Some(hex)) => Some(rednix_store::hash::Hash::parse_any(hex, Some(HashAlgorithm::Blake3))?),
            (None, None) => None,
        };
        let request = FetchRequest {
            urls: vec![url.to_owned()],
            file_name: "source.tar".to_owned(),
            hash,
            size_bytes: None,
        };
        let file = self.fetcher.fetch(&request, &folder, self.session.events())?.path;
        let sha256 = rednix_store::store::hash_flat(&file, HashAlgorithm::Sha256)?;
        let tree = folder.join("tree");
        rednix_fetch::unpack(&serde_json::json!({ "formatVersion": 1, "src": file, "strip": 1 }), &tree)?;
        Ok((Source::Tar { url: url.to_owned(), sha256: sha256.to_hex() }, tree))
    }

    /// A pin that is there already is kept for the same URL: only what changed is asked for anew.
    fn known_tar(&self, wanted: &str) -> Option<String> {
        self.lock.sources.values().find_map(|pin| match &pin.source {
            Source::Tar { url, sha256 } if url == wanted => Some(sha256.clone()),
            _ => None,
        })
    }

    /// Every Cargo.lock of the tree, its Cargo git dependencies pinned.
    fn cargo_locks(&mut self, tree: &Path) -> Result<BTreeMap<String, CargoLock>, Failure> {
        let mut locks = BTreeMap::new();
        for relative in find_locks(tree)? {
            let text = std::fs::read_to_string(tree.join(&relative))?;
            let parsed: toml::Table = toml::from_str(&text).map_err(|e| {
                Failure::failed(format!("`{}` of the source is no TOML: {e}", relative.display()))
            })?;
            let lock = read_packages(&parsed);
            for package in &lock.git {
                self.pin_cargo_git(package)?;
            }
            locks.insert(relative.to_string_lossy().into_owned(), lock);
        }
        Ok(locks)
    }

    fn pin_cargo_git(&mut self, package: &GitPackage) -> Result<(), Failure> {
        let key = format!("{}-{}", package.name, package.version);
        if self.lock.cargo_git.get(&package.source).is_some_and(|pinned| pinned.packages.contains_key(&key)) {
            return Ok(());
        }
        let (url, rev) =
            package.source.strip_prefix("git+").and_then(|rest| rest.split_once('#')).ok_or_else(|| {
                Failure::failed(format!("`{}` of a Cargo.lock is no git source", package.source))
            })?;
        let url = url.split('?').next().expect("split gives at least one part");
        self.step(format!("pinning {} from {url}", package.name));
        let (tree, nar_hash) = self.git(url, rev)?;
        let subfolder = find_package(&tree, &package.name)?.ok_or_else(|| {
            Failure::failed(format!("the git source {url} at {rev} has no package `{}`", package.name))
        })?;
        let pinned = self.lock.cargo_git.entry(package.source.clone()).or_default();
        pinned.nar_hash = nar_hash;
        pinned.packages.insert(key, subfolder.to_string_lossy().into_owned());
        Ok(())
    }

    fn step(&self, what: String) {
        self.session.events().emit(Event::Step { what });
    }

    /// A fresh name below the scratch folder.
    fn folder(&mut self) -> PathBuf {
        self.number += 1;
        self.scratch.path().join(self.number.to_string())
    }
}

fn read_packages(lock: &toml::Table) -> CargoLock {
    let mut result = CargoLock::default();
    let packages = lock.get("package").and_then(|p| p.as_array()).map(Vec::as_slice).unwrap_or_default();
    for package in packages {
        let text = |key: &str| package.get(key).and_then(|v| v.as_str()).map(str::to_owned);
        match (text("name"), text("version"), text("source"), text("checksum")) {
            (Some(name), Some(version), Some(_), Some(checksum)) => {
                result.crates.push((name, version, checksum))
            }
            (Some(name), Some(version), Some(source), None) if source.starts_with("git+") => {
                result.git.push(GitPackage { name, version, source });
            }
            _ => {}
        }
    }
    result
}

/// Relative paths of the Cargo.lock files of a tree, sorted; folders of test data are deep, so not all deep ones.
fn find_locks(tree: &Path) -> Result<BTreeSet<PathBuf>, Failure> {
    const DEPTH_MAX: usize = 3;
    let mut found = BTreeSet::new();
    walk(tree, Path::new(""), DEPTH_MAX, &mut |relative| {
        if relative.file_name().is_some_and(|n| n == "Cargo.lock") {
            found.insert(relative.to_path_buf());
        }
    })?;
    Ok(found)
}

/// The folder of a tree whose Cargo.toml names the package.
fn find_package(tree: &Path, name: &str) -> Result<Option<PathBuf>, Failure> {
    const DEPTH_MAX: usize = 6;
    let mut manifests = BTreeSet::new();
    walk(tree, Path::new(""), DEPTH_MAX, &mut |relative| {
        if relative.file_name().is_some_and(|n| n == "Cargo.toml") {
            manifests.insert(relative.to_path_buf());
        }
    })?;
    Ok(manifests.into_iter().find_map(|manifest| {
        let text = std::fs::read_to_string(tree.join(&manifest)).ok()?;
        let table: toml::Table = toml::from_str(&text).ok()?;
        let package = table.get("package")?.get("name")?.as_str()?;
        (package == name).then(|| manifest.parent().unwrap_or(Path::new("")).to_path_buf())
    }))
}

fn rust_targets(tree: &Path) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(tree.join("rust-toolchain.toml")) else { return Vec::new() };
    let Ok(table) = toml::from_str::<toml::Table>(&text) else { return Vec::new() };
    let targets = table.get("toolchain").and_then(|t| t.get("targets")).and_then(|t| t.as_array());
    targets.into_iter().flatten().filter_map(|t| t.as_str().map(str::to_owned)).collect()
}

fn walk(root: &Path, relative: &Path, depth: usize, visit: &mut dyn FnMut(&Path)) -> Result<(), Failure> {
    for entry in std::fs::read_dir(root.join(relative))? {
        let entry = entry?;
        let path = relative.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 && entry.file_name() != "target" {
            walk(root, &path, depth - 1, visit)?;
        } else if kind.is_file() {
            visit(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_locks_are_the_same_data() {
        let lock = serde_json::json!({
            "sources": { "a": { "cargo": { "Cargo.lock": { "crates": [["x", "1.0", "00"], ["y", "2.0", "11"]], "git": [] } } } }
        });
        let text = compact(&serde_json::to_string_pretty(&lock).expect("it is JSON"));
        assert!(text.contains("[\"x\", \"1.0\", \"00\"],\n"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("it is still JSON"), lock);
    }

    #[test]
    fn packages_of_a_cargo_lock() {
        let text = "[[package]]\nname = \"own\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"a\"\nversion = \"2.0.0\"\n\
            source = \"registry+x\"\nchecksum = \"aa\"\n\n[[package]]\nname = \"g\"\nversion = \"3.0.0\"\nsource = \"git+u#r\"\n";
        let lock = read_packages(&toml::from_str(text).expect("it is TOML"));
        assert_eq!(lock.crates, [("a".to_owned(), "2.0.0".to_owned(), "aa".to_owned())]);
        assert_eq!((lock.git[0].name.as_str(), lock.git[0].source.as_str()), ("g", "git+u#r"));
    }
}
