//! Writes a tree into a RedoxFS and makes the result reproducible. It uses the `redoxfs` crate for the format;
//! it mounts nothing and knows no partition table.
//!
//! What would differ from run to run and what is done about it: the volume's random UUID (replaced in every
//! header of the ring, hashes recomputed), times (one constant), directory order (sorted), old bytes in free
//! blocks (the file is new and sparse).

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use redoxfs::{
    BLOCK_SIZE, Disk, FileSystem, HEADER_RING, Node as FsNode, RECORD_SIZE, Transaction, TreeData, TreePtr,
};
use syscall::error::{EIO, ENOSPC, Error as FsError};

use crate::error::{Error, Result};
use crate::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_ENTRIES_MAX};
use crate::manifest::{Uuid, type_bits};
use crate::tree::{Entry, Node, Tree, parent_of};

/// Every time in an image: the first second a FAT file system can name, 1980-01-01.
pub const TIME: u64 = 315_532_800;
/// Bytes read from a host file at once.
const CHUNK: usize = 4 << 20;

/// A window of a file as a disk. The first error of the host is kept: RedoxFS only carries a number.
pub struct Window {
    file: File,
    offset: u64,
    size: u64,
    failure: HostFailure,
}

/// Shared with whoever explains errors: the crate consumes the disk.
type HostFailure = Rc<RefCell<Option<std::io::Error>>>;

impl Window {
    pub fn new(file: File, offset: u64, size: u64) -> Self {
        Window { file, offset, size, failure: HostFailure::default() }
    }

    fn fail(&mut self, error: std::io::Error) -> FsError {
        let errno = FsError::new(EIO);
        self.failure.borrow_mut().get_or_insert(error);
        errno
    }
}

// The trait calls these two unsafe; both check their place and do ordinary file operations.
#[allow(unsafe_code)]
impl Disk for Window {
    unsafe fn read_at(&mut self, block: u64, buffer: &mut [u8]) -> syscall::error::Result<usize> {
        let at = block.saturating_mul(BLOCK_SIZE);
        if at.saturating_add(buffer.len() as u64) > self.size {
            return Err(FsError::new(EIO));
        }
        match self.file.read_exact_at(buffer, self.offset + at) {
            Ok(()) => Ok(buffer.len()),
            Err(error) => Err(self.fail(error)),
        }
    }

    unsafe fn write_at(&mut self, block: u64, buffer: &[u8]) -> syscall::error::Result<usize> {
        let at = block.saturating_mul(BLOCK_SIZE);
        if at.saturating_add(buffer.len() as u64) > self.size {
            return Err(FsError::new(EIO));
        }
        match self.file.write_all_at(buffer, self.offset + at) {
            Ok(()) => Ok(buffer.len()),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn size(&mut self) -> syscall::error::Result<u64> {
        Ok(self.size)
    }
}

/// Bytes of file system that surely hold the tree: nothing compresses, and old metadata of the running
/// transaction is still around.
pub fn size_needed(tree: &Tree) -> u64 {
    let mut blocks = HEADER_RING + 8;
    for (path, entry) in tree.iter() {
        // Node, tree leaf, its directory entry's share of a block, and the copies made while changing them.
        blocks += 4 + (path.len() as u64).div_ceil(1024);
        if let Node::File(content) = &entry.node {
            let records = content.size().div_ceil(RECORD_SIZE);
            blocks += content.size().div_ceil(BLOCK_SIZE) + records.div_ceil(128) + 2;
        }
    }
    blocks += 4 * TRANSACTION_ENTRIES_MAX as u64;
    (blocks + blocks / 32) * BLOCK_SIZE
}

/// Why the tree could not be written.
pub enum Failure {
    NoSpace,
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Other(error)
    }
}

/// Formats the window and writes the tree into it. `image` is the window's file, for messages.
pub fn write(window: Window, image: &Path, tree: &Tree, uuid: Uuid) -> Result<(), Failure> {
    let context = Context { image, host: window.failure.clone() };
    let (file, offset) = (window.file.try_clone().map_err(Error::io("open again", image))?, window.offset);
    let mut fs = match FileSystem::create(window, None, TIME, 0) {
        Ok(fs) => fs,
        Err(error) => return Err(context.explain("create", "", error)),
    };
    fs.header.uuid = uuid.0;
    let mut writer = Writer { nodes: HashMap::from([(String::new(), TreePtr::root())]), context };
    writer.write_all(&mut fs, tree)?;
    // Squashes the allocation log, so that opening the volume has little to replay.
    fs.cleanup().map_err(|error| writer.context.explain("finish", "", error))?;
    drop(fs);
    rewrite_headers(&file, offset, uuid).map_err(Error::io("write", image))?;
    Ok(())
}

struct Context<'a> {
    image: &'a Path,
    host: HostFailure,
}

