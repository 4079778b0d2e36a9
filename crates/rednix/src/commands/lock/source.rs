//! Pins one recipe's source: what it floats on is resolved, what it names is fetched and hashed, an override goes
//! before both. Cargo's side of it is elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rednix_fetch::git::GitRequest;
use rednix_fetch::{FetchRequest, Overrides, Replacement, overrides};
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::path::ContentMethod;
use serde::Deserialize;

use crate::failure::Failure;

use super::format::{Lock, Overridden, Pin, Source};
use super::tools::{Tools, store_name};

/// A recipe as the library hands it over for locking.
#[derive(Debug, Clone, Deserialize)]
pub struct Recipe {
    pub source: Wanted,
    /// The recipe's own folder, where its patches lie.
    pub folder: PathBuf,
}

/// The `[source]` of a recipe, as far as pins go.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    pub git: Option<String>,
    pub branch: Option<String>,
    pub rev: Option<String>,
    pub tar: Option<String>,
    pub blake3: Option<String>,
    pub path: Option<String>,
    pub patches: Vec<String>,
}

impl Wanted {
    /// What the user asks git for; none is the repository's default branch.
    fn reference(&self) -> Option<&str> {
        self.rev.as_deref().or(self.branch.as_deref())
    }

    fn url(&self) -> Option<&str> {
        self.git.as_deref().or(self.tar.as_deref())
    }
}

/// A source that was pinned.
pub struct Pinned {
    pub name: String,
    /// Without cargo's part where `tree` is given.
    pub pin: Pin,
    /// The source, to look into; none where an earlier pin was kept whole.
    pub tree: Option<PathBuf>,
    pub used: Vec<(String, Overridden)>,
}

/// The override of a recipe's source, with the key it is found by.
fn override_of<'o>(
    overrides: &'o Overrides,
    name: &str,
    wanted: &Wanted,
) -> Option<(String, &'o Replacement)> {
    if let Some(replacement) = overrides.of_recipe(name) {
        return Some((name.to_owned(), replacement));
    }
    let url = wanted.url()?;
    overrides.of_url(url).map(|replacement| (overrides::normalise(url), replacement))
}

/// Whether what the lock says of an override is still what is wanted. A folder is looked at each time.
pub fn is_same_override(lock: &Lock, overrides: &Overrides, key: &str) -> bool {
    match (overrides.get(key), lock.overrides.get(key)) {
        (None, None) => true,
        (Some(Replacement::Path(_)), _) => false,
        (Some(wanted), Some(locked)) => locked.by == wanted.pinned(),
        _ => false,
    }
}

/// Pins a source; none where the recipe has none that could be pinned.
pub fn pin(
    tools: &Tools,
    name: &str,
    recipe: &Recipe,
    lock: &Lock,
    renew: bool,
) -> Result<Option<Pinned>, Failure> {
    let wanted = &recipe.source;
    let patches = patches_hash(recipe)?;
    let pinned =
        if let Some((key, replacement)) = override_of(&tools.fetcher.config().overrides, name, wanted) {
            replaced(tools, name, wanted, &key, replacement)?
        } else if let Some(path) = &wanted.path {
            // Looked at each time: only what cargo needs with it is pinned.
            let tree = recipe.folder.join(path);
            Pinned { name: name.to_owned(), pin: pin_of(Source::Path), tree: Some(tree), used: Vec::new() }
        } else if let Some(old) = lock.sources.get(name).filter(|old| !renew && fits(&old.source, wanted)) {
            if holds(old, lock, &tools.fetcher.config().overrides) && old.patches == patches {
                return Ok(Some(Pinned {
                    name: name.to_owned(),
                    pin: old.clone(),
                    tree: None,
                    used: Vec::new(),
                }));
            }
            fetch(tools, name, wanted, Some(&old.source))?
        } else if wanted.url().is_some() {
            fetch(tools, name, wanted, None)?
        } else {
            return Ok(None);
        };
    Ok(Some(Pinned { pin: Pin { patches, ..pinned.pin }, ..pinned }))
}

