//! The old timer of PCs (8254): is there one? Leaves it stopped; kernels that use it set it anew.

use crate::limits::PIT_READS_MAX;
use crate::serial::Ports;

const CHANNEL: u16 = 0x40;
const COMMAND: u16 = 0x43;
/// Channel 0, both bytes, as a rate generator; and channel 0, to hold its count for reading.
const START: u8 = 0x34;
const HOLD: u8 = 0;
/// Channel 0 as a single count, which does not begin before a count is written.
const STOP: u8 = 0x30;

/// Whether the count changes. An absent device reads as all ones.
pub fn counts<P: Ports>(ports: &mut P) -> bool {
    ports.write(COMMAND, START);
    // The longest period there is.
    ports.write(CHANNEL, 0);
    ports.write(CHANNEL, 0);
    let first = count(ports);
    let is_counting = (0..PIT_READS_MAX).any(|_| count(ports) != first);
    ports.write(COMMAND, STOP);
    is_counting
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
        is_stopped: bool,
    }

    impl Ports for Timer {
        fn read(&mut self, port: u16) -> u8 {
            assert_eq!(port, CHANNEL);
            self.is_high = !self.is_high;
            self.count.to_le_bytes()[usize::from(!self.is_high)]
        }

        fn write(&mut self, port: u16, value: u8) {
            if port == COMMAND {
                self.is_stopped = value == STOP;
            }
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
            let mut timer = Timer { step, count, is_high: false, is_stopped: false };
            assert_eq!(counts(&mut timer), expected);
            assert!(timer.is_stopped, "its interrupts would wait for the kernel");
        }
    }
}
