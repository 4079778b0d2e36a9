//! The page tables of the hand-over (x86-64, four levels): the first 8 GiB twice, the kernel's file, and framebuffers
//! that lie higher. Only builds them in memory; switching to them is the front's work.

use core::fmt;

use crate::limits::{BLOCK_BYTES, MAPPED_BYTES};
use crate::protocol::{AreaKind, KERNEL_OFFSET, PHYSICAL_OFFSET};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const ADDRESS_MASK: u64 = 0x000F_FFFF_FFFF_F000;
const PAGE: u64 = BLOCK_BYTES as u64;
const LARGE_PAGE: u64 = 2 << 20;
/// Bytes below which the window at `PHYSICAL_OFFSET` can show physical memory: half of the 48-bit addresses.
const WINDOW_BYTES: u64 = 1 << 47;

/// Physical memory below 8 GiB that the loader may use, addressed as the processor does.
pub trait PhysicalMemory {
    /// Whole pages, zeroed, remembered for the area list as `kind`; nothing when memory is exhausted.
    fn allocate(&mut self, bytes: usize, kind: AreaKind) -> Option<u64>;

    /// The bytes at an address that `allocate` gave.
    fn bytes(&mut self, address: u64, length: usize) -> &mut [u8];
}

/// Why no page tables can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagingError {
    OutOfMemory,
    OutsideWindow { address: u64 },
    KernelTooLarge { bytes: u64 },
}

impl fmt::Display for PagingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PagingError::OutOfMemory => write!(formatter, "no memory below 8 GiB left for page tables"),
            PagingError::OutsideWindow { address } => {
                write!(formatter, "physical address {address:#x} is beyond the window of the protocol")
            }
            PagingError::KernelTooLarge { bytes } => {
                write!(formatter, "a kernel of {bytes} bytes cannot be mapped")
            }
        }
    }
}

/// Page tables under construction; `root` is the physical address of the top level.
pub struct PageTables<'a, M: PhysicalMemory> {
    memory: &'a mut M,
    root: u64,
}

impl<'a, M: PhysicalMemory> PageTables<'a, M> {
    /// Tables with the first 8 GiB at 0 and at `PHYSICAL_OFFSET`.
    pub fn new(memory: &'a mut M) -> Result<Self, PagingError> {
        let root = memory.allocate(BLOCK_BYTES, AreaKind::Reclaimable).ok_or(PagingError::OutOfMemory)?;
        let mut tables = PageTables { memory, root };
        let shared = tables.new_table()?;
        tables.set(root, index_of(0, 3), shared | WRITABLE | PRESENT);
        tables.set(root, index_of(PHYSICAL_OFFSET, 3), shared | WRITABLE | PRESENT);
        for address in (0..MAPPED_BYTES).step_by(LARGE_PAGE as usize) {
            tables.map(PHYSICAL_OFFSET + address, address, true)?;
        }
        Ok(tables)
    }

    /// Tables that exist already, to be extended.
    pub fn existing(memory: &'a mut M, root: u64) -> Self {
        PageTables { memory, root }
    }

    /// The kernel's file image, page by page.
    pub fn map_kernel(&mut self, base: u64, bytes: u64) -> Result<(), PagingError> {
        if bytes > 1 << 30 {
            return Err(PagingError::KernelTooLarge { bytes });
        }
        for offset in (0..bytes).step_by(BLOCK_BYTES) {
            self.map(KERNEL_OFFSET + offset, base + offset, false)?;
        }
        Ok(())
    }

    /// Makes physical memory visible at `PHYSICAL_OFFSET` and gives its virtual address.
    pub fn map_physical(&mut self, base: u64, bytes: u64) -> Result<u64, PagingError> {
        let end = base.checked_add(bytes).filter(|end| *end <= WINDOW_BYTES);
        let end = end.ok_or(PagingError::OutsideWindow { address: base })?;
        let mut address = base / LARGE_PAGE * LARGE_PAGE;
        while address < end {
            if address >= MAPPED_BYTES {
                self.map(PHYSICAL_OFFSET + address, address, true)?;
            }
            address += LARGE_PAGE;
        }
        Ok(PHYSICAL_OFFSET + base)
    }

    pub fn root(&self) -> u64 {
        self.root
    }

    fn map(&mut self, virtual_address: u64, physical: u64, large: bool) -> Result<(), PagingError> {
        let last = if large { 1 } else { 0 };
        let mut table = self.root;
        for level in (last + 1..4).rev() {
            let index = index_of(virtual_address, level);
            let entry = self.get(table, index);
            table = if entry & PRESENT != 0 {
                entry & ADDRESS_MASK
            } else {
                let next = self.new_table()?;
                self.set(table, index, next | WRITABLE | PRESENT);
                next
            };
        }
        let flags = if large { LARGE | WRITABLE | PRESENT } else { WRITABLE | PRESENT };
        self.set(table, index_of(virtual_address, last), physical | flags);
        Ok(())
    }

    fn new_table(&mut self) -> Result<u64, PagingError> {
        self.memory.allocate(BLOCK_BYTES, AreaKind::Reclaimable).ok_or(PagingError::OutOfMemory)
    }

