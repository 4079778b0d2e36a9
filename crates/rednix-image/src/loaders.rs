//! Where the loaders are in the package that brings them, and where those loaders look for kernel and initfs. Both
//! moved from `/boot` to `/usr/lib/boot` in March 2026; each image is made as its own loader expects it. It reads no
//! disk layout.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::gpt;
use crate::initfs;
use crate::tree::{self, Node, Tree, join};

/// The newer place first.
pub(crate) const FOLDERS: [&str; 2] = ["usr/lib/boot", "boot"];
/// What a loader reads from the file system.
const BOOT_FILES: [&str; 2] = ["kernel", "initfs"];

/// The loaders of one package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaders {
    pub uefi: Option<PathBuf>,
    pub bios: Option<PathBuf>,
    /// The folder they lie in, which is the folder they look into.
    pub folder: Option<&'static str>,
}

/// What this project's own BIOS loader has behind the place of the partition table. It reads that table; upstream's
/// knows one place for the file system.
const OWN_MARK: &[u8] = b"RdNx";

/// Whether a BIOS loader finds the file system wherever the partition table says it is.
pub fn reads_partitions(bios_loader: &[u8]) -> bool {
    bios_loader.get(gpt::HEAD_BYTES as usize..).is_some_and(|rest| rest.starts_with(OWN_MARK))
}

/// Finds the loaders in a package's folder. An architecture may have only one of the two; a package with neither is
/// an error.
pub fn find(package: &Path, live: bool, want_bios: bool) -> Result<Loaders> {
    let stem = if live { "bootloader-live" } else { "bootloader" };
    for folder in FOLDERS {
        let at = |suffix: &str| {
            let file = package.join(folder).join(format!("{stem}.{suffix}"));
            // Upstream's builds may leave an empty file where an architecture has no such loader.
            fs::metadata(&file).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0).then_some(file)
        };
        let (uefi, bios) = (at("efi"), at("bios").filter(|_| want_bios));
        if uefi.is_some() || bios.is_some() {
            return Ok(Loaders { uefi, bios, folder: Some(folder) });
        }
    }
    let kinds = if want_bios { "efi` or `.bios" } else { "efi" };
    Err(Error::Config(format!(
        "the package of the loaders has no `{stem}.{kinds}` in {}\n\nhint: set `rednix.loader` to a package that has, or `general.skip_partitions = true` for a file system without loaders",
        FOLDERS.map(|folder| format!("`{folder}`")).join(" or ")
    )))
}

/// Puts kernel and initfs where the loader looks, where a package brought them to the other place. Loaders follow no
/// symlinks, so what they need is a file of its own.
pub fn place_boot_files(tree: &mut Tree, folder: &str, warnings: &mut Vec<String>) -> Result<()> {
    for name in BOOT_FILES {
        let wanted = join(folder, name);
        if !is_file(tree, &wanted) {
            let found = FOLDERS.iter().find_map(|other| {
                let place = tree.resolve(&join(other, name)).ok()?;
                is_file(tree, &place).then_some(place)
            });
            let Some(found) = found else {
                warnings.push(format!("no package brings a {name}: the image cannot boot"));
                continue;
            };
            let entry = tree.get(&found).cloned().expect("just found");
            if tree.make_directories(folder, &entry.origin)? != folder {
                warnings.push(format!(
                    "the loader looks for `/{wanted}` and follows no symlinks, but `/{folder}` is one: the image cannot boot"
                ));
                continue;
            }
            tree.put(&wanted, entry)?;
        }
        if name == "initfs" && !starts_with(tree, &wanted, initfs::MAGIC)? {
            warnings.push(format!("`/{wanted}` is no initfs image: the loader will refuse it"));
        }
    }
    Ok(())
}

fn is_file(tree: &Tree, path: &str) -> bool {
    let literal = tree.resolve(tree::parent_of(path)).is_ok_and(|parent| parent == tree::parent_of(path));
    literal && matches!(tree.get(path), Some(tree::Entry { node: Node::File(_), .. }))
}

