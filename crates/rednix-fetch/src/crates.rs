//! Crates through cargo: many `.crate` files with one run, by the user's own cargo configuration.
//!
//! Cargo has no command to fetch given versions of given crates, so a package is made up whose dependencies are
//! exactly these. No registry is named here: cargo says what it calls its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rednix_events::{Event, Events};
use rednix_store::hash::{Hash, HashAlgorithm};

use crate::config::FetchConfig;
use crate::error::FetchError;
use crate::fetcher::{hash_file, make_folder};
use crate::limits;
use crate::process;

/// One wanted crate. `tag` comes back with the answer.
#[derive(Clone, Debug)]
pub struct CrateRequest {
    pub name: String,
    pub version: String,
    /// SHA-256 of the `.crate` file.
    pub hash: Option<Hash>,
    pub tag: usize,
}

impl CrateRequest {
    fn error(&self, reason: impl Into<String>) -> FetchError {
        FetchError::Crate { name: self.name.clone(), version: self.version.clone(), reason: reason.into() }
    }

    fn hex(&self) -> Option<String> {
        self.hash.filter(|hash| hash.algorithm() == HashAlgorithm::Sha256).map(|hash| hash.to_hex())
    }
}

/// Finds every crate in cargo's cache, after cargo has fetched those that were not there. The files' hashes are
/// checked again when they are copied; here they only decide between several caches.
pub fn fetch(
    config: &FetchConfig,
    requests: &[CrateRequest],
    events: &Events,
) -> Vec<(usize, Result<PathBuf, FetchError>)> {
    let Some(home) = &config.cargo_home else {
        let failed =
            |request: &CrateRequest| (request.tag, Err(request.error("cargo's home folder is not known")));
        return requests.iter().map(failed).collect();
    };
    let mut run = Run { config, home, events, runs_left: 0, registry: None, found: BTreeMap::new() };
    let missing = run.look_up(requests.iter().collect());
    run.runs_left = missing.len().saturating_mul(limits::CARGO_RUNS_PER_CRATE_MAX);
    if config.offline {
        for request in missing {
            let url = format!("crate:{}/{}", request.name, request.version);
            run.found.insert(request.tag, Err(FetchError::Offline { url }));
        }
    } else {
        for group in groups(&missing) {
            run.fetch_group(group);
        }
    }
    requests
        .iter()
        .map(|request| {
            let found = run.found.remove(&request.tag);
            (request.tag, found.unwrap_or_else(|| Err(request.error("it was asked for twice"))))
        })
        .collect()
}

struct Run<'r> {
    config: &'r FetchConfig,
    home: &'r Path,
    events: &'r Events,
    /// What is left of the runs of cargo that splitting may take.
    runs_left: usize,
    /// Cargo's own name for its default registry, as lock files have it.
    registry: Option<String>,
    found: BTreeMap<usize, Result<PathBuf, FetchError>>,
}

