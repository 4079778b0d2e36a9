//! The serial console: text out, lines in. The only place that writes to the user.

use alloc::string::String;
use core::cell::UnsafeCell;
use core::fmt::{self, Write};

use redox_boot::line::{ERASE, LineEditor, Typed};
use redox_boot::serial::{COM1, SerialPort};

use crate::cpu::SerialPorts;
use crate::interrupts;

struct Port(UnsafeCell<Option<SerialPort<SerialPorts>>>);

// SAFETY: one processor, and interrupt handlers write only when the machine has stopped for good.
unsafe impl Sync for Port {}

static PORT: Port = Port(UnsafeCell::new(None));

/// A pressed Ctrl-C.
const INTERRUPT: u8 = 0x03;

fn port() -> &'static mut SerialPort<SerialPorts> {
    // SAFETY: see `Port`; the reference lives no longer than one call of this module's functions.
    let port = unsafe { &mut *PORT.0.get() };
    port.get_or_insert_with(|| SerialPort::start(SerialPorts, COM1))
}

/// Writes without a line end.
pub fn write(arguments: fmt::Arguments<'_>) {
    // The serial port never fails.
    let _ = port().write_fmt(arguments);
}

/// Writes a line to the console.
macro_rules! say {
    ($($argument:tt)*) => {{
        $crate::console::write(format_args!($($argument)*));
        $crate::console::write(format_args!("\n"));
    }};
}
pub(crate) use say;

/// Writes a file's bytes: text as it is, other control characters as `?`.
pub fn write_bytes(bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'\n' => write(format_args!("\n")),
            b'\t' | b' '..=b'~' | 0x80.. => port().send(byte),
            _ => port().send(b'?'),
        }
    }
}

/// Whether Ctrl-C came in since the last look; other typed bytes are lost, as the command is still running.
pub fn interrupted() -> bool {
    port().receive() == Some(INTERRUPT)
}

/// A line typed by the user, with echo. Nothing when it was given up with Ctrl-C.
pub fn read_line(editor: &mut LineEditor) -> Option<String> {
    loop {
        let Some(byte) = port().receive() else {
            interrupts::idle();
            continue;
        };
        match editor.feed(byte) {
            Typed::Echo(bytes) => bytes.iter().for_each(|byte| port().send(*byte)),
            Typed::EchoByte(byte) => port().send(byte),
            Typed::Erase(count) => {
                (0..count).for_each(|_| ERASE.iter().for_each(|byte| port().send(*byte)));
            }
            Typed::Line(line) => {
                write(format_args!("\n"));
                return Some(line);
            }
            Typed::Interrupted => {
                write(format_args!("^C\n"));
                return None;
            }
        }
    }
}
