//! What an image holds, as text inside the image and as JSON beside it, and the identity derived from it. It
//! hashes contents; it does not write images.
//!
//! The text, at [`PATH`]: one line per file `<sha256> <size> <mode> <path>` and per symlink
//! `link <target length> 120777 <path> -> <target>`, sorted by path, paths without leading slash, the manifest
//! itself left out.

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::assemble::Collision;
use crate::closure::{Closure, Reason};
use crate::error::{Error, Result};
use crate::limits::HASH_THREADS_MAX;
use crate::state::State;
use crate::tree::{Content, Entry, Node, Tree};

/// Where the text lies inside the image.
pub const PATH: &str = "usr/share/rednix/manifest";
/// Version of `manifest.json`.
pub const FORMAT_VERSION: u32 = 2;

/// The JSON beside the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub format_version: u32,
    pub name: String,
    /// Size of `disk.img` in bytes.
    pub disk_size: u64,
    pub filesystem: FileSystemPlace,
    /// Partitions in order; none when the whole disk is RedoxFS.
    pub partitions: Vec<Partition>,
    /// Disk GUID, when there is a partition table.
    pub disk_guid: Option<String>,
    /// SHA-256 of the UEFI loader in the EFI partition, when there is one.
    pub uefi_loader: Option<String>,
    pub bios_loader: Option<BiosLoader>,
    /// Everything that was installed, by name, and why.
    pub packages: Vec<InstalledPackage>,
    pub collisions: Vec<Collision>,
    /// What a person should know about the image.
    pub warnings: Vec<String>,
    /// Everything in the file system, the root (empty path) first.
    pub entries: Vec<Record>,
}

/// A package of the image. Where it came from is left out: a store path here would keep the package in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledPackage {
    pub name: String,
    #[serde(flatten)]
    pub reason: Reason,
    /// BLAKE3 of the table an archive of it has; meta packages have none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub blake3: Option<String>,
    pub files: u64,
}

impl InstalledPackage {
    pub fn list(closure: &Closure<'_>, state: &State) -> Vec<Self> {
        let describe = |member: &crate::closure::Member<'_>| {
            let head = state.contents.get(&member.package.name).map(|contents| &contents.head);
            InstalledPackage {
                name: member.package.name.clone(),
                reason: member.reason.clone(),
                blake3: head.map(|head| head.hash_hex()),
                files: head.map_or(0, |head| head.entries.len() as u64),
            }
        };
        closure.members.iter().map(describe).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystemPlace {
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    pub uuid: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Partition {
    pub name: String,
    pub guid: String,
    pub type_guid: String,
    /// In sectors of 512 bytes; the last one belongs to the partition.
    pub first_sector: u64,
    pub last_sector: u64,
}

/// A BIOS loader at the disk's start. The hash leaves out what the partition table replaced: it covers the first 446
/// bytes and those from 17408 on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BiosLoader {
    pub size: u64,
    pub sha256: String,
}

/// One path. `mode` is octal with the type bits, as in `100644`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub path: String,
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of a file or of a symlink's target, 0 for directories.
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<String>,
}

impl Record {
    fn new(path: &str, entry: &Entry, sha256: Option<String>) -> Self {
        let (size, target) = match &entry.node {
            Node::Directory => (0, None),
            Node::File(content) => (content.size(), None),
            Node::Symlink(target) => (target.len() as u64, Some(target.clone())),
        };
        let mode = format!("{:o}", type_bits(&entry.node) | entry.mode);
        Record { path: path.to_owned(), mode, uid: entry.uid, gid: entry.gid, size, sha256, target }
    }
}

pub fn type_bits(node: &Node) -> u16 {
    match node {
        Node::Directory => 0o040000,
        Node::File(_) => 0o100000,
        Node::Symlink(_) => 0o120000,
    }
}

