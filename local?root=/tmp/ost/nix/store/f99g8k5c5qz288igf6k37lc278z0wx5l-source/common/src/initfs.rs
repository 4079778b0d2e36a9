//! An initfs image: its header in both formats, and its tree for reading. Executes nothing and writes nothing.
//!
//! The formats have no version field. The first page is zero after the header, and the page size lies at another place
//! in each, so that its value tells them apart.

use alloc::vec::Vec;
use core::fmt;

use crate::limits::{BLOCK_BYTES, DIRECTORY_DEPTH_MAX, INITFS_INODES_MAX, NAME_BYTES_MAX};
use crate::text::{read_u16, read_u32, read_u64};

pub const MAGIC: &[u8; 8] = b"RedoxFtw";
const PAGE_BYTES: u16 = BLOCK_BYTES as u16;

/// Where the kernel jumps to, at the same place in both formats.
const BOOTSTRAP_ENTRY_OFFSET: usize = 0x1a;
const DIRECTORY_ENTRY_BYTES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Since April 2026.
    Current,
    /// Until April 2026.
    Old,
    /// Only the magic and the entry address, which is all a kernel looks at.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitfsError {
    NoMagic,
    Truncated { size: u64 },
    UnknownFormat,
    Corrupt { what: &'static str, number: u64 },
}

impl fmt::Display for InitfsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitfsError::NoMagic => write!(formatter, "not an initfs image (no `RedoxFtw`)"),
            InitfsError::Truncated { size } => write!(formatter, "the initfs image ends after {size} bytes"),
            InitfsError::UnknownFormat => {
                write!(formatter, "the initfs image has a format this reader does not know")
            }
            InitfsError::Corrupt { what, number } => {
                write!(formatter, "the initfs image is damaged: {what} ({number:#x})")
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InodeKind {
    File { executable: bool },
    Directory,
    Symlink,
}

#[derive(Clone, Copy, Debug)]
pub struct Inode<'a> {
    pub kind: InodeKind,
    pub data: &'a [u8],
}

/// An image whose header was understood.
#[derive(Clone, Copy, Debug)]
pub struct Initfs<'a> {
    image: &'a [u8],
    pub format: Format,
    pub bootstrap_entry: u64,
    pub inode_count: u16,
    inode_table: usize,
    root: u16,
}

/// Checks what a loader needs: the magic and a header's worth of bytes.
pub fn check_magic(image: &[u8]) -> Result<(), InitfsError> {
    if !image.starts_with(MAGIC) {
        return Err(InitfsError::NoMagic);
    }
    match read_u64(image, BOOTSTRAP_ENTRY_OFFSET) {
        Some(_) => Ok(()),
        None => Err(InitfsError::Truncated { size: image.len() as u64 }),
    }
}

/// Which of the formats an image has.
pub fn format(image: &[u8]) -> Format {
    if read_u16(image, 0x2a) == Some(PAGE_BYTES) {
        Format::Old
    } else if read_u16(image, 0x14) == Some(PAGE_BYTES) {
        Format::Current
    } else {
        Format::Unknown
    }
}

impl<'a> Initfs<'a> {
    pub fn parse(image: &'a [u8]) -> Result<Initfs<'a>, InitfsError> {
        check_magic(image)?;
        let format = format(image);
        let truncated = InitfsError::Truncated { size: image.len() as u64 };
        let (size_at, root_at, count_at) = match format {
            Format::Current => (0x0c, Some(0x16), 0x18),
            Format::Old => (0x22, None, 0x18),
            Format::Unknown => return Err(InitfsError::UnknownFormat),
        };
        let size = read_u64(image, size_at).ok_or(truncated)?;
        // A loader hands over whole pages, so the image may be followed by zeroes.
        let image = usize::try_from(size).ok().and_then(|size| image.get(..size)).ok_or(truncated)?;
        let root = root_at.map_or(Some(0), |offset| read_u16(image, offset)).ok_or(truncated)?;
        Ok(Initfs {
            image,
            format,
            bootstrap_entry: read_u64(image, BOOTSTRAP_ENTRY_OFFSET).ok_or(truncated)?,
            inode_count: read_u16(image, count_at).ok_or(truncated)?,
            inode_table: read_u32(image, 8).ok_or(truncated)? as usize,
            root,
        })
    }

    pub fn root(&self) -> Result<Inode<'a>, InitfsError> {
        self.inode(self.root)
    }

