//! A node: the block that describes a file, directory or symbolic link, and which of its pointers leads to a record.
//! Reads no disk.

use crate::limits::RECORD_LEVEL_MAX;
use crate::redoxfs::FileSystemError;
use crate::redoxfs::block::{Block, BlockPointer, POINTER_BYTES};
use crate::text::{read_u16, read_u32, read_u64};

/// Node id of the root directory.
pub const ROOT_NODE: u32 = 1;

const INLINE_DATA: u32 = 1;
const LEVEL_DATA_OFFSET: usize = 128;
/// How many pointers of each indirection a node holds; the last level has the fewest.
const POINTERS: [u64; 5] = [128, 64, 32, 16, 8];
/// Pointers in a block of pointers, as a power of two.
const LIST_SHIFT: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    File,
    Directory,
    Symlink,
    Other(u16),
}

#[derive(Clone)]
pub struct Node {
    pub id: u32,
    /// Type and permission bits as in Unix.
    pub mode: u16,
    pub user: u32,
    pub group: u32,
    pub links: u32,
    /// Bytes of contents.
    pub size: u64,
    pub modified_seconds: u64,
    pub(super) record_level: u8,
    pub(super) inline: bool,
    block: alloc::boxed::Box<Block>,
}

/// The way from a node to a record: a pointer of the node, then positions in lists of pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordPath {
    pub first: usize,
    pub lists: [u8; 4],
    pub depth: usize,
}

impl Node {
    pub(super) fn parse(id: u32, block: &Block) -> Result<Node, FileSystemError> {
        let word = |offset| read_u32(block, offset).unwrap_or(0);
        let long = |offset| read_u64(block, offset).unwrap_or(0);
        let record_level = word(66);
        if record_level > u32::from(RECORD_LEVEL_MAX) {
            return Err(FileSystemError::Corrupt {
                what: "a record level is too large",
                number: record_level.into(),
            });
        }
        Ok(Node {
            id,
            mode: read_u16(block, 0).unwrap_or(0),
            user: word(2),
            group: word(6),
            links: word(10),
            size: long(14),
            modified_seconds: long(42),
            record_level: record_level as u8,
            inline: word(70) & INLINE_DATA != 0,
            block: alloc::boxed::Box::new(*block),
        })
    }

    pub fn kind(&self) -> NodeKind {
        match self.mode & 0xF000 {
            0x8000 => NodeKind::File,
            0x4000 => NodeKind::Directory,
            0xA000 => NodeKind::Symlink,
            other => NodeKind::Other(other),
        }
    }

    pub fn permissions(&self) -> u16 {
        self.mode & 0o7777
    }

    pub(super) fn level_data(&self) -> &[u8] {
        &self.block[LEVEL_DATA_OFFSET..]
    }

    pub(super) fn pointer(&self, index: usize) -> BlockPointer {
        BlockPointer::read(self.level_data(), index.saturating_mul(POINTER_BYTES))
    }
}

/// Which pointers lead to a record, by its number in the file.
pub(super) fn record_path(record: u64) -> Option<RecordPath> {
    let mut rest = record;
    let mut first = 0;
    for (depth, count) in POINTERS.iter().enumerate() {
        let shift = LIST_SHIFT * depth as u32;
        let records = count << shift;
        if rest < records {
            let mut path = RecordPath { first: first + (rest >> shift) as usize, lists: [0; 4], depth };
            for (position, slot) in path.lists[..depth].iter_mut().enumerate() {
                *slot = (rest >> (LIST_SHIFT * (depth - 1 - position) as u32) & 0xFF) as u8;
            }
            return Some(path);
        }
        rest -= records;
        first += *count as usize;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_to_records() {
        let l1 = 64 << 8;
        let l2 = 32 << 16;
        for (record, expected) in [
            (0, Some((0, &[][..]))),
            (127, Some((127, &[][..]))),
            (128, Some((128, &[0][..]))),
            (128 + 255, Some((128, &[255][..]))),
            (128 + 256, Some((129, &[0][..]))),
            (128 + l1, Some((192, &[0, 0][..]))),
            (128 + l1 + 0x1_0203, Some((193, &[2, 3][..]))),
            (128 + l1 + l2, Some((224, &[0, 0, 0][..]))),
            (128 + l1 + l2 + (16 << 24), Some((240, &[0, 0, 0, 0][..]))),
            (128 + l1 + l2 + (16 << 24) + (8 << 32) - 1, Some((247, &[255, 255, 255, 255][..]))),
            (128 + l1 + l2 + (16 << 24) + (8 << 32), None),
            (u64::MAX, None),
        ] {
            let found = record_path(record);
            let shown = found.as_ref().map(|path| (path.first, &path.lists[..path.depth]));
            assert_eq!(shown, expected, "{record}");
        }
    }
}
