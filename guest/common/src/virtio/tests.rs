//! A device to play with: the other half of the ring, and the registers of both transports.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec::Vec;

use super::block::{self, Disk};
use super::ring::{Layout, Piece, Queue, RingMemory};
use super::transport::{
    FEATURE_PLATFORM_ADDRESSES, FEATURE_VERSION_1, PciTransport, QueuePlace, Registers, SlotTransport,
    Transport, negotiate, queue_layout, ready,
};
use super::{Kind, Refusal};

/// Memory that both sides have.
#[derive(Clone)]
pub struct SharedMemory(Rc<RefCell<Vec<u8>>>);

impl SharedMemory {
    pub fn new(bytes: usize) -> SharedMemory {
        SharedMemory(Rc::new(RefCell::new(std::vec![0; bytes])))
    }

    fn get<const N: usize>(&self, offset: usize) -> [u8; N] {
        assert_eq!(offset % N, 0, "an access that is not aligned");
        self.0.borrow()[offset..offset + N].try_into().unwrap()
    }

    fn put(&self, offset: usize, bytes: &[u8]) {
        assert_eq!(offset % bytes.len(), 0, "an access that is not aligned");
        self.0.borrow_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    pub fn device(&self, layout: Layout) -> Device {
        Device { memory: self.clone(), layout, seen: 0, answered: 0, chains: Vec::new() }
    }
}

impl RingMemory for SharedMemory {
    fn read_u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.get(offset))
    }

    fn read_u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.get(offset))
    }

    fn write_u16(&mut self, offset: usize, value: u16) {
        self.put(offset, &value.to_le_bytes());
    }

    fn write_u32(&mut self, offset: usize, value: u32) {
        self.put(offset, &value.to_le_bytes());
    }
}

/// The device's half of a ring.
pub struct Device {
    memory: SharedMemory,
    layout: Layout,
    seen: u16,
    answered: u16,
    /// Chains not answered yet.
    pub chains: Vec<(u16, Vec<Piece>)>,
}

impl Device {
    /// Takes everything that was sent.
    pub fn accept(&mut self) {
        let available = self.layout.available();
        while self.seen != self.memory.read_u16(available + 2) {
            let slot = usize::from(self.seen % self.layout.size());
            let head = self.memory.read_u16(available + 4 + slot * 2);
            let mut pieces = Vec::new();
            let mut descriptor = head;
            loop {
                let at = usize::from(descriptor) * 16;
                let flags = self.memory.read_u16(at + 12);
                pieces.push(Piece {
                    address: u64::from(self.memory.read_u32(at))
                        | u64::from(self.memory.read_u32(at + 4)) << 32,
                    bytes: self.memory.read_u32(at + 8),
                    device_writes: flags & 2 != 0,
                });
                assert!(pieces.len() <= usize::from(self.layout.size()), "a chain that runs in a circle");
                if flags & 1 == 0 {
                    break;
                }
                descriptor = self.memory.read_u16(at + 14);
            }
            self.chains.push((head, pieces));
            self.seen = self.seen.wrapping_add(1);
        }
    }

    /// Gives one chain back.
    pub fn answer(&mut self, index: usize, written: u32) {
        let (head, _) = self.chains.remove(index);
        let at = self.layout.used() + 4 + usize::from(self.answered % self.layout.size()) * 8;
        self.memory.write_u32(at, u32::from(head));
        self.memory.write_u32(at + 4, written);
        self.answered = self.answered.wrapping_add(1);
        self.memory.write_u16(self.layout.used() + 2, self.answered);
    }
}

/// What a device keeps, whatever its registers are.
#[derive(Default)]
struct State {
    offered: u64,
    accepted: u64,
    status: u8,
    /// Every status that was set.
    history: Vec<u8>,
    select: [u32; 3],
    limit: u16,
    queues: BTreeMap<u32, BTreeMap<usize, u32>>,
    notified: Vec<u32>,
    refuses: u64,
    stuck: bool,
    configuration: Vec<u8>,
}

impl State {
    fn set_status(&mut self, status: u8) {
        self.history.push(status);
        self.status = if self.stuck { 0x40 } else { status };
        if self.accepted & self.refuses != 0 {
            self.status &= !8;
        }
    }

    fn feature_half(bits: u64, half: u32) -> u32 {
        (bits >> (32 * half)) as u32
    }

    fn accept_half(&mut self, half: u32, value: u32) {
        self.accepted &= !(0xFFFF_FFFF << (32 * half));
        self.accepted |= u64::from(value) << (32 * half);
    }

