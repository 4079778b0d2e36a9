//! Starts a Redox image that a monitor without firmware put into memory: entered by the PVH boot protocol, takes the
//! first module as the image (a disk, or a bare RedoxFS), and enters the kernel with the file system as live memory.
//! Shows no menu, knows no disk, needs no firmware.
#![no_std]
#![no_main]

extern crate alloc;

#[path = "../jump.rs"]
mod jump;
mod machine;
mod start;

use core::panic::PanicInfo;

use redox_boot::areas::AreaMap;
use redox_boot::boot::{self, BootError, FirmwareInfo, Live};
use redox_boot::device::MemoryDisk;
use redox_boot::limits::BLOCK_BYTES;
use redox_boot::partition::USUAL_BLOCK;
use redox_boot::protocol::Range;
use redox_boot::pvh::StartInfo;
use redox_boot::redoxfs::{FileSystem, FileSystemError};
use redox_boot::text::Uuid;
use redox_boot::virtio::slots::Slot;

use crate::machine::{HandedMemory, Physical, say};

/// Called by the entry code with the address of the start information, in long mode, with memory below 8 GiB mapped one
/// to one.
extern "sysv64" fn loader_main(start_info: u64) -> ! {
    machine::start();
    say(format_args!("rednix loader {} on {}/PVH", env!("CARGO_PKG_VERSION"), jump::NAME));
    load(start_info);
    machine::stop()
}

/// Returns only where nothing can be started; it has said why then.
fn load(start_info: u64) {
    let start = match StartInfo::read(&Physical, start_info) {
        Ok(start) => start,
        Err(error) => return say(format_args!("error: {error}")),
    };
    let Some(image) = start.modules.first().copied() else {
        return say(format_args!("error: the monitor passed no image; it is given as the initial ramdisk"));
    };
    let Some(bytes) = machine::module(image) else {
        return say(format_args!(
            "error: the image at {:#x} lies above 8 GiB; give the machine less memory",
            image.base
        ));
    };
    let mut file_system = match open(bytes) {
        Ok(file_system) => file_system,
        Err(error) => return say(format_args!("error: the image of {} bytes: {error}", bytes.len())),
    };
    let header = file_system.header();
    let first = file_system.start_block() * BLOCK_BYTES as u64;
    say(format_args!("RedoxFS {} with {} MiB in memory", Uuid(header.uuid), header.size >> 20));
    let live = Range { base: image.base + first, size: header.size.min(image.size - first) };
    let rsdp = machine::rsdp(start.rsdp);
    let mut memory = HandedMemory::new(&start, image);
    let slots = Slot::list_of_command_line(&start.command_line);
    let information = FirmwareInfo {
        rsdp: rsdp.as_deref(),
        framebuffers: &[],
        // The kernel shows its processes whole pages only.
        live: if live.base.is_multiple_of(BLOCK_BYTES as u64) { Live::Present(live) } else { Live::Copy },
        memory_slots: slots.as_deref(),
        machine: jump::MACHINE,
    };
    if let Err(error) = enter(&mut file_system, &mut memory, &information, &start, image) {
        say(format_args!("error: {error}"));
    }
}

fn enter(
    file_system: &mut FileSystem<MemoryDisk<'_>>,
    memory: &mut HandedMemory,
    information: &FirmwareInfo<'_>,
    start: &StartInfo,
    image: Range,
) -> Result<(), BootError> {
    let hand_over = boot::prepare(file_system, memory, information, &mut |step| say(step))?;
    let keeps_image = matches!(information.live, Live::Present(_));
    let taken = memory.areas(keeps_image.then_some(image));
    let mut areas = alloc::boxed::Box::<AreaMap>::default();
    hand_over.write_areas(memory, &mut areas, start.memory.iter().copied(), taken.into_iter())?;
    say(format_args!("entering the kernel"));
    // SAFETY: nothing of firmware runs, and `prepare` made tables that map all memory below 8 GiB one to one.
    unsafe { jump::enter(&hand_over) }
}

/// A whole disk has its file system at 2 MiB, anything else from the start.
fn open(bytes: &[u8]) -> Result<FileSystem<MemoryDisk<'_>>, FileSystemError> {
    FileSystem::open(MemoryDisk(bytes), USUAL_BLOCK).or_else(|error| {
        // What is said of the usual place is more likely to help.
        FileSystem::open(MemoryDisk(bytes), 0).map_err(|_| error)
    })
}

#[panic_handler]
fn panic(panic: &PanicInfo<'_>) -> ! {
    say(format_args!("error: the loader stopped: {panic}"));
    machine::stop()
}
