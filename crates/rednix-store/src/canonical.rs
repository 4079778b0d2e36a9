//! Gives trees the only shape store contents have: modes 0444 and 0555, time 1, no extended attributes, no
//! second names outside. Copies and moves trees into that shape; registers nothing.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::handle::{Dir, Kind, Visit, Walk};
use crate::limits::{COPY_BUFFER_BYTES, LOOK_FOR_ROOM_BYTES, WALK_DEPTH_MAX};
use crate::rewrite::{Rewriter, Rewrites};

pub const MODE_FILE: u32 = 0o444;
pub const MODE_EXECUTABLE: u32 = 0o555;
pub const MODE_DIRECTORY: u32 = 0o555;
/// A directory until it stands where it stays: moving it needs the right to write into it.
const MODE_DIRECTORY_MOVING: u32 = 0o755;
/// Seconds since 1970 of everything in a store.
pub const TIME_S: i64 = 1;

fn times() -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: TIME_S, tv_nsec: 0 },
    }
}

/// Settles an open file or directory that this process created.
pub fn settle(fd: impl AsFd, mode: u32) -> rustix::io::Result<()> {
    rustix::fs::fchmod(fd.as_fd(), Mode::from_raw_mode(mode))?;
    rustix::fs::futimens(fd.as_fd(), &times())
}

/// Settles the time of a symbolic link.
pub fn settle_symlink(parent: &Dir, name: &OsStr) -> Result<()> {
    rustix::fs::utimensat(parent, name, &times(), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| parent.error("set the time of", name, errno))
}

/// Settles the top of a tree once it stands where it stays.
pub fn settle_root(parent: &Dir, name: &OsStr) -> Result<()> {
    if parent.kind(name)? == Kind::Directory {
        let dir = parent.open_dir(name)?;
        settle(&dir, MODE_DIRECTORY).map_err(|errno| parent.error("set the mode of", name, errno))?;
    }
    Ok(())
}

/// Mode of a file in a store.
pub fn file_mode(executable: bool) -> u32 {
    if executable { MODE_EXECUTABLE } else { MODE_FILE }
}

/// Canonicalises a whole tree where it is, leaving its top (if a directory) writable until
/// [`settle_root`]. Only for trees nobody else can write to any more.
pub fn canonicalise(parent: &Dir, name: &OsStr) -> Result<()> {
    let stat = parent.metadata(name)?;
    if Kind::of(&stat) == Kind::Directory {
        make_own(parent, name, &stat)?;
        let dir = open_readable(parent, name, &stat)?;
        // Walking sets modes before entering, so that unreadable directories can be entered; times come last,
        // from the inside out.
        let mut directories = Vec::new();
        dir.walk(&mut |Visit { parent, entry, relative }| {
            let stat = parent.metadata(&entry.name)?;
            make_own(parent, &entry.name, &stat)?;
            match Kind::of(&stat) {
                Kind::Directory => {
                    drop(open_readable(parent, &entry.name, &stat)?);
                    directories.push(relative.to_path_buf());
                }
                _ => leaf(parent, &entry.name, &stat)?,
            }
            Ok(Walk::Continue)
        })?;
        for relative in directories.iter().rev() {
            let dir = dir.open_dir(relative)?;
            strip_attributes(&dir).map_err(|errno| dir.error("remove attributes of", "", errno))?;
            settle(&dir, MODE_DIRECTORY).map_err(|errno| dir.error("set the mode of", "", errno))?;
        }
        strip_attributes(&dir).map_err(|errno| dir.error("remove attributes of", "", errno))?;
        return settle(&dir, MODE_DIRECTORY_MOVING).map_err(|errno| dir.error("set the mode of", "", errno));
    }
    make_own(parent, name, &stat)?;
    leaf(parent, name, &stat)
}

