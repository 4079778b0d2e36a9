//! The header and the tables of a QCOW2 file over a raw image: what is written into a new one, and what one that is there
//! says of its image. It reads and writes no clusters of data.
//!
//! Version 3, big endian: a header of 104 bytes with extensions, then tables in whole clusters. An entry of the first-level
//! table stands for 512 MiB with clusters of 64 KiB, so one cluster of it is enough for 4 TiB.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::limits::LAYER_IMAGE_MAX;

const CLUSTER_BITS: u32 = 16;
pub(crate) const CLUSTER: u64 = 1 << CLUSTER_BITS;
const TABLE_REACH: u64 = CLUSTER * (CLUSTER / 8);
const EXTENSION_BACKING_FORMAT: u32 = 0xE279_2ACA;
const HEADER_BYTES: u32 = 104;

/// Places and contents of an empty layer over a raw image of that size.
pub(crate) fn empty(image: &Path, size: u64) -> std::io::Result<[(u64, Vec<u8>); 3]> {
    let name = image.as_os_str().as_bytes();
    if name.len() > 1023 || size > LAYER_IMAGE_MAX {
        return Err(std::io::Error::other("its name is longer than 1023 bytes, or it is larger than 4 TiB"));
    }
    let extensions = 8 + 8 + 8;
    let name_offset = u64::from(HEADER_BYTES) + extensions;
    let mut header = Vec::new();
    header.extend(b"QFI\xfb");
    header.extend(3u32.to_be_bytes());
    header.extend(name_offset.to_be_bytes());
    header.extend((name.len() as u32).to_be_bytes());
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size.to_be_bytes());
    header.extend(0u32.to_be_bytes()); // no encryption
    header.extend((size.div_ceil(TABLE_REACH).max(1) as u32).to_be_bytes());
    header.extend((3 * CLUSTER).to_be_bytes()); // first-level table
    header.extend(CLUSTER.to_be_bytes()); // table of reference counts
    header.extend(1u32.to_be_bytes());
    header.extend([0; 4 + 8]); // no snapshots
    header.extend([0; 3 * 8]); // no features
    header.extend(4u32.to_be_bytes()); // reference counts of 16 bits
    header.extend(HEADER_BYTES.to_be_bytes());
    header.extend(EXTENSION_BACKING_FORMAT.to_be_bytes());
    header.extend(3u32.to_be_bytes());
    header.extend(b"raw\0\0\0\0\0");
    header.extend([0; 8]);
    header.extend(name);
    let counts = (2 * CLUSTER).to_be_bytes().to_vec();
    // Header, both tables of reference counts, first-level table: each used once.
    let used = [1u16; 4].iter().flat_map(|count| count.to_be_bytes()).collect();
    Ok([(0, header), (CLUSTER, counts), (2 * CLUSTER, used)])
}

/// What a file says of the raw image below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backing {
    pub image: Vec<u8>,
    pub size: u64,
}

/// None where it is no QCOW2 file, or one over nothing.
pub(crate) fn backing(file: &File) -> Option<Backing> {
    let mut header = [0; 32];
    file.read_exact_at(&mut header, 0).ok()?;
    if header[..4] != *b"QFI\xfb" {
        return None;
    }
    let offset = u64::from_be_bytes(header[8..16].try_into().ok()?);
    let length = u32::from_be_bytes(header[16..20].try_into().ok()?);
    let size = u64::from_be_bytes(header[24..32].try_into().ok()?);
    let mut image = vec![0; length.min(1024) as usize];
    file.read_exact_at(&mut image, offset).ok()?;
    Some(Backing { image, size })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    fn said(blocks: &[(u64, Vec<u8>)]) -> Option<Backing> {
        let file = tempfile::tempfile().unwrap();
        blocks.iter().for_each(|(offset, bytes)| file.write_all_at(bytes, *offset).unwrap());
        backing(&file)
    }

    proptest! {
        #[test]
        fn a_layer_says_what_it_was_told(name in "/[a-zé ,\"]{0,300}", size in 0..=LAYER_IMAGE_MAX) {
            let image = PathBuf::from(name);
            let expected = Backing { image: image.as_os_str().as_bytes().to_vec(), size };
            prop_assert_eq!(said(&empty(&image, size).unwrap()), Some(expected));
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            magic: bool,
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if magic && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(b"QFI\xfb");
            }
            let found = said(&[(0, bytes.clone())]);
            prop_assert!(found.is_none() || bytes.starts_with(b"QFI\xfb"));
        }
    }
}
