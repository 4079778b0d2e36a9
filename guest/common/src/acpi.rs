//! What switching a machine off needs of ACPI: tables by signature, the power management ports, and the sleep type of
//! state S5. Interprets no AML beyond that one package.

use alloc::vec::Vec;
use core::fmt;

use crate::limits::{ACPI_TABLE_BYTES_MAX, ACPI_TABLES_MAX};
use crate::text::{read_u16, read_u32, read_u64};

/// Bytes that every table begins with.
pub const HEADER_BYTES: usize = 36;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcpiError {
    NoRsdp,
    Unreadable { address: u64 },
    BadTable { address: u64 },
    NoTable(&'static str),
    NoSleepState,
    NoMemory,
}

impl fmt::Display for AcpiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcpiError::NoRsdp => write!(formatter, "no ACPI root pointer was handed over"),
            AcpiError::Unreadable { address } => {
                write!(formatter, "the ACPI table at {address:#x} is not mapped")
            }
            AcpiError::BadTable { address } => write!(formatter, "the ACPI table at {address:#x} is damaged"),
            AcpiError::NoTable(name) => write!(formatter, "ACPI has no table {name}"),
            AcpiError::NoMemory => write!(formatter, "no memory below 8 GiB for ACPI tables"),
            AcpiError::NoSleepState => write!(formatter, "ACPI describes no sleep state S5"),
        }
    }
}

/// Physical memory for reading; nothing where it is not mapped.
pub trait PhysicalReader {
    fn read(&self, address: u64, length: usize) -> Option<&[u8]>;
}

/// Where and what to write to enter S5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerOff {
    pub control_a: u16,
    /// 0 where there is only one block.
    pub control_b: u16,
    pub type_a: u8,
    pub type_b: u8,
    /// Port and value that switch ACPI on; port 0 where it is on already.
    pub enable_port: u16,
    pub enable_value: u8,
    /// Port of the register that machines without these blocks have instead (hardware-reduced ACPI); 0 where there is none.
    pub sleep_port: u16,
}

impl PowerOff {
    /// The word for a control port: sleep type in bits 10 to 12, enable in bit 13.
    pub fn word(sleep_type: u8) -> u16 {
        u16::from(sleep_type & 7) << 10 | 1 << 13
    }

    /// The byte for the register of hardware-reduced machines: sleep type in bits 2 to 4, enable in bit 5.
    pub fn byte(sleep_type: u8) -> u8 {
        (sleep_type & 7) << 2 | 1 << 5
    }
}

/// Where PCs have the root pointer (ACPI specification, 5.2.5.1): in the first KiB of the extended data area of BIOS, whose
/// segment is at 0x40E, else in its read-only memory.
const DATA_AREA_SEGMENT: u64 = 0x40E;
const DATA_AREA_BYTES: u64 = 1 << 10;
const ROM_AREA: core::ops::Range<u64> = 0xE_0000..0x10_0000;

