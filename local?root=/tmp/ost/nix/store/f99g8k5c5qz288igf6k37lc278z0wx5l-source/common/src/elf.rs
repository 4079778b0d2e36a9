//! What a loader must know of a kernel's ELF file: that it is one, where it starts, and whether its file image may be
//! mapped as it is. Loads nothing and applies no relocations.

use core::fmt;

use crate::limits::PROGRAM_HEADERS_MAX;
use crate::protocol::KERNEL_OFFSET;
use crate::text::{read_u16, read_u32, read_u64};

/// Why a file cannot be the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    NotElf,
    Not64BitLittleEndian,
    WrongMachine { found: u16, expected: u16 },
    EntryOutside { entry: u64 },
}

impl fmt::Display for ElfError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ElfError::NotElf => write!(formatter, "not an ELF file"),
            ElfError::Not64BitLittleEndian => write!(formatter, "not a 64-bit little-endian ELF file"),
            ElfError::WrongMachine { found, expected } => {
                write!(formatter, "made for ELF machine {found}, this loader starts {expected}")
            }
            ElfError::EntryOutside { entry } => {
                write!(
                    formatter,
                    "entry address {entry:#x} is not inside the file mapped at {KERNEL_OFFSET:#x}"
                )
            }
        }
    }
}

/// ELF's number for x86-64.
pub const MACHINE_X86_64: u16 = 62;

/// A checked kernel file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    pub entry: u64,
    /// A loaded segment lies elsewhere in memory than in the file: it will be wrong once mapped flat.
    pub misplaced_segment: Option<u64>,
}

/// Checks the head of a kernel file of `file_bytes` bytes.
pub fn check_kernel(file: &[u8], expected_machine: u16) -> Result<Kernel, ElfError> {
    if file.get(..4) != Some(b"\x7fELF") {
        return Err(ElfError::NotElf);
    }
    if file.get(4..6) != Some(&[2, 1]) {
        return Err(ElfError::Not64BitLittleEndian);
    }
    let found = read_u16(file, 0x12).ok_or(ElfError::NotElf)?;
    if found != expected_machine {
        return Err(ElfError::WrongMachine { found, expected: expected_machine });
    }
    let entry = read_u64(file, 0x18).ok_or(ElfError::NotElf)?;
    match entry.checked_sub(KERNEL_OFFSET) {
        Some(offset) if offset < file.len() as u64 => {}
        _ => return Err(ElfError::EntryOutside { entry }),
    }
    Ok(Kernel { entry, misplaced_segment: misplaced_segment(file) })
}

/// The address of the first loaded segment whose file offset is not its distance from the kernel's base, or which needs
/// more memory than the file has bytes.
fn misplaced_segment(file: &[u8]) -> Option<u64> {
    const LOADED: u32 = 1;
    let table = usize::try_from(read_u64(file, 0x20)?).ok()?;
    let entry_bytes = usize::from(read_u16(file, 0x36)?);
    let count = usize::from(read_u16(file, 0x38)?).min(PROGRAM_HEADERS_MAX);
    for index in 0..count {
        let header = file.get(table.checked_add(index * entry_bytes)?..)?;
        if read_u32(header, 0)? != LOADED {
            continue;
        }
        let (offset, address) = (read_u64(header, 8)?, read_u64(header, 16)?);
        let (in_file, in_memory) = (read_u64(header, 32)?, read_u64(header, 40)?);
        if in_memory != 0 && (address.wrapping_sub(KERNEL_OFFSET) != offset || in_memory > in_file) {
            return Some(address);
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// The smallest kernel: a header, one program header, some bytes.
    pub(crate) fn tiny_kernel(total: usize) -> Vec<u8> {
        let mut file = std::vec![0; total.max(0x1000)];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x12..0x14].copy_from_slice(&MACHINE_X86_64.to_le_bytes());
        file[0x18..0x20].copy_from_slice(&(KERNEL_OFFSET + 0x100).to_le_bytes());
        file[0x20..0x28].copy_from_slice(&0x40u64.to_le_bytes());
        file[0x36..0x38].copy_from_slice(&56u16.to_le_bytes());
        file[0x38..0x3a].copy_from_slice(&1u16.to_le_bytes());
        file[0x40..0x44].copy_from_slice(&1u32.to_le_bytes());
        file[0x40 + 16..0x40 + 24].copy_from_slice(&KERNEL_OFFSET.to_le_bytes());
        file[0x40 + 32..0x40 + 40].copy_from_slice(&0x1000u64.to_le_bytes());
        file[0x40 + 40..0x40 + 48].copy_from_slice(&0x1000u64.to_le_bytes());
        file
    }

    #[test]
    fn kernels() {
        let good = tiny_kernel(0x1000);
        assert_eq!(
            check_kernel(&good, MACHINE_X86_64),
            Ok(Kernel { entry: KERNEL_OFFSET + 0x100, misplaced_segment: None })
        );
        let changed = |offset: usize, byte: u8| {
            let mut file = good.clone();
            file[offset] = byte;
            check_kernel(&file, MACHINE_X86_64)
        };
        assert_eq!(changed(0, b'E'), Err(ElfError::NotElf));
        assert_eq!(changed(4, 1), Err(ElfError::Not64BitLittleEndian));
        assert_eq!(changed(0x12, 183), Err(ElfError::WrongMachine { found: 183, expected: 62 }));
        assert_eq!(changed(0x1f, 0), Err(ElfError::EntryOutside { entry: 0x00FF_FFFF_8000_0100 }));
        assert_eq!(changed(0x1a, 1), Err(ElfError::EntryOutside { entry: KERNEL_OFFSET + 0x1_0100 }));
        let misplaced = changed(0x40 + 9, 0x10).expect("still a kernel");
        assert_eq!(misplaced.misplaced_segment, Some(KERNEL_OFFSET));
        let grown = changed(0x40 + 42, 1).expect("still a kernel");
        assert_eq!(grown.misplaced_segment, Some(KERNEL_OFFSET));
        assert_eq!(check_kernel(b"\x7fELF\x02\x01", MACHINE_X86_64), Err(ElfError::NotElf));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check_kernel(&bytes, MACHINE_X86_64);
            let head = tiny_kernel(0);
            for (byte, good) in bytes.iter_mut().zip(&head[..0x3a]) {
                if *byte < 200 {
                    *byte = *good;
                }
            }
            let _ = check_kernel(&bytes, MACHINE_X86_64);
        }
    }
}
