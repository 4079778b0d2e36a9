//! The open file system: verified blocks through a small cache, nodes by id, contents by offset, names by path.
//! Keeps one record decompressed, so that reading forward costs each record once.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::device::BlockReader;
use crate::limits::{
    BLOCK_BYTES, CACHED_BLOCKS, DIRECTORY_ENTRIES_MAX, HASH_TREE_HEIGHT_MAX, HEADER_RING_BLOCKS,
    PATH_COMPONENTS_MAX, SYMLINK_BYTES_MAX, SYMLINKS_FOLLOWED_MAX,
};
use crate::redoxfs::block::{Block, BlockPointer, POINTER_BYTES, level_bytes};
use crate::redoxfs::directory::{DirectoryEntry, list_entries, name_hash, tree_pointers};
use crate::redoxfs::node::{Node, NodeKind, ROOT_NODE, record_path};
use crate::redoxfs::{FileSystemError, Header};
use crate::text::read_u16;

const ZERO_BLOCK: &Block = &[0; BLOCK_BYTES];

pub struct FileSystem<R> {
    reader: R,
    start: u64,
    header: Header,
    cache: Vec<Option<(BlockPointer, Box<Block>)>>,
    record: Record,
    stored: Vec<u8>,
}

/// The record read last.
#[derive(Default)]
struct Record {
    pointer: BlockPointer,
    bytes: Vec<u8>,
}

