//! What a monitor without firmware hands over: the start information of the PVH boot protocol (Xen's `hvm_start_info`,
//! version 1), and finding memory that nothing in it uses. Reads only.
//!
//! Layout, little endian: magic, version, flags, number of modules (u32 each); addresses of the modules, the command
//! line, the ACPI root pointer and the memory map (u64 each); entries of the map, zero (u32 each). A module has an
//! address, a size, a command line's address and a zero (u64 each); a range of memory an address, a size (u64 each), a
//! type as in E820 and a zero (u32 each).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::acpi::PhysicalReader;
use crate::limits::{BLOCK_BYTES, MAPPED_BYTES, PVH_COMMAND_LINE_BYTES_MAX, PVH_MODULES_MAX, PVH_RANGES_MAX};
use crate::protocol::{AreaKind, MemoryArea, Range};
use crate::text::{read_u32, read_u64};

const MAGIC: u32 = 0x336E_C578;
const INFO_BYTES: usize = 56;
const MODULE_BYTES: usize = 32;
const RANGE_BYTES: usize = 24;
/// E820: usable memory.
const USABLE: u32 = 1;

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

/// What was handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartInfo {
    pub modules: Vec<Range>,
    /// Address of the ACPI root pointer; 0 where none is named.
    pub rsdp: u64,
    /// What the monitor tells a kernel, cut off where it is too long or not mapped.
    pub command_line: String,
    pub memory: Vec<MemoryArea>,
    /// Where the information itself lies.
    pub own: Vec<Range>,
}

impl StartInfo {
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
        let mut start = StartInfo {
            rsdp: long(32),
            command_line: command_line(reader, long(24)),
            ..StartInfo::default()
        };
        start.own.push(Range { base: address, size: INFO_BYTES as u64 });
        let (ranges, place) = table("memory ranges", map, count, PVH_RANGES_MAX, RANGE_BYTES)?;
        start.own.push(place);
        start.memory.extend(ranges.chunks_exact(RANGE_BYTES).map(memory_area));
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
}

fn command_line<R: PhysicalReader>(reader: &R, address: u64) -> String {
    let byte = |offset| reader.read(address.checked_add(offset)?, 1)?.first().copied();
    let bytes = (0..PVH_COMMAND_LINE_BYTES_MAX).map_while(|offset| byte(offset).filter(|byte| *byte != 0));
    let bytes: Vec<u8> = if address == 0 { Vec::new() } else { bytes.collect() };
    String::from_utf8_lossy(&bytes).into_owned()
}

fn memory_area(entry: &[u8]) -> MemoryArea {
    let (base, size) = (read_u64(entry, 0).unwrap_or(0), read_u64(entry, 8).unwrap_or(0));
    let kind = if read_u32(entry, 16) == Some(USABLE) { AreaKind::Free } else { AreaKind::Reserved };
    // An end beyond all addresses would wrap.
    MemoryArea { base, size: size.min(u64::MAX - base), kind }
}

