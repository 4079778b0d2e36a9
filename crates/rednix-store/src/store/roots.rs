//! Roots: what collection must keep. Permanent ones are links below `gcroots`; indirect ones are links there to
//! users' own links; temporary ones are lists kept by running processes. Deletes no contents.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

use rustix::fs::FlockOperation;

use super::scratch::unique_name;
use super::{Store, locks};
use crate::error::{Error, Result};
use crate::hash::{Hash, HashAlgorithm};
use crate::limits::{ROOT_DEPTH_MAX, ROOT_LINKS_MAX, TEMPORARY_ROOTS_BYTES_MAX};
use crate::nix32;
use crate::path::{STORE_DIR, StorePath};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RootKind {
    /// A link below `gcroots` or `profiles` to the store.
    Permanent,
    /// A user's own link.
    Indirect,
    /// Needed by a running process.
    Temporary,
}

/// Something that keeps a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Root {
    pub path: StorePath,
    pub kind: RootKind,
    /// The link, or the process's list.
    pub link: PathBuf,
}

/// This process's list of temporary roots; begun with the first one.
#[derive(Debug, Default)]
pub(super) struct TemporaryRoots {
    file: Option<(File, PathBuf)>,
    known: HashSet<StorePath>,
}

impl Drop for TemporaryRoots {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.file {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Store {
    /// Keeps paths, valid or not yet, from being collected while this store is open. Call it before looking
    /// whether a path is there: from then on the answer stays true.
    pub fn add_temp_roots<'a>(&self, paths: impl IntoIterator<Item = &'a StorePath>) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        let mut roots = self.temporary_roots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let new: BTreeSet<&StorePath> =
            paths.into_iter().filter(|path| !roots.known.contains(*path)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let _guard = self.lock_against_collection()?;
        match &mut roots.file {
            None => roots.file = Some(self.begin_temp_roots(new.iter().copied())?),
            Some((file, path)) => {
                append(file, &lines(new.iter().copied()))
                    .map_err(|error| Error::io("write", &*path, error))?;
            }
        }
        roots.known.extend(new.into_iter().cloned());
        Ok(())
    }

    pub fn add_temp_root(&self, path: &StorePath) -> Result<()> {
        self.add_temp_roots([path])
    }

