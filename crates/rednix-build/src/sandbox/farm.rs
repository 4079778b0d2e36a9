//! A folder that looks like several layers laid over each other, made of hard links: for machines whose
//! kernel refuses overlay mounts to users. It follows no link and changes no layer.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::mounts::set_mode;
use super::skeleton;
use crate::limits;

/// Composes `layers` (first on top) into `folder`, which must not exist, with the mount points of a sandbox.
///
/// Files are linked, or copied where the layer is on another file system.
pub fn compose_farm(layers: &[PathBuf], folder: &Path, user: u32, group: u32) -> io::Result<()> {
    fs::create_dir(folder)?;
    set_mode(folder, 0o755)?;
    let sources: Vec<PathBuf> = layers.to_vec();
    let mut pending = vec![(sources, folder.to_owned(), 0)];
    while let Some((sources, target, depth)) = pending.pop() {
        if depth > limits::TREE_DEPTH_MAX {
            return Err(io::Error::other(format!("`{}` is nested too deeply", target.display())));
        }
        let mut names: BTreeSet<OsString> = BTreeSet::new();
        for source in &sources {
            for entry in fs::read_dir(source)? {
                names.insert(entry?.file_name());
            }
        }
        for name in names {
            let inside = target.join(&name);
            if let Some(folders) = place(&sources, &name, &inside)? {
                fs::create_dir(&inside)?;
                set_mode(&inside, 0o755)?;
                pending.push((folders, inside, depth + 1));
            }
        }
    }
    skeleton::write_into(folder, user, group)
}

/// Places the topmost entry of this name; for a folder returns the folders to merge instead.
fn place(sources: &[PathBuf], name: &OsString, target: &Path) -> io::Result<Option<Vec<PathBuf>>> {
    let mut folders = Vec::new();
    for source in sources {
        let path = source.join(name);
        let status = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if status.is_dir() {
            folders.push(path);
            continue;
        }
        // As in an overlay: below a folder a file of the same name is hidden, and the other way round.
        if folders.is_empty() {
            if status.is_symlink() {
                symlink(fs::read_link(&path)?, target)?;
            } else if fs::hard_link(&path, target).is_err() {
                fs::copy(&path, target)?;
            }
            return Ok(None);
        }
        break;
    }
    Ok((!folders.is_empty()).then_some(folders))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_first_layer_wins_and_folders_merge() {
        let temporary = tempfile::tempdir().unwrap();
        let (top, low, farm) =
            (temporary.path().join("top"), temporary.path().join("low"), temporary.path().join("farm"));
        write(&top.join("usr/bin/a"), "top");
        write(&top.join("x"), "file over folder");
        write(&top.join("etc/passwd"), "of the layer");
        write(&low.join("usr/bin/a"), "low");
        write(&low.join("usr/bin/b"), "low");
        write(&low.join("x/hidden"), "");
        symlink("usr/bin", low.join("bin")).unwrap();
        compose_farm(&[top.clone(), low], &farm, 1000, 100).unwrap();
        assert_eq!(fs::read_to_string(farm.join("bin/a")).unwrap(), "top");
        assert_eq!(fs::read_to_string(farm.join("bin/b")).unwrap(), "low");
        assert_eq!(fs::read_to_string(farm.join("x")).unwrap(), "file over folder");
        assert!(fs::read_to_string(farm.join("etc/passwd")).unwrap().contains("builder"));
        assert_eq!(fs::read_to_string(top.join("etc/passwd")).unwrap(), "of the layer");
        assert!(farm.join("nix/store").is_dir());
    }
}
