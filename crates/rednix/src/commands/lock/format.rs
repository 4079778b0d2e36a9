//! The lock file of a recipe tree: its shape, reading and writing. Decides nothing about pins.
//!
//! JSON. `sources.<recipe>` pins a source; `cargoGit.<source line>` a git dependency of some Cargo.lock;
//! `overrides.<recipe or address>` says what was put in something's place and its hash; `tree` pins the tree itself,
//! `toolchain` a Rust release in place of Debian's.
//! A revision is a commit id, or where an override holds: `override` for a folder or file of the machine that
//! locked, `crate:NAME/VERSION` for crates of the registry.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The version of the lock's format. 2 added overrides, the tree, submodules and changed Cargo.lock files.
pub const VERSION: u32 = 2;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lock {
    pub version: u32,
    /// Branches were taken as they were at the end of this day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<TreePin>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toolchain: Option<Toolchain>,
    pub sources: BTreeMap<String, Pin>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cargo_git: BTreeMap<String, CargoGit>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, Overridden>,
}

/// The recipe tree, where it was given as an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TreePin {
    pub url: String,
    /// What was asked for after `#`, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    pub rev: String,
    pub nar_hash: String,
}

/// A toolchain of upstream's in place of Debian's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Toolchain {
    /// As rustup names it, with its day or version; `prefix` for the tree's own compilers.
    pub channel: String,
    /// The target that the tree's own compilers build for. A release of Rust serves all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Component name → its archive.
    pub components: BTreeMap<String, Component>,
    /// What the standard library itself is built from.
    pub std: CargoLock,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    pub url: String,
    pub sha256: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    #[serde(flatten)]
    pub source: Source,
    /// Submodules by normalised address: commit id, or what an override put in their place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub submodules: BTreeMap<String, String>,
    /// Hash over the recipe's patches, where they change what cargo reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patches: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cargo: BTreeMap<String, CargoLock>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rust_targets: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Source {
    Git {
        url: String,
        /// The branch, tag or short revision that was asked for; none for the repository's default branch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
        rev: String,
        nar_hash: String,
        /// Key of the override that holds in place of what the recipe says.
        #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
        overridden: Option<String>,
    },
    Tar {
        url: String,
        sha256: String,
        #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
        overridden: Option<String>,
    },
    /// Nothing of the source itself is pinned: it is a folder here.
    Path,
}

impl Source {
    /// What stands for the source in the output of `update`.
    pub fn shown(&self) -> &str {
        match self {
            Source::Git { rev, .. } => rev,
            Source::Tar { sha256, .. } => sha256,
            Source::Path => "a folder",
        }
    }

    pub fn url(&self) -> Option<&str> {
        match self {
            Source::Git { url, .. } | Source::Tar { url, .. } => Some(url),
            Source::Path => None,
        }
    }

    /// Whether a folder of the user's stands for it, which patches are not for.
    pub fn is_folder(&self) -> bool {
        matches!(self, Source::Git { rev, .. } if rev == rednix_fetch::overrides::LOCAL)
    }

    /// Key of the override it was made with.
    pub fn overridden(&self) -> Option<&str> {
        match self {
            Source::Git { overridden, .. } | Source::Tar { overridden, .. } => overridden.as_deref(),
            Source::Path => None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CargoLock {
    pub crates: Vec<(String, String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub git: Vec<GitPackage>,
    /// How the source's own file is changed before it is used, as a patch: an override wanted other versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GitPackage {
    pub name: String,
    pub version: String,
    pub source: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CargoGit {
    pub nar_hash: String,
    /// Where it is not what the source line says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub submodules: BTreeMap<String, String>,
    /// `<name>-<version>` → the package's folder in the tree.
    pub packages: BTreeMap<String, String>,
}

/// An override that took part in making the lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overridden {
    /// `folder`, `file`, `crate:NAME/VERSION`, or `git+URL#REV`.
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nar_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Reads a lock; one that is not there is empty.
pub fn read(file: &Path) -> Result<Lock, Failure> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Lock { version: VERSION, ..Lock::default() });
        }
        Err(e) => return Err(Failure::usage(format!("cannot read `{}`: {e}", file.display()))),
    };
    parse(&text).map_err(|(reason, hint)| {
        Failure::usage(format!("the lock `{}` is wrong: {reason}", file.display())).hint(hint)
    })
}

fn parse(text: &str) -> Result<Lock, (String, &'static str)> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let again = "delete it and lock again";
    // The version first: a newer format may have another shape.
    let found: Versioned = serde_json::from_str(text).map_err(|e| (e.to_string(), again))?;
    if found.version > VERSION {
        let reason = format!("it has version {}; this rednix knows up to {VERSION}", found.version);
        return Err((reason, "use a newer rednix"));
    }
    let mut lock: Lock = serde_json::from_str(text).map_err(|e| (e.to_string(), again))?;
    lock.version = VERSION;
    Ok(lock)
}

/// The lock as text, lists of texts on one line each: a lock has hundreds of crates, and a change of one should show
/// as one.
pub fn show(lock: &Lock) -> String {
    compact(&serde_json::to_string_pretty(lock).expect("a lock holds nothing JSON cannot")) + "\n"
}

fn compact(pretty: &str) -> String {
    let mut out = String::with_capacity(pretty.len());
    let mut lines = pretty.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        if line.trim_start() == "[" {
            while let Some(item) = lines.next_if(|next| next.trim_start().starts_with('"')) {
                out.push_str(item.trim_start());
                if item.ends_with(',') {
                    out.push(' ');
                }
            }
            if let Some(end) = lines.next_if(|next| next.trim_start().starts_with(']')) {
                out.push_str(end.trim_start());
            }
        }
        out.push('\n');
    }
    out.pop();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_locks_are_the_same_data() {
        let lock = serde_json::json!({
            "sources": { "a": { "cargo": { "Cargo.lock": { "crates": [["x", "1.0", "00"], ["y", "2.0", "11"]], "git": [] } } } }
        });
        let text = compact(&serde_json::to_string_pretty(&lock).expect("it is JSON"));
        assert!(text.contains("[\"x\", \"1.0\", \"00\"],\n"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("it is still JSON"), lock);
    }

    #[test]
    fn locks_are_read_as_written() {
        let text = r#"{"version": 1, "sources": {
            "g": {"type": "git", "url": "u", "rev": "r", "narHash": "h", "cargo": {"Cargo.lock": {"crates": [["a", "1", "x"]]}}},
            "t": {"type": "tar", "url": "u", "sha256": "s"}}}"#;
        let mut lock = parse(text).expect("version 1 is known");
        assert_eq!(lock.sources["g"].source.shown(), "r");
        lock.overrides.insert(
            "https://h.test/x".to_owned(),
            Overridden { by: "folder".to_owned(), nar_hash: Some("h".to_owned()), sha256: None },
        );
        assert_eq!(parse(&show(&lock)).expect("it can be read again"), lock);
        assert!(
            parse(&text.replace("\"version\": 1", "\"version\": 99"))
                .expect_err("it is newer")
                .0
                .contains("99")
        );
        for wrong in ["", "[]", "{}", "{\"version\": 2}"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