/// Hashes every file of the tree (in parallel) and lists all entries.
pub fn records(tree: &Tree) -> Result<Vec<Record>> {
    let entries: Vec<(&str, &Entry)> = tree.iter().collect();
    let files: Vec<(usize, &Content)> = entries
        .iter()
        .enumerate()
        .filter_map(|(index, (_, entry))| match &entry.node {
            Node::File(content) => Some((index, content)),
            _ => None,
        })
        .collect();
    let mut hashes: Vec<Option<String>> = vec![None; entries.len()];
    for (index, hash) in hash_all(&files)? {
        hashes[index] = Some(hash);
    }
    Ok(entries.iter().zip(hashes).map(|((path, entry), hash)| Record::new(path, entry, hash)).collect())
}

/// The record of one entry.
pub fn record(path: &str, entry: &Entry) -> Result<Record> {
    let hash = match &entry.node {
        Node::File(content) => Some(sha256(content)?),
        _ => None,
    };
    Ok(Record::new(path, entry, hash))
}

fn hash_all(files: &[(usize, &Content)]) -> Result<Vec<(usize, String)>> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(HASH_THREADS_MAX);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(files.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, content)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let hash = sha256(content).map(|hash| (*index, hash));
                    results.lock().expect("no holder panics").push(hash);
                }
            });
        }
    });
    results.into_inner().expect("no holder panics").into_iter().collect()
}

/// SHA-256 in hex; an error when a host file's length is not what it was.
pub fn sha256(content: &Content) -> Result<String> {
    let mut hasher = Sha256::new();
    let size = match content {
        Content::Bytes(bytes) => {
            hasher.update(bytes);
            bytes.len() as u64
        }
        Content::Host { path, .. } => {
            let mut file = content.open()?;
            let mut buffer = vec![0; 256 << 10];
            let mut size = 0;
            loop {
                let count = file.read(&mut buffer).map_err(Error::io("read", path))?;
                if count == 0 {
                    break size;
                }
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    };
    if let Content::Host { path, size: expected } = content
        && size != *expected
    {
        let source = std::io::Error::other("the file changed its length while the image was written");
        return Err(Error::Io { operation: "read", path: path.clone(), source });
    }
    Ok(hex(&hasher.finalize()))
}

pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The text for inside the image; `records` leave out the manifest's own.
pub fn text(records: &[Record]) -> String {
    let mut text = String::new();
    for record in records {
        let Record { path, mode, size, .. } = record;
        if let Some(hash) = &record.sha256 {
            let _ = writeln!(text, "{hash} {size} {mode} {path}");
        } else if let Some(target) = &record.target {
            let _ = writeln!(text, "link {size} 120777 {path} -> {target}");
        }
    }
    text
}

/// A digest of everything that goes into an image. All its UUIDs come from here: equal inputs give equal ones,
/// and images that differ anywhere do not share one.
#[derive(Clone, Debug)]
pub struct Identity([u8; 32]);

impl Identity {
    pub fn new(records: &[Record], layout: &[String]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"rednix image 1\0");
        let mut field = |text: &str| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for part in layout {
            field(part);
        }
        for Record { path, mode, uid, gid, size, sha256, target } in records {
            for text in
                [path.as_str(), mode, sha256.as_deref().unwrap_or(""), target.as_deref().unwrap_or("")]
            {
                field(text);
            }
            field(&format!("{uid} {gid} {size}"));
        }
        Identity(hasher.finalize().into())
    }

    /// A UUID for one purpose: version 8 (own scheme), variant 1.
    pub fn uuid(&self, purpose: &str) -> Uuid {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(purpose.as_bytes());
        let mut bytes: [u8; 16] = hasher.finalize()[..16].try_into().expect("16 bytes");
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Uuid(bytes)
    }
}

/// Sixteen bytes in the order they are written in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// GPT stores the first three groups little endian.
    pub fn to_gpt(self) -> [u8; 16] {
        let mut bytes = self.0;
        bytes[0..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }

    pub fn from_gpt(mut bytes: [u8; 16]) -> Self {
        bytes[0..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        Uuid(bytes)
    }
}

impl std::fmt::Display for Uuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = hex(&self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}
