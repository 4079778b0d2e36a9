//! A tree in memory, for sources that are computed and for tests. Large trees belong on disk.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use super::read::{Visitor, read};
use super::write::Writer;
use crate::error::{Error, Result};
use crate::hash::{Hash, HashAlgorithm, Hasher};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    File { executable: bool, contents: Vec<u8> },
    Symlink { target: Vec<u8> },
    Directory(BTreeMap<Vec<u8>, Tree>),
}

impl Tree {
    pub fn file(contents: impl Into<Vec<u8>>) -> Tree {
        Tree::File { executable: false, contents: contents.into() }
    }

    pub fn executable(contents: impl Into<Vec<u8>>) -> Tree {
        Tree::File { executable: true, contents: contents.into() }
    }

    pub fn symlink(target: impl Into<Vec<u8>>) -> Tree {
        Tree::Symlink { target: target.into() }
    }

    pub fn directory() -> Tree {
        Tree::Directory(BTreeMap::new())
    }

    /// Puts a node at a relative path, making the directories above it. A path through a file, or to something
    /// that is there already, is an error.
    pub fn insert(&mut self, path: &str, node: Tree) -> Result<()> {
        let fault = |reason: &str| Err(Error::Unstorable { path: path.into(), reason: reason.to_owned() });
        let mut at = self;
        let mut components = path.split('/').peekable();
        while let Some(component) = components.next() {
            if let Some(reason) = super::write::name_fault(component.as_bytes()) {
                return fault(&format!("`{component}` {reason}"));
            }
            let Tree::Directory(entries) = at else {
                return fault("it lies below something that is no folder");
            };
            if components.peek().is_none() {
                if entries.contains_key(component.as_bytes()) {
                    return fault("it is there already");
                }
                entries.insert(component.into(), node);
                return Ok(());
            }
            at = entries.entry(component.into()).or_insert_with(Tree::directory);
        }
        fault("the path is empty")
    }

    /// Writes the tree's archive; returns its length.
    pub fn dump(&self, out: &mut (impl Write + ?Sized)) -> Result<u64> {
        let mut writer = Writer::new(out);
        let mut levels: Vec<std::collections::btree_map::Iter<'_, Vec<u8>, Tree>> = Vec::new();
        let (mut name, mut node): (&[u8], &Tree) = (b"", self);
        loop {
            match node {
                Tree::File { executable, contents } => writer.file(name, *executable, contents)?,
                Tree::Symlink { target } => writer.symlink(name, target)?,
                Tree::Directory(entries) => {
                    writer.enter_directory(name)?;
                    levels.push(entries.iter());
                }
            }
            loop {
                let Some(entries) = levels.last_mut() else { return writer.finish() };
                if let Some((next_name, next)) = entries.next() {
                    (name, node) = (next_name, next);
                    break;
                }
                writer.leave_directory()?;
                levels.pop();
            }
        }
    }

    pub fn to_nar(&self) -> Result<Vec<u8>> {
        let mut nar = Vec::new();
        self.dump(&mut nar)?;
        Ok(nar)
    }

    /// Hash and length of the tree's archive.
    pub fn hash(&self, algorithm: HashAlgorithm) -> Result<(Hash, u64)> {
        let mut hasher = Hasher::new(algorithm);
        let size = self.dump(&mut hasher)?;
        Ok((hasher.finish(), size))
    }

    /// Reads an archive into memory; files of more than `bytes_max` together are refused.
    pub fn read(stream: &mut (impl Read + ?Sized), bytes_max: u64) -> Result<Tree> {
        let mut builder = Builder { open: Vec::new(), done: None, left: bytes_max };
        read(stream, &mut builder)?;
        Ok(builder.done.expect("a whole archive has a root"))
    }
}

struct Builder {
    open: Vec<(Vec<u8>, BTreeMap<Vec<u8>, Tree>)>,
    done: Option<Tree>,
    left: u64,
}

impl Builder {
    fn add(&mut self, name: &[u8], node: Tree) {
        match self.open.last_mut() {
            Some((_, entries)) => {
                entries.insert(name.to_vec(), node);
            }
            None => self.done = Some(node),
        }
    }
}

impl Visitor for Builder {
    fn file(&mut self, name: &[u8], executable: bool, size: u64, stream: &mut dyn Read) -> Result<()> {
        self.left = self.left.checked_sub(size).ok_or_else(|| Error::BadNar {
            offset: 0,
            reason: format!("a file of {size} bytes is more than may be held in memory"),
        })?;
        let mut contents = Vec::new();
        stream.read_to_end(&mut contents).map_err(|error| Error::io("read", "the archive", error))?;
        self.add(name, Tree::File { executable, contents });
        Ok(())
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.add(name, Tree::symlink(target));
        Ok(())
    }

    fn enter_directory(&mut self, name: &[u8]) -> Result<()> {
        self.open.push((name.to_vec(), BTreeMap::new()));
        Ok(())
    }

    fn leave_directory(&mut self) -> Result<()> {
        let (name, entries) = self.open.pop().expect("only entered directories are left");
        self.add(&name, Tree::Directory(entries));
        Ok(())
    }
}
