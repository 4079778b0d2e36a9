//! Compares two trees and says where they differ, down to the archive member or ELF section and the byte.
//! It changes nothing and judges nothing: times and owners are not compared, for the store has none.

mod locate;

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rednix_store::handle::{Dir, Kind};

use crate::limits::{DIFFERENCES_TOLD_MAX, LOCATED_BYTES_MAX};

pub use locate::{Place, Step, locate};

/// How two trees compare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The first differences, in the order of a walk.
    pub told: Vec<Difference>,
    /// All of them.
    pub count: u64,
    /// Files, folders and links that were compared.
    pub entries: u64,
}

impl Comparison {
    pub fn is_identical(&self) -> bool {
        self.count == 0
    }
}

/// One entry that is not the same in both trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Relative to the trees' tops; empty where the top itself differs.
    pub path: PathBuf,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    OnlyInFirst,
    OnlyInSecond,
    Kind {
        first: Kind,
        second: Kind,
    },
    /// One is executable, the other is not.
    Executable {
        first: bool,
    },
    Target {
        first: PathBuf,
        second: PathBuf,
    },
    Contents {
        first_bytes: u64,
        second_bytes: u64,
        place: Place,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.path.as_os_str().is_empty() { Path::new(".") } else { &self.path };
        write!(formatter, "{}: {}", name.display(), self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::OnlyInFirst => write!(formatter, "only in the first"),
            What::OnlyInSecond => write!(formatter, "only in the second"),
            What::Kind { first, second } => write!(formatter, "{} and {}", noun(*first), noun(*second)),
            What::Executable { first: true } => write!(formatter, "executable only in the first"),
            What::Executable { first: false } => write!(formatter, "executable only in the second"),
            What::Target { first, second } => {
                write!(formatter, "a link to `{}` and to `{}`", first.display(), second.display())
            }
            What::Contents { first_bytes, second_bytes, place } => {
                write!(formatter, "{place}")?;
                if first_bytes != second_bytes {
                    write!(formatter, "; {first_bytes} and {second_bytes} bytes")?;
                }
                Ok(())
            }
        }
    }
}

fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "a file",
        Kind::Directory => "a folder",
        Kind::Symlink => "a link",
        Kind::Other => "something else",
    }
}

/// Compares what lies at two paths, neither of which may be reached through a link that others can change.
pub fn compare_trees(first: &Path, second: &Path) -> Result<Comparison, rednix_store::Error> {
    let mut comparison = Comparison::default();
    let (first_parent, first_name) = open_parent(first)?;
    let (second_parent, second_name) = open_parent(second)?;
    let mut comparer = Comparer { comparison: &mut comparison };
    let below = comparer.entry((&first_parent, first_name), (&second_parent, second_name), Path::new(""))?;
    let mut pending = Vec::new();
    if below {
        // The tops are what is compared, not entries of it.
        comparer.comparison.entries = 0;
        let tops = (first_parent.open_dir(first_name)?, second_parent.open_dir(second_name)?);
        pending.push((tops.0, tops.1, PathBuf::new()));
    }
    while let Some((first, second, at)) = pending.pop() {
        let deeper = comparer.folder(&first, &second, &at)?;
        // The last is taken first, so that the order is that of a walk.
        for name in deeper.into_iter().rev() {
            pending.push((first.open_dir(&name)?, second.open_dir(&name)?, at.join(&name)));
        }
    }
    comparison.told.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(comparison)
}

fn open_parent(path: &Path) -> Result<(Dir, &OsStr), rednix_store::Error> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    Ok((Dir::open(parent)?, path.file_name().unwrap_or(OsStr::new("."))))
}

struct Comparer<'a> {
    comparison: &'a mut Comparison,
}