fn starts_with(tree: &Tree, path: &str, magic: &[u8]) -> Result<bool> {
    let Some(tree::Entry { node: Node::File(content), .. }) = tree.get(path) else { return Ok(false) };
    let mut start = Vec::new();
    content.open()?.take(magic.len() as u64).read_to_end(&mut start).map_err(Error::io("read", path))?;
    Ok(start == magic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Content, Entry};

    #[test]
    fn loaders_of_both_eras_and_architectures() {
        // files, live, BIOS wanted → folder, UEFI, BIOS
        let cases: [(&[&str], bool, bool, Option<(&str, bool, bool)>); 8] = [
            (
                &["usr/lib/boot/bootloader.efi", "usr/lib/boot/bootloader.bios"],
                false,
                true,
                Some(("usr/lib/boot", true, true)),
            ),
            (&["boot/bootloader.efi", "boot/bootloader.bios"], false, true, Some(("boot", true, true))),
            (
                &["boot/bootloader.efi", "usr/lib/boot/bootloader.efi"],
                false,
                true,
                Some(("usr/lib/boot", true, false)),
            ),
            (&["usr/lib/boot/bootloader.bios"], false, true, Some(("usr/lib/boot", false, true))),
            (&["usr/lib/boot/bootloader.bios"], false, false, None),
            (&["usr/lib/boot/bootloader.efi"], true, true, None),
            (&["boot/bootloader-live.efi", "boot/bootloader.bios"], true, true, Some(("boot", true, false))),
            (&[], false, true, None),
        ];
        for (files, live, bios, expected) in cases {
            let package = tempfile::tempdir().unwrap();
            for file in files {
                let file = package.path().join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, "loader").unwrap();
            }
            let found = find(package.path(), live, bios);
            let found = found.map(|l| (l.folder.unwrap(), l.uefi.is_some(), l.bios.is_some())).ok();
            assert_eq!(found, expected, "{files:?} {live} {bios}");
        }
    }

    #[test]
    fn an_empty_loader_is_none() {
        let package = tempfile::tempdir().unwrap();
        fs::create_dir_all(package.path().join("boot")).unwrap();
        fs::write(package.path().join("boot/bootloader.efi"), "").unwrap();
        let message = find(package.path(), false, true).unwrap_err().to_string();
        assert!(message.contains("`usr/lib/boot` or `boot`") && message.contains("hint:"), "{message}");
    }

    fn tree_with(files: &[(&str, &[u8])]) -> Tree {
        let mut tree = Tree::default();
        for (path, bytes) in files {
            tree.make_directories(tree::parent_of(path), "test").unwrap();
            tree.put(path, Entry::file(Content::Bytes(bytes.to_vec()), 0o644, "test")).unwrap();
        }
        tree
    }

    #[test]
    fn boot_files_are_put_where_the_loader_looks() {
        for (from, to) in [("boot", "usr/lib/boot"), ("usr/lib/boot", "boot")] {
            let mut tree = tree_with(&[
                (&format!("{from}/kernel"), b"kernel"),
                (&format!("{from}/initfs"), b"RedoxFtw..."),
            ]);
            let mut warnings = Vec::new();
            place_boot_files(&mut tree, to, &mut warnings).unwrap();
            assert!(warnings.is_empty(), "{warnings:?}");
            for name in BOOT_FILES {
                assert_eq!(
                    tree.get(&join(to, name)).unwrap().node,
                    tree.get(&join(from, name)).unwrap().node
                );
            }
            let before = tree.clone();
            place_boot_files(&mut tree, from, &mut warnings).unwrap();
            assert_eq!(tree, before, "what is in place stays");
        }
    }

    #[test]
    fn what_the_loader_cannot_read_is_said() {
        let mut warnings = Vec::new();
        place_boot_files(&mut tree_with(&[("boot/initfs", b"gzip")]), "boot", &mut warnings).unwrap();
        assert!(
            warnings[0].contains("brings a kernel") && warnings[1].contains("no initfs image"),
            "{warnings:?}"
        );

        let mut linked =
            tree_with(&[("usr/lib/boot/kernel", b"kernel"), ("usr/lib/boot/initfs", b"RedoxFtw")]);
        linked.put("boot", Entry::symlink("usr/lib/boot".into(), "test")).unwrap();
        warnings.clear();
        place_boot_files(&mut linked, "boot", &mut warnings).unwrap();
        assert!(warnings.iter().all(|line| line.contains("follows no symlinks")) && !warnings.is_empty());

        // A symlink in a file's place becomes the file.
        let mut linked =
            tree_with(&[("usr/lib/boot/kernel-1", b"kernel"), ("usr/lib/boot/initfs", b"RedoxFtw")]);
        linked.put("usr/lib/boot/kernel", Entry::symlink("kernel-1".into(), "test")).unwrap();
        warnings.clear();
        place_boot_files(&mut linked, "usr/lib/boot", &mut warnings).unwrap();
        assert!(warnings.is_empty() && is_file(&linked, "usr/lib/boot/kernel"), "{warnings:?}");
    }
}
