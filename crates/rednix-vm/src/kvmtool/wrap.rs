//! A PVH program in the clothes of a Linux kernel, for monitors that start nothing else. In front of the program goes the
//! boot sector and set-up code of a `bzImage`: it asks the monitor's BIOS for the memory map, writes PVH start information
//! with the initial ramdisk as its module, and enters the program in protected mode. It needs no more of Linux' protocol
//! (version 2.06) than the fields that say where things are.

use crate::error::{Error, Result};
use crate::limits::LOADER_BYTES_MAX;

/// Sectors of set-up code after the boot sector.
const SETUP_SECTORS: usize = 7;
/// Where the monitor puts boot sector and set-up code, and the program behind them.
const SETUP: u32 = 0x1_0000;
const PROGRAM: u32 = 0x10_0000;

// Places in the set-up code's segment.
const CODE: usize = 0x270;
const POINTER: usize = 0x400;
const DESCRIPTORS: usize = 0x410;
const START_INFO: usize = 0x440;
const MODULE: usize = 0x480;
const MAP: usize = 0x500;
/// Entries of 24 bytes from there to the end of the set-up code.
const MAP_ENTRIES_MAX: u16 = (((SETUP_SECTORS + 1) * 512 - MAP) / 24) as u16;

/// A program as it lies in memory: address of the first byte, bytes, entry.
#[derive(Debug, PartialEq, Eq)]
struct Flat {
    base: u32,
    bytes: Vec<u8>,
    entry: u32,
}

/// The `bzImage` of a PVH ELF file.
pub fn wrap(elf: &[u8]) -> Result<Vec<u8>> {
    let wrong = |reason: &str| Error::Loader { reason: reason.to_owned() };
    let flat = flatten(elf).map_err(wrong)?;
    let mut image = setup(flat.entry);
    image.resize((SETUP_SECTORS + 1) * 512 + (flat.base - PROGRAM) as usize, 0);
    image.extend(flat.bytes);
    Ok(image)
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn flatten(elf: &[u8]) -> std::result::Result<Flat, &'static str> {
    const BAD: &str = "it is no 64-bit ELF file for x86-64";
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") || number(elf, 18, 2) != Some(62) {
        return Err(BAD);
    }
    let table = number(elf, 32, 8).and_then(|at| usize::try_from(at).ok()).ok_or(BAD)?;
    let (size, count) = (number(elf, 54, 2).ok_or(BAD)?, number(elf, 56, 2).ok_or(BAD)?);
    let (mut loads, mut entry) = (Vec::new(), None);
    for index in 0..count {
        let header = table.checked_add((index * size) as usize).ok_or(BAD)?;
        let field = |at: usize, bytes: usize| number(elf, header.checked_add(at)?, bytes);
        let place = |at: usize| field(at, 8).and_then(|value| usize::try_from(value).ok()).ok_or(BAD);
        let (offset, length) = (place(8)?, place(32)?);
        let contents = offset.checked_add(length).and_then(|end| elf.get(offset..end)).ok_or(BAD)?;
        match field(0, 4).ok_or(BAD)? {
            1 => loads.push((place(24)?, contents, place(40)?)),
            4 => entry = entry.or(pvh_entry(contents)),
            _ => {}
        }
    }
    let entry = entry.ok_or("it has no PVH entry")?;
    let base = loads.iter().map(|(address, ..)| *address).min().ok_or("nothing of it is loaded")?;
    let end = loads.iter().filter_map(|(address, _, size)| address.checked_add(*size)).max().unwrap_or(0);
    if base < PROGRAM as usize || end.saturating_sub(base) > LOADER_BYTES_MAX {
        return Err("it lies below 1 MiB, or is too large");
    }
    let mut bytes = vec![0; end.saturating_sub(base)];
    for (address, contents, _) in loads {
        let at = address - base;
        let room = bytes.get_mut(at..at + contents.len()).ok_or("its sizes contradict each other")?;
        room.copy_from_slice(contents);
    }
    let base = u32::try_from(base).map_err(|_| "it lies above 4 GiB")?;
    Ok(Flat { base, bytes, entry })
}

/// The address in note 18 of the owner "Xen".
fn pvh_entry(notes: &[u8]) -> Option<u32> {
    let mut at = 0usize;
    while let (Some(name), Some(data), Some(kind)) =
        (number(notes, at, 4), number(notes, at + 4, 4), number(notes, at + 8, 4))
    {
        let name_end = at.checked_add(12)?.checked_add(usize::try_from(name).ok()?)?;
        let data_at = name_end.checked_next_multiple_of(4)?;
        if kind == 18 && notes.get(at + 12..name_end) == Some(b"Xen\0") {
            return u32::try_from(number(notes, data_at, 4)?).ok();
        }
        at = data_at.checked_add(usize::try_from(data).ok()?)?.checked_next_multiple_of(4)?;
    }
    None
}

