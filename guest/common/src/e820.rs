//! One range of memory as BIOS, PVH and Linux's boot protocol describe it (E820, ACPI specification 15): base and size
//! (u64 each), type (u32), and from BIOS perhaps attributes (u32). Reads only.

use crate::protocol::{AreaKind, MemoryArea};
use crate::text::{read_u32, read_u64};

/// Bytes of a range without and with its attributes.
pub const RANGE_BYTES: usize = 20;
pub const LONG_RANGE_BYTES: usize = 24;

const USABLE: u32 = 1;
/// The attribute without which a range is to be ignored.
const ENABLED: u32 = 1;

/// A range as an area; nothing where the bytes end. Every type but usable memory is reserved: what ACPI could give back
/// is too little to be worth it.
pub fn memory_area(entry: &[u8]) -> Option<MemoryArea> {
    let (base, size) = (read_u64(entry, 0)?, read_u64(entry, 8)?);
    let kind = if read_u32(entry, 16)? == USABLE { AreaKind::Free } else { AreaKind::Reserved };
    // An end beyond all addresses would wrap.
    Some(MemoryArea { base, size: size.min(u64::MAX - base), kind })
}

/// What BIOS answered in `length` bytes: nothing where the range is empty or says of itself that it is to be ignored.
pub fn bios_area(entry: &[u8; LONG_RANGE_BYTES], length: usize) -> Option<MemoryArea> {
    let is_ignored = length >= LONG_RANGE_BYTES && read_u32(entry, RANGE_BYTES)? & ENABLED == 0;
    memory_area(entry).filter(|area| !is_ignored && area.size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(base: u64, size: u64, kind: u32, attributes: u32) -> [u8; LONG_RANGE_BYTES] {
        let mut entry = [0; LONG_RANGE_BYTES];
        entry[..8].copy_from_slice(&base.to_le_bytes());
        entry[8..16].copy_from_slice(&size.to_le_bytes());
        entry[16..20].copy_from_slice(&kind.to_le_bytes());
        entry[20..].copy_from_slice(&attributes.to_le_bytes());
        entry
    }

    #[test]
    fn ranges_of_bios() {
        let free = MemoryArea { base: 0x10_0000, size: 0x1000, kind: AreaKind::Free };
        let reserved = MemoryArea { kind: AreaKind::Reserved, ..free };
        for (kind, attributes, length, expected) in [
            (1, 0, 20, Some(free)),
            (1, 1, 24, Some(free)),
            (1, 0, 24, None),
            (2, 1, 24, Some(reserved)),
            (3, 9, 20, Some(reserved)),
            (7, 1, 24, Some(reserved)),
        ] {
            assert_eq!(bios_area(&entry(0x10_0000, 0x1000, kind, attributes), length), expected);
        }
        assert_eq!(bios_area(&entry(5, 0, 1, 1), 20), None);
        assert_eq!(memory_area(&[1; 19]), None);
    }

    proptest! {
        #[test]
        fn no_range_wraps(bytes in any::<[u8; LONG_RANGE_BYTES]>(), length in 0usize..30) {
            if let Some(area) = bios_area(&bytes, length) {
                prop_assert!(area.base.checked_add(area.size).is_some());
            }
        }
    }
}
