//! Gathers the library, the embedded tree and the guest's source into the program, so that one binary is
//! all a user needs. Writes a table of `(path, executable, contents)` for `project.rs`.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fs};

const FOLDERS: [&str; 3] = ["nix", "tree", "guest"];

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..");
    let mut table = String::from("pub static FILES: &[(&str, bool, &[u8])] = &[\n");
    for folder in FOLDERS {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
        let mut files = Vec::new();
        gather(&root.join(folder), &mut files);
        files.sort();
        for file in files {
            let relative = file.strip_prefix(&root).expect("gathered below the root");
            let executable = fs::metadata(&file).is_ok_and(|m| m.permissions().mode() & 0o111 != 0);
            let absolute = fs::canonicalize(&file).expect("the file was just listed");
            writeln!(table, "    ({relative:?}, {executable}, include_bytes!({absolute:?})),")
                .expect("writing to a string");
        }
    }
    table.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("embedded.rs");
    fs::write(out, table).expect("cargo's own folder is writable");
}

/// Every file below `folder`, without build output.
fn gather(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if name == "target" || name == ".git" || name.to_string_lossy().ends_with(".local.json") {
            continue;
        }
        if path.is_dir() {
            gather(&path, files);
        } else {
            files.push(path);
        }
    }
}
