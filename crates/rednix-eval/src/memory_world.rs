//! A world in memory, for tests: files are a map, the store only computes names.

use crate::world::{AddPath, FileKind, World, WorldError, WorldResult};
use rednix_store::derivation::Derivation;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::nar::Tree;
use rednix_store::path::{ContentMethod, StorePath, fixed_output_path, text_path};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

#[derive(Clone, Debug)]
enum Node {
    File { contents: Vec<u8>, executable: bool },
    Link(PathBuf),
}

/// Directories are there where a file lies below them.
#[derive(Clone, Debug, Default)]
pub struct MemoryWorld {
    files: BTreeMap<PathBuf, Node>,
    environment: BTreeMap<Vec<u8>, Vec<u8>>,
    derivations: BTreeMap<StorePath, Derivation>,
    /// Messages so far, shared with whoever asked for them.
    pub messages: Arc<Mutex<Vec<String>>>,
}

impl MemoryWorld {
    pub fn new() -> MemoryWorld {
        MemoryWorld::default()
    }

    pub fn file(mut self, path: &str, contents: &str) -> MemoryWorld {
        self.files.insert(path.into(), Node::File { contents: contents.into(), executable: false });
        self
    }

    pub fn executable(mut self, path: &str, contents: &str) -> MemoryWorld {
        self.files.insert(path.into(), Node::File { contents: contents.into(), executable: true });
        self
    }

    pub fn link(mut self, path: &str, target: &str) -> MemoryWorld {
        self.files.insert(path.into(), Node::Link(target.into()));
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> MemoryWorld {
        self.environment.insert(name.into(), value.into());
        self
    }

    fn is_directory(&self, path: &Path) -> bool {
        path == Path::new("/") || self.files.keys().any(|file| file != path && file.starts_with(path))
    }

    fn follow(&self, path: &Path) -> PathBuf {
        let mut path = path.to_path_buf();
        for _ in 0..16 {
            let Some(Node::Link(target)) = self.files.get(&path) else { break };
            path.pop();
            path.push(target);
        }
        path
    }

    fn tree(&self, request: &AddPath<'_>) -> WorldResult<Tree> {
        let fail = |error: rednix_store::Error| WorldError::Failed(error.to_string());
        let node = |node: &Node| match node {
            Node::File { contents, executable: true } => Tree::executable(contents.clone()),
            Node::File { contents, .. } => Tree::file(contents.clone()),
            Node::Link(target) => Tree::symlink(target.as_os_str().as_encoded_bytes()),
        };
        if let Some(only) = self.files.get(request.path) {
            return Ok(node(only));
        }
        if !self.is_directory(request.path) {
            return Err(WorldError::Missing(request.path.display().to_string()));
        }
        let mut tree = Tree::directory();
        for (path, file) in &self.files {
            let Ok(relative) = path.strip_prefix(request.path) else { continue };
            let wanted = |accepted: &BTreeSet<PathBuf>| {
                relative.ancestors().all(|part| part == Path::new("") || accepted.contains(part))
            };
            if request.accepted.is_none_or(wanted) {
                tree.insert(&relative.to_string_lossy(), node(file)).map_err(fail)?;
            }
        }
        // Directories that were accepted but are empty now are kept.
        for part in request.accepted.into_iter().flatten() {
            if self.is_directory(&request.path.join(part)) {
                let _ = tree.insert(&part.to_string_lossy(), Tree::directory());
            }
        }
        Ok(tree)
    }
}

impl World for MemoryWorld {
    fn read_file(&mut self, path: &Path) -> WorldResult<Vec<u8>> {
        match self.files.get(&self.follow(path)) {
            Some(Node::File { contents, .. }) => Ok(contents.clone()),
            _ => Err(WorldError::Missing(path.display().to_string())),
        }
    }

    fn read_dir(&mut self, path: &Path) -> WorldResult<Vec<(Vec<u8>, FileKind)>> {
        let path = self.follow(path);
        if self.files.contains_key(&path) {
            let message = format!("cannot read directory \"{}\": Not a directory", path.display());
            return Err(WorldError::Failed(message));
        }
        if !self.is_directory(&path) {
            return Err(WorldError::Missing(path.display().to_string()));
        }
        let mut names = BTreeMap::new();
        for (file, node) in &self.files {
            let Ok(relative) = file.strip_prefix(&path) else { continue };
            let mut parts = relative.components();
            let Some(first) = parts.next() else { continue };
            let kind = match (parts.next(), node) {
                (Some(_), _) => FileKind::Directory,
                (None, Node::Link(_)) => FileKind::Symlink,
                (None, Node::File { .. }) => FileKind::Regular,
            };
            names.insert(first.as_os_str().as_encoded_bytes().to_vec(), kind);
        }
        Ok(names.into_iter().collect())
    }

    fn file_kind(&mut self, path: &Path) -> WorldResult<Option<FileKind>> {
        Ok(match self.files.get(path) {
            Some(Node::File { .. }) => Some(FileKind::Regular),
            Some(Node::Link(_)) => Some(FileKind::Symlink),
            None => self.is_directory(path).then_some(FileKind::Directory),
        })
    }

    fn read_link(&mut self, path: &Path) -> WorldResult<PathBuf> {
        match self.files.get(path) {
            Some(Node::Link(target)) => Ok(target.clone()),
            _ => Err(WorldError::Failed(format!("`{}` is no link", path.display()))),
        }
    }

    fn environment(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        self.environment.get(name).cloned()
    }

    fn add_path(&mut self, request: &AddPath<'_>) -> WorldResult<StorePath> {
        let fail = |error: rednix_store::Error| WorldError::Failed(error.to_string());
        let tree = self.tree(request)?;
        let hash = match (request.method, self.files.get(request.path)) {
            (ContentMethod::Flat, Some(Node::File { contents, .. })) => Hash::sha256(contents),
            (ContentMethod::Flat, _) => {
                let message = format!("`{}` is no regular file", request.path.display());
                return Err(WorldError::Failed(message));
            }
            _ => tree.hash(HashAlgorithm::Sha256).map_err(fail)?.0,
        };
        if request.expected.is_some_and(|expected| *expected != hash) {
            let shown = request.path.display();
            let message = format!("store path mismatch in (possibly filtered) path added from '{shown}'");
            return Err(WorldError::Failed(message));
        }
        fixed_output_path(request.method, &hash, request.name, &BTreeSet::new(), false).map_err(fail)
    }

    fn add_text(
        &mut self,
        name: &str,
        text: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> WorldResult<StorePath> {
        text_path(name, &Hash::sha256(text), references)
            .map_err(|error| WorldError::Failed(error.to_string()))
    }

    fn write_derivation(&mut self, path: &StorePath, derivation: &Derivation, _: &[u8]) -> WorldResult<()> {
        self.derivations.insert(path.clone(), derivation.clone());
        Ok(())
    }

    fn read_derivation(&mut self, path: &StorePath) -> WorldResult<Derivation> {
        let found = self.derivations.get(path).cloned();
        found.ok_or_else(|| WorldError::Failed(format!("path '{path}' is not valid")))
    }

    fn realise(&mut self, _: &[(StorePath, Option<String>)]) -> WorldResult<Vec<StorePath>> {
        Err(WorldError::Failed("this world builds nothing".into()))
    }

    fn is_valid(&mut self, path: &StorePath) -> WorldResult<bool> {
        Ok(self.derivations.contains_key(path))
    }

    fn current_system(&self) -> String {
        "x86_64-linux".into()
    }

    fn message(&mut self, text: &str) {
        self.messages.lock().expect("no holder of the lock panics").push(text.to_owned());
    }
}
