//! Physical memory of the firmware: pages for the hand-over, its map, and leaving it. Nothing is given back.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::slice;

use redox_boot::areas::AreaMap;
use redox_boot::boot::{BootError, HandOver};
use redox_boot::limits::{BLOCK_BYTES, MAPPED_BYTES};
use redox_boot::paging::PhysicalMemory;
use redox_boot::protocol::{AreaKind, MemoryArea};

use crate::firmware::{self, boot_services};
use crate::uefi::*;

/// Ranges by which the map may grow between being asked for and being read.
const SPARE_DESCRIPTORS: usize = 64;

/// How often the map is read again because it changed.
const ATTEMPTS_MAX: usize = 8;

/// Below it kernels start further processors.
const LOWEST_ADDRESS: u64 = 1 << 20;

/// Whole pages below 8 GiB, zeroed.
pub fn allocate_pages(bytes: usize) -> Option<u64> {
    let services = boot_services();
    let pages = bytes.div_ceil(BLOCK_BYTES);
    let allowed = LOWEST_ADDRESS..=MAPPED_BYTES.saturating_sub((pages * BLOCK_BYTES) as u64);
    // Small firmware gives the lowest place below a limit, large firmware the highest place where there is none.
    for (kind, limit) in [(ALLOCATE_MAX_ADDRESS, MAPPED_BYTES - 1), (ALLOCATE_ANY_PAGES, 0)] {
        let mut address = limit;
        if !(services.allocate_pages)(kind, LOADER_DATA, pages, &mut address).succeeded() {
            continue;
        }
        if allowed.contains(&address) {
            // SAFETY: the firmware just gave these pages to this program; it maps memory one to one.
            unsafe { core::ptr::write_bytes(address as *mut u8, 0, pages * BLOCK_BYTES) };
            return Some(address);
        }
        (services.free_pages)(address, pages);
    }
    None
}

/// Pages that stay taken in the kernel's eyes.
#[derive(Default)]
pub struct HandedMemory {
    taken: Vec<MemoryArea>,
}

impl PhysicalMemory for HandedMemory {
    fn allocate(&mut self, bytes: usize, kind: AreaKind) -> Option<u64> {
        let base = allocate_pages(bytes)?;
        self.taken.push(MemoryArea { base, size: bytes.next_multiple_of(BLOCK_BYTES) as u64, kind });
        Some(base)
    }

    fn bytes(&mut self, address: u64, length: usize) -> &mut [u8] {
        let inside = |area: &MemoryArea| area.base <= address && address + length as u64 <= area.end();
        assert!(self.taken.iter().any(inside), "memory that was not allocated");
        // SAFETY: inside pages this program owns, borrowed through `self`; memory is mapped one to one.
        unsafe { slice::from_raw_parts_mut(address as *mut u8, length) }
    }
}

/// The firmware's map in memory of its own.
struct FirmwareMap {
    buffer: Vec<u64>,
    used_bytes: usize,
    descriptor_bytes: usize,
    key: usize,
}

impl FirmwareMap {
    fn new() -> Result<FirmwareMap, Status> {
        let mut map = FirmwareMap { buffer: Vec::new(), used_bytes: 0, descriptor_bytes: 0, key: 0 };
        let status = map.read();
        if status != Status::BUFFER_TOO_SMALL || map.descriptor_bytes < size_of::<MemoryDescriptor>() {
            return Err(status);
        }
        let bytes = map.used_bytes + SPARE_DESCRIPTORS * map.descriptor_bytes;
        map.buffer = alloc::vec![0; bytes.div_ceil(size_of::<u64>())];
        match map.read() {
            status if status.succeeded() => Ok(map),
            status => Err(status),
        }
    }

    fn read(&mut self) -> Status {
        let mut version = 0;
        self.used_bytes = size_of_val(self.buffer.as_slice());
        (boot_services().get_memory_map)(
            &mut self.used_bytes,
            self.buffer.as_mut_ptr().cast::<c_void>(),
            &mut self.key,
            &mut self.descriptor_bytes,
            &mut version,
        )
    }

    fn areas(&self) -> impl Iterator<Item = MemoryArea> + Clone + '_ {
        (0..self.used_bytes / self.descriptor_bytes).map(|index| {
            // SAFETY: the firmware filled `used_bytes` of the buffer with records of `descriptor_bytes`.
            let descriptor = unsafe {
                let place = self.buffer.as_ptr().cast::<u8>().add(index * self.descriptor_bytes);
                place.cast::<MemoryDescriptor>().read_unaligned()
            };
            MemoryArea {
                base: descriptor.physical_start,
                size: descriptor.page_count.saturating_mul(BLOCK_BYTES as u64),
                kind: match descriptor.kind {
                    // Code and data of loaders and of boot services, and what nobody has used.
                    1..=4 | 7 => AreaKind::Free,
                    _ => AreaKind::Reserved,
                },
            }
        })
    }
}

/// Why the firmware could not be left.
pub enum ExitError {
    Map(Status),
    Boot(BootError),
    Exit(Status),
}

/// Leaves the firmware and writes the memory areas as they are from then on.
pub fn exit_boot_services(
    image: Handle,
    memory: &mut HandedMemory,
    hand_over: &HandOver,
) -> Result<(), ExitError> {
    let taken = memory.taken.clone();
    let mut areas = Box::<AreaMap>::default();
    let mut map = FirmwareMap::new().map_err(ExitError::Map)?;
    // Once as a trial, while an error can still be told.
    let write = |memory: &mut HandedMemory, areas: &mut AreaMap, map: &FirmwareMap| {
        hand_over.write_areas(memory, areas, map.areas(), taken.iter().copied())
    };
    write(memory, &mut areas, &map).map_err(ExitError::Boot)?;
    let mut status = Status::LOAD_ERROR;
    for _ in 0..ATTEMPTS_MAX {
        status = map.read();
        if !status.succeeded() {
            return Err(ExitError::Map(status));
        }
        status = (boot_services().exit_boot_services)(image, map.key);
        if status.succeeded() {
            firmware::end();
            // It fits: at most some spare ranges differ from the trial.
            return write(memory, &mut areas, &map).map_err(ExitError::Boot);
        }
    }
    Err(ExitError::Exit(status))
}
