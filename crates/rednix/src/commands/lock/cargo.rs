//! What Cargo needs with the pinned sources: the crates their Cargo.lock files name, the trees of git dependencies,
//! and changed Cargo.lock files where an override brings another version. Resolving is cargo's own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use rednix_fetch::cargo_lock::{self, GitSource, Placed};
use rednix_fetch::{Replacement, overrides};
use rednix_store::path::ContentMethod;

use crate::failure::Failure;

use super::format::{CargoGit, CargoLock, GitPackage, Lock, Overridden};
use super::source::{self, Pinned, Recipe};
use super::tools::{Tools, store_name};

/// A source that was looked into.
pub struct Looked {
    pub pinned: Pinned,
    /// The tree with the recipe's patches where they matter to cargo; a scratch copy then.
    tree: PathBuf,
    /// Every Cargo.lock by its path in the tree.
    pub locks: BTreeMap<String, cargo_lock::CargoLock>,
    /// The text of the source's Cargo.lock where it had none.
    generated: Option<String>,
}

const OWN: &str = "Cargo.lock";

/// Reads a source's Cargo.lock files, after the recipe's patches.
pub fn look(tools: &Tools, pinned: Pinned, recipe: &Recipe) -> Result<Looked, Failure> {
    let Some(source) = pinned.tree.clone() else {
        return Ok(Looked { pinned, tree: PathBuf::new(), locks: BTreeMap::new(), generated: None });
    };
    let is_patched = pinned.pin.patches.is_some() && !pinned.pin.source.is_folder();
    let mut tree = if is_patched { patched(tools, &source, recipe)? } else { source };
    let mut generated = None;
    if tree.join("Cargo.toml").exists() && !tree.join(OWN).exists() {
        let copy = writable_copy(tools, &tree)?;
        tools.step(format!("resolving the dependencies of {}, which has no Cargo.lock", pinned.name));
        match cargo_lock::generate(&tools.fetcher, &copy, &tools.folder()?) {
            Ok(text) => {
                generated = Some(text);
                tree = copy;
            }
            // Not everything with a Cargo.toml is built by cargo.
            Err(error) => {
                tools.warn(format!("{} has no Cargo.lock, and none can be made: {error}", pinned.name))
            }
        }
    }
    let mut locks = BTreeMap::new();
    for relative in find_files(&tree, "Cargo.lock", 3)? {
        let text = std::fs::read_to_string(tree.join(&relative))?;
        let shown = relative.to_string_lossy().into_owned();
        match cargo_lock::CargoLock::parse(&text) {
            Ok(lock) => drop(locks.insert(shown, lock)),
            // Test data may be anything; the package's own must be right.
            Err(reason) if shown == "Cargo.lock" => {
                return Err(Failure::failed(format!("`Cargo.lock` of {} is no TOML: {reason}", pinned.name)));
            }
            Err(reason) => tools.warn(format!("`{shown}` of {} is passed over: {reason}", pinned.name)),
        }
    }
    Ok(Looked { pinned, tree, locks, generated })
}

/// A copy of a source with the recipe's patches applied.
fn patched(tools: &Tools, source: &Path, recipe: &Recipe) -> Result<PathBuf, Failure> {
    let copy = writable_copy(tools, source)?;
    for patch in source::patch_files(recipe) {
        let mut command = match &tools.patch {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(["--strip=1", "--batch", "--silent", "--input"]).arg(&patch);
                command
            }
            None => {
                let mut command = Command::new(&tools.fetcher.config().git);
                command.args(["apply", "-p1"]).arg(&patch).env("GIT_DIR", "/nonexistent");
                command
            }
        };
        let output = command.current_dir(&copy).stdin(std::process::Stdio::null()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned()
                + &String::from_utf8_lossy(&output.stdout);
            return Err(Failure::failed(format!("the patch `{}` does not apply", patch.display()))
                .details(said)
                .hint("the source is not the one the patch was made for; pin the recipe's revision"));
        }
    }
    Ok(copy)
}

fn writable_copy(tools: &Tools, source: &Path) -> Result<PathBuf, Failure> {
    let copy = tools.fresh();
    let silent: rednix_events::Events = std::sync::Arc::new(rednix_events::Silent);
    tools.fetcher.fetch_replacement(
        &source.display().to_string(),
        &Replacement::Path(source.to_path_buf()),
        &copy,
        &silent,
    )?;
    Ok(copy)
}

