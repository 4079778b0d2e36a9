//! What a virtio driver is told: configuration space, the answers of the PCI daemon, lists of memory slots, and a ring
//! whose other half is the fuzzer's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redox_boot::virtio::capability::{ConfigurationSpace, msi_x, structures};
use redox_boot::virtio::ring::{Layout, Piece, Queue, RingMemory};
use redox_boot::virtio::slots::Slot;

// By file: the package they belong to pins crates of Redox that others here want in newer versions.
#[allow(dead_code)]
#[path = "../../guest/drivers/src/disk.rs"]
mod disk;
#[allow(dead_code)]
#[path = "../../guest/drivers/src/pci_daemon.rs"]
mod pci_daemon;

use disk::Name;
use pci_daemon::{Request, parse_function, parse_value};

struct Space([u8; 256]);

impl ConfigurationSpace for Space {
    fn read_u32(&mut self, offset: u8) -> u32 {
        u32::from_le_bytes(self.0[usize::from(offset)..][..4].try_into().expect("4 bytes"))
    }
}

/// Memory in which the used ring is the fuzzer's.
struct Memory(Vec<u8>);

impl Memory {
    fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.0[offset..offset + N].try_into().expect("as many bytes")
    }
}

impl RingMemory for Memory {
    fn read_u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.bytes(offset))
    }
    fn read_u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }
    fn write_u16(&mut self, offset: usize, value: u16) {
        self.0[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    }
    fn write_u32(&mut self, offset: usize, value: u32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
}

fn ring(input: &[u8]) {
    let layout = Layout::new(8).expect("a power of two");
    let mut memory = vec![0; layout.bytes()];
    let used = input.len().min(4 + 8 * 8);
    memory[layout.used()..layout.used() + used].copy_from_slice(&input[..used]);
    let mut queue = Queue::new(layout, Memory(memory));
    let piece = Piece { address: 0, bytes: 1, device_writes: true };
    let mut under_way = 0;
    for step in input {
        let pieces = [piece; 3];
        let count = usize::from(step % 4);
        under_way += u16::from(queue.submit(&pieces[..count]).is_some());
        match queue.take() {
            Ok(Some(_)) => under_way -= 1,
            Ok(None) => {}
            Err(_) => break,
        }
        assert_eq!(queue.under_way(), under_way);
    }
}

fuzz_target!(|input: &[u8]| {
    let mut space = Space([0; 256]);
    let length = input.len().min(256);
    space.0[..length].copy_from_slice(&input[..length]);
    let _ = (structures(&mut space), msi_x(&mut space));
    let _ = parse_function(input);
    let _ = parse_value(Request::ReadConfiguration { offset: 0 }, input);
    ring(input);
    if let Ok(text) = std::str::from_utf8(input) {
        let (slots, _) = Slot::parse_list(text);
        for slot in slots {
            assert_eq!(Slot::parse(&slot.to_string()), Some(slot));
        }
        let _ = Slot::list_of_command_line(text);
        if let Some(name) = Name::parse(text) {
            assert_eq!(Name::parse(&name.path()), Some(name));
        }
    }
});
