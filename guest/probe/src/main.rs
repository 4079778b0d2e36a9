//! A small kernel on Redox's boot protocol that proves an image and a machine: says what it was handed, finds the disk,
//! reads RedoxFS, compares all files with the manifest in the image, and answers commands on the serial port.
//!
//! A tool, not an operating system: one processor, no processes, nothing is written to a disk.
#![no_std]
#![no_main]

extern crate alloc;

mod check;
mod commands;
mod console;
mod cpu;
mod disk;
mod interrupts;
mod memory;
mod pci;
mod power;
mod virtio;
mod virtio_block;

use alloc::string::String;
use core::arch::naked_asm;
use core::panic::PanicInfo;

use redox_boot::environment::Environment;
use redox_boot::initfs::{Format, Initfs};
use redox_boot::line::LineEditor;
use redox_boot::protocol::{ARGUMENT_BYTES, KernelArguments, MemoryArea, PHYSICAL_OFFSET, Range};
use redox_boot::redoxfs::{FileSystem, FileSystemError};
use redox_boot::text::Uuid;

use crate::commands::Session;
use crate::console::say;
use crate::disk::Disk;

/// Commands that are run before the prompt, one for each line.
const SCRIPT_PATH: &str = "etc/probe";
const SCRIPT_BYTES_MAX: u64 = 64 << 10;

const PROMPT: &str = "probe> ";

/// The entry: keeps the handed stack and passes the pointer to the arguments on.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "sysv64" fn _start() -> ! {
    naked_asm!("cld", "and rsp, -16", "xor ebp, ebp", "call {start}", "ud2", start = sym start)
}

/// # Safety
/// `arguments` must point to the protocol's argument block, with the protocol's page tables loaded.
unsafe extern "sysv64" fn start(arguments: *const [u8; ARGUMENT_BYTES]) -> ! {
    interrupts::start();
    // SAFETY: the caller's promise.
    let block = unsafe { *arguments };
    let arguments = KernelArguments::from_bytes(&block).unwrap_or_default();
    // SAFETY: ranges of the argument block, which the protocol keeps in mapped memory.
    let (areas, environment) = unsafe { (handed(arguments.areas), handed(arguments.environment)) };
    memory::start(MemoryArea::read_array(areas));
    let environment = Environment(environment);
    say!("\nRedox boot protocol probe {} on x86_64", env!("CARGO_PKG_VERSION"));
    print_arguments(&arguments, environment, areas);
    let (disk, file_system) = open_file_system(environment);
    if let Err(message) = &file_system {
        say!("disk         {message}");
    }
    let mut session = Session {
        arguments,
        environment,
        areas,
        failed: file_system.is_err(),
        last_failed: false,
        disk,
        file_system,
    };
    run_script(&mut session);
    say!("Type `help` for the commands.");
    let mut editor = LineEditor::default();
    loop {
        console::write(format_args!("{PROMPT}"));
        if let Some(line) = console::read_line(&mut editor) {
            session.run(&line);
        }
    }
}

/// Memory that was handed over, through the window on physical memory.
///
/// # Safety
/// The range must come from the argument block; it is mapped and changes no more.
unsafe fn handed(range: Range) -> &'static [u8] {
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts((PHYSICAL_OFFSET + range.base) as *const u8, range.size as usize) }
}

fn print_arguments(arguments: &KernelArguments, environment: Environment<'_>, areas: &[u8]) {
    for (name, range) in [
        ("kernel", arguments.kernel),
        ("stack", arguments.stack),
        ("environment", arguments.environment),
        ("hardware", arguments.hardware),
        ("areas", arguments.areas),
        ("bootstrap", arguments.bootstrap),
    ] {
        say!("{name:12} {:#x} + {:#x}", range.base, range.size);
    }
    environment.pairs().for_each(|(key, value)| say!("  {key}={value}"));
    say!("memory       {}", commands::area_summary(areas));
    // SAFETY: a range of the argument block.
    let image = unsafe { handed(arguments.bootstrap) };
    match Initfs::parse(image).and_then(|initfs| Ok((initfs, initfs.count_files()?))) {
        Ok((initfs, (files, bytes))) => {
            let format = if initfs.format == Format::Old { "old" } else { "current" };
            say!(
                "initfs       {format} format, {files} files, {bytes} bytes, entry {:#x}",
                initfs.bootstrap_entry
            );
        }
        Err(error) => say!("initfs       {error}"),
    }
}

/// The number of the disk and its file system.
fn open_file_system(environment: Environment<'_>) -> (Option<usize>, Result<FileSystem<Disk>, String>) {
    let (number, found) = match disk::find(environment) {
        Ok(found) => found,
        Err(message) => return (None, Err(message)),
    };
    let header = found.file_system.header();
    say!("disk         {}", found.place);
    say!(
        "RedoxFS      {}, {} MiB, generation {}, at block {}",
        Uuid(header.uuid),
        header.size >> 20,
        header.generation,
        found.file_system.start_block()
    );
    (Some(number), Ok(found.file_system))
}

fn run_script(session: &mut Session) {
    let Ok(files) = &mut session.file_system else { return };
    let script =
        files.file(SCRIPT_PATH).and_then(|node| files.read_all(&node, SCRIPT_BYTES_MAX, SCRIPT_PATH));
    match script {
        Ok(script) => {
            for line in String::from_utf8_lossy(&script).lines() {
                say!("{PROMPT}{line}");
                session.run(line);
            }
        }
        Err(FileSystemError::NoSuchFile { .. }) => {}
        Err(error) => {
            session.failed = true;
            say!("{SCRIPT_PATH}: {error}");
        }
    }
}

/// A mistake in this kernel: says where, and stops.
#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    say!("\nprobe: {information}");
    power::stop_failed()
}
