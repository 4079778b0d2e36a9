//! Where blocks come from. Reads only; knows no device.

use core::fmt;

use crate::limits::BLOCK_BYTES;

/// A read that did not happen, with the device's own code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceError {
    pub block: u64,
    pub code: u64,
}

impl fmt::Display for DeviceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot read block {}: device error {:#x}", self.block, self.code)
    }
}

/// Anything made of 4096-byte blocks.
pub trait BlockReader {
    /// Fills `buffer`, whose length is a multiple of 4096, from block `first` on.
    fn read_blocks(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), DeviceError>;
}

impl<R: BlockReader + ?Sized> BlockReader for &mut R {
    fn read_blocks(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        (**self).read_blocks(first, buffer)
    }
}

/// Code of a read beyond the end.
pub const BEYOND_END: u64 = u64::MAX;

/// Blocks that are already in memory: a live image, or a test's.
pub struct MemoryDisk<'a>(pub &'a [u8]);

impl BlockReader for MemoryDisk<'_> {
    fn read_blocks(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        let bytes = usize::try_from(first)
            .ok()
            .and_then(|first| first.checked_mul(BLOCK_BYTES))
            .and_then(|start| self.0.get(start..start.checked_add(buffer.len())?))
            .ok_or(DeviceError { block: first, code: BEYOND_END })?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}
