//! Tries KVM with a guest of our own before a real machine trusts it. A `/dev/kvm` can be there and still be
//! useless: some hosts emulate the guest's kernel mode so slowly, or so incompletely, that firmware never gets going.
//!
//! The guest is a 64 KiB firmware image. It does what every firmware does first: start at the reset vector in real
//! mode, run from read-only memory, enter protected mode, switch on paging and long mode. Then it counts down twenty
//! million times in kernel mode (milliseconds when the processor does it, minutes when it is emulated) and writes
//! 0x2a to the exit device, which makes QEMU end with status 85. Anything else within the time-out is a no.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::limits::SMOKE_TIMEOUT;
use crate::process::{Process, Waited};
use crate::runner::{Config, Program};

const IMAGE_SIZE: usize = 64 << 10;
/// Where the last 64 KiB of firmware also appear below 1 MiB.
const ALIAS: u32 = 0xf0000;
const DESCRIPTOR_POINTER: usize = 0x100;
const DESCRIPTORS: usize = 0x110;
const ROUNDS: u32 = 20_000_000;
/// 2 · 0x2a + 1.
const STATUS: i32 = 85;

pub fn run(program: &Program, config: &Config) -> Result<Result<(), String>> {
    let folder = tempfile::Builder::new()
        .prefix("rednix-smoke-")
        .tempdir_in(&config.scratch_folder)
        .map_err(Error::io("make a folder in", &config.scratch_folder))?;
    let image = folder.path().join("smoke.fd");
    std::fs::write(&image, guest()).map_err(Error::io("write", &image))?;
    run_with(program, config, &image, "kvm", "host")
}

fn run_with(
    program: &Program,
    config: &Config,
    image: &std::path::Path,
    accelerator: &str,
    cpu: &str,
) -> Result<Result<(), String>> {
    let mut command = Command::new(&program.path);
    command.args(["-no-user-config", "-nodefaults", "-machine", "q35", "-accel", accelerator, "-cpu", cpu]);
    command.args([
        "-m",
        "16M",
        "-display",
        "none",
        "-device",
        "isa-debug-exit,iobase=0x501,iosize=0x04",
        "-bios",
    ]);
    command.arg(image).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Process::spawn(&mut command, &[], true).map_err(Error::io("start", &program.path))?;
    let waited = process.wait(Some(Instant::now() + SMOKE_TIMEOUT), &config.stop);
    Ok(match waited.map_err(Error::io("wait for", &program.path))? {
        Waited::Ended(STATUS) => Ok(()),
        Waited::Ended(status @ ..0) => {
            Err(format!("QEMU died of signal {} while it ran a tiny guest", -status))
        }
        Waited::Ended(status) => Err(format!("a tiny guest ended with status {status} instead of {STATUS}")),
        Waited::TimedOut => Err(format!("a tiny guest did not finish within {} s", SMOKE_TIMEOUT.as_secs())),
        Waited::Stopped => return Err(Error::Interrupted),
    })
}

/// The firmware image.
fn guest() -> Vec<u8> {
    let mut image = vec![0xff; IMAGE_SIZE];
    let code = code();
    assert!(code.len() <= DESCRIPTOR_POINTER);
    image[..code.len()].copy_from_slice(&code);
    let descriptors: [u64; 4] = [
        0,
        0x00cf_9a00_0000_ffff, // 0x08: 32-bit code
        0x00cf_9200_0000_ffff, // 0x10: data
        0x00af_9a00_0000_ffff, // 0x18: 64-bit code
    ];
    let mut at = DESCRIPTORS;
    for descriptor in descriptors {
        image[at..at + 8].copy_from_slice(&descriptor.to_le_bytes());
        at += 8;
    }
    let pointer = &mut image[DESCRIPTOR_POINTER..DESCRIPTOR_POINTER + 6];
    pointer[..2].copy_from_slice(&31u16.to_le_bytes());
    pointer[2..].copy_from_slice(&(ALIAS + DESCRIPTORS as u32).to_le_bytes());
    // The reset vector, 16 bytes before the end: jmp to offset 0 (16-bit displacement, wrapping).
    image[IMAGE_SIZE - 16..IMAGE_SIZE - 13].copy_from_slice(&[0xe9, 0x0d, 0x00]);
    image
}

