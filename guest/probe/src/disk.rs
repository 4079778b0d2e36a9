//! The disk with the file system this kernel was started from: live memory, or a virtio disk on PCI or in a memory slot.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use redox_boot::acpi::PhysicalReader;
use redox_boot::device::{BlockReader, DeviceError, MemoryDisk};
use redox_boot::environment::Environment;
use redox_boot::partition::{USUAL_BLOCK, partition_blocks};
use redox_boot::redoxfs::{FileSystem, FileSystemError};
use redox_boot::virtio::slots::{self, Slot};

use crate::memory::Physical;
use crate::pci::{self, Function};
use crate::virtio_block::{self, VirtioBlock};

pub enum Disk {
    Live(MemoryDisk<'static>),
    Virtio(Box<VirtioBlock>),
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

/// Where a disk may be.
pub enum Candidate {
    Live { base: u64, size: u64 },
    Pci { kind: &'static str, function: Function },
    Slot(Slot),
}

/// All there are, live memory first.
pub fn candidates(environment: Environment<'_>) -> Vec<Candidate> {
    let mut found = Vec::new();
    if let (Some(base), Some(size)) =
        (environment.number("DISK_LIVE_ADDR"), environment.number("DISK_LIVE_SIZE"))
    {
        found.push(Candidate::Live { base, size });
    }
    found.extend(
        pci::scan().into_iter().filter_map(|function| {
            virtio_block::kind(&function).map(|kind| Candidate::Pci { kind, function })
        }),
    );
    let slots = environment.get(slots::ENVIRONMENT_KEY).unwrap_or_default();
    let slots = Slot::parse_list(slots).0.into_iter().filter(virtio_block::may_be_disk);
    found.extend(slots.map(Candidate::Slot));
    found
}

/// Opens the file system of one, the one with the UUID where one is wanted. A device is reset by this: whoever used it before
/// has to let go of it.
pub fn open(candidate: &Candidate, block: Option<u64>, wanted: Option<[u8; 16]>) -> Result<Found, String> {
    match candidate {
        Candidate::Live { base, size } => find_live(*base, *size, block.unwrap_or(0)),
        Candidate::Pci { kind, function } => {
            let place = format!("{kind} at {}", function.address);
            let disk = virtio_block::open(function).map_err(|note| format!("{place}: {note}"))?;
            find_on(place, disk, block, wanted)
        }
        Candidate::Slot(slot) => {
            let place = format!("virtio-blk (memory slot) at {:#x}", slot.address);
            let disk = virtio_block::open_slot(slot).map_err(|note| format!("{place}: {note}"))?;
            find_on(place, disk, block, wanted)
        }
    }
}

/// Finds the file system the loader named by its UUID; without a name, the first one. With the number of its disk among
/// the candidates. The error is for the user.
pub fn find(environment: Environment<'_>) -> Result<(usize, Found), String> {
    let wanted = environment.uuid("REDOXFS_UUID").map(|uuid| uuid.0);
    let block = environment.number("REDOXFS_BLOCK");
    let mut notes: Vec<String> = Vec::new();
    for (number, candidate) in candidates(environment).iter().enumerate() {
        match open(candidate, block, wanted) {
            Ok(found) => return Ok((number, found)),
            // What was handed over is what counts.
            Err(note) if matches!(candidate, Candidate::Live { .. }) => return Err(note),
            Err(note) => notes.push(note),
        }
    }
    if notes.is_empty() {
        return Err("no virtio disk was found, and no live memory was handed over".into());
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
    place: String,
    device: VirtioBlock,
    named_block: Option<u64>,
    wanted: Option<[u8; 16]>,
) -> Result<Found, String> {
    let place = format!("{place}, {} MiB", device.bytes() >> 20);
    let failed = |error: &dyn core::fmt::Display| format!("{place}: {error}");
    let mut disk = Disk::Virtio(Box::new(device));
    // The loader counts blocks on the device it used, which may have been a partition: look at all likely places.
    let mut blocks: Vec<u64> = partition_blocks(&mut disk).map_err(|error| failed(&error))?;
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
                let file_system = FileSystem::open(disk, *block).map_err(|error| failed(&error))?;
                return Ok(Found { file_system, place });
            }
            Ok(_) => note = format!("the RedoxFS at block {block} is another one"),
            Err(FileSystemError::NotFound { .. } | FileSystemError::Device(_)) => {}
            Err(error) => note = format!("{error}"),
        }
    }
    Err(failed(&note))
}