/// The lowest whole pages of free memory at `lowest` or above and below 8 GiB that lie in none of the taken ranges.
pub fn find_pages(memory: &[MemoryArea], taken: &[Range], lowest: u64, bytes: u64) -> Option<u64> {
    let page = BLOCK_BYTES as u64;
    let bytes = bytes.max(1).checked_next_multiple_of(page)?;
    let fits = |start: u64| -> Option<u64> {
        let end = start.checked_add(bytes)?;
        let overlaps = |base: u64, size: u64| size > 0 && base < end && base.saturating_add(size) > start;
        let is_inside = |area: &MemoryArea| area.base <= start && end <= area.end().min(MAPPED_BYTES);
        let free = memory.iter().any(|area| area.kind == AreaKind::Free && is_inside(area))
            && !taken.iter().any(|range| overlaps(range.base, range.size))
            && !memory.iter().any(|other| other.kind != AreaKind::Free && overlaps(other.base, other.size));
        free.then_some(start)
    };
    // Free pages begin where an area begins or where something taken ends.
    let starts = memory.iter().map(|area| if area.kind == AreaKind::Free { area.base } else { area.end() });
    let ends = taken.iter().map(|range| range.base.saturating_add(range.size));
    starts
        .chain(ends)
        .filter_map(|start| start.max(lowest).checked_next_multiple_of(page))
        .filter_map(fits)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acpi::Memory;
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
        let found = StartInfo::read(
            &memory(1, &[(0x40_0000, 9)], &[(0, 0x9_FC00, 1), (0xF_0000, 0x1_0000, 2)]),
            0x10,
        );
        let found = found.expect("it is whole");
        assert_eq!(found.rsdp, 0xE0000);
        assert_eq!(found.modules, [Range { base: 0x40_0000, size: 9 }]);
        assert_eq!(
            found.memory.iter().map(|area| area.kind).collect::<Vec<_>>(),
            [AreaKind::Free, AreaKind::Reserved]
        );
        assert_eq!(found.own.len(), 3);
        assert_eq!(found.command_line, "");
    }

    #[test]
    fn the_command_line_ends_with_a_zero_or_the_memory() {
        let with = |text: &[u8], address: u64| {
            let Memory(mut bytes) = memory(1, &[], &[(0, 0x9_FC00, 1)]);
            bytes[0x28..0x30].copy_from_slice(&address.to_le_bytes());
            bytes.resize(0x200, 0);
            bytes.extend(text);
            StartInfo::read(&Memory(bytes), 0x10).expect("it is whole").command_line
        };
        assert_eq!(with(b"quiet a=b\0more", 0x200), "quiet a=b");
        assert_eq!(with(b"quiet", 0x200), "quiet");
        assert_eq!(with(b"quiet", 0x10_0000), "");
        assert_eq!(with(&[b'x'; 9000], 0x200).len() as u64, PVH_COMMAND_LINE_BYTES_MAX);
    }

    #[test]
    fn wrong_information_is_refused() {
        let fine = [(0, 0x9_FC00, 1)];
        assert_eq!(StartInfo::read(&memory(0, &[], &fine), 0x10), Err(PvhError::NoMemoryMap { version: 0 }));
        assert_eq!(StartInfo::read(&memory(1, &[], &[]), 0x10), Err(PvhError::NoMemoryMap { version: 1 }));
        assert_eq!(StartInfo::read(&memory(1, &[], &fine), 0), Err(PvhError::BadMagic { found: 0 }));
        assert_eq!(
            StartInfo::read(&memory(1, &[], &fine), 1 << 40),
            Err(PvhError::Unreadable { address: 1 << 40 })
        );
        let many = std::vec![(0, 0); 17];
        assert!(matches!(StartInfo::read(&memory(1, &many, &fine), 0x10), Err(PvhError::TooMany { .. })));
    }

    #[test]
    fn pages_avoid_what_is_taken() {
        let area = |base, size, kind| MemoryArea { base, size, kind };
        let map = [
            area(0, 0xA_0000, AreaKind::Free),
            area(0x10_0000, 0x100_0000, AreaKind::Free),
            area(0x18_0000, 0x1000, AreaKind::Reserved),
        ];
        let taken = [Range { base: 0x10_0000, size: 0x8_0001 }];
        assert_eq!(find_pages(&map, &taken, 0x10_0000, 1), Some(0x18_1000));
        assert_eq!(find_pages(&map, &[], 0x10_0000, 0x8_0000), Some(0x10_0000));
        assert_eq!(find_pages(&map, &[], 0x10_0000, 0x8_0001), Some(0x18_1000));
        assert_eq!(find_pages(&map, &[], 0, 0x1000_0000), None);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..256), address in 0u64..300) {
            let _ = StartInfo::read(&Memory(bytes), address);
        }

        #[test]
        fn found_pages_are_free(
            areas in proptest::collection::vec((0u64..64, 0u64..32, any::<bool>()), 1..8),
            taken in proptest::collection::vec((0u64..64 * 4096, 0u64..20_000), 0..6),
            pages in 1u64..8,
        ) {
            let map: Vec<MemoryArea> = areas.iter().map(|(base, size, free)| MemoryArea {
                base: base * 4096,
                size: size * 4096,
                kind: if *free { AreaKind::Free } else { AreaKind::Reserved },
            }).collect();
            let taken: Vec<Range> = taken.iter().map(|(base, size)| Range { base: *base, size: *size }).collect();
            let is_free = |page: u64| {
                let inside = |base: u64, size: u64| base < page + 4096 && page < base + size;
                map.iter().any(|a| a.kind == AreaKind::Free && a.base <= page && page + 4096 <= a.end())
                    && !map.iter().any(|a| a.kind != AreaKind::Free && inside(a.base, a.size))
                    && !taken.iter().any(|t| t.size > 0 && inside(t.base, t.size))
            };
            if let Some(start) = find_pages(&map, &taken, 4096, pages * 4096) {
                prop_assert!(start >= 4096 && (0..pages).all(|i| is_free(start + i * 4096)));
            } else {
                // Nothing fits inside of a single free area.
                let fits = |area: &MemoryArea, start: u64| area.base <= start && start + pages * 4096 <= area.end()
                    && (0..pages).all(|i| is_free(start + i * 4096));
                let any = (1..128).any(|page| map.iter().any(|a| a.kind == AreaKind::Free && fits(a, page * 4096)));
                prop_assert!(!any);
            }
        }
    }
}
