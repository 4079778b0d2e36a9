//! Whole hand-overs in pretended memory: what a kernel would find behind each pointer.

use std::io::Cursor;
use std::string::ToString;
use std::vec::Vec;

use redoxfs as upstream;

use super::*;
use crate::device::MemoryDisk;
use crate::elf::MACHINE_X86_64;
use crate::elf::tests::tiny_kernel;
use crate::environment::Environment;
use crate::paging::tests::FakeMemory;
use crate::protocol::KERNEL_OFFSET;

/// An image with files at paths of existing or new directories.
fn image(files: &[(&str, &[u8])]) -> Vec<u8> {
    let disk = upstream::DiskIo(Cursor::new(std::vec![0; 8 << 20]));
    let mut file_system = upstream::FileSystem::create(disk, None, 1, 0).expect("a file system");
    file_system.header.uuid = [0x5a; 16];
    for (path, bytes) in files {
        file_system
            .tx(|transaction| {
                let mut parent = upstream::TreePtr::root();
                let mut parts: Vec<&str> = path.split('/').collect();
                let name = parts.pop().unwrap_or("");
                for part in parts {
                    parent = match transaction.find_node(parent, part) {
                        Ok(node) => node.ptr(),
                        Err(_) => transaction.create_node(parent, part, 0o040755, 1, 0)?.ptr(),
                    };
                }
                let node = transaction.create_node(parent, name, 0o100644, 1, 0)?;
                transaction.write_node(node.ptr(), 0, bytes, 1, 0)
            })
            .expect("a file");
    }
    file_system.disk.0.into_inner()
}

fn initfs() -> Vec<u8> {
    let mut bytes = std::vec![7; 5000];
    bytes[..8].copy_from_slice(initfs::MAGIC);
    bytes
}

const SLOTS: &str = "4K@0xd0000000:5";
const RSDP: &[u8] = b"RSD PTR and thirty-six bytes in all.";

fn prepared(
    disk: &[u8],
    memory: &mut FakeMemory,
    live: Live,
    framebuffers: &[Framebuffer],
) -> Result<HandOver, BootError> {
    let mut file_system = FileSystem::open(MemoryDisk(disk), 0).expect("a file system");
    let firmware = FirmwareInfo {
        rsdp: Some(RSDP),
        framebuffers,
        live,
        memory_slots: Some(SLOTS),
        machine: MACHINE_X86_64,
    };
    prepare(&mut file_system, memory, &firmware, &mut |_| {})
}

fn arguments(memory: &mut FakeMemory, hand_over: &HandOver) -> KernelArguments {
    KernelArguments::from_bytes(memory.bytes(hand_over.arguments, ARGUMENT_BYTES)).expect("arguments")
}

#[test]
fn everything_is_where_the_arguments_say() {
    let kernel = tiny_kernel(70_000);
    let disk = image(&[("usr/lib/boot/kernel", &kernel), ("usr/lib/boot/initfs", &initfs())]);
    let mut memory = FakeMemory::new(4 << 20);
    let framebuffers = [
        Framebuffer { address: 0x90_0000_0000, width: 1280, height: 800, stride: 1300 },
        Framebuffer { address: 0xC000_0000, width: 640, height: 480, stride: 640 },
    ];
    let hand_over = prepared(&disk, &mut memory, Live::No, &framebuffers).expect("a hand-over");
    let arguments = arguments(&mut memory, &hand_over);
    assert_eq!(hand_over.entry, KERNEL_OFFSET + 0x100);
    assert_eq!(memory.bytes(arguments.kernel.base, arguments.kernel.size as usize), kernel);
    assert_eq!(arguments.bootstrap.size, 8192);
    let bootstrap = memory.bytes(arguments.bootstrap.base, 8192);
    assert_eq!((&bootstrap[..5000], &bootstrap[5000..]), (&initfs()[..], &[0; 3192][..]));
    assert_eq!(memory.bytes(arguments.hardware.base, arguments.hardware.size as usize), RSDP);
    assert_eq!(arguments.stack.size, 128 << 10);
    assert_eq!(hand_over.stack_top, PHYSICAL_OFFSET + arguments.stack.base + arguments.stack.size);
    assert_eq!(arguments.areas.size as usize, AREA_ARRAY_BYTES);
    for range in
        [arguments.kernel, arguments.stack, arguments.environment, arguments.hardware, arguments.bootstrap]
    {
        assert_eq!(range.base % 4096, 0, "{range:x?}");
    }
    let text = memory.bytes(arguments.environment.base, arguments.environment.size as usize).to_vec();
    let expected = std::format!(
        "RSDP_ADDR={:016x}\nRSDP_SIZE=0000000000000024\nREDOXFS_BLOCK=0000000000000000\n\
         REDOXFS_UUID=5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a\nVIRTIO_MMIO=4K@0xd0000000:5\nFRAMEBUFFER_ADDR=0000009000000000\n\
         FRAMEBUFFER_VIRT=ffff809000000000\nFRAMEBUFFER_WIDTH=0000000000000500\n\
         FRAMEBUFFER_HEIGHT=0000000000000320\nFRAMEBUFFER_STRIDE=0000000000000514\n\
         FRAMEBUFFER1=0xc0000000,640,480,640\n",
        arguments.hardware.base
    );
    assert_eq!(String::from_utf8_lossy(&text), expected);
    for (virtual_address, expected) in [
        (KERNEL_OFFSET, Some(arguments.kernel.base)),
        (KERNEL_OFFSET + 69_999, Some(arguments.kernel.base + 69_999)),
        (hand_over.stack_top - 8, Some(arguments.stack.base + arguments.stack.size - 8)),
        (hand_over.arguments, Some(hand_over.arguments)),
        (0xFFFF_8090_0000_0000, Some(0x90_0000_0000)),
    ] {
        assert_eq!(memory.translate(hand_over.page_table, virtual_address), expected, "{virtual_address:#x}");
    }
}

