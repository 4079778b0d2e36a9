//! PCI functions by the old configuration ports: scanning, identity, configuration space. Assigns no
//! addresses; the firmware has done that.

use alloc::vec::Vec;
use core::fmt;

use redox_boot::virtio::capability::ConfigurationSpace;

use crate::cpu;

const ADDRESS_PORT: u16 = 0xCF8;
const DATA_PORT: u16 = 0xCFC;
const ENABLE: u32 = 1 << 31;

/// Functions that are listed.
const FUNCTIONS_MAX: usize = 256;

const COMMAND: u8 = 0x04;
const COMMAND_IO: u16 = 1;
const COMMAND_MEMORY: u16 = 2;
const COMMAND_MASTER: u16 = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address {
    bus: u8,
    device: u8,
    function: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

impl Address {
    pub fn read_u32(self, offset: u8) -> u32 {
        let select = ENABLE
            | u32::from(self.bus) << 16
            | u32::from(self.device) << 11
            | u32::from(self.function) << 8
            | u32::from(offset & 0xFC);
        // SAFETY: nothing else uses the configuration ports, and reading them changes no device.
        unsafe {
            cpu::write_port_u32(ADDRESS_PORT, select);
            cpu::read_port_u32(DATA_PORT)
        }
    }

    pub fn read_u16(self, offset: u8) -> u16 {
        (self.read_u32(offset) >> (8 * (offset & 2))) as u16
    }

    pub fn read_u8(self, offset: u8) -> u8 {
        (self.read_u32(offset) >> (8 * (offset & 3))) as u8
    }

    /// Lets a device answer at its addresses and read and write memory.
    pub fn enable(self) {
        let command = self.read_u16(COMMAND) | COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER;
        // The status half of the register clears what is written as one; zeroes leave it alone.
        self.read_u32(COMMAND);
        // SAFETY: the read above selected the register; the caller drives this device.
        unsafe { cpu::write_port_u32(DATA_PORT, u32::from(command)) };
    }
}

impl ConfigurationSpace for Address {
    fn read_u32(&mut self, offset: u8) -> u32 {
        Address::read_u32(*self, offset)
    }
}

#[derive(Clone, Copy)]
pub struct Function {
    pub address: Address,
    pub vendor: u16,
    pub device: u16,
    /// Class, subclass, programming interface.
    pub class: [u8; 3],
}

/// All functions, behind bridges too.
pub fn scan() -> Vec<Function> {
    let mut functions = Vec::new();
    let mut seen = [false; 256];
    let mut pending = alloc::vec![0u8];
    while let Some(bus) = pending.pop() {
        if core::mem::replace(&mut seen[usize::from(bus)], true) {
            continue;
        }
        for device in 0..32 {
            for function in 0..8 {
                let address = Address { bus, device, function };
                let identity = address.read_u32(0);
                if identity as u16 == 0xFFFF {
                    if function == 0 {
                        break;
                    }
                    continue;
                }
                let class = address.read_u32(8);
                if functions.len() < FUNCTIONS_MAX {
                    functions.push(Function {
                        address,
                        vendor: identity as u16,
                        device: (identity >> 16) as u16,
                        class: [(class >> 24) as u8, (class >> 16) as u8, (class >> 8) as u8],
                    });
                }
                let header = address.read_u8(0x0E);
                if header & 0x7F == 1 {
                    pending.push(address.read_u8(0x19));
                }
                if function == 0 && header & 0x80 == 0 {
                    break;
                }
            }
        }
    }
    functions
        .sort_by_key(|function| (function.address.bus, function.address.device, function.address.function));
    functions
}
