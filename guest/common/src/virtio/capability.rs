//! What a PCI function says about itself, as far as virtio drivers need it: base addresses, capabilities, the
//! structures of the modern form and the table of MSI-X. Reads configuration space only, and assigns nothing there.

use alloc::vec::Vec;

use super::Refusal;

/// Capabilities of one function that are followed.
const CAPABILITIES_MAX: usize = 48;

const MSI_X: u8 = 0x11;
const VENDOR_SPECIFIC: u8 = 0x09;

const STRUCTURE_COMMON: u8 = 1;
const STRUCTURE_NOTIFY: u8 = 2;
const STRUCTURE_INTERRUPT: u8 = 3;
const STRUCTURE_DEVICE: u8 = 4;

/// The first 256 bytes of a function's configuration space. Offsets are multiples of 4.
pub trait ConfigurationSpace {
    fn read_u32(&mut self, offset: u8) -> u32;

    fn read_u16(&mut self, offset: u8) -> u16 {
        (self.read_u32(offset & 0xFC) >> (8 * (offset & 2))) as u16
    }

    fn read_u8(&mut self, offset: u8) -> u8 {
        (self.read_u32(offset & 0xFC) >> (8 * (offset & 3))) as u8
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseAddress {
    Ports(u16),
    Memory(u64),
}

/// A base address register, as the firmware has set it.
pub fn base_address(space: &mut impl ConfigurationSpace, index: u8) -> Option<BaseAddress> {
    if index > 5 {
        return None;
    }
    let low = space.read_u32(0x10 + index * 4);
    if low & 1 != 0 {
        return Some(BaseAddress::Ports((low & 0xFFFC) as u16)).filter(|_| low & 0xFFFC != 0);
    }
    let high = if low >> 1 & 3 == 2 && index < 5 { space.read_u32(0x14 + index * 4) } else { 0 };
    let address = u64::from(high) << 32 | u64::from(low & !0xF);
    (address != 0).then_some(BaseAddress::Memory(address))
}

/// Offsets of the capabilities with an identity, in their order.
pub fn capabilities(space: &mut impl ConfigurationSpace, identity: u8) -> Vec<u8> {
    let mut found = Vec::new();
    if space.read_u16(0x06) & 1 << 4 == 0 {
        return found;
    }
    let mut offset = space.read_u8(0x34) & 0xFC;
    for _ in 0..CAPABILITIES_MAX {
        if offset < 0x40 {
            break;
        }
        let header = space.read_u16(offset);
        if header as u8 == identity {
            found.push(offset);
        }
        offset = (header >> 8) as u8 & 0xFC;
    }
    found
}

/// A piece of a device's memory, by its physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub address: u64,
    pub bytes: u64,
}

/// The structures of a modern device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Structures {
    pub common: Place,
    pub notify: Place,
    /// Bytes between the notifications of two queues.
    pub notify_step: u32,
    pub interrupt: Place,
    pub device: Place,
}

/// Bytes of the common structure that are used.
pub const COMMON_BYTES: u64 = 56;

/// Finds the structures. Where a device offers one several times, the first usable one counts, as the standard has it.
pub fn structures(space: &mut impl ConfigurationSpace) -> Result<Structures, Refusal> {
    let offsets = capabilities(space, VENDOR_SPECIFIC);
    let mut find = |wanted: u8, least: u64, name: &'static str| {
        let place = offsets.iter().find_map(|offset| structure(space, *offset, wanted, least));
        place.ok_or(Refusal::MissingStructure(name))
    };
    let (common, _) = find(STRUCTURE_COMMON, COMMON_BYTES, "common")?;
    let (notify, notify_offset) = find(STRUCTURE_NOTIFY, 2, "notify")?;
    let (interrupt, _) = find(STRUCTURE_INTERRUPT, 1, "interrupt")?;
    let (device, _) = find(STRUCTURE_DEVICE, 4, "device")?;
    // `structure` has seen to it that this lies inside.
    let notify_step = space.read_u32(notify_offset + 16);
    Ok(Structures { common, notify, notify_step, interrupt, device })
}

fn structure(space: &mut impl ConfigurationSpace, offset: u8, wanted: u8, least: u64) -> Option<(Place, u8)> {
    // The largest one that is read has 20 bytes.
    if offset > 0xEC || space.read_u8(offset + 3) != wanted {
        return None;
    }
    let index = space.read_u8(offset + 4);
    let BaseAddress::Memory(base) = base_address(space, index)? else { return None };
    let address = base.checked_add(u64::from(space.read_u32(offset + 8)))?;
    let bytes = u64::from(space.read_u32(offset + 12));
    address.checked_add(bytes)?;
    (bytes >= least).then_some((Place { address, bytes }, offset))
}

/// The table of MSI-X.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiX {
    /// Offset of the capability.
    pub capability: u8,
    pub table: Place,
}

/// Bytes of one entry: address, data, control.
pub const MSI_X_ENTRY_BYTES: u64 = 16;
/// Of a function's MSI-X control: all on, all masked.
pub const MSI_X_ENABLE: u16 = 1 << 15;
pub const MSI_X_MASK_ALL: u16 = 1 << 14;

