//! The header block and the ring it lives in. Only decides whether a block is a header and what it says.

use crate::limits::BLOCK_BYTES;
use crate::redoxfs::block::BlockPointer;
use crate::text::{field, read_u64};

const SIGNATURE: &[u8; 8] = b"RedoxFS\0";
const VERSION: u64 = 8;
/// Where the hashed part ends, and where its hash lies.
const HASHED_BYTES: usize = 4072;
const HASH_OFFSET: usize = 4088;

#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub uuid: [u8; 16],
    /// Bytes of the whole file system.
    pub size: u64,
    pub generation: u64,
    pub encrypted: bool,
    pub(super) tree: BlockPointer,
}

impl Header {
    /// A header with right signature, version and hash; anything else is none.
    pub fn parse(block: &[u8]) -> Option<Header> {
        if block.len() != BLOCK_BYTES || !block.starts_with(SIGNATURE) || read_u64(block, 8)? != VERSION {
            return None;
        }
        let hash = seahash::hash(&block[..HASHED_BYTES]);
        if read_u64(block, HASH_OFFSET)? != hash {
            return None;
        }
        let mut plain = [0; 16];
        plain[..8].copy_from_slice(&hash.to_le_bytes());
        Some(Header {
            uuid: field(block, 16)?,
            size: read_u64(block, 32)?,
            generation: read_u64(block, 40)?,
            encrypted: block[HASHED_BYTES..HASH_OFFSET] != plain,
            tree: BlockPointer::read(block, 48),
        })
    }
}
