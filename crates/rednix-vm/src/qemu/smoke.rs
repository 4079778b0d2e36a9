//! Tries KVM with a guest of our own before a real machine trusts it. A `/dev/kvm` can be there and still be
//! useless: some hosts emulate the guest's kernel mode so slowly, or so incompletely, that firmware never gets going.
//!
//! The guest is a 64 KiB firmware image. It does what every firmware does first: start at the reset vector in real
//! mode, run from read-only memory, enter protected mode, switch on paging and long mode. Then it counts down twenty
//! million times in kernel mode (milliseconds when the processor does it, minutes when it is emulated) and writes
//! 0x2a to the exit device, which makes QEMU end with status 85. Anything else within the time-out is a no.

use std::process::Command;
use std::time::Duration;

use crate::error::Result;
use crate::limits::SMOKE_TIMEOUT;
use crate::runner::{Config, Program};
use crate::smoke;

const IMAGE_SIZE: usize = 64 << 10;
/// Where the last 64 KiB of firmware also appear below 1 MiB.
const ALIAS: u32 = 0xf0000;
const ROUNDS: u32 = 20_000_000;
/// 2 · 0x2a + 1.
const STATUS: i32 = 85;

pub fn run(program: &Program, config: &Config) -> Result<Result<(), String>> {
    let (_folder, image) = smoke::folder(config, &guest())?;
    run_with(program, config, &image, ("kvm", "host"), SMOKE_TIMEOUT)
}

fn run_with(
    program: &Program,
    config: &Config,
    image: &std::path::Path,
    (accelerator, cpu): (&str, &str),
    timeout: Duration,
) -> Result<Result<(), String>> {
    let mut command = Command::new(&program.path);
    command.args(["-no-user-config", "-nodefaults", "-machine", "q35", "-accel", accelerator, "-cpu", cpu]);
    let exit = "isa-debug-exit,iobase=0x501,iosize=0x04";
    command.args(["-m", "16M", "-display", "none", "-device", exit, "-bios"]).arg(image);
    smoke::run(program, config, command, STATUS, timeout)
}

/// The firmware image.
fn guest() -> Vec<u8> {
    let mut image = vec![0xff; IMAGE_SIZE];
    let code = smoke::real_mode(ALIAS, ROUNDS, smoke::END_QEMU);
    image[..code.len()].copy_from_slice(&code);
    // The reset vector, 16 bytes before the end: jmp to offset 0 (16-bit displacement, wrapping).
    image[IMAGE_SIZE - 16..IMAGE_SIZE - 13].copy_from_slice(&[0xe9, 0x0d, 0x00]);
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::Qemu;
    use crate::runner::Runner;
    use crate::spec::MachineSpec;

    #[test]
    fn the_guest_runs_where_the_processor_is_emulated_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let config =
            Config::new(std::env::split_paths(&path).collect(), folder.path().into(), folder.path().into());
        let program = match Qemu::Pc.find(&MachineSpec::new("x", "x".into()), &config) {
            Ok(program) => program,
            Err(error) => {
                println!("skipped: {error}");
                return;
            }
        };
        // Here it counts that it ends, not how soon.
        let timeout = Duration::from_secs(240);
        let image = folder.path().join("smoke.fd");
        std::fs::write(&image, guest()).unwrap();
        assert_eq!(run_with(&program, &config, &image, ("tcg", "max"), timeout).unwrap(), Ok(()));
        // The same image without its code must not pass.
        std::fs::write(&image, vec![0xf4; IMAGE_SIZE]).unwrap();
        assert!(run_with(&program, &config, &image, ("tcg", "max"), SMOKE_TIMEOUT).unwrap().is_err());
        // The guest for monitors that start kernels by PVH, with an ending for QEMU.
        std::fs::write(&image, smoke::pvh(ROUNDS, smoke::END_QEMU)).unwrap();
        let mut command = Command::new(&program.path);
        command.args(["-no-user-config", "-nodefaults", "-machine", "q35", "-accel", "tcg", "-cpu", "max"]);
        command.args(["-m", "16M", "-display", "none", "-device", "isa-debug-exit,iobase=0x501,iosize=0x04"]);
        command.arg("-kernel").arg(&image);
        assert_eq!(smoke::run(&program, &config, command, STATUS, timeout).unwrap(), Ok(()));
    }
}
