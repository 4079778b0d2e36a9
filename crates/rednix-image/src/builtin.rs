//! The two builders rednix runs itself: `builtin:rednix-initfs` and `builtin:rednix-image`. They read what their
//! attributes name and write their output, nothing else; the caller confines them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::additions::Addition;
use crate::closure::Package;
use crate::config::Config;
use crate::disk::{self, Request, Written};
use crate::error::{Error, Result};
use crate::initfs::{self, Entry, Format, Node};
use crate::limits::{INITFS_DEPTH_MAX, INITFS_SIZE_MAX};
use crate::tree::join;

/// Versions of each builder's attributes and output. An image says 3 only where it has additions to an initfs, so that
/// all others keep their names.
const INITFS_VERSIONS: [u64; 1] = [1];
const IMAGE_VERSIONS: [u64; 2] = [2, 3];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitfsAttributes {
    #[serde(default = "current")]
    format: Format,
    bootstrap: Option<Bootstrap>,
    #[serde(default)]
    entries: Vec<InitfsEntry>,
}

fn current() -> Format {
    Format::Current
}

#[derive(Deserialize)]
struct Bootstrap {
    source: PathBuf,
}

/// Exactly one of `source` (a file, or a directory whose contents go below `path`), `text`, `target`; none of
/// them is an empty directory.
#[derive(Deserialize)]
struct InitfsEntry {
    path: String,
    source: Option<PathBuf>,
    text: Option<String>,
    target: Option<String>,
    /// Absent: as the source is.
    executable: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageAttributes {
    name: String,
    #[serde(default)]
    config_name: String,
    #[serde(default = "x86_64")]
    architecture: String,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    packages: Vec<Package>,
    /// Absent: all of `packages`.
    listed: Option<Vec<String>>,
    loader: Option<PathBuf>,
    #[serde(default = "yes")]
    bios: bool,
    initfs: Option<PathBuf>,
    /// Changes to the initfs that a package brings.
    #[serde(default)]
    initfs_additions: Vec<Addition>,
}

fn x86_64() -> String {
    "x86_64".to_owned()
}

fn yes() -> bool {
    true
}

/// `builtin:rednix-initfs`: writes one file, the initfs image, at `output`.
pub fn initfs(attributes: &Value, output: &Path) -> Result<()> {
    let attributes: InitfsAttributes = parse("builtin:rednix-initfs", &INITFS_VERSIONS, attributes)?;
    let bootstrap = match &attributes.bootstrap {
        Some(bootstrap) => Some(read_bounded(&bootstrap.source)?),
        None => None,
    };
    let mut entries = Vec::new();
    for entry in attributes.entries {
        initfs_entry(entry, &mut entries)?;
    }
    let image = initfs::build(attributes.format, bootstrap.as_deref(), &entries)?;
    fs::write(output, image).map_err(Error::io("write", output))
}

/// `builtin:rednix-image`: writes `disk.img` and `manifest.json` into the directory `output`.
pub fn image(attributes: &Value, output: &Path) -> Result<Written> {
    let attributes: ImageAttributes = parse("builtin:rednix-image", &IMAGE_VERSIONS, attributes)?;
    let all = || attributes.packages.iter().map(|package| package.name.clone()).collect();
    let listed = attributes.listed.clone().unwrap_or_else(all);
    let request = Request {
        name: attributes.name,
        system: attributes.config_name,
        architecture: attributes.architecture,
        config: attributes.config,
        packages: attributes.packages,
        listed,
        loader: attributes.loader,
        bios: attributes.bios,
        initfs: attributes.initfs,
        initfs_additions: attributes.initfs_additions,
    };
    disk::write(&request, output)
}

fn parse<T: DeserializeOwned>(builder: &'static str, versions: &[u64], attributes: &Value) -> Result<T> {
    let fail = |message: String| Error::Attributes { builder, message };
    match attributes.get("formatVersion").and_then(Value::as_u64) {
        Some(found) if versions.contains(&found) => {}
        found => {
            let found = found.map_or("none".to_owned(), |version| version.to_string());
            let known: Vec<String> = versions.iter().map(u64::to_string).collect();
            let known = known.join(" and ");
            return Err(fail(format!("`formatVersion` is {found}, this rednix understands {known}")));
        }
    }
    T::deserialize(attributes).map_err(|error| fail(format!("attributes: {error}")))
}

fn initfs_entry(entry: InitfsEntry, entries: &mut Vec<Entry>) -> Result<()> {
    let path = entry.path.trim_start_matches('/').to_owned();
    match (entry.source, entry.text, entry.target) {
        (Some(source), None, None) => host_entry(&source, path, entry.executable, entries),
        (None, Some(text), None) => {
            let node = Node::File { data: text.into_bytes(), executable: entry.executable.unwrap_or(false) };
            entries.push(Entry { path, node });
            Ok(())
        }
        (None, None, Some(target)) => {
            entries.push(Entry { path, node: Node::Symlink { target } });
            Ok(())
        }
        (None, None, None) => {
            entries.push(Entry { path, node: Node::Directory });
            Ok(())
        }
        _ => Err(Error::Attributes {
            builder: "builtin:rednix-initfs",
            message: format!("entry `{path}` has more than one of `source`, `text`, `target`"),
        }),
    }
}

/// A file, symlink or whole directory of the host at `path`.
fn host_entry(source: &Path, path: String, executable: Option<bool>, entries: &mut Vec<Entry>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // The named source itself may be a link; links inside a directory are kept as links.
    let mut pending = vec![(fs::canonicalize(source).map_err(Error::io("find", source))?, path, 0)];
    while let Some((host, path, depth)) = pending.pop() {
        let metadata = fs::symlink_metadata(&host).map_err(Error::io("inspect", &host))?;
        let text = |value: &std::ffi::OsStr| {
            value.to_str().map(str::to_owned).ok_or_else(|| {
                Error::malformed("initfs", format!("`{}`: a name is not UTF-8", host.display()))
            })
        };
        if metadata.is_dir() {
            if depth > INITFS_DEPTH_MAX {
                return Err(Error::malformed("initfs", format!("`{}` is nested too deeply", host.display())));
            }
            for item in fs::read_dir(&host).map_err(Error::io("list", &host))? {
                let item = item.map_err(Error::io("list", &host))?;
                pending.push((item.path(), join(&path, &text(&item.file_name())?), depth + 1));
            }
            if !path.is_empty() {
                entries.push(Entry { path, node: Node::Directory });
            }
        } else if metadata.is_symlink() {
            let target = fs::read_link(&host).map_err(Error::io("read the link", &host))?;
            entries.push(Entry { path, node: Node::Symlink { target: text(target.as_os_str())? } });
        } else {
            let executable = executable.unwrap_or(metadata.permissions().mode() & 0o100 != 0);
            entries.push(Entry { path, node: Node::File { data: read_bounded(&host)?, executable } });
        }
    }
    Ok(())
}

fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let size = fs::metadata(path).map_err(Error::io("inspect", path))?.len();
    if size > INITFS_SIZE_MAX {
        return Err(Error::malformed(
            "initfs",
            format!("`{}` is larger than an initfs may be", path.display()),
        ));
    }
    fs::read(path).map_err(Error::io("read", path))
}