impl Context<'_> {
    /// The host's own error where there was one, else RedoxFS's.
    fn explain(&self, operation: &'static str, path: &str, error: FsError) -> Failure {
        if let Some(source) = self.host.borrow_mut().take() {
            return Failure::Other(Error::Io { operation: "write", path: self.image.to_owned(), source });
        }
        if error.errno == ENOSPC {
            return Failure::NoSpace;
        }
        Failure::Other(Error::FileSystem { operation, path: path.to_owned(), message: error.to_string() })
    }
}

struct Writer<'a> {
    nodes: HashMap<String, TreePtr<FsNode>>,
    context: Context<'a>,
}

/// A file too large for one transaction: the rest is written in further ones.
struct Unfinished<'a> {
    path: String,
    node: TreePtr<FsNode>,
    reader: Box<dyn Read + 'a>,
    written: u64,
    size: u64,
}

impl Writer<'_> {
    fn write_all(&mut self, fs: &mut FileSystem<Window>, tree: &Tree) -> Result<(), Failure> {
        let mut entries = tree.iter().peekable();
        while entries.peek().is_some() {
            let mut unfinished = None;
            self.transaction(fs, |writer, tx| {
                let (mut bytes, mut count) = (0, 0);
                while bytes < TRANSACTION_BYTES_MAX && count < TRANSACTION_ENTRIES_MAX && unfinished.is_none()
                {
                    let Some((path, entry)) = entries.next() else { break };
                    let budget = TRANSACTION_BYTES_MAX - bytes;
                    bytes += match &entry.node {
                        Node::File(content) => content.size(),
                        _ => 0,
                    };
                    count += 1;
                    unfinished = writer.create(tx, path, entry, budget)?;
                }
                Ok(())
            })?;
            while let Some(mut rest) = unfinished.take() {
                self.transaction(fs, |writer, tx| {
                    let mut node = tx
                        .read_tree(rest.node)
                        .map_err(|error| writer.refused("write", &rest.path, error))?;
                    writer.fill(tx, &mut node, &mut rest, TRANSACTION_BYTES_MAX)?;
                    tx.sync_tree(node).map_err(|error| writer.refused("write", &rest.path, error))
                })?;
                unfinished = (rest.written < rest.size).then_some(rest);
            }
        }
        Ok(())
    }

    fn refused(&self, operation: &'static str, path: &str, error: FsError) -> Failure {
        self.context.explain(operation, path, error)
    }

    /// Runs one transaction. Errors of ours are carried around the crate's own error type, which cannot hold them.
    fn transaction(
        &mut self,
        fs: &mut FileSystem<Window>,
        run: impl FnOnce(&mut Self, &mut Transaction<Window>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut failure = None;
        let result = fs.tx(|tx| {
            run(self, tx).map_err(|error| {
                failure = Some(error);
                FsError::new(EIO)
            })
        });
        match (result, failure) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) => Err(self.context.explain("commit", "", error)),
        }
    }

    fn create<'a>(
        &mut self,
        tx: &mut Transaction<Window>,
        path: &str,
        entry: &'a Entry,
        budget: u64,
    ) -> Result<Option<Unfinished<'a>>, Failure> {
        let parent = self.nodes[parent_of(path)];
        let mode = type_bits(&entry.node) | entry.mode;
        let mut node = if path.is_empty() {
            tx.read_tree(TreePtr::root()).map_err(|error| self.refused("open", path, error))?
        } else {
            let name = path.rsplit('/').next().unwrap_or(path);
            tx.create_node(parent, name, mode, TIME, 0)
                .map_err(|error| self.refused("create", path, error))?
        };
        node.data_mut().set_mode(mode);
        node.data_mut().set_uid(entry.uid);
        node.data_mut().set_gid(entry.gid);
        let mut rest = None;
        match &entry.node {
            Node::Directory => {
                self.nodes.insert(path.to_owned(), node.ptr());
            }
            Node::Symlink(target) => {
                tx.write_node_inner(&mut node, &mut 0, target.as_bytes())
                    .map_err(|error| self.refused("write the link", path, error))?;
            }
            Node::File(content) => {
                let mut file = Unfinished {
                    path: path.to_owned(),
                    node: node.ptr(),
                    reader: content.open()?,
                    written: 0,
                    size: content.size(),
                };
                self.fill(tx, &mut node, &mut file, budget)?;
                rest = (file.written < file.size).then_some(file);
            }
        }
        tx.sync_tree(node).map_err(|error| self.refused("write", path, error))?;
        Ok(rest)
    }

    /// Writes up to about `budget` bytes of the file, in whole chunks.
    fn fill(
        &self,
        tx: &mut Transaction<Window>,
        node: &mut TreeData<FsNode>,
        file: &mut Unfinished<'_>,
        budget: u64,
    ) -> Result<(), Failure> {
        let mut buffer = vec![0; CHUNK.min(file.size.saturating_sub(file.written) as usize)];
        let mut done = 0;
        while file.written < file.size && done < budget {
            let length = (file.size - file.written).min(CHUNK as u64) as usize;
            let chunk = &mut buffer[..length];
            file.reader.read_exact(chunk).map_err(Error::io("read the source of", &file.path))?;
            let mut offset = file.written;
            tx.write_node_inner(node, &mut offset, chunk)
                .map_err(|error| self.refused("write", &file.path, error))?;
            file.written += length as u64;
            done += length as u64;
        }
        Ok(())
    }
}

