//! What drivers of virtio devices share: identities, the ring, the structures of PCI and of memory slots, the order of
//! steps that starts a device, and the layouts of disks and network cards.
//!
//! Maps no memory and touches no register: memory and registers enter by traits, so that a device can be played on the
//! host. Knows the modern form (version 1) only; the packed ring, indirect descriptors and event indices are not used.

pub mod block;
pub mod capability;
pub mod network;
pub mod ring;
pub mod slots;
pub mod transport;

#[cfg(test)]
pub(crate) mod tests;

use core::fmt;

/// Vendor of all virtio devices on PCI.
pub const VENDOR: u16 = 0x1AF4;

/// What a device is, by the number that all transports share. On PCI a modern device has 0x1040 more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Network,
    Block,
}

const MODERN_PCI: u16 = 0x1040;

impl Kind {
    pub fn from_number(number: u32) -> Option<Kind> {
        match number {
            1 => Some(Kind::Network),
            2 => Some(Kind::Block),
            _ => None,
        }
    }

    /// Of a modern PCI device; transitional ones have other ids and upstream drivers.
    pub fn from_pci(vendor: u16, device: u16) -> Option<Kind> {
        if vendor != VENDOR {
            return None;
        }
        Kind::from_number(u32::from(device.checked_sub(MODERN_PCI)?))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kind::Network => "network card",
            Kind::Block => "disk",
        })
    }
}

/// Why a device that looks right cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    MissingStructure(&'static str),
    NotVirtio,
    OldRegisters { version: u32 },
    DoesNotReset,
    NotModern,
    FeaturesRefused,
    NoQueue { index: u16 },
    QueueTooSmall { index: u16, size: u16 },
    QueueRefused { index: u16 },
    NotifyOutside { index: u16 },
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::MissingStructure(name) => {
                write!(formatter, "it lacks the structure `{name}` of the modern form")
            }
            Refusal::NotVirtio => formatter.write_str("there is no virtio device"),
            Refusal::OldRegisters { version } => write!(
                formatter,
                "its registers are of version {version}, this driver knows 2 (QEMU: `-global virtio-mmio.force-legacy=false`)"
            ),
            Refusal::DoesNotReset => formatter.write_str("it does not reset"),
            Refusal::NotModern => formatter.write_str("it does not speak the modern form"),
            Refusal::FeaturesRefused => formatter.write_str("it refuses the features it offered"),
            Refusal::NoQueue { index } => write!(formatter, "it has no queue {index}"),
            Refusal::QueueTooSmall { index, size } => {
                write!(formatter, "its queue {index} has {size} descriptors, which are too few")
            }
            Refusal::QueueRefused { index } => write!(formatter, "it does not take queue {index}"),
            Refusal::NotifyOutside { index } => {
                write!(formatter, "the notification of queue {index} lies outside its structure")
            }
        }
    }
}
