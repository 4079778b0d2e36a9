//! Disks of the firmware as blocks of 4096 bytes, and the one with the file system. Writes to no disk.

use alloc::vec::Vec;
use core::slice;

use redox_boot::device::{BEYOND_END, BlockReader, DeviceError};
use redox_boot::device_path::{node_length, search_order};
use redox_boot::limits::BLOCK_BYTES;
use redox_boot::partition::USUAL_BLOCK;
use redox_boot::redoxfs::{FileSystem, FileSystemError};

use crate::firmware;
use crate::memory;
use crate::uefi::*;

/// Bytes read at a time, through memory aligned for any device.
const BOUNCE_BYTES: usize = 1 << 20;

/// Bytes of a device path that are looked at.
const PATH_BYTES_MAX: usize = 4096;

pub struct Disk {
    block_io: *mut BlockIo,
    media_id: u32,
    block_size: usize,
    block_count: u64,
    bounce: u64,
}

impl BlockReader for Disk {
    fn read_blocks(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        let per_block = (BLOCK_BYTES / self.block_size) as u64;
        for (index, chunk) in buffer.chunks_mut(BOUNCE_BYTES).enumerate() {
            let block = first.saturating_add((index * BOUNCE_BYTES / BLOCK_BYTES) as u64);
            let sector = block.saturating_mul(per_block);
            if sector.saturating_add((chunk.len() / self.block_size) as u64) > self.block_count {
                return Err(DeviceError { block, code: BEYOND_END });
            }
            // SAFETY: the protocol stays installed while boot services run, and the bounce buffer has `BOUNCE_BYTES`.
            let bounce = unsafe {
                let read = (*self.block_io).read_blocks;
                let status = read(self.block_io, self.media_id, sector, chunk.len(), self.bounce as *mut _);
                if !status.succeeded() {
                    return Err(DeviceError { block, code: status.0 as u64 });
                }
                slice::from_raw_parts(self.bounce as *const u8, chunk.len())
            };
            chunk.copy_from_slice(bounce);
        }
        Ok(())
    }
}

/// A device that may hold the file system, and the block where it would start.
struct Candidate {
    path: Vec<u8>,
    disk: Disk,
    start: u64,
}

/// Opens the first RedoxFS found, searching the disk this program came from before all others.
pub fn find_file_system(image: Handle) -> Result<FileSystem<Disk>, FileSystemError> {
    let own_path = firmware::protocol::<LoadedImage>(image, &LOADED_IMAGE)
        // SAFETY: the firmware's own object for this program.
        .and_then(|loaded| device_path(unsafe { (*loaded).device }))
        .unwrap_or_default();
    let mut candidates: Vec<Option<Candidate>> = candidates().into_iter().map(Some).collect();
    let paths: Vec<&[u8]> =
        candidates.iter().map(|candidate| candidate.as_ref().map_or(&[][..], |found| &found.path)).collect();
    let order = search_order(&own_path, &paths);
    let mut failure = FileSystemError::NotFound { block: USUAL_BLOCK };
    for index in order {
        let Some(Candidate { disk, start, .. }) = candidates[index].take() else { continue };
        match FileSystem::open(disk, start) {
            Ok(file_system) => return Ok(file_system),
            // Disks without a file system, or too small for one, are expected; others are worth naming at the end.
            Err(FileSystemError::NotFound { .. }) => {}
            Err(FileSystemError::Device(DeviceError { code: BEYOND_END, .. })) => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn candidates() -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let Some(bounce) = memory::allocate_pages(BOUNCE_BYTES) else { return candidates };
    for handle in firmware::handles(&BLOCK_IO) {
        let Some(block_io) = firmware::protocol::<BlockIo>(handle, &BLOCK_IO) else { continue };
        // SAFETY: the firmware's objects; the pointer to the medium is checked.
        let Some(media) = (unsafe { (*block_io).media.as_ref() }) else { continue };
        let block_size = media.block_size as usize;
        if !media.present || block_size == 0 || !BLOCK_BYTES.is_multiple_of(block_size) {
            continue;
        }
        candidates.push(Candidate {
            path: device_path(handle).unwrap_or_default(),
            start: if media.logical_partition { 0 } else { USUAL_BLOCK },
            disk: Disk {
                block_io,
                media_id: media.media_id,
                block_size,
                block_count: media.last_block.saturating_add(1),
                bounce,
            },
        });
    }
    candidates
}

/// The bytes of a handle's device path, its end excluded.
fn device_path(handle: Handle) -> Option<Vec<u8>> {
    let start = firmware::protocol::<u8>(handle, &DEVICE_PATH)?;
    let mut bytes = Vec::new();
    while bytes.len() < PATH_BYTES_MAX {
        // SAFETY: the firmware ends its paths with an end node; each node has at least its four bytes of header.
        let header = unsafe { slice::from_raw_parts(start.add(bytes.len()), 4) };
        let Some(length) = node_length(header) else { break };
        // SAFETY: a node is as long as its header states.
        bytes.extend_from_slice(unsafe { slice::from_raw_parts(start.add(bytes.len()), length) });
    }
    Some(bytes)
}
