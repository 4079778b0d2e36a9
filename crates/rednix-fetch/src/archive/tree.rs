//! `builtin:rednix-tree`: a tree from a list of entries.
//!
//! Owners, modes beyond "executable" and times are not its business.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use rednix_store::handle::{Dir, check_relative};

use super::writer::{TreeWriter, is_executable};
use super::{Error, attributes};

const BUILDER: &str = "builtin:rednix-tree";

#[derive(serde::Deserialize)]
struct Attributes {
    entries: Vec<TreeEntry>,
}

/// One entry as the derivation has it.
#[derive(serde::Deserialize)]
struct TreeEntry {
    path: String,
    #[serde(rename = "type", default)]
    kind: Kind,
    text: Option<String>,
    source: Option<PathBuf>,
    target: Option<String>,
    executable: Option<bool>,
}

#[derive(Clone, Copy, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    File,
    Symlink,
    Directory,
}

/// Builds the tree. A file has `text` or `source`, a symbolic link `target`, a directory may have a `source` tree.
pub fn tree(value: &serde_json::Value, output: &Path) -> Result<(), Error> {
    let attributes: Attributes = attributes(BUILDER, value)?;
    let mut writer = TreeWriter::create(output)?;
    let mut seen = BTreeSet::new();
    for entry in &attributes.entries {
        let wrong = |reason: &str| Error::Attributes {
            builder: BUILDER,
            reason: format!("entry `{}` {reason}", entry.path),
        };
        let text = entry.path.strip_prefix('/').unwrap_or(&entry.path);
        let path: PathBuf = check_relative(Path::new(text)).map_err(wrong)?.into_iter().collect();
        if !seen.insert(path.clone()) {
            return Err(wrong("is there twice"));
        }
        write(&mut writer, &path, entry, &wrong)?;
    }
    Ok(())
}

fn write(
    writer: &mut TreeWriter,
    path: &Path,
    entry: &TreeEntry,
    wrong: &dyn Fn(&str) -> Error,
) -> Result<(), Error> {
    match (entry.kind, &entry.text, &entry.source, &entry.target) {
        (Kind::File, Some(text), None, None) => {
            let executable = entry.executable.unwrap_or(false);
            Ok(writer.file(path, executable, None, &mut text.as_bytes())?)
        }
        (Kind::File, None, Some(source), None) => {
            let mut file = File::open(source).map_err(|error| Error::io("open", source, error))?;
            let metadata = file.metadata().map_err(|error| Error::io("inspect", source, error))?;
            if !metadata.is_file() {
                return Err(wrong("has a source that is no file"));
            }
            let executable = match entry.executable {
                Some(executable) => executable,
                None => is_executable(&file).map_err(|error| Error::io("inspect", source, error))?,
            };
            Ok(writer.file(path, executable, None, &mut file)?)
        }
        (Kind::Symlink, None, None, Some(target)) => Ok(writer.symlink(path, OsStr::new(target))?),
        (Kind::Directory, None, None, None) => Ok(writer.folder(path)?),
        (Kind::Directory, None, Some(source), None) => {
            Ok(writer.copy_tree(&Dir::open(source)?, path, &mut |_| Ok(false))?)
        }
        (Kind::File, ..) => Err(wrong("is a file and needs either `text` or `source`")),
        (Kind::Symlink, ..) => Err(wrong("is a symlink and needs `target` alone")),
        (Kind::Directory, ..) => Err(wrong("is a directory and takes at most `source`")),
    }
}