fn pin_of(source: Source) -> Pin {
    Pin {
        source,
        submodules: BTreeMap::new(),
        patches: None,
        cargo: BTreeMap::new(),
        rust_targets: Vec::new(),
    }
}

/// Whether a pin is of what the recipe asks for.
fn fits(pinned: &Source, wanted: &Wanted) -> bool {
    match pinned {
        Source::Git { url, reference, rev, overridden, .. } => {
            let asked = wanted.reference();
            // Locks of the first version did not note what was asked for.
            let is_same = asked == reference.as_deref()
                || asked == Some(rev)
                || (reference.is_none() && asked.is_some_and(|a| rev.starts_with(a)));
            overridden.is_none() && wanted.git.as_ref() == Some(url) && is_same
        }
        Source::Tar { url, overridden, .. } => overridden.is_none() && wanted.tar.as_ref() == Some(url),
        Source::Path => false,
    }
}

/// Whether everything below a pin is still as the overrides want it.
fn holds(pin: &Pin, lock: &Lock, overrides: &Overrides) -> bool {
    let lines = pin.cargo.values().flat_map(|cargo| &cargo.git);
    let known = lines.clone().all(|package| {
        let key = format!("{}-{}", package.name, package.version);
        lock.cargo_git.get(&package.source).is_some_and(|git| git.packages.contains_key(&key))
    });
    let nested = lines.clone().filter_map(|package| lock.cargo_git.get(&package.source));
    let submodules = nested.flat_map(|git| git.submodules.keys()).chain(pin.submodules.keys()).cloned();
    let urls = lines.filter_map(|package| {
        rednix_fetch::cargo_lock::GitSource::parse(&package.source)
            .map(|source| overrides::normalise(source.url))
    });
    known && submodules.chain(urls).all(|key| is_same_override(lock, overrides, &key))
}

fn fetch(tools: &Tools, name: &str, wanted: &Wanted, old: Option<&Source>) -> Result<Pinned, Failure> {
    if let Some(url) = &wanted.tar {
        return fetch_tar(tools, name, url, wanted.blake3.as_deref(), old);
    }
    let url = wanted.git.as_deref().expect("only git and tar sources are fetched");
    let reference = wanted.reference();
    let rev = match old {
        Some(Source::Git { rev, .. }) => rev.clone(),
        _ => {
            tools.step(format!("pinning {name} from {url}"));
            // A revision the recipe names holds on every day.
            let date = tools.date.as_deref().filter(|_| wanted.rev.is_none());
            tools.fetcher.resolve_ref(url, reference.unwrap_or("HEAD"), date)?
        }
    };
    let reference = reference.filter(|reference| *reference != rev).map(str::to_owned);
    let (tree, nar_hash, submodules) = fetch_git(tools, url, &rev, &source_name(name))?;
    let used = used_submodules(tools, &submodules)?;
    let source = Source::Git { url: url.to_owned(), reference, rev, nar_hash, overridden: None };
    Ok(Pinned { name: name.to_owned(), pin: Pin { submodules, ..pin_of(source) }, tree: Some(tree), used })
}

fn source_name(name: &str) -> String {
    format!("{}-source", store_name(name))
}

/// Fetches a revision's tree into the store; gives its place, the hash of its NAR and its submodules.
pub fn fetch_git(
    tools: &Tools,
    url: &str,
    rev: &str,
    store_name: &str,
) -> Result<(PathBuf, String, BTreeMap<String, String>), Failure> {
    let request =
        GitRequest { url: url.to_owned(), rev: rev.to_owned(), submodules: true, overrides: BTreeMap::new() };
    let folder = tools.fresh();
    let fetched = tools.fetcher.fetch_git(&request, &folder, &tools.events)?;
    let tree = tools.keep_tree(&folder, store_name)?;
    Ok((tree, fetched.hash.to_sri(), fetched.submodules))
}

/// What the lock notes of submodules that an override replaced.
pub fn used_submodules(
    tools: &Tools,
    submodules: &BTreeMap<String, String>,
) -> Result<Vec<(String, Overridden)>, Failure> {
    let mut used = Vec::new();
    for (key, pinned) in submodules.iter().filter(|(_, pinned)| !rednix_fetch::git::is_rev(pinned)) {
        if let Some(replacement) = tools.fetcher.config().overrides.get(key) {
            used.push((key.clone(), overridden(replacement, None)?));
        }
        tools.notice(format!("submodule {key} is replaced by {pinned}"));
    }
    Ok(used)
}

