//! The lock of a Debian build root: which packages, in which versions, with which bytes.
//!
//! Deterministic: the same indexes and specification give the same text. Fetches no package.

use std::collections::{BTreeMap, BTreeSet};

use rednix_events::{Event, Events};
use serde::{Deserialize, Serialize};

use super::index::{Universe, is_plain_path, is_sha256};
use super::resolve::{self, Request};
use super::suite::{self, SuiteSpec};
use crate::config::FetchConfig;
use crate::error::FetchError;
use crate::fetcher::{FetchRequest, Fetcher};

/// The version of the lock's format.
pub const VERSION: u32 = 1;

/// What a build root shall hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockSpec {
    /// Debian's name: `amd64`, `arm64`, ….
    pub architecture: String,
    /// In order of preference: a later suite gives a package only when no earlier one has a version that fits.
    pub suites: Vec<SuiteSpec>,
    /// Named sets of packages: `name`, `name/suite` or `name (>= version)`.
    pub roots: BTreeMap<String, Vec<String>>,
    /// Packages never taken; what depends only on them counts as satisfied.
    #[serde(default)]
    pub exclude: BTreeSet<String>,
}

/// A suite as it was when the lock was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedSuite {
    pub name: String,
    pub components: Vec<String>,
    pub inrelease_sha256: String,
    /// As the archive writes it.
    pub date: String,
}

/// One package; sizes in bytes, the hash in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedPackage {
    pub version: String,
    pub suite: String,
    /// Below the mirror's base.
    pub path: String,
    pub size: u64,
    pub sha256: String,
    pub installed_size: u64,
}

/// The whole lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebianLock {
    pub version: u32,
    pub architecture: String,
    pub suites: Vec<LockedSuite>,
    pub packages: BTreeMap<String, LockedPackage>,
    /// Names of the packages of each root's closure, sorted.
    pub roots: BTreeMap<String, Vec<String>>,
}

impl DebianLock {
    /// The text to store, ending in a newline.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a lock holds nothing JSON cannot");
        text.push('\n');
        text
    }

    /// Reads a stored lock; `file` names it in errors.
    pub fn parse(file: &str, text: &str) -> Result<DebianLock, FetchError> {
        let bad = |reason: String| FetchError::BadLock { what: file.to_owned(), reason };
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        if value["version"].as_u64() != Some(u64::from(VERSION)) {
            return Err(bad(format!(
                "its format has version {}, this rednix knows {VERSION}",
                value["version"]
            )));
        }
        let lock: DebianLock = serde_json::from_value(value).map_err(|error| bad(error.to_string()))?;
        let is_sound = |package: &LockedPackage| is_sha256(&package.sha256) && is_plain_path(&package.path);
        if let Some((name, _)) = lock.packages.iter().find(|(_, package)| !is_sound(package)) {
            return Err(bad(format!("package `{name}` has a damaged hash or path")));
        }
        for (root, names) in &lock.roots {
            if let Some(name) = names.iter().find(|name| !lock.packages.contains_key(*name)) {
                return Err(bad(format!("root `{root}` names package `{name}`, which it does not have")));
            }
        }
        Ok(lock)
    }

    /// The canonical url of a package.
    pub fn url(package: &LockedPackage) -> String {
        format!("debian:{}/{}", package.suite, package.path)
    }

    /// Requests for the given packages; files are named `<package>.deb`.
    pub fn requests<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Vec<FetchRequest>, FetchError> {
        names
            .into_iter()
            .map(|name| {
                let bad = |reason: &str| FetchError::BadLock {
                    what: format!("package `{name}`"),
                    reason: reason.to_owned(),
                };
                let package = self.packages.get(name).ok_or_else(|| bad("it is not in the lock"))?;
                let algorithm = Some(rednix_store::hash::HashAlgorithm::Sha256);
                let hash = rednix_store::hash::Hash::parse_any(&package.sha256, algorithm)
                    .map_err(|_| bad("its hash is damaged"))?;
                Ok(FetchRequest {
                    urls: vec![Self::url(package)],
                    file_name: format!("{name}.deb"),
                    hash: Some(hash),
                    size_bytes: Some(package.size),
                })
            })
            .collect()
    }
}

/// Resolves the specification against what the mirrors offer now.
pub fn lock_debian(spec: &LockSpec, config: &FetchConfig, events: &Events) -> Result<DebianLock, FetchError> {
    let fetcher = Fetcher::new(config.clone());
    let mut loaded = suite::load(&fetcher, &spec.suites, &spec.architecture, events)?;
    let indexes: Vec<_> = loaded.iter_mut().flat_map(|suite| std::mem::take(&mut suite.indexes)).collect();
    let universe = Universe::read(&indexes, &spec.architecture)?;
    let names: Vec<String> = spec.suites.iter().map(|suite| suite.name.clone()).collect();
    let request = Request { roots: &spec.roots, excluded: &spec.exclude, suites: &names };
    let resolution = resolve::resolve(&universe, &request)?;
    for message in resolution.conflicts {
        events.emit(Event::Warning { message });
    }
    let mut packages = BTreeMap::new();
    let mut roots = BTreeMap::new();
    for (root, members) in &resolution.roots {
        let mut closure: Vec<String> = Vec::new();
        for member in members {
            let package = &universe.packages[*member];
            closure.push(package.name.to_owned());
            packages.entry(package.name.to_owned()).or_insert_with(|| LockedPackage {
                version: package.version.to_owned(),
                suite: names[package.suite].clone(),
                path: package.path.to_owned(),
                size: package.size_bytes,
                sha256: package.sha256.to_owned(),
                installed_size: package.installed_bytes,
            });
        }
        closure.sort();
        roots.insert(root.clone(), closure);
    }
    let suites = loaded.into_iter().map(|suite| LockedSuite {
        name: suite.spec.name,
        components: suite.spec.components,
        inrelease_sha256: suite.inrelease_sha256,
        date: suite.release.date,
    });
    Ok(DebianLock {
        version: VERSION,
        architecture: spec.architecture.clone(),
        suites: suites.collect(),
        packages,
        roots,
    })
}
