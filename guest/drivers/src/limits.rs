//! Every limit of the drivers, with its unit and its reason. Holds no logic.

/// Bytes of an answer of the PCI daemon; real ones have some hundred.
pub const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Descriptors of a disk's ring. One request of three is under way at a time, so a larger ring would lie idle.
pub const DISK_RING_MAX: u16 = 128;

/// Bytes of one request to a disk, which are copied through memory of the driver's own. A power of two.
pub const DISK_BUFFER_BYTES: u32 = 256 << 10;

/// Descriptors of a network card's rings, one for each packet.
pub const NETWORK_RING_MAX: u16 = 256;

/// Bytes of the memory of one packet, its header included. Divides a page, so that no packet crosses one.
pub const PACKET_BYTES: usize = 2048;

/// Packets that wait to be read; further ones stay with the card, which drops them when it has no room left.
pub const WAITING_PACKETS_MAX: usize = 256;

/// Handles that a scheme has open at a time.
pub const HANDLES_MAX: usize = 1024;
