//! Files, directories and symlinks that the configuration asks for, by upstream's rules. It decides neither their
//! order nor when they come.
//!
//! Parents are made as they are needed. A directory has mode 0755 and a file 0644 unless another is given; an owner
//! that is not given stays. Writing goes through a symlink to the file it names; a symlink replaces a symlink only.

use std::io::Read;

use crate::config::FileEntry;
use crate::error::{Error, Result};
use crate::limits::APPEND_SIZE_MAX;
use crate::tree::{self, Content, Entry, Node, Tree};

const CONFIGURATION: &str = "configuration";

/// Applies one entry.
pub fn apply(tree: &mut Tree, file: &FileEntry) -> Result<()> {
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
pub fn existing_bytes(tree: &Tree, path: &str) -> Result<Vec<u8>> {
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
