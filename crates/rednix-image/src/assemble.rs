//! Composes the root tree in upstream's order: configured files, packages, postinstall files, users and groups.
//! It decides modes, owners and who wins a path; it writes nothing.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Config, FileEntry};
use crate::error::{Error, Result};
use crate::limits::{APPEND_SIZE_MAX, DIRECTORY_DEPTH_MAX};
use crate::tree::{self, Content, Entry, Node, Tree, join};
use crate::users;

const CONFIGURATION: &str = "configuration";

/// A package's files as a host directory. Modes: the store keeps only whether a file is executable, so files
/// become 0644 or 0755, directories 0755.
#[derive(Clone, Debug, Deserialize)]
pub struct Package {
    pub name: String,
    pub path: PathBuf,
}

/// Two sources wanted the same path with different contents; the later one won.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collision {
    pub path: String,
    pub winner: String,
    pub loser: String,
}

#[derive(Debug)]
pub struct Assembled {
    pub tree: Tree,
    pub collisions: Vec<Collision>,
}

/// Builds the whole tree. `name` is the image's name and goes into `usr/lib/os-release`.
pub fn assemble(
    name: &str,
    config: &Config,
    packages: &[Package],
    initfs: Option<&Path>,
) -> Result<Assembled> {
    let mut tree = Tree::default();
    let mut collisions = Vec::new();
    for file in config.files.iter().filter(|file| !file.postinstall) {
        configured_file(&mut tree, file)?;
    }
    for package in packages {
        merge_package(&mut tree, package, &mut collisions)?;
    }
    if let Some(initfs) = initfs {
        place_initfs(&mut tree, initfs)?;
    }
    for file in config.files.iter().filter(|file| file.postinstall) {
        configured_file(&mut tree, file)?;
    }
    users::apply(&mut tree, config)?;
    name_variant(&mut tree, name)?;
    Ok(Assembled { tree, collisions })
}

fn configured_file(tree: &mut Tree, file: &FileEntry) -> Result<()> {
    let path = tree::normalise(&file.path)?;
    tree.make_directories(tree::parent_of(&path), CONFIGURATION)?;
    let place = if file.directory {
        let place = tree.make_directories(&path, CONFIGURATION)?;
        set_mode(tree, &place, mode_of(file, 0o755)?);
        place
    } else if file.symlink {
        let place = tree.resolve_parent(&path)?;
        if let Some(existing) = tree.get(&place)
            && !matches!(existing.node, Node::Symlink(_))
        {
            let message = format!(
                "a configured symlink cannot replace the {} of {}",
                existing.node.kind(),
                existing.origin
            );
            return Err(Error::content(&place, message));
        }
        tree.put(&place, Entry::symlink(file.data.clone(), CONFIGURATION))?;
        place
    } else {
        // As `open` for writing does: through a symlink to the file it names.
        let place = tree.resolve(&path)?;
        tree.make_directories(tree::parent_of(&place), CONFIGURATION)?;
        let mut bytes = if file.append { existing_bytes(tree, &place)? } else { Vec::new() };
        bytes.extend_from_slice(file.data.as_bytes());
        let (uid, gid) = tree.get(&place).map_or((0, 0), |entry| (entry.uid, entry.gid));
        let entry = Entry::file(Content::Bytes(bytes), mode_of(file, 0o644)?, CONFIGURATION);
        tree.put(&place, Entry { uid, gid, ..entry })?;
        place
    };
    set_owner(tree, &place, file)
}

fn mode_of(file: &FileEntry, default: u16) -> Result<u16> {
    match file.mode {
        None => Ok(default),
        Some(mode) if mode <= 0o7777 => Ok(mode as u16),
        Some(mode) => Err(Error::content(&file.path, format!("the mode {mode:#o} has bits beyond 0o7777"))),
    }
}

fn set_mode(tree: &mut Tree, path: &str, mode: u16) {
    if let Some(entry) = tree.get_mut(path) {
        entry.mode = mode;
    }
}

/// A negative id means "unchanged", as in chown.
fn set_owner(tree: &mut Tree, place: &str, file: &FileEntry) -> Result<()> {
    let id = |value: Option<i64>| match value {
        None => Ok(None),
        Some(value) if value < 0 => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| Error::content(&file.path, format!("{value} is no user or group id"))),
    };
    let (uid, gid) = (id(file.uid)?, id(file.gid)?);
    let change = |entry: &mut Entry| {
        entry.uid = uid.unwrap_or(entry.uid);
        entry.gid = gid.unwrap_or(entry.gid);
    };
    if file.recursive_chown {
        tree.below_mut(place).for_each(|(_, entry)| change(entry));
    } else if let Some(entry) = tree.get_mut(place) {
        change(entry);
    }
    Ok(())
}

