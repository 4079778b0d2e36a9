//! The split ring: where its parts lie, and a driver's half of the protocol with any number of chains under way. The
//! memory is the caller's. A device is not trusted: what it gives back must be something that it has.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{Ordering, fence};

use crate::limits::{BLOCK_BYTES, VIRTIO_RING_MAX};

const DESCRIPTOR_BYTES: usize = 16;
const FLAG_NEXT: u16 = 1;
const FLAG_DEVICE_WRITES: u16 = 2;
const NO_INTERRUPT: u16 = 1;
const NO_NOTIFICATION: u16 = 1;

/// Where the parts of a ring of one size lie, from the ring's start. This is the layout that old devices demand and new
/// ones accept: descriptors, available ring, page border, used ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    size: u16,
}

impl Layout {
    /// Ring sizes are powers of two.
    pub fn new(size: u16) -> Option<Layout> {
        (size.is_power_of_two() && size <= VIRTIO_RING_MAX).then_some(Layout { size })
    }

    /// The largest ring a device allows within a limit: it may offer any number, a ring is a power of two.
    pub fn within(offered: u16, limit: u16) -> Option<Layout> {
        let size = offered.min(limit).min(VIRTIO_RING_MAX);
        Layout::new(1 << size.checked_ilog2()?)
    }

    pub fn size(self) -> u16 {
        self.size
    }

    pub fn available(self) -> usize {
        usize::from(self.size) * DESCRIPTOR_BYTES
    }

    pub fn used(self) -> usize {
        (self.available() + 6 + 2 * usize::from(self.size)).next_multiple_of(BLOCK_BYTES)
    }

    /// Whole pages.
    pub fn bytes(self) -> usize {
        self.used() + (6 + 8 * usize::from(self.size)).next_multiple_of(BLOCK_BYTES)
    }
}

/// The ring's memory, zeroed at first, that the device sees too. Offsets are aligned for their access.
pub trait RingMemory {
    fn read_u16(&self, offset: usize) -> u16;
    fn read_u32(&self, offset: usize) -> u32;
    fn write_u16(&mut self, offset: usize, value: u16);
    fn write_u32(&mut self, offset: usize, value: u32);
}

/// One piece of memory of a chain, by its physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub address: u64,
    pub bytes: u32,
    pub device_writes: bool,
}

/// A chain the device has given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// What `submit` returned.
    pub head: u16,
    /// Bytes the device says it has written.
    pub written: u32,
}

/// The device broke the protocol; nothing it says later can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    NotUnderWay { head: u32 },
    TooMany { given_back: u16, under_way: u16 },
}

impl fmt::Display for RingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::NotUnderWay { head } => {
                write!(formatter, "the device gave back the request {head}, which it does not have")
            }
            RingError::TooMany { given_back, under_way } => {
                write!(formatter, "the device gave back {given_back} requests and has {under_way}")
            }
        }
    }
}

/// A driver's half of a ring.
pub struct Queue<M> {
    layout: Layout,
    memory: M,
    free: Vec<u16>,
    /// By descriptor: the next one of its chain. The table itself lies in the device's reach.
    next: Vec<u16>,
    /// By head: descriptors of the chain under way, 0 for none.
    length: Vec<u16>,
    under_way: u16,
    sent: u16,
    answered: u16,
}

impl<M: RingMemory> Queue<M> {
    pub fn new(layout: Layout, memory: M) -> Queue<M> {
        let size = usize::from(layout.size);
        Queue {
            layout,
            memory,
            free: (0..layout.size).rev().collect(),
            next: vec![0; size],
            length: vec![0; size],
            under_way: 0,
            sent: 0,
            answered: 0,
        }
    }

    pub fn size(&self) -> u16 {
        self.layout.size
    }

    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Chains the device has.
    pub fn under_way(&self) -> u16 {
        self.under_way
    }

    /// Hands a chain over and gives its name; nothing where it is empty or the free descriptors do not suffice. The
    /// device has to be notified.
    pub fn submit(&mut self, pieces: &[Piece]) -> Option<u16> {
        let (&head, count) = (self.free.last()?, pieces.len());
        if count == 0 || count > self.free.len() {
            return None;
        }
        let chain: Vec<u16> = self.free.drain(self.free.len() - count..).rev().collect();
        for (index, piece) in pieces.iter().enumerate() {
            let following = chain.get(index + 1).copied();
            self.next[usize::from(chain[index])] = following.unwrap_or(0);
            let flags = if following.is_some() { FLAG_NEXT } else { 0 }
                | if piece.device_writes { FLAG_DEVICE_WRITES } else { 0 };
            let at = usize::from(chain[index]) * DESCRIPTOR_BYTES;
            self.memory.write_u32(at, piece.address as u32);
            self.memory.write_u32(at + 4, (piece.address >> 32) as u32);
            self.memory.write_u32(at + 8, piece.bytes);
            self.memory.write_u16(at + 12, flags);
            self.memory.write_u16(at + 14, following.unwrap_or(0));
        }
        self.length[usize::from(head)] = count as u16;
        self.under_way += 1;
        let slot = usize::from(self.sent % self.layout.size);
        self.memory.write_u16(self.layout.available() + 4 + slot * 2, head);
        fence(Ordering::SeqCst);
        self.sent = self.sent.wrapping_add(1);
        self.memory.write_u16(self.layout.available() + 2, self.sent);
        fence(Ordering::SeqCst);
        Some(head)
    }

