//! What a program without firmware is handed over, whatever protocol brought it, and finding memory that nothing in it
//! uses. Reads no protocol itself: `pvh` and `linux` do.

use alloc::string::String;
use alloc::vec::Vec;

use crate::acpi::PhysicalReader;
use crate::limits::{BLOCK_BYTES, COMMAND_LINE_BYTES_MAX, MAPPED_BYTES};
use crate::protocol::{AreaKind, MemoryArea, Range};

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

/// The text at an address, up to a zero, the limit or the end of what is mapped; nothing at address 0.
pub fn command_line<R: PhysicalReader>(reader: &R, address: u64) -> String {
    let byte = |offset| reader.read(address.checked_add(offset)?, 1)?.first().copied();
    let bytes = (0..COMMAND_LINE_BYTES_MAX).map_while(|offset| byte(offset).filter(|byte| *byte != 0));
    let bytes: Vec<u8> = if address == 0 { Vec::new() } else { bytes.collect() };
    String::from_utf8_lossy(&bytes).into_owned()
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

    #[test]
    fn the_command_line_ends_with_a_zero_or_the_memory() {
        let with = |text: &[u8], address: u64| {
            let mut bytes = std::vec![0; 0x200];
            bytes.extend(text);
            command_line(&Memory(bytes), address)
        };
        assert_eq!(with(b"quiet a=b\0more", 0x200), "quiet a=b");
        assert_eq!(with(b"quiet", 0x200), "quiet");
        assert_eq!(with(b"quiet", 0x10_0000), "");
        assert_eq!(with(b"quiet", 0), "");
        assert_eq!(with(&[b'x'; 9000], 0x200).len() as u64, COMMAND_LINE_BYTES_MAX);
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
