//! The partition table: GPT with a protective MBR, written from given GUIDs and read back with its checksums.
//! Sectors are 512 bytes, entries 128 of 128 bytes, as in the UEFI specification. It draws nothing at random.

use crate::error::{Error, Result};
use crate::manifest::Uuid;

pub const SECTOR: u64 = 512;
const ENTRY_COUNT: usize = 128;
const ENTRY_SIZE: usize = 128;
/// Sectors of one entry array.
const ARRAY_SECTORS: u64 = (ENTRY_COUNT * ENTRY_SIZE) as u64 / SECTOR;
const HEADER_SIZE: usize = 92;
/// Bytes of the disk's start and of its end that belong to the table: MBR, header, entries / entries, header.
pub const HEAD_BYTES: u64 = (2 + ARRAY_SECTORS) * SECTOR;
pub const TAIL_BYTES: u64 = (1 + ARRAY_SECTORS) * SECTOR;
/// Bytes of the first sector that boot code may use.
pub const BOOT_CODE_BYTES: usize = 446;

pub const TYPE_BIOS_BOOT: Uuid =
    Uuid([0x21, 0x68, 0x61, 0x48, 0x64, 0x49, 0x6e, 0x6f, 0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49]);
pub const TYPE_EFI_SYSTEM: Uuid =
    Uuid([0xc1, 0x2a, 0x73, 0x28, 0xf8, 0x1f, 0x11, 0xd2, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b]);
pub const TYPE_LINUX_FILE_SYSTEM: Uuid =
    Uuid([0x0f, 0xc6, 0x3d, 0xaf, 0x84, 0x83, 0x47, 0x72, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4]);

/// One partition; both sectors belong to it. Names are ASCII of at most 36 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub name: String,
    pub type_guid: Uuid,
    pub guid: Uuid,
    pub first: u64,
    pub last: u64,
}

/// The table of a disk of `sectors` sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub sectors: u64,
    pub disk_guid: Uuid,
    pub partitions: Vec<Partition>,
}

impl Table {
    fn first_usable(&self) -> u64 {
        2 + ARRAY_SECTORS
    }

    fn last_usable(&self) -> u64 {
        self.sectors - 2 - ARRAY_SECTORS
    }

    /// The first `HEAD_BYTES` of the disk (with `boot_code` in the MBR) and the last `TAIL_BYTES`.
    pub fn write(&self, boot_code: &[u8]) -> (Vec<u8>, Vec<u8>) {
        assert!(boot_code.len() <= BOOT_CODE_BYTES && self.partitions.len() <= ENTRY_COUNT);
        assert!(self.sectors > 2 * (2 + ARRAY_SECTORS));
        let array = self.array();
        let mut head = self.protective_mbr(boot_code);
        head.extend_from_slice(&self.header(1, self.sectors - 1, 2, &array));
        head.extend_from_slice(&array);
        let mut tail = array.clone();
        tail.extend_from_slice(&self.header(self.sectors - 1, 1, self.sectors - 1 - ARRAY_SECTORS, &array));
        (head, tail)
    }

    fn array(&self) -> Vec<u8> {
        let mut array = vec![0; ENTRY_COUNT * ENTRY_SIZE];
        for (partition, entry) in self.partitions.iter().zip(array.chunks_exact_mut(ENTRY_SIZE)) {
            entry[..16].copy_from_slice(&partition.type_guid.to_gpt());
            entry[16..32].copy_from_slice(&partition.guid.to_gpt());
            entry[32..40].copy_from_slice(&partition.first.to_le_bytes());
            entry[40..48].copy_from_slice(&partition.last.to_le_bytes());
            for (unit, slot) in partition.name.encode_utf16().take(36).zip(entry[56..].chunks_exact_mut(2)) {
                slot.copy_from_slice(&unit.to_le_bytes());
            }
        }
        array
    }

    fn header(&self, own: u64, other: u64, array_at: u64, array: &[u8]) -> Vec<u8> {
        let mut header = vec![0; SECTOR as usize];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"EFI PART");
        put(8, &0x0001_0000u32.to_le_bytes());
        put(12, &(HEADER_SIZE as u32).to_le_bytes());
        put(24, &own.to_le_bytes());
        put(32, &other.to_le_bytes());
        put(40, &self.first_usable().to_le_bytes());
        put(48, &self.last_usable().to_le_bytes());
        put(56, &self.disk_guid.to_gpt());
        put(72, &array_at.to_le_bytes());
        put(80, &(ENTRY_COUNT as u32).to_le_bytes());
        put(84, &(ENTRY_SIZE as u32).to_le_bytes());
        put(88, &crc32(array).to_le_bytes());
        let checksum = crc32(&header[..HEADER_SIZE]);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    /// Sector 0: boot code, and one partition of type EE over everything, so that old tools see a full disk.
    fn protective_mbr(&self, boot_code: &[u8]) -> Vec<u8> {
        let mut sector = vec![0; SECTOR as usize];
        sector[..boot_code.len()].copy_from_slice(boot_code);
        let length = u32::try_from(self.sectors - 1).unwrap_or(u32::MAX);
        sector[446..454].copy_from_slice(&[0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff]);
        sector[454..458].copy_from_slice(&1u32.to_le_bytes());
        sector[458..462].copy_from_slice(&length.to_le_bytes());
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }

