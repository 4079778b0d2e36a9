//! Looks at a working copy: what is in it, and one hash of it all. Files that look as they did the last time are not
//! read again. Nothing in the copy is changed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rednix_store::handle::{Dir, Kind, Walk};
use rednix_store::hash::{Hash, HashAlgorithm, Hasher};
use serde::{Deserialize, Serialize};

type Result<T> = std::result::Result<T, rednix_store::Error>;

const INDEX_NAME: &str = "index.json";
const FORMAT_VERSION: u32 = 1;
/// A file changed this shortly before it was looked at may change again without looking different.
const SETTLED_NS: i128 = 1_000_000_000;

/// One entry of a working copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Entry {
    File { executable: bool, sha256: String },
    Link { target: PathBuf },
    Folder,
}

/// A working copy as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// By path relative to the copy's top, parents before children.
    pub entries: BTreeMap<PathBuf, Entry>,
    /// Of all entries: equal copies have equal hashes, wherever they are and whenever they were written.
    pub content: Hash,
    /// Files that had to be read.
    pub read: u64,
}

/// What the last look found; only a shortcut, so that anything odd about it just means reading again.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Index {
    format_version: u32,
    files: BTreeMap<PathBuf, Seen>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Seen {
    bytes: i64,
    modified_ns: i128,
    changed_ns: i128,
    inode: u64,
    sha256: String,
}

/// Looks at `folder`; `kept` holds the index.
pub fn scan(folder: &Path, kept: &Path) -> Result<Scan> {
    let index_file = kept.join(INDEX_NAME);
    let index = read_index(&index_file);
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i128);
    let mut next = Index { format_version: FORMAT_VERSION, files: BTreeMap::new() };
    let (mut entries, mut read) = (BTreeMap::new(), 0);
    Dir::open(folder)?.walk(&mut |visit| {
        let (parent, name) = (visit.parent, &visit.entry.name);
        let entry = match visit.entry.kind {
            Kind::Directory if is_left_out(parent, name)? => return Ok(Walk::Skip),
            Kind::Directory => Entry::Folder,
            // A worktree of git has a file of that name.
            Kind::File if name == ".git" => return Ok(Walk::Continue),
            Kind::Symlink => Entry::Link { target: parent.read_link(name)?.into() },
            Kind::File => {
                let status = parent.metadata(name)?;
                let time =
                    |seconds: i64, nanoseconds: i128| i128::from(seconds) * 1_000_000_000 + nanoseconds;
                let modified_ns = time(status.st_mtime, status.st_mtime_nsec as i128);
                let changed_ns = time(status.st_ctime, status.st_ctime_nsec as i128);
                let (bytes, inode) = (status.st_size, status.st_ino);
                let known = index.files.get(visit.relative).filter(|seen| {
                    (seen.bytes, seen.modified_ns, seen.changed_ns, seen.inode)
                        == (bytes, modified_ns, changed_ns, inode)
                });
                let sha256 = match known {
                    Some(seen) => seen.sha256.clone(),
                    None => {
                        read += 1;
                        hash_file(parent, name)?
                    }
                };
                if changed_ns.max(modified_ns) < now_ns - SETTLED_NS {
                    let seen = Seen { bytes, modified_ns, changed_ns, inode, sha256: sha256.clone() };
                    next.files.insert(visit.relative.to_owned(), seen);
                }
                Entry::File { executable: status.st_mode & 0o100 != 0, sha256 }
            }
            // Sockets and pipes are no source.
            Kind::Other => return Ok(Walk::Continue),
        };
        entries.insert(visit.relative.to_owned(), entry);
        Ok(Walk::Continue)
    })?;
    if next.files != index.files {
        // Only a shortcut is lost where it cannot be written.
        let _ = write_index(&index_file, &next);
    }
    Ok(Scan { content: content(&entries), entries, read })
}

/// git's own folder, and what cargo built here outside rednix.
fn is_left_out(parent: &Dir, name: &std::ffi::OsStr) -> Result<bool> {
    Ok(name == ".git" || (name == "target" && parent.exists(Path::new(name).join("CACHEDIR.TAG"))?))
}

fn hash_file(parent: &Dir, name: &std::ffi::OsStr) -> Result<String> {
    let mut file = parent.open_file(name)?;
    let mut hasher = Hasher::new(HashAlgorithm::Sha256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish().to_hex()),
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) => return Err(rednix_store::Error::io("read", parent.path_of(name), error)),
        }
    }
}

fn content(entries: &BTreeMap<PathBuf, Entry>) -> Hash {
    let mut hasher = Hasher::new(HashAlgorithm::Sha256);
    for (path, entry) in entries {
        let (kind, rest): (&[u8], &[u8]) = match entry {
            Entry::File { executable: false, sha256 } => (b"f", sha256.as_bytes()),
            Entry::File { executable: true, sha256 } => (b"x", sha256.as_bytes()),
            Entry::Link { target } => (b"l", target.as_os_str().as_encoded_bytes()),
            Entry::Folder => (b"d", b""),
        };
        for part in [kind, path.as_os_str().as_encoded_bytes(), rest] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finish()
}

fn read_index(file: &Path) -> Index {
    let index: Option<Index> = std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok());
    index.filter(|index| index.format_version == FORMAT_VERSION).unwrap_or_default()
}

fn write_index(file: &Path, index: &Index) -> std::io::Result<()> {
    // Another rednix may be looking at the same copy: each writes its own file, the last one counts.
    let making = file.with_extension(format!("{}.tmp", std::process::id()));
    let text = serde_json::to_vec(index).map_err(std::io::Error::other)?;
    let mut out = std::fs::File::create(&making)?;
    out.write_all(&text)?;
    std::fs::rename(&making, file)
}