impl<'r> Run<'r> {
    /// Notes the crates that are in the cache and returns the others.
    fn look_up(&mut self, requests: Vec<&'r CrateRequest>) -> Vec<&'r CrateRequest> {
        let cache = self.home.join("registry/cache");
        let entries = fs::read_dir(&cache).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let mut registries: Vec<PathBuf> = entries.collect();
        registries.sort();
        let mut missing = Vec::new();
        for request in requests {
            let file = format!("{}-{}.crate", request.name, request.version);
            let mut candidates =
                registries.iter().map(|registry| registry.join(&file)).filter(|path| path.is_file());
            let right = candidates.find(|path| match request.hash {
                None => true,
                Some(wanted) => hash_file(path, wanted.algorithm()).is_ok_and(|(hash, _)| hash == wanted),
            });
            match right {
                Some(path) => {
                    self.found.insert(request.tag, Ok(path));
                }
                None => missing.push(request),
            }
        }
        missing
    }

    /// Fetches a group; splits it when cargo refuses it as a whole.
    fn fetch_group(&mut self, group: Vec<&'r CrateRequest>) {
        let mut open = vec![group];
        while let Some(group) = open.pop() {
            let refusal = self.run_cargo(&group, true);
            let mut missing = self.look_up(group);
            // A file that is there with another hash goes back too: the copy says which hash it has.
            missing.retain(|request| match self.cached_path(request) {
                Some(path) if refusal.is_ok() => {
                    self.found.insert(request.tag, Ok(path));
                    false
                }
                _ => true,
            });
            let Err(mut reason) = refusal.map_err(|error| error.reason()) else {
                self.fail(&missing, "cargo says it fetched it, but it is not in cargo's cache");
                continue;
            };
            if missing.len() > 1 && is_about_the_set(&reason) && self.runs_left > 0 {
                let half = missing.split_off(missing.len() / 2);
                open.push(half);
                open.push(missing);
                continue;
            }
            if missing.len() == 1 && self.runs_left > 0 {
                // Cargo believes a lock file's checksum; without one it fetches what is there, and the wanted
                // hash is compared afterwards.
                match self.run_cargo(&missing, false) {
                    Ok(()) => {
                        if let Some(path) = self.cached_path(missing[0]) {
                            self.found.insert(missing[0].tag, Ok(path));
                            continue;
                        }
                    }
                    Err(error) => reason = error.reason(),
                }
            }
            self.fail(&missing, &reason);
        }
    }

    fn cached_path(&self, request: &CrateRequest) -> Option<PathBuf> {
        let file = format!("{}-{}.crate", request.name, request.version);
        let entries = fs::read_dir(self.home.join("registry/cache")).ok()?;
        entries.filter_map(|entry| Some(entry.ok()?.path().join(&file))).find(|path| path.is_file())
    }

    fn fail(&mut self, missing: &[&CrateRequest], reason: &str) {
        for request in missing {
            self.found.insert(request.tag, Err(request.error(reason)));
        }
    }

    fn run_cargo(&mut self, group: &[&CrateRequest], with_lock: bool) -> Result<(), FetchError> {
        self.runs_left = self.runs_left.saturating_sub(1);
        make_folder(&self.config.cache_dir)?;
        let folder = tempfile::Builder::new().prefix("crates-").tempdir_in(&self.config.cache_dir);
        let folder =
            folder.map_err(|error| FetchError::io("create a folder in", &self.config.cache_dir, error))?;
        write(&folder.path().join("lib.rs"), "")?;
        write(&folder.path().join("Cargo.toml"), &manifest(group))?;
        if with_lock && let Some(registry) = self.registry(folder.path())? {
            write(&folder.path().join("Cargo.lock"), &lock(group, &registry))?;
        }
        let finished = process::run(self.config, self.cargo(folder.path(), &["fetch"]))?;
        if !finished.is_success {
            let reason = finished.last_words();
            return Err(FetchError::Crate {
                name: group[0].name.clone(),
                version: group[0].version.clone(),
                reason,
            });
        }
        Ok(())
    }

    fn cargo(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.config.cargo);
        command
            .args(arguments)
            .current_dir(folder)
            .env("CARGO_HOME", self.home)
            .env("CARGO_TERM_COLOR", "never");
        // A build's own settings must not decide what a fetch sees.
        command.env_remove("CARGO_BUILD_TARGET").env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
        command
    }

    /// Asks cargo, without network, what a dependency on its default registry is called.
    fn registry(&mut self, folder: &Path) -> Result<Option<String>, FetchError> {
        if self.registry.is_none() {
            let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
            let finished = process::run(self.config, self.cargo(folder, &arguments))?;
            let metadata: serde_json::Value = serde_json::from_slice(&finished.stdout).unwrap_or_default();
            let source = metadata["packages"][0]["dependencies"][0]["source"].as_str();
            self.registry = source.map(str::to_owned);
            if source.is_none() {
                let message = "cargo does not name its registry; transitive crates may be fetched in other versions too";
                self.events.emit(Event::Warning { message: message.to_owned() });
            }
        }
        Ok(self.registry.clone())
    }
}

fn write(path: &Path, text: &str) -> Result<(), FetchError> {
    fs::write(path, text).map_err(|error| FetchError::io("write", path, error))
}

/// Whether cargo's refusal may be about some crates and spare others, so that splitting helps. A network that is
/// down fails for every part alike.
fn is_about_the_set(reason: &str) -> bool {
    let words = [
        "failed to select",
        "no matching package",
        "checksum",
        "links",
        "conflict",
        "failed to parse",
        "failed to read",
        "cyclic",
        "yanked",
        "feature",
    ];
    words.iter().any(|word| reason.contains(word))
}

