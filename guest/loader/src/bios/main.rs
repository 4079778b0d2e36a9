//! Starts a Redox image as the boot sector of its disk, for PCs with BIOS: finds RedoxFS, loads kernel and initfs from it
//! by BIOS's own disk service, and enters the kernel by Redox's boot protocol. Leaves the screen in text mode, shows no
//! menu, waits for no key, and writes to no disk.
#![no_std]
#![no_main]

extern crate alloc;

#[path = "../bare/mod.rs"]
mod bare;
mod boot_sector;
mod interrupt;
#[path = "../jump.rs"]
mod jump;
mod services;

use alloc::vec::Vec;
use core::panic::PanicInfo;

use redox_boot::areas::AreaMap;
use redox_boot::boot::{self, BootError, FirmwareInfo, Live};
use redox_boot::device::{BEYOND_END, DeviceError};
use redox_boot::limits::BIOS_DRIVES_MAX;
use redox_boot::partition::{USUAL_BLOCK, partition_blocks};
use redox_boot::protocol::Range;
use redox_boot::redoxfs::{FileSystem, FileSystemError};
use redox_boot::start::find_pages;
use redox_boot::text::Uuid;

use crate::bare::memory::{self, HEAP_BYTES, HandedMemory, LOWEST_ADDRESS};
use crate::services::{Drive, MemoryMap, say};

/// Number of the first fixed drive.
const FIRST_DRIVE: u8 = 0x80;

/// Called by the entry code with the number of the drive this program came from, in long mode, with memory below 8 GiB
/// mapped one to one.
pub extern "sysv64" fn loader_main(drive: u64, _: u64) -> ! {
    say(format_args!("rednix loader {} on {}/BIOS", env!("CARGO_PKG_VERSION"), jump::NAME));
    let map = MemoryMap::read();
    match find_pages(map.areas(), &[], LOWEST_ADDRESS, HEAP_BYTES as u64) {
        None => say(format_args!("error: BIOS names no {} MiB of free memory", HEAP_BYTES >> 20)),
        Some(heap) => {
            // SAFETY: once, before anything is allocated; BIOS says that the memory is free, and it is taken below.
            unsafe { memory::start_heap(heap) };
            load(drive as u8, &map, Range { base: heap, size: HEAP_BYTES as u64 });
        }
    }
    bare::stop()
}

/// Returns only where nothing can be started; it has said why then.
fn load(boot_drive: u8, map: &MemoryMap, heap: Range) {
    let mut file_system = match find_file_system(boot_drive) {
        Ok(file_system) => file_system,
        Err(FileSystemError::NotFound { .. }) => {
            return say(format_args!("error: no disk has a RedoxFS at the start of a partition or at 2 MiB"));
        }
        Err(error) => return say(format_args!("error: {error}")),
    };
    let header = file_system.header();
    let first = file_system.start_block();
    say(format_args!("RedoxFS {} with {} MiB at block {first}", Uuid(header.uuid), header.size >> 20));
    if let Err(error) = enter(&mut file_system, map, heap) {
        say(format_args!("error: {error}"));
    }
}

fn enter(file_system: &mut FileSystem<Drive>, map: &MemoryMap, heap: Range) -> Result<(), BootError> {
    let rsdp = memory::root_pointer(0);
    let mut memory = HandedMemory::new(map.areas(), &[heap]);
    let information = FirmwareInfo {
        rsdp: rsdp.as_deref(),
        framebuffers: &[],
        live: Live::No,
        // Firmware of this kind describes its devices otherwise.
        memory_slots: None,
        machine: jump::MACHINE,
    };
    let hand_over = boot::prepare(file_system, &mut memory, &information, &mut |step| say(step))?;
    let taken = memory.handed();
    let mut areas = alloc::boxed::Box::<AreaMap>::default();
    hand_over.write_areas(&mut memory, &mut areas, map.areas().iter().copied(), taken.into_iter())?;
    say(format_args!("entering the kernel"));
    // SAFETY: nothing of BIOS runs while interrupts are off, and `prepare` made tables that map all memory below 8 GiB
    // one to one.
    unsafe { jump::enter(&hand_over) }
}

/// Opens the first RedoxFS found, searching the drive this program came from before all others; on each its partitions,
/// then 2 MiB.
fn find_file_system(boot_drive: u8) -> Result<FileSystem<Drive>, FileSystemError> {
    let others = (FIRST_DRIVE..FIRST_DRIVE + BIOS_DRIVES_MAX).filter(|number| *number != boot_drive);
    let mut failure = FileSystemError::NotFound { block: USUAL_BLOCK };
    for mut drive in core::iter::once(boot_drive).chain(others).filter_map(Drive::open) {
        let mut starts: Vec<u64> = partition_blocks(&mut drive).unwrap_or_default();
        if !starts.contains(&USUAL_BLOCK) {
            starts.push(USUAL_BLOCK);
        }
        for start in starts {
            match FileSystem::open(drive, start) {
                Ok(file_system) => return Ok(file_system),
                // Partitions without a file system, or too small for one, are expected; others are worth naming.
                Err(FileSystemError::NotFound { .. }) => {}
                Err(FileSystemError::Device(DeviceError { code: BEYOND_END, .. })) => {}
                Err(error) => failure = error,
            }
        }
    }
    Err(failure)
}

#[panic_handler]
fn panic(panic: &PanicInfo<'_>) -> ! {
    say(format_args!("error: the loader stopped: {panic}"));
    bare::stop()
}
