//! Physical memory one to one: the heap, what others wrote, and pages for the hand-over. Nothing is given back.

use alloc::vec::Vec;
use core::slice;

use redox_boot::acpi::{self, PhysicalReader};
use redox_boot::heap::Heap;
use redox_boot::limits::{BLOCK_BYTES, MAPPED_BYTES};
use redox_boot::paging::PhysicalMemory;
use redox_boot::protocol::{AreaKind, MemoryArea, Range};
use redox_boot::start::find_pages;

/// Bytes of the heap: names, directories and decompressed records of one file system.
pub const HEAP_BYTES: usize = 32 << 20;
/// Hand-over structures stay out of what kernels and devices use low memory for.
pub const LOWEST_ADDRESS: u64 = 1 << 20;

#[global_allocator]
static HEAP: Heap = Heap::new();

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
}

/// Starts the heap.
///
/// # Safety
/// To be called once, before anything is allocated, with memory that nobody else uses.
pub unsafe fn start_heap(base: u64) {
    let area = MemoryArea { base, size: HEAP_BYTES as u64, kind: AreaKind::Free };
    // SAFETY: the caller vouches for it; memory is mapped one to one.
    unsafe { HEAP.start(0, [area].into_iter()) };
}

/// Where this program lies.
pub fn own_range() -> Range {
    let place = |symbol: &u8| core::ptr::from_ref(symbol) as u64;
    // SAFETY: only the addresses of the linker's symbols are taken.
    let (base, end) = unsafe { (place(&image_start), place(&image_end)) };
    Range { base, size: end - base }
}

/// Memory that others filled before the start.
pub struct Physical;

impl PhysicalReader for Physical {
    fn read(&self, address: u64, length: usize) -> Option<&[u8]> {
        let end = address.checked_add(length as u64)?;
        if address == 0 || end > MAPPED_BYTES {
            return None;
        }
        // SAFETY: mapped one to one by the entry code; reading has no effect, and nobody else runs.
        Some(unsafe { slice::from_raw_parts(address as *const u8, length) })
    }
}

/// A copy of the ACPI root pointer at the named address, or where PCs have it.
pub fn root_pointer(named: u64) -> Option<Vec<u8>> {
    let found = acpi::root_pointer(&Physical, named).or_else(|| acpi::find_root_pointer(&Physical));
    found.map(<[u8]>::to_vec)
}

/// Pages that stay taken in the kernel's eyes.
pub struct HandedMemory {
    memory: Vec<MemoryArea>,
    /// What is in use while this program runs.
    taken: Vec<Range>,
    handed: Vec<MemoryArea>,
}

impl HandedMemory {
    pub fn new(memory: &[MemoryArea], taken: &[Range]) -> HandedMemory {
        let mut taken = taken.to_vec();
        taken.push(own_range());
        HandedMemory { memory: memory.to_vec(), taken, handed: Vec::new() }
    }

    /// What the kernel must leave alone.
    pub fn handed(&self) -> Vec<MemoryArea> {
        self.handed.clone()
    }
}

impl PhysicalMemory for HandedMemory {
    fn allocate(&mut self, bytes: usize, kind: AreaKind) -> Option<u64> {
        let base = find_pages(&self.memory, &self.taken, LOWEST_ADDRESS, bytes as u64)?;
        let size = bytes.max(1).next_multiple_of(BLOCK_BYTES) as u64;
        // SAFETY: free memory that nobody uses, mapped one to one.
        unsafe { core::ptr::write_bytes(base as *mut u8, 0, size as usize) };
        self.taken.push(Range { base, size });
        self.handed.push(MemoryArea { base, size, kind });
        Some(base)
    }

    fn bytes(&mut self, address: u64, length: usize) -> &mut [u8] {
        let inside = |area: &MemoryArea| area.base <= address && address + length as u64 <= area.end();
        assert!(self.handed.iter().any(inside), "memory that was not allocated");
        // SAFETY: inside pages this program owns, borrowed through `self`.
        unsafe { slice::from_raw_parts_mut(address as *mut u8, length) }
    }
}
