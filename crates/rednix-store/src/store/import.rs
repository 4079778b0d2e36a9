//! Bringing in what a build made: copied or moved into canonical shape, hash parts replaced, and named by its
//! contents where it floats. Decides nothing about what may be referred to.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

use super::protocol::{self, Entering, at_once};
use super::{PathInfo, PathLocks, Store};
use crate::canonical;
use crate::error::{Error, Result};
use crate::handle::{Dir, Kind};
use crate::hash::{Hash, HashAlgorithm, Hasher};
use crate::limits::COPY_BUFFER_BYTES;
use crate::nar;
use crate::path::{ContentMethod, StorePath, content_address, fixed_output_path};
use crate::rewrite::{Rewrites, SelfReferences, hash_modulo_self};

/// How a tree gets into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportMode {
    /// The source stays as it is.
    Copy,
    /// The source itself becomes the contents, where it is on the same file system and nothing is replaced in it;
    /// else it is copied. Only for trees whose makers are all dead.
    Move,
}

/// What stands in the store now, not yet registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub nar_hash: Hash,
    pub nar_size: u64,
}

/// The name that contents give themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentName {
    pub path: StorePath,
    pub hash: Hash,
    pub content_address: String,
    /// Whether the contents mention themselves.
    pub self_reference: bool,
}

/// Names a floating output at `source` that was built as `built_as` and refers to `references` (itself, as
/// `built_as`, may be among them).
pub fn name_by_contents(
    source: &Path,
    built_as: &StorePath,
    name: &str,
    method: ContentMethod,
    algorithm: HashAlgorithm,
    references: &BTreeSet<StorePath>,
) -> Result<ContentName> {
    let mut others = references.clone();
    let mut self_reference = others.remove(built_as);
    let hash = match method {
        ContentMethod::Recursive => {
            let (hash, found) = hash_modulo_self(source, built_as, algorithm, SelfReferences::Blanked)?;
            self_reference |= found;
            hash
        }
        ContentMethod::Flat | ContentMethod::Text => hash_flat(source, algorithm)?,
        ContentMethod::Git => {
            let reason = "outputs hashed as git trees are not supported".to_owned();
            return Err(Error::BadContentAddress { name: name.to_owned(), reason });
        }
    };
    let path = fixed_output_path(method, &hash, name, &others, self_reference)?;
    Ok(ContentName { path, hash, content_address: content_address(method, &hash), self_reference })
}

/// The hash of a plain file's bytes; anything else is not flat.
pub fn hash_flat(source: &Path, algorithm: HashAlgorithm) -> Result<Hash> {
    let (parent, name) = parent_and_name(source)?;
    let mut file = parent.open_file(name)?;
    let stat = parent.metadata(name)?;
    if stat.st_mode & 0o100 != 0 {
        let reason = "a flat output must not be executable".to_owned();
        return Err(Error::Unstorable { path: source.to_path_buf(), reason });
    }
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    loop {
        match file.read(&mut buffer).map_err(|error| Error::io("read", source, error))? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

impl Store {
    /// Puts the tree at `source` in place as `path`, which must not be valid yet and must be locked by the caller,
    /// in canonical shape and with `rewrites` done. `known` is the NAR's hash and size where the caller has them
    /// already; it does not count where something is rewritten. The caller registers the path afterwards.
    pub fn import_tree(
        &self,
        source: &Path,
        path: &StorePath,
        mode: ImportMode,
        rewrites: &Rewrites,
        known: Option<(Hash, u64)>,
    ) -> Result<Imported> {
        self.need_writable("import a path")?;
        if self.is_valid(path)? {
            let reason = "the path is valid already".to_owned();
            return Err(Error::Unstorable { path: self.real_path(path), reason });
        }
        self.add_temp_root(path)?;
        let (parent, name) = parent_and_name(source)?;
        if !(mode == ImportMode::Move && rewrites.is_empty() && self.take(&parent, name, path, known)?) {
            let scratch = self.scratch_dir("import")?;
            let made = OsStr::new(path.basename());
            canonical::copy_tree(&parent, name, scratch.dir(), made, rewrites)?;
            self.link_new(scratch.dir(), made, scratch.dir())?;
            self.place(scratch.dir(), made, path, known.filter(|_| rewrites.is_empty()))?;
            scratch.close()?;
        }
        let (nar_hash, nar_size) = match known {
            Some(known) if rewrites.is_empty() => known,
            _ => nar::hash_path(self.real_path(path), HashAlgorithm::Sha256)?,
        };
        Ok(Imported { nar_hash, nar_size })
    }

    /// Moves a tree into place; false where it is on another file system.
    fn take(&self, parent: &Dir, name: &OsStr, path: &StorePath, known: Option<(Hash, u64)>) -> Result<bool> {
        if parent.metadata(name)?.st_dev != self.contents.metadata("")?.st_dev {
            return Ok(false);
        }
        canonical::canonicalise(parent, name)?;
        if self.link_equal_files {
            let scratch = self.scratch_dir("link")?;
            self.link_new(parent, name, scratch.dir())?;
            scratch.close()?;
        }
        match self.place(parent, name, path, known) {
            // Two mounts of one file system.
            Err(error) if error.os_error() == Some(rustix::io::Errno::XDEV.raw_os_error()) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Imports and registers in one go, for a single path (fetched files, unpacked archives).
    pub fn import_and_register(&self, source: &Path, mode: ImportMode, info: &PathInfo) -> Result<bool> {
        at_once(protocol::enter(&mut One { store: self, source, mode, info }))
    }
}

/// One finished tree on its way in.
struct One<'a> {
    store: &'a Store,
    source: &'a Path,
    mode: ImportMode,
    info: &'a PathInfo,
}

impl Entering for One<'_> {
    type Error = Error;
    type Lock = PathLocks;
    type Made = ();

    async fn promise(&mut self) -> Result<()> {
        self.store.add_temp_root(&self.info.path)
    }

    async fn are_valid(&mut self) -> Result<bool> {
        self.store.is_valid(&self.info.path)
    }

    async fn lock(&mut self) -> Result<PathLocks> {
        self.store.lock_path(&self.info.path)
    }

    async fn make(&mut self) -> Result<()> {
        Ok(())
    }

    async fn put_in_place(&mut self, (): &()) -> Result<()> {
        let known = Some((self.info.nar_hash, self.info.nar_size));
        self.store.import_tree(self.source, &self.info.path, self.mode, &Rewrites::new(), known).map(drop)
    }

    async fn register(&mut self) -> Result<()> {
        self.store.register_valid_paths(std::slice::from_ref(self.info))
    }

    async fn clear_away(&mut self, (): ()) -> Result<()> {
        Ok(())
    }
}

fn parent_and_name(source: &Path) -> Result<(Dir, &OsStr)> {
    let name = source.file_name().ok_or_else(|| Error::Escapes {
        path: source.to_path_buf(),
        reason: "it has no name of its own".to_owned(),
    })?;
    let parent = match source.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => Dir::open(parent)?,
        _ => Dir::open(".")?,
    };
    if parent.kind(name)? == Kind::Other {
        let reason = "it is a device, a socket or a pipe".to_owned();
        return Err(Error::Unstorable { path: source.to_path_buf(), reason });
    }
    Ok((parent, name))
}
