//! Composes an initfs image in memory. It reads no files: callers bring the bytes.
//!
//! Layout: header page, bootstrap program from page 1, file data page by page, then names and link targets
//! packed, directory tables, the inode table. Everything is in path order, so equal entries give equal bytes.

use std::collections::BTreeMap;

use super::{BOOTSTRAP_ENTRY_OFFSET, Entry, Format, MAGIC, Node, PAGE_SIZE};
use crate::error::{Error, Result};
use crate::limits::{INITFS_DEPTH_MAX, INITFS_INODES_MAX, INITFS_SIZE_MAX, NAME_LENGTH_MAX};

/// An inode before its bytes have a place.
enum Item<'a> {
    Directory(BTreeMap<&'a str, usize>),
    File { data: &'a [u8], executable: bool },
    Symlink(String),
}

/// Writes an image holding `entries` (any order, no path twice), with the program `bootstrap` verbatim at
/// page 1 and its ELF entry address in the header.
pub fn build(format: Format, bootstrap: Option<&[u8]>, entries: &[Entry]) -> Result<Vec<u8>> {
    let entry = bootstrap.map(elf_entry).transpose()?.unwrap_or(0);
    build_with(format, bootstrap, entry, entries)
}

/// The same with an entry address that is known already.
pub(super) fn build_with(
    format: Format,
    bootstrap: Option<&[u8]>,
    bootstrap_entry: u64,
    entries: &[Entry],
) -> Result<Vec<u8>> {
    let items = arrange(entries)?;
    let mut image = vec![0; PAGE_SIZE];
    if let Some(program) = bootstrap {
        append_pages(&mut image, program)?;
    }
    let mut places = vec![(0u32, 0u32); items.len()];
    for (item, place) in items.iter().zip(&mut places) {
        if let Item::File { data, .. } = item {
            *place = (append_pages(&mut image, data)?, checked(data.len())?);
        }
    }
    append_tables(&items, &mut places, &mut image)?;
    align(&mut image, 16);
    let table = checked(image.len())?;
    for (item, place) in items.iter().zip(&places) {
        append_inode(format, item, *place, &mut image);
    }
    align(&mut image, PAGE_SIZE);
    checked(image.len())?;
    write_header(format, &mut image, table, items.len() as u16, bootstrap_entry);
    Ok(image)
}

/// Gives every path an inode number: the root is 0, then path order.
fn arrange(entries: &[Entry]) -> Result<Vec<Item<'_>>> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut items = vec![Item::Directory(BTreeMap::new())];
    for entry in sorted {
        insert(&mut items, entry)?;
    }
    Ok(items)
}

fn insert<'a>(items: &mut Vec<Item<'a>>, entry: &'a Entry) -> Result<()> {
    let fail = |message: &str| Error::malformed("initfs", format!("entry `{}` {message}", entry.path));
    let names: Vec<&str> = entry.path.split('/').collect();
    if names.len() > INITFS_DEPTH_MAX {
        return Err(fail("is nested too deeply"));
    }
    let mut current = 0;
    for (index, &name) in names.iter().enumerate() {
        if name.is_empty()
            || name == "."
            || name == ".."
            || name.contains('\0')
            || name.len() > NAME_LENGTH_MAX
        {
            return Err(fail("has a component that is no file name"));
        }
        let last = index + 1 == names.len();
        let next = items.len();
        let Item::Directory(children) = &mut items[current] else {
            return Err(fail("lies below something that is not a directory"));
        };
        if let Some(&existing) = children.get(name) {
            let both_directories =
                matches!(entry.node, Node::Directory) && matches!(items[existing], Item::Directory(_));
            if last && !both_directories {
                return Err(fail("is given twice"));
            }
            current = existing;
            continue;
        }
        if next >= INITFS_INODES_MAX {
            return Err(fail("is one more than an initfs can number"));
        }
        children.insert(name, next);
        items.push(match &entry.node {
            Node::File { data, executable } if last => Item::File { data, executable: *executable },
            Node::Symlink { target } if last => Item::Symlink(relative_target(&names, target)),
            _ => Item::Directory(BTreeMap::new()),
        });
        current = next;
    }
    Ok(())
}

/// Absolute targets mean the root of the initfs, which is not the root of the system: make them relative.
fn relative_target(link: &[&str], target: &str) -> String {
    let Some(absolute) = target.strip_prefix('/') else { return target.to_owned() };
    let mut relative = "../".repeat(link.len() - 1);
    relative.push_str(absolute.trim_start_matches('/'));
    match relative.strip_suffix('/') {
        Some(trimmed) => trimmed.to_owned(),
        None if relative.is_empty() => ".".to_owned(),
        None => relative,
    }
}

