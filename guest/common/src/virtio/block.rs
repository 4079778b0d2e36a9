//! Disks: requests, configuration, and how a read or write of any length becomes requests. Moves no bytes.

use super::transport::{Transport, configuration_u64};

/// The unit of all positions and lengths, whatever block size a disk reports.
pub const SECTOR_BYTES: u64 = 512;

const FEATURE_SIZE_MAX: u64 = 1 << 1;
const FEATURE_READ_ONLY: u64 = 1 << 5;
const FEATURE_BLOCK_SIZE: u64 = 1 << 6;
const FEATURE_FLUSH: u64 = 1 << 9;

/// What a driver can make use of.
pub const FEATURES: u64 = FEATURE_SIZE_MAX | FEATURE_READ_ONLY | FEATURE_BLOCK_SIZE | FEATURE_FLUSH;

/// The one queue, and the descriptors of a request: header, data, status.
pub const QUEUE: u16 = 0;
pub const PIECES: u16 = 3;

const CONFIGURATION_CAPACITY: usize = 0;
const CONFIGURATION_SIZE_MAX: usize = 8;
const CONFIGURATION_BLOCK_SIZE: usize = 20;

/// What a disk says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub sectors: u64,
    /// Bytes of its own blocks: a hint to write in such units.
    pub block_bytes: u32,
    /// Bytes of the data of one request.
    pub request_bytes_max: u32,
    pub read_only: bool,
    pub can_flush: bool,
}

impl Disk {
    /// `buffer_bytes` is what the driver can move at once, a multiple of sectors.
    pub fn read(device: &(impl Transport + ?Sized), features: u64, buffer_bytes: u32) -> Disk {
        let sector = SECTOR_BYTES as u32;
        let whole_sectors = |bytes: u32| bytes / sector * sector;
        let request_bytes_max = if features & FEATURE_SIZE_MAX != 0 {
            // A limit below one sector would leave no request that is allowed at all.
            whole_sectors(device.configuration_u32(CONFIGURATION_SIZE_MAX))
                .clamp(sector, buffer_bytes.max(sector))
        } else {
            whole_sectors(buffer_bytes)
        };
        let block_bytes = if features & FEATURE_BLOCK_SIZE != 0 {
            device.configuration_u32(CONFIGURATION_BLOCK_SIZE)
        } else {
            sector
        };
        Disk {
            sectors: configuration_u64(device, CONFIGURATION_CAPACITY),
            block_bytes: if block_bytes.is_power_of_two() { block_bytes.max(sector) } else { sector },
            request_bytes_max,
            read_only: features & FEATURE_READ_ONLY != 0,
            can_flush: features & FEATURE_FLUSH != 0,
        }
    }

    pub fn bytes(&self) -> u64 {
        self.sectors.saturating_mul(SECTOR_BYTES)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Flush,
}

pub const HEADER_BYTES: usize = 16;

/// The header of a request, which is followed by its data and by a status byte.
pub fn header(operation: Operation, sector: u64) -> [u8; HEADER_BYTES] {
    let kind: u32 = match operation {
        Operation::Read => 0,
        Operation::Write => 1,
        Operation::Flush => 4,
    };
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    header
}

/// The status byte of a request that went well. Drivers put another value there before.
pub const STATUS_OK: u8 = 0;
pub const STATUS_MISSING: u8 = 0xFF;

/// A part of a read or write that is one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub sector: u64,
    pub sectors: u32,
    /// Bytes of the first sector that are not wanted.
    pub skip: u32,
    /// Bytes that are wanted.
    pub bytes: u32,
}

/// The requests of `bytes` bytes from byte `offset` on, of at most `request_bytes_max` bytes each. What is to be read
/// need not begin or end with a sector.
pub fn requests(offset: u64, bytes: u64, request_bytes_max: u32) -> impl Iterator<Item = Request> {
    let request_bytes_max = u64::from(request_bytes_max);
    let (mut at, end) = (offset, offset.saturating_add(bytes));
    core::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let skip = at % SECTOR_BYTES;
        let sector = at / SECTOR_BYTES;
        let wanted = (end - at).min(request_bytes_max - skip);
        at += wanted;
        let sectors = (skip + wanted).div_ceil(SECTOR_BYTES) as u32;
        Some(Request { sector, sectors, skip: skip as u32, bytes: wanted as u32 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn headers() {
        assert_eq!(header(Operation::Read, 0x1_0000_0002), [0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(header(Operation::Write, 0)[0], 1);
        assert_eq!(header(Operation::Flush, 0)[0], 4);
    }

    #[test]
    fn parts_of_a_read() {
        let parts: Vec<Request> = requests(1000, 2000, 1024).collect();
        let part = |sector, sectors, skip, bytes| Request { sector, sectors, skip, bytes };
        assert_eq!(parts, [part(1, 2, 488, 536), part(3, 2, 0, 1024), part(5, 1, 0, 440)]);
        assert_eq!(requests(512, 0, 1024).count(), 0);
    }

    proptest! {
        #[test]
        fn parts_cover_the_whole(offset in 0u64..1 << 40, bytes in 0u64..1 << 22, sectors in 1u32..256) {
            let max = sectors * SECTOR_BYTES as u32;
            let mut at = offset;
            for part in requests(offset, bytes, max) {
                prop_assert_eq!(part.sector * SECTOR_BYTES + u64::from(part.skip), at);
                prop_assert!(part.skip < SECTOR_BYTES as u32);
                let read = part.sectors * SECTOR_BYTES as u32;
                prop_assert!(part.bytes > 0 && part.skip + part.bytes <= read && read <= max);
                prop_assert!(part.skip + part.bytes > read - SECTOR_BYTES as u32);
                at += u64::from(part.bytes);
            }
            prop_assert_eq!(at, offset + bytes);
        }
    }
}
