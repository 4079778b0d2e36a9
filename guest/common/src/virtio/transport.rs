//! How a device is started and notified: the order of steps, once, over the registers of PCI's modern form and over
//! those of a memory slot. Allocates no rings and waits for no interrupt.

use alloc::vec::Vec;

use super::capability::COMMON_BYTES;
use super::ring::Layout;
use super::{Kind, Refusal};
use crate::limits::{VIRTIO_RESET_POLLS_MAX, VIRTIO_TEAR_READS_MAX};

const STATUS_ACKNOWLEDGED: u8 = 1;
const STATUS_DRIVER: u8 = 2;
const STATUS_READY: u8 = 4;
const STATUS_FEATURES_OK: u8 = 8;

/// The device speaks the modern form.
pub const FEATURE_VERSION_1: u64 = 1 << 32;
/// The device's addresses are those of its bus. Nobody translates them here, so they are physical ones either way.
pub const FEATURE_PLATFORM_ADDRESSES: u64 = 1 << 33;

/// No message of MSI-X for a queue.
pub const NO_VECTOR: u16 = 0xFFFF;

/// A window on registers. Offsets lie inside and are aligned for their access.
pub trait Registers {
    /// Bytes of the window.
    fn bytes(&self) -> usize;
    fn read_u8(&self, offset: usize) -> u8;
    fn read_u16(&self, offset: usize) -> u16;
    fn read_u32(&self, offset: usize) -> u32;
    fn write_u8(&mut self, offset: usize, value: u8);
    fn write_u16(&mut self, offset: usize, value: u16);
    fn write_u32(&mut self, offset: usize, value: u32);
}

/// A ring as the device is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePlace {
    pub layout: Layout,
    /// Physical address of the ring's start.
    pub address: u64,
    /// Message of MSI-X; ignored where there is none.
    pub vector: u16,
}

/// What differs between the two kinds of registers.
pub trait Transport {
    fn status(&self) -> u8;
    fn set_status(&mut self, status: u8);
    /// Bits 32·`half` and above.
    fn offered_features(&mut self, half: u32) -> u32;
    fn set_features(&mut self, half: u32, features: u32);
    /// Descriptors the device allows in a queue; 0 where there is no such queue.
    fn queue_limit(&mut self, index: u16) -> u16;
    fn enable_queue(&mut self, index: u16, place: QueuePlace) -> Result<(), Refusal>;
    fn notify(&mut self, index: u16);
    /// Says why the device interrupted, and ends a level-triggered interrupt. Not needed with MSI-X.
    fn acknowledge_interrupt(&mut self) -> u8;
    /// Changes with the device's own configuration.
    fn generation(&self) -> u32;
    fn configuration_bytes(&self) -> usize;
    fn configuration_u8(&self, offset: usize) -> u8;
    fn configuration_u32(&self, offset: usize) -> u32;
}

/// Resets a device and agrees with it on features: those of `wanted` that it offers. Queues come next, `ready` last.
pub fn negotiate(device: &mut (impl Transport + ?Sized), wanted: u64) -> Result<u64, Refusal> {
    device.set_status(0);
    if !(0..VIRTIO_RESET_POLLS_MAX).any(|_| device.status() == 0) {
        return Err(Refusal::DoesNotReset);
    }
    device.set_status(STATUS_ACKNOWLEDGED);
    device.set_status(STATUS_ACKNOWLEDGED | STATUS_DRIVER);
    let offered = u64::from(device.offered_features(0)) | u64::from(device.offered_features(1)) << 32;
    if offered & FEATURE_VERSION_1 == 0 {
        return Err(Refusal::NotModern);
    }
    let features = offered & (wanted | FEATURE_VERSION_1 | FEATURE_PLATFORM_ADDRESSES);
    device.set_features(0, features as u32);
    device.set_features(1, (features >> 32) as u32);
    device.set_status(STATUS_ACKNOWLEDGED | STATUS_DRIVER | STATUS_FEATURES_OK);
    if device.status() & STATUS_FEATURES_OK == 0 {
        return Err(Refusal::FeaturesRefused);
    }
    Ok(features)
}

