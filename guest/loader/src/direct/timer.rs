//! What firmware would have prepared of interrupts: the old controller's line to the processor (8259, "virtual wire"), and
//! a timer where the machine has none.
//!
//! Redox's kernel takes device interrupts from the 8259 only, sets up neither the processor's line for it nor any input of
//! the newer controller, and knows two timers, HPET and 8254. Without either, the processor's own timer (local APIC) is
//! started with the interrupt by which processors pass the old timer's ticks on to each other, the only one of the kernel's
//! that counts as a tick and is ended at the local controller. Tasks then are switched and sleepers woken; the clock
//! itself has to come from the monitor (KVM's).

use core::arch::asm;

use redox_boot::acpi;
use redox_boot::pit;

use crate::bare::console::PcPorts;
use crate::bare::memory::Physical;

/// The interrupt of ticks passed on, and the time between two.
const VECTOR: u32 = 0x43;
const PERIOD_NANOSECONDS: u32 = 4_062_247;
/// Monitors count the local timer in nanoseconds: KVM and QEMU do, whatever the processor.
const COUNTS_PER_NANOSECOND: u32 = 1;

/// The register that says where the local controller is and which form its registers have.
const BASE: u32 = 0x1B;
const BASE_EXTENDED: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0xF_FFFF_F000;
/// Model-specific registers of the extended form: from here on, one for 16 bytes of the other form.
const EXTENDED: u32 = 0x800;

const SPURIOUS: u32 = 0xF0;
const SPURIOUS_ENABLED: u32 = 0x1FF;
const LINE_0: u32 = 0x350;
const LINE_EXTERNAL: u32 = 0x700;
const TIMER: u32 = 0x320;
const TIMER_PERIODIC: u32 = 1 << 17;
const INITIAL_COUNT: u32 = 0x380;
const DIVISION: u32 = 0x3E0;
const DIVISION_BY_ONE: u32 = 0b1011;

/// Connects the old controller, and starts the local timer where there is no other; answers whether it did.
pub fn prepare(rsdp: Option<&[u8]>) -> bool {
    write(SPURIOUS, SPURIOUS_ENABLED);
    write(LINE_0, LINE_EXTERNAL);
    let tables = rsdp.and_then(|rsdp| acpi::tables(&Physical, rsdp).ok()).unwrap_or_default();
    if tables.iter().any(|(signature, _)| signature == b"HPET") || pit::counts(&mut PcPorts) {
        return false;
    }
    write(DIVISION, DIVISION_BY_ONE);
    write(TIMER, TIMER_PERIODIC | VECTOR);
    write(INITIAL_COUNT, PERIOD_NANOSECONDS * COUNTS_PER_NANOSECOND);
    true
}

fn write(register: u32, value: u32) {
    let (low, high): (u32, u32);
    // SAFETY: every processor of 64 bits has this register; interrupts are off, so that the timer's waits for the kernel.
    unsafe {
        asm!("rdmsr", in("ecx") BASE, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    let base = u64::from(high) << 32 | u64::from(low);
    if base & BASE_EXTENDED != 0 {
        // SAFETY: a register of the extended form, which is on.
        unsafe {
            asm!(
                "wrmsr",
                in("ecx") EXTENDED + register / 16,
                in("eax") value,
                in("edx") 0,
                options(nostack, preserves_flags)
            );
        }
        return;
    }
    let address = (base & BASE_ADDRESS) + u64::from(register);
    // SAFETY: the local controller's own page, mapped one to one as everything below 8 GiB.
    unsafe { (address as *mut u32).write_volatile(value) };
}