impl<R: BlockReader> FileSystem<R> {
    /// Opens the file system whose header ring has a valid header exactly at `block` of the device.
    pub fn open(mut reader: R, block: u64) -> Result<Self, FileSystemError> {
        let mut first = Box::new([0; BLOCK_BYTES]);
        reader.read_blocks(block, &mut *first)?;
        let mut header = Header::parse(&*first).ok_or(FileSystemError::NotFound { block })?;
        let start = block
            .checked_sub(header.generation % HEADER_RING_BLOCKS)
            .ok_or(FileSystemError::NotFound { block })?;
        const CHUNK_BLOCKS: u64 = 32;
        let mut ring = alloc::vec![0; CHUNK_BLOCKS as usize * BLOCK_BYTES];
        for chunk in (0..HEADER_RING_BLOCKS).step_by(CHUNK_BLOCKS as usize) {
            reader.read_blocks(start.saturating_add(chunk), &mut ring)?;
            for candidate in ring.chunks_exact(BLOCK_BYTES).filter_map(Header::parse) {
                if candidate.generation > header.generation {
                    header = candidate;
                }
            }
        }
        if header.encrypted {
            return Err(FileSystemError::Encrypted { block });
        }
        Ok(FileSystem {
            reader,
            start,
            header,
            cache: (0..CACHED_BLOCKS).map(|_| None).collect(),
            record: Record::default(),
            stored: Vec::new(),
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// First block of the file system on its device.
    pub fn start_block(&self) -> u64 {
        self.start
    }

    pub fn into_reader(self) -> R {
        self.reader
    }

    /// The device below, for copying the file system as a whole.
    pub fn reader_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// A node by its id.
    pub fn node(&mut self, id: u32) -> Result<Node, FileSystemError> {
        let mut pointer = self.header.tree;
        for level in (0..4).rev() {
            let index = (id >> (8 * level) & 0xFF) as usize;
            // A tree block has room for 254 pointers; flags follow them.
            if index >= 254 {
                return Err(FileSystemError::Corrupt { what: "there is no such node id", number: id.into() });
            }
            pointer = BlockPointer::read(self.block(pointer, "a tree block")?, index * POINTER_BYTES);
        }
        if pointer.is_null() {
            return Err(FileSystemError::Corrupt { what: "there is no such node", number: id.into() });
        }
        Node::parse(id, self.block(pointer, "a node")?)
    }

    pub fn root(&mut self) -> Result<Node, FileSystemError> {
        self.node(ROOT_NODE)
    }

    /// Reads contents from `offset` on; fewer bytes than asked only at the end.
    pub fn read(&mut self, node: &Node, offset: u64, buffer: &mut [u8]) -> Result<usize, FileSystemError> {
        let wanted = node.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let buffer = &mut buffer[..wanted];
        if node.inline {
            let inline = usize::try_from(offset)
                .ok()
                .and_then(|offset| node.level_data().get(offset..))
                .unwrap_or(&[]);
            let present = inline.len().min(wanted);
            buffer[..present].copy_from_slice(&inline[..present]);
            buffer[present..].fill(0);
            return Ok(wanted);
        }
        let record_bytes = level_bytes(node.record_level);
        let mut done = 0;
        while done < wanted {
            let position = offset + done as u64;
            let within = (position % record_bytes as u64) as usize;
            let length = (record_bytes - within).min(wanted - done);
            let pointer = self.record_pointer(node, position / record_bytes as u64)?;
            let part = &mut buffer[done..done + length];
            if pointer.is_null() {
                part.fill(0);
            } else {
                self.load_record(pointer)?;
                let present = self.record.bytes.len().saturating_sub(within).min(length);
                part[..present]
                    .copy_from_slice(&self.record.bytes[self.record.bytes.len().min(within)..][..present]);
                part[present..].fill(0);
            }
            done += length;
        }
        Ok(wanted)
    }

    /// The whole contents of a small file.
    pub fn read_all(&mut self, node: &Node, limit: u64, path: &str) -> Result<Vec<u8>, FileSystemError> {
        if node.size > limit {
            return Err(FileSystemError::TooLarge { path: path.into(), bytes: node.size, limit });
        }
        let mut bytes = alloc::vec![0; node.size as usize];
        self.read(node, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Where a symbolic link points.
    pub fn link_target(&mut self, node: &Node, path: &str) -> Result<Vec<u8>, FileSystemError> {
        self.read_all(node, SYMLINK_BYTES_MAX, path)
    }

    /// The names in a directory, sorted by their bytes.
    pub fn entries(&mut self, directory: &Node) -> Result<Vec<DirectoryEntry>, FileSystemError> {
        let mut entries = Vec::new();
        self.for_each_list(directory, None, &mut |block| {
            list_entries(block, |node, name| {
                if entries.len() >= DIRECTORY_ENTRIES_MAX {
                    return Err(FileSystemError::Corrupt {
                        what: "a directory has too many names",
                        number: node.into(),
                    });
                }
                entries.push(DirectoryEntry { node, name: name.into() });
                Ok(())
            })
        })?;
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    /// The node with a name in a directory.
    pub fn child(&mut self, directory: &Node, name: &[u8]) -> Result<Option<Node>, FileSystemError> {
        let mut found = None;
        self.for_each_list(directory, Some(name_hash(name)), &mut |block| {
            list_entries(block, |node, other| {
                if other == name {
                    found = Some(node);
                }
                Ok(())
            })
        })?;
        found.map(|id| self.node(id)).transpose()
    }

    /// The node at a path from the root; symbolic links on the way are followed, one at its end only when asked.
    pub fn lookup(&mut self, path: &str, follow_last: bool) -> Result<Node, FileSystemError> {
        let mut rest: Vec<Vec<u8>> = components(path.as_bytes()).rev().map(Vec::from).collect();
        let mut parents: Vec<Node> = Vec::new();
        let mut current = self.root()?;
        let (mut steps, mut links) = (0, 0);
        while let Some(name) = rest.pop() {
            steps += 1;
            if steps > PATH_COMPONENTS_MAX {
                return Err(FileSystemError::TooManyLinks { path: path.into() });
            }
            if current.kind() != NodeKind::Directory {
                return Err(FileSystemError::NotADirectory { path: path.into() });
            }
            if name == b".." {
                current = parents.pop().map_or_else(|| self.root(), Ok)?;
                continue;
            }
            let node = self
                .child(&current, &name)?
                .ok_or_else(|| FileSystemError::NoSuchFile { path: path.into() })?;
            if node.kind() == NodeKind::Symlink && (follow_last || !rest.is_empty()) {
                links += 1;
                if links > SYMLINKS_FOLLOWED_MAX {
                    return Err(FileSystemError::TooManyLinks { path: path.into() });
                }
                let target = self.link_target(&node, path)?;
                if target.first() == Some(&b'/') {
                    parents.clear();
                    current = self.root()?;
                }
                rest.extend(components(&target).rev().map(Vec::from));
                continue;
            }
            parents.push(core::mem::replace(&mut current, node));
        }
        Ok(current)
    }

    /// A regular file at a path.
    pub fn file(&mut self, path: &str) -> Result<Node, FileSystemError> {
        let node = self.lookup(path, true)?;
        if node.kind() != NodeKind::File {
            return Err(FileSystemError::NotAFile { path: String::from(path) });
        }
        Ok(node)
    }

    /// Calls `found` for every list block of a directory, or only for those that may hold a name with a hash.
    fn for_each_list(
        &mut self,
        directory: &Node,
        wanted: Option<u32>,
        found: &mut dyn FnMut(&Block) -> Result<(), FileSystemError>,
    ) -> Result<(), FileSystemError> {
        if directory.inline {
            return Err(FileSystemError::Corrupt {
                what: "a directory has inline data",
                number: directory.id.into(),
            });
        }
        // A directory that never held a name has no marker.
        let Some(height) = directory.pointer(0).marker_height() else { return Ok(()) };
        if height > HASH_TREE_HEIGHT_MAX {
            return Err(FileSystemError::Corrupt {
                what: "a directory's tree is too high",
                number: height.into(),
            });
        }
        let mut pending = alloc::vec![(directory.pointer(1), height)];
        let mut blocks = 0;
        while let Some((pointer, height)) = pending.pop() {
            blocks += 1;
            if blocks > DIRECTORY_ENTRIES_MAX {
                return Err(FileSystemError::Corrupt {
                    what: "a directory has too many blocks",
                    number: directory.id.into(),
                });
            }
            if pointer.is_null() {
                continue;
            }
            if height == 0 {
                found(self.block(pointer, "a directory list")?)?;
            } else {
                let below = tree_pointers(self.block(pointer, "a directory's tree")?, wanted);
                pending.extend(below.into_iter().rev().map(|pointer| (pointer, height - 1)));
            }
        }
        Ok(())
    }

    fn record_pointer(&mut self, node: &Node, record: u64) -> Result<BlockPointer, FileSystemError> {
        let path = record_path(record).ok_or(FileSystemError::Corrupt {
            what: "a file is larger than the format allows",
            number: node.size,
        })?;
        let mut pointer = node.pointer(path.first);
        for &index in &path.lists[..path.depth] {
            if pointer.is_null() {
                break;
            }
            pointer = BlockPointer::read(
                self.block(pointer, "a list of records")?,
                usize::from(index) * POINTER_BYTES,
            );
        }
        Ok(pointer)
    }

    /// Makes `self.record` the decompressed record of a pointer.
    fn load_record(&mut self, pointer: BlockPointer) -> Result<(), FileSystemError> {
        if self.record.pointer == pointer {
            return Ok(());
        }
        let level = pointer.level()?;
        let block = self.checked_place(pointer, level)?;
        self.record.pointer = BlockPointer::default();
        self.stored.resize(level_bytes(level), 0);
        self.reader.read_blocks(block, &mut self.stored)?;
        if !pointer.matches(&self.stored) {
            return Err(FileSystemError::WrongHash { what: "a record", block });
        }
        match pointer.decompressed_level()? {
            None => core::mem::swap(&mut self.record.bytes, &mut self.stored),
            Some(level) => {
                let corrupt =
                    FileSystemError::Corrupt { what: "a record does not decompress", number: block };
                let length = usize::from(read_u16(&self.stored, 0).unwrap_or(0));
                let compressed = self.stored.get(2..2 + length).ok_or(corrupt.clone())?;
                self.record.bytes.clear();
                self.record.bytes.resize(level_bytes(level), 0);
                lz4_flex::block::decompress_into(compressed, &mut self.record.bytes).map_err(|_| corrupt)?;
            }
        }
        self.record.pointer = pointer;
        Ok(())
    }

    /// One verified block of metadata. A null pointer names nothing, which is read as zeroes.
    fn block(&mut self, pointer: BlockPointer, what: &'static str) -> Result<&Block, FileSystemError> {
        if pointer.is_null() {
            return Ok(ZERO_BLOCK);
        }
        let slot = (pointer.index() % CACHED_BLOCKS as u64) as usize;
        let cached = matches!(&self.cache[slot], Some((other, _)) if *other == pointer);
        if !cached {
            let level = pointer.level()?;
            if level != 0 || pointer.decompressed_level()?.is_some() {
                return Err(FileSystemError::Corrupt {
                    what: "a block of metadata is not one block",
                    number: pointer.index(),
                });
            }
            let place = self.checked_place(pointer, level)?;
            let mut block =
                self.cache[slot].take().map_or_else(|| Box::new([0; BLOCK_BYTES]), |(_, block)| block);
            self.reader.read_blocks(place, &mut *block)?;
            if !pointer.matches(&*block) {
                return Err(FileSystemError::WrongHash { what, block: place });
            }
            self.cache[slot] = Some((pointer, block));
        }
        Ok(self.cache[slot].as_ref().map_or(ZERO_BLOCK, |(_, block)| block))
    }

    /// The device's block of a pointer that lies wholly inside the file system.
    fn checked_place(&self, pointer: BlockPointer, level: u8) -> Result<u64, FileSystemError> {
        let end = pointer.index().checked_add(1 << level);
        match (end, self.start.checked_add(pointer.index())) {
            (Some(end), Some(place)) if end <= self.header.size / BLOCK_BYTES as u64 => Ok(place),
            _ => Err(FileSystemError::Corrupt { what: "a pointer leads outside", number: pointer.index() }),
        }
    }
}

/// The parts of a path, without empty ones and `.`.
fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}
