//! Hashes of files, and the comparison of a file system with the manifest it carries.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use redox_boot::device::BlockReader;
use redox_boot::limits::MANIFEST_BYTES_MAX;
use redox_boot::manifest::{self, Entry, MANIFEST_PATH, ManifestError};
use redox_boot::redoxfs::{FileSystem, FileSystemError, Node, NodeKind, Visit, WalkError};
use redox_boot::sha256::Sha256;

use crate::console::{interrupted, say};

/// Bytes read and hashed at a time; one record of RedoxFS.
const CHUNK_BYTES: usize = 128 << 10;

/// Differences that are named; the rest is counted.
const DIFFERENCES_SHOWN_MAX: usize = 50;

pub enum CheckError {
    FileSystem(FileSystemError),
    Manifest(ManifestError),
    Interrupted,
}

impl From<FileSystemError> for CheckError {
    fn from(error: FileSystemError) -> Self {
        CheckError::FileSystem(error)
    }
}

impl From<WalkError<CheckError>> for CheckError {
    fn from(error: WalkError<CheckError>) -> Self {
        match error {
            WalkError::FileSystem(error) => CheckError::FileSystem(error),
            WalkError::Visitor(error) => error,
        }
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckError::FileSystem(error) => error.fmt(formatter),
            CheckError::Manifest(error) => error.fmt(formatter),
            CheckError::Interrupted => write!(formatter, "interrupted"),
        }
    }
}

/// SHA-256 of a file's contents.
pub fn hash<R: BlockReader>(file_system: &mut FileSystem<R>, node: &Node) -> Result<[u8; 32], CheckError> {
    let mut hasher = Sha256::default();
    let mut buffer = alloc::vec![0; CHUNK_BYTES];
    let mut offset = 0;
    while offset < node.size {
        if interrupted() {
            return Err(CheckError::Interrupted);
        }
        let count = file_system.read(node, offset, &mut buffer)?;
        hasher.update(&buffer[..count]);
        offset += count as u64;
    }
    Ok(hasher.finish())
}

/// What a comparison found.
#[derive(Default)]
pub struct Report {
    pub files: usize,
    pub bytes: u64,
    pub differences: usize,
}

impl Report {
    fn differs(&mut self, what: &str, path: &str) {
        self.differences += 1;
        if self.differences <= DIFFERENCES_SHOWN_MAX {
            say!("check: {what}: {path}");
        }
    }
}

/// Compares every file and symbolic link with the manifest, in both directions, and names what differs.
pub fn check<R: BlockReader>(file_system: &mut FileSystem<R>) -> Result<Report, CheckError> {
    let manifest = file_system.file(MANIFEST_PATH)?;
    let text = file_system.read_all(&manifest, MANIFEST_BYTES_MAX, MANIFEST_PATH)?;
    let mut expected: BTreeMap<String, Entry> = BTreeMap::new();
    for entry in manifest::parse(&text) {
        let entry = entry.map_err(CheckError::Manifest)?;
        expected.insert(entry.path().into(), entry);
    }
    drop(text);
    let mut report = Report::default();
    let root = file_system.root()?;
    file_system.walk(&root, &mut |visit| {
        if visit.path != MANIFEST_PATH.as_bytes() && visit.node.kind() != NodeKind::Directory {
            compare(visit, &mut expected, &mut report)?;
        }
        Ok::<(), CheckError>(())
    })?;
    for path in expected.keys() {
        report.differs("missing", path);
    }
    Ok(report)
}

fn compare<R: BlockReader>(
    visit: Visit<'_, R>,
    expected: &mut BTreeMap<String, Entry>,
    report: &mut Report,
) -> Result<(), CheckError> {
    let path = String::from_utf8_lossy(visit.path).into_owned();
    let Visit { file_system, node, .. } = visit;
    match (node.kind(), expected.remove(&path)) {
        (_, None) => report.differs("not in the manifest", &path),
        (NodeKind::File, Some(Entry::File { sha256, size, mode, .. })) => {
            report.files += 1;
            report.bytes += node.size;
            if node.size != size {
                report.differs("wrong size", &path);
                return Ok(());
            }
            match hash(file_system, node) {
                Ok(found) if found != sha256 => report.differs("wrong contents", &path),
                Ok(_) if node.permissions() != mode & 0o7777 => report.differs("wrong mode", &path),
                Ok(_) => {}
                Err(CheckError::FileSystem(error)) => report.differs(&alloc::format!("{error}"), &path),
                Err(error) => return Err(error),
            }
        }
        (NodeKind::Symlink, Some(Entry::Link { target, .. })) => {
            if file_system.link_target(node, &path)? != target.as_bytes() {
                report.differs("wrong target", &path);
            }
        }
        (_, Some(_)) => report.differs("wrong type", &path),
    }
    Ok(())
}

/// Prints the hash of every file below a directory, and how many could not be read.
pub fn sum_all<R: BlockReader>(
    file_system: &mut FileSystem<R>,
    start: &Node,
    prefix: &str,
) -> Result<usize, CheckError> {
    let mut path: Vec<u8> = Vec::new();
    let mut unreadable = 0;
    file_system.walk(start, &mut |visit| {
        if visit.node.kind() != NodeKind::File {
            return Ok(());
        }
        path.clear();
        path.extend_from_slice(prefix.as_bytes());
        path.extend_from_slice(visit.path);
        match hash(visit.file_system, visit.node) {
            Ok(digest) => print_sum(&digest, &path),
            Err(CheckError::FileSystem(error)) => {
                unreadable += 1;
                say!("sum: {}: {error}", redox_boot::text::Printable(&path));
            }
            Err(error) => return Err(error),
        }
        Ok::<(), CheckError>(())
    })?;
    Ok(unreadable)
}

pub fn print_sum(digest: &[u8; 32], path: &[u8]) {
    say!("{}  {}", redox_boot::text::Hex(digest), redox_boot::text::Printable(path));
}