/// Boot sector and set-up code.
fn setup(entry: u32) -> Vec<u8> {
    let mut image = vec![0; (SETUP_SECTORS + 1) * 512];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[SETUP_SECTORS as u8]);
    put(0x1fe, &[0x55, 0xaa]);
    put(0x200, &[0xeb, (CODE - 0x202) as u8]); // jmp to the code
    put(0x202, b"HdrS");
    put(0x206, &0x0206u16.to_le_bytes());
    put(0x211, &[1]); // the program is above 1 MiB
    put(0x214, &PROGRAM.to_le_bytes());
    put(0x22c, &0x7fff_ffffu32.to_le_bytes()); // the ramdisk below 2 GiB
    put(0x238, &255u32.to_le_bytes()); // length of a command line
    let code = code(entry);
    assert!(CODE + code.len() <= POINTER);
    put(CODE, &code);
    put(POINTER, &23u16.to_le_bytes());
    put(POINTER + 2, &(SETUP + DESCRIPTORS as u32).to_le_bytes());
    for (index, descriptor) in [0u64, 0x00cf_9a00_0000_ffff, 0x00cf_9200_0000_ffff].iter().enumerate() {
        put(DESCRIPTORS + 8 * index, &descriptor.to_le_bytes());
    }
    // Start information, version 1: one module; the number of the map's entries is counted up by the code.
    put(START_INFO, &0x336e_c578u32.to_le_bytes());
    put(START_INFO + 4, &1u32.to_le_bytes());
    put(START_INFO + 12, &1u32.to_le_bytes());
    put(START_INFO + 16, &u64::from(SETUP + MODULE as u32).to_le_bytes());
    put(START_INFO + 40, &u64::from(SETUP + MAP as u32).to_le_bytes());
    image
}

/// Entered in real mode with all segments at the boot sector.
fn code(entry: u32) -> Vec<u8> {
    const COUNT: u16 = (START_INFO + 48) as u16;
    let mut code = vec![0xfa, 0xfc]; // cli; cld
    code.extend([0x8c, 0xc8, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0]); // mov ds, es, ss from cs
    code.extend([0xbc, 0x00, 0x80]); // mov sp, 0x8000
    code.extend([0x66, 0x31, 0xdb]); // xor ebx, ebx
    code.push(0xbf); // mov di, MAP
    code.extend((MAP as u16).to_le_bytes());
    let next = code.len();
    code.extend([0x66, 0xb8, 0x20, 0xe8, 0, 0]); // mov eax, 0xe820
    code.extend([0x66, 0xba, 0x50, 0x41, 0x4d, 0x53]); // mov edx, "SMAP"
    code.extend([0x66, 0xb9, 20, 0, 0, 0]); // mov ecx, 20
    code.extend([0xcd, 0x15]); // int 0x15
    code.extend([0x72, 0]); // jc done
    let carry = code.len();
    code.extend([0x83, 0xc7, 24]); // add di, 24
    code.extend([0xff, 0x06]); // inc word [COUNT]
    code.extend(COUNT.to_le_bytes());
    code.extend([0x81, 0x3e]); // cmp word [COUNT], MAP_ENTRIES_MAX
    code.extend(COUNT.to_le_bytes());
    code.extend(MAP_ENTRIES_MAX.to_le_bytes());
    code.extend([0x73, 0]); // jae done
    let full = code.len();
    code.extend([0x66, 0x85, 0xdb]); // test ebx, ebx
    code.extend([0x75, 0]); // jnz next
    let here = code.len();
    code[here - 1] = (next as isize - here as isize) as i8 as u8;
    code[carry - 1] = (here - carry) as u8;
    code[full - 1] = (here - full) as u8;
    code.extend([0xfa]); // cli: the BIOS may have let interrupts in
    code.extend([0x66, 0x0f, 0x01, 0x16]); // lgdt [POINTER]
    code.extend((POINTER as u16).to_le_bytes());
    code.extend([0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0]); // cr0 |= PE
    code.extend([0x66, 0xea]); // jmp 0x08:next
    code.extend((SETUP + (CODE + code.len() + 6) as u32).to_le_bytes());
    code.extend([0x08, 0x00]);
    // Protected mode.
    code.extend([0x66, 0xb8, 0x10, 0x00]); // mov ax, 0x10
    code.extend([0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0]); // mov ds, es, ss from ax
    for (from, to) in [(0x218, MODULE), (0x21c, MODULE + 8)] {
        code.push(0xa1); // mov eax, [the ramdisk's address, its size]
        code.extend((SETUP + from).to_le_bytes());
        code.push(0xa3); // mov [module], eax
        code.extend((SETUP + to as u32).to_le_bytes());
    }
    code.push(0xbb); // mov ebx, start information
    code.extend((SETUP + START_INFO as u32).to_le_bytes());
    code.push(0xb8); // mov eax, entry
    code.extend(entry.to_le_bytes());
    code.extend([0xff, 0xe0]); // jmp eax
    code
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_program_is_found_where_it_wants_to_be() {
        let elf = crate::smoke::pvh(7, crate::smoke::END_ANY);
        let flat = flatten(&elf).unwrap();
        assert_eq!((flat.base, flat.entry), (0x10_0000, 0x10_0000));
        let image = wrap(&elf).unwrap();
        assert_eq!(&image[0x202..0x206], b"HdrS");
        assert_eq!(&image[(SETUP_SECTORS + 1) * 512..][..flat.bytes.len()], flat.bytes);
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let mut elf = crate::smoke::pvh(7, crate::smoke::END_ANY);
        assert!(wrap(b"\x7fELF").unwrap_err().to_string().contains("no 64-bit ELF"));
        let entry = elf.windows(4).position(|window| window == b"Xen\0").unwrap();
        elf[entry] = b'Y';
        assert!(wrap(&elf).unwrap_err().to_string().contains("no PVH entry"));
    }

    proptest! {
        #[test]
        fn anything_is_read_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            changes in proptest::collection::vec((0usize..0x200, any::<u8>()), 0..8),
        ) {
            let _ = wrap(&bytes);
            let mut elf = crate::smoke::pvh(7, crate::smoke::END_ANY);
            changes.iter().for_each(|(at, byte)| elf[*at] = *byte);
            let _ = wrap(&elf);
        }
    }
}