    pub fn inode(&self, number: u16) -> Result<Inode<'a>, InitfsError> {
        let corrupt = |what| InitfsError::Corrupt { what, number: u64::from(number) };
        if number >= self.inode_count {
            return Err(corrupt("there is no such inode"));
        }
        let inode_bytes = if self.format == Format::Old { 20 } else { 12 };
        let place = self.inode_table.saturating_add(usize::from(number) * inode_bytes);
        let word = |index: usize| {
            read_u32(self.image, place.saturating_add(index * 4)).ok_or(corrupt("the inode table ends early"))
        };
        let (tag, length, offset) = (word(0)?, word(1)? as usize, word(2)? as usize);
        let kind = match (self.format, tag) {
            (Format::Old, tag) => match tag >> 28 {
                0 => InodeKind::File { executable: tag & 0o111 != 0 },
                1 => InodeKind::Directory,
                2 => InodeKind::Symlink,
                _ => return Err(corrupt("an inode has an unknown type")),
            },
            (_, 0) => InodeKind::File { executable: false },
            (_, 1) => InodeKind::File { executable: true },
            (_, 2) => InodeKind::Directory,
            (_, 3) => InodeKind::Symlink,
            _ => return Err(corrupt("an inode has an unknown type")),
        };
        let data = offset.checked_add(length).and_then(|end| self.image.get(offset..end));
        Ok(Inode { kind, data: data.ok_or(corrupt("an inode's data lies outside"))? })
    }

    /// Names and inode numbers of a directory, in stored order.
    pub fn entries(&self, directory: &Inode<'a>) -> Result<Vec<(&'a [u8], u16)>, InitfsError> {
        let mut entries = Vec::new();
        for entry in directory.data.chunks_exact(DIRECTORY_ENTRY_BYTES).take(INITFS_INODES_MAX) {
            let number = read_u16(entry, 0).unwrap_or(0);
            let length = usize::from(read_u16(entry, 2).unwrap_or(0));
            let offset = read_u32(entry, 4).unwrap_or(0) as usize;
            let name = offset.checked_add(length).and_then(|end| self.image.get(offset..end));
            match name {
                Some(name) if (1..=NAME_BYTES_MAX).contains(&name.len()) => entries.push((name, number)),
                _ => {
                    return Err(InitfsError::Corrupt {
                        what: "a name lies outside",
                        number: u64::from(number),
                    });
                }
            }
        }
        Ok(entries)
    }

    /// How many files the tree has and how many bytes they hold.
    pub fn count_files(&self) -> Result<(usize, u64), InitfsError> {
        let (mut files, mut bytes, mut seen) = (0, 0, 0);
        let mut pending = alloc::vec![(self.root()?, 0)];
        while let Some((inode, depth)) = pending.pop() {
            seen += 1;
            if seen > INITFS_INODES_MAX || depth > DIRECTORY_DEPTH_MAX {
                return Err(InitfsError::Corrupt { what: "the tree is too large", number: seen as u64 });
            }
            match inode.kind {
                InodeKind::Directory => {
                    for (_, number) in self.entries(&inode)? {
                        pending.push((self.inode(number)?, depth + 1));
                    }
                }
                InodeKind::File { .. } => {
                    files += 1;
                    bytes += inode.data.len() as u64;
                }
                InodeKind::Symlink => {}
            }
        }
        Ok((files, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An image with `bin/init` (executable), `readme` and a link, in either format.
    fn sample(format: Format) -> Vec<u8> {
        let old = format == Format::Old;
        let mut image = std::vec![0; 0x3000];
        let mut put =
            |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(8, &0x2000u32.to_le_bytes());
        put(0x18, &5u16.to_le_bytes());
        put(0x1a, &0x2345u64.to_le_bytes());
        put(if old { 0x22 } else { 0x0c }, &0x3000u64.to_le_bytes());
        put(if old { 0x2a } else { 0x14 }, &4096u16.to_le_bytes());
        let names: [&[u8]; 4] = [b"bin", b"readme", b"link", b"init"];
        for (index, name) in names.iter().enumerate() {
            put(0x1000 + index * 0x10, name);
        }
        let mut entry = |at: usize, inode: u16, name: usize| {
            put(at, &inode.to_le_bytes());
            put(at + 2, &(names[name].len() as u16).to_le_bytes());
            put(at + 4, &(0x1000 + name as u32 * 0x10).to_le_bytes());
        };
        entry(0x1100, 1, 0);
        entry(0x1108, 2, 1);
        entry(0x1110, 3, 2);
        entry(0x1200, 4, 3);
        put(0x1300, b"hello");
        let tags: [u32; 5] =
            if old { [0x1000_01ed, 0x1000_01ed, 0x1a4, 0x2000_01ff, 0x1ed] } else { [2, 2, 0, 3, 1] };
        let data: [(u32, u32); 5] = [(24, 0x1100), (8, 0x1200), (5, 0x1300), (6, 0x1010), (5, 0x1300)];
        for (index, (length, offset)) in data.iter().enumerate() {
            let at = 0x2000 + index * if old { 20 } else { 12 };
            put(at, &tags[index].to_le_bytes());
            put(at + 4, &length.to_le_bytes());
            put(at + 8, &offset.to_le_bytes());
        }
        image
    }

    #[test]
    fn both_formats() {
        for expected in [Format::Current, Format::Old] {
            let mut image = sample(expected);
            image.resize(0x5000, 0);
            let initfs = Initfs::parse(&image).expect("an image");
            assert_eq!(initfs.format, expected);
            assert_eq!(initfs.bootstrap_entry, 0x2345);
            assert_eq!(initfs.count_files(), Ok((2, 10)));
            let root = initfs.root().expect("root");
            let names: Vec<&[u8]> =
                initfs.entries(&root).expect("names").iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [&b"bin"[..], b"readme", b"link"]);
            assert_eq!(initfs.inode(4).expect("init").kind, InodeKind::File { executable: true });
            assert_eq!(initfs.inode(3).expect("link").data, b"readme");
        }
    }

    #[test]
    fn damaged_images() {
        let good = sample(Format::Current);
        assert_eq!(check_magic(b"RedoxFt"), Err(InitfsError::NoMagic));
        assert_eq!(check_magic(b"RedoxFtw"), Err(InitfsError::Truncated { size: 8 }));
        assert_eq!(Initfs::parse(&good[..0x2fff]).err(), Some(InitfsError::Truncated { size: 0x2fff }));
        let mut unknown = good.clone();
        unknown[0x15] = 0x20;
        assert_eq!(Initfs::parse(&unknown).err(), Some(InitfsError::UnknownFormat));
        let mut looping = good.clone();
        looping[0x1200] = 1;
        assert!(matches!(
            Initfs::parse(&looping).and_then(|image| image.count_files()),
            Err(InitfsError::Corrupt { .. })
        ));
    }

    proptest! {
        #[test]
        fn changed_bytes_never_panic(old in any::<bool>(), changes in prop::collection::vec((0usize..0x2100, any::<u8>()), 1..40)) {
            let mut image = sample(if old { Format::Old } else { Format::Current });
            for (offset, byte) in changes {
                // Most of the image is zero: aim at what matters.
                let place = match offset % 4 { 0 => offset % 0x30, 1 => 0x1100 + offset % 0x110, _ => 0x2000 + offset % 100 };
                image[place] = byte;
            }
            if let Ok(initfs) = Initfs::parse(&image) {
                let _ = initfs.count_files();
            }
        }
    }
}