/// An override as the lock notes it.
pub fn overridden(replacement: &Replacement, nar_hash: Option<String>) -> Result<Overridden, Failure> {
    let Replacement::Path(path) = replacement else {
        return Ok(Overridden { by: replacement.pinned(), nar_hash, sha256: None });
    };
    let hash = overrides::hash_local(path)?;
    Ok(match path.is_file() {
        true => Overridden { by: "file".to_owned(), nar_hash: None, sha256: Some(hash.to_hex()) },
        false => Overridden { by: "folder".to_owned(), nar_hash: Some(hash.to_sri()), sha256: None },
    })
}

fn fetch_tar(
    tools: &Tools,
    name: &str,
    url: &str,
    blake3: Option<&str>,
    old: Option<&Source>,
) -> Result<Pinned, Failure> {
    let store_name = format!("{}.tar", source_name(name));
    let known = match old {
        Some(Source::Tar { sha256, .. }) => Some(sha256.as_str()),
        _ => None,
    };
    let file = match known.and_then(|sha256| tools.kept(ContentMethod::Flat, sha256, &store_name)) {
        Some(file) => file,
        None => {
            tools.step(format!("pinning {name} from {url}"));
            let folder = tools.folder()?;
            let hash = match (known, blake3) {
                (Some(hex), _) => Some(Hash::parse_any(hex, Some(HashAlgorithm::Sha256))?),
                (None, Some(hex)) => Some(Hash::parse_any(hex, Some(HashAlgorithm::Blake3))?),
                (None, None) => None,
            };
            if hash.is_none() && !url.starts_with("recipe:") {
                tools.warn(format!("recipe {name} names no hash for {url}; what came is pinned as it is"));
            }
            let request = FetchRequest {
                urls: vec![url.to_owned()],
                file_name: "source.tar".to_owned(),
                hash,
                size_bytes: None,
            };
            let file = tools.fetcher.fetch(&request, &folder, &tools.events)?.path;
            tools.keep_file(&file, &store_name)?
        }
    };
    let sha256 = rednix_store::store::hash_flat(&file, HashAlgorithm::Sha256)?.to_hex();
    let tree = unpacked(tools, &file, 1)?;
    let source = Source::Tar { url: url.to_owned(), sha256, overridden: None };
    Ok(Pinned { name: name.to_owned(), pin: pin_of(source), tree: Some(tree), used: Vec::new() })
}

/// An archive's contents without so many leading folders.
pub fn unpacked(tools: &Tools, file: &Path, strip: usize) -> Result<PathBuf, Failure> {
    let tree = tools.fresh();
    rednix_fetch::unpack(&serde_json::json!({ "formatVersion": 1, "src": file, "strip": strip }), &tree)?;
    Ok(tree)
}

