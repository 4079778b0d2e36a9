//! What a tree holds, file by file, and how two such lists differ. An image counts as the tree its manifest tells of.

use std::collections::BTreeMap;
use std::path::Path;

use rednix_store::handle::{Dir, Kind, Walk};
use rednix_store::hash::{HashAlgorithm, Hasher};

use crate::failure::Failure;

/// One entry of a tree, as far as a difference would be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub kind: Kind,
    /// Zero for anything but files.
    pub bytes: u64,
    /// Whatever makes two entries of one kind and size different: contents, target, mode.
    mark: String,
}

/// By path relative to the top; the top itself is `.`.
pub type Files = BTreeMap<String, Item>;

/// Everything below `top`, or `top` itself where it is a file.
pub fn list(top: &Path) -> Result<Files, Failure> {
    if let Some(files) = list_image(top)? {
        return Ok(files);
    }
    let mut files = Files::new();
    let (parent, name) = match (top.parent(), top.file_name()) {
        (Some(parent), Some(name)) => (Dir::open(parent)?, name),
        _ => return Err(Failure::usage(format!("`{}` cannot be looked into", top.display()))),
    };
    if parent.kind(name)? != Kind::Directory {
        files.insert(".".to_owned(), item(&parent, Path::new(name), parent.kind(name)?)?);
        return Ok(files);
    }
    parent.open_dir(name)?.walk(&mut |visit| {
        let item = item(visit.parent, Path::new(&visit.entry.name), visit.entry.kind)?;
        files.insert(visit.relative.to_string_lossy().into_owned(), item);
        Ok(Walk::Continue)
    })?;
    Ok(files)
}

fn item(parent: &Dir, name: &Path, kind: Kind) -> Result<Item, rednix_store::Error> {
    Ok(match kind {
        Kind::File => {
            let status = parent.metadata(name)?;
            let mut file = parent.open_file(name)?;
            let mut hasher = Hasher::new(HashAlgorithm::Sha256);
            let mut buffer = vec![0; 128 << 10];
            loop {
                let length = std::io::Read::read(&mut file, &mut buffer)
                    .map_err(|error| rednix_store::Error::io("read", parent.path_of(name), error))?;
                if length == 0 {
                    break;
                }
                hasher.update(&buffer[..length]);
            }
            let executable = if status.st_mode & 0o100 != 0 { "x" } else { "-" };
            let mark = format!("{executable}{}", hasher.finish().to_hex());
            Item { kind, bytes: u64::try_from(status.st_size).unwrap_or(0), mark }
        }
        Kind::Symlink => {
            let target = parent.read_link(name)?.to_string_lossy().into_owned();
            Item { kind, bytes: 0, mark: target }
        }
        Kind::Directory | Kind::Other => Item { kind, bytes: 0, mark: String::new() },
    })
}

/// The files inside an image, where `top` holds one beside its manifest, and the image's own traits.
fn list_image(top: &Path) -> Result<Option<Files>, Failure> {
    let file = top.join("manifest.json");
    if !top.join("disk.img").is_file() || !file.is_file() {
        return Ok(None);
    }
    let broken = |error: String| Failure::failed(format!("`{}` cannot be read: {error}", file.display()));
    let text = std::fs::read(&file).map_err(|e| broken(e.to_string()))?;
    let manifest: rednix_image::manifest::Manifest =
        serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
    let mut files = Files::new();
    for record in &manifest.entries {
        let kind = match (&record.sha256, &record.target) {
            (Some(_), _) => Kind::File,
            (None, Some(_)) => Kind::Symlink,
            (None, None) => Kind::Directory,
        };
        let contents = record.sha256.as_deref().or(record.target.as_deref()).unwrap_or_default();
        let mark = format!("{} {}:{} {contents}", record.mode, record.uid, record.gid);
        let bytes = if kind == Kind::File { record.size } else { 0 };
        let path = if record.path.is_empty() { "." } else { &record.path };
        files.insert(path.to_owned(), Item { kind, bytes, mark });
    }
    // The loader lies in a partition of its own.
    if let Some(hash) = manifest.uefi_loader {
        files.insert("(UEFI loader)".to_owned(), Item { kind: Kind::File, bytes: 0, mark: hash });
    }
    Ok(Some(files))
}

/// How one path changed; sizes are of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Added { bytes: u64 },
    Removed { bytes: u64 },
    Changed { old_bytes: u64, new_bytes: u64 },
}

/// All that differs. Folders are told only where one became something else.
pub fn compare(old: &Files, new: &Files) -> BTreeMap<String, Change> {
    let mut changes = BTreeMap::new();
    for (path, item) in old {
        match new.get(path) {
            None if item.kind == Kind::Directory => {}
            None => drop(changes.insert(path.clone(), Change::Removed { bytes: item.bytes })),
            Some(other) if other == item => {}
            Some(other) => {
                let change = Change::Changed { old_bytes: item.bytes, new_bytes: other.bytes };
                changes.insert(path.clone(), change);
            }
        }
    }
    for (path, item) in
        new.iter().filter(|(path, item)| !old.contains_key(*path) && item.kind != Kind::Directory)
    {
        changes.insert(path.clone(), Change::Added { bytes: item.bytes });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn changes_between_trees() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(old.path(), &[("a", "1"), ("same", "s"), ("gone/deep", "12"), ("sized", "12")]);
        write(new.path(), &[("a", "2"), ("same", "s"), ("new", "123"), ("sized", "1")]);
        let changes = compare(&list(old.path()).unwrap(), &list(new.path()).unwrap());
        let expected = [
            ("a", Change::Changed { old_bytes: 1, new_bytes: 1 }),
            ("gone/deep", Change::Removed { bytes: 2 }),
            ("new", Change::Added { bytes: 3 }),
            ("sized", Change::Changed { old_bytes: 2, new_bytes: 1 }),
        ];
        assert_eq!(changes, expected.map(|(path, change)| (path.to_owned(), change)).into());
    }

    #[test]
    fn a_single_file_is_a_tree_too() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("x", "1")]);
        assert_eq!(list(&folder.path().join("x")).unwrap().keys().collect::<Vec<_>>(), ["."]);
    }
}
