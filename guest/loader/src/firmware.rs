//! Safe calls of the firmware: console, allocator, protocols, ACPI. Ends with `exit_boot_services` in `memory`; after
//! that nothing here may be called but what reads already known values.

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::arch::asm;
use core::ffi::c_void;
use core::fmt::{self, Write};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use redox_boot::boot::Framebuffer;
use redox_boot::limits::{MAPPED_BYTES, RSDP_BYTES_MAX};

use crate::uefi::*;

static SYSTEM_TABLE: AtomicPtr<SystemTable> = AtomicPtr::new(ptr::null_mut());

/// Handles of one protocol that are looked at.
const HANDLES_MAX: usize = 1024;

/// Remembers the firmware's table.
///
/// # Safety
/// `table` must be the table the firmware gave to the entry point.
pub unsafe fn start(table: *mut SystemTable) {
    SYSTEM_TABLE.store(table, Ordering::Relaxed);
    // The firmware would reset a machine whose loader takes more than five minutes.
    let _ = (boot_services().set_watchdog_timer)(0, 0, 0, ptr::null());
}

/// Forgets the firmware, so that the allocator gives out and takes back nothing more.
pub fn end() {
    SYSTEM_TABLE.store(ptr::null_mut(), Ordering::Relaxed);
}

pub fn running() -> bool {
    !SYSTEM_TABLE.load(Ordering::Relaxed).is_null()
}

fn system_table() -> &'static SystemTable {
    // SAFETY: set once by `start` to the firmware's table, which stays valid until `end`.
    unsafe { &*SYSTEM_TABLE.load(Ordering::Relaxed) }
}

pub fn boot_services() -> &'static BootServices {
    // SAFETY: the firmware's table names its boot services until they are left.
    unsafe { &*system_table().boot_services }
}

/// The firmware's text console.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !running() || system_table().console_out.is_null() {
            return Ok(());
        }
        let output = system_table().console_out;
        let mut units = [0u16; 64];
        let mut used = 0;
        let flush = |units: &mut [u16; 64], used: &mut usize| {
            units[*used] = 0;
            // SAFETY: the console is the firmware's own object, the text ends with a zero.
            let _ = unsafe { ((*output).output_string)(output, units.as_ptr()) };
            *used = 0;
        };
        for unit in text.encode_utf16() {
            if unit == u16::from(b'\n') {
                units[used] = u16::from(b'\r');
                used += 1;
            }
            units[used] = unit;
            used += 1;
            if used + 3 > units.len() {
                flush(&mut units, &mut used);
            }
        }
        if used > 0 {
            flush(&mut units, &mut used);
        }
        Ok(())
    }
}

/// Writes a line to the firmware's console.
pub fn say(arguments: fmt::Arguments<'_>) {
    let _ = writeln!(Console, "{arguments}");
}

/// Memory from the firmware's pool, which is free for the kernel later.
struct Pool;

#[global_allocator]
static POOL: Pool = Pool;

/// Alignment the firmware promises for its pool.
const POOL_ALIGNMENT: usize = 8;

// SAFETY: blocks come from the firmware's allocator, aligned by hand where it promises less; a null block means failure.
unsafe impl GlobalAlloc for Pool {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !running() {
            return ptr::null_mut();
        }
        let mut block = ptr::null_mut();
        if layout.align() <= POOL_ALIGNMENT {
            let status = (boot_services().allocate_pool)(LOADER_DATA, layout.size().max(1), &mut block);
            return if status.succeeded() { block } else { ptr::null_mut() };
        }
        // Room to move up, and for the block's own address just below the aligned one.
        let Some(size) = layout.size().checked_add(layout.align() + size_of::<usize>()) else {
            return ptr::null_mut();
        };
        if !(boot_services().allocate_pool)(LOADER_DATA, size, &mut block).succeeded() || block.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: the aligned address and the word below it lie inside the block just made.
        unsafe {
            let start = block.add(size_of::<usize>());
            let aligned = start.add(start.align_offset(layout.align()));
            aligned.cast::<*mut u8>().sub(1).write(block);
            aligned
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !running() {
            return;
        }
        let block = if layout.align() <= POOL_ALIGNMENT {
            block
        } else {
            // SAFETY: `alloc` stored the pool's own address there for such alignments.
            unsafe { block.cast::<*mut u8>().sub(1).read() }
        };
        let _ = (boot_services().free_pool)(block);
    }
}

