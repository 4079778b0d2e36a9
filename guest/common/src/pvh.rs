//! What a monitor without firmware hands over: the start information of the PVH boot protocol (Xen's `hvm_start_info`,
//! version 1). Reads only.
//!
//! Layout, little endian: magic, version, flags, number of modules (u32 each); addresses of the modules, the command
//! line, the ACPI root pointer and the memory map (u64 each); entries of the map, zero (u32 each). A module has an
//! address, a size, a command line's address and a zero (u64 each); a range of memory an address, a size (u64 each), a
//! type as in E820 and a zero (u32 each).

use core::fmt;

use crate::acpi::PhysicalReader;
use crate::e820;
use crate::limits::{PVH_MODULES_MAX, PVH_RANGES_MAX};
use crate::protocol::Range;
use crate::start::{StartInfo, command_line};
use crate::text::{read_u32, read_u64};

const MAGIC: u32 = 0x336E_C578;
const INFO_BYTES: usize = 56;
const MODULE_BYTES: usize = 32;
const RANGE_BYTES: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PvhError {
    Unreadable { address: u64 },
    BadMagic { found: u32 },
    NoMemoryMap { version: u32 },
    TooMany { what: &'static str, count: u32, limit: u32 },
}

impl fmt::Display for PvhError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PvhError::Unreadable { address } => {
                write!(formatter, "the start information at {address:#x} is not mapped")
            }
            PvhError::BadMagic { found } => {
                write!(formatter, "no PVH start information was handed over: it begins with {found:#x}")
            }
            PvhError::NoMemoryMap { version } => {
                write!(formatter, "the start information (version {version}) has no memory map")
            }
            PvhError::TooMany { what, count, limit } => {
                write!(formatter, "the start information names {count} {what}, more than {limit}")
            }
        }
    }
}

/// The start information at an address.
pub fn read<R: PhysicalReader>(reader: &R, address: u64) -> Result<StartInfo, PvhError> {
    let read = |address, length| reader.read(address, length).ok_or(PvhError::Unreadable { address });
    let info = read(address, INFO_BYTES)?;
    // Fixed places inside of what was just read.
    let word = |offset| read_u32(info, offset).unwrap_or(0);
    let long = |offset| read_u64(info, offset).unwrap_or(0);
    if word(0) != MAGIC {
        return Err(PvhError::BadMagic { found: word(0) });
    }
    let (version, map, count) = (word(4), long(40), word(48));
    if version == 0 || map == 0 || count == 0 {
        return Err(PvhError::NoMemoryMap { version });
    }
    let table = |what, address: u64, count: u32, limit, entry_bytes: usize| {
        if count > limit {
            return Err(PvhError::TooMany { what, count, limit });
        }
        Ok((
            read(address, count as usize * entry_bytes)?,
            Range { base: address, size: u64::from(count) * entry_bytes as u64 },
        ))
    };
    let mut start =
        StartInfo { rsdp: long(32), command_line: command_line(reader, long(24)), ..StartInfo::default() };
    start.own.push(Range { base: address, size: INFO_BYTES as u64 });
    let (ranges, place) = table("memory ranges", map, count, PVH_RANGES_MAX, RANGE_BYTES)?;
    start.own.push(place);
    start.memory.extend(ranges.chunks_exact(RANGE_BYTES).filter_map(e820::memory_area));
    if word(12) > 0 {
        let (modules, place) = table("modules", long(16), word(12), PVH_MODULES_MAX, MODULE_BYTES)?;
        start.own.push(place);
        start.modules.extend(modules.chunks_exact(MODULE_BYTES).map(|module| Range {
            base: read_u64(module, 0).unwrap_or(0),
            size: read_u64(module, 8).unwrap_or(0),
        }));
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acpi::Memory;
    use crate::protocol::AreaKind;
    use proptest::prelude::*;

    fn memory(version: u32, modules: &[(u64, u64)], ranges: &[(u64, u64, u32)]) -> Memory {
        let mut bytes = std::vec![0u8; 0x100];
        let mut put =
            |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
        put(0x10, &MAGIC.to_le_bytes());
        put(0x14, &version.to_le_bytes());
        put(0x1C, &(modules.len() as u32).to_le_bytes());
        put(0x20, &0x100u64.to_le_bytes());
        put(0x30, &0xE0000u64.to_le_bytes());
        put(0x38, &(0x100 + 32 * modules.len() as u64).to_le_bytes());
        put(0x40, &(ranges.len() as u32).to_le_bytes());
        for (base, size) in modules {
            for word in [*base, *size, 0, 0] {
                bytes.extend(word.to_le_bytes());
            }
        }
        for (base, size, kind) in ranges {
            bytes.extend(base.to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 4]);
        }
        Memory(bytes)
    }

    #[test]
    fn start_information_is_read() {
        let found = read(&memory(1, &[(0x40_0000, 9)], &[(0, 0x9_FC00, 1), (0xF_0000, 0x1_0000, 2)]), 0x10);
        let found = found.expect("it is whole");
        assert_eq!(found.rsdp, 0xE0000);
        assert_eq!(found.modules, [Range { base: 0x40_0000, size: 9 }]);
        assert_eq!(
            found.memory.iter().map(|area| area.kind).collect::<Vec<_>>(),
            [AreaKind::Free, AreaKind::Reserved]
        );
        assert_eq!(found.own.len(), 3);
    }

    #[test]
    fn wrong_information_is_refused() {
        let fine = [(0, 0x9_FC00, 1)];
        assert_eq!(read(&memory(0, &[], &fine), 0x10), Err(PvhError::NoMemoryMap { version: 0 }));
        assert_eq!(read(&memory(1, &[], &[]), 0x10), Err(PvhError::NoMemoryMap { version: 1 }));
        assert_eq!(read(&memory(1, &[], &fine), 0), Err(PvhError::BadMagic { found: 0 }));
        assert_eq!(read(&memory(1, &[], &fine), 1 << 40), Err(PvhError::Unreadable { address: 1 << 40 }));
        let many = std::vec![(0, 0); 17];
        assert!(matches!(read(&memory(1, &many, &fine), 0x10), Err(PvhError::TooMany { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..256), address in 0u64..300) {
            let _ = read(&Memory(bytes), address);
        }
    }
}