    /// Ends what [`Store::add_temp_roots`] promised about some paths. For a process that goes on for long: whoever calls
    /// it knows that nothing else done with this store relies on them.
    pub fn release_temp_roots<'a>(&self, paths: impl IntoIterator<Item = &'a StorePath>) -> Result<()> {
        let mut roots = self.temporary_roots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let released: HashSet<&StorePath> =
            paths.into_iter().filter(|path| roots.known.contains(*path)).collect();
        if released.is_empty() {
            return Ok(());
        }
        let kept: HashSet<StorePath> =
            roots.known.iter().filter(|path| !released.contains(path)).cloned().collect();
        // A new list takes the place of the old one, which counts until then, whatever fails.
        let _guard = self.lock_against_collection()?;
        let list = if kept.is_empty() { None } else { Some(self.begin_temp_roots(&kept)?) };
        roots.known = kept;
        match std::mem::replace(&mut roots.file, list) {
            Some((_, path)) => std::fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error)),
            None => Ok(()),
        }
    }

    /// A new list, locked as those of running processes are.
    fn begin_temp_roots<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a StorePath>,
    ) -> Result<(File, PathBuf)> {
        let path = self.layout.temporary_roots().join(unique_name("rednix"));
        let folder = self.layout.temporary_roots();
        std::fs::create_dir_all(&folder).map_err(|error| Error::io("create the folder", &folder, error))?;
        let mut file = locks::open_lock_file(&path)?;
        locks::flock(&file, &path, FlockOperation::LockExclusive)?;
        file.write_all(&lines(paths)).map_err(|error| Error::io("write", &path, error))?;
        Ok((file, path))
    }

    /// Makes `gcroots/rednix/<name>` a root for `path`, replacing what the name stood for.
    pub fn add_root(&self, name: &str, path: &StorePath) -> Result<PathBuf> {
        self.need_writable("add a root")?;
        let link = self.own_root(name)?;
        self.add_temp_root(path)?;
        let folder = link.parent().expect("the link lies below the roots");
        std::fs::create_dir_all(folder).map_err(|error| Error::io("create the folder", folder, error))?;
        replace_link(&link, Path::new(&path.to_string()))?;
        Ok(link)
    }

    /// Removes a root made by [`Store::add_root`]; says whether there was one.
    pub fn remove_root(&self, name: &str) -> Result<bool> {
        self.need_writable("remove a root")?;
        let link = self.own_root(name)?;
        match std::fs::remove_file(&link) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("remove the root", &link, error)),
        }
    }

    fn own_root(&self, name: &str) -> Result<PathBuf> {
        let link = self.layout.roots().join("rednix").join(name);
        match crate::handle::check_relative(Path::new(name)) {
            Ok(_) => Ok(link),
            Err(reason) => Err(Error::BadRoot { path: name.into(), reason: reason.to_owned() }),
        }
    }

    /// Makes `link` (a user's own, anywhere) a symbolic link to the real place of `path`, and a root for as long
    /// as it is there. Something else of that name, or a link to elsewhere, is refused.
    pub fn add_indirect_root(&self, link: &Path, path: &StorePath) -> Result<()> {
        self.need_writable("add a root")?;
        let link = std::path::absolute(link).map_err(|error| Error::io("find", link, error))?;
        self.add_temp_root(path)?;
        let refuse = |reason: &str| Err(Error::BadRoot { path: link.clone(), reason: reason.to_owned() });
        match std::fs::symlink_metadata(&link) {
            Ok(metadata) if !metadata.is_symlink() => {
                return refuse("something that is no link has this name");
            }
            Ok(_) => {
                let target = std::fs::read_link(&link).map_err(|error| Error::io("read", &link, error))?;
                if self.store_path_of(&target).is_none() && !looks_like_a_store(&target) {
                    return refuse("it is a link to something outside the store");
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("examine", &link, error)),
        }
        replace_link(&link, &self.real_path(path))?;
        let folder = self.layout.indirect_roots();
        std::fs::create_dir_all(&folder).map_err(|error| Error::io("create the folder", &folder, error))?;
        let digest = Hash::of(HashAlgorithm::Sha1, link.as_os_str().as_encoded_bytes());
        replace_link(&folder.join(nix32::encode(digest.digest())), &link)
    }

    /// The store path that a real or a store-relative path is or lies in.
    pub fn store_path_of(&self, path: &Path) -> Option<StorePath> {
        let contents = self.layout.contents();
        let rest = path.strip_prefix(STORE_DIR).or_else(|_| path.strip_prefix(&contents)).ok()?;
        let Component::Normal(first) = rest.components().next()? else { return None };
        StorePath::from_basename(first.to_str()?).ok()
    }

    /// All roots, sorted. Stale indirect roots are left out; collection removes them.
    pub fn roots(&self) -> Result<Vec<Root>> {
        let mut roots = Vec::new();
        for folder in [self.layout.roots(), self.layout.profiles()] {
            self.find_roots(&folder, 0, &mut roots)?;
        }
        let (temporary, _) = self.read_temporary_roots()?;
        for (link, paths) in temporary {
            roots.extend(paths.into_iter().map(|path| Root {
                path,
                kind: RootKind::Temporary,
                link: link.clone(),
            }));
        }
        roots.sort();
        Ok(roots)
    }

    fn find_roots(&self, folder: &Path, depth: usize, roots: &mut Vec<Root>) -> Result<()> {
        if depth > ROOT_DEPTH_MAX {
            let reason = format!("folders are nested deeper than {ROOT_DEPTH_MAX}");
            return Err(Error::BadRoot { path: folder.to_path_buf(), reason });
        }
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| Error::io("list the roots in", folder, error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| Error::io("list the roots in", folder, error))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| Error::io("examine", &path, error))?;
            if kind.is_dir() {
                self.find_roots(&path, depth + 1, roots)?;
            } else if kind.is_symlink() {
                roots.extend(self.follow_root(&path)?);
            } else if let Some(kept) =
                entry.file_name().to_str().and_then(|n| StorePath::from_basename(n).ok())
            {
                roots.push(Root { path: kept, kind: RootKind::Permanent, link: path });
            }
        }
        Ok(())
    }

    /// Follows links from `link` until one points into the store.
    fn follow_root(&self, link: &Path) -> Result<Option<Root>> {
        let mut at = link.to_path_buf();
        for step in 0..ROOT_LINKS_MAX {
            let target = match std::fs::read_link(&at) {
                Ok(target) => target,
                // Gone, or no link any more: not a root.
                Err(error) if matches!(error.raw_os_error(), Some(code) if is_absent_or_no_link(code)) => {
                    return Ok(None);
                }
                // "Denied" is not "absent": collecting then would delete what a link keeps.
                Err(error) => return Err(Error::io("follow the root", &at, error)),
            };
            let target = at.parent().map_or(target.clone(), |parent| parent.join(&target));
            if let Some(path) = self.store_path_of(&target) {
                let kind = if step == 0 { RootKind::Permanent } else { RootKind::Indirect };
                return Ok(Some(Root { path, kind, link: at }));
            }
            at = target;
        }
        Ok(None)
    }

    /// Lists of running processes, and the files of those that have ended.
    pub(super) fn read_temporary_roots(&self) -> Result<(BTreeMap<PathBuf, Vec<StorePath>>, Vec<PathBuf>)> {
        let (mut live, mut stale) = (BTreeMap::new(), Vec::new());
        let folder = self.layout.temporary_roots();
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((live, stale)),
            other => other.map_err(|error| Error::io("list", &folder, error))?,
        };
        for entry in entries {
            let path = entry.map_err(|error| Error::io("list", &folder, error))?.path();
            let mut file = match File::open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                // Those of the user whose store this is.
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && self.is_read_only() => {
                    continue;
                }
                other => other.map_err(|error| Error::io("open", &path, error))?,
            };
            if locks::try_flock(&file, &path, FlockOperation::NonBlockingLockShared)? {
                // Its owner would hold it exclusively.
                stale.push(path);
                continue;
            }
            let mut text = Vec::new();
            (&mut file)
                .take(TEMPORARY_ROOTS_BYTES_MAX)
                .read_to_end(&mut text)
                .map_err(|error| Error::io("read", &path, error))?;
            // Taking less than all of them would let a collection delete what somebody is promised.
            if text.len() as u64 == TEMPORARY_ROOTS_BYTES_MAX {
                return Err(Error::TooManyRoots { path, bytes_max: TEMPORARY_ROOTS_BYTES_MAX });
            }
            let paths = text.split(|byte| *byte == 0).filter_map(|item| std::str::from_utf8(item).ok());
            live.insert(path, paths.filter_map(|text| StorePath::parse(text).ok()).collect());
        }
        Ok((live, stale))
    }

    /// Removes links to links that are gone. Only while collecting.
    pub(super) fn remove_stale_roots(&self) -> Result<()> {
        let folder = self.layout.indirect_roots();
        let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(()) };
        for entry in entries.flatten() {
            let link = entry.path();
            let Ok(target) = std::fs::read_link(&link) else { continue };
            if let Err(error) = std::fs::symlink_metadata(&target)
                && matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
            {
                std::fs::remove_file(&link).map_err(|error| Error::io("remove the root", &link, error))?;
            }
        }
        Ok(())
    }
}

