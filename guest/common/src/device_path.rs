//! UEFI device paths as bytes: which device lies on which, and in what order disks are searched for a file system.
//! Calls no firmware.

use alloc::vec::Vec;

use crate::text::read_u16;

const NODE_HEADER_BYTES: usize = 4;
const END_TYPE: u8 = 0x7f;

/// The nodes of a path, without the one that ends it.
fn nodes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = path;
    core::iter::from_fn(move || {
        let length = node_length(rest)?;
        let (node, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(node)
    })
}

/// Bytes of the node a path starts with; nothing at its end.
pub fn node_length(path: &[u8]) -> Option<usize> {
    let length = usize::from(read_u16(path, 2)?);
    (path[0] != END_TYPE && length >= NODE_HEADER_BYTES).then_some(length)
}

/// Whether `child` is `parent` with exactly one node more.
fn is_directly_below(parent: &[u8], child: &[u8]) -> bool {
    let mut below = nodes(child);
    nodes(parent).all(|node| below.next() == Some(node)) && below.count() == 1
}

/// The order in which devices are searched, as indices: the other partitions of the disk a program was loaded from,
/// that disk, then everything else. `own` is the path of the partition the program came from.
pub fn search_order(own: &[u8], devices: &[&[u8]]) -> Vec<usize> {
    let is_disk = |path: &[u8]| is_directly_below(path, own);
    let beside = |path: &[u8]| {
        path != own && devices.iter().any(|disk| is_disk(disk) && is_directly_below(disk, path))
    };
    let rank = |path: &[u8]| {
        if beside(path) {
            0
        } else if is_disk(path) {
            1
        } else {
            2
        }
    };
    let mut order: Vec<usize> = (0..devices.len()).collect();
    // Stable, so devices of one rank keep the firmware's order; ranks rather than lists, because firmware may give
    // one path to several handles and none of them may be lost or come twice.
    order.sort_by_cached_key(|&index| rank(devices[index]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A path of one-byte nodes.
    fn path(names: &str) -> Vec<u8> {
        let mut bytes: Vec<u8> = names.bytes().flat_map(|name| [1, 1, 5, 0, name]).collect();
        bytes.extend([END_TYPE, 0xff, 4, 0]);
        bytes
    }

    #[test]
    fn order() {
        for (own, devices, expected) in [
            ("pd1", &["pd", "pd1", "pd2", "pd3", "pe", "pe1"][..], &[2, 3, 0, 1, 4, 5][..]),
            ("pe1", &["pd", "pd2", "pe3", "pe"], &[2, 3, 0, 1]),
            ("pd", &["pd", "pd2"], &[0, 1]),
            ("x", &[], &[]),
            // Two handles with one path: the disk, and a partition.
            ("pd1", &["pe", "pd", "pd2", "pd", "pd2", "pd1"], &[2, 4, 1, 3, 0, 5]),
        ] {
            let devices: Vec<Vec<u8>> = devices.iter().map(|names| path(names)).collect();
            let devices: Vec<&[u8]> = devices.iter().map(Vec::as_slice).collect();
            assert_eq!(search_order(&path(own), &devices), expected, "{own}");
        }
    }

    proptest! {
        #[test]
        fn any_paths_give_every_device_once(
            own in prop::collection::vec(0u8..6, 0..30),
            devices in prop::collection::vec(prop::collection::vec(0u8..6, 0..30), 0..6),
        ) {
            let devices: Vec<&[u8]> = devices.iter().map(Vec::as_slice).collect();
            let mut order = search_order(&own, &devices);
            order.sort_unstable();
            prop_assert_eq!(order, (0..devices.len()).collect::<Vec<_>>());
        }
    }
}
