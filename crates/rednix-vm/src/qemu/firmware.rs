//! Finds UEFI firmware for QEMU where distributions put it. It opens none of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::runner::{Command, Config, Program};
use crate::spec::Architecture;

/// Images of UEFI firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirmwareFiles {
    /// Code, read only, and the template of its variables, over which each machine gets a layer.
    Split { code: PathBuf, variables: PathBuf },
    /// Both in one image.
    Combined(PathBuf),
}

impl std::fmt::Display for FirmwareFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FirmwareFiles::Split { code, variables } => {
                write!(f, "{} with {}", code.display(), variables.display())
            }
            FirmwareFiles::Combined(image) => write!(f, "{}", image.display()),
        }
    }
}

/// Folders of distributions: Debian and Ubuntu, Fedora (two generations), Arch (two), openSUSE and everybody's QEMU
/// package, NixOS, local builds.
const FOLDERS: [&str; 14] = [
    "/usr/share/OVMF",
    "/usr/share/AAVMF",
    "/usr/share/qemu-efi-aarch64",
    "/usr/share/qemu-efi-riscv64",
    "/usr/share/edk2/ovmf",
    "/usr/share/edk2-ovmf",
    "/usr/share/edk2/x64",
    "/usr/share/edk2/aarch64",
    "/usr/share/edk2/riscv",
    "/usr/share/edk2-ovmf/x64",
    "/usr/share/ovmf",
    "/usr/share/qemu",
    "/run/current-system/sw/share/qemu",
    "/usr/local/share/qemu",
];

/// What firmware is called for one architecture.
struct Names {
    /// File names of code and variables that belong together, the larger flash first; never the variants that insist on
    /// signed loaders.
    pairs: &'static [(&'static str, &'static str)],
    /// Both in one image.
    combined: &'static [&'static str],
    /// What it is, and how to get it.
    what: &'static str,
    how: &'static str,
}

const X86_64: Names = Names {
    pairs: &[
        ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
        ("OVMF_CODE.4m.fd", "OVMF_VARS.4m.fd"),
        ("OVMF_CODE.fd", "OVMF_VARS.fd"),
        ("edk2-x86_64-code.fd", "edk2-i386-vars.fd"),
        ("ovmf-x86_64-code.bin", "ovmf-x86_64-vars.bin"),
        ("ovmf-x86_64-4m-code.bin", "ovmf-x86_64-4m-vars.bin"),
    ],
    combined: &["OVMF.fd", "OVMF.4m.fd", "ovmf-x86_64.bin", "x64/OVMF.fd"],
    what: "UEFI firmware for QEMU (OVMF)",
    how: "install it: Debian, Ubuntu `apt-get install ovmf`; Fedora `dnf install edk2-ovmf`; Arch `pacman -S \
          edk2-ovmf`; openSUSE `zypper install qemu-ovmf-x86_64`; Nix's QEMU brings it. Or name the file in the \
          configuration, or use BIOS firmware",
};

const AARCH64: Names = Names {
    pairs: &[
        ("AAVMF_CODE.fd", "AAVMF_VARS.fd"),
        ("edk2-aarch64-code.fd", "edk2-arm-vars.fd"),
        ("QEMU_EFI-pflash.raw", "vars-template-pflash.raw"),
        ("QEMU_CODE.fd", "QEMU_VARS.fd"),
        ("aavmf-aarch64-code.bin", "aavmf-aarch64-vars.bin"),
    ],
    combined: &["QEMU_EFI.fd"],
    what: "UEFI firmware for QEMU's 64-bit ARM board (AAVMF)",
    how: "install it: Debian, Ubuntu `apt-get install qemu-efi-aarch64`; Fedora `dnf install edk2-aarch64`; Arch \
          `pacman -S edk2-aarch64`; openSUSE `zypper install qemu-uefi-aarch64`; Nix's QEMU brings it. Or name the \
          file in the configuration",
};

const RISCV64: Names = Names {
    pairs: &[("RISCV_VIRT_CODE.fd", "RISCV_VIRT_VARS.fd"), ("edk2-riscv-code.fd", "edk2-riscv-vars.fd")],
    combined: &[],
    what: "UEFI firmware for QEMU's RISC-V board",
    how: "install it: Debian 13, Ubuntu `apt-get install qemu-efi-riscv64`; Fedora `dnf install edk2-riscv64`; Nix's \
          QEMU, 8.1 or later, brings it. Or name the file in the configuration",
};

fn names(architecture: Architecture) -> &'static Names {
    match architecture {
        Architecture::X86_64 | Architecture::I586 => &X86_64,
        Architecture::Aarch64 => &AARCH64,
        Architecture::Riscv64 => &RISCV64,
    }
}