/// Gives every valid header of the ring the volume's UUID and a new hash. The crate draws a random UUID when it
/// creates a volume and has by then written it.
fn rewrite_headers(file: &File, offset: u64, uuid: Uuid) -> std::io::Result<()> {
    const UUID: std::ops::Range<usize> = 16..32;
    const HASHED: usize = 4072;
    let mut block = [0u8; BLOCK_SIZE as usize];
    for slot in 0..HEADER_RING {
        let at = offset + slot * BLOCK_SIZE;
        file.read_exact_at(&mut block, at)?;
        if &block[..8] != redoxfs::SIGNATURE || block[UUID] == uuid.0 {
            continue;
        }
        block[UUID].copy_from_slice(&uuid.0);
        let hash = seahash::hash(&block[..HASHED]).to_le_bytes();
        // The "encrypted" hash of a volume without encryption: the hash itself, padded.
        block[HASHED..HASHED + 8].copy_from_slice(&hash);
        block[HASHED + 8..HASHED + 16].fill(0);
        block[HASHED + 16..].copy_from_slice(&hash);
        file.write_all_at(&block, at)?;
    }
    Ok(())
}

/// Opens a volume for reading and answers everything in it, root first, sorted by path.
pub struct Volume {
    fs: FileSystem<Window>,
}

/// One path as found in a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub path: String,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    node: u32,
}

impl Volume {
    pub fn open(window: Window) -> Result<Self> {
        let fs = FileSystem::open(window, None, Some(0), false)
            .map_err(|error| Error::malformed("RedoxFS", format!("no volume can be opened: {error}")))?;
        Ok(Volume { fs })
    }

    pub fn uuid(&self) -> Uuid {
        Uuid(self.fs.header.uuid())
    }

    pub fn entries(&mut self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut pending = vec![(String::new(), TreePtr::root())];
        while let Some((path, pointer)) = pending.pop() {
            let refused = |error: FsError| Error::malformed("RedoxFS", format!("`/{path}`: {error}"));
            let mut children = Vec::new();
            let node = self.fs.tx(|tx| {
                let node: TreeData<FsNode> = tx.read_tree(pointer)?;
                if node.data().is_dir() {
                    tx.child_nodes(pointer, &mut children)?;
                }
                Ok(node)
            });
            let node = node.map_err(refused)?;
            for child in &children {
                let name = child.name().ok_or_else(|| {
                    Error::malformed("RedoxFS", format!("`/{path}` holds a name that is not UTF-8"))
                })?;
                pending.push((crate::tree::join(&path, name), child.node_ptr()));
            }
            let data = node.data();
            let (mode, uid, gid, size) = (data.mode(), data.uid(), data.gid(), data.size());
            found.push(Found { path, mode, uid, gid, size, node: pointer.id() });
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Reads a file or link target and gives it to `sink` piece by piece.
    pub fn read(&mut self, found: &Found, mut sink: impl FnMut(&[u8])) -> Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut offset = 0;
        while offset < found.size {
            let pointer = TreePtr::new(found.node);
            let count = self
                .fs
                .tx(|tx| {
                    let node = tx.read_tree(pointer)?;
                    tx.read_node_inner(&node, offset, &mut buffer)
                })
                .map_err(|error| Error::malformed("RedoxFS", format!("`/{}`: {error}", found.path)))?;
            if count == 0 {
                return Err(Error::malformed("RedoxFS", format!("`/{}` ends early", found.path)));
            }
            sink(&buffer[..count]);
            offset += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 4 << 20;

    fn attempt(file: File, tree: &Tree) -> Result<(), Failure> {
        write(Window::new(file, 0, SIZE), Path::new("disk.img"), tree, Uuid([7; 16]))
    }

    #[test]
    fn an_error_of_the_host_is_reported_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        File::create(&path).unwrap().set_len(SIZE).unwrap();
        let Err(Failure::Other(error)) = attempt(File::open(&path).unwrap(), &Tree::default()) else {
            panic!("a file opened for reading cannot be written");
        };
        assert!(matches!(error, Error::Io { operation: "write", .. }), "{error}");
    }

    #[test]
    fn a_full_volume_is_no_error_of_the_host() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE).unwrap();
        let mut tree = Tree::default();
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            // xorshift: nothing that could be compressed
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(SIZE as usize)
        .collect();
        tree.put("file", Entry::file(crate::tree::Content::Bytes(noise), 0o644, "test")).unwrap();
        assert!(matches!(attempt(file, &tree), Err(Failure::NoSpace)));
    }
}
