//! virtio-blk, reading only: over PCI transitional devices through their old I/O ports (1AF4:1001, as Redox's own driver
//! uses them) and modern ones through memory (1AF4:1042); modern ones in memory slots.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use redox_boot::device::{BEYOND_END, BlockReader, DeviceError};
use redox_boot::limits::BLOCK_BYTES;
use redox_boot::virtio::block::{self, HEADER_BYTES, Operation, STATUS_MISSING, STATUS_OK, header};
use redox_boot::virtio::capability::{BaseAddress, Place, base_address, structures};
use redox_boot::virtio::ring::{Layout, Piece};
use redox_boot::virtio::slots::Slot;
use redox_boot::virtio::transport::{
    NO_VECTOR, PciTransport, QueuePlace, SlotTransport, Transport as _, negotiate, queue_layout, ready,
};
use redox_boot::virtio::{Kind, VENDOR};

use crate::cpu;
use crate::memory::physical_address;
use crate::pci::Function;
use crate::virtio::{Ring, Window};

const TRANSITIONAL: u16 = 0x1001;

const SECTOR_BYTES: usize = block::SECTOR_BYTES as usize;
/// Bytes of one request.
const REQUEST_BYTES_MAX: usize = 1 << 20;

const STATUS_ACKNOWLEDGED: u8 = 1;
const STATUS_DRIVER: u8 = 2;
const STATUS_READY: u8 = 4;

const CODE_TIMEOUT: u64 = 0x100;
const CODE_MEMORY: u64 = 0x101;

/// Why a device that looks right cannot be used.
pub type Refusal = String;

pub struct VirtioBlock {
    transport: Transport,
    ring: Ring,
    sectors: u64,
    /// Header of 16 bytes, then the status byte, in memory the device can reach.
    request: Vec<u8>,
}

enum Transport {
    Ports { base: u16 },
    Memory(PciTransport<Window>),
    Slot(SlotTransport<Window>),
}

/// The kind of a function, where it is a disk this driver knows.
pub fn kind(function: &Function) -> Option<&'static str> {
    match (function.vendor, function.device) {
        (VENDOR, TRANSITIONAL) => Some("virtio-blk (transitional)"),
        (vendor, device) if Kind::from_pci(vendor, device) == Some(Kind::Block) => {
            Some("virtio-blk (modern)")
        }
        _ => None,
    }
}

pub fn open(function: &Function) -> Result<VirtioBlock, Refusal> {
    function.address.enable();
    let mut space = function.address;
    match (function.device, base_address(&mut space, 0)) {
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
        self.request[..HEADER_BYTES].copy_from_slice(&header(Operation::Read, sector));
        self.request[HEADER_BYTES] = STATUS_MISSING;
        let pieces = [
            Piece { address: request, bytes: HEADER_BYTES as u32, device_writes: false },
            Piece { address, bytes: buffer.len() as u32, device_writes: true },
            Piece { address: request + HEADER_BYTES as u64, bytes: 1, device_writes: true },
        ];
        let transport = &mut self.transport;
        let answered = self.ring.request(&pieces, || match transport {
            // SAFETY: the device's own registers, which this driver alone uses.
            Transport::Ports { base } => unsafe { cpu::write_port_u16(*base + PORT_QUEUE_NOTIFY, 0) },
            Transport::Memory(device) => device.notify(block::QUEUE),
            Transport::Slot(device) => device.notify(block::QUEUE),
        });
        // SAFETY: the byte exists; the device wrote it behind the compiler's back.
        match unsafe { self.request.as_ptr().add(HEADER_BYTES).read_volatile() } {
            _ if !answered => Err(CODE_TIMEOUT),
            STATUS_OK => Ok(()),
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
        let layout = Layout::new(cpu::read_port_u16(base + PORT_QUEUE_SIZE));
        let ring = layout.and_then(Ring::new).ok_or("its queue has no usable size")?;
        let page =
            u32::try_from(ring.address() / BLOCK_BYTES as u64).map_err(|_| "its queue lies too high")?;
        cpu::write_port_u32(base + PORT_QUEUE_ADDRESS, page);
        let low = cpu::read_port_u32(base + PORT_CAPACITY);
        let high = cpu::read_port_u32(base + PORT_CAPACITY + 4);
        cpu::write_port_u8(base + PORT_STATUS, STATUS_ACKNOWLEDGED | STATUS_DRIVER | STATUS_READY);
        Ok(VirtioBlock::new(Transport::Ports { base }, ring, u64::from(high) << 32 | u64::from(low)))
    }
}

/// Largest ring that is asked of a modern device; it may be set smaller than the device offers.
const MODERN_RING: u16 = 64;

fn open_memory(function: &Function) -> Result<VirtioBlock, Refusal> {
    let mut space = function.address;
    let found = structures(&mut space).map_err(refused)?;
    let map = |place: Place| map(place.address, place.bytes);
    let (common, notify) = (map(found.common)?, map(found.notify)?);
    let mut device =
        PciTransport::new(common, notify, found.notify_step, map(found.interrupt)?, map(found.device)?)
            .map_err(refused)?;
    let (ring, sectors) = start(&mut device)?;
    Ok(VirtioBlock::new(Transport::Memory(device), ring, sectors))
}

/// Whether a memory slot has a disk, or something that cannot be told. Changes nothing in the device.
pub fn may_be_disk(slot: &Slot) -> bool {
    !matches!(slot_device(slot), Ok(None))
}

pub fn open_slot(slot: &Slot) -> Result<VirtioBlock, Refusal> {
    let mut device = slot_device(slot)?.ok_or("there is no disk")?;
    let (ring, sectors) = start(&mut device)?;
    Ok(VirtioBlock::new(Transport::Slot(device), ring, sectors))
}

fn slot_device(slot: &Slot) -> Result<Option<SlotTransport<Window>>, Refusal> {
    let found = SlotTransport::new(map(slot.address, slot.bytes)?).map_err(refused)?;
    Ok(found.filter(|(kind, _)| *kind == Kind::Block).map(|(_, device)| device))
}

/// Sets a modern device going, and gives its ring and its size in sectors.
fn start(device: &mut impl redox_boot::virtio::transport::Transport) -> Result<(Ring, u64), Refusal> {
    // Reading whole sectors needs no feature.
    let features = negotiate(device, 0).map_err(refused)?;
    let layout = queue_layout(device, block::QUEUE, MODERN_RING, block::PIECES).map_err(refused)?;
    let ring = Ring::new(layout).ok_or("no memory for its queue")?;
    let place = QueuePlace { layout, address: ring.address(), vector: NO_VECTOR };
    device.enable_queue(block::QUEUE, place).map_err(refused)?;
    ready(device);
    let disk = block::Disk::read(device, features, REQUEST_BYTES_MAX as u32);
    Ok((ring, disk.sectors))
}

fn map(address: u64, bytes: u64) -> Result<Window, Refusal> {
    Window::map(address, bytes).ok_or_else(|| "its registers cannot be mapped".into())
}

fn refused(refusal: redox_boot::virtio::Refusal) -> Refusal {
    refusal.to_string()
}