/// The code at offset 0.
fn code() -> Vec<u8> {
    let mut code = Vec::new();
    let mut put = |bytes: &[u8]| {
        code.extend_from_slice(bytes);
        code.len()
    };
    // Real mode.
    put(&[0xfa]); // cli
    put(&[0x2e, 0x66, 0x0f, 0x01, 0x16]); // lgdt cs:[pointer]
    put(&(DESCRIPTOR_POINTER as u16).to_le_bytes());
    put(&[0x0f, 0x20, 0xc0]); // mov eax, cr0
    put(&[0x0c, 0x01]); // or al, 1
    put(&[0x0f, 0x22, 0xc0]); // mov cr0, eax
    let here = put(&[0x66, 0xea]); // jmp 0x08:next, in the alias below 1 MiB
    put(&(ALIAS + here as u32 + 6).to_le_bytes());
    put(&[0x08, 0x00]);
    // Protected mode, 32 bits.
    put(&[0x66, 0xb8, 0x10, 0x00]); // mov ax, 0x10
    put(&[0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0]); // mov ds, es, ss from ax
    // Page tables at 0x1000, 0x2000, 0x3000: cleared, then the first 2 MiB mapped to themselves.
    put(&[0xbf, 0x00, 0x10, 0x00, 0x00]); // mov edi, 0x1000
    put(&[0x31, 0xc0]); // xor eax, eax
    put(&[0xb9, 0x00, 0x0c, 0x00, 0x00]); // mov ecx, 0xc00
    put(&[0xf3, 0xab]); // rep stosd
    for (address, entry) in [(0x1000u32, 0x2003u32), (0x2000, 0x3003), (0x3000, 0x83)] {
        put(&[0xc7, 0x05]); // mov dword [address], entry
        put(&address.to_le_bytes());
        put(&entry.to_le_bytes());
    }
    put(&[0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x20, 0x0f, 0x22, 0xe0]); // cr4 |= PAE
    put(&[0xb8, 0x00, 0x10, 0x00, 0x00, 0x0f, 0x22, 0xd8]); // cr3 = 0x1000
    put(&[0xb9, 0x80, 0x00, 0x00, 0xc0]); // mov ecx, EFER
    put(&[0x0f, 0x32, 0x0d, 0x00, 0x01, 0x00, 0x00, 0x0f, 0x30]); // EFER |= LME
    put(&[0x0f, 0x20, 0xc0, 0x0d, 0x00, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0]); // cr0 |= PG
    let here = put(&[0xea]); // jmp 0x18:next
    put(&(ALIAS + here as u32 + 6).to_le_bytes());
    put(&[0x18, 0x00]);
    // Long mode.
    put(&[0xb9]); // mov ecx, ROUNDS
    put(&ROUNDS.to_le_bytes());
    put(&[0xff, 0xc9, 0x75, 0xfc]); // dec ecx; jnz
    put(&[0x66, 0xba, 0x01, 0x05, 0xb0, 0x2a, 0xee]); // mov dx, 0x501; mov al, 0x2a; out dx, al
    put(&[0xf4, 0xeb, 0xfd]); // hlt; jmp
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::Qemu;
    use crate::runner::Runner;

    #[test]
    fn the_guest_runs_where_the_processor_is_emulated_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let config =
            Config::new(std::env::split_paths(&path).collect(), folder.path().into(), folder.path().into());
        let program = match Qemu::Pc.find(&config) {
            Ok(program) => program,
            Err(error) => {
                println!("skipped: {error}");
                return;
            }
        };
        let image = folder.path().join("smoke.fd");
        std::fs::write(&image, guest()).unwrap();
        assert_eq!(run_with(&program, &config, &image, "tcg", "max").unwrap(), Ok(()));
        // The same image without its code must not pass.
        std::fs::write(&image, vec![0xf4; IMAGE_SIZE]).unwrap();
        assert!(run_with(&program, &config, &image, "tcg", "max").unwrap().is_err());
    }
}
