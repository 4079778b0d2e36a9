//! Everything between an opened RedoxFS and the jump into the kernel that no firmware has a say in: loading kernel and
//! initfs, page tables, environment, argument block. Does not leave the firmware and does not jump.

use alloc::string::{String, ToString};
use core::fmt;

use crate::areas::{AreaMap, TooManyAreas};
use crate::device::BlockReader;
use crate::elf::{self, ElfError};
use crate::environment::{EnvironmentFull, EnvironmentWriter};
use crate::initfs::{self, InitfsError};
use crate::limits::{
    BLOCK_BYTES, FRAMEBUFFERS_MAX, INITFS_BYTES_MAX, KERNEL_BYTES_MAX, LIVE_BYTES_MAX, RSDP_BYTES_MAX,
    STACK_BYTES,
};
use crate::paging::{PageTables, PagingError, PhysicalMemory};
use crate::protocol::{
    AREA_ARRAY_BYTES, ARGUMENT_BYTES, AreaKind, KernelArguments, MemoryArea, PHYSICAL_OFFSET, Range,
};
use crate::redoxfs::{FileSystem, FileSystemError};
use crate::text::Uuid;
use crate::virtio;

/// Where images of different ages keep the two files, newest first.
pub const KERNEL_PATHS: [&str; 2] = ["usr/lib/boot/kernel", "boot/kernel"];
pub const INITFS_PATHS: [&str; 2] = ["usr/lib/boot/initfs", "boot/initfs"];

/// Bytes read from the disk at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// A linear picture memory of 32 bits for each pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framebuffer {
    pub address: u64,
    pub width: u64,
    pub height: u64,
    /// Pixels from one line to the next.
    pub stride: u64,
}

/// Where the file system stays for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// On its disk.
    No,
    /// To be copied to memory.
    Copy,
    /// In memory already.
    Present(Range),
}

/// What the firmware tells.
#[derive(Clone, Copy, Debug)]
pub struct FirmwareInfo<'a> {
    pub rsdp: Option<&'a [u8]>,
    pub framebuffers: &'a [Framebuffer],
    pub live: Live,
    /// Memory slots of virtio devices, as `virtio::slots` reads them.
    pub memory_slots: Option<&'a str>,
    /// ELF machine number of the processor.
    pub machine: u16,
}

/// Why there is nothing to jump to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootError {
    FileSystem(FileSystemError),
    Kernel { path: &'static str, error: ElfError },
    Initfs { path: &'static str, error: InitfsError },
    OutOfMemory { what: &'static str, bytes: u64 },
    Paging(PagingError),
    Environment(EnvironmentFull),
    LiveTooLarge { bytes: u64 },
    Areas(TooManyAreas),
}

impl fmt::Display for BootError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::FileSystem(error) => error.fmt(formatter),
            BootError::Kernel { path, error } => write!(formatter, "`{path}` cannot be started: {error}"),
            BootError::Initfs { path, error } => write!(formatter, "`{path}` cannot be used: {error}"),
            BootError::OutOfMemory { what, bytes } => {
                write!(formatter, "no {bytes} bytes of memory below 8 GiB for {what}")
            }
            BootError::Paging(error) => error.fmt(formatter),
            BootError::Environment(error) => error.fmt(formatter),
            BootError::LiveTooLarge { bytes } => {
                write!(formatter, "a file system of {bytes} bytes is too large to be copied to memory")
            }
            BootError::Areas(error) => error.fmt(formatter),
        }
    }
}

impl From<FileSystemError> for BootError {
    fn from(error: FileSystemError) -> Self {
        BootError::FileSystem(error)
    }
}

impl From<PagingError> for BootError {
    fn from(error: PagingError) -> Self {
        BootError::Paging(error)
    }
}

impl From<EnvironmentFull> for BootError {
    fn from(error: EnvironmentFull) -> Self {
        BootError::Environment(error)
    }
}

/// All that the jump needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// Virtual address of the kernel's first instruction.
    pub entry: u64,
    /// Physical address of the top page table.
    pub page_table: u64,
    /// Virtual address of the end of the stack.
    pub stack_top: u64,
    /// Address of the argument block, the kernel's first argument.
    pub arguments: u64,
    areas: u64,
}

