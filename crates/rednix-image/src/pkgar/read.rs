//! Reads archives and heads, trusting nothing before its signature and hashes were checked. It unpacks nothing.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{
    ENTRY_SIZE, Entry, HEADER_SIZE, Head, MODE_FILE, MODE_PERMISSIONS, MODE_SYMLINK, MODE_TYPE, PATH_FIELD,
    PublicKey, SIGNATURE_SIZE, check_path,
};
use crate::error::{Error, Result};
use crate::limits::PKGAR_ENTRIES_MAX;

fn malformed(message: impl Into<String>) -> Error {
    Error::malformed("package archive", message)
}

/// Checks the header's signature and gives the table's hash and number of entries.
fn parse_header(header: &[u8; HEADER_SIZE], key: PublicKey) -> Result<([u8; 32], usize)> {
    let field = |from: usize| -> [u8; 32] { std::array::from_fn(|n| header[from + n]) };
    let number = |from: usize| u32::from_le_bytes(std::array::from_fn(|n| header[from + n]));
    let signature: [u8; SIGNATURE_SIZE] = std::array::from_fn(|n| header[n]);
    if field(SIGNATURE_SIZE) != key.0 {
        return Err(malformed("it is signed with another key"));
    }
    if !key.verify(&header[SIGNATURE_SIZE..], &signature) {
        return Err(malformed("its signature is wrong"));
    }
    let [version, _architecture, packaging, _] = number(132).to_le_bytes();
    if version != 0 || packaging != 0 {
        return Err(malformed(format!(
            "format version {version}, packaging {packaging}: only plain archives of version 0 are read"
        )));
    }
    let count = number(128) as usize;
    if count > PKGAR_ENTRIES_MAX {
        return Err(malformed(format!("{count} entries, the most is {PKGAR_ENTRIES_MAX}")));
    }
    Ok((field(96), count))
}

fn parse_table(table: &[u8], hash: [u8; 32]) -> Result<Head> {
    if blake3::hash(table) != blake3::Hash::from_bytes(hash) {
        return Err(malformed("its table of entries is not the signed one"));
    }
    let mut entries = Vec::with_capacity(table.len() / ENTRY_SIZE);
    for bytes in table.chunks_exact(ENTRY_SIZE) {
        let number = |from: usize| u64::from_le_bytes(std::array::from_fn(|n| bytes[from + n]));
        let mode = u32::from_le_bytes(std::array::from_fn(|n| bytes[48 + n]));
        let path = &bytes[ENTRY_SIZE - PATH_FIELD..];
        let path = path.split(|&byte| byte == 0).next().unwrap_or(path);
        let path = std::str::from_utf8(path).map_err(|_| malformed("a path is not UTF-8"))?;
        check_path(path)?;
        if !matches!(mode & MODE_TYPE, MODE_FILE | MODE_SYMLINK)
            || mode & !(MODE_TYPE | MODE_PERMISSIONS) != 0
        {
            return Err(malformed(format!(
                "`{path}` has mode {mode:o}, which is no file's and no symlink's"
            )));
        }
        let (offset, size) = (number(32), number(40));
        offset.checked_add(size).ok_or_else(|| malformed(format!("`{path}` ends beyond all bounds")))?;
        entries.push(Entry {
            hash: std::array::from_fn(|n| bytes[n]),
            offset,
            size,
            mode,
            path: path.to_owned(),
        });
    }
    Ok(Head { entries, hash })
}

/// Parses a head, or the beginning of an archive.
pub fn parse_head(bytes: &[u8], key: PublicKey) -> Result<Head> {
    let short = || malformed("it ends early");
    let (header, rest) = bytes.split_first_chunk::<HEADER_SIZE>().ok_or_else(short)?;
    let (hash, count) = parse_header(header, key)?;
    parse_table(rest.get(..count * ENTRY_SIZE).ok_or_else(short)?, hash)
}

/// An archive whose head was checked; contents are checked when they are read.
#[derive(Debug)]
pub struct Archive {
    file: File,
    pub head: Head,
    size: u64,
}

impl Archive {
    pub fn open(path: &Path, key: PublicKey) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let size = file.metadata().map_err(Error::io("inspect", path))?.len();
        let mut header = [0; HEADER_SIZE];
        file.read_exact_at(&mut header, 0).map_err(Error::io("read", path))?;
        let (hash, count) = parse_header(&header, key)?;
        let length = count * ENTRY_SIZE;
        if (HEADER_SIZE + length) as u64 > size {
            return Err(malformed("it ends early"));
        }
        let mut table = vec![0; length];
        file.read_exact_at(&mut table, HEADER_SIZE as u64).map_err(Error::io("read", path))?;
        Ok(Archive { file, head: parse_table(&table, hash)?, size })
    }

    /// Reads the contents of every entry, checks them, and gives each piece to `sink`.
    pub fn read(&self, mut sink: impl FnMut(&Entry, &[u8])) -> Result<()> {
        let data = self.head.size();
        let mut buffer = vec![0; 1 << 20];
        for entry in &self.head.entries {
            let end = data.checked_add(entry.offset + entry.size).filter(|&end| end <= self.size);
            let end = end.ok_or_else(|| malformed(format!("`{}` ends beyond the archive", entry.path)))?;
            let mut hasher = blake3::Hasher::new();
            let mut at = end - entry.size;
            while at < end {
                let piece = &mut buffer[..(end - at).min(1 << 20) as usize];
                self.file
                    .read_exact_at(piece, at)
                    .map_err(Error::io("read from the archive", &entry.path))?;
                hasher.update(piece);
                sink(entry, piece);
                at += piece.len() as u64;
            }
            if hasher.finalize() != blake3::Hash::from_bytes(entry.hash) {
                return Err(malformed(format!("the contents of `{}` are not the signed ones", entry.path)));
            }
        }
        Ok(())
    }
}
