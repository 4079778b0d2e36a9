//! The world outside of an evaluation, as one trait: files, environment, store. The evaluator itself does no I/O.

use rednix_flake::{Attributes, FlakeRef, Input};
use rednix_store::derivation::Derivation;
use rednix_store::hash::Hash;
use rednix_store::path::{ContentMethod, StorePath};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What a path names, links not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Regular,
    Directory,
    Symlink,
    /// A device, socket or pipe.
    Other,
}

/// Why the world could not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    #[error("path '{0}' does not exist")]
    Missing(String),
    /// A complete sentence, worded for the user.
    #[error("{0}")]
    Failed(String),
}

pub type WorldResult<T> = Result<T, WorldError>;

/// A file or tree to be added to the store.
#[derive(Clone, Debug)]
pub struct AddPath<'a> {
    /// Absolute; links in its parents are resolved, the last component's is not.
    pub path: &'a Path,
    pub name: &'a str,
    pub method: ContentMethod,
    /// With a filter: the accepted paths below `path`, relative to it and sorted. None takes everything.
    pub accepted: Option<&'a BTreeSet<PathBuf>>,
    pub expected: Option<&'a Hash>,
}

/// A file, or the tree of an archive, from an address.
#[derive(Clone, Debug)]
pub struct FileRequest<'a> {
    pub url: &'a str,
    pub name: &'a str,
    /// It is an archive, and its contents are wanted.
    pub unpack: bool,
    pub expected: Option<&'a Hash>,
}

/// A source that was fetched, and what is known of it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTree {
    pub path: StorePath,
    pub attributes: Attributes,
}

/// A node of a lock file whose source is in the store already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlakeTree {
    /// Its name in the lock file.
    pub node: String,
    pub tree: FetchedTree,
    /// The flake's folder in it.
    pub folder: String,
    /// The source differs from what its revision says.
    pub is_dirty: bool,
}

/// A flake that can be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlakeSources {
    /// Text of the lock file.
    pub lock: String,
    pub trees: Vec<FlakeTree>,
}

fn nothing_is_fetched<T>(what: &str) -> WorldResult<T> {
    Err(WorldError::Failed(format!("cannot fetch '{what}': this evaluation fetches nothing")))
}

