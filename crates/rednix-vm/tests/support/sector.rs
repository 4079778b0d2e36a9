//! A real QEMU that starts a boot sector of a test's own under BIOS. It has no tests.

use std::path::Path;

use rednix_vm::spec::{Acceleration, Firmware};
use rednix_vm::{Config, MachineSpec, Runner};

/// A disk that begins with `code`, and has `text` in its first sector from 0x100 on.
pub fn disk(code: &[u8], text: &[u8]) -> Vec<u8> {
    // SeaBIOS finds no geometry for disks much smaller than this.
    let mut image = vec![0; 1 << 20];
    image[..code.len()].copy_from_slice(code);
    image[0x100..0x100 + text.len()].copy_from_slice(text);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image
}

/// QEMU with that disk; none (and a line that says so) where there is no QEMU.
pub fn machine(folder: &Path, name: &str, disk: &[u8]) -> Option<(Box<dyn Runner>, MachineSpec, Config)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let config =
        Config::new(std::env::split_paths(&path).collect(), folder.join("scratch"), folder.join("logs"));
    let runner = rednix_vm::by_name("qemu").unwrap();
    if let Err(error) = runner.find(&MachineSpec::new("x", "x".into()), &config) {
        println!("skipped: {error}");
        return None;
    }
    let image = folder.join("boot.img");
    std::fs::write(&image, disk).unwrap();
    let spec = MachineSpec {
        firmware: Firmware::Bios,
        acceleration: Acceleration::Tcg,
        memory_mib: 32,
        cpus: 1,
        ..MachineSpec::new(name, image)
    };
    Some((runner, spec, config))
}
