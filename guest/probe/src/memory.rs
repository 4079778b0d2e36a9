//! Memory of this kernel: the heap over the free areas it was handed, physical memory as it is mapped, and windows on
//! devices.

use core::alloc::Layout;

use redox_boot::acpi::PhysicalReader;
use redox_boot::heap::Heap;
use redox_boot::limits::{BLOCK_BYTES, MAPPED_BYTES};
use redox_boot::paging::{PageTables, PagingError, PhysicalMemory};
use redox_boot::protocol::{AreaKind, MemoryArea, PHYSICAL_OFFSET};

use crate::cpu;

#[global_allocator]
static HEAP: Heap = Heap::new();

/// Gives the heap the free areas that are mapped.
pub fn start(areas: impl Iterator<Item = MemoryArea>) {
    // SAFETY: the protocol maps memory below 8 GiB there, and what is free is this kernel's.
    unsafe { HEAP.start(PHYSICAL_OFFSET, areas) };
}

/// Bytes in use and bytes never used yet.
pub fn heap_state() -> (u64, u64) {
    HEAP.state()
}

/// Physical memory through the window at `PHYSICAL_OFFSET`.
pub struct Physical;

impl PhysicalReader for Physical {
    fn read(&self, address: u64, length: usize) -> Option<&[u8]> {
        let end = address.checked_add(length as u64)?;
        if end > MAPPED_BYTES {
            return None;
        }
        // SAFETY: the protocol maps all memory below 8 GiB; tables of the firmware do not change.
        Some(unsafe { core::slice::from_raw_parts((PHYSICAL_OFFSET + address) as *const u8, length) })
    }
}

/// The physical address of memory that a device may read and write.
pub fn physical_address(start: *const u8, length: usize) -> Option<u64> {
    let address = (start as u64).checked_sub(PHYSICAL_OFFSET)?;
    (address.checked_add(length as u64)? <= MAPPED_BYTES).then_some(address)
}

/// Page tables made of this kernel's own heap.
struct TableMemory;

impl PhysicalMemory for TableMemory {
    fn allocate(&mut self, bytes: usize, _: AreaKind) -> Option<u64> {
        let layout = Layout::from_size_align(bytes.next_multiple_of(BLOCK_BYTES), BLOCK_BYTES).ok()?;
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc::alloc::alloc_zeroed(layout) };
        physical_address(start, bytes)
    }

    fn bytes(&mut self, address: u64, length: usize) -> &mut [u8] {
        // SAFETY: only page tables are reached by this, and only while one builder holds them.
        unsafe { core::slice::from_raw_parts_mut((PHYSICAL_OFFSET + address) as *mut u8, length) }
    }
}

/// Makes a device's registers visible and gives their virtual address.
pub fn map_device(base: u64, bytes: u64) -> Result<u64, PagingError> {
    let mut memory = TableMemory;
    let address = PageTables::existing(&mut memory, cpu::page_table()).map_physical(base, bytes)?;
    cpu::reload_page_table();
    Ok(address)
}