/// What an evaluation may ask of the world. Paths are absolute.
pub trait World {
    /// The contents of a file; links are followed.
    fn read_file(&mut self, path: &Path) -> WorldResult<Vec<u8>>;
    /// Names and kinds in a directory, in any order; links to the directory are followed.
    fn read_dir(&mut self, path: &Path) -> WorldResult<Vec<(Vec<u8>, FileKind)>>;
    /// What a path names, without following a link in its last component; `None` where nothing is.
    fn file_kind(&mut self, path: &Path) -> WorldResult<Option<FileKind>>;
    fn read_link(&mut self, path: &Path) -> WorldResult<PathBuf>;
    /// An environment variable, where evaluation may see it.
    fn environment(&mut self, name: &[u8]) -> Option<Vec<u8>>;
    fn add_path(&mut self, request: &AddPath<'_>) -> WorldResult<StorePath>;
    fn add_text(
        &mut self,
        name: &str,
        text: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> WorldResult<StorePath>;
    /// Puts a derivation into the store, at once or later; `aterm` is its text, `path` where it goes.
    fn write_derivation(
        &mut self,
        path: &StorePath,
        derivation: &Derivation,
        aterm: &[u8],
    ) -> WorldResult<()>;
    /// A derivation that is in the store already.
    fn read_derivation(&mut self, path: &StorePath) -> WorldResult<Derivation>;
    /// Builds what evaluation needs to read (import from derivation): derivations with output names, and plain
    /// paths with none. Returns the output paths of the derivations, in order.
    fn realise(&mut self, wanted: &[(StorePath, Option<String>)]) -> WorldResult<Vec<StorePath>>;
    /// Whether a store path is valid.
    fn is_valid(&mut self, path: &StorePath) -> WorldResult<bool>;
    /// Fetches a source. What is `is_final` comes from a lock file: it is complete, and must be just that.
    fn fetch_tree(&mut self, input: &Input, is_final: bool) -> WorldResult<FetchedTree> {
        let _ = is_final;
        nothing_is_fetched(&input.show())
    }
    /// Fetches a file, or an archive's contents.
    fn fetch_file(&mut self, request: &FileRequest<'_>) -> WorldResult<StorePath> {
        nothing_is_fetched(request.url)
    }
    /// Where an entry of the search path lies that is an address; None where it leads nowhere.
    fn search_entry(&mut self, entry: &str) -> WorldResult<Option<PathBuf>> {
        nothing_is_fetched(entry)
    }
    /// Fetches a flake with all that its lock file needs, by what that file says and what is missing in it.
    /// Nothing is written. With `pure`, what is not pinned is refused.
    fn get_flake(&mut self, reference: &FlakeRef, pure: bool) -> WorldResult<FlakeSources> {
        let _ = pure;
        nothing_is_fetched(&reference.show())
    }
    fn current_system(&self) -> String;
    /// Whether `builtins.currentTime` exists.
    fn tells_time(&self) -> bool {
        false
    }
    /// Seconds since 1970, asked for when `builtins.currentTime` is used.
    fn current_time(&self) -> Option<i64> {
        None
    }
    /// A line for the user: `trace:` output and warnings.
    fn message(&mut self, text: &str);
}

impl<W: World + ?Sized> World for Box<W> {
    fn read_file(&mut self, path: &Path) -> WorldResult<Vec<u8>> {
        (**self).read_file(path)
    }
    fn read_dir(&mut self, path: &Path) -> WorldResult<Vec<(Vec<u8>, FileKind)>> {
        (**self).read_dir(path)
    }
    fn file_kind(&mut self, path: &Path) -> WorldResult<Option<FileKind>> {
        (**self).file_kind(path)
    }
    fn read_link(&mut self, path: &Path) -> WorldResult<PathBuf> {
        (**self).read_link(path)
    }
    fn environment(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        (**self).environment(name)
    }
    fn add_path(&mut self, request: &AddPath<'_>) -> WorldResult<StorePath> {
        (**self).add_path(request)
    }
    fn add_text(
        &mut self,
        name: &str,
        text: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> WorldResult<StorePath> {
        (**self).add_text(name, text, references)
    }
    fn write_derivation(
        &mut self,
        path: &StorePath,
        derivation: &Derivation,
        aterm: &[u8],
    ) -> WorldResult<()> {
        (**self).write_derivation(path, derivation, aterm)
    }
    fn read_derivation(&mut self, path: &StorePath) -> WorldResult<Derivation> {
        (**self).read_derivation(path)
    }
    fn realise(&mut self, wanted: &[(StorePath, Option<String>)]) -> WorldResult<Vec<StorePath>> {
        (**self).realise(wanted)
    }
    fn is_valid(&mut self, path: &StorePath) -> WorldResult<bool> {
        (**self).is_valid(path)
    }
    fn fetch_tree(&mut self, input: &Input, is_final: bool) -> WorldResult<FetchedTree> {
        (**self).fetch_tree(input, is_final)
    }
    fn fetch_file(&mut self, request: &FileRequest<'_>) -> WorldResult<StorePath> {
        (**self).fetch_file(request)
    }
    fn search_entry(&mut self, entry: &str) -> WorldResult<Option<PathBuf>> {
        (**self).search_entry(entry)
    }
    fn get_flake(&mut self, reference: &FlakeRef, pure: bool) -> WorldResult<FlakeSources> {
        (**self).get_flake(reference, pure)
    }
    fn current_system(&self) -> String {
        (**self).current_system()
    }
    fn tells_time(&self) -> bool {
        (**self).tells_time()
    }
    fn current_time(&self) -> Option<i64> {
        (**self).current_time()
    }
    fn message(&mut self, text: &str) {
        (**self).message(text);
    }
}
