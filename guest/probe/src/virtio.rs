//! The memory of a ring and one request at a time on it, polled. Knows no transport.

use alloc::alloc::{Layout as Pages, alloc_zeroed};

use redox_boot::limits::BLOCK_BYTES;
use redox_boot::virtio::ring::{Layout, Piece, Queue, RingMemory};
use redox_boot::virtio::transport::Registers;

use crate::memory::{map_device, physical_address};

/// Times the used ring is looked at before a device counts as dead; minutes on any machine.
const POLLS_MAX: u64 = 4_000_000_000;

/// Descriptors of a request: header, data, status.
const PIECES: u16 = 3;

/// Memory of this kernel's own that a device sees.
struct RingPages(*mut u8);

impl RingMemory for RingPages {
    fn read_u16(&self, offset: usize) -> u16 {
        // SAFETY: a queue keeps its offsets inside its layout, which was allocated, and aligned for their size.
        unsafe { self.0.add(offset).cast::<u16>().read_volatile() }
    }

    fn read_u32(&self, offset: usize) -> u32 {
        // SAFETY: as above.
        unsafe { self.0.add(offset).cast::<u32>().read_volatile() }
    }

    fn write_u16(&mut self, offset: usize, value: u16) {
        // SAFETY: as above.
        unsafe { self.0.add(offset).cast::<u16>().write_volatile(value) };
    }

    fn write_u32(&mut self, offset: usize, value: u32) {
        // SAFETY: as above.
        unsafe { self.0.add(offset).cast::<u32>().write_volatile(value) };
    }
}

pub struct Ring {
    queue: Queue<RingPages>,
    address: u64,
}

impl Ring {
    pub fn new(layout: Layout) -> Option<Ring> {
        if layout.size() < PIECES {
            return None;
        }
        let pages = Pages::from_size_align(layout.bytes(), BLOCK_BYTES).ok()?;
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(pages) };
        let address = physical_address(start, layout.bytes())?;
        let mut queue = Queue::new(layout, RingPages(start));
        queue.set_interrupts(false);
        Some(Ring { queue, address })
    }

    /// Physical address of the ring's start.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Hands a request over; `notify` tells the device. True once the device has given it back.
    pub fn request(&mut self, pieces: &[Piece], notify: impl FnOnce()) -> bool {
        if self.queue.submit(pieces).is_none() {
            return false;
        }
        notify();
        for _ in 0..POLLS_MAX {
            match self.queue.take() {
                Ok(Some(_)) => return true,
                Ok(None) => core::hint::spin_loop(),
                Err(_) => return false,
            }
        }
        false
    }
}

/// Registers of a device, mapped.
pub struct Window {
    start: u64,
    bytes: usize,
}

impl Window {
    pub fn map(address: u64, bytes: u64) -> Option<Window> {
        Some(Window { start: map_device(address, bytes).ok()?, bytes: usize::try_from(bytes).ok()? })
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        debug_assert!(offset + size_of::<T>() <= self.bytes);
        (self.start + offset as u64) as *mut T
    }
}

impl Registers for Window {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn read_u8(&self, offset: usize) -> u8 {
        // SAFETY: the registers were mapped, and transports stay inside of their windows.
        unsafe { self.at::<u8>(offset).read_volatile() }
    }

    fn read_u16(&self, offset: usize) -> u16 {
        // SAFETY: as above.
        unsafe { self.at::<u16>(offset).read_volatile() }
    }

    fn read_u32(&self, offset: usize) -> u32 {
        // SAFETY: as above.
        unsafe { self.at::<u32>(offset).read_volatile() }
    }

    fn write_u8(&mut self, offset: usize, value: u8) {
        // SAFETY: as above; this kernel alone uses the device.
        unsafe { self.at::<u8>(offset).write_volatile(value) };
    }

    fn write_u16(&mut self, offset: usize, value: u16) {
        // SAFETY: as above.
        unsafe { self.at::<u16>(offset).write_volatile(value) };
    }

    fn write_u32(&mut self, offset: usize, value: u32) {
        // SAFETY: as above.
        unsafe { self.at::<u32>(offset).write_volatile(value) };
    }
}