/// The layout of a queue: as large as the device allows, within `limit`, and of `least` descriptors or more.
pub fn queue_layout(
    device: &mut (impl Transport + ?Sized),
    index: u16,
    limit: u16,
    least: u16,
) -> Result<Layout, Refusal> {
    let layout = Layout::within(device.queue_limit(index), limit).ok_or(Refusal::NoQueue { index })?;
    if layout.size() < least {
        return Err(Refusal::QueueTooSmall { index, size: layout.size() });
    }
    Ok(layout)
}

/// From here on the device works.
pub fn ready(device: &mut (impl Transport + ?Sized)) {
    device.set_status(STATUS_ACKNOWLEDGED | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_READY);
}

/// 64 bits of the device's configuration, read in halves that belong together.
pub fn configuration_u64(device: &(impl Transport + ?Sized), offset: usize) -> u64 {
    let mut value = 0;
    for _ in 0..VIRTIO_TEAR_READS_MAX {
        let before = device.generation();
        value = u64::from(device.configuration_u32(offset + 4)) << 32
            | u64::from(device.configuration_u32(offset));
        if device.generation() == before {
            break;
        }
    }
    value
}

const COMMON_DEVICE_FEATURE_SELECT: usize = 0;
const COMMON_DEVICE_FEATURE: usize = 4;
const COMMON_DRIVER_FEATURE_SELECT: usize = 8;
const COMMON_DRIVER_FEATURE: usize = 12;
const COMMON_QUEUES: usize = 18;
const COMMON_STATUS: usize = 20;
const COMMON_GENERATION: usize = 21;
const COMMON_QUEUE_SELECT: usize = 22;
const COMMON_QUEUE_SIZE: usize = 24;
const COMMON_QUEUE_VECTOR: usize = 26;
const COMMON_QUEUE_ENABLE: usize = 28;
const COMMON_QUEUE_NOTIFY_OFFSET: usize = 30;
const COMMON_QUEUE_DESCRIPTORS: usize = 32;
const COMMON_QUEUE_AVAILABLE: usize = 40;
const COMMON_QUEUE_USED: usize = 48;

/// A device on PCI in its modern form.
pub struct PciTransport<R> {
    common: R,
    notify: R,
    notify_step: u32,
    interrupt: R,
    device: R,
    /// Offsets of the notifications of enabled queues.
    notifications: Vec<(u16, usize)>,
}

impl<R: Registers> PciTransport<R> {
    /// Windows on the structures.
    pub fn new(
        common: R,
        notify: R,
        notify_step: u32,
        interrupt: R,
        device: R,
    ) -> Result<PciTransport<R>, Refusal> {
        for (window, least, name) in
            [(&common, COMMON_BYTES, "common"), (&notify, 2, "notify"), (&interrupt, 1, "interrupt")]
        {
            if (window.bytes() as u64) < least {
                return Err(Refusal::MissingStructure(name));
            }
        }
        Ok(PciTransport { common, notify, notify_step, interrupt, device, notifications: Vec::new() })
    }

    fn write_address(&mut self, offset: usize, address: u64) {
        // Devices take such fields in two halves.
        self.common.write_u32(offset, address as u32);
        self.common.write_u32(offset + 4, (address >> 32) as u32);
    }
}

impl<R: Registers> Transport for PciTransport<R> {
    fn status(&self) -> u8 {
        self.common.read_u8(COMMON_STATUS)
    }

    fn set_status(&mut self, status: u8) {
        self.common.write_u8(COMMON_STATUS, status);
    }

    fn offered_features(&mut self, half: u32) -> u32 {
        self.common.write_u32(COMMON_DEVICE_FEATURE_SELECT, half);
        self.common.read_u32(COMMON_DEVICE_FEATURE)
    }

    fn set_features(&mut self, half: u32, features: u32) {
        self.common.write_u32(COMMON_DRIVER_FEATURE_SELECT, half);
        self.common.write_u32(COMMON_DRIVER_FEATURE, features);
    }

