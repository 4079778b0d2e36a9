//! Package archives in Redox's pkgar format: what an archive's head says, keys, writing and reading. It knows no
//! repository and unpacks nothing.
//!
//! An archive, all integers little endian:
//!
//! ```text
//! header  136 bytes   signature 64 over the 72 bytes that follow it | public key 32
//!                     | BLAKE3 of the entry table 32 | number of entries u32 | flags u32
//! table   308 each    BLAKE3 of the contents 32 | offset u64 in the data | size u64 | mode u32 | path 256, NUL-padded
//! data                contents in the table's order
//! ```
//!
//! There are files and symlinks only. A head is an archive without its data.

mod keys;
mod read;
mod write;

pub use keys::{KeyFile, PublicKey, SecretKey};
pub use read::{Archive, parse_head};
pub use write::{Contents, write_archive};

use crate::error::{Error, Result};
use crate::limits::PKGAR_PATH_LENGTH_MAX;

pub const HEADER_SIZE: usize = 136;
pub const ENTRY_SIZE: usize = 308;
const SIGNATURE_SIZE: usize = 64;
const PATH_FIELD: usize = 256;

/// Type bits in an entry's mode.
pub const MODE_FILE: u32 = 0o100_000;
pub const MODE_SYMLINK: u32 = 0o120_000;
const MODE_TYPE: u32 = 0o170_000;
const MODE_PERMISSIONS: u32 = 0o7777;

/// Format version 0, any architecture, stored as it is: what upstream writes too.
const FLAGS: u32 = 0;

/// One file or symlink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// BLAKE3 of the file's bytes or of the symlink's target.
    pub hash: [u8; 32],
    /// Where the contents begin in the data, in bytes.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Permission bits and one of [`MODE_FILE`], [`MODE_SYMLINK`].
    pub mode: u32,
    /// Relative, without `.` and `..`.
    pub path: String,
}

impl Entry {
    pub fn is_symlink(&self) -> bool {
        self.mode & MODE_TYPE == MODE_SYMLINK
    }

    fn encode(&self, table: &mut Vec<u8>) {
        table.extend_from_slice(&self.hash);
        table.extend_from_slice(&self.offset.to_le_bytes());
        table.extend_from_slice(&self.size.to_le_bytes());
        table.extend_from_slice(&self.mode.to_le_bytes());
        table.extend_from_slice(self.path.as_bytes());
        table.resize(table.len() + PATH_FIELD - self.path.len(), 0);
    }
}

/// What is signed and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub entries: Vec<Entry>,
    /// BLAKE3 of the entry table: what package metadata calls the package's hash.
    pub hash: [u8; 32],
}

impl Head {
    fn new(entries: Vec<Entry>) -> Self {
        let hash = *blake3::hash(&table(&entries)).as_bytes();
        Head { entries, hash }
    }

    pub fn hash_hex(&self) -> String {
        crate::manifest::hex(&self.hash)
    }

    /// Bytes of an archive of these entries.
    pub fn archive_size(&self) -> u64 {
        self.size() + self.data_size()
    }

    fn size(&self) -> u64 {
        (HEADER_SIZE + self.entries.len() * ENTRY_SIZE) as u64
    }

    fn data_size(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.offset + entry.size)
    }

    /// The head's bytes, signed: the content of a `.pkgar_head` file.
    pub fn encode(&self, key: &SecretKey) -> Vec<u8> {
        let table = table(&self.entries);
        let mut signed = Vec::with_capacity(HEADER_SIZE - SIGNATURE_SIZE);
        signed.extend_from_slice(&key.public().0);
        signed.extend_from_slice(&self.hash);
        // `Contents::read` has checked the number.
        signed.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        signed.extend_from_slice(&FLAGS.to_le_bytes());
        let mut bytes = Vec::with_capacity(HEADER_SIZE + table.len());
        bytes.extend_from_slice(&key.sign(&signed));
        bytes.extend_from_slice(&signed);
        bytes.extend_from_slice(&table);
        bytes
    }
}

fn table(entries: &[Entry]) -> Vec<u8> {
    let mut table = Vec::with_capacity(entries.len() * ENTRY_SIZE);
    entries.iter().for_each(|entry| entry.encode(&mut table));
    table
}

/// Whether an archive may hold this path; unpacking it must not lead anywhere else.
fn check_path(path: &str) -> Result<()> {
    let fail = |message: &str| Err(Error::malformed("package archive", format!("`{path}`: {message}")));
    if path.len() > PKGAR_PATH_LENGTH_MAX {
        return fail("the path is longer than 255 bytes, which the format cannot hold");
    }
    if path.split('/').any(|name| matches!(name, "" | "." | "..")) || path.contains('\0') {
        return fail("the path is not a plain relative one");
    }
    Ok(())
}
