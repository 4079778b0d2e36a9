//! The initfs image: the read-only tree the kernel hands to the first process. Both of upstream's formats,
//! written from a list of entries, read back, and changed. It does not know which base revision wants which format.
//!
//! All integers are little endian and packed. `current` (base since April 2026) has a 34-byte header, 12-byte
//! inodes and a root inode number; `old` has a creation time in the header, 20-byte inodes with owner and mode,
//! and the root at inode 0. Neither carries a version, so [`Format::detect`] looks at where the page size is.

mod edit;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use edit::{Change, edit};
pub use read::{parse, parse_header};
pub use write::build;

/// First bytes of every initfs image, in both formats.
pub const MAGIC: &[u8; 8] = b"RedoxFtw";
/// Where both formats keep the entry address of the bootstrap program.
pub const BOOTSTRAP_ENTRY_OFFSET: usize = 0x1a;
pub const PAGE_SIZE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Current,
    Old,
}

impl Format {
    pub fn header_size(self) -> usize {
        match self {
            Format::Current => 34,
            Format::Old => 44,
        }
    }

    pub fn inode_size(self) -> usize {
        match self {
            Format::Current => 12,
            Format::Old => 20,
        }
    }

    /// Page 0 is zero after the header and the old header is longer, so the old format's page size decides.
    pub fn detect(image: &[u8]) -> Option<Format> {
        let word = |at: usize| Some(u16::from_le_bytes(image.get(at..at + 2)?.try_into().ok()?));
        if image.get(..8)? != MAGIC {
            return None;
        }
        if word(0x2a) == Some(PAGE_SIZE as u16) {
            return Some(Format::Old);
        }
        (word(0x14) == Some(PAGE_SIZE as u16)).then_some(Format::Current)
    }
}

/// One thing in an initfs image. The path has no leading slash; directories that are only prefixes of others
/// need no entry of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: String,
    pub node: Node,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    File { data: Vec<u8>, executable: bool },
    Directory,
    Symlink { target: String },
}

/// The fields both formats share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub format: Format,
    pub inode_table_offset: u32,
    pub initfs_size: u64,
    pub root_inode: u16,
    pub inode_count: u16,
    pub bootstrap_entry: u64,
}