    fn queue(&mut self) -> &mut BTreeMap<usize, u32> {
        self.queues.entry(self.select[2]).or_default()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Window {
    Common,
    Notify,
    Interrupt,
    Device,
    Slot { version: u32, device: u32 },
}

struct Model {
    window: Window,
    state: Rc<RefCell<State>>,
}

impl Model {
    fn read(&self, offset: usize, bytes: usize) -> u32 {
        assert_eq!(offset % bytes, 0);
        let mut state = self.state.borrow_mut();
        let limit = u32::from(state.limit);
        match (self.window, offset) {
            (Window::Common, 4) | (Window::Slot { .. }, 0x10) => {
                State::feature_half(state.offered, state.select[0])
            }
            (Window::Common, 18) => 2,
            (Window::Common, 20) | (Window::Slot { .. }, 0x70) => state.status.into(),
            (Window::Common, 24) => state.queue().get(&24).copied().unwrap_or(limit),
            (Window::Common, 26) => state.queue().get(&26).copied().unwrap_or(0),
            // Notifications in the order opposite to the queues.
            (Window::Common, 30) => 1 - state.select[2],
            (Window::Slot { .. }, 0) => u32::from_le_bytes(*b"virt"),
            (Window::Slot { version, .. }, 4) => version,
            (Window::Slot { device, .. }, 8) => device,
            (Window::Slot { .. }, 0x34) => {
                if state.select[2] < 2 {
                    limit
                } else {
                    0
                }
            }
            (Window::Slot { .. }, 0x44) => state.queue().get(&0x44).copied().unwrap_or(0),
            (Window::Slot { .. }, 0x60) | (Window::Interrupt, 0) => 1,
            (Window::Device, _) | (Window::Slot { .. }, 0x100..) => {
                let start = if self.window == Window::Device { offset } else { offset - 0x100 };
                state.configuration[start..start + bytes]
                    .iter()
                    .rev()
                    .fold(0, |all, byte| all << 8 | u32::from(*byte))
            }
            _ => 0,
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        let mut state = self.state.borrow_mut();
        match (self.window, offset) {
            (Window::Common, 0) | (Window::Slot { .. }, 0x14) => state.select[0] = value,
            (Window::Common, 8) | (Window::Slot { .. }, 0x24) => state.select[1] = value,
            (Window::Common, 22) | (Window::Slot { .. }, 0x30) => state.select[2] = value,
            (Window::Common, 12) | (Window::Slot { .. }, 0x20) => {
                let half = state.select[1];
                state.accept_half(half, value);
            }
            (Window::Common, 20) | (Window::Slot { .. }, 0x70) => state.set_status(value as u8),
            (Window::Notify, at) => {
                assert_eq!(at, (1 - value as usize) * 4);
                state.notified.push(value);
            }
            (Window::Slot { .. }, 0x50) => state.notified.push(value),
            (_, at) => {
                state.queue().insert(at, value);
            }
        }
    }
}

impl Registers for Model {
    fn bytes(&self) -> usize {
        match self.window {
            Window::Common => 56,
            Window::Notify => 8,
            Window::Interrupt => 1,
            Window::Device => self.state.borrow().configuration.len(),
            Window::Slot { .. } => 0x100 + self.state.borrow().configuration.len(),
        }
    }

    fn read_u8(&self, offset: usize) -> u8 {
        self.read(offset, 1) as u8
    }

    fn read_u16(&self, offset: usize) -> u16 {
        self.read(offset, 2) as u16
    }

    fn read_u32(&self, offset: usize) -> u32 {
        self.read(offset, 4)
    }

    fn write_u8(&mut self, offset: usize, value: u8) {
        self.write(offset, value.into());
    }

    fn write_u16(&mut self, offset: usize, value: u16) {
        self.write(offset, value.into());
    }

    fn write_u32(&mut self, offset: usize, value: u32) {
        self.write(offset, value);
    }
}

fn state() -> Rc<RefCell<State>> {
    let mut configuration = std::vec![0; 60];
    configuration[..8].copy_from_slice(&0x1_2345_6789u64.to_le_bytes());
    configuration[8..12].copy_from_slice(&70000u32.to_le_bytes());
    configuration[20..24].copy_from_slice(&4096u32.to_le_bytes());
    let offered = FEATURE_VERSION_1 | FEATURE_PLATFORM_ADDRESSES | 1 << 9 | 1 << 6 | 1 << 28 | 1 << 35;
    Rc::new(RefCell::new(State { offered, limit: 96, configuration, ..State::default() }))
}

fn pci(state: &Rc<RefCell<State>>) -> PciTransport<Model> {
    let window = |window| Model { window, state: state.clone() };
    let (common, notify) = (window(Window::Common), window(Window::Notify));
    PciTransport::new(common, notify, 4, window(Window::Interrupt), window(Window::Device)).unwrap()
}

fn slot(state: &Rc<RefCell<State>>) -> SlotTransport<Model> {
    let registers = Model { window: Window::Slot { version: 2, device: 2 }, state: state.clone() };
    let (kind, transport) = SlotTransport::new(registers).unwrap().unwrap();
    assert_eq!(kind, Kind::Block);
    transport
}

/// The whole start of a disk, and one request, over any transport. `fields`: size, ready, descriptors, available, used.
fn start(device: &mut impl Transport, state: &Rc<RefCell<State>>, fields: [usize; 5]) {
    let features = negotiate(device, block::FEATURES).unwrap();
    assert_eq!(features, FEATURE_VERSION_1 | FEATURE_PLATFORM_ADDRESSES | 1 << 9 | 1 << 6);
    assert_eq!(state.borrow().accepted, features);
    let layout = queue_layout(device, block::QUEUE, 128, block::PIECES).unwrap();
    assert_eq!(layout.size(), 64, "96 descriptors are no ring");
    let address = 0x1_0000_2000;
    device.enable_queue(block::QUEUE, QueuePlace { layout, address, vector: 0 }).unwrap();
    ready(device);
    let found = state.borrow();
    assert_eq!(found.history, [0, 1, 3, 11, 15]);
    let low = |offset: usize| address as u32 + offset as u32;
    let expected = [64, 1, low(0), low(layout.available()), low(layout.used())];
    for (field, expected) in fields.into_iter().zip(expected) {
        assert_eq!(found.queues[&0].get(&field), Some(&expected), "{field:#x}");
    }
    for field in &fields[2..] {
        assert_eq!(found.queues[&0][&(field + 4)], 1, "the upper half of {field:#x}");
    }
    drop(found);
    device.notify(0);
    assert_eq!(state.borrow().notified, [0]);
    assert_eq!(device.acknowledge_interrupt(), 1);
    let disk = Disk::read(device, features, 1 << 17);
    let (sectors, request_bytes_max) = (0x1_2345_6789, 1 << 17);
    assert_eq!(
        disk,
        Disk { sectors, block_bytes: 4096, request_bytes_max, read_only: false, can_flush: true }
    );
    let limited = Disk::read(device, features | 1 << 1, 1 << 17);
    assert_eq!(limited.request_bytes_max, 70000 / 512 * 512);
    assert_eq!(device.configuration_u32(58), 0, "beyond the end");
    assert_eq!(queue_layout(device, 7, 128, 1), Err(Refusal::NoQueue { index: 7 }));
    let too_small = Err(Refusal::QueueTooSmall { index: 1, size: 64 });
    assert_eq!(queue_layout(device, 1, 128, 65), too_small);
}

#[test]
fn a_device_on_pci_starts() {
    let state = state();
    start(&mut pci(&state), &state, [24, 28, 32, 40, 48]);
}

#[test]
fn a_device_in_a_slot_starts() {
    let state = state();
    start(&mut slot(&state), &state, [0x38, 0x44, 0x80, 0x90, 0xA0]);
}

#[test]
fn notifications_go_where_the_queue_says() {
    let state = state();
    let mut device = pci(&state);
    let place = QueuePlace { layout: Layout::new(2).unwrap(), address: 0x1000, vector: 0 };
    for index in [0, 1] {
        device.enable_queue(index, place).unwrap();
    }
    for index in [1, 0, 5] {
        device.notify(index);
    }
    assert_eq!(state.borrow().notified, [1, 0]);
}

#[test]
fn refusals_are_told_apart() {
    type Change = fn(&mut State);
    let cases: [(Change, Refusal); 3] = [
        (|state| state.stuck = true, Refusal::DoesNotReset),
        (|state| state.offered &= !FEATURE_VERSION_1, Refusal::NotModern),
        (|state| state.refuses = 1 << 9, Refusal::FeaturesRefused),
    ];
    for (change, expected) in cases {
        let state = state();
        change(&mut state.borrow_mut());
        assert_eq!(negotiate(&mut pci(&state), block::FEATURES), Err(expected));
        assert_eq!(negotiate(&mut slot(&state), block::FEATURES), Err(expected));
    }
    let slot = |version, device| {
        SlotTransport::new(Model { window: Window::Slot { version, device }, state: state() })
            .map(|found| found.is_some())
    };
    assert_eq!(slot(1, 2), Err(Refusal::OldRegisters { version: 1 }));
    // An empty slot has a device 0, of whatever version.
    assert_eq!((slot(1, 0), slot(2, 3), slot(2, 1)), (Ok(false), Ok(false), Ok(true)));
}

#[test]
fn ids_of_pci() {
    assert_eq!(Kind::from_pci(0x1AF4, 0x1042), Some(Kind::Block));
    assert_eq!(Kind::from_pci(0x1AF4, 0x1041), Some(Kind::Network));
    for (vendor, device) in [(0x1AF4, 0x1001), (0x1AF4, 0x1000), (0x1AF4, 0x1050), (0x8086, 0x1042)] {
        assert_eq!(Kind::from_pci(vendor, device), None);
    }
}

#[test]
fn interrupts_are_asked_for_and_not() {
    let layout = Layout::new(4).unwrap();
    let memory = SharedMemory::new(layout.bytes());
    let mut queue = Queue::new(layout, memory.clone());
    queue.set_interrupts(false);
    assert_eq!(memory.read_u16(layout.available()), 1);
    queue.set_interrupts(true);
    assert_eq!(memory.read_u16(layout.available()), 0);
}
