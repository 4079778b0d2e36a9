//! The commands of the console. Each prints its result or one line that starts with its name and says what is wrong.

use alloc::string::String;
use alloc::vec::Vec;

use redox_boot::acpi::PhysicalReader;
use redox_boot::environment::Environment;
use redox_boot::protocol::{AreaKind, KernelArguments, MemoryArea};
use redox_boot::redoxfs::{FileSystem, FileSystemError, Node, NodeKind};
use redox_boot::text::{Printable, Uuid, parse_number};

use crate::check::{self, CheckError};
use crate::console::{interrupted, say, write_bytes};
use crate::disk::{self, Disk};
use crate::memory::{self, Physical};
use crate::pci;
use crate::power;
use crate::virtio_block;

/// What commands work on.
pub struct Session {
    pub arguments: KernelArguments,
    pub environment: Environment<'static>,
    pub areas: &'static [u8],
    /// Its number among all disks.
    pub disk: Option<usize>,
    pub file_system: Result<FileSystem<Disk>, String>,
    /// Whether a command failed.
    pub failed: bool,
    /// Whether the last one did.
    pub last_failed: bool,
}

const HELP: &str = "\
help          this text
ls [DIR]      names in a directory
cat FILE      contents of a file
sum [PATH]    SHA-256 of a file, or of all files below a directory
check         compare all files with the manifest in the image
disks         disks, numbered, and the file systems on them
use N         work with the file system of disk N from now on
pci           PCI functions
mem           memory areas that were handed over, and the heap
env           environment that was handed over
status [WORD] WORD.end.0. or WORD.end.1. where the last command failed, for programs that read along
poweroff      switch off
exit [N]      end QEMU with status 2N+1; without N 51, or 53 if a command failed
reboot        restart";

/// Failures, as words for the user.
type Outcome = Result<(), String>;

fn words(error: impl core::fmt::Display) -> String {
    alloc::format!("{error}")
}

impl Session {
    /// Runs one line.
    pub fn run(&mut self, line: &str) {
        let line = line.trim();
        let (name, argument) = line.split_once(' ').map_or((line, ""), |(name, rest)| (name, rest.trim()));
        let outcome = match name {
            "" => Ok(()),
            "help" => {
                say!("{HELP}");
                Ok(())
            }
            "ls" => self.list(argument),
            "cat" => self.print(argument),
            "sum" => self.sum(argument),
            "check" => self.check(),
            "disks" => self.print_disks(),
            "use" => self.use_disk(argument),
            "pci" => print_functions(),
            "mem" => self.print_memory(),
            "env" => {
                self.environment.pairs().for_each(|(key, value)| say!("{key}={value}"));
                Ok(())
            }
            "status" => {
                // Says something about the last command, and is none.
                say!("{}.end.{}.", Printable(argument.as_bytes()), u8::from(self.last_failed));
                return;
            }
            "poweroff" => power::off(self.root_pointer()),
            "reboot" => power::reboot(),
            "exit" => self.exit(argument),
            _ => Err("no such command; `help` lists them".into()),
        };
        self.last_failed = outcome.is_err();
        if let Err(message) = outcome {
            self.failed = true;
            say!("{}: {message}", Printable(name.as_bytes()));
        }
    }

