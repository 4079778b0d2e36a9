//! What an evaluation read, and whether it would read the same now. Does not evaluate, and keeps nothing itself.
//!
//! A file or folder is known again by what the kernel says of it (device, inode, size, mode, times). The kernel's
//! clock is coarse: what changed shortly before it was looked at may change once more without another time, so its
//! contents are compared instead, and where those were not kept, the evaluation is not remembered at all.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use rednix_store::hash::Hash;

/// What changed less than this before it was looked at is not known by its times.
const SETTLED_AFTER_NS: i128 = 2_000_000_000;

/// Device, inode, mode, size, time of contents and time of change, both in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity(u64, u64, u32, u64, i64, i64);

impl Identity {
    fn new(metadata: &std::fs::Metadata) -> Identity {
        let time = |s: i64, ns: i64| s.wrapping_mul(1_000_000_000).wrapping_add(ns);
        Identity(
            metadata.dev(),
            metadata.ino(),
            metadata.mode(),
            metadata.size(),
            time(metadata.mtime(), metadata.mtime_nsec()),
            time(metadata.ctime(), metadata.ctime_nsec()),
        )
    }

    /// Of what a path leads to; nothing where that cannot be told.
    pub fn of(path: &Path) -> Option<Identity> {
        std::fs::metadata(path).ok().map(|metadata| Identity::new(&metadata))
    }

    fn of_itself(path: &Path) -> Option<Identity> {
        std::fs::symlink_metadata(path).ok().map(|metadata| Identity::new(&metadata))
    }

    /// Whether its times are old enough to tell every later change.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i128);
        let newest = i128::from(self.4.max(self.5));
        now - newest > SETTLED_AFTER_NS
    }
}

/// One thing that was read, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Read {
    /// A file's contents, links followed. Without an identity only the contents count.
    File {
        path: PathBuf,
        identity: Option<Identity>,
        contents: String,
    },
    /// The entries of a folder.
    Folder {
        path: PathBuf,
        identity: Option<Identity>,
        entries: String,
    },
    /// What a path is, links not followed; nothing where there is nothing.
    Kind {
        path: PathBuf,
        kind: Option<String>,
    },
    Link {
        path: PathBuf,
        target: PathBuf,
    },
    /// An environment variable, by the hash of its value.
    Variable {
        name: Vec<u8>,
        value: Option<String>,
    },
    /// A part of a tree that went into the store, known by its identity alone.
    Part {
        path: PathBuf,
        identity: Identity,
    },
}

impl Read {
    /// A file, of which the contents were just read; `before` is its identity before that.
    pub fn file(path: &Path, before: Option<Identity>, contents: &[u8]) -> Read {
        let contents = Hash::sha256(contents).to_nix32();
        Read::File { path: path.to_owned(), identity: settled(before, Identity::of(path)), contents }
    }

    /// As [`Read::file`], for a folder and its entries in any order.
    pub fn folder(path: &Path, before: Option<Identity>, entries: &[(Vec<u8>, String)]) -> Read {
        let entries = digest_entries(entries);
        Read::Folder { path: path.to_owned(), identity: settled(before, Identity::of(path)), entries }
    }

    pub fn variable(name: &[u8], value: Option<&[u8]>) -> Read {
        Read::Variable { name: name.to_owned(), value: value.map(|value| Hash::sha256(value).to_nix32()) }
    }

    /// A file, link or folder on its way into the store; nothing where it changed too shortly ago to be known again.
    pub fn part(path: &Path) -> Option<Read> {
        let identity = Identity::of_itself(path).filter(Identity::is_settled)?;
        Some(Read::Part { path: path.to_owned(), identity })
    }

    /// Whether the same would be found now.
    pub fn holds(&self) -> bool {
        match self {
            Read::File { path, identity, contents } => {
                (identity.is_some() && *identity == Identity::of(path))
                    || std::fs::read(path).is_ok_and(|found| Hash::sha256(&found).to_nix32() == *contents)
            }
            Read::Folder { path, identity, entries } => {
                (identity.is_some() && *identity == Identity::of(path))
                    || list(path).is_ok_and(|found| digest_entries(&found) == *entries)
            }
            Read::Kind { path, kind } => kind_of(path).is_ok_and(|found| found == *kind),
            Read::Link { path, target } => std::fs::read_link(path).is_ok_and(|found| found == *target),
            Read::Variable { name, value } => {
                use std::os::unix::ffi::OsStringExt;
                let found = std::env::var_os(std::ffi::OsStr::from_bytes(name)).map(OsStringExt::into_vec);
                found.map(|found| Hash::sha256(&found).to_nix32()) == *value
            }
            Read::Part { path, identity } => {
                Identity::of_itself(path).is_some_and(|found| found == *identity)
            }
        }
    }
}

/// The identity, where it was the same before and after and is of use later.
fn settled(before: Option<Identity>, after: Option<Identity>) -> Option<Identity> {
    before.filter(|identity| Some(identity) == after.as_ref() && identity.is_settled())
}

fn digest_entries(entries: &[(Vec<u8>, String)]) -> String {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort();
    let mut text = Vec::new();
    for (name, kind) in sorted {
        text.extend_from_slice(name);
        text.push(0);
        text.extend_from_slice(kind.as_bytes());
        text.push(0);
    }
    Hash::sha256(&text).to_nix32()
}

pub fn kind_name(kind: std::fs::FileType) -> String {
    let name = match () {
        () if kind.is_file() => "Regular",
        () if kind.is_dir() => "Directory",
        () if kind.is_symlink() => "Symlink",
        () => "Other",
    };
    name.to_owned()
}

fn list(path: &Path) -> std::io::Result<Vec<(Vec<u8>, String)>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        entries.push((entry.file_name().as_bytes().to_vec(), kind_name(entry.file_type()?)));
    }
    Ok(entries)
}

fn kind_of(path: &Path) -> std::io::Result<Option<String>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(kind_name(metadata.file_type()))),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
