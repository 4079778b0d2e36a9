//! What monitors hand over by the boot protocol of Linux on x86: the page of boot parameters ("zero page"). Reads only;
//! the header that makes monitors use the protocol is the loader's.
//!
//! Places in the page, little endian: ACPI root pointer at 0x070 (u64), upper halves of the initial ramdisk's address and
//! size and of the command line's address at 0x0C0, 0x0C4 and 0x0C8, number of memory ranges at 0x1E8 (u8), boot flag AA55 at 0x1FE, "HdrS" at 0x202, the
//! protocol's version at 0x206 (u16), lower halves of the ramdisk at 0x218 and 0x21C and of the command line at 0x228, memory ranges from 0x2D0 on.

use core::fmt;

use crate::acpi::PhysicalReader;
use crate::e820;
use crate::limits::LINUX_RANGES_MAX;
use crate::protocol::Range;
use crate::start::{StartInfo, command_line};
use crate::text::{read_u16, read_u32, read_u64};

const PAGE_BYTES: usize = 4096;
const BOOT_FLAG: u16 = 0xAA55;
const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"HdrS");
const RANGES_AT: usize = 0x2D0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinuxError {
    Unreadable { address: u64 },
    NoHeader { address: u64 },
    NoMemoryMap,
}

impl fmt::Display for LinuxError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinuxError::Unreadable { address } => {
                write!(formatter, "the boot parameters at {address:#x} are not mapped")
            }
            LinuxError::NoHeader { address } => {
                write!(formatter, "no boot parameters of Linux's protocol were handed over at {address:#x}")
            }
            LinuxError::NoMemoryMap => write!(formatter, "the boot parameters have no memory map"),
        }
    }
}

/// The boot parameters at an address.
pub fn read<R: PhysicalReader>(reader: &R, address: u64) -> Result<StartInfo, LinuxError> {
    let page = reader.read(address, PAGE_BYTES).ok_or(LinuxError::Unreadable { address })?;
    // Fixed places inside of what was just read.
    let word = |offset| read_u32(page, offset).unwrap_or(0);
    if read_u16(page, 0x1FE) != Some(BOOT_FLAG) || word(0x202) != HEADER_MAGIC {
        return Err(LinuxError::NoHeader { address });
    }
    let long = |low, high| u64::from(word(high)) << 32 | u64::from(word(low));
    let mut start = StartInfo {
        rsdp: read_u64(page, 0x70).unwrap_or(0),
        command_line: command_line(reader, long(0x228, 0xC8)),
        ..StartInfo::default()
    };
    start.own.push(Range { base: address, size: PAGE_BYTES as u64 });
    let count = usize::from(page[0x1E8]).min(LINUX_RANGES_MAX);
    let ranges = page[RANGES_AT..].chunks_exact(e820::RANGE_BYTES).take(count);
    start.memory.extend(ranges.filter_map(e820::memory_area).filter(|area| area.size > 0));
    if start.memory.is_empty() {
        return Err(LinuxError::NoMemoryMap);
    }
    let (base, size) = (long(0x218, 0xC0), long(0x21C, 0xC4));
    if base != 0 && size != 0 {
        start.modules.push(Range { base, size: size.min(u64::MAX - base) });
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acpi::Memory;
    use crate::protocol::{AreaKind, MemoryArea};
    use proptest::prelude::*;

    const AT: u64 = 0x1000;

    fn memory(ranges: &[(u64, u64, u32)]) -> Memory {
        let mut bytes = std::vec![0u8; 0x2000];
        let mut put = |offset: usize, value: &[u8]| {
            bytes[AT as usize + offset..][..value.len()].copy_from_slice(value);
        };
        put(0x70, &0x7FE_0000u64.to_le_bytes());
        put(0xC0, &1u32.to_le_bytes());
        put(0x1E8, &[ranges.len() as u8]);
        put(0x1FE, &BOOT_FLAG.to_le_bytes());
        put(0x202, b"HdrS");
        put(0x218, &0x40_0000u32.to_le_bytes());
        put(0x21C, &9u32.to_le_bytes());
        put(0x228, &0x10u32.to_le_bytes());
        for (index, (base, size, kind)) in ranges.iter().enumerate() {
            put(RANGES_AT + index * 20, &base.to_le_bytes());
            put(RANGES_AT + index * 20 + 8, &size.to_le_bytes());
            put(RANGES_AT + index * 20 + 16, &kind.to_le_bytes());
        }
        bytes[0x10..0x15].copy_from_slice(b"quiet");
        Memory(bytes)
    }

    #[test]
    fn boot_parameters_are_read() {
        let found = read(&memory(&[(0, 0x9_FC00, 1), (0xF_0000, 0x1_0000, 2), (7, 0, 1)]), AT);
        let area = |base, size, kind| MemoryArea { base, size, kind };
        let expected = StartInfo {
            modules: std::vec![Range { base: 0x1_0040_0000, size: 9 }],
            rsdp: 0x7FE_0000,
            command_line: "quiet".into(),
            memory: std::vec![
                area(0, 0x9_FC00, AreaKind::Free),
                area(0xF_0000, 0x1_0000, AreaKind::Reserved)
            ],
            own: std::vec![Range { base: AT, size: 4096 }],
        };
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn wrong_parameters_are_refused() {
        assert_eq!(read(&memory(&[]), AT), Err(LinuxError::NoMemoryMap));
        assert_eq!(read(&memory(&[]), 0), Err(LinuxError::NoHeader { address: 0 }));
        assert_eq!(read(&memory(&[]), 0x1001), Err(LinuxError::Unreadable { address: 0x1001 }));
        let mut without_ramdisk = memory(&[(0, 0x9_FC00, 1)]);
        without_ramdisk.0[AT as usize + 0x21C] = 0;
        assert_eq!(read(&without_ramdisk, AT).map(|start| start.modules.len()), Ok(0));
    }

    proptest! {
        #[test]
        fn any_parameters_are_bounded(
            changes in proptest::collection::vec((0usize..4096, any::<u8>()), 0..200),
            count in any::<u8>(),
        ) {
            let mut memory = memory(&[(0, 0x9_FC00, 1)]);
            for (offset, byte) in changes {
                memory.0[AT as usize + offset] = byte;
            }
            memory.0[AT as usize + 0x1E8] = count;
            if let Ok(start) = read(&memory, AT) {
                prop_assert!(start.memory.len() <= LINUX_RANGES_MAX && start.modules.len() <= 1);
                prop_assert!(start.modules.iter().all(|module| module.base.checked_add(module.size).is_some()));
            }
        }
    }
}