    pub fn root_pointer(&self) -> Option<&'static [u8]> {
        let root = self.arguments.hardware;
        (root.base != 0).then(|| Physical.read(root.base, root.size as usize)).flatten().map(|bytes| {
            // SAFETY: handed-over memory that stays where it is.
            unsafe { core::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) }
        })
    }

    fn files(&mut self) -> Result<&mut FileSystem<Disk>, String> {
        self.file_system.as_mut().map_err(|message| message.clone())
    }

    fn list(&mut self, path: &str) -> Outcome {
        let files = self.files()?;
        let node = files.lookup(path, true).map_err(words)?;
        if node.kind() != NodeKind::Directory {
            return list_node(files, &node, path.as_bytes()).map_err(words);
        }
        for entry in files.entries(&node).map_err(words)? {
            if interrupted() {
                return Err("interrupted".into());
            }
            let node = files.node(entry.node).map_err(words)?;
            list_node(files, &node, &entry.name).map_err(words)?;
        }
        Ok(())
    }

    fn print(&mut self, path: &str) -> Outcome {
        if path.is_empty() {
            return Err("which file?".into());
        }
        let files = self.files()?;
        let node = files.file(path).map_err(words)?;
        let mut buffer = alloc::vec![0; 4096];
        let (mut offset, mut last) = (0, b'\n');
        while offset < node.size {
            if interrupted() {
                return Err("interrupted".into());
            }
            let count = files.read(&node, offset, &mut buffer).map_err(words)?;
            write_bytes(&buffer[..count]);
            last = buffer[..count].last().copied().unwrap_or(last);
            offset += count as u64;
        }
        // The prompt starts on a line of its own.
        if last != b'\n' {
            say!("");
        }
        Ok(())
    }

    fn sum(&mut self, path: &str) -> Outcome {
        let files = self.files()?;
        let node = files.lookup(path, true).map_err(words)?;
        let shown = path.trim_matches('/');
        match node.kind() {
            NodeKind::File => {
                check::print_sum(&check::hash(files, &node).map_err(words)?, shown.as_bytes());
                Ok(())
            }
            NodeKind::Directory => {
                let prefix = if shown.is_empty() { String::new() } else { alloc::format!("{shown}/") };
                match check::sum_all(files, &node, &prefix).map_err(words)? {
                    0 => Ok(()),
                    count => Err(alloc::format!("{count} files cannot be read")),
                }
            }
            _ => Err(alloc::format!("`{path}` has no contents")),
        }
    }

    fn check(&mut self) -> Outcome {
        let report = check::check(self.files()?).map_err(|error| match error {
            CheckError::FileSystem(FileSystemError::NoSuchFile { path }) => {
                alloc::format!("this image carries no manifest (`{path}`)")
            }
            error => words(error),
        })?;
        match report.differences {
            0 => say!("check: {} files, {} bytes, all good", report.files, report.bytes),
            count => {
                return Err(alloc::format!("{} files, {} bytes, {count} differ", report.files, report.bytes));
            }
        }
        Ok(())
    }

    fn print_disks(&self) -> Outcome {
        for (number, candidate) in disk::candidates(self.environment).iter().enumerate() {
            if self.disk == Some(number) {
                // To open it anew would take it from the file system that is in use.
                say!("{number} in use");
                continue;
            }
            match disk::open(candidate, None, None) {
                Ok(found) => {
                    let header = found.file_system.header();
                    say!("{number} {}: RedoxFS {}", found.place, Uuid(header.uuid));
                }
                Err(note) => say!("{number} {note}"),
            }
        }
        Ok(())
    }

    fn use_disk(&mut self, argument: &str) -> Outcome {
        let number = parse_number(argument).and_then(|number| usize::try_from(number).ok());
        let candidates = disk::candidates(self.environment);
        let candidate = number.and_then(|number| candidates.get(number));
        let candidate =
            candidate.ok_or_else(|| alloc::format!("`{argument}` is no disk's number; see `disks`"))?;
        match disk::open(candidate, None, None) {
            Ok(found) => {
                say!("disk         {}", found.place);
                (self.disk, self.file_system) = (number, Ok(found.file_system));
                Ok(())
            }
            Err(message) => {
                if self.disk == number {
                    self.file_system = Err(message.clone());
                }
                Err(message)
            }
        }
    }

    fn print_memory(&self) -> Outcome {
        for area in MemoryArea::read_array(self.areas) {
            say!("{:#014x}..{:#014x} {:>9} KiB {}", area.base, area.end(), area.size >> 10, area.kind.name());
        }
        let (used, unused) = memory::heap_state();
        say!("heap: {} KiB used, {} KiB never used", used >> 10, unused >> 10);
        Ok(())
    }

    fn exit(&self, argument: &str) -> Outcome {
        let value = match argument {
            "" if self.failed => power::EXIT_FAILURE,
            "" => power::EXIT_SUCCESS,
            text => parse_number(text)
                .and_then(|number| u32::try_from(number).ok())
                .ok_or_else(|| alloc::format!("`{text}` is not a number"))?,
        };
        power::exit(value, self.root_pointer())
    }
}

fn list_node(files: &mut FileSystem<Disk>, node: &Node, name: &[u8]) -> Result<(), FileSystemError> {
    let letter = match node.kind() {
        NodeKind::File => '-',
        NodeKind::Directory => 'd',
        NodeKind::Symlink => 'l',
        NodeKind::Other(_) => '?',
    };
    let mut mode = String::from(letter);
    for (index, letter) in "rwxrwxrwx".chars().enumerate() {
        mode.push(if node.mode >> (8 - index) & 1 != 0 { letter } else { '-' });
    }
    let target = match node.kind() {
        NodeKind::Symlink => files.link_target(node, "")?,
        _ => Vec::new(),
    };
    let arrow = if target.is_empty() { "" } else { " -> " };
    say!(
        "{mode} {:>5} {:>5} {:>10} {}{arrow}{}",
        node.user,
        node.group,
        node.size,
        Printable(name),
        Printable(&target)
    );
    Ok(())
}

fn print_functions() -> Outcome {
    for function in pci::scan() {
        let [class, subclass, interface] = function.class;
        say!(
            "{} {:04x}:{:04x} class {class:02x}{subclass:02x}{interface:02x} {}",
            function.address,
            function.vendor,
            function.device,
            virtio_block::kind(&function).unwrap_or("")
        );
    }
    Ok(())
}

/// What the areas come to, for the banner.
pub fn area_summary(areas: &[u8]) -> String {
    let mut sums = [0u64; 3];
    let mut count = 0;
    for area in MemoryArea::read_array(areas) {
        count += 1;
        let slot = match area.kind {
            AreaKind::Free => 0,
            AreaKind::Reclaimable => 1,
            _ => 2,
        };
        sums[slot] += area.size;
    }
    let [free, reclaimable, reserved] = sums.map(|bytes| bytes >> 10);
    alloc::format!("{count} areas: {free} KiB free, {reclaimable} KiB reclaimable, {reserved} KiB reserved")
}
