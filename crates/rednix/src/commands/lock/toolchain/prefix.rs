//! Pins the toolchain that Redox builds itself: its forks of gcc and Rust, as archives on its server. Does not know
//! what is in them beyond the standard library's Cargo.lock.
//!
//! The server keeps the newest archives under names that stay, so a pin lasts as long as they do, or as long as a
//! mirror or a store has them. Which archives there are has changed: three that add up, before 2026 one with all.

use std::collections::BTreeMap;
use std::path::Path;

use rednix_fetch::{FetchError, FetchRequest, Fetched};

use crate::failure::Failure;

use super::super::format::{CargoLock, Component, Toolchain};
use super::super::source::unpacked;
use super::super::tools::Tools;
use super::{HOST, library_crates};

const SERVER: &str = "https://static.redox-os.org/toolchain";
/// The archives that are joined, and whether they have to be there.
const JOINED: [(&str, bool); 3] = [("gcc-install", true), ("rust-install", true), ("clang-install", false)];
const WHOLE: &str = "relibc-install";

/// Where upstream keeps the archives for a target.
pub fn upstream(target: &str) -> String {
    format!("{SERVER}/{HOST}/{target}")
}

/// The archives below an address, as they are now.
pub fn pin(tools: &Tools, base: &str, target: &str) -> Result<Toolchain, Failure> {
    let base = address(base)?;
    tools.step(format!("pinning the toolchain of {base}"));
    let mut components = BTreeMap::new();
    let mut rust = None;
    let mut take = |name: &str, fetched: Fetched| -> Result<(), Failure> {
        let file = tools.keep_file(&fetched.path, &archive_name(name))?;
        if name != JOINED[0].0 {
            rust.get_or_insert(file);
        }
        let url = format!("{base}/{}", archive_name(name));
        components.insert(name.to_owned(), Component { url, sha256: fetched.hash.to_hex() });
        Ok(())
    };
    for (name, is_needed) in JOINED {
        match fetch(tools, &base, name) {
            Ok(fetched) => take(name, fetched)?,
            Err(error) if !error.is_absent() => return Err(error.into()),
            Err(_) if !is_needed => {}
            // The first one: the server is of the time before.
            Err(_) if name == JOINED[0].0 => {
                take(WHOLE, fetch(tools, &base, WHOLE)?)?;
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let std = match rust {
        Some(file) => library_crates(&unpacked(tools, &file, 0)?, "this toolchain")?,
        None => CargoLock::default(),
    };
    Ok(Toolchain { channel: "prefix".to_owned(), target: Some(target.to_owned()), components, std })
}

/// A folder of this machine, or an address, without the slash at its end.
fn address(base: &str) -> Result<String, Failure> {
    let base = base.trim_end_matches('/');
    if base.contains("://") {
        return Ok(base.to_owned());
    }
    let folder = Path::new(base);
    if !folder.is_dir() {
        return Err(Failure::usage(format!("`{base}` is neither an address nor a folder"))
            .hint("name the folder that holds gcc-install.tar.gz and rust-install.tar.gz"));
    }
    Ok(format!("file://{}", std::path::absolute(folder)?.display()))
}

fn archive_name(name: &str) -> String {
    format!("{name}.tar.gz")
}

fn fetch(tools: &Tools, base: &str, name: &str) -> Result<Fetched, FetchError> {
    let file_name = archive_name(name);
    let folder =
        tools.folder().map_err(|e| FetchError::BadUrl { url: base.to_owned(), reason: e.message })?;
    let request =
        FetchRequest { urls: vec![format!("{base}/{file_name}")], file_name, hash: None, size_bytes: None };
    tools.fetcher.fetch(&request, &folder, &tools.events)
}
