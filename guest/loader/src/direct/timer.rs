//! The system timer: whether the machine has one that Redox's kernel knows (8254 or HPET), and else the processor's own
//! (local APIC), started so that its interrupts are those the kernel expects of the old one.
//!
//! The kernel sets the local timer up for nothing and leaves it alone; it ends an interrupt at the local controller
//! whatever sent it, as long as ACPI describes the interrupt controllers.

use core::arch::asm;

use redox_boot::acpi;
use redox_boot::pit;

use crate::bare::console::PcPorts;
use crate::bare::memory::Physical;

/// The interrupt of the old timer, and what the kernel takes for the time between two of them.
const VECTOR: u32 = 32;
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
const TIMER: u32 = 0x320;
const TIMER_PERIODIC: u32 = 1 << 17;
const INITIAL_COUNT: u32 = 0x380;
const DIVISION: u32 = 0x3E0;
const DIVISION_BY_ONE: u32 = 0b1011;

/// Starts the local timer where there is no other; answers whether it did.
pub fn start_if_missing(rsdp: &[u8]) -> bool {
    let tables = acpi::tables(&Physical, rsdp).unwrap_or_default();
    let names = |wanted: &[u8; 4]| tables.iter().any(|(signature, _)| signature == wanted);
    if !names(b"APIC") || names(b"HPET") || pit::counts(&mut PcPorts) {
        return false;
    }
    write(SPURIOUS, SPURIOUS_ENABLED);
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
