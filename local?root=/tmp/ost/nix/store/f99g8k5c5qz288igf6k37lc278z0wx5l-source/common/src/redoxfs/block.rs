//! Pointers to blocks: place, size, compression and hash in sixteen bytes. Reads no disk.

use crate::limits::{BLOCK_BYTES, RECORD_LEVEL_MAX};
use crate::redoxfs::FileSystemError;
use crate::text::read_u64;

/// Bytes of a stored pointer.
pub(super) const POINTER_BYTES: usize = 16;

/// The contents of one block.
pub(super) type Block = [u8; BLOCK_BYTES];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BlockPointer {
    address: u64,
    hash: u64,
}

impl BlockPointer {
    /// The pointer at a byte offset; null where the bytes end.
    pub fn read(bytes: &[u8], offset: usize) -> BlockPointer {
        match (read_u64(bytes, offset), read_u64(bytes, offset.saturating_add(8))) {
            (Some(address), Some(hash)) => BlockPointer { address, hash },
            _ => BlockPointer::default(),
        }
    }

    /// Block counted from the start of the file system.
    pub fn index(self) -> u64 {
        self.address >> 8
    }

    pub fn is_null(self) -> bool {
        self.index() == 0
    }

    /// Whether stored bytes are those the pointer was made for.
    pub fn matches(self, stored: &[u8]) -> bool {
        #[cfg(test)]
        if super::tests::HASHES_IGNORED.get() {
            return true;
        }
        seahash::hash(stored) == self.hash
    }

    /// Stored size as a power of two of blocks.
    pub fn level(self) -> Result<u8, FileSystemError> {
        checked_level((self.address & 0xF) as u8)
    }

    /// Size after decompression as a power of two of blocks; nothing where the data is stored as it is.
    pub fn decompressed_level(self) -> Result<Option<u8>, FileSystemError> {
        match (self.address >> 4 & 0xF) as u8 {
            0 => Ok(None),
            level => checked_level(level).map(Some),
        }
    }

    /// The height of a directory's hash tree, when this pointer is the marker that states it.
    pub fn marker_height(self) -> Option<u8> {
        (self.address | 0xF == u64::MAX && self.hash == u64::MAX).then_some((self.address & 0xF) as u8)
    }
}

fn checked_level(level: u8) -> Result<u8, FileSystemError> {
    if level > RECORD_LEVEL_MAX {
        return Err(FileSystemError::Corrupt {
            what: "a block level is too large",
            number: u64::from(level),
        });
    }
    Ok(level)
}

/// Bytes of a level.
pub(super) fn level_bytes(level: u8) -> usize {
    BLOCK_BYTES << level.min(RECORD_LEVEL_MAX)
}