    fn queue_limit(&mut self, index: u16) -> u16 {
        if index >= self.common.read_u16(COMMON_QUEUES) {
            return 0;
        }
        self.common.write_u16(COMMON_QUEUE_SELECT, index);
        self.common.read_u16(COMMON_QUEUE_SIZE)
    }

    fn enable_queue(&mut self, index: u16, place: QueuePlace) -> Result<(), Refusal> {
        let (layout, address) = (place.layout, place.address);
        self.common.write_u16(COMMON_QUEUE_SELECT, index);
        let notification = u64::from(self.common.read_u16(COMMON_QUEUE_NOTIFY_OFFSET));
        let notification = (notification * u64::from(self.notify_step)) as usize;
        if notification.checked_add(2).is_none_or(|end| end > self.notify.bytes()) {
            return Err(Refusal::NotifyOutside { index });
        }
        self.common.write_u16(COMMON_QUEUE_SIZE, layout.size());
        if self.common.read_u16(COMMON_QUEUE_SIZE) != layout.size() {
            return Err(Refusal::QueueRefused { index });
        }
        self.common.write_u16(COMMON_QUEUE_VECTOR, place.vector);
        if self.common.read_u16(COMMON_QUEUE_VECTOR) != place.vector {
            return Err(Refusal::QueueRefused { index });
        }
        self.write_address(COMMON_QUEUE_DESCRIPTORS, address);
        self.write_address(COMMON_QUEUE_AVAILABLE, address + layout.available() as u64);
        self.write_address(COMMON_QUEUE_USED, address + layout.used() as u64);
        self.common.write_u16(COMMON_QUEUE_ENABLE, 1);
        self.notifications.retain(|(queue, _)| *queue != index);
        self.notifications.push((index, notification));
        Ok(())
    }

    fn notify(&mut self, index: u16) {
        if let Some((_, offset)) = self.notifications.iter().find(|(queue, _)| *queue == index) {
            self.notify.write_u16(*offset, index);
        }
    }

    fn acknowledge_interrupt(&mut self) -> u8 {
        // Reading it clears it.
        self.interrupt.read_u8(0)
    }

    fn generation(&self) -> u32 {
        u32::from(self.common.read_u8(COMMON_GENERATION))
    }

    fn configuration_bytes(&self) -> usize {
        self.device.bytes()
    }

    fn configuration_u8(&self, offset: usize) -> u8 {
        if offset < self.device.bytes() { self.device.read_u8(offset) } else { 0 }
    }

    fn configuration_u32(&self, offset: usize) -> u32 {
        if offset + 4 <= self.device.bytes() { self.device.read_u32(offset) } else { 0 }
    }
}

const SLOT_MAGIC: usize = 0x00;
const SLOT_VERSION: usize = 0x04;
const SLOT_DEVICE: usize = 0x08;
const SLOT_DEVICE_FEATURES: usize = 0x10;
const SLOT_DEVICE_FEATURES_SELECT: usize = 0x14;
const SLOT_DRIVER_FEATURES: usize = 0x20;
const SLOT_DRIVER_FEATURES_SELECT: usize = 0x24;
const SLOT_QUEUE_SELECT: usize = 0x30;
const SLOT_QUEUE_LIMIT: usize = 0x34;
const SLOT_QUEUE_SIZE: usize = 0x38;
const SLOT_QUEUE_READY: usize = 0x44;
const SLOT_QUEUE_NOTIFY: usize = 0x50;
const SLOT_INTERRUPT_STATUS: usize = 0x60;
const SLOT_INTERRUPT_ACKNOWLEDGE: usize = 0x64;
const SLOT_STATUS: usize = 0x70;
const SLOT_QUEUE_DESCRIPTORS: usize = 0x80;
const SLOT_QUEUE_AVAILABLE: usize = 0x90;
const SLOT_QUEUE_USED: usize = 0xA0;
const SLOT_GENERATION: usize = 0xFC;
const SLOT_CONFIGURATION: usize = 0x100;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");

