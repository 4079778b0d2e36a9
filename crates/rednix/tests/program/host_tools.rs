//! Redox's own tools for the build machine, from their published crates.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::support::{call, run};

pub const TESTS: [(&str, fn() -> Outcome); 1] = [("host_tools_are_built_static_and_tested", host_tools)];

fn host_tools() -> Outcome {
    let result = run(&mut call(&["build", "--no-link", "host:redoxfs", "host:redox_installer"]));
    result.expect(0, &[])?;
    let paths: Vec<PathBuf> = result.stdout.lines().map(PathBuf::from).collect();
    for (folder, program) in
        [(&paths[0], "redoxfs-ar"), (&paths[0], "redoxfs-mkfs"), (&paths[1], "redox_installer")]
    {
        let file = folder.join("usr/bin").join(program);
        if is_dynamic(&file)? {
            return Err(format!("{} needs a dynamic loader", file.display()));
        }
        // They answer on this machine: with their usage, or with what is wrong with an empty call.
        Command::new(&file).output().map_err(|e| format!("{} does not run: {e}", file.display()))?;
    }
    let counted = |folder: &Path, name: &str| -> Result<u64, String> {
        let file = folder.join("usr/share/rednix/tests").join(name);
        let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        if !text.contains("; 0 failed;") {
            return Err(format!("unit tests of {name}: {text}"));
        }
        let numbers =
            text.lines().filter_map(|l| l.split("ok. ").nth(1)?.split(' ').next()?.parse::<u64>().ok());
        Ok(numbers.sum())
    };
    let (redoxfs, installer) = (counted(&paths[0], "redoxfs")?, counted(&paths[1], "redox_installer")?);
    eprintln!("unit tests run while building: redoxfs {redoxfs}, redox_installer {installer}");
    if redoxfs < 30 { Err(format!("only {redoxfs} unit tests of redoxfs ran")) } else { Ok(None) }
}

/// Whether an ELF file names an interpreter (a program header of type 3).
pub fn is_dynamic(file: &Path) -> Result<bool, String> {
    let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let number = |at: usize, size: usize| -> Option<u64> {
        let mut value = [0u8; 8];
        value[..size].copy_from_slice(bytes.get(at..at + size)?);
        Some(u64::from_le_bytes(value))
    };
    let headers = || -> Option<Vec<u64>> {
        let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        (0..count).map(|n| number((start + n * size) as usize, 4)).collect()
    };
    if bytes.get(..4) != Some(b"\x7fELF") {
        return Err(format!("{} is no ELF file", file.display()));
    }
    Ok(headers().ok_or("the ELF file is cut short")?.contains(&3))
}
