//! Directory handles: everything is opened below a handle, never through a symbolic link or `..`, so that a
//! tree someone else may write to cannot lead outside. Knows nothing of stores.

mod remove;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

pub use remove::Removed;
pub use walk::{Visit, Walk};

use crate::error::{Error, Result};
use crate::limits::LISTING_BUFFER_BYTES;

/// What an entry of a directory is. Devices, sockets and pipes are one kind: nothing here handles them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Other,
}

impl Kind {
    pub fn of(stat: &Stat) -> Kind {
        FileType::from_raw_mode(stat.st_mode).into()
    }
}

impl From<FileType> for Kind {
    fn from(file_type: FileType) -> Kind {
        match file_type {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Other,
        }
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: OsString,
    pub kind: Kind,
}

/// An open directory. Relative paths given to its functions may have several components; each is resolved below
/// the directory, and none may be a symbolic link, except the last where the function is about that link.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// For messages only; never opened again.
    path: PathBuf,
}

/// Set once the kernel has said that it has no `openat2`.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens a directory by a path of the caller's own; symbolic links in it are followed.
    pub fn open(path: impl AsRef<Path>) -> Result<Dir> {
        let path = path.as_ref();
        let fd = rustix::fs::open(path, DIRECTORY, Mode::empty())
            .map_err(|errno| Error::io("open the folder", path, errno))?;
        Ok(Dir { fd, path: path.to_path_buf() })
    }

    /// Takes over an open directory; `path` is for messages.
    pub fn from_fd(fd: OwnedFd, path: impl Into<PathBuf>) -> Dir {
        Dir { fd, path: path.into() }
    }

    pub fn try_clone(&self) -> Result<Dir> {
        let fd =
            self.fd.try_clone().map_err(|error| Error::io("duplicate the handle of", &self.path, error))?;
        Ok(Dir { fd, path: self.path.clone() })
    }

    /// Where the directory was when it was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something below, for messages.
    pub fn path_of(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.path.join(relative)
    }

    pub fn open_dir(&self, relative: impl AsRef<Path>) -> Result<Dir> {
        let relative = relative.as_ref();
        let fd = self.open_at("open the folder", relative, DIRECTORY, Mode::empty())?;
        Ok(Dir { fd, path: self.path_of(relative) })
    }

    /// Opens a regular file for reading; anything else (a pipe could block for ever) is refused.
    pub fn open_file(&self, relative: impl AsRef<Path>) -> Result<File> {
        Ok(self.open_file_examined(relative)?.0)
    }

    /// [`Dir::open_file`], with what is known about the file.
    pub fn open_file_examined(&self, relative: impl AsRef<Path>) -> Result<(File, Stat)> {
        let relative = relative.as_ref();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.open_at("open", relative, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| self.error("examine", relative, errno))?;
        if Kind::of(&stat) != Kind::File {
            let reason = "it is not a regular file".to_owned();
            return Err(Error::Unstorable { path: self.path_of(relative), reason });
        }
        Ok((File::from(fd), stat))
    }

    /// Creates a file that must not be there yet, open for writing and reading. `mode` is subject to the umask.
    pub fn create_file(&self, relative: impl AsRef<Path>, mode: u32) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
        let fd = self.open_at("create", relative.as_ref(), flags, Mode::from_raw_mode(mode))?;
        Ok(File::from(fd))
    }

    /// Opens a file for reading and writing, creating it where it is missing; contents are kept.
    pub fn open_or_create_file(&self, relative: impl AsRef<Path>, mode: u32) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE;
        let fd = self.open_at("open", relative.as_ref(), flags, Mode::from_raw_mode(mode))?;
        Ok(File::from(fd))
    }

    pub fn create_dir(&self, relative: impl AsRef<Path>, mode: u32) -> Result<()> {
        let relative = relative.as_ref();
        self.at_parent("create the folder", relative, |parent, name| {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode))
        })
    }

    /// Creates a directory and what is missing above it; what is there already must be directories.
    pub fn create_dir_all(&self, relative: impl AsRef<Path>, mode: u32) -> Result<()> {
        let relative = relative.as_ref();
        let mut prefix = PathBuf::new();
        for component in components(self, relative)? {
            prefix.push(component);
            match self.create_dir(&prefix, mode) {
                Err(error) if error.is_already_exists() => {
                    if self.kind(&prefix)? != Kind::Directory {
                        return Err(error);
                    }
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Creates a symbolic link; `target` is stored as it is and never followed here.
    pub fn symlink(&self, target: impl AsRef<OsStr>, relative: impl AsRef<Path>) -> Result<()> {
        let target = target.as_ref();
        self.at_parent("create the symbolic link", relative.as_ref(), |parent, name| {
            rustix::fs::symlinkat(target, parent, name)
        })
    }

    /// Gives a file a second name, in `to`; a symbolic link is linked itself.
    pub fn hard_link(
        &self,
        relative: impl AsRef<Path>,
        to: &Dir,
        to_relative: impl AsRef<Path>,
    ) -> Result<()> {
        let (from_parent, from_name) = self.parent("link", relative.as_ref())?;
        to.at_parent("link", to_relative.as_ref(), |parent, name| {
            rustix::fs::linkat(&from_parent, &from_name, parent, name, AtFlags::empty())
        })
    }

    /// Moves an entry into `to`, replacing what is there as `rename` does.
    pub fn rename(&self, relative: impl AsRef<Path>, to: &Dir, to_relative: impl AsRef<Path>) -> Result<()> {
        let (from_parent, from_name) = self.parent("rename", relative.as_ref())?;
        to.at_parent("rename to", to_relative.as_ref(), |parent, name| {
            rustix::fs::renameat(&from_parent, &from_name, parent, name)
        })
    }

    /// Moves an entry into `to`; false, and nothing happens, where something has that name.
    pub fn rename_new(
        &self,
        relative: impl AsRef<Path>,
        to: &Dir,
        to_relative: impl AsRef<Path>,
    ) -> Result<bool> {
        let (from_parent, from_name) = self.parent("rename", relative.as_ref())?;
        let mut moved = true;
        to.at_parent("rename to", to_relative.as_ref(), |parent, name| {
            match rustix::fs::renameat_with(&from_parent, &from_name, parent, name, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => moved = false,
                // The file system does not know how; looking first is as good where nobody else renames.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Err(Errno::NOENT) => rustix::fs::renameat(&from_parent, &from_name, parent, name)?,
                        Ok(_) => moved = false,
                        Err(errno) => return Err(errno),
                    }
                }
                other => other?,
            }
            Ok(())
        })?;
        Ok(moved)
    }

    /// Swaps an entry with one in `to`, in one step; false where there is nothing to swap with or the file system
    /// cannot do it.
    pub fn exchange(
        &self,
        relative: impl AsRef<Path>,
        to: &Dir,
        to_relative: impl AsRef<Path>,
    ) -> Result<bool> {
        let (from_parent, from_name) = self.parent("rename", relative.as_ref())?;
        let mut swapped = false;
        to.at_parent("rename to", to_relative.as_ref(), |parent, name| {
            match rustix::fs::renameat_with(&from_parent, &from_name, parent, name, RenameFlags::EXCHANGE) {
                Ok(()) => swapped = true,
                // Moving a folder elsewhere takes the right to write into it, which those of a store do not give.
                Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::ACCESS) => {}
                Err(errno) => return Err(errno),
            }
            Ok(())
        })?;
        Ok(swapped)
    }

    pub fn read_link(&self, relative: impl AsRef<Path>) -> Result<OsString> {
        let relative = relative.as_ref();
        let (parent, name) = self.parent("read the symbolic link", relative)?;
        let target = rustix::fs::readlinkat(&parent, &name, Vec::new())
            .map_err(|errno| self.error("read the symbolic link", relative, errno))?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// What is known about an entry, without following a link. An empty path means the directory itself.
    pub fn metadata(&self, relative: impl AsRef<Path>) -> Result<Stat> {
        let relative = relative.as_ref();
        if relative.as_os_str().is_empty() {
            return rustix::fs::fstat(&self.fd).map_err(|errno| self.error("examine", relative, errno));
        }
        let (parent, name) = self.parent("examine", relative)?;
        rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.error("examine", relative, errno))
    }

    pub fn kind(&self, relative: impl AsRef<Path>) -> Result<Kind> {
        Ok(Kind::of(&self.metadata(relative)?))
    }

    /// Whether there is an entry; "denied" is an error, not absence.
    pub fn exists(&self, relative: impl AsRef<Path>) -> Result<bool> {
        match self.metadata(relative) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a file or symbolic link.
    pub fn remove_file(&self, relative: impl AsRef<Path>) -> Result<()> {
        self.at_parent("remove", relative.as_ref(), |parent, name| {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())
        })
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, relative: impl AsRef<Path>) -> Result<()> {
        self.at_parent("remove the folder", relative.as_ref(), |parent, name| {
            rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
        })
    }

    /// Everything in the directory, sorted by bytes.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let fail = |errno: Errno| self.error("list the folder", "", errno);
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            entries.extend(self.listed(entry.file_name().to_bytes(), entry.file_type())?);
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Opens a directory in this one, with [`Dir::entries`] of it: through the very handle, which nobody else has yet.
    pub fn open_dir_listed(&self, relative: impl AsRef<Path>) -> Result<(Dir, Vec<Entry>)> {
        let dir = self.open_dir(relative)?;
        let (mut entries, mut buffer) = (Vec::new(), Vec::with_capacity(LISTING_BUFFER_BYTES));
        let mut listing = rustix::fs::RawDir::new(&dir.fd, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(|errno| dir.error("list the folder", "", errno))?;
            entries.extend(dir.listed(entry.file_name().to_bytes(), entry.file_type())?);
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok((dir, entries))
    }

    /// An entry as it was listed; nothing for the directory itself and the one above.
    fn listed(&self, name: &[u8], kind: FileType) -> Result<Option<Entry>> {
        if name == b"." || name == b".." {
            return Ok(None);
        }
        let name = OsStr::from_bytes(name).to_os_string();
        // Some file systems do not say the kind while listing.
        let kind = match kind {
            FileType::Unknown => self.kind(&name)?,
            known => known.into(),
        };
        Ok(Some(Entry { name, kind }))
    }

    /// The inodes of the directory's entries, as listing them tells: without a look at each.
    pub fn inodes(&self) -> Result<HashSet<u64>> {
        let fail = |errno: Errno| self.error("list the folder", "", errno);
        let entries = rustix::fs::Dir::read_from(&self.fd).map_err(fail)?;
        entries.map(|entry| entry.map(|entry| entry.ino()).map_err(fail)).collect()
    }

    /// Changes the mode of a file or directory in this directory, even where it is not readable; never follows
    /// a link.
    pub fn set_mode_of(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<()> {
        use std::os::fd::AsRawFd;
        let name = name.as_ref();
        let mode = Mode::from_raw_mode(mode);
        let (parent, last) = self.parent("change the mode of", Path::new(name))?;
        let open = |flags: OFlags| {
            rustix::fs::openat(&parent, &last, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        };
        let kind = self.kind(name)?;
        let changed = match kind {
            Kind::Symlink | Kind::Other => Err(Errno::INVAL),
            Kind::File | Kind::Directory => match open(OFlags::RDONLY | OFlags::NONBLOCK) {
                Ok(fd) => rustix::fs::fchmod(&fd, mode),
                // A handle that grants nothing can still be reached by its number.
                Err(Errno::ACCESS) => open(OFlags::PATH).and_then(|fd| {
                    if Kind::of(&rustix::fs::fstat(&fd)?) != kind {
                        return Err(Errno::INVAL);
                    }
                    rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode)
                }),
                Err(errno) => Err(errno),
            },
        };
        changed.map_err(|errno| self.error("change the mode of", name, errno))
    }

    /// Changes the mode of the directory itself.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode))
            .map_err(|errno| self.error("change the mode of", "", errno))
    }

    /// Waits until the directory's entries are on disk.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd).map_err(|errno| self.error("flush", "", errno))
    }

    /// Builds an error about something below this directory.
    pub fn error(
        &self,
        operation: &'static str,
        relative: impl AsRef<Path>,
        error: impl Into<io::Error>,
    ) -> Error {
        let relative = relative.as_ref();
        let path = if relative.as_os_str().is_empty() { self.path.clone() } else { self.path_of(relative) };
        Error::io(operation, path, error)
    }

    /// Runs a system call with the parent of `relative` and the last component.
    fn at_parent(
        &self,
        operation: &'static str,
        relative: &Path,
        call: impl FnOnce(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<()>,
    ) -> Result<()> {
        let (parent, name) = self.parent(operation, relative)?;
        call(parent.as_fd(), &name).map_err(|errno| self.error(operation, relative, errno))
    }

    fn parent(&self, operation: &'static str, relative: &Path) -> Result<(Parent<'_>, OsString)> {
        let components = components(self, relative)?;
        let (name, above) = components.split_last().expect("a relative path has at least one component");
        let parent = if above.is_empty() {
            Parent::Borrowed(self.fd.as_fd())
        } else {
            let above: PathBuf = above.iter().collect();
            Parent::Owned(self.open_at(operation, &above, DIRECTORY, Mode::empty())?)
        };
        Ok((parent, name.to_os_string()))
    }

    fn open_at(
        &self,
        operation: &'static str,
        relative: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd> {
        let components = components(self, relative)?;
        let fail = |errno: Errno| match errno {
            Errno::LOOP => Error::Escapes {
                path: self.path_of(relative),
                reason: "a symbolic link is in the way, and it is not followed".to_owned(),
            },
            errno => self.error(operation, relative, errno),
        };
        if let [name] = components[..] {
            // One component cannot lead anywhere but through a link.
            return self.open_component(self.fd.as_fd(), name, flags, mode).map_err(fail);
        }
        if !NO_OPENAT2.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let path: PathBuf = components.iter().collect();
            loop {
                match rustix::fs::openat2(&self.fd, &path, flags | OFlags::NOFOLLOW, mode, resolve) {
                    // The kernel may ask again when something was renamed at the same time.
                    Err(Errno::AGAIN | Errno::INTR) => continue,
                    Err(Errno::NOSYS) => break,
                    other => return other.map_err(fail),
                }
            }
            NO_OPENAT2.store(true, Ordering::Relaxed);
        }
        self.open_stepwise(&components, flags, mode).map_err(fail)
    }

    /// The way without `openat2`: one component after the other, none of them a link.
    fn open_stepwise(&self, components: &[&OsStr], flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let (last, above) = components.split_last().expect("a relative path has at least one component");
        let mut parent: Option<OwnedFd> = None;
        for name in above {
            let at = parent.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            let opened = self.open_component(at, name, DIRECTORY, Mode::empty())?;
            parent = Some(opened);
        }
        self.open_component(parent.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd), last, flags, mode)
    }

    fn open_component(
        &self,
        at: BorrowedFd<'_>,
        name: &OsStr,
        flags: OFlags,
        mode: Mode,
    ) -> rustix::io::Result<OwnedFd> {
        let opened = rustix::fs::openat(at, name, flags | OFlags::NOFOLLOW, mode);
        match opened {
            // With O_DIRECTORY the kernel calls a link "not a directory"; say what it is.
            Err(Errno::NOTDIR) => match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if Kind::of(&stat) == Kind::Symlink => Err(Errno::LOOP),
                _ => Err(Errno::NOTDIR),
            },
            other => other,
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

enum Parent<'a> {
    Borrowed(BorrowedFd<'a>),
    Owned(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Parent::Borrowed(fd) => *fd,
            Parent::Owned(fd) => fd.as_fd(),
        }
    }
}

/// The components of a relative path that stays below, by its text alone.
fn components<'a>(dir: &Dir, relative: &'a Path) -> Result<Vec<&'a OsStr>> {
    match check_relative(relative) {
        Ok(components) => Ok(components),
        Err(reason) => Err(Error::Escapes {
            path: relative.to_path_buf(),
            reason: format!("{reason} (below `{}`)", dir.path.display()),
        }),
    }
}

/// The components of a relative path without `..`, absolute beginnings or zero bytes; else what is wrong.
pub fn check_relative(relative: &Path) -> Result<Vec<&OsStr>, &'static str> {
    let mut components = Vec::new();
    for component in relative.components() {
        match component {
            Component::Normal(name) if name.as_bytes().contains(&0) => {
                return Err("the name holds a zero byte");
            }
            Component::Normal(name) => components.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("the name contains `..`"),
            Component::RootDir | Component::Prefix(_) => return Err("the name is absolute"),
        }
    }
    if components.is_empty() {
        return Err("the name is empty");
    }
    Ok(components)
}
