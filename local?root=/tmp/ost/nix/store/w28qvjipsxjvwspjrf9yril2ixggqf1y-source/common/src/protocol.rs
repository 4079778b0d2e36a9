//! The structures of Redox's boot protocol as they lie in memory. Only layout; what fills them is in `boot`.
//!
//! The format is a fact of the kernel's entry code: twelve little-endian words of 64 bits whose address comes in the
//! first argument register, and an array of 1024 memory areas.

use crate::limits::AREAS_MAX;
use crate::text::read_u64;

/// Virtual address at which physical address 0 appears to the kernel.
pub const PHYSICAL_OFFSET: u64 = 0xFFFF_8000_0000_0000;

/// Virtual address of the first byte of the kernel's file.
pub const KERNEL_OFFSET: u64 = 0xFFFF_FFFF_8000_0000;

/// Bytes of the argument block and of the area array.
pub const ARGUMENT_BYTES: usize = 12 * 8;
pub const AREA_BYTES: usize = 24;
pub const AREA_ARRAY_BYTES: usize = AREAS_MAX * AREA_BYTES;

/// What the kernel is told: pairs of physical base and size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelArguments {
    pub kernel: Range,
    pub stack: Range,
    pub environment: Range,
    /// The ACPI RSDP or a device tree; base 0 where the firmware has neither.
    pub hardware: Range,
    pub areas: Range,
    /// The initfs image, whose size is a multiple of a page.
    pub bootstrap: Range,
}

/// Physical memory from `base` on, `size` bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub base: u64,
    pub size: u64,
}

impl KernelArguments {
    fn ranges(&self) -> [Range; 6] {
        [self.kernel, self.stack, self.environment, self.hardware, self.areas, self.bootstrap]
    }

    pub fn to_bytes(&self) -> [u8; ARGUMENT_BYTES] {
        let mut bytes = [0; ARGUMENT_BYTES];
        for (slot, range) in bytes.chunks_exact_mut(16).zip(self.ranges()) {
            slot[..8].copy_from_slice(&range.base.to_le_bytes());
            slot[8..].copy_from_slice(&range.size.to_le_bytes());
        }
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<KernelArguments> {
        let range = |index: usize| {
            Some(Range { base: read_u64(bytes, index * 16)?, size: read_u64(bytes, index * 16 + 8)? })
        };
        Some(KernelArguments {
            kernel: range(0)?,
            stack: range(1)?,
            environment: range(2)?,
            hardware: range(3)?,
            areas: range(4)?,
            bootstrap: range(5)?,
        })
    }
}

/// What a range of memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaKind {
    /// An unused record of the array.
    Null,
    Free,
    /// The loader's own structures: free once the kernel no longer uses them.
    Reclaimable,
    Reserved,
    /// A number this side does not know; never free.
    Unknown(u64),
}

impl AreaKind {
    pub fn number(self) -> u64 {
        match self {
            AreaKind::Null => 0,
            AreaKind::Free => 1,
            AreaKind::Reclaimable => 2,
            AreaKind::Reserved => 3,
            AreaKind::Unknown(number) => number,
        }
    }

    pub fn from_number(number: u64) -> AreaKind {
        match number {
            0 => AreaKind::Null,
            1 => AreaKind::Free,
            2 => AreaKind::Reclaimable,
            3 => AreaKind::Reserved,
            number => AreaKind::Unknown(number),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            AreaKind::Null => "null",
            AreaKind::Free => "free",
            AreaKind::Reclaimable => "reclaimable",
            AreaKind::Reserved => "reserved",
            AreaKind::Unknown(_) => "unknown",
        }
    }
}

/// One record of the area array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryArea {
    pub base: u64,
    pub size: u64,
    pub kind: AreaKind,
}

impl MemoryArea {
    pub const NULL: MemoryArea = MemoryArea { base: 0, size: 0, kind: AreaKind::Null };

    pub fn end(&self) -> u64 {
        self.base.saturating_add(self.size)
    }

    pub fn to_bytes(&self) -> [u8; AREA_BYTES] {
        let mut bytes = [0; AREA_BYTES];
        bytes[..8].copy_from_slice(&self.base.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.size.to_le_bytes());
        bytes[16..].copy_from_slice(&self.kind.number().to_le_bytes());
        bytes
    }

    /// The records of an area array, without the unused ones.
    pub fn read_array(array: &[u8]) -> impl Iterator<Item = MemoryArea> + Clone + '_ {
        array.chunks_exact(AREA_BYTES).take(AREAS_MAX).filter_map(|record| {
            let area = MemoryArea {
                base: read_u64(record, 0)?,
                size: read_u64(record, 8)?,
                kind: AreaKind::from_number(read_u64(record, 16)?),
            };
            (area.kind != AreaKind::Null && area.size != 0).then_some(area)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_twelve_words_in_the_kernels_order() {
        let range = |base| Range { base, size: base + 1 };
        let arguments = KernelArguments {
            kernel: range(10),
            stack: range(20),
            environment: range(30),
            hardware: range(40),
            areas: range(50),
            bootstrap: range(60),
        };
        let bytes = arguments.to_bytes();
        let words: std::vec::Vec<u64> = (0..12).filter_map(|index| read_u64(&bytes, index * 8)).collect();
        assert_eq!(words, [10, 11, 20, 21, 30, 31, 40, 41, 50, 51, 60, 61]);
        assert_eq!(KernelArguments::from_bytes(&bytes), Some(arguments));
        assert_eq!(KernelArguments::from_bytes(&bytes[..95]), None);
    }

    #[test]
    fn area_records() {
        let area = MemoryArea { base: 0x1000, size: 0x2000, kind: AreaKind::Reclaimable };
        let mut array = std::vec![0; AREA_ARRAY_BYTES];
        array[AREA_BYTES..2 * AREA_BYTES].copy_from_slice(&area.to_bytes());
        assert_eq!(MemoryArea::read_array(&array).collect::<std::vec::Vec<_>>(), [area]);
    }
}
