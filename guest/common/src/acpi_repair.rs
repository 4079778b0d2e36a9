//! ACPI tables in place of a monitor's that lack what Redox cannot do without: a copy of the root and of the FADT with it
//! put in; everything else stays where it is. Changes nothing in place and invents no device.
//!
//! What may be put in, and why:
//! - a FACS, which hardware-reduced machines need not have, and without which Redox's ACPI daemon ends;
//! - the DSDT's address in the FADT's short field, the only one that the daemon's first look goes to.

use alloc::vec::Vec;
use core::fmt;

use crate::acpi::{self, AcpiError, HEADER_BYTES, PhysicalReader};
use crate::paging::PhysicalMemory;
use crate::protocol::AreaKind;
use crate::text::{read_u32, read_u64};

/// Places in the FADT.
const FIRMWARE_CONTROL: usize = 36;
const DSDT: usize = 40;
const LONG_FIRMWARE_CONTROL: usize = 132;
const LONG_DSDT: usize = 140;

const FACS_BYTES: usize = 64;
const RSDP_BYTES: usize = 36;

/// What was put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// The root pointer of the copy; nothing where nothing was missing.
    pub rsdp: Option<Vec<u8>>,
    pub facs: bool,
    pub dsdt_address: bool,
}

impl fmt::Display for Repair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.facs, "a FACS"), (self.dsdt_address, "the DSDT's short address")];
        let mut separator = "";
        for (_, name) in parts.iter().filter(|(is_there, _)| *is_there) {
            write!(formatter, "{separator}{name}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Puts in what is missing, in pages of `memory`. The tables that the root pointer names are read only.
pub fn repair<M: PhysicalMemory>(
    reader: &dyn PhysicalReader,
    rsdp: &[u8],
    memory: &mut M,
) -> Result<Repair, AcpiError> {
    let mut tables = acpi::tables(reader, rsdp)?;
    let mut repair = Repair::default();
    for (signature, address) in &mut tables {
        if signature == b"FACP"
            && let Some(copy) = repaired_fadt(acpi::table(reader, *address)?, memory, &mut repair)?
        {
            *address = place(memory, &copy)?;
        }
    }
    if repair != Repair::default() {
        let root = place(memory, &root(&tables))?;
        repair.rsdp = Some(root_pointer(rsdp, root));
    }
    Ok(repair)
}

fn repaired_fadt<M: PhysicalMemory>(
    table: &[u8],
    memory: &mut M,
    repair: &mut Repair,
) -> Result<Option<Vec<u8>>, AcpiError> {
    let mut copy = table.to_vec();
    let short = |offset| read_u32(table, offset).unwrap_or(0);
    let long = |offset| read_u64(table, offset).unwrap_or(0);
    if table.len() < DSDT + 4 {
        return Ok(None);
    }
    if short(FIRMWARE_CONTROL) == 0 && long(LONG_FIRMWARE_CONTROL) == 0 {
        let mut facs = [0; FACS_BYTES];
        facs[..4].copy_from_slice(b"FACS");
        facs[4..8].copy_from_slice(&(FACS_BYTES as u32).to_le_bytes());
        // Its version.
        facs[32] = 2;
        let address = place(memory, &facs)?;
        // Pages of the hand-over lie below 8 GiB, which may be too much for the short field.
        match u32::try_from(address) {
            Ok(address) => put(&mut copy, FIRMWARE_CONTROL, &address.to_le_bytes()),
            Err(_) => put(&mut copy, LONG_FIRMWARE_CONTROL, &address.to_le_bytes()),
        }
        repair.facs = true;
    }
    if short(DSDT) == 0
        && let Some(address) = u32::try_from(long(LONG_DSDT)).ok().filter(|address| *address != 0)
    {
        put(&mut copy, DSDT, &address.to_le_bytes());
        repair.dsdt_address = true;
    }
    Ok((copy != table).then(|| sealed(copy)))
}

/// An XSDT of these tables.
fn root(tables: &[([u8; 4], u64)]) -> Vec<u8> {
    let mut table = alloc::vec![0; HEADER_BYTES];
    table[..4].copy_from_slice(b"XSDT");
    table[8] = 1;
    table[10..24].copy_from_slice(b"REDNIXREPAIRED");
    table.extend(tables.iter().flat_map(|(_, address)| address.to_le_bytes()));
    let length = table.len() as u32;
    put(&mut table, 4, &length.to_le_bytes());
    sealed(table)
}

/// A root pointer of version 2 to an XSDT, with the maker of the old one.
fn root_pointer(old: &[u8], root: u64) -> Vec<u8> {
    let mut rsdp = alloc::vec![0; RSDP_BYTES];
    rsdp[..8].copy_from_slice(b"RSD PTR ");
    if let Some(maker) = old.get(9..15) {
        rsdp[9..15].copy_from_slice(maker);
    }
    rsdp[15] = 2;
    put(&mut rsdp, 20, &(RSDP_BYTES as u32).to_le_bytes());
    put(&mut rsdp, 24, &root.to_le_bytes());
    rsdp[8] = missing_to_zero(&rsdp[..20]);
    rsdp[32] = missing_to_zero(&rsdp);
    rsdp
}

/// A table with its checksum.
fn sealed(mut table: Vec<u8>) -> Vec<u8> {
    table[9] = 0;
    table[9] = missing_to_zero(&table);
    table
}

fn missing_to_zero(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

/// Writes a field, where the table is long enough to have it.
fn put(table: &mut [u8], offset: usize, bytes: &[u8]) {
    if let Some(field) = table.get_mut(offset..offset + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}

fn place<M: PhysicalMemory>(memory: &mut M, bytes: &[u8]) -> Result<u64, AcpiError> {
    let address = memory.allocate(bytes.len(), AreaKind::Reserved).ok_or(AcpiError::NoMemory)?;
    memory.bytes(address, bytes.len()).copy_from_slice(bytes);
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acpi::Memory;
    use crate::acpi::tests::put_table;
    use crate::paging::tests::FakeMemory;
    use proptest::prelude::*;

    const FADT_AT: usize = 0x2000;

    /// A machine whose FADT has these addresses: FACS, DSDT, long DSDT.
    fn machine(fadt: (u32, u32, u64)) -> (Memory, Vec<u8>) {
        let mut memory = Memory(std::vec![0; 0x4000]);
        let mut body = std::vec![0; 276 - HEADER_BYTES];
        body[FIRMWARE_CONTROL - HEADER_BYTES..][..4].copy_from_slice(&fadt.0.to_le_bytes());
        body[DSDT - HEADER_BYTES..][..4].copy_from_slice(&fadt.1.to_le_bytes());
        body[LONG_DSDT - HEADER_BYTES..][..8].copy_from_slice(&fadt.2.to_le_bytes());
        put_table(&mut memory, FADT_AT, b"FACP", &body);
        put_table(&mut memory, 0x3000, b"APIC", &[0; 8]);
        let list = [(FADT_AT as u64).to_le_bytes(), 0x3000u64.to_le_bytes()].concat();
        put_table(&mut memory, 0x1000, b"XSDT", &list);
        (memory, root_pointer(b"", 0x1000))
    }

    /// The copy's tables, as a kernel that knows only the new root pointer would read them.
    fn copied(memory: &FakeMemory, repair: &Repair) -> Vec<([u8; 4], Vec<u8>)> {
        let rsdp = repair.rsdp.as_deref().expect("a copy");
        assert_eq!(missing_to_zero(rsdp), 0);
        assert_eq!(missing_to_zero(&rsdp[..20]), 0);
        let tables = acpi::tables(memory, rsdp).expect("a root");
        tables
            .into_iter()
            .map(|(signature, address)| (signature, acpi::table(memory, address).expect("whole").to_vec()))
            .collect()
    }

    #[test]
    fn whole_tables_stay() {
        let (tables, rsdp) = machine((0x10, 0x20, 0x20));
        assert_eq!(repair(&tables, &rsdp, &mut FakeMemory::new(1 << 16)), Ok(Repair::default()));
    }

    #[test]
    fn what_is_missing_is_put_in() {
        let (tables, rsdp) = machine((0, 0, 0x20));
        let mut memory = FakeMemory::new(1 << 16);
        let repair = repair(&tables, &rsdp, &mut memory).expect("it can be");
        assert!(repair.facs && repair.dsdt_address, "{repair:?}");
        assert_eq!(std::format!("{repair}"), "a FACS, the DSDT's short address");
        let copy = copied(&memory, &repair);
        let [(name, fadt)] = &copy[..] else { panic!("{copy:x?}") };
        assert_eq!((name, read_u32(fadt, DSDT)), (b"FACP", Some(0x20)));
        let facs = u64::from(read_u32(fadt, FIRMWARE_CONTROL).expect("it is long"));
        assert_eq!(memory.read(facs, 8), Some(&b"FACS\x40\0\0\0"[..]));
        assert!(facs.is_multiple_of(64));
        let root = acpi::table(&memory, read_u64(repair.rsdp.as_deref().expect("a copy"), 24).expect("long"));
        assert_eq!(root.map(|root| read_u64(root, HEADER_BYTES + 8)), Ok(Some(0x3000)), "the MADT stays");
    }

    #[test]
    fn an_address_that_does_not_fit_stays_long() {
        let (tables, rsdp) = machine((0x10, 0, 1 << 32));
        assert_eq!(repair(&tables, &rsdp, &mut FakeMemory::new(1 << 16)), Ok(Repair::default()));
        let (tables, rsdp) = machine((0, 0x20, 0));
        assert_eq!(repair(&tables, &rsdp, &mut FakeMemory::new(0)), Err(AcpiError::NoMemory));
    }

    proptest! {
        #[test]
        fn any_tables_are_copied_without_panic(
            changes in prop::collection::vec((0usize..0x4000, any::<u8>()), 0..40),
        ) {
            let (mut tables, rsdp) = machine((0, 0, 0x20));
            for (offset, byte) in changes {
                tables.0[offset / 0x1000 * 0x1000 + offset % 0x60] = byte;
            }
            if let Ok(repair) = repair(&tables, &rsdp, &mut FakeMemory::new(1 << 16)) {
                prop_assert_eq!(repair.rsdp.is_some(), repair.facs || repair.dsdt_address);
            }
        }
    }
}