impl HandOver {
    /// Writes the memory areas; to be called last, when the firmware's map no longer changes. Allocates nothing.
    pub fn write_areas<M: PhysicalMemory>(
        &self,
        memory: &mut M,
        map: &mut AreaMap,
        firmware: impl Iterator<Item = MemoryArea> + Clone,
        taken: impl Iterator<Item = MemoryArea>,
    ) -> Result<(), BootError> {
        map.build(firmware, taken).map_err(BootError::Areas)?;
        map.write(memory.bytes(self.areas, AREA_ARRAY_BYTES));
        Ok(())
    }
}

/// Prepares a start from an open file system. `report` gets a sentence for each step.
pub fn prepare<R: BlockReader, M: PhysicalMemory>(
    file_system: &mut FileSystem<R>,
    memory: &mut M,
    firmware: &FirmwareInfo<'_>,
    report: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<HandOver, BootError> {
    let (kernel, path) = load(file_system, memory, &KERNEL_PATHS, KERNEL_BYTES_MAX, "the kernel")?;
    let file = memory.bytes(kernel.base, kernel.size as usize);
    let checked =
        elf::check_kernel(file, firmware.machine).map_err(|error| BootError::Kernel { path, error })?;
    report(format_args!("{path}: {} bytes, entry {:#x}", kernel.size, checked.entry));
    if let Some(address) = checked.misplaced_segment {
        report(format_args!(
            "warning: the segment at {address:#x} of the kernel does not lie in memory as in its file"
        ));
    }

    let (initfs, path) = load(file_system, memory, &INITFS_PATHS, INITFS_BYTES_MAX, "the initfs image")?;
    let image = memory.bytes(initfs.base, initfs.size as usize);
    initfs::check_magic(image).map_err(|error| BootError::Initfs { path, error })?;
    report(format_args!("{path}: {} bytes", initfs.size));
    // The kernel maps whole pages; the memory behind the last byte is zero.
    let bootstrap = Range { base: initfs.base, size: initfs.size.next_multiple_of(BLOCK_BYTES as u64) };

    let live = live_range(file_system, memory, firmware.live, report)?;
    let stack = allocate(memory, STACK_BYTES, AreaKind::Reclaimable, "a stack")?;
    let hardware = match firmware.rsdp {
        None => Range::default(),
        Some(rsdp) => place(
            memory,
            &rsdp[..rsdp.len().min(RSDP_BYTES_MAX)],
            AreaKind::Reserved,
            "the ACPI root pointer",
        )?,
    };
    let (page_table, framebuffer_address) = build_page_tables(memory, kernel, firmware.framebuffers.first())?;
    let text = write_environment(file_system, hardware, live, firmware, framebuffer_address)?;
    let environment = place(memory, text.as_bytes(), AreaKind::Reserved, "the environment")?;
    let areas = allocate(memory, AREA_ARRAY_BYTES, AreaKind::Reclaimable, "the memory areas")?;
    let arguments = KernelArguments { kernel, stack, environment, hardware, areas, bootstrap };
    let block = place(memory, &arguments.to_bytes(), AreaKind::Reclaimable, "the arguments")?;
    debug_assert_eq!(block.size as usize, ARGUMENT_BYTES);
    Ok(HandOver {
        entry: checked.entry,
        page_table,
        stack_top: PHYSICAL_OFFSET + stack.base + stack.size,
        arguments: block.base,
        areas: areas.base,
    })
}

/// Loads the first of several files that is there.
fn load<R: BlockReader, M: PhysicalMemory>(
    file_system: &mut FileSystem<R>,
    memory: &mut M,
    paths: &'static [&'static str],
    limit: u64,
    what: &'static str,
) -> Result<(Range, &'static str), BootError> {
    let mut missing = None;
    for path in paths {
        let node = match file_system.file(path) {
            Ok(node) => node,
            Err(error @ FileSystemError::NoSuchFile { .. }) => {
                missing.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if node.size > limit {
            return Err(FileSystemError::TooLarge { path: path.to_string(), bytes: node.size, limit }.into());
        }
        // An empty file gets a page too, so that the checks can refuse it.
        let mut range = allocate(memory, (node.size as usize).max(1), AreaKind::Reserved, what)?;
        range.size = node.size;
        let bytes = memory.bytes(range.base, node.size as usize);
        for (index, chunk) in bytes.chunks_mut(CHUNK_BYTES).enumerate() {
            file_system.read(&node, (index * CHUNK_BYTES) as u64, chunk)?;
        }
        return Ok((range, path));
    }
    Err(missing.map_or(BootError::OutOfMemory { what, bytes: 0 }, BootError::FileSystem))
}

fn allocate<M: PhysicalMemory>(
    memory: &mut M,
    bytes: usize,
    kind: AreaKind,
    what: &'static str,
) -> Result<Range, BootError> {
    let base = memory.allocate(bytes, kind).ok_or(BootError::OutOfMemory { what, bytes: bytes as u64 })?;
    Ok(Range { base, size: bytes as u64 })
}

/// Copies bytes to memory of their own.
fn place<M: PhysicalMemory>(
    memory: &mut M,
    bytes: &[u8],
    kind: AreaKind,
    what: &'static str,
) -> Result<Range, BootError> {
    let range = allocate(memory, bytes.len(), kind, what)?;
    memory.bytes(range.base, bytes.len()).copy_from_slice(bytes);
    Ok(range)
}

/// The whole file system in memory, where it was asked for.
fn live_range<R: BlockReader, M: PhysicalMemory>(
    file_system: &mut FileSystem<R>,
    memory: &mut M,
    live: Live,
    report: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<Option<Range>, BootError> {
    match live {
        Live::No => return Ok(None),
        Live::Present(range) => return Ok(Some(range)),
        Live::Copy => {}
    }
    let bytes = file_system.header().size / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    if bytes > LIVE_BYTES_MAX {
        return Err(BootError::LiveTooLarge { bytes });
    }
    report(format_args!("copying {bytes} bytes of the file system to memory"));
    let range = allocate(memory, bytes as usize, AreaKind::Reserved, "the live file system")?;
    let start = file_system.start_block();
    for (index, chunk) in memory.bytes(range.base, bytes as usize).chunks_mut(CHUNK_BYTES).enumerate() {
        let block = start + (index * CHUNK_BYTES / BLOCK_BYTES) as u64;
        file_system.reader_mut().read_blocks(block, chunk).map_err(FileSystemError::from)?;
    }
    Ok(Some(range))
}

/// Physical address of the tables, and the virtual one of the first framebuffer.
fn build_page_tables<M: PhysicalMemory>(
    memory: &mut M,
    kernel: Range,
    framebuffer: Option<&Framebuffer>,
) -> Result<(u64, Option<u64>), BootError> {
    let mut tables = PageTables::new(memory)?;
    tables.map_kernel(kernel.base, kernel.size)?;
    let shown = match framebuffer {
        None => None,
        Some(framebuffer) => {
            let bytes = framebuffer.stride.saturating_mul(framebuffer.height).saturating_mul(4);
            Some(tables.map_physical(framebuffer.address, bytes)?)
        }
    };
    Ok((tables.root(), shown))
}

fn write_environment<R: BlockReader>(
    file_system: &FileSystem<R>,
    hardware: Range,
    live: Option<Range>,
    firmware: &FirmwareInfo<'_>,
    framebuffer_address: Option<u64>,
) -> Result<String, BootError> {
    let mut writer = EnvironmentWriter::default();
    if hardware.base != 0 {
        writer.number("RSDP_ADDR", hardware.base)?;
        writer.number("RSDP_SIZE", hardware.size)?;
    }
    if let Some(live) = live {
        writer.number("DISK_LIVE_ADDR", live.base)?;
        writer.number("DISK_LIVE_SIZE", live.size)?;
    }
    writer.number("REDOXFS_BLOCK", if live.is_some() { 0 } else { file_system.start_block() })?;
    writer.text("REDOXFS_UUID", Uuid(file_system.header().uuid))?;
    if let Some(slots) = firmware.memory_slots {
        writer.text(virtio::slots::ENVIRONMENT_KEY, slots)?;
    }
    for (index, framebuffer) in firmware.framebuffers.iter().take(FRAMEBUFFERS_MAX).enumerate() {
        let Framebuffer { address, width, height, stride } = *framebuffer;
        if index > 0 {
            writer.text(
                &alloc::format!("FRAMEBUFFER{index}"),
                format_args!("{address:#x},{width},{height},{stride}"),
            )?;
            continue;
        }
        writer.number("FRAMEBUFFER_ADDR", address)?;
        writer.number("FRAMEBUFFER_VIRT", framebuffer_address.unwrap_or(0))?;
        writer.number("FRAMEBUFFER_WIDTH", width)?;
        writer.number("FRAMEBUFFER_HEIGHT", height)?;
        writer.number("FRAMEBUFFER_STRIDE", stride)?;
    }
    Ok(String::from_utf8_lossy(writer.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests;
