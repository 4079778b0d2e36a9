//! The disk with the file system this kernel was started from: live memory, or a virtio disk found on PCI.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use redox_boot::acpi::PhysicalReader;
use redox_boot::device::{BlockReader, DeviceError, MemoryDisk};
use redox_boot::environment::Environment;
use redox_boot::partition::{USUAL_BLOCK, partition_blocks};
use redox_boot::redoxfs::{FileSystem, FileSystemError};

use crate::memory::Physical;
use crate::pci::{self, Function};
use crate::virtio_block::{self, VirtioBlock};

pub enum Disk {
    Live(MemoryDisk<'static>),
    Virtio(VirtioBlock),
}

impl BlockReader for Disk {
    fn read_blocks(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        match self {
            Disk::Live(disk) => disk.read_blocks(first, buffer),
            Disk::Virtio(disk) => disk.read_blocks(first, buffer),
        }
    }
}

/// An open file system and words for where it lies.
pub struct Found {
    pub file_system: FileSystem<Disk>,
    pub place: String,
}

/// Finds the file system the loader named by its UUID; without a name, the first one. The error is for the user.
pub fn find(environment: Environment<'_>) -> Result<Found, String> {
    let wanted = environment.uuid("REDOXFS_UUID").map(|uuid| uuid.0);
    let block = environment.number("REDOXFS_BLOCK");
    if let (Some(base), Some(size)) =
        (environment.number("DISK_LIVE_ADDR"), environment.number("DISK_LIVE_SIZE"))
    {
        return find_live(base, size, block.unwrap_or(0));
    }
    let mut notes: Vec<String> = Vec::new();
    let disks =
        pci::scan().into_iter().filter_map(|function| Some((virtio_block::kind(&function)?, function)));
    for (kind, function) in disks {
        match find_on(kind, &function, block, wanted) {
            Ok(found) => return Ok(found),
            Err(note) => notes.push(format!("{kind} at {}: {note}", function.address)),
        }
    }
    if notes.is_empty() {
        return Err("no virtio disk on PCI, and no live memory was handed over".into());
    }
    Err(notes.join("; "))
}

fn find_live(base: u64, size: u64, block: u64) -> Result<Found, String> {
    let bytes = usize::try_from(size)
        .ok()
        .and_then(|size| Physical.read(base, size))
        .ok_or_else(|| format!("live memory at {base:#x} with {size} bytes is not mapped"))?;
    // SAFETY: `Physical` stands for memory that stays mapped; the protocol reserves the live image for good.
    let bytes: &'static [u8] = unsafe { core::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) };
    let file_system =
        FileSystem::open(Disk::Live(MemoryDisk(bytes)), block).map_err(|error| format!("{error}"))?;
    Ok(Found { file_system, place: format!("live memory at {base:#x}, {} MiB", size >> 20) })
}

fn find_on(
    kind: &str,
    function: &Function,
    named_block: Option<u64>,
    wanted: Option<[u8; 16]>,
) -> Result<Found, String> {
    let mut disk = Disk::Virtio(virtio_block::open(function)?);
    let Disk::Virtio(device) = &disk else { return Err("not a virtio disk".into()) };
    let place = format!("{kind} at {}, {} MiB", function.address, device.bytes() >> 20);
    // The loader counts blocks on the device it used, which may have been a partition: look at all likely places.
    let mut blocks: Vec<u64> = partition_blocks(&mut disk).map_err(|error| format!("{error}"))?;
    blocks.extend(named_block);
    blocks.extend([USUAL_BLOCK, 0]);
    let mut note = String::from("no RedoxFS");
    for (index, block) in blocks.iter().enumerate() {
        if blocks[..index].contains(block) {
            continue;
        }
        match FileSystem::open(&mut disk, *block) {
            Ok(file_system) if wanted.is_none_or(|wanted| file_system.header().uuid == wanted) => {
                drop(file_system);
                let file_system = FileSystem::open(disk, *block).map_err(|error| format!("{error}"))?;
                return Ok(Found { file_system, place });
            }
            Ok(_) => note = format!("the RedoxFS at block {block} is another one"),
            Err(FileSystemError::NotFound { .. } | FileSystemError::Device(_)) => {}
            Err(error) => note = format!("{error}"),
        }
    }
    Err(note)
}