pub fn msi_x(space: &mut impl ConfigurationSpace) -> Option<MsiX> {
    let capability = *capabilities(space, MSI_X).first()?;
    if capability > 0xF4 {
        return None;
    }
    let entries = u64::from(space.read_u16(capability + 2) & 0x7FF) + 1;
    let table = space.read_u32(capability + 4);
    let BaseAddress::Memory(base) = base_address(space, (table & 7) as u8)? else { return None };
    let address = base.checked_add(u64::from(table & !7))?;
    Some(MsiX { capability, table: Place { address, bytes: entries * MSI_X_ENTRY_BYTES } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Bytes([u8; 256]);

    impl ConfigurationSpace for Bytes {
        fn read_u32(&mut self, offset: u8) -> u32 {
            assert_eq!(offset % 4, 0);
            u32::from_le_bytes(self.0[usize::from(offset)..][..4].try_into().unwrap())
        }
    }

    fn put(space: &mut Bytes, offset: usize, bytes: &[u8]) {
        space.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// A disk as QEMU shows it: MSI-X in its own 32-bit memory, the structures in a 64-bit one.
    fn disk() -> Bytes {
        let mut space = Bytes([0; 256]);
        put(&mut space, 0x06, &[0x10, 0]);
        put(&mut space, 0x14, &0xFEBD_1000u32.to_le_bytes());
        put(&mut space, 0x20, &0x0000_400Cu32.to_le_bytes());
        put(&mut space, 0x24, &0x0000_0008u32.to_le_bytes());
        put(&mut space, 0x34, &[0x98]);
        let mut structure = |offset: u8, next: u8, kind: u8, bar: u8, at: u32, bytes: u32| {
            let length = if kind == STRUCTURE_NOTIFY { 20 } else { 16 };
            put(&mut space, offset.into(), &[VENDOR_SPECIFIC, next, length, kind, bar]);
            put(&mut space, usize::from(offset) + 8, &at.to_le_bytes());
            put(&mut space, usize::from(offset) + 12, &bytes.to_le_bytes());
        };
        structure(0x84, 0x70, STRUCTURE_NOTIFY, 4, 0x3000, 0x1000);
        structure(0x70, 0x60, STRUCTURE_DEVICE, 4, 0x2000, 0x1000);
        structure(0x60, 0x50, STRUCTURE_INTERRUPT, 4, 0x1000, 0x1000);
        structure(0x50, 0x40, STRUCTURE_COMMON, 4, 0, 0x1000);
        // A second common structure, through configuration space, comes too late.
        structure(0x40, 0, STRUCTURE_COMMON, 1, 0, 0x1000);
        put(&mut space, 0x94, &4u32.to_le_bytes());
        put(&mut space, 0x98, &[MSI_X, 0x84, 2, 0]);
        put(&mut space, 0x9C, &1u32.to_le_bytes());
        space
    }

    #[test]
    fn structures_of_a_disk() {
        let base = 0x8_0000_4000u64;
        let place = |offset: u64| Place { address: base + offset, bytes: 0x1000 };
        let found = structures(&mut disk()).unwrap();
        assert_eq!(found.common, place(0));
        assert_eq!((found.notify, found.notify_step), (place(0x3000), 4));
        assert_eq!((found.interrupt, found.device), (place(0x1000), place(0x2000)));
        let table = Place { address: 0xFEBD_1000, bytes: 48 };
        assert_eq!(msi_x(&mut disk()), Some(MsiX { capability: 0x98, table }));
    }

    #[test]
    fn what_is_missing_is_named() {
        // The byte that is spoilt, and what is missing then.
        let cases = [(0x53, "common"), (0x87, "notify"), (0x63, "interrupt"), (0x73, "device")];
        for (offset, name) in cases {
            let mut space = disk();
            // Of the two common structures both go.
            (space.0[offset], space.0[0x43]) = (99, 99);
            assert_eq!(structures(&mut space), Err(Refusal::MissingStructure(name)));
        }
        let mut space = disk();
        space.0[0x06] = 0;
        assert_eq!(structures(&mut space), Err(Refusal::MissingStructure("common")));
        assert_eq!(msi_x(&mut space), None);
    }

    #[test]
    fn base_addresses_of_all_kinds() {
        let mut space = Bytes([0; 256]);
        put(&mut space, 0x10, &0xC041u32.to_le_bytes());
        put(&mut space, 0x18, &0xFEB0_0008u32.to_le_bytes());
        put(&mut space, 0x24, &0xFFFF_FFF4u32.to_le_bytes());
        let found: Vec<_> = (0..7).map(|index| base_address(&mut space, index)).collect();
        let memory = |address| Some(BaseAddress::Memory(address));
        let expected = [
            Some(BaseAddress::Ports(0xC040)),
            None,
            memory(0xFEB0_0000),
            None,
            None,
            memory(0xFFFF_FFF0),
            None,
        ];
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn any_space_ends(bytes in prop::collection::vec(any::<u8>(), 256), listed: bool) {
            let mut space = Bytes(bytes.try_into().unwrap());
            space.0[6] = if listed { space.0[6] | 0x10 } else { space.0[6] };
            if let Ok(found) = structures(&mut space) {
                prop_assert!(found.common.bytes >= COMMON_BYTES);
                prop_assert!(found.notify.address.checked_add(found.notify.bytes).is_some());
            }
            let _ = msi_x(&mut space);
        }

        #[test]
        fn a_damaged_disk_ends(changes in prop::collection::vec((any::<u8>(), any::<u8>()), 0..20)) {
            let mut space = disk();
            for (offset, byte) in changes {
                space.0[usize::from(offset)] = byte;
            }
            let _ = (structures(&mut space), msi_x(&mut space));
        }
    }
}