#[test]
fn the_area_list_keeps_what_was_taken() {
    let disk = image(&[("boot/kernel", &tiny_kernel(0)), ("boot/initfs", &initfs())]);
    let mut memory = FakeMemory::new(4 << 20);
    let hand_over = prepared(&disk, &mut memory, Live::No, &[]).expect("a hand-over from the old paths");
    let firmware = [MemoryArea { base: 0, size: 1 << 30, kind: AreaKind::Free }];
    let taken = memory.taken.clone();
    let mut map = std::boxed::Box::<AreaMap>::default();
    hand_over
        .write_areas(&mut memory, &mut map, firmware.iter().copied(), taken.iter().copied())
        .expect("few areas");
    let arguments = arguments(&mut memory, &hand_over);
    let array = memory.bytes(arguments.areas.base, AREA_ARRAY_BYTES).to_vec();
    let kind_at = |address: u64| {
        MemoryArea::read_array(&array)
            .find(|area| area.base <= address && address < area.end())
            .map(|area| area.kind)
    };
    for (address, kind) in [
        (0, AreaKind::Free),
        (arguments.kernel.base, AreaKind::Reserved),
        (arguments.bootstrap.base, AreaKind::Reserved),
        (arguments.environment.base, AreaKind::Reserved),
        (arguments.hardware.base, AreaKind::Reserved),
        (arguments.stack.base, AreaKind::Reclaimable),
        (arguments.areas.base, AreaKind::Reclaimable),
        (hand_over.page_table, AreaKind::Reclaimable),
        (hand_over.arguments, AreaKind::Reclaimable),
        ((1 << 30) - 1, AreaKind::Free),
    ] {
        assert_eq!(kind_at(address), Some(kind), "{address:#x}");
    }
}

#[test]
fn live_file_systems() {
    let disk = image(&[("boot/kernel", &tiny_kernel(0)), ("boot/initfs", &initfs())]);
    let mut memory = FakeMemory::new(16 << 20);
    let hand_over = prepared(&disk, &mut memory, Live::Copy, &[]).expect("a hand-over");
    let text = environment(&mut memory, &hand_over);
    let environment = Environment(&text);
    assert_eq!(environment.number("REDOXFS_BLOCK"), Some(0));
    let base = environment.number("DISK_LIVE_ADDR").expect("an address");
    let size = environment.number("DISK_LIVE_SIZE").expect("a size") as usize;
    assert!(memory.bytes(base, size) == disk);

    let present = Range { base: 0x4000_0000, size: 1 << 20 };
    let mut memory = FakeMemory::new(4 << 20);
    let hand_over = prepared(&disk, &mut memory, Live::Present(present), &[]).expect("a hand-over");
    let text = self::environment(&mut memory, &hand_over);
    assert_eq!(Environment(&text).number("DISK_LIVE_ADDR"), Some(0x4000_0000));
}

fn environment(memory: &mut FakeMemory, hand_over: &HandOver) -> Vec<u8> {
    let range = arguments(memory, hand_over).environment;
    memory.bytes(range.base, range.size as usize).to_vec()
}

#[test]
fn what_cannot_be_started_is_named() {
    let kernel = tiny_kernel(0);
    let foreign = {
        let mut kernel = kernel.clone();
        kernel[0x12] = 183;
        kernel
    };
    let cases: &[(&[(&str, &[u8])], &str)] = &[
        (&[], "`usr/lib/boot/kernel` is not there"),
        (&[("usr/lib/boot/kernel", &kernel)], "`usr/lib/boot/initfs` is not there"),
        (&[("boot/kernel", b"#!/bin/sh")], "`boot/kernel` cannot be started: not an ELF file"),
        (&[("boot/kernel", b"")], "`boot/kernel` cannot be started: not an ELF file"),
        (
            &[("usr/lib/boot/kernel", &foreign)],
            "`usr/lib/boot/kernel` cannot be started: made for ELF machine 183, this loader starts 62",
        ),
        (
            &[("boot/kernel", &kernel), ("usr/lib/boot/initfs", b"something else that is long enough")],
            "`usr/lib/boot/initfs` cannot be used: not an initfs image (no `RedoxFtw`)",
        ),
        (&[("boot/kernel/x", &kernel)], "`boot/kernel` is not a file"),
    ];
    for (files, message) in cases {
        let error =
            prepared(&image(files), &mut FakeMemory::new(4 << 20), Live::No, &[]).expect_err("no start");
        assert_eq!(error.to_string(), *message);
    }
    let disk = image(&[("boot/kernel", &kernel), ("boot/initfs", &initfs())]);
    let error = prepared(&disk, &mut FakeMemory::new(0x4000), Live::No, &[]).expect_err("no memory");
    assert_eq!(error.to_string(), "no 131072 bytes of memory below 8 GiB for a stack");
}
