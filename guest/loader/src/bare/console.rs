//! The serial port COM1, for lines of text.

use core::arch::asm;
use core::fmt::{self, Write};

use redox_boot::serial::{COM1, Ports, SerialPort};

/// The input and output of a PC.
pub struct PcPorts;

impl Ports for PcPorts {
    fn read(&mut self, port: u16) -> u8 {
        let value;
        // SAFETY: only the serial port and the old timer are reached by this, and this program alone uses them.
        unsafe {
            asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags))
        };
        value
    }

    fn write(&mut self, port: u16, value: u8) {
        // SAFETY: as above.
        unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
    }
}

struct Console(SerialPort<PcPorts>);

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.0.send(b'\r');
            }
            self.0.send(byte);
        }
        Ok(())
    }
}

/// A line on the serial port.
pub fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(Console(SerialPort::start(PcPorts, COM1)), "{line}");
}
