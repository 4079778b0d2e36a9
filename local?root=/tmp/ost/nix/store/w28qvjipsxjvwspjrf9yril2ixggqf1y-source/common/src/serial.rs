//! A 16550 serial port, polled. Knows registers, not how ports are reached, and uses no interrupt.

use core::fmt;

use crate::limits::SERIAL_SPINS_MAX;

/// I/O port of the first serial port of a PC.
pub const COM1: u16 = 0x3F8;

/// Byte-wide access to I/O ports.
pub trait Ports {
    fn read(&mut self, port: u16) -> u8;
    fn write(&mut self, port: u16, value: u8);
}

const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;

const RECEIVED: u8 = 1;
const SENDABLE: u8 = 1 << 5;

pub struct SerialPort<P> {
    ports: P,
    base: u16,
}

impl<P: Ports> SerialPort<P> {
    /// Sets 115200 baud, 8 data bits, no parity, and switches interrupts of the port off.
    pub fn start(mut ports: P, base: u16) -> SerialPort<P> {
        for (register, value) in [
            (INTERRUPT_ENABLE, 0),
            // The divisor shows in the first two registers while the top bit is set.
            (LINE_CONTROL, 0x80),
            (DATA, 1),
            (INTERRUPT_ENABLE, 0),
            (LINE_CONTROL, 0x03),
            (FIFO_CONTROL, 0xC7),
            (MODEM_CONTROL, 0x0B),
        ] {
            ports.write(base + register, value);
        }
        SerialPort { ports, base }
    }

    /// Sends a byte; drops it when the port does not become ready, so that an absent port cannot hang the machine.
    pub fn send(&mut self, byte: u8) {
        for _ in 0..SERIAL_SPINS_MAX {
            let status = self.ports.read(self.base + LINE_STATUS);
            // An absent port reads as all ones, which would always look ready.
            if status == 0xFF {
                return;
            }
            if status & SENDABLE != 0 {
                self.ports.write(self.base + DATA, byte);
                return;
            }
        }
    }

    /// A received byte, if there is one.
    pub fn receive(&mut self) -> Option<u8> {
        let status = self.ports.read(self.base + LINE_STATUS);
        (status != 0xFF && status & RECEIVED != 0).then(|| self.ports.read(self.base + DATA))
    }
}

impl<P: Ports> fmt::Write for SerialPort<P> {
    /// Terminals want a carriage return before a line feed.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.send(b'\r');
            }
            self.send(byte);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::fmt::Write;
    use std::vec::Vec;

    #[derive(Default)]
    struct Fake {
        absent: bool,
        set_up: bool,
        sent: Vec<u8>,
        incoming: VecDeque<u8>,
    }

    impl Ports for &mut Fake {
        fn read(&mut self, port: u16) -> u8 {
            match port - COM1 {
                _ if self.absent => 0xFF,
                LINE_STATUS => SENDABLE | if self.incoming.is_empty() { 0 } else { RECEIVED },
                DATA => self.incoming.pop_front().unwrap_or(0),
                _ => 0,
            }
        }

        fn write(&mut self, port: u16, value: u8) {
            match port - COM1 {
                MODEM_CONTROL => self.set_up = true,
                DATA if self.set_up => self.sent.push(value),
                _ => {}
            }
        }
    }

    #[test]
    fn sends_and_receives() {
        let mut fake = Fake { incoming: VecDeque::from([b'x']), ..Fake::default() };
        let mut port = SerialPort::start(&mut fake, COM1);
        port.write_str("a\nb").expect("infallible");
        assert_eq!((port.receive(), port.receive()), (Some(b'x'), None));
        assert_eq!(fake.sent, b"a\r\nb");
    }

    #[test]
    fn an_absent_port_is_silent() {
        let mut fake = Fake { absent: true, ..Fake::default() };
        let mut port = SerialPort::start(&mut fake, COM1);
        port.send(b'a');
        assert_eq!(port.receive(), None);
        assert!(fake.sent.is_empty());
    }
}
