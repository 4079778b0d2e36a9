//! Starts a Redox image as a UEFI application: finds RedoxFS, loads kernel and initfs from it, and enters the kernel by
//! Redox's boot protocol. Shows no menu, waits for no key, and writes to no disk.
#![no_std]
#![no_main]

extern crate alloc;

mod disk;
mod firmware;
mod jump;
mod memory;
mod uefi;

use core::panic::PanicInfo;

use redox_boot::boot::{self, FirmwareInfo, Live};
use redox_boot::redoxfs::FileSystemError;
use redox_boot::text::Uuid;

use crate::firmware::say;
use crate::memory::{ExitError, HandedMemory};
use crate::uefi::{Handle, Status, SystemTable};

/// The firmware calls this. A return leads back to the firmware, which then tries its next choice.
#[unsafe(no_mangle)]
extern "efiapi" fn efi_main(image: Handle, table: *mut SystemTable) -> Status {
    // SAFETY: the firmware's own table.
    unsafe { firmware::start(table) };
    say(format_args!("rednix loader {} on {}/UEFI", env!("CARGO_PKG_VERSION"), jump::NAME));
    start(image)
}

fn start(image: Handle) -> Status {
    if let Some(obstacle) = firmware::obstacle() {
        say(format_args!("error: {obstacle}"));
        return Status::LOAD_ERROR;
    }
    let mut file_system = match disk::find_file_system(image) {
        Ok(file_system) => file_system,
        Err(FileSystemError::NotFound { .. }) => {
            say(format_args!("error: no disk has a RedoxFS at the start of a partition or at 2 MiB"));
            return Status::NOT_FOUND;
        }
        Err(error) => {
            say(format_args!("error: {error}"));
            return Status::NOT_FOUND;
        }
    };
    let header = file_system.header();
    say(format_args!(
        "RedoxFS {} with {} MiB at block {}",
        Uuid(header.uuid),
        header.size >> 20,
        file_system.start_block()
    ));
    let rsdp = firmware::rsdp();
    let framebuffers = firmware::framebuffers();
    let information = FirmwareInfo {
        rsdp: rsdp.as_deref(),
        framebuffers: &framebuffers,
        live: Live::No,
        // Firmware of this kind describes its devices otherwise.
        memory_slots: None,
        machine: jump::MACHINE,
    };
    let mut memory = HandedMemory::default();
    let hand_over = match boot::prepare(&mut file_system, &mut memory, &information, &mut |step| say(step)) {
        Ok(hand_over) => hand_over,
        Err(error) => {
            say(format_args!("error: {error}"));
            return Status::LOAD_ERROR;
        }
    };
    say(format_args!("entering the kernel"));
    match memory::exit_boot_services(image, &mut memory, &hand_over) {
        // SAFETY: boot services have ended, and `prepare` made tables that map all memory below 8 GiB one to one.
        Ok(()) => unsafe { jump::enter(&hand_over) },
        Err(ExitError::Boot(error)) => say(format_args!("error: {error}")),
        Err(ExitError::Map(status)) => say(format_args!("error: no memory map: {status}")),
        Err(ExitError::Exit(status)) => say(format_args!("error: the firmware cannot be left: {status}")),
    }
    Status::LOAD_ERROR
}

/// A mistake in this program: says where, and stops, because nothing can be trusted any more.
#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    say(format_args!("rednix loader: {information}"));
    loop {
        // SAFETY: waits for an interrupt.
        unsafe { core::arch::asm!("hlt", options(nomem, nostack)) };
    }
}
