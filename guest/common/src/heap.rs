//! A heap over areas of free memory, for programs without an operating system. Frees single blocks for blocks of the same
//! size and never gives pages back; one processor, no interrupts.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

use crate::limits::{BLOCK_BYTES, HEAP_REGIONS_MAX, MAPPED_BYTES};
use crate::protocol::{AreaKind, MemoryArea};

/// Memory below is left to firmware and old devices.
const LOWEST_ADDRESS: u64 = 1 << 20;

/// Smallest block, as a power of two, and how many sizes there are.
const SMALLEST_SHIFT: u32 = 5;
const SIZES: usize = 36;

/// What is left of a free area, as physical addresses of whole pages.
#[derive(Clone, Copy)]
struct Region {
    next: u64,
    end: u64,
}

struct Blocks {
    /// What is added to a physical address to reach it.
    offset: u64,
    regions: [Region; HEAP_REGIONS_MAX],
    region_count: usize,
    /// First free block of each size; a free block starts with the address of the next.
    free: [*mut u8; SIZES],
    used: usize,
}

/// To be the program's global allocator. Gives nothing out before `start`.
pub struct Heap(UnsafeCell<Blocks>);

// SAFETY: one processor, and no interrupt handler allocates.
unsafe impl Sync for Heap {}

impl Default for Heap {
    fn default() -> Self {
        Heap::new()
    }
}

impl Heap {
    pub const fn new() -> Heap {
        Heap(UnsafeCell::new(Blocks {
            offset: 0,
            regions: [Region { next: 0, end: 0 }; HEAP_REGIONS_MAX],
            region_count: 0,
            free: [ptr::null_mut(); SIZES],
            used: 0,
        }))
    }

    /// Gives the heap the free areas below 8 GiB.
    ///
    /// # Safety
    /// Physical memory in these areas must be mapped at `offset`, and nobody else may use it; to be called once, before
    /// anything is allocated.
    pub unsafe fn start(&self, offset: u64, areas: impl Iterator<Item = MemoryArea>) {
        // SAFETY: nothing has been allocated yet.
        let blocks = unsafe { &mut *self.0.get() };
        blocks.offset = offset;
        for area in areas.filter(|area| area.kind == AreaKind::Free) {
            let page = BLOCK_BYTES as u64;
            let next = area.base.max(LOWEST_ADDRESS).next_multiple_of(page);
            let end = area.end().min(MAPPED_BYTES) / page * page;
            if next < end && blocks.region_count < HEAP_REGIONS_MAX {
                blocks.regions[blocks.region_count] = Region { next, end };
                blocks.region_count += 1;
            }
        }
    }

    /// Bytes in use and bytes never used yet.
    pub fn state(&self) -> (u64, u64) {
        // SAFETY: see `Sync`.
        let blocks = unsafe { &*self.0.get() };
        let unused =
            blocks.regions[..blocks.region_count].iter().map(|region| region.end - region.next).sum();
        (blocks.used as u64, unused)
    }
}

impl Blocks {
    /// Whole pages never used before.
    fn take_pages(&mut self, bytes: usize) -> *mut u8 {
        for region in &mut self.regions[..self.region_count] {
            if region.end - region.next >= bytes as u64 {
                let address = self.offset + region.next;
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
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((size, index)) = size_class(layout) else { return ptr::null_mut() };
        // SAFETY: see `Sync`.
        let blocks = unsafe { &mut *self.0.get() };
        if blocks.free[index].is_null() {
            blocks.refill(size, index);
        }
        let block = blocks.free[index];
        if !block.is_null() {
            // SAFETY: a free block holds the address of the next.
            blocks.free[index] = unsafe { block.cast::<*mut u8>().read() };
            blocks.used += size;
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((size, index)) = size_class(layout) else { return };
        // SAFETY: see `Sync`; the caller gives back a block of this layout.
        unsafe {
            let blocks = &mut *self.0.get();
            block.cast::<*mut u8>().write(blocks.free[index]);
            blocks.free[index] = block;
            blocks.used -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that stands for a machine's, above the lowest address by its offset.
    #[test]
    fn blocks_are_disjoint_and_come_again() {
        let memory = std::vec![0u64; 64 << 10].leak();
        let page = BLOCK_BYTES as u64;
        let start = (memory.as_ptr() as u64).next_multiple_of(page);
        let heap = Heap::new();
        let area = MemoryArea { base: LOWEST_ADDRESS, size: 256 << 10, kind: AreaKind::Free };
        // SAFETY: the area is this test's own memory, seen through the offset.
        unsafe { heap.start(start.wrapping_sub(LOWEST_ADDRESS), [area].into_iter()) };
        let layout = |size, align| Layout::from_size_align(size, align).expect("a layout");
        let mut taken: std::vec::Vec<(u64, usize)> = std::vec::Vec::new();
        for (size, align) in [(1, 1), (24, 8), (100, 64), (5000, 4096), (4096, 8), (33, 1)] {
            // SAFETY: no layout is empty.
            let block = unsafe { heap.alloc(layout(size, align)) } as u64;
            assert!(block != 0 && block.is_multiple_of(align as u64));
            assert!(
                taken
                    .iter()
                    .all(|(other, length)| block + size as u64 <= *other || other + *length as u64 <= block)
            );
            taken.push((block, size));
        }
        // SAFETY: the block was given out with this layout.
        unsafe { heap.dealloc(taken[1].0 as *mut u8, layout(24, 8)) };
        // SAFETY: as above.
        assert_eq!(unsafe { heap.alloc(layout(30, 8)) } as u64, taken[1].0);
        // SAFETY: as above.
        assert!(unsafe { heap.alloc(layout(1 << 20, 8)) }.is_null());
        // SAFETY: as above.
        assert!(unsafe { heap.alloc(layout(8, 8192)) }.is_null());
    }
}