/// Cargo keeps one version per semver-compatible range, so two such versions need two packages.
fn groups<'r>(requests: &[&'r CrateRequest]) -> Vec<Vec<&'r CrateRequest>> {
    let mut sorted = requests.to_vec();
    sorted.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut groups: Vec<Vec<&CrateRequest>> = Vec::new();
    let mut asked = BTreeSet::new();
    for request in sorted {
        // The same crate asked for twice needs no second group; both look it up afterwards.
        let key = (request.name.clone(), compatible_range(&request.version));
        let place = if asked.insert((&request.name, &request.version)) {
            let count = seen.entry(key).or_default();
            *count += 1;
            *count - 1
        } else {
            seen.get(&key).copied().unwrap_or(1) - 1
        };
        if groups.len() <= place {
            groups.resize(place + 1, Vec::new());
        }
        groups[place].push(request);
    }
    groups
}

/// The leading part of a version up to its first number that is not zero.
fn compatible_range(version: &str) -> String {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let mut range = String::new();
    for number in core.split('.') {
        let _ = write!(range, "{number}.");
        if number != "0" {
            break;
        }
    }
    range
}

fn distinct<'r>(group: &[&'r CrateRequest]) -> Vec<&'r CrateRequest> {
    let mut seen = BTreeSet::new();
    group.iter().copied().filter(|request| seen.insert((&request.name, &request.version))).collect()
}

const PACKAGE: &str = "rednix-crates";

fn manifest(group: &[&CrateRequest]) -> String {
    let mut text = format!(
        "[package]\nname = \"{PACKAGE}\"\nversion = \"0.0.0\"\nedition = \"2021\"\npublish = false\n\n[lib]\npath = \"lib.rs\"\n\n[workspace]\n\n[dependencies]\n"
    );
    for (number, request) in distinct(group).into_iter().enumerate() {
        // Build metadata is no part of a requirement.
        let version = request.version.split('+').next().unwrap_or_default();
        let name = &request.name;
        let _ = writeln!(
            text,
            "c{number} = {{ package = \"{name}\", version = \"={version}\", default-features = false }}"
        );
    }
    text
}

/// A lock that already has the wanted versions: cargo then takes them for transitive dependencies too, and takes
/// yanked ones at all.
fn lock(group: &[&CrateRequest], registry: &str) -> String {
    let locked: Vec<&CrateRequest> =
        distinct(group).into_iter().filter(|request| request.hex().is_some()).collect();
    let mut text =
        format!("version = 3\n\n[[package]]\nname = \"{PACKAGE}\"\nversion = \"0.0.0\"\ndependencies = [\n");
    for request in &locked {
        let _ = writeln!(text, " \"{} {}\",", request.name, request.version);
    }
    text.push_str("]\n");
    for request in locked {
        let (name, version, checksum) = (&request.name, &request.version, request.hex().unwrap_or_default());
        let _ = write!(
            text,
            "\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{registry}\"\nchecksum = \"{checksum}\"\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, version: &str, tag: usize) -> CrateRequest {
        CrateRequest {
            name: name.into(),
            version: version.into(),
            hash: Some(Hash::of(HashAlgorithm::Sha256, b"")),
            tag,
        }
    }

    #[test]
    fn compatible_versions_are_kept_apart() {
        let all = [
            request("a", "1.0.0", 0),
            request("a", "1.2.0", 1),
            request("a", "2.0.0", 2),
            request("b", "0.1.0", 3),
            request("b", "0.1.9", 4),
            request("b", "0.2.0", 5),
            request("c", "0.0.1", 6),
            request("c", "0.0.2-alpha.1+x", 7),
            request("a", "1.0.0", 8),
        ];
        let groups = groups(&all.iter().collect::<Vec<_>>());
        let tags: Vec<Vec<usize>> =
            groups.iter().map(|group| group.iter().map(|r| r.tag).collect()).collect();
        assert_eq!(tags.len(), 2);
        assert!(tags[0].contains(&0) && tags[1].contains(&1) && tags[0].contains(&2));
        assert!(tags[0].contains(&6) && tags[0].contains(&7));
        assert_eq!(tags.iter().map(Vec::len).sum::<usize>(), all.len());
    }

    #[test]
    fn made_up_package_is_valid_toml() {
        let all = [request("a", "1.0.0+meta", 0), request("a", "2.0.0", 1)];
        let group: Vec<&CrateRequest> = all.iter().collect();
        let manifest: toml::Table = manifest(&group).parse().unwrap();
        assert_eq!(manifest["dependencies"]["c0"]["version"].as_str(), Some("=1.0.0"));
        let lock: toml::Table = lock(&group, "registry+x").parse().unwrap();
        assert_eq!(lock["package"].as_array().unwrap().len(), 3);
    }
}