/// The bytes of the root pointer at an address, its checksum verified.
pub fn root_pointer(memory: &dyn PhysicalReader, address: u64) -> Option<&[u8]> {
    const SHORT_BYTES: usize = 20;
    const LONG_BYTES: usize = 36;
    let is_whole = |bytes: &&[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0;
    let short = memory.read(address, SHORT_BYTES)?;
    if !short.starts_with(b"RSD PTR ") || !is_whole(&short) {
        return None;
    }
    if short[15] < 2 { Some(short) } else { memory.read(address, LONG_BYTES).filter(is_whole) }
}

/// The root pointer of a PC whose firmware names none.
pub fn find_root_pointer(memory: &dyn PhysicalReader) -> Option<&[u8]> {
    let segment = memory.read(DATA_AREA_SEGMENT, 2).and_then(|bytes| read_u16(bytes, 0)).unwrap_or(0);
    let data_area = u64::from(segment) << 4;
    let places = (data_area..data_area + DATA_AREA_BYTES).step_by(16).filter(|_| segment != 0);
    places.chain(ROM_AREA.step_by(16)).find_map(|address| root_pointer(memory, address))
}

/// All tables named by the root pointer: signature and address.
pub fn tables(memory: &dyn PhysicalReader, rsdp: &[u8]) -> Result<Vec<([u8; 4], u64)>, AcpiError> {
    if !rsdp.starts_with(b"RSD PTR ") {
        return Err(AcpiError::NoRsdp);
    }
    let extended = rsdp.get(15).is_some_and(|revision| *revision >= 2);
    let xsdt = if extended { read_u64(rsdp, 24).unwrap_or(0) } else { 0 };
    let (root, width) = match xsdt {
        0 => (u64::from(read_u32(rsdp, 16).ok_or(AcpiError::NoRsdp)?), 4),
        address => (address, 8),
    };
    let list = table(memory, root)?;
    let mut tables = Vec::new();
    for entry in list[HEADER_BYTES..].chunks_exact(width).take(ACPI_TABLES_MAX) {
        let address = if width == 8 { read_u64(entry, 0) } else { read_u32(entry, 0).map(u64::from) };
        let Some(address) = address.filter(|address| *address != 0) else { continue };
        if let Some(signature) = memory.read(address, 4).and_then(|bytes| bytes.try_into().ok()) {
            tables.push((signature, address));
        }
    }
    Ok(tables)
}

/// A table's bytes with its header, length and checksum verified.
pub fn table(memory: &dyn PhysicalReader, address: u64) -> Result<&[u8], AcpiError> {
    let header = memory.read(address, HEADER_BYTES).ok_or(AcpiError::Unreadable { address })?;
    let length = read_u32(header, 4).unwrap_or(0) as usize;
    if !(HEADER_BYTES..=ACPI_TABLE_BYTES_MAX).contains(&length) {
        return Err(AcpiError::BadTable { address });
    }
    let bytes = memory.read(address, length).ok_or(AcpiError::Unreadable { address })?;
    if bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
        return Err(AcpiError::BadTable { address });
    }
    Ok(bytes)
}

/// How to enter S5, from the tables FADT and DSDT.
pub fn power_off(memory: &dyn PhysicalReader, rsdp: &[u8]) -> Result<PowerOff, AcpiError> {
    let named = tables(memory, rsdp)?;
    let (_, address) =
        named.iter().find(|(signature, _)| signature == b"FACP").ok_or(AcpiError::NoTable("FADT"))?;
    let fadt = table(memory, *address)?;
    let byte = |offset: usize| fadt.get(offset).copied().unwrap_or(0);
    let port = |offset: usize| read_u32(fadt, offset).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    let long_dsdt = read_u64(fadt, 140).unwrap_or(0);
    let dsdt = if long_dsdt != 0 { long_dsdt } else { u64::from(read_u32(fadt, 40).unwrap_or(0)) };
    let (type_a, type_b) = sleep_types(table(memory, dsdt)?).ok_or(AcpiError::NoSleepState)?;
    let control_a = port(64);
    // A register's address begins with its space, 1 for ports, and has the port at byte 4.
    let sleep_port = if byte(244) == 1 { port(248) } else { 0 };
    if control_a == 0 && sleep_port == 0 {
        return Err(AcpiError::NoTable("FADT with a power management port"));
    }
    Ok(PowerOff {
        control_a,
        control_b: port(68),
        type_a,
        type_b,
        enable_port: if byte(52) == 0 { 0 } else { port(48) },
        enable_value: byte(52),
        sleep_port,
    })
}

