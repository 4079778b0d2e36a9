//! virtio-blk over PCI, reading only: transitional devices through their old I/O ports (1AF4:1001, as Redox's own
//! driver uses them) and modern ones through memory (1AF4:1042).

use alloc::vec::Vec;

use redox_boot::device::{BEYOND_END, BlockReader, DeviceError};
use redox_boot::limits::BLOCK_BYTES;

use crate::cpu;
use crate::memory::{map_device, physical_address};
use crate::pci::{BaseAddress, Function};
use crate::virtio::{Piece, Ring};

const VENDOR: u16 = 0x1AF4;
const TRANSITIONAL: u16 = 0x1001;
const MODERN: u16 = 0x1042;

const SECTOR_BYTES: usize = 512;
/// Bytes of one request.
const REQUEST_BYTES_MAX: usize = 1 << 20;

const STATUS_ACKNOWLEDGED: u8 = 1;
const STATUS_DRIVER: u8 = 2;
const STATUS_READY: u8 = 4;
const STATUS_FEATURES_OK: u8 = 8;
/// Feature 32, as a bit of the second half: the device speaks the modern form.
const FEATURE_VERSION_1: u32 = 1;

const CODE_TIMEOUT: u64 = 0x100;
const CODE_MEMORY: u64 = 0x101;

/// Why a device that looks right cannot be used.
pub type Refusal = &'static str;

pub struct VirtioBlock {
    transport: Transport,
    ring: Ring,
    sectors: u64,
    /// Header of 16 bytes, then the status byte, in memory the device can reach.
    request: Vec<u8>,
}

enum Transport {
    Ports { base: u16 },
    Memory { notify: u64 },
}

/// The kind of a function, where it is a disk this driver knows.
pub fn kind(function: &Function) -> Option<&'static str> {
    match (function.vendor, function.device) {
        (VENDOR, TRANSITIONAL) => Some("virtio-blk (transitional)"),
        (VENDOR, MODERN) => Some("virtio-blk (modern)"),
        _ => None,
    }
}

pub fn open(function: &Function) -> Result<VirtioBlock, Refusal> {
    function.address.enable();
    match (function.device, function.address.base_address(0)) {
        (TRANSITIONAL, Some(BaseAddress::Ports(base))) => open_ports(base),
        _ => open_memory(function),
    }
}

impl VirtioBlock {
    pub fn bytes(&self) -> u64 {
        self.sectors.saturating_mul(SECTOR_BYTES as u64)
    }

    fn new(transport: Transport, ring: Ring, sectors: u64) -> VirtioBlock {
        // A power of two and no larger than a page, so that it never crosses one.
        VirtioBlock { transport, ring, sectors, request: alloc::vec![0; 32] }
    }

    fn read(&mut self, sector: u64, buffer: &mut [u8]) -> Result<(), u64> {
        let address = physical_address(buffer.as_ptr(), buffer.len()).ok_or(CODE_MEMORY)?;
        let request = physical_address(self.request.as_ptr(), self.request.len()).ok_or(CODE_MEMORY)?;
        // Type 0 reads; the sector follows at byte 8. A status no device writes marks the answer as missing.
        self.request[..8].fill(0);
        self.request[8..16].copy_from_slice(&sector.to_le_bytes());
        self.request[16] = 0xFF;
        let pieces = [
            Piece { address: request, bytes: 16, device_writes: false },
            Piece { address, bytes: buffer.len() as u32, device_writes: true },
            Piece { address: request + 16, bytes: 1, device_writes: true },
        ];
        let transport = &self.transport;
        let answered = self.ring.request(&pieces, || match transport {
            // SAFETY: the device's own registers, which this driver alone uses.
            Transport::Ports { base } => unsafe { cpu::write_port_u16(base + PORT_QUEUE_NOTIFY, 0) },
            // SAFETY: as above, mapped by `open_memory`.
            Transport::Memory { notify } => unsafe { (*notify as *mut u16).write_volatile(0) },
        });
        // SAFETY: the byte exists; the device wrote it behind the compiler's back.
        match unsafe { self.request.as_ptr().add(16).read_volatile() } {
            _ if !answered => Err(CODE_TIMEOUT),
            0 => Ok(()),
            status => Err(u64::from(status)),
        }
    }
}

