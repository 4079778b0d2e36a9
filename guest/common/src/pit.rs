//! The old timer of PCs (8254): is there one? Leaves it counting; kernels that use it set it anew.

use crate::limits::PIT_READS_MAX;
use crate::serial::Ports;

const CHANNEL: u16 = 0x40;
const COMMAND: u16 = 0x43;
/// Channel 0, both bytes, as a rate generator; and channel 0, to hold its count for reading.
const START: u8 = 0x34;
const HOLD: u8 = 0;

/// Whether the count changes. An absent device reads as all ones.
pub fn counts<P: Ports>(ports: &mut P) -> bool {
    ports.write(COMMAND, START);
    // The longest period there is.
    ports.write(CHANNEL, 0);
    ports.write(CHANNEL, 0);
    let first = count(ports);
    (0..PIT_READS_MAX).any(|_| count(ports) != first)
}

fn count<P: Ports>(ports: &mut P) -> u16 {
    ports.write(COMMAND, HOLD);
    let low = ports.read(CHANNEL);
    u16::from_le_bytes([low, ports.read(CHANNEL)])
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Timer {
        step: u16,
        count: u16,
        is_high: bool,
    }

    impl Ports for Timer {
        fn read(&mut self, port: u16) -> u8 {
            assert_eq!(port, CHANNEL);
            self.is_high = !self.is_high;
            self.count.to_le_bytes()[usize::from(!self.is_high)]
        }

        fn write(&mut self, port: u16, value: u8) {
            if port == COMMAND && value == HOLD {
                self.count = self.count.wrapping_sub(self.step);
                self.is_high = false;
            }
        }
    }

    #[test]
    fn a_timer_counts_and_its_absence_does_not() {
        for (step, count, expected) in [(1, 0, true), (300, 0x1234, true), (0, 0xFFFF, false), (0, 0, false)]
        {
            assert_eq!(counts(&mut Timer { step, count, is_high: false }), expected);
        }
    }
}
