//! `builtin:rednix-vendor`: a cargo directory source from `.crate` files, git trees and other such directories.
//!
//! Each crate is `<name>-<version>/` with a `.cargo-checksum.json`, or a link of that name into a whole tree. Registry crates carry the checksum that lock
//! files have; which versions belong together is the lock file's business.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use rednix_store::handle::{Dir, Kind, check_relative};
use serde::Deserialize;

use super::tar::{Strip, unpack_file};
use super::writer::TreeWriter;
use super::{Error, attributes, manifest};
use crate::limits;
use crate::source::{is_crate_name, is_crate_version};

const BUILDER: &str = "builtin:rednix-vendor";
const CHECKSUMS: &str = ".cargo-checksum.json";
const TREES: &str = ".trees";

#[derive(Deserialize)]
struct Attributes {
    #[serde(default)]
    crates: Vec<RegistryCrate>,
    #[serde(default)]
    git: Vec<GitCrate>,
    #[serde(default)]
    merge: Vec<PathBuf>,
}

/// A crate of a registry: the `.crate` file and its SHA-256, hexadecimal, as in `Cargo.lock`.
#[derive(Deserialize)]
struct RegistryCrate {
    name: String,
    version: String,
    checksum: String,
    src: PathBuf,
}

/// A crate inside a git tree.
#[derive(Deserialize)]
struct GitCrate {
    name: String,
    version: String,
    src: PathBuf,
    #[serde(default)]
    subdirectory: String,
    /// The rest of the tree stays around the crate: sources may name files outside of their package.
    #[serde(default)]
    whole: bool,
}

fn wrong(reason: String) -> Error {
    Error::Attributes { builder: BUILDER, reason }
}

/// Builds the directory source.
pub fn vendor(value: &serde_json::Value, output: &Path) -> Result<(), Error> {
    let attributes: Attributes = attributes(BUILDER, value)?;
    let mut vendor = Vendor {
        output,
        writer: TreeWriter::create(output)?,
        taken: BTreeMap::new(),
        trees: BTreeMap::new(),
    };
    for registry in &attributes.crates {
        vendor.add_registry_crate(registry)?;
    }
    for git in &attributes.git {
        vendor.add_git_crate(git)?;
    }
    for folder in &attributes.merge {
        vendor.merge(folder)?;
    }
    Ok(())
}

struct Vendor<'o> {
    output: &'o Path,
    writer: TreeWriter,
    /// Crate folders made, with what they were made from.
    taken: BTreeMap<String, String>,
    /// Git trees that are here whole, with their place below the output.
    trees: BTreeMap<PathBuf, PathBuf>,
}

impl Vendor<'_> {
    /// The folder of a crate; none when the same one is there already.
    fn claim(&mut self, name: &str, version: &str, from: &str) -> Result<Option<String>, Error> {
        if !is_crate_name(name) || !is_crate_version(version) {
            return Err(wrong(format!("`{name}` `{version}` is no crate's name and version")));
        }
        let folder = format!("{name}-{version}");
        match self.taken.get(&folder) {
            Some(other) if other == from => Ok(None),
            Some(other) => {
                Err(wrong(format!("crate {name} {version} comes from two sources: {other} and {from}")))
            }
            None => {
                self.taken.insert(folder.clone(), from.to_owned());
                Ok(Some(folder))
            }
        }
    }

    fn add_registry_crate(&mut self, registry: &RegistryCrate) -> Result<(), Error> {
        let RegistryCrate { name, version, checksum, src } = registry;
        if !crate::debian::index::is_sha256(checksum) {
            return Err(wrong(format!(
                "the checksum of crate {name} {version} is no SHA-256 in hexadecimal"
            )));
        }
        let Some(folder) = self.claim(name, version, &format!("checksum {checksum}"))? else { return Ok(()) };
        self.writer.folder(Path::new(&folder))?;
        let mut inner = TreeWriter::open(&self.output.join(&folder))?;
        unpack_file(src, &mut inner, &Strip(1))?;
        if !inner.root().exists("Cargo.toml")? {
            let reason = "it has no `Cargo.toml` in its one folder, so it is no crate".to_owned();
            return Err(Error::Archive { archive: src.clone(), reason });
        }
        write_checksums(&mut inner, Some(checksum))
    }

    fn add_git_crate(&mut self, git: &GitCrate) -> Result<(), Error> {
        let GitCrate { name, version, src, subdirectory, whole } = git;
        let from = format!("{} {subdirectory}", src.display());
        let Some(folder) = self.claim(name, version, &from)? else { return Ok(()) };
        let root = Dir::open(src)?;
        let subdirectory = clean_subdirectory(subdirectory).map_err(wrong)?;
        let source = if subdirectory.as_os_str().is_empty() {
            root.try_clone()?
        } else {
            root.open_dir(&subdirectory)?
        };
        let own = read_manifest(&source, "Cargo.toml")?.ok_or_else(|| Error::Manifest {
            path: source.path().join("Cargo.toml"),
            reason: "it is not there".to_owned(),
        })?;
        let place = if *whole && !subdirectory.as_os_str().is_empty() {
            let place = self.whole_tree(src, &root)?.join(&subdirectory);
            self.writer.symlink(Path::new(&folder), place.as_os_str())?;
            place
        } else {
            self.copy_package(&source, Path::new(&folder))?;
            PathBuf::from(&folder)
        };
        let mut inner = TreeWriter::open(&self.output.join(&place))?;
        let (workspace, up) = find_workspace(&root, &subdirectory, &own)?;
        let resolved = manifest::standalone(&own, workspace.as_deref(), &up)
            .map_err(|reason| Error::Manifest { path: source.path().join("Cargo.toml"), reason })?;
        if let Some(text) = resolved {
            inner.file(Path::new("Cargo.toml"), false, None, &mut text.as_bytes())?;
        }
        write_checksums(&mut inner, None)
    }

    /// A crate's own folder, as when cargo packages it: folders with a manifest of their own are other crates.
    fn copy_package(&mut self, source: &Dir, target: &Path) -> Result<(), Error> {
        Ok(self.writer.copy_tree(source, target, &mut |visit| {
            let is_folder = visit.entry.kind == Kind::Directory;
            let is_git = visit.entry.name == ".git";
            let is_package =
                is_folder && visit.parent.exists(Path::new(&visit.entry.name).join("Cargo.toml"))?;
            Ok(is_git || is_package)
        })?)
    }

    /// A git tree in a hidden folder, which cargo does not take for a crate; once for all crates in it.
    fn whole_tree(&mut self, src: &Path, root: &Dir) -> Result<PathBuf, Error> {
        if let Some(place) = self.trees.get(src) {
            return Ok(place.clone());
        }
        if self.trees.is_empty() {
            self.writer.folder(Path::new(TREES))?;
        }
        let place = Path::new(TREES).join(self.trees.len().to_string());
        self.writer.copy_tree(root, &place, &mut |visit| Ok(visit.entry.name == ".git"))?;
        self.trees.insert(src.to_owned(), place.clone());
        Ok(place)
    }

    /// Takes over the crates of another directory source that are not there yet.
    fn merge(&mut self, folder: &Path) -> Result<(), Error> {
        let source = Dir::open(folder)?;
        for entry in source.entries()? {
            let name = entry.name.to_string_lossy().into_owned();
            if entry.kind != Kind::Directory {
                continue;
            }
            let inner = source.open_dir(&entry.name)?;
            let Some(manifest) = read_manifest(&inner, "Cargo.toml")? else { continue };
            // Other tools name the folders without the version; what counts is what the manifest says.
            let place = crate_folder(&manifest).unwrap_or(name);
            if self.taken.contains_key(&place) {
                continue;
            }
            self.taken.insert(place.clone(), folder.display().to_string());
            self.writer.copy_tree(&inner, Path::new(&place), &mut |_| Ok(false))?;
            let checksums =
                inner.exists(CHECKSUMS)?.then(|| read_manifest(&inner, CHECKSUMS)).transpose()?.flatten();
            let package = checksums.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
            let package = package.as_ref().and_then(|value| value["package"].as_str());
            write_checksums(&mut TreeWriter::open(&self.output.join(&place))?, package)?;
        }
        Ok(())
    }
}