/// A git dependency's tree, and what its lock entry is.
pub struct PinnedGit {
    pub line: String,
    pub entry: CargoGit,
    tree: PathBuf,
    /// Package name → folder and the version that is there.
    found: BTreeMap<String, (String, String)>,
    pub used: Vec<(String, Overridden)>,
}

/// Every git source line of all locks with the packages taken from it.
pub fn git_lines(looked: &[Looked]) -> BTreeMap<String, BTreeSet<(String, String)>> {
    let mut lines: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for package in looked.iter().flat_map(|l| l.locks.values()).flat_map(|lock| &lock.git) {
        let packages = lines.entry(package.source.clone()).or_default();
        packages.insert((package.name.clone(), package.version.clone()));
    }
    lines
}

/// Pins one git dependency.
pub fn pin_git(
    tools: &Tools,
    line: &str,
    packages: &BTreeSet<(String, String)>,
    lock: &Lock,
) -> Result<PinnedGit, Failure> {
    let source = GitSource::parse(line)
        .ok_or_else(|| Failure::failed(format!("`{line}` of a Cargo.lock is no git source")))?;
    let name = format!("{}-git", store_name(source.repository()));
    let key = overrides::normalise(source.url);
    let mut entry = CargoGit::default();
    let mut used = Vec::new();
    let replacement = tools.fetcher.config().overrides.of_url(source.url);
    let tree = match replacement {
        Some(Replacement::Git { url, reference }) => {
            let url = url.as_deref().unwrap_or(source.url);
            let rev = tools.fetcher.resolve_ref(url, reference, None)?;
            let (tree, nar_hash, submodules) = source::fetch_git(tools, url, &rev, &name)?;
            used.extend(source::used_submodules(tools, &submodules)?);
            entry = CargoGit {
                nar_hash,
                url: Some(url.to_owned()).filter(|url| url != source.url),
                rev: Some(rev),
                submodules,
                packages: BTreeMap::new(),
            };
            tree
        }
        Some(other) => {
            let (tree, nar_hash, _) = source::fetch_git(tools, source.url, &other.pinned(), &name)?;
            entry = CargoGit { nar_hash, rev: Some(other.pinned()), ..entry };
            tree
        }
        None => {
            let old = lock.cargo_git.get(line).filter(|old| {
                old.rev.is_none()
                    && old
                        .submodules
                        .keys()
                        .all(|key| source::is_same_override(lock, &tools.fetcher.config().overrides, key))
            });
            let kept =
                old.and_then(|old| Some((tools.kept(ContentMethod::Recursive, &old.nar_hash, &name)?, old)));
            match kept {
                Some((tree, old)) => {
                    entry = CargoGit { packages: BTreeMap::new(), ..old.clone() };
                    tree
                }
                None => {
                    tools.step(format!("pinning {} from {}", source.repository(), source.url));
                    let (tree, nar_hash, submodules) =
                        source::fetch_git(tools, source.url, source.rev, &name)?;
                    used.extend(source::used_submodules(tools, &submodules)?);
                    entry = CargoGit { nar_hash, submodules, ..entry };
                    tree
                }
            }
        }
    };
    if let Some(replacement) = replacement {
        tools.notice(format!("the git dependency {key} is replaced by {replacement}"));
        used.push((key, source::overridden(replacement, Some(entry.nar_hash.clone()))?));
    }
    let mut found = BTreeMap::new();
    for (package, locked) in packages {
        let (folder, version) = match (find_package(&tree, package)?, replacement) {
            (Some(found), _) => found,
            // Perhaps what replaces it does without this one: cargo will say.
            (None, Some(_)) => continue,
            (None, None) => {
                let place = format!("{} at {}", source.url, source.rev);
                return Err(Failure::failed(format!("{place} has no package `{package}`")));
            }
        };
        // What is not replaced has the version the lock names, whatever its manifest leaves to its workspace.
        let version = version.filter(|_| replacement.is_some()).unwrap_or_else(|| locked.clone());
        entry.packages.insert(format!("{package}-{version}"), folder.clone());
        found.insert(package.clone(), (folder, version));
    }
    Ok(PinnedGit { line: line.to_owned(), entry, tree, found, used })
}

