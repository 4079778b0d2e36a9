//! Which packages a system needs beyond those it lists: what they declare, and what their ELF files show. It
//! looks into packages that are built already and builds none.
//!
//! A package's libraries come from what it was built with: a build dependency that holds a named library is
//! needed at run time too. One that holds none was linked statically, or not at all; what *it* needs at run time
//! (a terminal database, certificates) is then needed here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::elf;
use crate::error::{Error, Result};
use crate::limits::{CLOSURE_PACKAGES_MAX, DIRECTORY_DEPTH_MAX};
use crate::tree::join;

/// Where programs and libraries are looked for.
const FOLDERS: [&str; 4] = ["usr/bin", "usr/games", "usr/lib", "usr/libexec"];
/// Where a library must lie to count.
const LIBRARY_FOLDERS: [&str; 2] = ["lib", "usr/lib"];
/// Every system has these, from packages no recipe names.
const ALWAYS_THERE: [&str; 3] = ["libc.so.6", "libgcc_s.so.1", "libstdc++.so.6"];

/// A package that may be wanted: `recipe`, or `recipe.suffix` for an optional package of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Package {
    pub name: String,
    /// Its files as a host directory; none for a meta package.
    pub path: Option<PathBuf>,
    /// The directories of all packages of the recipe, on its main package only; empty: `path` alone.
    pub stages: Vec<PathBuf>,
    /// What it declares to need at run time.
    pub dependencies: Vec<String>,
    /// What the recipe declares to be built with, without packages for the build machine.
    pub build_dependencies: Vec<String>,
    /// The same, needed only for building from source.
    pub dev_dependencies: Vec<String>,
}

impl Package {
    /// The recipe it comes from, as the main package is named.
    pub fn recipe(&self) -> &str {
        main_name(&self.name)
    }

    fn is_main(&self) -> bool {
        self.recipe() == self.name
    }

    fn stages(&self) -> &[PathBuf] {
        if self.stages.is_empty() { self.path.as_slice() } else { &self.stages }
    }
}

fn main_name(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Why a package is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Reason {
    /// The configuration lists it.
    Listed,
    /// `by` declares it.
    Declared { by: String },
    /// The file `file` of `by` names the shared library `library`, which it holds.
    Library { by: String, file: String, library: String },
    /// `by` was built with `through`, of which no shared library is used, and that needs it at run time.
    Static { by: String, through: String },
}

/// One package of the closure.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    pub package: &'a Package,
    pub reason: Reason,
    /// What it needs at run time: what it declares, then what was found.
    pub depends: Vec<String>,
}

/// Everything a system installs, sorted by name.
#[derive(Debug)]
pub struct Closure<'a> {
    pub members: Vec<Member<'a>>,
    /// `(file, library)` for what no build dependency holds.
    pub missing: Vec<(String, String)>,
}

/// Finds the closure of `listed` among `packages`.
pub fn resolve<'a>(packages: &'a [Package], listed: &[String]) -> Result<Closure<'a>> {
    let universe = Universe::new(packages)?;
    let mut members: BTreeMap<&str, Member<'a>> = BTreeMap::new();
    let mut missing = Vec::new();
    // First come, first told why: what is listed is never there for another's sake.
    let mut pending: VecDeque<(String, Reason)> =
        listed.iter().map(|name| (name.clone(), Reason::Listed)).collect();
    while let Some((name, reason)) = pending.pop_front() {
        if members.contains_key(name.as_str()) {
            continue;
        }
        let package = universe.get(&name, &reason)?;
        let declared = package
            .dependencies
            .iter()
            .map(|name| (name.clone(), Reason::Declared { by: package.name.clone() }));
        let mut needs: Vec<(String, Reason)> = declared.collect();
        if package.is_main() {
            needs.extend(universe.found(package, &mut missing)?);
        }
        let mut depends: Vec<String> = Vec::new();
        for (name, reason) in needs {
            if name == package.name || depends.contains(&name) {
                continue;
            }
            depends.push(name.clone());
            pending.push_back((name, reason));
        }
        members.insert(&package.name, Member { package, reason, depends });
    }
    Ok(Closure { members: members.into_values().collect(), missing })
}

struct Universe<'a>(BTreeMap<&'a str, &'a Package>);

impl<'a> Universe<'a> {
    fn new(packages: &'a [Package]) -> Result<Self> {
        let mut known = BTreeMap::new();
        if packages.len() > CLOSURE_PACKAGES_MAX {
            return Err(Error::Config(format!("more than {CLOSURE_PACKAGES_MAX} packages")));
        }
        for package in packages {
            if known.insert(package.name.as_str(), package).is_some() {
                return Err(Error::Config(format!("package `{}` is given twice", package.name)));
            }
        }
        Ok(Universe(known))
    }

