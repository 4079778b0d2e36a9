//! The machine as this loader sees it: the serial port, physical memory one to one, pages for the hand-over, the ACPI
//! root pointer. Nothing is given back.

use alloc::vec::Vec;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::slice;

use redox_boot::acpi::PhysicalReader;
use redox_boot::heap::Heap;
use redox_boot::limits::{BLOCK_BYTES, MAPPED_BYTES};
use redox_boot::paging::PhysicalMemory;
use redox_boot::protocol::{AreaKind, MemoryArea, Range};
use redox_boot::pvh::{StartInfo, find_pages};
use redox_boot::serial::{COM1, Ports, SerialPort};

/// Bytes of the heap: names, directories and decompressed records of one file system.
const HEAP_BYTES: usize = 32 << 20;
/// Hand-over structures stay out of what kernels and devices use low memory for.
const LOWEST_ADDRESS: u64 = 1 << 20;
/// Where a PC's root pointer lies when nobody names it (ACPI specification, 5.2.5.1), and what it begins with.
const RSDP_AREA: core::ops::Range<u64> = 0xE_0000..0x10_0000;
const RSDP_SIGNATURE: &[u8] = b"RSD PTR ";
const RSDP_BYTES: usize = 36;

#[repr(C, align(4096))]
struct HeapSpace(UnsafeCell<[u8; HEAP_BYTES]>);

// SAFETY: only its address is used, by the heap.
unsafe impl Sync for HeapSpace {}

static HEAP_SPACE: HeapSpace = HeapSpace(UnsafeCell::new([0; HEAP_BYTES]));

#[global_allocator]
static HEAP: Heap = Heap::new();

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
}

struct PcPorts;

impl Ports for PcPorts {
    fn read(&mut self, port: u16) -> u8 {
        let value;
        // SAFETY: only the serial port is reached by this, and this program alone uses it.
        unsafe {
            asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags))
        };
        value
    }

    fn write(&mut self, port: u16, value: u8) {
        // SAFETY: as above.
        unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
    }
}

struct Console(SerialPort<PcPorts>);

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.0.send(b'\r');
            }
            self.0.send(byte);
        }
        Ok(())
    }
}

/// A line on the serial port.
pub fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(Console(SerialPort::start(PcPorts, COM1)), "{line}");
}

/// Starts the heap.
pub fn start() {
    let area = MemoryArea { base: HEAP_SPACE.0.get() as u64, size: HEAP_BYTES as u64, kind: AreaKind::Free };
    // SAFETY: called once, first of all; the space is this program's own, and memory is mapped one to one.
    unsafe { HEAP.start(0, [area].into_iter()) };
}

/// Nothing more can be done.
pub fn stop() -> ! {
    loop {
        // SAFETY: waits; no interrupt is wanted.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Memory that monitors filled before the start.
pub struct Physical;

impl PhysicalReader for Physical {
    fn read(&self, address: u64, length: usize) -> Option<&[u8]> {
        let end = address.checked_add(length as u64)?;
        if address == 0 || end > MAPPED_BYTES {
            return None;
        }
        // SAFETY: mapped one to one by the entry code; reading has no effect, and nobody else runs.
        Some(unsafe { slice::from_raw_parts(address as *const u8, length) })
    }
}

/// The bytes of a module.
pub fn module(range: Range) -> Option<&'static [u8]> {
    let end = range.base.checked_add(range.size)?;
    // SAFETY: as above; pages for the hand-over are never taken from it.
    (range.base != 0 && end <= MAPPED_BYTES)
        .then(|| unsafe { slice::from_raw_parts(range.base as *const u8, range.size as usize) })
}

/// A copy of the ACPI root pointer at the named address, or where PCs have it.
pub fn rsdp(named: u64) -> Option<Vec<u8>> {
    let at = |address| {
        Physical
            .read(address, RSDP_BYTES)
            .filter(|bytes| bytes.starts_with(RSDP_SIGNATURE))
            .map(<[u8]>::to_vec)
    };
    at(named).or_else(|| RSDP_AREA.step_by(16).find_map(at))
}

/// Pages that stay taken in the kernel's eyes.
pub struct HandedMemory {
    memory: Vec<MemoryArea>,
    /// What is in use while this program runs.
    taken: Vec<Range>,
    handed: Vec<MemoryArea>,
}

impl HandedMemory {
    pub fn new(start: &StartInfo, image: Range) -> HandedMemory {
        let place = |symbol: &u8| core::ptr::from_ref(symbol) as u64;
        // SAFETY: only the addresses of the linker's symbols are taken.
        let (first, end) = unsafe { (place(&image_start), place(&image_end)) };
        let mut taken = start.own.clone();
        taken.extend(&start.modules);
        taken.extend([image, Range { base: first, size: end - first }]);
        HandedMemory { memory: start.memory.clone(), taken, handed: Vec::new() }
    }

    /// What the kernel must leave alone, the image too where it stays in its place.
    pub fn areas(&self, image: Option<Range>) -> Vec<MemoryArea> {
        let image = image.map(|Range { base, size }| MemoryArea { base, size, kind: AreaKind::Reserved });
        self.handed.iter().copied().chain(image).collect()
    }
}

impl PhysicalMemory for HandedMemory {
    fn allocate(&mut self, bytes: usize, kind: AreaKind) -> Option<u64> {
        let base = find_pages(&self.memory, &self.taken, LOWEST_ADDRESS, bytes as u64)?;
        let size = bytes.max(1).next_multiple_of(BLOCK_BYTES) as u64;
        // SAFETY: free memory that nobody uses, mapped one to one.
        unsafe { core::ptr::write_bytes(base as *mut u8, 0, size as usize) };
        self.taken.push(Range { base, size });
        self.handed.push(MemoryArea { base, size, kind });
        Some(base)
    }

    fn bytes(&mut self, address: u64, length: usize) -> &mut [u8] {
        let inside = |area: &MemoryArea| area.base <= address && address + length as u64 <= area.end();
        assert!(self.handed.iter().any(inside), "memory that was not allocated");
        // SAFETY: inside pages this program owns, borrowed through `self`.
        unsafe { slice::from_raw_parts_mut(address as *mut u8, length) }
    }
}