/// `<name>-<version>` by the crate's own manifest.
fn crate_folder(manifest: &str) -> Option<String> {
    let table: toml::Table = manifest.parse().ok()?;
    let package = table.get("package")?;
    let (name, version) = (package.get("name")?.as_str()?, package.get("version")?.as_str()?);
    (is_crate_name(name) && is_crate_version(version)).then(|| format!("{name}-{version}"))
}

/// No file is listed: cargo then checks none of them, and the store vouches for all.
fn write_checksums(writer: &mut TreeWriter, package: Option<&str>) -> Result<(), Error> {
    let text = serde_json::json!({ "files": {}, "package": package }).to_string();
    Ok(writer.file(Path::new(CHECKSUMS), false, None, &mut text.as_bytes())?)
}

fn clean_subdirectory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text == "." {
        return Ok(PathBuf::new());
    }
    let parts =
        check_relative(Path::new(text)).map_err(|reason| format!("subdirectory `{text}`: {reason}"))?;
    Ok(parts.into_iter().collect())
}

fn read_manifest(dir: &Dir, name: &str) -> Result<Option<String>, Error> {
    let mut file: File = match dir.open_file(name) {
        Err(error) if error.is_not_found() => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    let read = (&mut file).take(limits::MANIFEST_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| dir.error("read", name, error))?;
    Ok(Some(text))
}

/// The text of the manifest with the workspace of a crate, and the way to its folder from the crate's.
fn find_workspace(root: &Dir, subdirectory: &Path, own: &str) -> Result<(Option<String>, PathBuf), Error> {
    let table: toml::Table = own.parse().unwrap_or_default();
    if table.contains_key("workspace") {
        return Ok((Some(own.to_owned()), PathBuf::new()));
    }
    let named =
        table.get("package").and_then(|package| package.get("workspace")).and_then(toml::Value::as_str);
    if let Some(named) = named {
        let folder = normalise(&subdirectory.join(named));
        let manifest = folder.map(|folder| folder.join("Cargo.toml"));
        let text = manifest.map(|path| read_manifest(root, &path.to_string_lossy())).transpose()?.flatten();
        return Ok((text, PathBuf::from(named)));
    }
    let mut up = PathBuf::new();
    for folder in subdirectory.ancestors().skip(1) {
        up.push("..");
        let text = read_manifest(root, &folder.join("Cargo.toml").to_string_lossy())?;
        let is_workspace =
            |text: &String| text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("workspace"));
        if let Some(text) = text.filter(is_workspace) {
            return Ok((Some(text), up));
        }
    }
    Ok((None, PathBuf::new()))
}

/// Resolves `..` by the text alone; none when it leads out.
fn normalise(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    return None;
                }
            }
            _ => return None,
        }
    }
    Some(clean)
}
