//! The ring that virtio devices share with a driver, for one request at a time, polled. Knows no transport.

use alloc::alloc::{Layout, alloc_zeroed};
use core::sync::atomic::{Ordering, fence};

use redox_boot::limits::BLOCK_BYTES;

use crate::memory::physical_address;

/// Times the used ring is looked at before a device counts as dead; minutes on any machine.
const POLLS_MAX: u64 = 4_000_000_000;

/// Largest ring, as the specification has it.
const RING_MAX: u16 = 32768;

const DESCRIPTOR_BYTES: usize = 16;
const FLAG_NEXT: u16 = 1;
const FLAG_DEVICE_WRITES: u16 = 2;
const NO_INTERRUPT: u16 = 1;

/// One piece of memory of a request.
#[derive(Clone, Copy)]
pub struct Piece {
    pub address: u64,
    pub bytes: u32,
    pub device_writes: bool,
}

pub struct Ring {
    size: u16,
    start: *mut u8,
    physical: u64,
    sent: u16,
    answered: u16,
}

impl Ring {
    /// A ring in the layout that old devices demand and new ones accept: descriptors, available, page border, used.
    pub fn new(size: u16) -> Option<Ring> {
        if !size.is_power_of_two() || !(4..=RING_MAX).contains(&size) {
            return None;
        }
        let bytes = used_offset(size) + (6 + 8 * usize::from(size)).next_multiple_of(BLOCK_BYTES);
        let layout = Layout::from_size_align(bytes, BLOCK_BYTES).ok()?;
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let physical = physical_address(start, bytes)?;
        let ring = Ring { size, start, physical, sent: 0, answered: 0 };
        ring.write_u16(ring.available_offset(), NO_INTERRUPT);
        Some(ring)
    }

    pub fn descriptors(&self) -> u64 {
        self.physical
    }

    pub fn available(&self) -> u64 {
        self.physical + self.available_offset() as u64
    }

    pub fn used(&self) -> u64 {
        self.physical + used_offset(self.size) as u64
    }

    pub fn size(&self) -> u16 {
        self.size
    }

    /// Hands a request over; `notify` tells the device. True once the device has given it back.
    pub fn request(&mut self, pieces: &[Piece], notify: impl FnOnce()) -> bool {
        for (index, piece) in pieces.iter().enumerate() {
            let last = index + 1 == pieces.len();
            let flags =
                if last { 0 } else { FLAG_NEXT } | if piece.device_writes { FLAG_DEVICE_WRITES } else { 0 };
            let descriptor = index * DESCRIPTOR_BYTES;
            self.write_u32(descriptor, piece.address as u32);
            self.write_u32(descriptor + 4, (piece.address >> 32) as u32);
            self.write_u32(descriptor + 8, piece.bytes);
            self.write_u16(descriptor + 12, flags);
            self.write_u16(descriptor + 14, if last { 0 } else { index as u16 + 1 });
        }
        let slot = usize::from(self.sent % self.size);
        self.write_u16(self.available_offset() + 4 + slot * 2, 0);
        fence(Ordering::SeqCst);
        self.sent = self.sent.wrapping_add(1);
        self.write_u16(self.available_offset() + 2, self.sent);
        fence(Ordering::SeqCst);
        notify();
        for _ in 0..POLLS_MAX {
            if self.read_u16(used_offset(self.size) + 2) != self.answered {
                fence(Ordering::SeqCst);
                self.answered = self.answered.wrapping_add(1);
                return true;
            }
            core::hint::spin_loop();
        }
        false
    }

    fn available_offset(&self) -> usize {
        usize::from(self.size) * DESCRIPTOR_BYTES
    }

    fn write_u16(&self, offset: usize, value: u16) {
        // SAFETY: offsets lie inside the ring's own pages, aligned for their size.
        unsafe { self.start.add(offset).cast::<u16>().write_volatile(value) };
    }

    fn write_u32(&self, offset: usize, value: u32) {
        // SAFETY: as above.
        unsafe { self.start.add(offset).cast::<u32>().write_volatile(value) };
    }

    fn read_u16(&self, offset: usize) -> u16 {
        // SAFETY: as above.
        unsafe { self.start.add(offset).cast::<u16>().read_volatile() }
    }
}

fn used_offset(size: u16) -> usize {
    (usize::from(size) * DESCRIPTOR_BYTES + 6 + 2 * usize::from(size)).next_multiple_of(BLOCK_BYTES)
}
