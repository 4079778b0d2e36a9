//! Blocks of directories: lists of names, and nodes of the tree ordered by the names' hashes. Reads no disk.

use alloc::vec::Vec;

use crate::limits::{BLOCK_BYTES, NAME_BYTES_MAX};
use crate::redoxfs::FileSystemError;
use crate::redoxfs::block::{Block, BlockPointer, POINTER_BYTES};
use crate::text::{read_u16, read_u32};

const ENTRY_BYTES: usize = 4 + POINTER_BYTES;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    pub node: u32,
    pub name: Vec<u8>,
}

/// The names of one list block, in stored order.
pub(super) fn list_entries(
    block: &Block,
    mut found: impl FnMut(u32, &[u8]) -> Result<(), FileSystemError>,
) -> Result<(), FileSystemError> {
    // The list's two counters stand behind the names or before them: RedoxFS leaves their place to the compiler it was
    // built with (recent ones put them last), and only one place can be consistent in itself.
    let (counters, names) = block.split_at(4);
    let leading = (counters, names);
    let (names, counters) = block.split_at(BLOCK_BYTES - 4);
    let trailing = (counters, names);
    let consistent = [trailing, leading].map(|(counters, names)| {
        let count = usize::from(read_u16(counters, 0)?);
        let names = names.get(..usize::from(read_u16(counters, 2)?))?;
        let (entries, bytes) = names_in(names)
            .flatten()
            .fold((0, 0), |(entries, bytes), (_, name)| (entries + 1, bytes + 5 + name.len()));
        (entries == count && bytes == names.len()).then_some(names)
    });
    let Some(names) = consistent.iter().flatten().max_by_key(|names| names.len()) else {
        let number = u64::from(read_u32(block, 0).unwrap_or(0));
        return Err(FileSystemError::Corrupt { what: "a directory list is malformed", number });
    };
    for (node, name) in names_in(names).flatten() {
        if name != b"." && name != b".." {
            found(node, name)?;
        }
    }
    Ok(())
}

/// The entries a stretch of names begins with; nothing once, then the end, where one is malformed.
fn names_in(bytes: &[u8]) -> impl Iterator<Item = Option<(u32, &[u8])>> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let length = usize::from(*rest.get(4)?);
        let name = rest.get(5..5 + length);
        let valid = |name: &&[u8]| {
            (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(&b'/') && !name.contains(&0)
        };
        let entry = name.filter(valid).and_then(|name| Some((read_u32(rest, 0)?, name)));
        rest = if entry.is_some() { &rest[5 + length..] } else { &[] };
        Some(entry)
    })
}

/// The hash by which the tree of a directory is ordered. The largest number marks empty entries, so no name has it.
pub(super) fn name_hash(name: &[u8]) -> u32 {
    (seahash::hash(name) as u32).min(u32::MAX - 1)
}

/// Pointers of a tree node, all of them or those that may lead to a name.
pub(super) fn tree_pointers(block: &Block, wanted: Option<u32>) -> Vec<BlockPointer> {
    let mut pointers = Vec::new();
    for index in 0..BLOCK_BYTES / ENTRY_BYTES {
        let largest = read_u32(block, index * ENTRY_BYTES).unwrap_or(u32::MAX);
        let pointer = BlockPointer::read(block, index * ENTRY_BYTES + 4);
        match wanted {
            _ if pointer.is_null() => {}
            None => pointers.push(pointer),
            // An entry states the largest hash below it; equal hashes may spread over several entries.
            Some(hash) if largest < hash => {}
            Some(hash) => {
                pointers.push(pointer);
                if largest > hash {
                    break;
                }
            }
        }
    }
    pointers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(block: &Block) -> Result<Vec<(u32, Vec<u8>)>, FileSystemError> {
        let mut names = Vec::new();
        list_entries(block, |node, name| {
            names.push((node, name.to_vec()));
            Ok(())
        })?;
        Ok(names)
    }

    #[test]
    fn counters_before_or_behind_the_names() {
        let entries = b"\x02\0\0\0\x05hello\x03\0\0\0\x01x";
        let counters = [2, 0, entries.len() as u8, 0];
        let mut leading = [0; BLOCK_BYTES];
        leading[..4].copy_from_slice(&counters);
        leading[4..4 + entries.len()].copy_from_slice(entries);
        let mut trailing = [0; BLOCK_BYTES];
        trailing[BLOCK_BYTES - 4..].copy_from_slice(&counters);
        trailing[..entries.len()].copy_from_slice(entries);
        let expected = Ok(std::vec![(2, b"hello".to_vec()), (3, b"x".to_vec())]);
        assert_eq!(names(&leading), expected);
        assert_eq!(names(&trailing), expected);
        assert_eq!(names(&[0; BLOCK_BYTES]), Ok(Vec::new()));
        trailing[BLOCK_BYTES - 4] = 3;
        assert!(names(&trailing).is_err());
        trailing[BLOCK_BYTES - 4] = 2;
        trailing[6] = b'/';
        assert!(names(&trailing).is_err());
    }
}