/// The Cargo.lock entries of a source, resolved again where an override makes that necessary.
pub fn finish(
    tools: &Tools,
    looked: &Looked,
    git: &BTreeMap<String, PinnedGit>,
) -> Result<BTreeMap<String, CargoLock>, Failure> {
    let mut entries = BTreeMap::new();
    let submodule_replaced =
        looked.pinned.pin.submodules.values().any(|pinned| !rednix_fetch::git::is_rev(pinned));
    let mut copy: Option<PathBuf> = None;
    for (path, lock) in &looked.locks {
        let is_replaced = |package: &cargo_lock::GitPackage| {
            git.get(&package.source).is_some_and(|pinned| pinned.entry.rev.is_some())
        };
        let concerned = lock.git.iter().any(is_replaced) || (submodule_replaced && path == "Cargo.lock");
        if !concerned {
            let mut entry = entry_of(lock);
            if let Some(text) = looked.generated.as_ref().filter(|_| path == OWN) {
                entry.patch = Some(difference(tools, path, "", text)?);
            }
            entries.insert(path.clone(), entry);
            continue;
        }
        let root = match &copy {
            Some(root) => root.clone(),
            None => copy.insert(writable_copy(tools, &looked.tree)?).clone(),
        };
        match resolve(tools, looked, path, lock, git, &root) {
            Ok(entry) => drop(entries.insert(path.clone(), entry)),
            // Packages of tests and examples are built by nobody here.
            Err(failure) if path != "Cargo.lock" => {
                tools.warn(format!("`{path}` of {} is passed over: {}", looked.pinned.name, failure.message));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(entries)
}

fn entry_of(lock: &cargo_lock::CargoLock) -> CargoLock {
    let git =
        lock.git.iter().cloned().map(|p| GitPackage { name: p.name, version: p.version, source: p.source });
    CargoLock { crates: lock.crates.clone(), git: git.collect(), patch: None }
}

fn resolve(
    tools: &Tools,
    looked: &Looked,
    path: &str,
    lock: &cargo_lock::CargoLock,
    git: &BTreeMap<String, PinnedGit>,
    root: &Path,
) -> Result<CargoLock, Failure> {
    tools.step(format!("resolving `{path}` of {} again", looked.pinned.name));
    let placed: Vec<Placed> = lock
        .git
        .iter()
        .filter_map(|package| {
            let pinned = git.get(&package.source)?;
            let (folder, version) = pinned.found.get(&package.name)?.clone();
            Some(Placed { package: package.clone(), version, tree: pinned.tree.clone(), folder })
        })
        .collect();
    let before = match &looked.generated {
        Some(_) if path == OWN => String::new(),
        _ => std::fs::read_to_string(root.join(path))?,
    };
    let scratch = tools.folder()?;
    let after = cargo_lock::resolve_again(&tools.fetcher, root, Path::new(path), &placed, &scratch).map_err(
        |error| Failure::from(error).details(format!("this is the Cargo.lock of {}", looked.pinned.name)),
    )?;
    let resolved = cargo_lock::CargoLock::parse(&after)
        .map_err(|reason| Failure::failed(format!("cargo wrote a `{path}` that is no TOML: {reason}")))?;
    let is_there = |package: &cargo_lock::GitPackage| {
        git.get(&package.source).is_some_and(|pinned| pinned.found.contains_key(&package.name))
    };
    if let Some(package) = resolved.git.iter().find(|package| !is_there(package)) {
        return Err(Failure::failed(format!(
            "what replaces a dependency of {} itself wants `{}` from git ({})",
            looked.pinned.name, package.name, package.source
        ))
        .hint("override it with something that needs registry crates only"));
    }
    let changes = changes(lock, &resolved);
    if !changes.is_empty() {
        tools.notice(format!("{}: `{path}` is resolved again: {}", looked.pinned.name, changes.join(", ")));
    }
    let patch = if after == before { None } else { Some(difference(tools, path, &before, &after)?) };
    Ok(CargoLock { patch, ..entry_of(&resolved) })
}

/// What differs between two locks, as `name old → new`.
fn changes(before: &cargo_lock::CargoLock, after: &cargo_lock::CargoLock) -> Vec<String> {
    let versions = |lock: &cargo_lock::CargoLock| {
        let mut map: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let crates = lock.crates.iter().map(|(name, version, _)| (name, version));
        for (name, version) in crates.chain(lock.git.iter().map(|p| (&p.name, &p.version))) {
            map.entry(name.clone()).or_default().insert(version.clone());
        }
        map
    };
    let (before, after) = (versions(before), versions(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let show = |versions: Option<BTreeSet<&String>>| match versions {
        Some(versions) if !versions.is_empty() => {
            versions.into_iter().map(String::as_str).collect::<Vec<_>>().join(" and ")
        }
        _ => "none".to_owned(),
    };
    let only = |of: &BTreeMap<String, BTreeSet<String>>,
                without: &BTreeMap<String, BTreeSet<String>>,
                name: &String| {
        let none = BTreeSet::new();
        of.get(name)
            .map(|all| all.difference(without.get(name).unwrap_or(&none)).cloned().collect::<BTreeSet<_>>())
    };
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| {
            let (old, new) = (only(&before, &after, name), only(&after, &before, name));
            format!(
                "{name} {} → {}",
                show(old.as_ref().map(|s| s.iter().collect())),
                show(new.as_ref().map(|s| s.iter().collect()))
            )
        })
        .collect()
}

/// A patch from one text to the other, by git, which is there anyway.
fn difference(tools: &Tools, path: &str, before: &str, after: &str) -> Result<String, Failure> {
    let folder = tools.folder()?;
    for (side, text) in [("a", before), ("b", after)] {
        let file = folder.join(side).join(path);
        std::fs::create_dir_all(file.parent().expect("it lies in the side's folder"))?;
        std::fs::write(file, text)?;
    }
    // A file that is not there yet is an empty one to `patch`.
    let output = Command::new(&tools.fetcher.config().git)
        .args(["-c", "core.autocrlf=false", "-c", "core.attributesFile=/dev/null", "-c", "diff.external="])
        .args(["diff", "--no-index", "--no-color", "--no-ext-diff", "--no-prefix", "--unified=3", "--text"])
        .args([format!("a/{path}"), format!("b/{path}")])
        .current_dir(&folder)
        .env("LC_ALL", "C")
        .output()?;
    let patch = String::from_utf8_lossy(&output.stdout).into_owned();
    // Git names the texts by hashes of its own, which mean nothing here.
    let start = patch.find("--- ").ok_or_else(|| {
        Failure::failed(format!(
            "git cannot compare two versions of `{path}`: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    })?;
    Ok(patch[start..].to_owned())
}

/// The folder of a tree whose Cargo.toml names the package, the least deep first, and its version where it is given there.
fn find_package(tree: &Path, name: &str) -> Result<Option<(String, Option<String>)>, Failure> {
    let mut manifests: Vec<PathBuf> = find_files(tree, "Cargo.toml", 6)?.into_iter().collect();
    manifests.sort_by_key(|path| (path.components().count(), path.clone()));
    Ok(manifests.into_iter().find_map(|manifest| {
        let text = std::fs::read_to_string(tree.join(&manifest)).ok()?;
        let table: toml::Table = toml::from_str(&text).ok()?;
        let package = table.get("package")?;
        if package.get("name")?.as_str()? != name {
            return None;
        }
        let version = package.get("version").and_then(|v| v.as_str()).map(str::to_owned);
        Some((manifest.parent().unwrap_or(Path::new("")).to_string_lossy().into_owned(), version))
    }))
}

/// Targets that a source's `rust-toolchain.toml` asks for.
pub fn rust_targets(tree: &Path) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(tree.join("rust-toolchain.toml")) else { return Vec::new() };
    let Ok(table) = toml::from_str::<toml::Table>(&text) else { return Vec::new() };
    let targets = table.get("toolchain").and_then(|t| t.get("targets")).and_then(|t| t.as_array());
    targets.into_iter().flatten().filter_map(|t| t.as_str().map(str::to_owned)).collect()
}

/// Relative paths of all files of that name, sorted; folders of test data are deep, so not all deep ones.
fn find_files(root: &Path, name: &str, depth_max: usize) -> Result<BTreeSet<PathBuf>, Failure> {
    let mut found = BTreeSet::new();
    let mut open = vec![(PathBuf::new(), depth_max)];
    while let Some((folder, depth)) = open.pop() {
        for entry in std::fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() && depth > 0 && entry.file_name() != "target" && entry.file_name() != ".git" {
                open.push((path, depth - 1));
            } else if kind.is_file() && entry.file_name() == name {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_between_locks() {
        let lock = |crates: &[(&str, &str)]| cargo_lock::CargoLock {
            crates: crates.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned(), String::new())).collect(),
            git: Vec::new(),
        };
        let before = lock(&[("same", "1.0.0"), ("a", "1.0.0"), ("a", "2.0.0"), ("gone", "1.0.0")]);
        let after = lock(&[("same", "1.0.0"), ("a", "1.1.0"), ("a", "2.0.0"), ("new", "0.1.0")]);
        assert_eq!(changes(&before, &after), ["a 1.0.0 → 1.1.0", "gone 1.0.0 → none", "new none → 0.1.0"]);
    }
}