impl BlockReader for VirtioBlock {
    fn read_blocks(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        let sectors_per_block = (BLOCK_BYTES / SECTOR_BYTES) as u64;
        for (index, chunk) in buffer.chunks_mut(REQUEST_BYTES_MAX).enumerate() {
            let block = first.saturating_add((index * REQUEST_BYTES_MAX / BLOCK_BYTES) as u64);
            let sector = block.saturating_mul(sectors_per_block);
            if sector.saturating_add((chunk.len() / SECTOR_BYTES) as u64) > self.sectors {
                return Err(DeviceError { block, code: BEYOND_END });
            }
            self.read(sector, chunk).map_err(|code| DeviceError { block, code })?;
        }
        Ok(())
    }
}

const PORT_DRIVER_FEATURES: u16 = 4;
const PORT_QUEUE_ADDRESS: u16 = 8;
const PORT_QUEUE_SIZE: u16 = 12;
const PORT_QUEUE_SELECT: u16 = 14;
const PORT_QUEUE_NOTIFY: u16 = 16;
const PORT_STATUS: u16 = 18;
const PORT_CAPACITY: u16 = 20;

fn open_ports(base: u16) -> Result<VirtioBlock, Refusal> {
    // SAFETY: the device's own ports, stated by its first base address; this driver alone uses them.
    unsafe {
        cpu::write_port_u8(base + PORT_STATUS, 0);
        cpu::write_port_u8(base + PORT_STATUS, STATUS_ACKNOWLEDGED | STATUS_DRIVER);
        // Reading whole sectors needs no feature.
        cpu::write_port_u32(base + PORT_DRIVER_FEATURES, 0);
        cpu::write_port_u16(base + PORT_QUEUE_SELECT, 0);
        let ring =
            Ring::new(cpu::read_port_u16(base + PORT_QUEUE_SIZE)).ok_or("its queue has no usable size")?;
        let page =
            u32::try_from(ring.descriptors() / BLOCK_BYTES as u64).map_err(|_| "its queue lies too high")?;
        cpu::write_port_u32(base + PORT_QUEUE_ADDRESS, page);
        let low = cpu::read_port_u32(base + PORT_CAPACITY);
        let high = cpu::read_port_u32(base + PORT_CAPACITY + 4);
        cpu::write_port_u8(base + PORT_STATUS, STATUS_ACKNOWLEDGED | STATUS_DRIVER | STATUS_READY);
        Ok(VirtioBlock::new(Transport::Ports { base }, ring, u64::from(high) << 32 | u64::from(low)))
    }
}

const VENDOR_CAPABILITY: u8 = 9;
const STRUCTURE_COMMON: u8 = 1;
const STRUCTURE_NOTIFY: u8 = 2;
const STRUCTURE_DEVICE: u8 = 4;

const COMMON_DEVICE_FEATURE_SELECT: u64 = 0;
const COMMON_DEVICE_FEATURE: u64 = 4;
const COMMON_DRIVER_FEATURE_SELECT: u64 = 8;
const COMMON_DRIVER_FEATURE: u64 = 12;
const COMMON_STATUS: u64 = 20;
const COMMON_QUEUE_SELECT: u64 = 22;
const COMMON_QUEUE_SIZE: u64 = 24;
const COMMON_QUEUE_ENABLE: u64 = 28;
const COMMON_QUEUE_NOTIFY_OFFSET: u64 = 30;
const COMMON_QUEUE_DESCRIPTORS: u64 = 32;
const COMMON_QUEUE_AVAILABLE: u64 = 40;
const COMMON_QUEUE_USED: u64 = 48;
const COMMON_BYTES: u64 = 56;

/// Largest ring that is asked of a modern device; it may be set smaller than the device offers.
const MODERN_RING: u16 = 64;
const RESET_POLLS_MAX: usize = 1_000_000;

/// Registers in memory.
#[derive(Clone, Copy)]
struct Registers(u64);

impl Registers {
    /// # Safety
    /// The registers must be mapped and `offset` inside them, aligned for `T`.
    unsafe fn read<T>(self, offset: u64) -> T {
        // SAFETY: the caller's promise.
        unsafe { ((self.0 + offset) as *const T).read_volatile() }
    }

