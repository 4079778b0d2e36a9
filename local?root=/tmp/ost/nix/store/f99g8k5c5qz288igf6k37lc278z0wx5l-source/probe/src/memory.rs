//! Memory of this kernel: the heap over the free areas it was handed, physical memory as it is mapped, and windows on
//! devices. Frees single blocks for blocks of the same size and never gives pages back.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

use redox_boot::acpi::PhysicalReader;
use redox_boot::limits::{BLOCK_BYTES, MAPPED_BYTES};
use redox_boot::paging::{PageTables, PagingError, PhysicalMemory};
use redox_boot::protocol::{AreaKind, MemoryArea, PHYSICAL_OFFSET};

use crate::cpu;

/// Memory below is left to firmware and old devices.
const LOWEST_ADDRESS: u64 = 1 << 20;

/// Free areas used by the heap; the largest kernels' maps have a few dozen.
const REGIONS_MAX: usize = 64;

/// Smallest block, as a power of two, and how many sizes there are.
const SMALLEST_SHIFT: u32 = 5;
const SIZES: usize = 36;

/// What is left of a free area, as physical addresses of whole pages.
#[derive(Clone, Copy)]
struct Region {
    next: u64,
    end: u64,
}

struct Heap {
    regions: [Region; REGIONS_MAX],
    region_count: usize,
    /// First free block of each size; a free block starts with the address of the next.
    free: [*mut u8; SIZES],
    used: usize,
}

struct SharedHeap(UnsafeCell<Heap>);

// SAFETY: one processor, and no interrupt handler allocates.
unsafe impl Sync for SharedHeap {}

#[global_allocator]
static HEAP: SharedHeap = SharedHeap(UnsafeCell::new(Heap {
    regions: [Region { next: 0, end: 0 }; REGIONS_MAX],
    region_count: 0,
    free: [ptr::null_mut(); SIZES],
    used: 0,
}));

/// Gives the heap the free areas that are mapped.
pub fn start(areas: impl Iterator<Item = MemoryArea>) {
    // SAFETY: nothing has been allocated yet.
    let heap = unsafe { &mut *HEAP.0.get() };
    for area in areas.filter(|area| area.kind == AreaKind::Free) {
        let page = BLOCK_BYTES as u64;
        let next = area.base.max(LOWEST_ADDRESS).next_multiple_of(page);
        let end = area.end().min(MAPPED_BYTES) / page * page;
        if next < end && heap.region_count < REGIONS_MAX {
            heap.regions[heap.region_count] = Region { next, end };
            heap.region_count += 1;
        }
    }
}

/// Bytes in use and bytes never used yet.
pub fn heap_state() -> (u64, u64) {
    // SAFETY: see `SharedHeap`.
    let heap = unsafe { &*HEAP.0.get() };
    let unused = heap.regions[..heap.region_count].iter().map(|region| region.end - region.next).sum();
    (heap.used as u64, unused)
}

impl Heap {
    /// Whole pages never used before.
    fn take_pages(&mut self, bytes: usize) -> *mut u8 {
        for region in &mut self.regions[..self.region_count] {
            if region.end - region.next >= bytes as u64 {
                let address = PHYSICAL_OFFSET + region.next;
                region.next += bytes as u64;
                return address as *mut u8;
            }
        }
        ptr::null_mut()
    }

    fn refill(&mut self, size: usize, index: usize) {
        let pages = size.max(BLOCK_BYTES);
        let start = self.take_pages(pages);
        if start.is_null() {
            return;
        }
        for offset in (0..pages).step_by(size) {
            // SAFETY: inside the pages just taken; blocks are at least as large as a pointer.
            unsafe {
                let block = start.add(offset);
                block.cast::<*mut u8>().write(self.free[index]);
                self.free[index] = block;
            }
        }
    }
}

/// The block size that serves a layout, and its index.
fn size_class(layout: Layout) -> Option<(usize, usize)> {
    let size = layout.size().max(layout.align()).max(1 << SMALLEST_SHIFT).checked_next_power_of_two()?;
    let index = (size.trailing_zeros() - SMALLEST_SHIFT) as usize;
    // Blocks of a page and more start on a page, whatever their size.
    (index < SIZES && layout.align() <= BLOCK_BYTES).then_some((size, index))
}

// SAFETY: blocks are disjoint parts of free areas, at least as large and aligned as asked.
unsafe impl GlobalAlloc for SharedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((size, index)) = size_class(layout) else { return ptr::null_mut() };
        // SAFETY: see `SharedHeap`.
        let heap = unsafe { &mut *self.0.get() };
        if heap.free[index].is_null() {
            heap.refill(size, index);
        }
        let block = heap.free[index];
        if !block.is_null() {
            // SAFETY: a free block holds the address of the next.
            heap.free[index] = unsafe { block.cast::<*mut u8>().read() };
            heap.used += size;
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((size, index)) = size_class(layout) else { return };
        // SAFETY: see `SharedHeap`; the caller gives back a block of this layout.
        unsafe {
            let heap = &mut *self.0.get();
            block.cast::<*mut u8>().write(heap.free[index]);
            heap.free[index] = block;
            heap.used -= size;
        }
    }
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