/// Names, link targets and directory tables. Names of a directory precede its table.
fn append_tables(items: &[Item<'_>], places: &mut [(u32, u32)], image: &mut Vec<u8>) -> Result<()> {
    for (index, item) in items.iter().enumerate() {
        match item {
            Item::File { .. } => {}
            Item::Symlink(target) => {
                places[index] = (checked(image.len())?, checked(target.len())?);
                image.extend_from_slice(target.as_bytes());
            }
            Item::Directory(children) => {
                let mut table = Vec::with_capacity(children.len() * 8);
                for (name, &inode) in children {
                    table.extend_from_slice(&(inode as u16).to_le_bytes());
                    table.extend_from_slice(&(name.len() as u16).to_le_bytes());
                    table.extend_from_slice(&checked(image.len())?.to_le_bytes());
                    image.extend_from_slice(name.as_bytes());
                }
                align(image, 16);
                places[index] = (checked(image.len())?, checked(table.len())?);
                image.extend_from_slice(&table);
            }
        }
    }
    Ok(())
}

fn append_inode(format: Format, item: &Item<'_>, (offset, length): (u32, u32), image: &mut Vec<u8>) {
    let kind: u32 = match (format, item) {
        (Format::Current, Item::File { executable: false, .. }) => 0,
        (Format::Current, Item::File { executable: true, .. }) => 1,
        (Format::Current, Item::Directory(_)) => 2,
        (Format::Current, Item::Symlink(_)) => 3,
        (Format::Old, Item::File { executable: false, .. }) => 0o644,
        (Format::Old, Item::File { executable: true, .. }) => 0o755,
        (Format::Old, Item::Directory(_)) => (1 << 28) | 0o755,
        (Format::Old, Item::Symlink(_)) => (2 << 28) | 0o777,
    };
    for field in [kind, length, offset] {
        image.extend_from_slice(&field.to_le_bytes());
    }
    // The old format's owner: root.
    image.resize(image.len() + format.inode_size() - 12, 0);
}

fn write_header(format: Format, image: &mut [u8], table: u32, inodes: u16, bootstrap_entry: u64) {
    let size = (image.len() as u64).to_le_bytes();
    let page = (PAGE_SIZE as u16).to_le_bytes();
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, MAGIC);
    put(8, &table.to_le_bytes());
    put(BOOTSTRAP_ENTRY_OFFSET, &bootstrap_entry.to_le_bytes());
    match format {
        Format::Current => {
            put(0x0c, &size);
            put(0x14, &page);
            // The root inode number at 0x16 stays 0.
            put(0x18, &inodes.to_le_bytes());
        }
        Format::Old => {
            // The creation time at 0x0c stays 0: a clock would make every build different.
            put(0x18, &inodes.to_le_bytes());
            put(0x22, &size);
            put(0x2a, &page);
        }
    }
}

/// The entry address of a 64-bit or 32-bit little-endian ELF file.
fn elf_entry(program: &[u8]) -> Result<u64> {
    let fail = || Error::malformed("initfs", "the bootstrap program is not a little-endian ELF file");
    if program.get(..4) != Some(b"\x7fELF") || program.get(5) != Some(&1) {
        return Err(fail());
    }
    match program.get(4) {
        Some(2) => {
            Ok(u64::from_le_bytes(program.get(0x18..0x20).ok_or_else(fail)?.try_into().expect("8 bytes")))
        }
        Some(1) => {
            Ok(u32::from_le_bytes(program.get(0x18..0x1c).ok_or_else(fail)?.try_into().expect("4 bytes"))
                .into())
        }
        _ => Err(fail()),
    }
}

/// Appends `data` at the next page boundary and says where.
fn append_pages(image: &mut Vec<u8>, data: &[u8]) -> Result<u32> {
    align(image, PAGE_SIZE);
    let offset = checked(image.len())?;
    checked(image.len() + data.len())?;
    image.extend_from_slice(data);
    align(image, PAGE_SIZE);
    Ok(offset)
}

fn align(image: &mut Vec<u8>, boundary: usize) {
    image.resize(image.len().next_multiple_of(boundary), 0);
}

fn checked(size: usize) -> Result<u32> {
    if size as u64 > INITFS_SIZE_MAX {
        let limit = INITFS_SIZE_MAX >> 20;
        return Err(Error::malformed(
            "initfs",
            format!("the contents need more than the limit of {limit} MiB"),
        ));
    }
    Ok(size as u32)
}