/// The first two numbers of the package named `_S5_`.
pub fn sleep_types(aml: &[u8]) -> Option<(u8, u8)> {
    const NAME: u8 = 0x08;
    const PACKAGE: u8 = 0x12;
    let place = aml.windows(4).enumerate().position(|(index, name)| {
        let named = index > 0 && aml[index - 1] == NAME
            || index > 1 && aml[index - 1] == b'\\' && aml[index - 2] == NAME;
        name == b"_S5_" && named && aml.get(index + 4) == Some(&PACKAGE)
    })?;
    // The package's length takes one byte and as many more as its two top bits say; its element count is one byte.
    let length_at = place + 5;
    let elements_at = length_at + 1 + usize::from(aml.get(length_at)? >> 6) + 1;
    let (first, next) = small_integer(aml, elements_at)?;
    let second = small_integer(aml, next).map_or(first, |(value, _)| value);
    Some((first, second))
}

/// An integer of AML that fits a byte, and where the next term starts.
fn small_integer(aml: &[u8], offset: usize) -> Option<(u8, usize)> {
    match *aml.get(offset)? {
        value @ (0 | 1) => Some((value, offset + 1)),
        0x0a => Some((*aml.get(offset + 1)?, offset + 2)),
        0x0b => Some((u8::try_from(read_u16(aml, offset + 1)?).ok()?, offset + 3)),
        0x0c => Some((u8::try_from(read_u32(aml, offset + 1)?).ok()?, offset + 5)),
        _ => None,
    }
}

/// Physical memory of tests: these bytes, from address 0 on.
#[cfg(test)]
pub(crate) struct Memory(pub Vec<u8>);

