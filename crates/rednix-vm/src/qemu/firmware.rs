//! Finds UEFI firmware for QEMU where distributions put it. It copies nothing itself.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::runner::{Command, Config, Program};

/// Firmware images for a 64-bit PC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirmwareFiles {
    /// Code, read only, and the template of its variables, which each machine gets a copy of.
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
const FOLDERS: [&str; 9] = [
    "/usr/share/OVMF",
    "/usr/share/edk2/ovmf",
    "/usr/share/edk2-ovmf",
    "/usr/share/edk2/x64",
    "/usr/share/edk2-ovmf/x64",
    "/usr/share/ovmf",
    "/usr/share/qemu",
    "/run/current-system/sw/share/qemu",
    "/usr/local/share/qemu",
];

/// File names of code and variables that belong together, the larger flash first; never the variants that insist on
/// signed loaders.
const PAIRS: [(&str, &str); 6] = [
    ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    ("OVMF_CODE.4m.fd", "OVMF_VARS.4m.fd"),
    ("OVMF_CODE.fd", "OVMF_VARS.fd"),
    ("edk2-x86_64-code.fd", "edk2-i386-vars.fd"),
    ("ovmf-x86_64-code.bin", "ovmf-x86_64-vars.bin"),
    ("ovmf-x86_64-4m-code.bin", "ovmf-x86_64-4m-vars.bin"),
];

const COMBINED: [&str; 4] = ["OVMF.fd", "OVMF.4m.fd", "ovmf-x86_64.bin", "x64/OVMF.fd"];

/// The firmware of the configuration, else the first found.
pub fn find(program: &Program, config: &Config) -> Result<FirmwareFiles> {
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
        Some(path) => given(path),
        None => search(&folders),
    }
}

fn search(folders: &[PathBuf]) -> Result<FirmwareFiles> {
    for folder in folders {
        for (code, variables) in PAIRS {
            let (code, variables) = (folder.join(code), folder.join(variables));
            if code.is_file() && variables.is_file() {
                return Ok(FirmwareFiles::Split { code, variables });
            }
        }
    }
    let combined = folders.iter().flat_map(|folder| COMBINED.iter().map(|name| folder.join(name)));
    combined.filter(|path| path.is_file()).map(FirmwareFiles::Combined).next().ok_or_else(|| Error::Missing {
        what: "UEFI firmware for QEMU (OVMF)".into(),
        how: "install it: Debian, Ubuntu `apt-get install ovmf`; Fedora `dnf install edk2-ovmf`; Arch `pacman -S \
              edk2-ovmf`; openSUSE `zypper install qemu-ovmf-x86_64`; Nix's QEMU brings it. Or name the file in the \
              configuration, or use BIOS firmware"
            .into(),
    })
}

/// A file the user named: code with variables beside it, else a combined image.
fn given(path: &Path) -> Result<FirmwareFiles> {
    if !path.is_file() {
        let what = format!("the configured firmware `{}`", path.display());
        return Err(Error::Missing { what, how: "correct the configuration".into() });
    }
    let name = path.file_name().unwrap_or_default();
    let pair =
        PAIRS.iter().find(|(code, _)| name == *code).map(|(_, variables)| path.with_file_name(variables));
    Ok(match pair {
        Some(variables) if variables.is_file() => FirmwareFiles::Split { code: path.to_owned(), variables },
        _ => FirmwareFiles::Combined(path.to_owned()),
    })
}

impl FirmwareFiles {
    pub(super) fn add_to(&self, command: &mut Command, scratch: &Path) {
        let flash = |unit: u8, options: &str, path: &Path| {
            let mut word = OsString::from(format!("if=pflash,unit={unit},format=raw,{options}file="));
            word.push(super::escape_commas(path));
            word
        };
        match self {
            FirmwareFiles::Split { code, variables } => {
                let copy = scratch.join("firmware-variables.fd");
                command.arguments.push("-drive".into());
                command.arguments.push(flash(0, "readonly=on,", code));
                command.arguments.push("-drive".into());
                command.arguments.push(flash(1, "", &copy));
                command.copies.push((variables.clone(), copy));
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
        assert!(search(&folders).unwrap_err().is_missing());
        let combined = touch(folders[0].join("OVMF.fd"));
        assert_eq!(search(&folders).unwrap(), FirmwareFiles::Combined(combined.clone()));
        let code = touch(folders[1].join("OVMF_CODE_4M.fd"));
        touch(folders[1].join("OVMF_VARS.fd"));
        assert_eq!(
            search(&folders).unwrap(),
            FirmwareFiles::Combined(combined.clone()),
            "sizes differ: no pair"
        );
        let variables = touch(folders[1].join("OVMF_VARS_4M.fd"));
        let pair = FirmwareFiles::Split { code: code.clone(), variables };
        assert_eq!(search(&folders).unwrap(), pair);
        assert_eq!(given(&code).unwrap(), pair);
        assert_eq!(given(&combined).unwrap(), FirmwareFiles::Combined(combined));
        assert!(given(&folders[0].join("absent")).unwrap_err().is_missing());
    }

    #[test]
    fn variables_are_copied_and_code_is_not_writable() {
        let mut command =
            Command { program: "q".into(), arguments: vec![], environment: vec![], copies: vec![] };
        let files = FirmwareFiles::Split { code: "/f/code".into(), variables: "/f/vars".into() };
        files.add_to(&mut command, Path::new("/s"));
        let text = command.shell_text();
        assert!(text.starts_with("cp /f/vars /s/firmware-variables.fd\n"), "{text}");
        assert!(text.contains("readonly=on,file=/f/code"), "{text}");
    }
}
