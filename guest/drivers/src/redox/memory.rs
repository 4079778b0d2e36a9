//! Memory that a device sees: its registers, and pages of the driver's own by their physical addresses. Frees nothing:
//! what is mapped stays for the daemon's life.

use libredox::Fd;
use libredox::call::MmapArgs;
use libredox::flag;
use redox_boot::virtio::ring::RingMemory;
use redox_boot::virtio::transport::Registers;
use syscall::flag::CallFlags;

use super::Failure;

const PAGE_BYTES: usize = 4096;

/// Processors of this architecture see what devices write; the caches need no care.
const PAGES: &str = "zeroed@wb?phys_contiguous";
const REGISTERS: &str = "physical@uc";
const TRANSLATION: &str = "translation";

/// The kernel's memory scheme.
pub struct Memory {
    root: Fd,
    translation: Fd,
}

impl Memory {
    pub fn open() -> Result<Memory, Failure> {
        let root = Fd::open("/scheme/memory/scheme-root", 0, 0)
            .map_err(|error| format!("cannot open the memory scheme: {error}"))?;
        let translation = root
            .openat(TRANSLATION, flag::O_CLOEXEC, 0)
            .map_err(|error| format!("cannot open the translation of addresses: {error}"))?;
        Ok(Memory { root, translation })
    }

    /// A device's registers.
    pub fn map_registers(&self, address: u64, bytes: u64) -> Result<Window, Failure> {
        let inside = (address % PAGE_BYTES as u64) as usize;
        let bytes = usize::try_from(bytes).map_err(|_| format!("registers of {bytes} bytes are too many"))?;
        let fail = |error| format!("cannot map {bytes} bytes of registers at {address:#x}: {error}");
        let file = self.root.openat(REGISTERS, flag::O_CLOEXEC | flag::O_RDWR, 0).map_err(fail)?;
        // SAFETY: a new mapping, whose address the kernel chooses.
        let start = unsafe {
            libredox::call::mmap(MmapArgs {
                fd: file.raw(),
                offset: address - inside as u64,
                length: (inside + bytes).next_multiple_of(PAGE_BYTES),
                flags: flag::MAP_SHARED,
                prot: flag::PROT_READ | flag::PROT_WRITE,
                addr: std::ptr::null_mut(),
            })
        }
        .map_err(fail)?;
        // SAFETY: the offset lies in the first page of the mapping.
        Ok(Window { start: unsafe { start.cast::<u8>().add(inside) }, bytes })
    }

    /// Zeroed pages that lie side by side in the machine's memory, at least `bytes` bytes.
    pub fn allocate(&self, bytes: usize) -> Result<Pages, Failure> {
        // The kernel hands such pages out in powers of two.
        let bytes = bytes.max(PAGE_BYTES).next_power_of_two();
        let fail = |error| format!("no {bytes} bytes of memory for a device: {error}");
        let file = self.root.openat(PAGES, flag::O_CLOEXEC, 0).map_err(fail)?;
        // SAFETY: a new mapping, whose address the kernel chooses.
        let start = unsafe {
            libredox::call::mmap(MmapArgs {
                fd: file.raw(),
                offset: 0,
                length: bytes,
                flags: flag::MAP_PRIVATE,
                prot: flag::PROT_READ | flag::PROT_WRITE,
                addr: std::ptr::null_mut(),
            })
        }
        .map_err(fail)?;
        // The address goes in and comes back in the same bytes.
        let mut address = (start as usize).to_ne_bytes();
        self.translation.call_ro(&mut address, CallFlags::empty(), &[]).map_err(fail)?;
        Ok(Pages { start: start.cast(), bytes, address: usize::from_ne_bytes(address) as u64 })
    }
}

/// Registers, mapped.
pub struct Window {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process and has this one owner.
unsafe impl Send for Window {}

impl Window {
    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(offset + size_of::<T>() <= self.bytes && offset.is_multiple_of(size_of::<T>()));
        // SAFETY: inside of the mapping, as just checked.
        unsafe { self.start.add(offset).cast() }
    }
}

impl Registers for Window {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn read_u8(&self, offset: usize) -> u8 {
        // SAFETY: `at` gives an address inside, aligned as registers are.
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
        // SAFETY: as above.
        unsafe { self.at::<u8>(offset).write_volatile(value) }
    }

    fn write_u16(&mut self, offset: usize, value: u16) {
        // SAFETY: as above.
        unsafe { self.at::<u16>(offset).write_volatile(value) }
    }

    fn write_u32(&mut self, offset: usize, value: u32) {
        // SAFETY: as above.
        unsafe { self.at::<u32>(offset).write_volatile(value) }
    }
}

/// Pages that a device reads and writes behind the compiler's back: no reference to them is ever made.
pub struct Pages {
    start: *mut u8,
    bytes: usize,
    address: u64,
}

// SAFETY: the mapping belongs to the process and has this one owner.
unsafe impl Send for Pages {}

impl Pages {
    /// The physical address.
    pub fn address(&self) -> u64 {
        self.address
    }

    pub fn read(&self, offset: usize, buffer: &mut [u8]) {
        assert!(offset + buffer.len() <= self.bytes);
        // SAFETY: inside of the mapping; `buffer` is other memory.
        unsafe { std::ptr::copy_nonoverlapping(self.start.add(offset), buffer.as_mut_ptr(), buffer.len()) };
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.bytes);
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(offset), bytes.len()) };
    }

    pub fn read_byte(&self, offset: usize) -> u8 {
        // SAFETY: `at` gives an address inside.
        unsafe { self.at::<u8>(offset).read_volatile() }
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(offset + size_of::<T>() <= self.bytes && offset.is_multiple_of(size_of::<T>()));
        // SAFETY: inside of the mapping, as just checked.
        unsafe { self.start.add(offset).cast() }
    }
}

impl RingMemory for Pages {
    fn read_u16(&self, offset: usize) -> u16 {
        // SAFETY: `at` gives an aligned address inside.
        unsafe { self.at::<u16>(offset).read_volatile() }
    }

    fn read_u32(&self, offset: usize) -> u32 {
        // SAFETY: as above.
        unsafe { self.at::<u32>(offset).read_volatile() }
    }

    fn write_u16(&mut self, offset: usize, value: u16) {
        // SAFETY: as above.
        unsafe { self.at::<u16>(offset).write_volatile(value) }
    }

    fn write_u32(&mut self, offset: usize, value: u32) {
        // SAFETY: as above.
        unsafe { self.at::<u32>(offset).write_volatile(value) }
    }
}