    /// The next chain that the device has given back.
    pub fn take(&mut self) -> Result<Option<Done>, RingError> {
        let given_back = self.memory.read_u16(self.layout.used() + 2).wrapping_sub(self.answered);
        if given_back == 0 {
            return Ok(None);
        }
        if given_back > self.under_way {
            return Err(RingError::TooMany { given_back, under_way: self.under_way });
        }
        fence(Ordering::SeqCst);
        let at = self.layout.used() + 4 + usize::from(self.answered % self.layout.size) * 8;
        let (head, written) = (self.memory.read_u32(at), self.memory.read_u32(at + 4));
        let length = self.length.get(head as usize).copied().unwrap_or(0);
        if length == 0 {
            return Err(RingError::NotUnderWay { head });
        }
        self.length[head as usize] = 0;
        self.under_way -= 1;
        self.answered = self.answered.wrapping_add(1);
        let mut descriptor = head as u16;
        for _ in 0..length {
            self.free.push(descriptor);
            descriptor = self.next[usize::from(descriptor)];
        }
        Ok(Some(Done { head: head as u16, written }))
    }

    /// Whether the device wants to hear of what was sent. To be asked after `submit`.
    pub fn wants_notification(&self) -> bool {
        self.memory.read_u16(self.layout.used()) & NO_NOTIFICATION == 0
    }

    /// Whether the device should interrupt for this ring; it may do so all the same. After turning them on, `take` is
    /// to be tried once more: what was given back before makes no interrupt.
    pub fn set_interrupts(&mut self, wanted: bool) {
        self.memory.write_u16(self.layout.available(), if wanted { 0 } else { NO_INTERRUPT });
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::tests::SharedMemory;
    use proptest::prelude::*;

    #[test]
    fn parts_of_a_ring() {
        // size → available, used, bytes
        let cases = [(2, 32, 4096, 8192), (256, 4096, 8192, 12288), (1024, 16384, 20480, 32768)];
        for (size, available, used, bytes) in cases {
            let layout = Layout::new(size).unwrap();
            assert_eq!(
                (layout.available(), layout.used(), layout.bytes()),
                (available, used, bytes),
                "{size}"
            );
        }
        assert_eq!(Layout::new(0), None);
        assert_eq!(Layout::new(96), None);
    }

    #[test]
    fn sizes_within_a_limit() {
        let size = |offered, limit| Layout::within(offered, limit).map(Layout::size);
        assert_eq!(size(256, 64), Some(64));
        assert_eq!(size(100, 256), Some(64));
        assert_eq!(size(1, 256), Some(1));
        assert_eq!(size(u16::MAX, u16::MAX), Some(VIRTIO_RING_MAX));
        assert_eq!(size(0, 256), None);
    }

    fn piece(address: u64) -> Piece {
        Piece { address, bytes: 1, device_writes: false }
    }

    #[test]
    fn a_lying_device_is_found_out() {
        let layout = Layout::new(4).unwrap();
        let memory = SharedMemory::new(layout.bytes());
        let mut queue = Queue::new(layout, memory.clone());
        let head = queue.submit(&[piece(1), piece(2)]).unwrap();
        assert_eq!(queue.take(), Ok(None));
        memory.clone().write_u16(layout.used() + 2, 2);
        assert_eq!(queue.take(), Err(RingError::TooMany { given_back: 2, under_way: 1 }));
        memory.clone().write_u16(layout.used() + 2, 1);
        for wrong in [u32::from(head) + 1, 4, u32::MAX] {
            memory.clone().write_u32(layout.used() + 4, wrong);
            assert_eq!(queue.take(), Err(RingError::NotUnderWay { head: wrong }));
        }
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let layout = Layout::new(2).unwrap();
        let memory = SharedMemory::new(layout.bytes());
        let mut queue = Queue::new(layout, memory.clone());
        assert_eq!(queue.submit(&[]), None);
        assert_eq!(queue.submit(&[piece(1), piece(2), piece(3)]), None);
        assert_eq!((queue.under_way(), memory.read_u16(layout.available() + 2)), (0, 0));
        assert!(queue.submit(&[piece(1), piece(2)]).is_some());
        assert_eq!(queue.submit(&[piece(1)]), None);
    }

    proptest! {
        /// Any order of sending and answering: the device sees what was sent, the driver gets back what it sent, and
        /// no descriptor is lost or used twice.
        #[test]
        fn chains_come_and_go(
            power in 0u32..7,
            steps in prop::collection::vec((any::<bool>(), 1usize..5, any::<prop::sample::Index>()), 1..400),
        ) {
            let layout = Layout::new(1 << power).unwrap();
            let memory = SharedMemory::new(layout.bytes());
            let mut device = memory.device(layout);
            let mut queue = Queue::new(layout, memory);
            let mut expected: Vec<(u16, Vec<Piece>)> = Vec::new();
            let mut serial = 0;
            for (send, count, pick) in steps {
                if send {
                    let pieces: Vec<Piece> = (0..count).map(|index| {
                        serial += 1;
                        Piece { address: serial << 30 | index as u64, bytes: serial as u32, device_writes: index == count - 1 }
                    }).collect();
                    let room = usize::from(layout.size()) - expected.iter().map(|(_, pieces)| pieces.len()).sum::<usize>();
                    let head = queue.submit(&pieces);
                    prop_assert_eq!(head.is_some(), count <= room);
                    if let Some(head) = head {
                        expected.push((head, pieces));
                    }
                } else if !expected.is_empty() {
                    device.accept();
                    let chosen = pick.index(device.chains.len());
                    let (head, pieces) = device.chains[chosen].clone();
                    let place = expected.iter().position(|(sent, _)| *sent == head).expect("the device has what was sent");
                    prop_assert_eq!(&expected.remove(place).1, &pieces);
                    device.answer(chosen, 7);
                    prop_assert_eq!(queue.take(), Ok(Some(Done { head, written: 7 })));
                }
                prop_assert_eq!(usize::from(queue.under_way()), expected.len());
            }
        }
    }
}