/// The firmware of the configuration, else the first found.
pub fn find(architecture: Architecture, program: &Program, config: &Config) -> Result<FirmwareFiles> {
    let names = names(architecture);
    let mut folders: Vec<PathBuf> = Vec::new();
    // Firmware that came with this very QEMU, as in a Nix store.
    if let Some(prefix) =
        program.path.canonicalize().ok().as_deref().and_then(Path::parent).and_then(Path::parent)
        && prefix != Path::new("/usr")
    {
        folders.push(prefix.join("share/qemu"));
    }
    folders.extend(FOLDERS.iter().map(PathBuf::from));
    match &config.firmware {
        // A file for another architecture would be of no use: configured firmware is for 64-bit PCs.
        Some(path) if architecture == Architecture::X86_64 => given(path),
        _ => search(names, &folders),
    }
}

fn search(names: &Names, folders: &[PathBuf]) -> Result<FirmwareFiles> {
    for folder in folders {
        for (code, variables) in names.pairs {
            let (code, variables) = (folder.join(code), folder.join(variables));
            if code.is_file() && variables.is_file() {
                return Ok(FirmwareFiles::Split { code, variables });
            }
        }
    }
    let mut combined = folders.iter().flat_map(|folder| names.combined.iter().map(|name| folder.join(name)));
    combined
        .find(|path| path.is_file())
        .map(FirmwareFiles::Combined)
        .ok_or_else(|| Error::Missing { what: names.what.into(), how: names.how.into() })
}

/// A file the user named: code with variables beside it, else a combined image.
fn given(path: &Path) -> Result<FirmwareFiles> {
    if !path.is_file() {
        let what = format!("the configured firmware `{}`", path.display());
        return Err(Error::Missing { what, how: "correct the configuration".into() });
    }
    let name = path.file_name().unwrap_or_default();
    let pair = X86_64
        .pairs
        .iter()
        .find(|(code, _)| name == *code)
        .map(|(_, variables)| path.with_file_name(variables));
    Ok(match pair {
        Some(variables) if variables.is_file() => FirmwareFiles::Split { code: path.to_owned(), variables },
        _ => FirmwareFiles::Combined(path.to_owned()),
    })
}

impl FirmwareFiles {
    pub(super) fn add_to(&self, command: &mut Command) {
        let flash = |unit: u8, options: &str, path: &Path| {
            let mut word = OsString::from(format!("if=pflash,unit={unit},format=raw,{options},file="));
            word.push(super::arguments::escape_commas(path));
            word
        };
        match self {
            FirmwareFiles::Split { code, variables } => {
                command.arguments.push("-drive".into());
                command.arguments.push(flash(0, "readonly=on", code));
                // A layer costs nothing; a copy of 64 MiB of variables, as ARM's are, would.
                command.arguments.push("-drive".into());
                command.arguments.push(flash(1, "snapshot=on", variables));
            }
            FirmwareFiles::Combined(path) => {
                command.arguments.push("-bios".into());
                command.arguments.push(path.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_before_combined_images_and_never_mix() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().join("a"), folder.path().join("b")];
        folders.iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        let touch = |path: PathBuf| std::fs::write(&path, "").map(|()| path).unwrap();
        assert!(search(&X86_64, &folders).unwrap_err().is_missing());
        let combined = touch(folders[0].join("OVMF.fd"));
        assert_eq!(search(&X86_64, &folders).unwrap(), FirmwareFiles::Combined(combined.clone()));
        let code = touch(folders[1].join("OVMF_CODE_4M.fd"));
        touch(folders[1].join("OVMF_VARS.fd"));
        assert_eq!(
            search(&X86_64, &folders).unwrap(),
            FirmwareFiles::Combined(combined.clone()),
            "sizes differ: no pair"
        );
        let variables = touch(folders[1].join("OVMF_VARS_4M.fd"));
        let pair = FirmwareFiles::Split { code: code.clone(), variables };
        assert_eq!(search(&X86_64, &folders).unwrap(), pair);
        assert_eq!(given(&code).unwrap(), pair);
        assert_eq!(given(&combined).unwrap(), FirmwareFiles::Combined(combined));
        assert!(given(&folders[0].join("absent")).unwrap_err().is_missing());
    }

    #[test]
    fn neither_code_nor_variables_are_written_to() {
        let mut command = Command { program: "q".into(), ..Command::default() };
        let files = FirmwareFiles::Split { code: "/f/code".into(), variables: "/f/vars".into() };
        files.add_to(&mut command);
        let text = command.shell_text();
        assert!(text.contains("readonly=on,file=/f/code"), "{text}");
        assert!(text.contains("snapshot=on,file=/f/vars"), "{text}");
    }

    #[test]
    fn each_architecture_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        for (code, variables) in [("OVMF_CODE.fd", "OVMF_VARS.fd"), ("AAVMF_CODE.fd", "AAVMF_VARS.fd")] {
            std::fs::write(folder.path().join(code), "").unwrap();
            std::fs::write(folder.path().join(variables), "").unwrap();
        }
        let found = search(names(Architecture::Aarch64), &folders).unwrap().to_string();
        assert!(found.contains("AAVMF_CODE.fd"), "{found}");
        let error = search(names(Architecture::Riscv64), &folders).unwrap_err().to_string();
        assert!(error.contains("qemu-efi-riscv64"), "{error}");
    }
}
