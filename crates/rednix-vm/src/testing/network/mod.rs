//! The private network of a test's machines: a small Ethernet switch in this process, one Unix socket pair a card. It
//! opens no port of the host and needs no privilege; nothing on it reaches anything else.
//!
//! The switch itself is at [`GATEWAY`]: it answers ARP and echo requests, and gives every card an address by DHCP.
//! Addresses follow from the machine's place in the test, so they are the same in every run.

mod capture;
mod dhcp;
pub mod frame;
mod services;
mod switch;

pub use services::respond;
pub use switch::{Statistics, Switch};

use std::net::Ipv4Addr;

/// The switch's own address.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The number of bits that addresses of the network have in common.
pub const PREFIX_LENGTH: u8 = 24;
pub const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// The first machine's last byte.
const FIRST_HOST: u8 = 11;

/// The card's address of the machine with this number, from zero: locally administered, with QEMU's own prefix.
pub fn mac_of(number: usize) -> frame::Mac {
    frame::Mac([0x52, 0x54, 0x00, 0x77, 0x00, host_of(number)])
}

pub fn address_of(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host_of(number))
}

fn host_of(number: usize) -> u8 {
    FIRST_HOST.saturating_add(u8::try_from(number).unwrap_or(u8::MAX))
}
