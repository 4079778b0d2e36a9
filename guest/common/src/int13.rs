//! The structures of BIOS's disk service (interrupt 13h with its extensions, Enhanced Disk Drive): the packet that asks for
//! sectors, and the drive's parameters. Calls nothing.

use crate::limits::BLOCK_BYTES;
use crate::text::{read_u16, read_u64};

/// Bytes of a sector; the boot sector's own addresses mean these, so drives with others are not started from.
pub const SECTOR_BYTES: usize = 512;
/// Sectors of one block.
pub const BLOCK_SECTORS: u64 = (BLOCK_BYTES / SECTOR_BYTES) as u64;

/// Bytes of the packet and of the parameters' oldest form.
pub const PACKET_BYTES: usize = 16;
pub const PARAMETER_BYTES: usize = 26;

/// Which sectors to read, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub sector: u64,
    pub count: u16,
    /// A physical address below 1 MiB; the sectors' bytes must not cross a multiple of 64 KiB.
    pub buffer: u32,
}

impl Packet {
    /// Size, zero, count, then the buffer as offset and segment, then the sector.
    pub fn to_bytes(self) -> [u8; PACKET_BYTES] {
        let mut bytes = [0; PACKET_BYTES];
        bytes[0] = PACKET_BYTES as u8;
        bytes[2..4].copy_from_slice(&self.count.to_le_bytes());
        // The segment is the multiple of 64 KiB, so that the offset reaches all of it.
        bytes[4..6].copy_from_slice(&(self.buffer as u16).to_le_bytes());
        bytes[6..8].copy_from_slice(&((self.buffer >> 16 << 12) as u16).to_le_bytes());
        bytes[8..].copy_from_slice(&self.sector.to_le_bytes());
        bytes
    }
}

/// Sectors of a drive, from what BIOS wrote; nothing where its sectors are not of 512 bytes. A drive that does not know
/// is taken for endless: reads beyond its end then fail by themselves.
pub fn drive_sectors(parameters: &[u8]) -> Option<u64> {
    let length = read_u16(parameters, 0)?;
    let (sectors, sector_bytes) = (read_u64(parameters, 16)?, read_u16(parameters, 24)?);
    let is_whole = usize::from(length) >= PARAMETER_BYTES && usize::from(sector_bytes) == SECTOR_BYTES;
    is_whole.then_some(if sectors == 0 { u64::MAX } else { sectors })
}

/// First sector of a read of `bytes` from a block on, where a drive of `sectors` has all of it.
pub fn first_sector(block: u64, bytes: usize, sectors: u64) -> Option<u64> {
    let first = block.checked_mul(BLOCK_SECTORS)?;
    let end = first.checked_add((bytes / SECTOR_BYTES) as u64)?;
    (end <= sectors).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parameters(length: u16, sectors: u64, sector_bytes: u16) -> [u8; 30] {
        let mut bytes = [0; 30];
        bytes[..2].copy_from_slice(&length.to_le_bytes());
        bytes[16..24].copy_from_slice(&sectors.to_le_bytes());
        bytes[24..26].copy_from_slice(&sector_bytes.to_le_bytes());
        bytes
    }

    #[test]
    fn packets() {
        let packet = Packet { sector: 0x1_0000_0022, count: 64, buffer: 0x3_8000 };
        assert_eq!(packet.to_bytes(), [16, 0, 64, 0, 0, 0x80, 0, 0x30, 0x22, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn sizes_of_drives() {
        for (bytes, expected) in [
            (parameters(30, 81_920, 512), Some(81_920)),
            (parameters(26, 0, 512), Some(u64::MAX)),
            (parameters(26, 20_480, 2048), None),
            (parameters(20, 81_920, 512), None),
        ] {
            assert_eq!(drive_sectors(&bytes), expected);
        }
        assert_eq!(drive_sectors(&[30; 20]), None);
    }

    #[test]
    fn reads_stay_inside() {
        assert_eq!(first_sector(512, 4096, 4104), Some(4096));
        assert_eq!(first_sector(512, 8192, 4104), None);
        assert_eq!(first_sector(u64::MAX, 4096, u64::MAX), None);
    }

    proptest! {
        #[test]
        fn packets_name_the_buffer(sector: u64, count: u16, buffer in 0u32..1 << 20) {
            let bytes = Packet { sector, count, buffer }.to_bytes();
            let (offset, segment) = (read_u16(&bytes, 4).unwrap_or(0), read_u16(&bytes, 6).unwrap_or(0));
            prop_assert_eq!(u32::from(segment) * 16 + u32::from(offset), buffer);
        }

        #[test]
        fn any_parameters(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = drive_sectors(&bytes);
        }
    }
}