    /// Reads a disk's head and tail, checks both copies and that they agree.
    pub fn parse(head: &[u8], tail: &[u8], sectors: u64) -> Result<Table> {
        let fail = |message: &str| Error::malformed("partition table", message);
        if head.len() as u64 != HEAD_BYTES
            || tail.len() as u64 != TAIL_BYTES
            || sectors <= 2 * (2 + ARRAY_SECTORS)
        {
            return Err(fail("the disk is too small for one"));
        }
        let sector = SECTOR as usize;
        if head[510..512] != [0x55, 0xaa] || head[450] != 0xee {
            return Err(fail("there is no protective MBR"));
        }
        let array_bytes = ENTRY_COUNT * ENTRY_SIZE;
        let first = Self::parse_copy(&head[sector..2 * sector], &head[2 * sector..], 1, 2, sectors)?;
        let (array, header) = tail.split_at(array_bytes);
        let second = Self::parse_copy(header, array, sectors - 1, sectors - 1 - ARRAY_SECTORS, sectors)?;
        if first != second {
            return Err(fail("the backup table differs from the first one"));
        }
        Ok(first)
    }

    fn parse_copy(header: &[u8], array: &[u8], own: u64, array_at: u64, sectors: u64) -> Result<Table> {
        let fail = |message: &str| Error::malformed("partition table", message);
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
        let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
        if &header[..8] != b"EFI PART" || word(12) as usize != HEADER_SIZE {
            return Err(fail("there is no GPT header"));
        }
        let mut unsigned = header[..HEADER_SIZE].to_vec();
        unsigned[16..20].fill(0);
        if crc32(&unsigned) != word(16) || crc32(array) != word(88) {
            return Err(fail("a checksum is wrong"));
        }
        let other = sectors - own;
        let shape = (long(24), long(32), long(72), word(80) as usize, word(84) as usize);
        if shape != (own, other, array_at, ENTRY_COUNT, ENTRY_SIZE) {
            return Err(fail("the header does not describe this disk"));
        }
        let guid = |bytes: &[u8]| Uuid::from_gpt(bytes.try_into().expect("16 bytes"));
        let mut partitions = Vec::new();
        for entry in array.chunks_exact(ENTRY_SIZE).filter(|entry| entry[..16] != [0; 16]) {
            let long = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("8 bytes"));
            let units: Vec<u16> = entry[56..]
                .chunks_exact(2)
                .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
                .take_while(|&unit| unit != 0)
                .collect();
            let (first, last) = (long(32), long(40));
            if first > last || last >= sectors {
                return Err(fail("a partition lies outside the disk"));
            }
            let name = String::from_utf16_lossy(&units);
            partitions.push(Partition {
                name,
                type_guid: guid(&entry[..16]),
                guid: guid(&entry[16..32]),
                first,
                last,
            });
        }
        Ok(Table { sectors, disk_guid: guid(&header[56..72]), partitions })
    }
}

/// CRC-32 as GPT uses it: reflected, polynomial 0xEDB88320.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> Table {
        let partition = |name: &str, type_guid, first, last| {
            let guid = Uuid([first as u8; 16]);
            Partition { name: name.into(), type_guid, guid, first, last }
        };
        let partitions = vec![
            partition("BIOS", TYPE_BIOS_BOOT, 34, 2047),
            partition("EFI", TYPE_EFI_SYSTEM, 2048, 4095),
            partition("REDOX", TYPE_LINUX_FILE_SYSTEM, 4096, 129_023),
        ];
        Table { sectors: 131_072, disk_guid: Uuid([9; 16]), partitions }
    }

    #[test]
    fn checksum_of_the_standard_text() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn type_guids_read_as_published() {
        assert_eq!(TYPE_BIOS_BOOT.to_string(), "21686148-6449-6e6f-744e-656564454649");
        assert_eq!(TYPE_EFI_SYSTEM.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(TYPE_LINUX_FILE_SYSTEM.to_string(), "0fc63daf-8483-4772-8e79-3d69d8477de4");
        // The BIOS boot type spells a sentence in the order GPT stores it.
        assert_eq!(&TYPE_BIOS_BOOT.to_gpt(), b"Hah!IdontNeedEFI");
    }

    #[test]
    fn a_written_table_reads_back() {
        let (head, tail) = table().write(&[0x90; 446]);
        assert_eq!(Table::parse(&head, &tail, 131_072).unwrap(), table());
        assert_eq!(head[..446], [0x90; 446]);
    }

    #[test]
    fn damage_is_noticed() {
        let (head, tail) = table().write(&[]);
        for at in [510, 512, 600, 1024 + 40] {
            let mut head = head.clone();
            head[at] ^= 1;
            assert!(Table::parse(&head, &tail, 131_072).is_err(), "byte {at} of the head");
        }
        let mut damaged = tail.clone();
        damaged[0] ^= 1;
        assert!(Table::parse(&head, &damaged, 131_072).is_err());
        assert!(Table::parse(&head, &tail, 131_073).is_err(), "a table of another disk");
    }

    proptest! {
        #[test]
        fn hostile_tables_never_panic(flips in prop::collection::vec((0usize..17408, any::<u8>()), 1..20), sectors in 0u64..200_000) {
            let (mut head, tail) = table().write(&[]);
            for (at, byte) in flips {
                head[at] = byte;
            }
            let _ = Table::parse(&head, &tail, sectors);
            let _ = Table::parse(&head, &tail, 131_072);
            let _ = Table::parse(&tail, &head, sectors);
        }
    }
}