    fn get(&mut self, table: u64, index: usize) -> u64 {
        let bytes = &self.memory.bytes(table, BLOCK_BYTES)[index * 8..index * 8 + 8];
        bytes.try_into().map_or(0, u64::from_le_bytes)
    }

    fn set(&mut self, table: u64, index: usize, entry: u64) {
        debug_assert_eq!(table % PAGE, 0);
        self.memory.bytes(table, BLOCK_BYTES)[index * 8..index * 8 + 8].copy_from_slice(&entry.to_le_bytes());
    }
}

/// Index of an address in the table of a level, 0 being the one of 4 KiB pages.
fn index_of(virtual_address: u64, level: u32) -> usize {
    (virtual_address >> (12 + 9 * level) & 511) as usize
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::protocol::MemoryArea;
    use std::vec::Vec;

    use crate::acpi::PhysicalReader;

    /// Pretended memory from 1 MiB on.
    pub(crate) struct FakeMemory {
        pub base: u64,
        pub bytes: Vec<u8>,
        pub used: usize,
        pub taken: Vec<MemoryArea>,
    }

    impl FakeMemory {
        pub(crate) fn new(size: usize) -> Self {
            FakeMemory { base: 1 << 20, bytes: std::vec![0; size], used: 0, taken: Vec::new() }
        }

        pub(crate) fn translate(&mut self, root: u64, virtual_address: u64) -> Option<u64> {
            let mut table = root;
            for level in (0..4).rev() {
                let index = index_of(virtual_address, level);
                let entry = self.bytes(table, BLOCK_BYTES)[index * 8..index * 8 + 8]
                    .try_into()
                    .map_or(0, u64::from_le_bytes);
                if entry & PRESENT == 0 {
                    return None;
                }
                if level == 0 {
                    return Some((entry & ADDRESS_MASK) + virtual_address % PAGE);
                }
                if entry & LARGE != 0 {
                    return Some((entry & ADDRESS_MASK) + virtual_address % LARGE_PAGE);
                }
                table = entry & ADDRESS_MASK;
            }
            None
        }
    }

    impl PhysicalMemory for FakeMemory {
        fn allocate(&mut self, bytes: usize, kind: AreaKind) -> Option<u64> {
            let size = bytes.next_multiple_of(BLOCK_BYTES);
            if self.used + size > self.bytes.len() {
                return None;
            }
            let base = self.base + self.used as u64;
            self.used += size;
            self.taken.push(MemoryArea { base, size: size as u64, kind });
            Some(base)
        }

        fn bytes(&mut self, address: u64, length: usize) -> &mut [u8] {
            let start = (address - self.base) as usize;
            &mut self.bytes[start..start + length]
        }
    }

    impl PhysicalReader for FakeMemory {
        fn read(&self, address: u64, length: usize) -> Option<&[u8]> {
            let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
            self.bytes.get(start..start.checked_add(length)?)
        }
    }

    #[test]
    fn addresses_the_kernel_relies_on() {
        let mut memory = FakeMemory::new(1 << 20);
        let mut tables = PageTables::new(&mut memory).expect("memory");
        tables.map_kernel(0x30_0000, 0x40_1000 - 5).expect("kernel");
        let framebuffer = 0x80_4010_0000;
        assert_eq!(tables.map_physical(framebuffer, 0x30_0000), Ok(PHYSICAL_OFFSET + framebuffer));
        assert_eq!(tables.map_physical(0xC000_0000, 0x30_0000), Ok(PHYSICAL_OFFSET + 0xC000_0000));
        let root = tables.root();
        for (virtual_address, expected) in [
            (0, Some(0)),
            (0x1234_5678, Some(0x1234_5678)),
            (MAPPED_BYTES - 1, Some(MAPPED_BYTES - 1)),
            (MAPPED_BYTES, None),
            (PHYSICAL_OFFSET + 0x1234_5678, Some(0x1234_5678)),
            (PHYSICAL_OFFSET + MAPPED_BYTES - 1, Some(MAPPED_BYTES - 1)),
            (PHYSICAL_OFFSET + MAPPED_BYTES, None),
            (KERNEL_OFFSET, Some(0x30_0000)),
            (KERNEL_OFFSET + 0x40_0ffb, Some(0x70_0ffb)),
            (KERNEL_OFFSET + 0x40_1000, None),
            (KERNEL_OFFSET - 1, None),
            (PHYSICAL_OFFSET + framebuffer + 0x2f_ffff, Some(framebuffer + 0x2f_ffff)),
        ] {
            assert_eq!(memory.translate(root, virtual_address), expected, "{virtual_address:#x}");
        }
    }

    #[test]
    fn exhausted_memory_and_impossible_addresses() {
        assert_eq!(PageTables::new(&mut FakeMemory::new(0x4000)).err(), Some(PagingError::OutOfMemory));
        let mut memory = FakeMemory::new(1 << 20);
        let mut tables = PageTables::new(&mut memory).expect("memory");
        assert_eq!(tables.map_kernel(0, 2 << 30), Err(PagingError::KernelTooLarge { bytes: 2 << 30 }));
        assert_eq!(tables.map_physical(u64::MAX, 2), Err(PagingError::OutsideWindow { address: u64::MAX }));
    }
}
