//! The root tree of an image before it is written: every path with its kind, mode and owner, in path order.
//! It knows how paths resolve through symlinks inside the tree; it does not know packages or configurations,
//! and it never follows anything of the host.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::limits::{ENTRIES_MAX, LINK_HOPS_MAX, LINK_TARGET_LENGTH_MAX, NAME_LENGTH_MAX, PATH_LENGTH_MAX};

/// Where the bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Bytes(Vec<u8>),
    /// A file of the host, `size` bytes long, that does not change while the image is written.
    Host {
        path: PathBuf,
        size: u64,
    },
}

impl Content {
    pub fn size(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Host { size, .. } => *size,
        }
    }

    pub fn open(&self) -> Result<Box<dyn Read + '_>> {
        Ok(match self {
            Content::Bytes(bytes) => Box::new(bytes.as_slice()),
            Content::Host { path, .. } => Box::new(File::open(path).map_err(Error::io("open", path))?),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Directory,
    File(Content),
    Symlink(String),
}

impl Node {
    pub fn kind(&self) -> &'static str {
        match self {
            Node::Directory => "directory",
            Node::File(_) => "file",
            Node::Symlink(_) => "symlink",
        }
    }
}

/// One path of the image. `mode` holds the twelve permission bits only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub node: Node,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Who put it there, for messages: `package x`, `configuration`, `users`.
    pub origin: String,
}

impl Entry {
    pub fn directory(mode: u16, origin: &str) -> Self {
        Entry { node: Node::Directory, mode, uid: 0, gid: 0, origin: origin.to_owned() }
    }

    pub fn file(content: Content, mode: u16, origin: &str) -> Self {
        Entry { node: Node::File(content), mode, uid: 0, gid: 0, origin: origin.to_owned() }
    }

    pub fn symlink(target: String, origin: &str) -> Self {
        Entry { node: Node::Symlink(target), mode: 0o777, uid: 0, gid: 0, origin: origin.to_owned() }
    }
}

/// Paths have no leading slash; the root is the empty path and always a directory. A path's parent is always
/// present and a directory, and in byte order it comes before its children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Default for Tree {
    fn default() -> Self {
        Tree { entries: BTreeMap::from([(String::new(), Entry::directory(0o755, "root"))]) }
    }
}

impl Tree {
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    pub fn get_mut(&mut self, path: &str) -> Option<&mut Entry> {
        self.entries.get_mut(path)
    }

    /// All entries at and below the directory `path`.
    pub fn below_mut<'a>(&'a mut self, path: &'a str) -> impl Iterator<Item = (&'a String, &'a mut Entry)> {
        self.entries.range_mut(path.to_owned()..).filter(move |(candidate, _)| is_below(candidate, path))
    }

    /// Paths at and below the directory `path`.
    pub fn paths_below(&self, path: &str) -> Vec<String> {
        let from = self.entries.range(path.to_owned()..);
        from.map(|(candidate, _)| candidate).filter(|candidate| is_below(candidate, path)).cloned().collect()
    }

    /// Puts `entry` at `path`, whose parents must exist as directories; replaces what is there, except that a
    /// directory neither replaces nor is replaced by something else.
    pub fn put(&mut self, path: &str, entry: Entry) -> Result<()> {
        check_path(path)?;
        if self.entries.len() >= ENTRIES_MAX {
            return Err(Error::content(path, format!("more than {ENTRIES_MAX} entries")));
        }
        if let Node::Symlink(target) = &entry.node
            && (target.is_empty() || target.len() > LINK_TARGET_LENGTH_MAX || target.contains('\0'))
        {
            return Err(Error::content(path, "the symlink's target is empty, too long or holds a zero byte"));
        }
        if let Some(existing) = self.entries.get(path)
            && (existing.node == Node::Directory) != (entry.node == Node::Directory)
        {
            let message = format!(
                "{} brings a {}, but {} already has a {} there",
                entry.origin,
                entry.node.kind(),
                existing.origin,
                existing.node.kind()
            );
            return Err(Error::content(path, message));
        }
        let parent = parent_of(path);
        if !path.is_empty() && !matches!(self.entries.get(parent), Some(Entry { node: Node::Directory, .. }))
        {
            return Err(Error::content(path, "the parent is not a directory"));
        }
        self.entries.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Creates `path` and its parents as directories where they do not exist, through symlinks in the tree.
    /// Answers the path without symlinks.
    pub fn make_directories(&mut self, path: &str, origin: &str) -> Result<String> {
        let resolved = self.resolve(path)?;
        let mut at = 0;
        while at < resolved.len() {
            at = resolved[at..].find('/').map_or(resolved.len(), |slash| at + slash);
            let prefix = &resolved[..at];
            match self.entries.get(prefix) {
                Some(Entry { node: Node::Directory, .. }) => {}
                Some(other) => {
                    let message = format!(
                        "{} needs a directory there, but {} has a {}",
                        origin,
                        other.origin,
                        other.node.kind()
                    );
                    return Err(Error::content(prefix, message));
                }
                None => self.put(prefix, Entry::directory(0o755, origin))?,
            }
            at += 1;
        }
        Ok(resolved)
    }

    /// Where `path` really is, with symlinks of the tree followed in every component. Components that do not
    /// exist stay as they are.
    pub fn resolve(&self, path: &str) -> Result<String> {
        let mut pending: Vec<String> = split(path).rev().map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        let mut hops = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                done.pop();
                continue;
            }
            done.push(name);
            let here = done.join("/");
            let Some(Entry { node: Node::Symlink(target), .. }) = self.entries.get(&here) else { continue };
            hops += 1;
            if hops > LINK_HOPS_MAX {
                return Err(Error::content(path, "too many symlinks on the way (a loop?)"));
            }
            done.pop();
            if target.starts_with('/') {
                done.clear();
            }
            pending.extend(split(target).rev().map(str::to_owned));
        }
        Ok(done.join("/"))
    }

    /// Like [`Tree::resolve`], but the last component itself is not followed.
    pub fn resolve_parent(&self, path: &str) -> Result<String> {
        let names: Vec<&str> = split(path).collect();
        let Some((last, parents)) = names.split_last() else { return Ok(String::new()) };
        let parent = self.resolve(&parents.join("/"))?;
        Ok(join(&parent, last))
    }
}

pub fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

pub fn parent_of(path: &str) -> &str {
    path.rfind('/').map_or("", |slash| &path[..slash])
}

/// A path as a person wrote it, with or without slashes at its ends, as the tree keeps it. `..` is refused.
pub fn normalise(path: &str) -> Result<String> {
    let names: Vec<&str> = split(path).collect();
    let normal = names.join("/");
    check_path(&normal)?;
    Ok(normal)
}

fn split(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".")
}

fn is_below(candidate: &str, directory: &str) -> bool {
    directory.is_empty()
        || candidate.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn check_path(path: &str) -> Result<()> {
    if path.len() > PATH_LENGTH_MAX {
        return Err(Error::content(path, format!("the path is longer than {PATH_LENGTH_MAX} bytes")));
    }
    for name in path.split('/') {
        if name.len() > NAME_LENGTH_MAX {
            return Err(Error::content(path, format!("a name is longer than {NAME_LENGTH_MAX} bytes")));
        }
        // A line break would make a line of the manifest ambiguous.
        if name == ".." || name.contains(['\0', '\n']) || (name.is_empty() && !path.is_empty()) {
            return Err(Error::content(path, "holds a component that is no file name"));
        }
    }
    Ok(())
}