#[cfg(test)]
impl PhysicalReader for Memory {
    fn read(&self, address: u64, length: usize) -> Option<&[u8]> {
        let start = usize::try_from(address).ok()?;
        self.0.get(start..start.checked_add(length)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn put_table(memory: &mut Memory, at: usize, signature: &[u8], body: &[u8]) {
        let mut bytes = std::vec![0; HEADER_BYTES];
        bytes[..4].copy_from_slice(signature);
        bytes.extend_from_slice(body);
        let length = bytes.len() as u32;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[9] = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
        memory.0[at..at + bytes.len()].copy_from_slice(&bytes);
    }

    fn machine(extended: bool) -> (Memory, Vec<u8>) {
        let mut memory = Memory(std::vec![0; 0x4000]);
        let mut rsdp = std::vec![0; 36];
        rsdp[..8].copy_from_slice(b"RSD PTR ");
        if extended {
            rsdp[15] = 2;
            rsdp[24..32].copy_from_slice(&0x1000u64.to_le_bytes());
            put_table(&mut memory, 0x1000, b"XSDT", &0x2000u64.to_le_bytes());
        } else {
            rsdp[16..20].copy_from_slice(&0x1000u32.to_le_bytes());
            put_table(&mut memory, 0x1000, b"RSDT", &0x2000u32.to_le_bytes());
        }
        let mut fadt = std::vec![0; 116 - HEADER_BYTES];
        fadt[40 - HEADER_BYTES..44 - HEADER_BYTES].copy_from_slice(&0x3000u32.to_le_bytes());
        fadt[48 - HEADER_BYTES] = 0xb2;
        fadt[52 - HEADER_BYTES] = 2;
        fadt[64 - HEADER_BYTES..68 - HEADER_BYTES].copy_from_slice(&0x604u32.to_le_bytes());
        put_table(&mut memory, 0x2000, b"FACP", &fadt);
        put_table(&mut memory, 0x3000, b"DSDT", b"xx\x08_S5_\x12\x06\x04\x0a\x05\x00\x00\x00");
        (memory, rsdp)
    }

    #[test]
    fn power_off_from_tables() {
        for extended in [false, true] {
            let (memory, rsdp) = machine(extended);
            let expected = PowerOff {
                control_a: 0x604,
                control_b: 0,
                type_a: 5,
                type_b: 0,
                enable_port: 0xb2,
                enable_value: 2,
                sleep_port: 0,
            };
            assert_eq!(power_off(&memory, &rsdp), Ok(expected));
        }
        assert_eq!((PowerOff::word(5), PowerOff::byte(5)), (0x3400, 0x34));
        let (mut memory, rsdp) = machine(true);
        memory.0[0x2030] ^= 1;
        assert_eq!(power_off(&memory, &rsdp), Err(AcpiError::BadTable { address: 0x2000 }));
        assert_eq!(power_off(&memory, b"nothing"), Err(AcpiError::NoRsdp));
    }

    #[test]
    fn root_pointers_of_a_pc() {
        let pointer = |revision: u8| {
            let mut bytes = std::vec![0u8; if revision < 2 { 20 } else { 36 }];
            bytes[..8].copy_from_slice(b"RSD PTR ");
            bytes[15] = revision;
            bytes[8] = bytes[..20].iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
            bytes
        };
        let mut memory = Memory(std::vec![0; 1 << 20]);
        assert_eq!(find_root_pointer(&memory), None);
        for (address, revision) in [(0xF_5A10, 2), (0xE_0000, 0), (0x9_FC20, 2)] {
            let bytes = pointer(revision);
            memory.0[address..address + bytes.len()].copy_from_slice(&bytes);
            memory.0[0x40E..0x410].copy_from_slice(&0x9FC0u16.to_le_bytes());
            assert_eq!(find_root_pointer(&memory), Some(&bytes[..]), "{address:#x}");
            assert_eq!(root_pointer(&memory, address as u64), Some(&bytes[..]));
        }
        memory.0[0x9_FC21] ^= 1;
        assert_eq!(root_pointer(&memory, 0x9_FC20), None, "not a root pointer");
        memory.0[0x9_FC21] ^= 1;
        memory.0[0x9_FC40] ^= 1;
        assert_eq!(root_pointer(&memory, 0x9_FC20), None, "its second half is damaged");
        assert_eq!(find_root_pointer(&memory), Some(&pointer(0)[..]), "the next one is");
    }

    #[test]
    fn hardware_reduced_machines_have_a_register() {
        let (mut memory, rsdp) = machine(true);
        let mut fadt = std::vec![0; 276 - HEADER_BYTES];
        fadt[140 - HEADER_BYTES..144 - HEADER_BYTES].copy_from_slice(&0x3000u32.to_le_bytes());
        put_table(&mut memory, 0x2000, b"FACP", &fadt);
        let none = AcpiError::NoTable("FADT with a power management port");
        assert_eq!(power_off(&memory, &rsdp), Err(none));
        fadt[244 - HEADER_BYTES..248 - HEADER_BYTES].copy_from_slice(&[1, 8, 0, 1]);
        fadt[248 - HEADER_BYTES..252 - HEADER_BYTES].copy_from_slice(&0x600u32.to_le_bytes());
        put_table(&mut memory, 0x2000, b"FACP", &fadt);
        let plan = power_off(&memory, &rsdp).expect("it has a register");
        assert_eq!((plan.control_a, plan.sleep_port, plan.type_a), (0, 0x600, 5));
    }

    #[test]
    fn sleep_packages() {
        for (aml, expected) in [
            (&b"\x08_S5_\x12\x06\x04\x00\x00\x00\x00"[..], Some((0, 0))),
            (b"\x08\\_S5_\x12\x0a\x04\x0a\x07\x01\x00\x00", Some((7, 1))),
            (b"\x08_S5_\x12\x46\x00\x04\x0b\x05\x00\x0a\x06", Some((5, 6))),
            (b"\x10_S5_\x12\x06\x04\x00\x00", None),
            (b"\x08_S5_\x12", None),
            (b"", None),
        ] {
            assert_eq!(sleep_types(aml), expected, "{aml:?}");
        }
    }

    proptest! {
        #[test]
        fn any_tables_are_read_without_panic(changes in prop::collection::vec((0usize..0x3040, any::<u8>()), 0..50)) {
            let (mut memory, rsdp) = machine(true);
            for (offset, byte) in changes {
                memory.0[offset / 0x1000 * 0x1000 + offset % 0x80] = byte;
            }
            let _ = power_off(&memory, &rsdp);
            let _ = sleep_types(&memory.0);
        }
    }
}