fn open_readable(parent: &Dir, name: &OsStr, stat: &Stat) -> Result<Dir> {
    if stat.st_mode & 0o700 != 0o700 || stat.st_mode & 0o7000 != 0 {
        parent.set_mode_of(name, MODE_DIRECTORY_MOVING)?;
    }
    parent.open_dir(name)
}

/// A file or symbolic link.
fn leaf(parent: &Dir, name: &OsStr, stat: &Stat) -> Result<()> {
    match Kind::of(stat) {
        Kind::Symlink => settle_symlink(parent, name),
        Kind::File => {
            if stat.st_mode & 0o400 == 0 {
                parent.set_mode_of(name, 0o400 | stat.st_mode & 0o100)?;
            }
            if stat.st_nlink > 1 {
                replace_by_copy(parent, name)?;
            }
            let file = parent.open_file(name)?;
            strip_attributes(&file).map_err(|errno| parent.error("remove attributes of", name, errno))?;
            settle(&file, file_mode(stat.st_mode & 0o100 != 0))
                .map_err(|errno| parent.error("set the mode of", name, errno))
        }
        Kind::Directory | Kind::Other => Err(Error::Unstorable {
            path: parent.path_of(name),
            reason: "it is a device, a socket or a pipe".to_owned(),
        }),
    }
}

/// A file with other names could be changed through them.
fn replace_by_copy(parent: &Dir, name: &OsStr) -> Result<()> {
    let mut from = parent.open_file(name)?;
    let mut temporary = name.as_bytes().to_vec();
    temporary.truncate(200);
    temporary.extend_from_slice(b".rednix-copy");
    let temporary = std::ffi::OsString::from_vec(temporary);
    let executable = parent.metadata(name)?.st_mode & 0o100;
    let mut to = parent.create_file(&temporary, 0o600)?;
    io::copy(&mut from, &mut to).map_err(|error| parent.error("copy", name, error))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(0o600 | executable))
        .map_err(|errno| parent.error("set the mode of", &temporary, errno))?;
    parent.rename(&temporary, parent, name)
}

/// Contents belong to whoever owns the store.
fn make_own(parent: &Dir, name: &OsStr, stat: &Stat) -> Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if stat.st_uid == user.as_raw() {
        return Ok(());
    }
    rustix::fs::chownat(parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| parent.error("take over", name, errno))
}

/// Removes access lists, capabilities and users' attributes. Labels that the system itself puts on every file
/// cannot be removed and are not part of the contents.
fn strip_attributes(fd: impl AsFd) -> rustix::io::Result<()> {
    let fd = fd.as_fd();
    let mut names = vec![0u8; 1024];
    let len = loop {
        match rustix::fs::flistxattr(fd, &mut names) {
            Ok(len) => break len,
            Err(Errno::RANGE) => names.resize(names.len() * 4, 0),
            Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    };
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        match rustix::fs::fremovexattr(fd, name) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(_) if name.starts_with(b"security.selinux") || name.starts_with(b"security.SMACK") => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Whether extended attributes can be set here at all, for tests.
#[doc(hidden)]
pub fn set_test_attribute(fd: impl AsFd) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(fd, "user.rednix-test", b"1", XattrFlags::empty())
}

/// Copies a tree in canonical shape, replacing hash parts on the way: in contents, link targets and names. The
/// top, if a directory, stays writable until [`settle_root`].
pub fn copy_tree(
    from: &Dir,
    from_name: &OsStr,
    to: &Dir,
    to_name: &OsStr,
    rewrites: &Rewrites,
) -> Result<()> {
    let mut copier = Copier { rewrites, buffer: vec![0; COPY_BUFFER_BYTES] };
    if from.kind(from_name)? != Kind::Directory {
        return copier.leaf(from, from_name, to, to_name);
    }
    to.create_dir(to_name, MODE_DIRECTORY_MOVING)?;
    let source = from.open_dir(from_name)?;
    let entries = source.entries()?.into_iter();
    let mut levels = vec![(source, to.open_dir(to_name)?, entries)];
    while let Some((source, target, entries)) = levels.last_mut() {
        let Some(entry) = entries.next() else {
            let (_, target, _) = levels.pop().expect("the loop's condition saw it");
            let mode = if levels.is_empty() { MODE_DIRECTORY_MOVING } else { MODE_DIRECTORY };
            settle(&target, mode).map_err(|errno| target.error("set the mode of", "", errno))?;
            continue;
        };
        let name = copier.rewritten(&entry.name);
        if entry.kind != Kind::Directory {
            copier.leaf(source, &entry.name, target, &name)?;
            continue;
        }
        target.create_dir(&name, MODE_DIRECTORY_MOVING)?;
        let deeper = source.open_dir(&entry.name)?;
        let entries = deeper.entries()?.into_iter();
        let target = target.open_dir(&name)?;
        if levels.len() >= WALK_DEPTH_MAX {
            let reason = format!("folders are nested deeper than {WALK_DEPTH_MAX}");
            return Err(Error::Unstorable { path: deeper.path().to_path_buf(), reason });
        }
        levels.push((deeper, target, entries));
    }
    Ok(())
}

struct Copier<'r> {
    rewrites: &'r Rewrites,
    buffer: Vec<u8>,
}

