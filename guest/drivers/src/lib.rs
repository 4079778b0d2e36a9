//! What the drivers say to the rest of Redox, as far as it is bytes and names: the messages of the PCI daemon, and what
//! lies below a disk's scheme. Opens nothing and maps nothing; the daemon does.
#![deny(unsafe_code)]

pub mod disk;
pub mod limits;
pub mod pci_daemon;