/// The bytes of an existing file that is to be appended to; none when nothing is there.
fn existing_bytes(tree: &Tree, path: &str) -> Result<Vec<u8>> {
    let Some(Entry { node: Node::File(content), .. }) = tree.get(path) else { return Ok(Vec::new()) };
    if content.size() > APPEND_SIZE_MAX {
        return Err(Error::content(
            path,
            format!("files over {APPEND_SIZE_MAX} bytes cannot be appended to"),
        ));
    }
    let mut bytes = Vec::new();
    content.open()?.take(APPEND_SIZE_MAX).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

fn merge_package(tree: &mut Tree, package: &Package, collisions: &mut Vec<Collision>) -> Result<()> {
    let origin = format!("package {}", package.name);
    let mut pending = vec![(package.path.clone(), String::new(), 0)];
    while let Some((folder, inside, depth)) = pending.pop() {
        if depth > DIRECTORY_DEPTH_MAX {
            return Err(Error::content(&inside, format!("{origin} nests directories too deeply")));
        }
        let mut names = Vec::new();
        for item in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            names.push(item.map_err(Error::io("list", &folder))?.file_name());
        }
        names.sort();
        for name in names {
            let host = folder.join(&name);
            let name = name.to_str().ok_or_else(|| {
                Error::content(&inside, format!("{origin} has a name that is not UTF-8: {name:?}"))
            })?;
            let path = join(&inside, name);
            let metadata = fs::symlink_metadata(&host).map_err(Error::io("inspect", &host))?;
            if metadata.is_dir() {
                tree.make_directories(&path, &origin)?;
                pending.push((host, path, depth + 1));
                continue;
            }
            let entry = if metadata.is_symlink() {
                let target = fs::read_link(&host).map_err(Error::io("read the link", &host))?;
                let target = target.to_str().ok_or_else(|| {
                    Error::content(&path, format!("{origin} has a link target that is not UTF-8"))
                })?;
                Entry::symlink(target.to_owned(), &origin)
            } else if metadata.is_file() {
                let mode = if metadata.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
                Entry::file(Content::Host { path: host, size: metadata.len() }, mode, &origin)
            } else {
                return Err(Error::content(
                    &path,
                    format!("{origin} has something that is no file, directory or symlink"),
                ));
            };
            merge_entry(tree, &path, entry, collisions)?;
        }
    }
    Ok(())
}

fn merge_entry(tree: &mut Tree, path: &str, entry: Entry, collisions: &mut Vec<Collision>) -> Result<()> {
    let place = tree.resolve_parent(path)?;
    if let Some(existing) = tree.get(&place)
        && !same(existing, &entry)?
    {
        collisions.push(Collision {
            path: place.clone(),
            winner: entry.origin.clone(),
            loser: existing.origin.clone(),
        });
    }
    tree.put(&place, entry)
}

/// Whether two entries would look the same in the image.
fn same(left: &Entry, right: &Entry) -> Result<bool> {
    if left.mode != right.mode {
        return Ok(false);
    }
    match (&left.node, &right.node) {
        (Node::File(left), Node::File(right)) => {
            if left == right {
                return Ok(true);
            }
            Ok(left.size() == right.size()
                && crate::manifest::sha256(left)? == crate::manifest::sha256(right)?)
        }
        (left, right) => Ok(left == right),
    }
}

/// An initfs built apart from the packages; one that a package brought stays.
fn place_initfs(tree: &mut Tree, initfs: &Path) -> Result<()> {
    const PATH: &str = "usr/lib/boot/initfs";
    let folder = tree.make_directories(tree::parent_of(PATH), "initfs")?;
    let place = join(&folder, "initfs");
    if tree.get(&place).is_some() {
        return Ok(());
    }
    let size = fs::metadata(initfs).map_err(Error::io("inspect", initfs))?.len();
    tree.put(&place, Entry::file(Content::Host { path: initfs.to_owned(), size }, 0o644, "initfs"))
}

/// Upstream's installer adds the configuration's name to os-release. Its two other additions stay out: the build
/// id of a package server, and the whole configuration, which holds plain-text passwords.
fn name_variant(tree: &mut Tree, name: &str) -> Result<()> {
    let place = tree.resolve("usr/lib/os-release")?;
    if !matches!(tree.get(&place), Some(Entry { node: Node::File(_), .. }))
        || name.contains(['"', '\n', '\\', '$', '`'])
    {
        return Ok(());
    }
    let mut bytes = existing_bytes(tree, &place)?;
    if !bytes.is_empty() && bytes.last() != Some(&b'\n') {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(format!("VARIANT=\"{name}\"\n").as_bytes());
    if let Some(entry) = tree.get_mut(&place) {
        entry.node = Node::File(Content::Bytes(bytes));
    }
    Ok(())
}