impl Copier<'_> {
    fn rewritten(&self, text: &OsStr) -> std::ffi::OsString {
        let mut bytes = text.as_bytes().to_vec();
        self.rewrites.apply(&mut bytes);
        std::ffi::OsString::from_vec(bytes)
    }

    fn leaf(&mut self, from: &Dir, from_name: &OsStr, to: &Dir, to_name: &OsStr) -> Result<()> {
        let stat = from.metadata(from_name)?;
        match Kind::of(&stat) {
            Kind::Symlink => {
                to.symlink(self.rewritten(&from.read_link(from_name)?), to_name)?;
                settle_symlink(to, to_name)
            }
            Kind::File => {
                let mut source = from.open_file(from_name)?;
                self.look_for_room(&stat, to, to_name)?;
                let target = to.create_file(to_name, 0o600)?;
                let write_error = |error: io::Error| to.error("write", to_name, error);
                if self.rewrites.is_empty() {
                    self.copy_plain(&mut source, &target).map_err(write_error)?;
                } else {
                    let mut rewriter = Rewriter::new(self.rewrites, &target);
                    loop {
                        let count = source
                            .read(&mut self.buffer)
                            .map_err(|error| from.error("read", from_name, error))?;
                        if count == 0 {
                            break;
                        }
                        rewriter.write_all(&self.buffer[..count]).map_err(write_error)?;
                    }
                    rewriter.finish().map_err(write_error)?;
                }
                settle(&target, file_mode(stat.st_mode & 0o100 != 0))
                    .map_err(|errno| to.error("set the mode of", to_name, errno))
            }
            Kind::Directory | Kind::Other => Err(Error::Unstorable {
                path: from.path_of(from_name),
                reason: "it is a device, a socket or a pipe".to_owned(),
            }),
        }
    }

    /// A file can say that it is larger than any disk and be made of nothing: then it is not begun.
    fn look_for_room(&self, stat: &Stat, to: &Dir, name: &OsStr) -> Result<()> {
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if bytes <= LOOK_FOR_ROOM_BYTES {
            return Ok(());
        }
        let status = rustix::fs::fstatvfs(to).map_err(|errno| to.error("examine", "", errno))?;
        if bytes > status.f_bavail.saturating_mul(status.f_frsize) {
            return Err(to.error("write", name, Errno::NOSPC));
        }
        Ok(())
    }

    /// Shares the blocks where the file system can, else lets the kernel copy.
    fn copy_plain(&mut self, source: &mut std::fs::File, target: &std::fs::File) -> io::Result<()> {
        if rustix::fs::ioctl_ficlone(target, &*source).is_ok() {
            return Ok(());
        }
        io::copy(source, &mut { target }).map(drop)
    }
}