/// All or nothing: half a line would spoil the next one.
fn append(file: &mut File, text: &[u8]) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    file.write_all(text).inspect_err(|_| {
        let _ = file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length)));
    })
}

/// Paths as they stand in a list of temporary roots.
fn lines<'a>(paths: impl IntoIterator<Item = &'a StorePath>) -> Vec<u8> {
    let mut text = Vec::new();
    for path in paths {
        text.extend_from_slice(path.to_string().as_bytes());
        text.push(0);
    }
    text
}

fn is_absent_or_no_link(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::NOENT, Errno::INVAL, Errno::NOTDIR].iter().any(|errno| errno.raw_os_error() == code)
}

/// A link left from another store (or this one under another root) may be replaced.
fn looks_like_a_store(target: &Path) -> bool {
    let mut names = target.components().filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    names.next_back().is_some_and(|name| StorePath::from_basename(name).is_ok())
}

/// Sets a link in one step, so that there is never none.
fn replace_link(link: &Path, target: &Path) -> Result<()> {
    let temporary = link.with_file_name(unique_name("link"));
    std::os::unix::fs::symlink(target, &temporary)
        .map_err(|error| Error::io("create the link", &temporary, error))?;
    std::fs::rename(&temporary, link).map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        Error::io("create the link", link, error)
    })
}
