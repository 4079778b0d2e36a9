//! What the loaders without UEFI share: the way into long mode, the serial port, physical memory one to one. Knows no
//! boot protocol.

pub mod console;
mod long_mode;
pub mod memory;

use core::arch::asm;

/// Nothing more can be done.
pub fn stop() -> ! {
    loop {
        // SAFETY: waits; no interrupt is wanted.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
