//! Ways out: off by ACPI, reset, and a status for the emulator. Each tries the next way when one has no effect.

use redox_boot::acpi::{AcpiError, PowerOff, power_off};

use crate::console::say;
use crate::cpu;
use crate::memory::Physical;

/// Port of QEMU's `isa-debug-exit` where Redox's own tests have it: value v ends QEMU with status 2v+1.
const DEBUG_EXIT_PORT: u16 = 0x501;

/// Statuses Redox's own tests use, as the values that give them: 51 for success, 53 for failure.
pub const EXIT_SUCCESS: u32 = 25;
pub const EXIT_FAILURE: u32 = 26;

/// Where QEMU's machines have their power management, tried when ACPI says nothing.
const USUAL_CONTROL_PORTS: [u16; 2] = [0x604, 0xB004];
const USUAL_OFF: u16 = 0x2000;

const SCI_ENABLED: u16 = 1;
const POLLS_MAX: usize = 1_000_000;

/// Switches the machine off. `root` is the ACPI root pointer that was handed over.
pub fn off(root: Option<&[u8]>) -> ! {
    match root.ok_or(AcpiError::NoRsdp).and_then(|root| power_off(&Physical, root)) {
        Ok(plan) => enter_sleep(&plan),
        Err(error) => say!("poweroff: {error}; trying the usual ports"),
    }
    for port in USUAL_CONTROL_PORTS {
        // SAFETY: the last thing this kernel does.
        unsafe { cpu::write_port_u16(port, USUAL_OFF) };
    }
    say!("poweroff: this machine does not switch itself off");
    cpu::halt()
}

fn enter_sleep(plan: &PowerOff) {
    // SAFETY: the ports the firmware names for this purpose.
    unsafe {
        if plan.sleep_port != 0 {
            cpu::write_port_u8(plan.sleep_port, PowerOff::byte(plan.type_a));
        }
        if plan.control_a == 0 {
            return;
        }
        if plan.enable_port != 0 && cpu::read_port_u16(plan.control_a) & SCI_ENABLED == 0 {
            cpu::write_port_u8(plan.enable_port, plan.enable_value);
            (0..POLLS_MAX).any(|_| cpu::read_port_u16(plan.control_a) & SCI_ENABLED != 0);
        }
        cpu::write_port_u16(plan.control_a, PowerOff::word(plan.type_a));
        if plan.control_b != 0 {
            cpu::write_port_u16(plan.control_b, PowerOff::word(plan.type_b));
        }
    }
    (0..POLLS_MAX).for_each(|_| core::hint::spin_loop());
}

/// Ends the emulator with a status, or switches off where there is no such device.
pub fn exit(value: u32, root: Option<&[u8]>) -> ! {
    // SAFETY: the last thing this kernel does.
    unsafe { cpu::write_port_u32(DEBUG_EXIT_PORT, value) };
    say!("exit: no isa-debug-exit at port {DEBUG_EXIT_PORT:#x}; switching off instead");
    off(root)
}

/// Stops after a fault: ends an emulator with the status of a failure, and just stops elsewhere.
pub fn stop_failed() -> ! {
    // SAFETY: the last thing this kernel does.
    unsafe { cpu::write_port_u32(DEBUG_EXIT_PORT, EXIT_FAILURE) };
    cpu::halt()
}

/// Restarts the machine.
pub fn reboot() -> ! {
    // SAFETY: the last thing this kernel does: reset control register, then the keyboard controller.
    unsafe {
        cpu::write_port_u8(0xCF9, 0x02);
        cpu::write_port_u8(0xCF9, 0x06);
        (0..POLLS_MAX).for_each(|_| core::hint::spin_loop());
        cpu::write_port_u8(0x64, 0xFE);
    }
    (0..POLLS_MAX).for_each(|_| core::hint::spin_loop());
    say!("reboot: this machine does not reset itself");
    cpu::halt()
}
