//! Pins a Rust release of upstream's: the archives of its components by their hashes, and the crates its standard
//! library is built from. What they are put together to is the library's business.
//!
//! The list of a release is `dist/[DAY/]channel-rust-CHANNEL.toml` on Rust's server, as rustup reads it; its fields
//! are those of manifest version 2.

use std::collections::BTreeMap;
use std::path::Path;

use rednix_fetch::FetchRequest;
use rednix_fetch::cargo_lock;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::path::ContentMethod;
use serde::Deserialize;

use crate::failure::Failure;

use super::format::{CargoLock, Component, Toolchain};
use super::source::unpacked;
use super::tools::Tools;

mod prefix;

const SERVER: &str = "https://static.rust-lang.org/dist";
const HOST: &str = "x86_64-unknown-linux-gnu";
/// What is taken of a release, and for which target.
const COMPONENTS: [(&str, &str); 4] =
    [("cargo", HOST), ("rust-src", "*"), ("rust-std", HOST), ("rustc", HOST)];

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "manifest-version")]
    version: String,
    pkg: BTreeMap<String, Package>,
}

#[derive(Deserialize)]
struct Package {
    #[serde(default)]
    target: BTreeMap<String, Archive>,
}

#[derive(Deserialize)]
struct Archive {
    available: bool,
    xz_url: Option<String>,
    xz_hash: Option<String>,
}

/// The release that is asked for; none is Debian's. What is locked already is not asked for again.
pub fn pin(
    tools: &Tools,
    wanted: &str,
    tree: &Path,
    target: &str,
    old: Option<&Toolchain>,
) -> Result<Option<Toolchain>, Failure> {
    let channel = match wanted {
        "debian" => return Ok(None),
        "prefix" => return prefix::pin(tools, &prefix::upstream(target), target).map(Some),
        folder if folder.starts_with("prefix:") => {
            return prefix::pin(tools, &folder["prefix:".len()..], target).map(Some);
        }
        "tree" => channel_of(tree)?,
        named => named.to_owned(),
    };
    let url = manifest_url(&channel).ok_or_else(|| {
        Failure::usage(format!("`{channel}` is no release that stays as it is")).hint(
            "name a day or a version: `nightly-YYYY-MM-DD`, `beta-YYYY-MM-DD`, `1.95.0`; or `tree`, `prefix`, `debian`",
        )
    })?;
    if let Some(old) = old.filter(|old| old.channel == channel) {
        return Ok(Some(old.clone()));
    }
    tools.step(format!("pinning Rust {channel}"));
    let components = components(&fetch(tools, &url, None)?, &channel)?;
    let source = keep(tools, "rust-src", &components["rust-src"])?;
    let std = library_crates(&unpacked(tools, &source, 2)?, &channel)?;
    Ok(Some(Toolchain { channel, target: None, components, std }))
}

/// What the standard library in an unpacked toolchain is built from.
fn library_crates(toolchain: &Path, name: &str) -> Result<CargoLock, Failure> {
    let lock = toolchain.join("lib/rustlib/src/rust/library/Cargo.lock");
    let text = std::fs::read_to_string(&lock).map_err(|e| {
        Failure::failed(format!("the standard library of {name} has no Cargo.lock where it should be: {e}"))
            .hint("releases before 2024-08 keep it elsewhere; choose a later one")
    })?;
    let crates = cargo_lock::CargoLock::parse(&text)
        .map_err(|e| Failure::failed(format!("the Cargo.lock of {name}'s standard library: {e}")))?
        .crates;
    Ok(CargoLock { crates, ..CargoLock::default() })
}

/// The channel that the tree's own rust-toolchain.toml names.
fn channel_of(tree: &Path) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct File {
        toolchain: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        channel: String,
    }
    let file = tree.join("rust-toolchain.toml");
    let wrong = |e: &dyn std::fmt::Display| {
        Failure::usage(format!("`{}` names no toolchain: {e}", file.display()))
            .hint("name the release itself, e.g. `--toolchain nightly-2025-10-03`")
    };
    let text = std::fs::read_to_string(&file).map_err(|e| wrong(&e))?;
    toml::from_str::<File>(&text).map(|file| file.toolchain.channel).map_err(|e| wrong(&e))
}

