//! Where a file system may start on a whole disk: the partitions of a GPT with sectors of 512 bytes. Reads no MBR and
//! trusts no table it cannot bound; the table's own checksums are not judged, because the file system has better ones.

use alloc::vec::Vec;

use crate::device::{BlockReader, DeviceError};
use crate::limits::{BLOCK_BYTES, PARTITION_ENTRY_BYTES_MAX, PARTITIONS_MAX};
use crate::text::{read_u32, read_u64};

const SECTOR_BYTES: u64 = 512;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// Block at which images of Redox have their file system when nothing else is known: 2 MiB.
pub const USUAL_BLOCK: u64 = (2 << 20) / BLOCK;

/// Where a partition lies, in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    pub first_sector: u64,
    pub sectors: u64,
}

/// First blocks of all partitions that start on a block, in the table's order; none where there is no GPT.
pub fn partition_blocks<R: BlockReader + ?Sized>(reader: &mut R) -> Result<Vec<u64>, DeviceError> {
    let sectors_per_block = BLOCK / SECTOR_BYTES;
    let first = partitions(reader)?.into_iter().map(|partition| partition.first_sector);
    Ok(first
        .filter(|sector| sector % sectors_per_block == 0)
        .map(|sector| sector / sectors_per_block)
        .collect())
}

/// All partitions in the table's order; none where there is no GPT. They need not lie on the disk.
pub fn partitions<R: BlockReader + ?Sized>(reader: &mut R) -> Result<Vec<Partition>, DeviceError> {
    let mut head = alloc::vec![0; BLOCK_BYTES];
    reader.read_blocks(0, &mut head)?;
    let header = &head[SECTOR_BYTES as usize..];
    if !header.starts_with(b"EFI PART") {
        return Ok(Vec::new());
    }
    let table = read_u64(header, 72).unwrap_or(0);
    let count = read_u32(header, 80).unwrap_or(0).min(PARTITIONS_MAX);
    let entry_bytes = read_u32(header, 84).unwrap_or(0);
    if !(128..=PARTITION_ENTRY_BYTES_MAX).contains(&entry_bytes)
        || table == 0
        || table > u64::MAX / SECTOR_BYTES / 2
    {
        return Ok(Vec::new());
    }
    let (start, length) = (table * SECTOR_BYTES, u64::from(count * entry_bytes));
    let first = start / BLOCK;
    let blocks = (start % BLOCK + length).div_ceil(BLOCK);
    let mut entries = alloc::vec![0; (blocks * BLOCK) as usize];
    reader.read_blocks(first, &mut entries)?;
    let entries = entries[(start % BLOCK) as usize..].chunks_exact(entry_bytes as usize).take(count as usize);
    let partition = |entry: &[u8]| {
        let (first_sector, last) = (read_u64(entry, 32)?, read_u64(entry, 40)?);
        let sectors = last.checked_sub(first_sector)?.checked_add(1)?;
        (first_sector != 0).then_some(Partition { first_sector, sectors })
    };
    Ok(entries.filter(|entry| entry[..16] != [0; 16]).filter_map(partition).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MemoryDisk;
    use proptest::prelude::*;

    fn disk(starts: &[u64]) -> Vec<u8> {
        let mut disk = std::vec![0; 16 * BLOCK_BYTES];
        disk[512..520].copy_from_slice(b"EFI PART");
        disk[512 + 72..512 + 80].copy_from_slice(&2u64.to_le_bytes());
        disk[512 + 80..512 + 84].copy_from_slice(&128u32.to_le_bytes());
        disk[512 + 84..512 + 88].copy_from_slice(&128u32.to_le_bytes());
        for (index, start) in starts.iter().enumerate() {
            disk[1024 + index * 128] = 1;
            disk[1024 + index * 128 + 32..][..8].copy_from_slice(&start.to_le_bytes());
            disk[1024 + index * 128 + 40..][..8].copy_from_slice(&(start + 9).to_le_bytes());
        }
        disk
    }

    #[test]
    fn partitions_that_start_on_a_block() {
        assert_eq!(partition_blocks(&mut MemoryDisk(&disk(&[34, 2048, 4096]))), Ok(std::vec![256, 512]));
        assert_eq!(partition_blocks(&mut MemoryDisk(&[0; 8192])), Ok(Vec::new()));
        assert!(partition_blocks(&mut MemoryDisk(&[0; 100])).is_err());
        let found = partitions(&mut MemoryDisk(&disk(&[34, 2048])));
        let partition = |first_sector| Partition { first_sector, sectors: 10 };
        assert_eq!(found, Ok(std::vec![partition(34), partition(2048)]));
    }

    #[test]
    fn a_partition_that_ends_before_it_begins_is_none() {
        let mut disk = disk(&[34, 2048]);
        disk[1024 + 40..][..8].copy_from_slice(&33u64.to_le_bytes());
        assert_eq!(partitions(&mut MemoryDisk(&disk)).map(|found| found.len()), Ok(1));
        // A last sector beyond all numbers.
        disk[1024 + 40..][..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(partitions(&mut MemoryDisk(&disk)).map(|found| found.len()), Ok(2));
    }

    proptest! {
        #[test]
        fn any_table_is_bounded(changes in prop::collection::vec((512usize..1400, any::<u8>()), 0..60)) {
            let mut disk = disk(&[2048, 4096]);
            for (offset, byte) in changes {
                disk[offset] = byte;
            }
            if let Ok(blocks) = partition_blocks(&mut MemoryDisk(&disk)) {
                prop_assert!(blocks.len() <= PARTITIONS_MAX as usize);
            }
        }
    }
}