    /// # Safety
    /// As for `read`, and the caller must own the device.
    unsafe fn write<T>(self, offset: u64, value: T) {
        // SAFETY: the caller's promise.
        unsafe { ((self.0 + offset) as *mut T).write_volatile(value) };
    }

    /// # Safety
    /// As for `write`.
    unsafe fn write_u64(self, offset: u64, value: u64) {
        // SAFETY: the caller's promise. Devices take such fields in two halves.
        unsafe {
            self.write(offset, value as u32);
            self.write(offset + 4, (value >> 32) as u32);
        }
    }
}

/// The registers of one structure, and the capability that names it.
fn structure(function: &Function, wanted: u8, bytes: u64) -> Result<(Registers, u8), Refusal> {
    let address = function.address;
    for capability in address.capabilities(VENDOR_CAPABILITY) {
        if address.read_u8(capability + 3) != wanted || capability > 0xE8 {
            continue;
        }
        let Some(BaseAddress::Memory(base)) = address.base_address(address.read_u8(capability + 4)) else {
            continue;
        };
        let offset = u64::from(address.read_u32(capability + 8));
        let length = u64::from(address.read_u32(capability + 12));
        if length < bytes {
            continue;
        }
        let mapped = base.checked_add(offset).and_then(|start| map_device(start, length).ok());
        return mapped.map(|start| (Registers(start), capability)).ok_or("its registers cannot be mapped");
    }
    Err("it lacks a structure of the modern form")
}

fn open_memory(function: &Function) -> Result<VirtioBlock, Refusal> {
    let (common, _) = structure(function, STRUCTURE_COMMON, COMMON_BYTES)?;
    let (notify, notify_capability) = structure(function, STRUCTURE_NOTIFY, 2)?;
    let (device, _) = structure(function, STRUCTURE_DEVICE, 8)?;
    // SAFETY: all registers were mapped just now and lie inside their structures; this driver alone uses them.
    unsafe {
        common.write(COMMON_STATUS, 0u8);
        let reset = (0..RESET_POLLS_MAX).any(|_| common.read::<u8>(COMMON_STATUS) == 0);
        if !reset {
            return Err("it does not reset");
        }
        common.write(COMMON_STATUS, STATUS_ACKNOWLEDGED | STATUS_DRIVER);
        common.write(COMMON_DEVICE_FEATURE_SELECT, 1u32);
        if common.read::<u32>(COMMON_DEVICE_FEATURE) & FEATURE_VERSION_1 == 0 {
            return Err("it does not speak the modern form");
        }
        common.write(COMMON_DRIVER_FEATURE_SELECT, 0u32);
        common.write(COMMON_DRIVER_FEATURE, 0u32);
        common.write(COMMON_DRIVER_FEATURE_SELECT, 1u32);
        common.write(COMMON_DRIVER_FEATURE, FEATURE_VERSION_1);
        common.write(COMMON_STATUS, STATUS_ACKNOWLEDGED | STATUS_DRIVER | STATUS_FEATURES_OK);
        if common.read::<u8>(COMMON_STATUS) & STATUS_FEATURES_OK == 0 {
            return Err("it refuses the modern form");
        }
        common.write(COMMON_QUEUE_SELECT, 0u16);
        let ring = Ring::new(common.read::<u16>(COMMON_QUEUE_SIZE).min(MODERN_RING));
        let ring = ring.ok_or("its queue has no usable size")?;
        common.write(COMMON_QUEUE_SIZE, ring.size());
        common.write_u64(COMMON_QUEUE_DESCRIPTORS, ring.descriptors());
        common.write_u64(COMMON_QUEUE_AVAILABLE, ring.available());
        common.write_u64(COMMON_QUEUE_USED, ring.used());
        let notify_index = u64::from(common.read::<u16>(COMMON_QUEUE_NOTIFY_OFFSET));
        common.write(COMMON_QUEUE_ENABLE, 1u16);
        common.write(COMMON_STATUS, STATUS_ACKNOWLEDGED | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_READY);
        let step = u64::from(function.address.read_u32(notify_capability + 16));
        let sectors = u64::from(device.read::<u32>(4)) << 32 | u64::from(device.read::<u32>(0));
        Ok(VirtioBlock::new(Transport::Memory { notify: notify.0 + notify_index * step }, ring, sectors))
    }
}