/// Where the list of a release lies; none for a channel whose contents change.
fn manifest_url(channel: &str) -> Option<String> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if let Some((kind @ ("nightly" | "beta"), day)) = channel.split_once('-') {
        let parts: Vec<&str> = day.split('-').collect();
        let fits = parts.iter().map(|p| p.len()).eq([4, 2, 2]) && parts.iter().all(|p| is_number(p));
        return fits.then(|| format!("{SERVER}/{day}/channel-rust-{kind}.toml"));
    }
    let parts: Vec<&str> = channel.split('.').collect();
    (parts.len() == 3 && parts.iter().all(|p| is_number(p)))
        .then(|| format!("{SERVER}/channel-rust-{channel}.toml"))
}

fn components(manifest: &str, channel: &str) -> Result<BTreeMap<String, Component>, Failure> {
    let wrong = |what: String| Failure::failed(format!("the list of Rust {channel} {what}"));
    let manifest: Manifest =
        toml::from_str(manifest).map_err(|e| wrong(format!("cannot be read: {}", e.message())))?;
    if manifest.version != "2" {
        return Err(wrong(format!("has version {}; this rednix knows 2", manifest.version)));
    }
    COMPONENTS
        .into_iter()
        .map(|(name, target)| {
            let archive = manifest.pkg.get(name).and_then(|package| package.target.get(target));
            match archive {
                Some(Archive { available: true, xz_url: Some(url), xz_hash: Some(sha256) }) => {
                    Ok((name.to_owned(), Component { url: url.clone(), sha256: sha256.clone() }))
                }
                _ => Err(wrong(format!("has no `{name}` for {target}"))
                    .hint("some days have no whole release; choose another")),
            }
        })
        .collect()
}

fn fetch(tools: &Tools, url: &str, hash: Option<Hash>) -> Result<String, Failure> {
    let request = FetchRequest {
        urls: vec![url.to_owned()],
        file_name: "manifest.toml".to_owned(),
        hash,
        size_bytes: None,
    };
    let file = tools.fetcher.fetch(&request, &tools.folder()?, &tools.events)?.path;
    std::fs::read_to_string(&file)
        .map_err(|e| Failure::failed(format!("cannot read what came from {url}: {e}")))
}

/// An archive under the name its derivation has.
fn keep(tools: &Tools, name: &str, component: &Component) -> Result<std::path::PathBuf, Failure> {
    let store_name = format!("{name}.tar.xz");
    if let Some(file) = tools.kept(ContentMethod::Flat, &component.sha256, &store_name) {
        return Ok(file);
    }
    let request = FetchRequest {
        urls: vec![component.url.clone()],
        file_name: store_name.clone(),
        hash: Some(Hash::parse_any(&component.sha256, Some(HashAlgorithm::Sha256))?),
        size_bytes: None,
    };
    let file = tools.fetcher.fetch(&request, &tools.folder()?, &tools.events)?.path;
    tools.keep_file(&file, &store_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn releases_that_stay() {
        for (channel, url) in [
            ("nightly-2025-10-03", Some("/2025-10-03/channel-rust-nightly.toml")),
            ("beta-2025-10-03", Some("/2025-10-03/channel-rust-beta.toml")),
            ("1.95.0", Some("/channel-rust-1.95.0.toml")),
            ("nightly", None),
            ("stable", None),
            ("nightly-2025-1-3", None),
            ("nightly-../..", None),
            ("1.95", None),
            ("", None),
        ] {
            assert_eq!(manifest_url(channel), url.map(|u| format!("{SERVER}{u}")), "{channel}");
        }
    }

    #[test]
    fn components_of_a_release() {
        let entry = |name: &str, target: &str, available: bool| {
            format!(
                "[pkg.{name}.target.\"{target}\"]\navailable = {available}\nxz_url = \"u/{name}\"\nxz_hash = \"h\"\n"
            )
        };
        let list = |available| -> String {
            let entries =
                COMPONENTS.iter().map(|(name, target)| entry(name, target, available || *name != "rustc"));
            "manifest-version = \"2\"\n".to_owned() + &entries.collect::<String>()
        };
        let found = components(&list(true), "x").expect("all are there");
        assert_eq!(found.len(), 4);
        assert_eq!(found["rustc"], Component { url: "u/rustc".to_owned(), sha256: "h".to_owned() });
        assert!(components(&list(false), "x").expect_err("rustc is missing").message.contains("rustc"));
        assert!(
            components("manifest-version = \"3\"\n[pkg]", "x")
                .expect_err("it is newer")
                .message
                .contains('3')
        );
    }

    proptest! {
        #[test]
        fn any_text(text in "\\PC{0,200}") {
            let _ = components(&text, "x");
            let _ = manifest_url(&text);
        }
    }
}