    fn get(&self, name: &str, reason: &Reason) -> Result<&'a Package> {
        let by = match reason {
            Reason::Listed => "it is listed".to_owned(),
            Reason::Declared { by } | Reason::Library { by, .. } | Reason::Static { by, .. } => {
                format!("`{by}` needs it")
            }
        };
        self.0
            .get(name)
            .copied()
            .ok_or_else(|| Error::Config(format!("package `{name}` is not there, but {by}")))
    }

    fn main(&self, name: &str, by: &str) -> Result<&'a Package> {
        self.get(main_name(name), &Reason::Declared { by: by.to_owned() })
    }

    /// What a main package was built with: all it declares, and below that what those declare for building.
    fn built_with(&self, package: &Package) -> Result<BTreeSet<&'a str>> {
        let mut found = BTreeSet::new();
        let mut pending: Vec<(&str, &str)> = Vec::new();
        for name in package.build_dependencies.iter().chain(&package.dev_dependencies) {
            pending.push((name, &package.name));
        }
        while let Some((name, by)) = pending.pop() {
            let dependency = self.get(name, &Reason::Declared { by: by.to_owned() })?;
            if !found.insert(dependency.name.as_str()) {
                continue;
            }
            let main = self.main(name, by)?;
            pending.extend(main.build_dependencies.iter().map(|name| (name.as_str(), main.name.as_str())));
        }
        Ok(found)
    }

    /// What the files of a main package show that it needs.
    fn found(&self, package: &Package, missing: &mut Vec<(String, String)>) -> Result<Vec<(String, Reason)>> {
        let libraries = libraries_of(package)?;
        let mut held: BTreeSet<&str> = BTreeSet::new();
        let mut needs = Vec::new();
        let mut dynamic = BTreeSet::new();
        if !libraries.is_empty() {
            for name in self.built_with(package)? {
                let Some(folder) = self.0.get(name).and_then(|package| package.path.as_deref()) else {
                    continue;
                };
                for (library, file) in &libraries {
                    if holds(folder, library) {
                        held.insert(library);
                        if dynamic.insert(name) {
                            let (by, file, library) = (package.name.clone(), file.clone(), library.clone());
                            needs.push((name.to_owned(), Reason::Library { by, file, library }));
                        }
                    }
                }
            }
        }
        for (library, file) in &libraries {
            if !held.contains(library.as_str()) {
                missing.push((format!("{}: {file}", package.name), library.clone()));
            }
        }
        for through in &package.build_dependencies {
            if !dynamic.contains(through.as_str()) {
                for name in self.runtime_below(through, &package.name)? {
                    let reason = Reason::Static { by: package.name.clone(), through: through.clone() };
                    needs.push((name, reason));
                }
            }
        }
        Ok(needs)
    }

    /// Every package that `start`, or anything it is built with or needs, declares to need at run time.
    fn runtime_below(&self, start: &str, by: &str) -> Result<BTreeSet<String>> {
        let (mut seen, mut collected) = (BTreeSet::new(), BTreeSet::new());
        let mut pending = vec![(start.to_owned(), by.to_owned())];
        while let Some((name, by)) = pending.pop() {
            let package = self.main(&name, &by)?;
            if !seen.insert(package.name.as_str()) {
                continue;
            }
            collected.extend(package.dependencies.iter().cloned());
            for next in package.dependencies.iter().chain(&package.build_dependencies) {
                pending.push((next.clone(), package.name.clone()));
            }
        }
        Ok(collected)
    }
}

/// Shared libraries that a recipe's files name, each with the first file that does.
fn libraries_of(package: &Package) -> Result<BTreeMap<String, String>> {
    let mut libraries = BTreeMap::new();
    for stage in package.stages() {
        for folder in FOLDERS {
            let mut files = Vec::new();
            files_below(&stage.join(folder), folder, 0, &mut files)?;
            for (host, inside) in files {
                for library in elf::needed(&host)? {
                    if !ALWAYS_THERE.contains(&library.as_str()) {
                        libraries.entry(library).or_insert_with(|| inside.clone());
                    }
                }
            }
        }
    }
    Ok(libraries)
}

/// Regular files, names sorted; links are not followed.
fn files_below(folder: &Path, inside: &str, depth: usize, files: &mut Vec<(PathBuf, String)>) -> Result<()> {
    match fs::symlink_metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("inspect", folder)(error)),
    }
    if depth > DIRECTORY_DEPTH_MAX {
        return Err(Error::content(inside, "is nested too deeply"));
    }
    let mut items = fs::read_dir(folder)
        .and_then(|items| items.collect::<std::io::Result<Vec<_>>>())
        .map_err(Error::io("list", folder))?;
    items.sort_by_key(fs::DirEntry::file_name);
    for item in items {
        let inside = join(inside, &item.file_name().to_string_lossy());
        let kind = item.file_type().map_err(Error::io("inspect", item.path()))?;
        if kind.is_dir() {
            files_below(&item.path(), &inside, depth + 1, files)?;
        } else if kind.is_file() {
            files.push((item.path(), inside));
        }
    }
    Ok(())
}

/// Whether a package has the library itself, or a link of its name, directly in a library folder.
fn holds(folder: &Path, library: &str) -> bool {
    LIBRARY_FOLDERS.iter().any(|place| {
        fs::symlink_metadata(folder.join(place).join(library)).is_ok_and(|metadata| !metadata.is_dir())
    })
}

#[cfg(test)]
#[path = "closure_tests.rs"]
mod tests;
