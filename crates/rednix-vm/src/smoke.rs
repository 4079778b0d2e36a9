//! Tiny guests that show whether a monitor's KVM is worth anything, as bytes. They enter long mode, count in kernel mode,
//! and end the machine. What starts them, and what their ending looks like, is each monitor's own.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::process::{Process, Waited};
use crate::runner::{Config, Program};
use crate::scratch::Scratch;

/// Where the descriptor table's pointer and the table are, from the start of the code.
pub const DESCRIPTOR_POINTER: usize = 0x100;
pub const DESCRIPTORS: usize = 0x110;
/// From the start of the code to its end.
pub const CODE_BYTES: usize = 0x140;
/// 32-bit code, data, 64-bit code.
const TABLE: [u64; 4] = [0, 0x00cf_9a00_0000_ffff, 0x00cf_9200_0000_ffff, 0x00af_9a00_0000_ffff];

/// Ends QEMU: 0x2a to the exit device.
pub const END_QEMU: &[u8] = &[0x66, 0xba, 0x01, 0x05, 0xb0, 0x2a, 0xee];
/// Ends Cloud Hypervisor by its port for sleep states, everything else by the keyboard controller's reset.
pub const END_ANY: &[u8] = &[0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xb0, 0xfe, 0xe6, 0x64];

/// Code that starts in real mode at offset 0 of a segment, and runs at `base`.
pub fn real_mode(base: u32, rounds: u32, end: &[u8]) -> Vec<u8> {
    let mut code = Vec::new();
    code.extend([0xfa]); // cli
    code.extend([0x2e, 0x66, 0x0f, 0x01, 0x16]); // lgdt cs:[pointer]
    code.extend((DESCRIPTOR_POINTER as u16).to_le_bytes());
    code.extend([0x0f, 0x20, 0xc0]); // mov eax, cr0
    code.extend([0x0c, 0x01]); // or al, 1
    code.extend([0x0f, 0x22, 0xc0]); // mov cr0, eax
    code.extend([0x66, 0xea]); // jmp 0x08:next
    code.extend((base + code.len() as u32 + 6).to_le_bytes());
    code.extend([0x08, 0x00]);
    protected_mode(code, base, rounds, end)
}

/// An ELF file with a PVH entry in protected mode.
pub fn pvh(rounds: u32, end: &[u8]) -> Vec<u8> {
    const BASE: u32 = 0x10_0000;
    const CODE: usize = 0x200;
    let mut code = vec![0xfa]; // cli
    code.extend([0x0f, 0x01, 0x15]); // lgdt [pointer]
    code.extend((BASE + DESCRIPTOR_POINTER as u32).to_le_bytes());
    code.extend([0xea]); // jmp 0x08:next
    code.extend((BASE + code.len() as u32 + 6).to_le_bytes());
    code.extend([0x08, 0x00]);
    let code = protected_mode(code, BASE, rounds, end);
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01");
    file.resize(16, 0);
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]); // a program for x86-64
    file.extend(u64::from(BASE).to_le_bytes());
    file.extend(64u64.to_le_bytes()); // program headers
    file.extend([0; 12]);
    file.extend([64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    // Loaded, readable, writable and executable; then the note with the entry.
    for (kind, flags, offset, address, bytes, alignment) in
        [(1u32, 7u32, CODE, BASE, CODE_BYTES, 4096u64), (4, 4, 0xc0, 0, 20, 4)]
    {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        file.extend((offset as u64).to_le_bytes());
        file.extend(u64::from(address).to_le_bytes());
        file.extend(u64::from(address).to_le_bytes());
        file.extend((bytes as u64).to_le_bytes());
        file.extend((bytes as u64).to_le_bytes());
        file.extend(alignment.to_le_bytes());
    }
    file.resize(0xc0, 0);
    file.extend([4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    file.extend(b"Xen\0");
    file.extend(BASE.to_le_bytes());
    file.resize(CODE, 0);
    file.extend(code);
    file
}

/// The rest, from protected mode on, with tables behind it.
fn protected_mode(mut code: Vec<u8>, base: u32, rounds: u32, end: &[u8]) -> Vec<u8> {
    let mut put = |bytes: &[u8]| {
        code.extend_from_slice(bytes);
        code.len()
    };
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
    put(&(base + here as u32 + 6).to_le_bytes());
    put(&[0x18, 0x00]);
    // Long mode.
    put(&[0xb9]); // mov ecx, rounds
    put(&rounds.to_le_bytes());
    put(&[0xff, 0xc9, 0x75, 0xfc]); // dec ecx; jnz
    put(end);
    put(&[0xf4, 0xeb, 0xfd]); // hlt; jmp
    assert!(code.len() <= DESCRIPTOR_POINTER);
    code.resize(CODE_BYTES, 0);
    for (index, descriptor) in TABLE.iter().enumerate() {
        let at = DESCRIPTORS + 8 * index;
        code[at..at + 8].copy_from_slice(&descriptor.to_le_bytes());
    }
    let pointer = &mut code[DESCRIPTOR_POINTER..DESCRIPTOR_POINTER + 6];
    pointer[..2].copy_from_slice(&31u16.to_le_bytes());
    pointer[2..].copy_from_slice(&(base + DESCRIPTORS as u32).to_le_bytes());
    code
}

/// Runs a monitor with such a guest: it must end with that status within the time.
pub fn run(
    program: &Program,
    config: &Config,
    mut command: Command,
    expected: i32,
    timeout: Duration,
) -> Result<Result<(), String>> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Process::spawn(&mut command, &[], true).map_err(Error::io("start", &program.path))?;
    let waited = process.wait(Some(Instant::now() + timeout), &config.stop);
    let name = program.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(match waited.map_err(Error::io("wait for", &program.path))? {
        Waited::Ended(status) if status == expected => Ok(()),
        Waited::Ended(status @ ..0) => {
            Err(format!("{name} died of signal {} while it ran a tiny guest on KVM", -status))
        }
        Waited::Ended(status) => {
            Err(format!("with a tiny guest on KVM {name} ended with status {status} instead of {expected}"))
        }
        Waited::TimedOut => Err(format!("a tiny guest on KVM did not finish within {} s", timeout.as_secs())),
        Waited::Stopped => return Err(Error::Interrupted),
    })
}

/// A folder for the guest's file, and the file.
pub fn folder(config: &Config, guest: &[u8]) -> Result<(Scratch, std::path::PathBuf)> {
    let folder = Scratch::for_smoke_test(&config.scratch_folder)?;
    let file = folder.path().join("guest");
    std::fs::write(&file, guest).map_err(Error::io("write", &file))?;
    Ok((folder, file))
}
