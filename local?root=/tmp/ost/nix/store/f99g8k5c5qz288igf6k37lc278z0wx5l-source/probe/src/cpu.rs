//! Instructions of x86-64 that have no other form: ports, control and model registers, waiting. Keeps no state.

use core::arch::asm;

use redox_boot::serial::Ports;

/// Reads a port of one, two or four bytes.
///
/// # Safety
/// Reading a port may change the device behind it; the caller must own that device.
pub unsafe fn read_port_u8(port: u16) -> u8 {
    let value;
    // SAFETY: the caller owns the device.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// # Safety
/// As for `read_port_u8`.
pub unsafe fn read_port_u16(port: u16) -> u16 {
    let value;
    // SAFETY: the caller owns the device.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// # Safety
/// As for `read_port_u8`.
pub unsafe fn read_port_u32(port: u16) -> u32 {
    let value;
    // SAFETY: the caller owns the device.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a port of one, two or four bytes. Memory written before is visible to the device.
///
/// # Safety
/// The caller must own the device and what it may do to memory.
pub unsafe fn write_port_u8(port: u16, value: u8) {
    // SAFETY: the caller owns the device.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
}

/// # Safety
/// As for `write_port_u8`.
pub unsafe fn write_port_u16(port: u16, value: u16) {
    // SAFETY: the caller owns the device.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack, preserves_flags)) };
}

/// # Safety
/// As for `write_port_u8`.
pub unsafe fn write_port_u32(port: u16, value: u32) {
    // SAFETY: the caller owns the device.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags)) };
}

/// The ports of the serial console.
pub struct SerialPorts;

impl Ports for SerialPorts {
    fn read(&mut self, port: u16) -> u8 {
        // SAFETY: only made for the serial port, which nothing else in this kernel uses.
        unsafe { read_port_u8(port) }
    }

    fn write(&mut self, port: u16, value: u8) {
        // SAFETY: as above.
        unsafe { write_port_u8(port, value) }
    }
}

/// The address of the top page table.
pub fn page_table() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value & 0x000F_FFFF_FFFF_F000
}

/// Forgets translations of addresses, after new ones were written.
pub fn reload_page_table() {
    // SAFETY: the same table again.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags)) };
}

pub fn fault_address() -> u64 {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

pub fn read_model_register(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: only called for registers every 64-bit processor has.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Waits for the next interrupt, with interrupts on only meanwhile.
pub fn wait_for_interrupt() {
    // SAFETY: all vectors have handlers that return.
    unsafe { asm!("sti", "hlt", "cli", options(nomem, nostack)) };
}

/// Stops this processor for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: waits with interrupts off, which only a reset ends.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
