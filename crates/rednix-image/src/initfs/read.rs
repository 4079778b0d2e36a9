//! Reads initfs images of both formats back into entries. It trusts nothing in the image.

use super::{BOOTSTRAP_ENTRY_OFFSET, Entry, Format, Header, Node};
use crate::error::{Error, Result};
use crate::limits::{INITFS_DEPTH_MAX, INITFS_INODES_MAX, INITFS_SIZE_MAX};

fn fail(message: impl Into<String>) -> Error {
    Error::malformed("initfs", message)
}

fn bytes(image: &[u8], offset: usize, length: usize) -> Result<&[u8]> {
    offset
        .checked_add(length)
        .and_then(|end| image.get(offset..end))
        .ok_or_else(|| fail(format!("{length} bytes at {offset:#x} lie outside the image")))
}

fn u16_at(image: &[u8], offset: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(bytes(image, offset, 2)?.try_into().expect("2 bytes")))
}

fn u32_at(image: &[u8], offset: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(bytes(image, offset, 4)?.try_into().expect("4 bytes")))
}

fn u64_at(image: &[u8], offset: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(bytes(image, offset, 8)?.try_into().expect("8 bytes")))
}

/// Reads the header and recognises the format.
pub fn parse_header(image: &[u8]) -> Result<Header> {
    let format = Format::detect(image).ok_or_else(|| fail("neither format's header is there"))?;
    let (size_at, root_inode) = match format {
        Format::Current => (0x0c, u16_at(image, 0x16)?),
        Format::Old => (0x22, 0),
    };
    Ok(Header {
        format,
        inode_table_offset: u32_at(image, 8)?,
        initfs_size: u64_at(image, size_at)?,
        root_inode,
        inode_count: u16_at(image, 0x18)?,
        bootstrap_entry: u64_at(image, BOOTSTRAP_ENTRY_OFFSET)?,
    })
}

/// The lowest offset that anything in the image has: of contents, names and the inode table.
pub(super) fn first_offset(image: &[u8], header: &Header) -> Result<usize> {
    let mut first = header.inode_table_offset as usize;
    for inode in 0..header.inode_count {
        let (kind, offset, length) = inode_at(image, header, inode)?;
        if length == 0 {
            continue;
        }
        first = first.min(offset);
        if matches!(kind, Kind::Directory) {
            for entry in bytes(image, offset, length)?.chunks_exact(8) {
                first = first.min(u32_at(entry, 4)? as usize);
            }
        }
    }
    Ok(first)
}

/// Reads all entries, directories included, sorted by path. The root has no entry.
pub fn parse(image: &[u8]) -> Result<(Header, Vec<Entry>)> {
    let header = parse_header(image)?;
    if header.initfs_size > image.len() as u64 || header.initfs_size > INITFS_SIZE_MAX {
        return Err(fail(format!("the header says {} bytes, there are {}", header.initfs_size, image.len())));
    }
    let mut entries = Vec::new();
    let mut data_total = 0u64;
    let mut pending = vec![(String::new(), header.root_inode, 0usize)];
    while let Some((path, inode, depth)) = pending.pop() {
        let (node, offset, length) = inode_at(image, &header, inode)?;
        data_total += length as u64;
        // Two bounds against images whose inodes share data or form a loop.
        if entries.len() > INITFS_INODES_MAX || depth > INITFS_DEPTH_MAX || data_total > 2 * INITFS_SIZE_MAX {
            return Err(fail("the tree is a loop, or larger than an initfs may be"));
        }
        let content = bytes(image, offset, length)?;
        let node = match node {
            Kind::File { executable } => Node::File { data: content.to_vec(), executable },
            Kind::Symlink => Node::Symlink { target: text(content)? },
            Kind::Directory => {
                children(image, content, &path, depth, &mut pending)?;
                Node::Directory
            }
        };
        if depth > 0 {
            entries.push(Entry { path, node });
        } else if node != Node::Directory {
            return Err(fail("the root is not a directory"));
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((header, entries))
}

enum Kind {
    File { executable: bool },
    Directory,
    Symlink,
}

fn inode_at(image: &[u8], header: &Header, inode: u16) -> Result<(Kind, usize, usize)> {
    if inode >= header.inode_count {
        return Err(fail(format!("inode {inode} does not exist, there are {}", header.inode_count)));
    }
    let at = header.inode_table_offset as usize + usize::from(inode) * header.format.inode_size();
    let word = u32_at(image, at)?;
    let kind = match (header.format, word, word >> 28) {
        (Format::Current, 0, _) => Kind::File { executable: false },
        (Format::Current, 1, _) => Kind::File { executable: true },
        (Format::Current, 2, _) | (Format::Old, _, 1) => Kind::Directory,
        (Format::Current, 3, _) | (Format::Old, _, 2) => Kind::Symlink,
        (Format::Old, _, 0) => Kind::File { executable: word & 0o111 != 0 },
        _ => return Err(fail(format!("inode {inode} has the unknown type {word:#x}"))),
    };
    Ok((kind, u32_at(image, at + 8)? as usize, u32_at(image, at + 4)? as usize))
}

fn children(
    image: &[u8],
    table: &[u8],
    path: &str,
    depth: usize,
    pending: &mut Vec<(String, u16, usize)>,
) -> Result<()> {
    if !table.len().is_multiple_of(8) || pending.len() + table.len() / 8 > INITFS_INODES_MAX {
        return Err(fail(format!("the table of directory `/{path}` has a wrong size")));
    }
    for entry in table.chunks_exact(8) {
        let name = bytes(image, u32_at(entry, 4)? as usize, u16_at(entry, 2)?.into())?;
        let name = text(name)?;
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(fail(format!("directory `/{path}` holds the impossible name {name:?}")));
        }
        let child = if path.is_empty() { name } else { format!("{path}/{name}") };
        pending.push((child, u16_at(entry, 0)?, depth + 1));
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| fail("a name or link target is not UTF-8"))
}