/// The interface of a protocol on a handle.
pub fn protocol<T>(handle: Handle, guid: &Guid) -> Option<*mut T> {
    let mut interface: *mut c_void = ptr::null_mut();
    let status = (boot_services().handle_protocol)(handle, guid, &mut interface);
    (status.succeeded() && !interface.is_null()).then_some(interface.cast())
}

/// All handles that have a protocol, in the firmware's order.
pub fn handles(guid: &Guid) -> Vec<Handle> {
    let mut handles = alloc::vec![ptr::null_mut(); HANDLES_MAX];
    let mut bytes = size_of_val(handles.as_slice());
    let status = (boot_services().locate_handle)(
        LOCATE_BY_PROTOCOL,
        guid,
        ptr::null(),
        &mut bytes,
        handles.as_mut_ptr(),
    );
    let found = if status.succeeded() { bytes / size_of::<Handle>() } else { 0 };
    handles.truncate(found);
    handles
}

/// The ACPI root pointer, the one of version 2 before the old one, as far as its checksum is right.
pub fn rsdp() -> Option<Vec<u8>> {
    let table = system_table();
    // SAFETY: the firmware states how many records its array has.
    let tables =
        unsafe { core::slice::from_raw_parts(table.configuration_tables, table.configuration_table_count) };
    [ACPI_20_TABLE, ACPI_10_TABLE].iter().find_map(|guid| {
        let address = tables.iter().find(|entry| entry.guid == *guid)?.table.cast::<u8>();
        // SAFETY: the firmware vouches for a root pointer there; its first 20 bytes are in every version.
        let first = unsafe { core::slice::from_raw_parts(address, 20) };
        let length = if first[15] >= 2 {
            // SAFETY: from revision 2 on there are 36 bytes, of which four state the length.
            let length: [u8; 4] =
                unsafe { core::slice::from_raw_parts(address.add(20), 4) }.try_into().ok()?;
            u32::from_le_bytes(length) as usize
        } else {
            20
        };
        if !(20..=RSDP_BYTES_MAX).contains(&length) {
            return None;
        }
        // SAFETY: as long as the structure itself states, within the limit.
        let bytes = unsafe { core::slice::from_raw_parts(address, length) };
        let valid = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0;
        (bytes.starts_with(b"RSD PTR ") && valid(&bytes[..20]) && valid(bytes)).then(|| bytes.to_vec())
    })
}

/// The picture memories of all displays, each in the mode the firmware chose.
pub fn framebuffers() -> Vec<Framebuffer> {
    let mut framebuffers: Vec<Framebuffer> = Vec::new();
    for handle in handles(&GRAPHICS_OUTPUT) {
        let Some(output) = protocol::<GraphicsOutput>(handle, &GRAPHICS_OUTPUT) else { continue };
        // SAFETY: the firmware's objects; each pointer is checked before the next is followed.
        let (mode, info) = unsafe {
            let Some(mode) = (*output).mode.as_ref() else { continue };
            let Some(info) = mode.info.as_ref() else { continue };
            (mode, info)
        };
        let framebuffer = Framebuffer {
            address: mode.framebuffer_base,
            width: u64::from(info.horizontal_resolution),
            height: u64::from(info.vertical_resolution),
            stride: u64::from(info.pixels_per_scan_line),
        };
        let shown = info.pixel_format < PIXELS_BLT_ONLY
            && framebuffer.address != 0
            && framebuffer.width * framebuffer.height != 0
            && framebuffers.iter().all(|other| other.address != framebuffer.address);
        if shown {
            framebuffers.push(framebuffer);
        }
    }
    framebuffers
}

/// What of the processor's state makes the jump impossible.
pub fn obstacle() -> Option<&'static str> {
    const CR4_FIVE_LEVELS: u64 = 1 << 12;
    let cr4: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack)) };
    if cr4 & CR4_FIVE_LEVELS != 0 {
        return Some("the firmware uses page tables of five levels, which Redox's protocol does not know");
    }
    // The code that switches page tables must lie where the new ones map it.
    (obstacle as *const () as u64 >= MAPPED_BYTES).then_some("the firmware loaded this program above 8 GiB")
}
