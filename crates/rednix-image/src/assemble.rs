//! Composes the root tree in upstream's order: configured files, packages and the record of them, postinstall files,
//! users and groups. It decides who wins a path; it writes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::additions::{self, Addition};
use crate::closure::Closure;
use crate::config::{self, Config, FileEntry};
use crate::error::{Error, Result};
use crate::files;
use crate::limits::{DIRECTORY_DEPTH_MAX, WARNINGS_MAX};
use crate::loaders;
use crate::state::State;
use crate::tree::{Content, Entry, Node, Tree, join};
use crate::users;

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
    /// What a person should know and what to do about it.
    pub warnings: Vec<String>,
    /// Lines for the log only.
    pub notes: Vec<String>,
}

/// What a tree is made of.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The configuration's name; may be empty.
    pub system: &'a str,
    pub config: &'a Config,
    /// Packages in the order they are installed: later ones win.
    pub closure: &'a Closure<'a>,
    pub state: &'a State,
    pub initfs: Option<&'a Path>,
    /// Changes to the initfs that a package brings.
    pub initfs_additions: &'a [Addition],
    /// Where the loaders of the image look for kernel and initfs.
    pub boot_folder: Option<&'a str>,
}

/// Builds the whole tree.
pub fn assemble(sources: Sources<'_>) -> Result<Assembled> {
    let Sources { system, config, closure, state, initfs, initfs_additions, boot_folder } = sources;
    let mut tree = Tree::default();
    let mut collisions = Vec::new();
    let own = own_files(system, config, &state.build_id());
    for file in config.files.iter().filter(|file| !file.postinstall).chain(&own) {
        files::apply(&mut tree, file)?;
    }
    for member in &closure.members {
        if let Some(folder) = &member.package.path {
            merge_package(&mut tree, &member.package.name, folder, &mut collisions)?;
        }
    }
    state.place(&mut tree, closure)?;
    if let Some(initfs) = initfs {
        place_initfs(&mut tree, initfs)?;
    }
    let notes = additions::apply(&mut tree, initfs_additions)?;
    for file in config.files.iter().filter(|file| file.postinstall) {
        files::apply(&mut tree, file)?;
    }
    let mut warnings = describe(&collisions);
    if let Some(folder) = boot_folder {
        loaders::place_boot_files(&mut tree, folder, &mut warnings)?;
    }
    users::apply(&mut tree, config, system)?;
    Ok(Assembled { tree, collisions, warnings, notes })
}

/// What upstream's installer adds to the configured files. Its build id is the commit of the recipe tree; here it
/// stands for the packages' contents, so that it changes only when they do.
fn own_files(system: &str, config: &Config, build_id: &str) -> [FileEntry; 2] {
    let mut release = String::new();
    if !system.is_empty() {
        let quoted = system.replace('\\', "\\\\").replace('"', "\\\"");
        release.push_str(&format!("VARIANT=\"{quoted}\"\n"));
    }
    release.push_str(&format!("BUILD_ID=\"{build_id}\"\n"));
    let file = |path: &str, data: String| FileEntry { path: path.to_owned(), data, ..FileEntry::default() };
    [
        file("/filesystem.toml", config::without_secrets(config)),
        FileEntry { append: true, ..file("/usr/lib/os-release", release) },
    ]
}

/// The store keeps only whether a file is executable, so files become 0644 or 0755, directories 0755.
fn merge_package(tree: &mut Tree, name: &str, folder: &Path, collisions: &mut Vec<Collision>) -> Result<()> {
    let origin = format!("package {name}");
    let mut pending = vec![(folder.to_owned(), String::new(), 0)];
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
    let folder = tree.make_directories(crate::tree::parent_of(PATH), "initfs")?;
    let place = join(&folder, "initfs");
    if tree.get(&place).is_some() {
        return Ok(());
    }
    let size = fs::metadata(initfs).map_err(Error::io("inspect", initfs))?.len();
    tree.put(&place, Entry::file(Content::Host { path: initfs.to_owned(), size }, 0o644, "initfs"))
}

/// Collisions for people: one line per winner and loser.
fn describe(collisions: &[Collision]) -> Vec<String> {
    const NAMED_MAX: usize = 3;
    let mut pairs: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for collision in collisions {
        pairs.entry((&collision.loser, &collision.winner)).or_default().push(&collision.path);
    }
    let mut lines: Vec<String> = Vec::new();
    for ((loser, winner), paths) in &pairs {
        let named: Vec<String> = paths.iter().take(NAMED_MAX).map(|path| format!("`/{path}`")).collect();
        let more = match paths.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let advice =
            if *loser == "configuration" { "; `postinstall = true` keeps the configuration's" } else { "" };
        lines.push(format!("{winner} replaces {}{more} of {loser}{advice}", named.join(", ")));
    }
    if lines.len() > WARNINGS_MAX {
        let more = lines.len() - WARNINGS_MAX;
        lines.truncate(WARNINGS_MAX);
        lines.push(format!("{more} further pairs of packages collide; manifest.json has them all"));
    }
    lines
}
