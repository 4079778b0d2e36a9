//! From what a monitor handed over to the kernel. Knows both protocols' information by its common form only.

use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::panic::PanicInfo;

use redox_boot::areas::AreaMap;
use redox_boot::boot::{self, BootError, FirmwareInfo, Live};
use redox_boot::device::MemoryDisk;
use redox_boot::limits::{BLOCK_BYTES, MAPPED_BYTES};
use redox_boot::partition::USUAL_BLOCK;
use redox_boot::protocol::{AreaKind, MemoryArea, Range};
use redox_boot::redoxfs::{FileSystem, FileSystemError};
use redox_boot::start::StartInfo;
use redox_boot::text::Uuid;
use redox_boot::virtio::slots::Slot;
use redox_boot::{acpi_repair, linux, pvh};

use crate::bare::console::say;
use crate::bare::memory::{self, HEAP_BYTES, HandedMemory, Physical};
use crate::{bare, jump, start, timer};

#[repr(C, align(4096))]
struct HeapSpace(UnsafeCell<[u8; HEAP_BYTES]>);

// SAFETY: only its address is used, by the heap.
unsafe impl Sync for HeapSpace {}

static HEAP_SPACE: HeapSpace = HeapSpace(UnsafeCell::new([0; HEAP_BYTES]));

/// Called by the entry code with the address of the start information and its kind, in long mode, with memory below
/// 8 GiB mapped one to one.
pub extern "sysv64" fn loader_main(information: u64, kind: u64) -> ! {
    // SAFETY: first of all, once; the space is this program's own.
    unsafe { memory::start_heap(HEAP_SPACE.0.get() as u64) };
    let protocol = if kind == start::LINUX { "Linux's protocol" } else { "PVH" };
    say(format_args!("rednix loader {} on {}/{protocol}", env!("CARGO_PKG_VERSION"), jump::NAME));
    let start = match kind {
        start::LINUX => {
            linux::read(&Physical, information).map_err(|error| say(format_args!("error: {error}")))
        }
        _ => pvh::read(&Physical, information).map_err(|error| say(format_args!("error: {error}"))),
    };
    if let Ok(start) = start {
        load(&start);
    }
    bare::stop()
}

/// Returns only where nothing can be started; it has said why then.
fn load(start: &StartInfo) {
    let Some(image) = start.modules.first().copied() else {
        return say(format_args!("error: the monitor passed no image; it is given as the initial ramdisk"));
    };
    let Some(bytes) = module(image) else {
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
    let taken = [&start.own[..], &start.modules[..]].concat();
    let mut memory = HandedMemory::new(&start.memory, &taken);
    let rsdp = memory::root_pointer(start.rsdp).map(|rsdp| repaired(rsdp, &mut memory));
    if rsdp.is_none() {
        say(format_args!("the monitor describes the machine by no ACPI tables"));
    }
    let slots = Slot::list_of_command_line(&start.command_line);
    let information = FirmwareInfo {
        rsdp: rsdp.as_deref(),
        framebuffers: &[],
        // The kernel shows its processes whole pages only.
        live: if live.base.is_multiple_of(BLOCK_BYTES as u64) { Live::Present(live) } else { Live::Copy },
        memory_slots: slots.as_deref(),
        machine: jump::MACHINE,
    };
    if let Err(error) = enter(&mut file_system, &mut memory, &information, start, image) {
        say(format_args!("error: {error}"));
    }
}

/// The root pointer of tables that Redox can use.
fn repaired(rsdp: Vec<u8>, memory: &mut HandedMemory) -> Vec<u8> {
    match acpi_repair::repair(&Physical, &rsdp, memory) {
        Ok(repair) => {
            if repair.rsdp.is_some() {
                say(format_args!("put into the ACPI tables: {repair}"));
            }
            repair.rsdp.unwrap_or(rsdp)
        }
        Err(error) => {
            say(format_args!("warning: {error}; the ACPI tables stay as they are"));
            rsdp
        }
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
    // The image stays in its place unless it was copied.
    let keeps_image = matches!(information.live, Live::Present(_));
    let kept = MemoryArea { base: image.base, size: image.size, kind: AreaKind::Reserved };
    let taken = memory.handed().into_iter().chain(keeps_image.then_some(kept));
    let mut areas = alloc::boxed::Box::<AreaMap>::default();
    hand_over.write_areas(memory, &mut areas, start.memory.iter().copied(), taken)?;
    // Last, because some monitors run a program slowly while an interrupt waits for it.
    if timer::prepare(information.rsdp) {
        say(format_args!("no timer that the kernel knows: started the processor's own in its place"));
    }
    say(format_args!("entering the kernel"));
    // SAFETY: nothing of firmware runs, and `prepare` made tables that map all memory below 8 GiB one to one.
    unsafe { jump::enter(&hand_over) }
}

/// The bytes of a module.
fn module(range: Range) -> Option<&'static [u8]> {
    let end = range.base.checked_add(range.size)?;
    // SAFETY: mapped one to one; pages for the hand-over are never taken from it.
    (range.base != 0 && end <= MAPPED_BYTES)
        .then(|| unsafe { core::slice::from_raw_parts(range.base as *const u8, range.size as usize) })
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
    bare::stop()
}