fn replaced(
    tools: &Tools,
    name: &str,
    wanted: &Wanted,
    key: &str,
    replacement: &Replacement,
) -> Result<Pinned, Failure> {
    tools.notice(format!("the source of {name} is replaced by {replacement}"));
    let url = if key == name { format!("recipe:{name}") } else { wanted.url().unwrap_or(key).to_owned() };
    let mut pinned = match replacement {
        Replacement::Path(path) if path.is_file() && wanted.tar.is_some() => {
            // The recipe's own hash is that of what is replaced.
            fetch_tar(tools, name, &url, None, None)?
        }
        Replacement::Git { url: other, reference } => {
            let url = other.as_deref().or(wanted.git.as_deref()).ok_or_else(|| {
                Failure::usage(format!("the override of `{key}` names a revision, but no repository"))
                    .hint("write it as git+URL#REV")
            })?;
            let rev = tools.fetcher.resolve_ref(url, reference, None)?;
            let (tree, nar_hash, submodules) = fetch_git(tools, url, &rev, &source_name(name))?;
            let used = used_submodules(tools, &submodules)?;
            let source = Source::Git {
                url: url.to_owned(),
                reference: Some(reference.clone()).filter(|r| *r != rev),
                rev,
                nar_hash,
                overridden: None,
            };
            Pinned {
                name: name.to_owned(),
                pin: Pin { submodules, ..pin_of(source) },
                tree: Some(tree),
                used,
            }
        }
        other => {
            let rev = other.pinned();
            let (tree, nar_hash, _) = fetch_git(tools, &url, &rev, &source_name(name))?;
            let source = Source::Git { url, reference: None, rev, nar_hash, overridden: None };
            Pinned { name: name.to_owned(), pin: pin_of(source), tree: Some(tree), used: Vec::new() }
        }
    };
    let hash = match &mut pinned.pin.source {
        Source::Git { overridden, nar_hash, .. } => {
            *overridden = Some(key.to_owned());
            Some(nar_hash.clone())
        }
        Source::Tar { overridden, .. } => {
            *overridden = Some(key.to_owned());
            None
        }
        Source::Path => None,
    };
    pinned.used.push((key.to_owned(), overridden(replacement, hash)?));
    Ok(pinned)
}

/// The hash over a recipe's patches, where they change what cargo reads; else nothing of them matters here.
fn patches_hash(recipe: &Recipe) -> Result<Option<String>, Failure> {
    let mut hasher = rednix_store::hash::Hasher::new(HashAlgorithm::Sha256);
    let mut matters = false;
    for patch in patch_files(recipe) {
        let text = std::fs::read(&patch)
            .map_err(|e| Failure::usage(format!("cannot read the patch `{}`: {e}", patch.display())))?;
        matters |= changes_cargo(&text);
        hasher.update(&text);
    }
    Ok(matters.then(|| hasher.finish().to_hex()))
}

/// The recipe's patches, in order.
pub fn patch_files(recipe: &Recipe) -> impl Iterator<Item = PathBuf> {
    recipe.source.patches.iter().map(|patch| recipe.folder.join(patch))
}

/// Whether a patch touches a Cargo.toml or Cargo.lock.
fn changes_cargo(patch: &[u8]) -> bool {
    String::from_utf8_lossy(patch).lines().any(|line| {
        line.strip_prefix("+++ ").is_some_and(|file| {
            let path = Path::new(file.split('\t').next().unwrap_or_default().trim_end());
            path.file_name().is_some_and(|name| name == "Cargo.toml" || name == "Cargo.lock")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_that_matter_to_cargo() {
        assert!(changes_cargo(b"--- a/x/Cargo.lock\n+++ b/x/Cargo.lock\n@@ -1 +1 @@\n"));
        assert!(changes_cargo(b"+++ b/Cargo.toml\t2026-01-01\n"));
        assert!(!changes_cargo(b"+++ b/src/Cargo.rs\n+ Cargo.toml\n"));
    }

    #[test]
    fn pins_fit_what_is_asked_for() {
        let pin = |reference: Option<&str>| Source::Git {
            url: "u".to_owned(),
            reference: reference.map(str::to_owned),
            rev: "abcdef".to_owned(),
            nar_hash: String::new(),
            overridden: None,
        };
        let wanted = |rev: Option<&str>, branch: Option<&str>| Wanted {
            git: Some("u".to_owned()),
            rev: rev.map(str::to_owned),
            branch: branch.map(str::to_owned),
            ..Wanted::default()
        };
        assert!(fits(&pin(None), &wanted(None, None)));
        assert!(fits(&pin(None), &wanted(Some("abcdef"), None)));
        assert!(fits(&pin(None), &wanted(Some("abc"), None)));
        assert!(fits(&pin(Some("v1")), &wanted(Some("v1"), None)));
        assert!(!fits(&pin(Some("v1")), &wanted(Some("v2"), None)));
        assert!(!fits(&pin(None), &wanted(None, Some("dev"))));
        assert!(!fits(&pin(Some("dev")), &wanted(None, None)));
        let tar = Wanted { tar: Some("u".to_owned()), ..Wanted::default() };
        assert!(!fits(&pin(None), &tar));
    }
}