impl Comparer<'_> {
    fn note(&mut self, path: PathBuf, what: What) {
        self.comparison.count += 1;
        if self.comparison.told.len() < DIFFERENCES_TOLD_MAX {
            self.comparison.told.push(Difference { path, what });
        }
    }

    /// Compares the entries of two folders; returns the names of those that are folders in both.
    fn folder(
        &mut self,
        first: &Dir,
        second: &Dir,
        at: &Path,
    ) -> Result<Vec<std::ffi::OsString>, rednix_store::Error> {
        let (mut left, mut right) =
            (first.entries()?.into_iter().peekable(), second.entries()?.into_iter().peekable());
        let mut deeper = Vec::new();
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => return Ok(deeper),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(a), Some(b)) => a.name.cmp(&b.name),
            };
            let a = if order.is_le() { left.next() } else { None };
            let b = if order.is_ge() { right.next() } else { None };
            match (a, b) {
                (Some(a), Some(_)) => {
                    let path = at.join(&a.name);
                    if self.entry((first, &a.name), (second, &a.name), &path)? {
                        deeper.push(a.name);
                    }
                }
                (Some(a), None) => self.note(at.join(a.name), What::OnlyInFirst),
                (None, Some(b)) => self.note(at.join(b.name), What::OnlyInSecond),
                (None, None) => unreachable!("one of the two has the smaller name"),
            }
        }
    }

    /// Compares one entry; true where both are folders, which are left to the caller.
    fn entry(
        &mut self,
        first: (&Dir, &OsStr),
        second: (&Dir, &OsStr),
        path: &Path,
    ) -> Result<bool, rednix_store::Error> {
        self.comparison.entries += 1;
        let kinds = (first.0.kind(first.1)?, second.0.kind(second.1)?);
        match kinds {
            (Kind::Directory, Kind::Directory) => return Ok(true),
            (Kind::File, Kind::File) => self.files(first, second, path)?,
            (Kind::Symlink, Kind::Symlink) => {
                let (a, b) = (first.0.read_link(first.1)?, second.0.read_link(second.1)?);
                if a != b {
                    self.note(path.to_owned(), What::Target { first: a.into(), second: b.into() });
                }
            }
            (a, b) if a == b => {}
            (first, second) => self.note(path.to_owned(), What::Kind { first, second }),
        }
        Ok(false)
    }

    fn files(
        &mut self,
        first: (&Dir, &OsStr),
        second: (&Dir, &OsStr),
        path: &Path,
    ) -> Result<(), rednix_store::Error> {
        let (mut a, mut b) = (first.0.open_file(first.1)?, second.0.open_file(second.1)?);
        let failed = |error: io::Error| rednix_store::Error::io("compare", first.0.path_of(first.1), error);
        let (about_a, about_b) = (a.metadata().map_err(failed)?, b.metadata().map_err(failed)?);
        let executable = |mode: u32| mode & 0o100 != 0;
        let modes = (executable(about_a.permissions().mode()), executable(about_b.permissions().mode()));
        if modes.0 != modes.1 {
            self.note(path.to_owned(), What::Executable { first: modes.0 });
        }
        let Some(offset) = first_difference(&mut a, &mut b).map_err(failed)? else { return Ok(()) };
        let (first_bytes, second_bytes) = (about_a.len(), about_b.len());
        let place = if first_bytes.max(second_bytes) <= LOCATED_BYTES_MAX {
            let (a, b) = (read_again(a).map_err(failed)?, read_again(b).map_err(failed)?);
            locate(&a, &b).unwrap_or_else(|| Place::at(offset))
        } else {
            Place::at(offset)
        };
        self.note(path.to_owned(), What::Contents { first_bytes, second_bytes, place });
        Ok(())
    }
}

fn read_again(mut file: File) -> io::Result<Vec<u8>> {
    use std::io::Seek;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Offset of the first byte that is not in both.
fn first_difference(a: &mut File, b: &mut File) -> io::Result<Option<u64>> {
    const PIECE_BYTES: usize = 128 << 10;
    let (mut left, mut right) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    let mut at = 0;
    loop {
        let (n, m) = (fill(a, &mut left)?, fill(b, &mut right)?);
        if let Some(offset) = locate::first_difference(&left[..n], &right[..m]) {
            return Ok(Some(at + offset as u64));
        }
        if n < PIECE_BYTES {
            return Ok(None);
        }
        at += n as u64;
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
