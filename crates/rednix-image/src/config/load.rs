//! Reads a configuration file with its includes and merges them by upstream's rules. Building an image does not
//! come here (Nix merges); this is the reference the merge in Nix is compared with.
//!
//! Rules: the first include is the base, later includes override it, the file itself comes last. `general` merges
//! field by field, `packages`, `users` and `groups` by key with the whole value replaced, `files` are appended, so
//! that what two includes share comes twice. `prompt` alone is never merged: the very first file decides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Config, FileEntry, General, Group, User};
use crate::error::{Error, Result};
use crate::limits::{CONFIG_SIZE_MAX, INCLUDE_DEPTH_MAX};

/// A file as it is: the configuration and its includes. Not `flatten`: it would lose the place of errors.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct File {
    include: Vec<PathBuf>,
    general: General,
    packages: BTreeMap<String, serde_json::Value>,
    files: Vec<FileEntry>,
    users: BTreeMap<String, User>,
    groups: BTreeMap<String, Group>,
}

/// Loads `path` and everything it includes, relative to the including file.
pub fn load(path: &Path) -> Result<Config> {
    load_at(path, 0)
}

fn load_at(path: &Path, depth: usize) -> Result<Config> {
    let fail = |message: String| Error::ConfigFile { path: path.to_owned(), message };
    if depth > INCLUDE_DEPTH_MAX {
        return Err(fail(format!("includes are nested more than {INCLUDE_DEPTH_MAX} deep (a loop?)")));
    }
    let size = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
    if size > CONFIG_SIZE_MAX {
        return Err(fail(format!("is larger than {CONFIG_SIZE_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let file: File = toml::from_str(&text).map_err(|error| fail(error.to_string().trim_end().to_owned()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut parts = Vec::new();
    for include in &file.include {
        parts.push(load_at(&folder.join(include), depth + 1)?);
    }
    let File { include: _, general, packages, files, users, groups } = file;
    parts.push(Config { general, packages, files, users, groups });
    let mut parts = parts.into_iter();
    let mut merged = parts.next().unwrap_or_default();
    parts.for_each(|over| merge(&mut merged, over));
    Ok(merged)
}

fn merge(base: &mut Config, over: Config) {
    let general = &mut base.general;
    general.filesystem_size = over.general.filesystem_size.or(general.filesystem_size);
    general.efi_partition_size = over.general.efi_partition_size.or(general.efi_partition_size);
    general.skip_partitions = over.general.skip_partitions.or(general.skip_partitions);
    general.live_disk = over.general.live_disk.or(general.live_disk);
    general.write_bootloader = over.general.write_bootloader.or(general.write_bootloader.take());
    general.encrypt_disk = over.general.encrypt_disk.or(general.encrypt_disk.take());
    base.packages.extend(over.packages);
    base.users.extend(over.users);
    base.groups.extend(over.groups);
    base.files.extend(over.files);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_diamond_merges_by_key_and_appends_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(
            root,
            "base.toml",
            "[general]\nfilesystem_size = 64\nprompt = true\n[packages]\nbase = {}\n[[files]]\npath = \"/a\"\ndata = \"1\"\n[users.root]\npassword = \"x\"\nuid = 0\n",
        );
        write(
            root,
            "left.toml",
            "include = [\"base.toml\"]\n[packages]\nion = \"local\"\nbase = \"ignore\"\n",
        );
        write(
            root,
            "sub/right.toml",
            "include = [\"../base.toml\"]\n[general]\nefi_partition_size = 4\n[users.root]\nuid = 0\n",
        );
        let top = write(
            root,
            "top.toml",
            "include = [\"left.toml\", \"sub/right.toml\"]\n[general]\nfilesystem_size = 128\n",
        );
        let config = load(&top).unwrap();
        assert_eq!(config.general.filesystem_size, Some(128));
        assert_eq!(config.general.efi_partition_size, Some(4));
        assert_eq!(config.packages["base"], serde_json::json!({}), "the later include brought it back");
        assert_eq!(config.packages["ion"], serde_json::json!("local"));
        assert_eq!(config.files.len(), 2, "files of a diamond come twice");
        assert_eq!(config.users["root"].password, None, "users are replaced whole");
    }

    #[test]
    fn the_very_first_file_decides_about_prompting() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "first.toml", "[general]\nprompt = false\n");
        write(root, "second.toml", "[general]\nprompt = true\n");
        write(root, "silent.toml", "");
        let cases = [
            ("include = [\"first.toml\", \"second.toml\"]\n[general]\nprompt = true\n", Some(false)),
            ("include = [\"second.toml\", \"first.toml\"]\n", Some(true)),
            ("include = [\"silent.toml\", \"first.toml\"]\n[general]\nprompt = false\n", None),
            ("[general]\nprompt = false\n", Some(false)),
        ];
        for (text, expected) in cases {
            assert_eq!(load(&write(root, "top.toml", text)).unwrap().general.prompt, expected, "{text}");
        }
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let circle = write(folder.path(), "a.toml", "include = [\"a.toml\"]\n");
        assert!(load(&circle).unwrap_err().to_string().contains("a loop?"));
        let broken = write(folder.path(), "b.toml", "[general]\nfilesystem_size = \"big\"\n");
        let message = load(&broken).unwrap_err().to_string();
        assert!(message.contains("b.toml") && message.contains("filesystem_size"), "{message}");
        let missing = write(folder.path(), "c.toml", "include = [\"nowhere.toml\"]\n");
        assert!(load(&missing).unwrap_err().to_string().contains("nowhere.toml"));
    }
}
