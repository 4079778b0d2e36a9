//! The topmost layer of every sandbox root: mount points and the four files of /etc that C libraries read.
//! It mounts nothing.

use std::fs;
use std::io;
use std::path::Path;

use super::mounts::set_mode;

/// Folders that are mounted over later.
const MOUNT_POINTS: [&str; 7] = ["build", "nix", "nix/store", "dev", "proc", "tmp", "etc"];

/// Writes the layer into `folder`, which must not exist.
pub fn write(folder: &Path, user: u32, group: u32) -> io::Result<()> {
    fs::create_dir(folder)?;
    set_mode(folder, 0o755)?;
    write_into(folder, user, group)
}

/// Writes the layer's contents into an existing folder.
pub fn write_into(folder: &Path, user: u32, group: u32) -> io::Result<()> {
    for name in MOUNT_POINTS {
        let path = folder.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            other => other?,
        }
        set_mode(&path, 0o755)?;
    }
    let files = [
        (
            "passwd",
            format!(
                "root:x:0:0:root:/build:/noshell\n\
                 builder:x:{user}:{group}:rednix builder:/build:/noshell\n\
                 nobody:x:65534:65534:nobody:/:/noshell\n"
            ),
        ),
        ("group", format!("root:x:0:\nbuilder:!:{group}:\nnogroup:x:65534:\n")),
        ("hosts", "127.0.0.1 localhost\n::1 localhost\n".to_owned()),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n".to_owned()),
    ];
    for (name, text) in files {
        let path = folder.join("etc").join(name);
        // A farm is made of hard links: writing through one would change the layer it came from.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::write(&path, text)?,
        }
        set_mode(&path, 0o644)?;
    }
    Ok(())
}