/// A device in a memory slot (virtio-mmio), registers of version 2.
pub struct SlotTransport<R> {
    registers: R,
}

impl<R: Registers> SlotTransport<R> {
    /// The device in a slot; nothing where the slot is empty or has a device of another kind.
    pub fn new(registers: R) -> Result<Option<(Kind, SlotTransport<R>)>, Refusal> {
        if registers.bytes() < SLOT_CONFIGURATION || registers.read_u32(SLOT_MAGIC) != MAGIC {
            return Err(Refusal::NotVirtio);
        }
        let Some(kind) = Kind::from_number(registers.read_u32(SLOT_DEVICE)) else { return Ok(None) };
        match registers.read_u32(SLOT_VERSION) {
            2 => Ok(Some((kind, SlotTransport { registers }))),
            version => Err(Refusal::OldRegisters { version }),
        }
    }

    fn write_address(&mut self, offset: usize, address: u64) {
        self.registers.write_u32(offset, address as u32);
        self.registers.write_u32(offset + 4, (address >> 32) as u32);
    }
}

impl<R: Registers> Transport for SlotTransport<R> {
    fn status(&self) -> u8 {
        self.registers.read_u32(SLOT_STATUS) as u8
    }

    fn set_status(&mut self, status: u8) {
        self.registers.write_u32(SLOT_STATUS, u32::from(status));
    }

    fn offered_features(&mut self, half: u32) -> u32 {
        self.registers.write_u32(SLOT_DEVICE_FEATURES_SELECT, half);
        self.registers.read_u32(SLOT_DEVICE_FEATURES)
    }

    fn set_features(&mut self, half: u32, features: u32) {
        self.registers.write_u32(SLOT_DRIVER_FEATURES_SELECT, half);
        self.registers.write_u32(SLOT_DRIVER_FEATURES, features);
    }

    fn queue_limit(&mut self, index: u16) -> u16 {
        self.registers.write_u32(SLOT_QUEUE_SELECT, u32::from(index));
        self.registers.read_u32(SLOT_QUEUE_LIMIT).min(u32::from(u16::MAX)) as u16
    }

    fn enable_queue(&mut self, index: u16, place: QueuePlace) -> Result<(), Refusal> {
        let (layout, address) = (place.layout, place.address);
        self.registers.write_u32(SLOT_QUEUE_SELECT, u32::from(index));
        self.registers.write_u32(SLOT_QUEUE_SIZE, u32::from(layout.size()));
        self.write_address(SLOT_QUEUE_DESCRIPTORS, address);
        self.write_address(SLOT_QUEUE_AVAILABLE, address + layout.available() as u64);
        self.write_address(SLOT_QUEUE_USED, address + layout.used() as u64);
        self.registers.write_u32(SLOT_QUEUE_READY, 1);
        if self.registers.read_u32(SLOT_QUEUE_READY) != 1 {
            return Err(Refusal::QueueRefused { index });
        }
        Ok(())
    }

    fn notify(&mut self, index: u16) {
        self.registers.write_u32(SLOT_QUEUE_NOTIFY, u32::from(index));
    }

    fn acknowledge_interrupt(&mut self) -> u8 {
        let why = self.registers.read_u32(SLOT_INTERRUPT_STATUS);
        self.registers.write_u32(SLOT_INTERRUPT_ACKNOWLEDGE, why);
        why as u8
    }

    fn generation(&self) -> u32 {
        self.registers.read_u32(SLOT_GENERATION)
    }

    fn configuration_bytes(&self) -> usize {
        self.registers.bytes() - SLOT_CONFIGURATION
    }

    fn configuration_u8(&self, offset: usize) -> u8 {
        if offset < self.configuration_bytes() {
            self.registers.read_u8(SLOT_CONFIGURATION + offset)
        } else {
            0
        }
    }

    fn configuration_u32(&self, offset: usize) -> u32 {
        if offset + 4 > self.configuration_bytes() {
            return 0;
        }
        self.registers.read_u32(SLOT_CONFIGURATION + offset)
    }
}
