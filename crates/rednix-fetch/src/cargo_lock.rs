//! Cargo.lock files: what they name, and how they look after a git dependency of theirs was replaced by another
//! version of itself.
//!
//! Cargo does the resolving; here is only what surrounds it. Which replacement is wanted is the caller's business.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::error::FetchError;
use crate::fetcher::Fetcher;
use crate::process;

/// A package that a Cargo.lock takes from git.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GitPackage {
    pub name: String,
    pub version: String,
    /// As the lock has it: `git+URL[?branch=…]#REV`.
    pub source: String,
}

/// What a Cargo.lock names besides the workspace's own packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CargoLock {
    /// Name, version, SHA-256 of every registry crate.
    pub crates: Vec<(String, String, String)>,
    pub git: Vec<GitPackage>,
}

impl CargoLock {
    /// Reads a lock of any version.
    pub fn parse(text: &str) -> Result<CargoLock, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
        let mut lock = CargoLock::default();
        // The first format kept the checksums apart.
        let metadata = table.get("metadata").and_then(|m| m.as_table());
        for package in table.get("package").and_then(|p| p.as_array()).into_iter().flatten() {
            let text = |key: &str| package.get(key).and_then(|v| v.as_str()).map(str::to_owned);
            let (Some(name), Some(version), Some(source)) = (text("name"), text("version"), text("source"))
            else {
                continue;
            };
            if source.starts_with("git+") {
                lock.git.push(GitPackage { name, version, source });
                continue;
            }
            let old = format!("checksum {name} {version} ({source})");
            let checksum = text("checksum").or_else(|| metadata?.get(&old)?.as_str().map(str::to_owned));
            if let Some(checksum) = checksum {
                lock.crates.push((name, version, checksum));
            }
        }
        Ok(lock)
    }
}

/// A lock's git source line, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSource<'s> {
    pub url: &'s str,
    /// `branch`, `tag` or `rev`, and its value.
    pub reference: Option<(&'s str, &'s str)>,
    pub rev: &'s str,
    /// What cargo's configuration calls it.
    pub table: &'s str,
}

impl<'s> GitSource<'s> {
    pub fn parse(line: &'s str) -> Option<GitSource<'s>> {
        let (table, rev) = line.strip_prefix("git+")?.split_once('#')?;
        let (url, query) = table.split_once('?').map_or((table, None), |(url, query)| (url, Some(query)));
        let reference = match query {
            None => None,
            Some(query) => {
                Some(query.split_once('=').filter(|(kind, _)| matches!(*kind, "branch" | "tag" | "rev"))?)
            }
        };
        (!url.is_empty() && !rev.is_empty()).then_some(GitSource { url, reference, rev, table })
    }

    /// The repository's own name, for folders.
    pub fn repository(&self) -> &'s str {
        let url = self.url.trim_end_matches('/');
        let name = url.strip_suffix(".git").unwrap_or(url).rsplit(['/', ':']).next().unwrap_or_default();
        if name.is_empty() { "git" } else { name }
    }
}

/// A git package as it is to be used: where its tree lies.
#[derive(Clone, Debug)]
pub struct Placed {
    pub package: GitPackage,
    /// The version of what lies there.
    pub version: String,
    pub tree: PathBuf,
    /// Folder of the package inside the tree.
    pub folder: String,
}

/// Lets cargo resolve what a replaced package asks for. `root` is a writable copy of the source, `lock` the lock's
/// path in it, `placed` every git package of that lock. Gives the lock's new text; everything that need not change
/// stays as it was.
pub fn resolve_again(
    fetcher: &Fetcher,
    root: &Path,
    lock: &Path,
    placed: &[Placed],
    scratch: &Path,
) -> Result<String, FetchError> {
    let failed = |reason: String| FetchError::Resolution { lock: lock.display().to_string(), reason };
    let file = root.join(lock);
    let manifest = file.with_file_name("Cargo.toml");
    let text = fs::read_to_string(&file).map_err(|error| FetchError::io("read", &file, error))?;
    let write =
        |path: &Path, text: &str| fs::write(path, text).map_err(|error| FetchError::io("write", path, error));
    write(&file, &with_versions(&text, placed))?;
    let vendor = scratch.join("vendor");
    let git: Vec<serde_json::Value> = placed
        .iter()
        .map(|p| {
            json!({ "name": p.package.name, "version": p.version, "src": p.tree, "subdirectory": p.folder })
        })
        .collect();
    crate::vendor(&json!({ "formatVersion": 1, "git": git }), &vendor)
        .map_err(|error| failed(error.to_string()))?;
    let config = scratch.join("cargo.toml");
    let sources: BTreeSet<&str> = placed.iter().map(|p| p.package.source.as_str()).collect();
    write(&config, &source_tables(&sources, &vendor))?;

    let mut command = cargo(fetcher, scratch);
    command.args(["update", "--workspace", "--config"]).arg(&config).arg("--manifest-path").arg(&manifest);
    finish(fetcher, command, lock)?;
    fs::read_to_string(&file).map_err(|error| FetchError::io("read", &file, error))
}

/// Lets cargo write the lock of a source that has none. `root` is a writable copy of the source; git dependencies come
/// through the mirrors that hold for everything else.
pub fn generate(fetcher: &Fetcher, root: &Path, scratch: &Path) -> Result<String, FetchError> {
    let mut command = cargo(fetcher, scratch);
    command.arg("generate-lockfile").arg("--manifest-path").arg(root.join("Cargo.toml"));
    command.env("CARGO_NET_GIT_FETCH_WITH_CLI", "true");
    for (index, (from, to)) in fetcher.config.mirrors.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{index}"), format!("url.{to}.insteadOf"));
        command.env(format!("GIT_CONFIG_VALUE_{index}"), from);
    }
    command.env("GIT_CONFIG_COUNT", fetcher.config.mirrors.len().to_string());
    finish(fetcher, command, Path::new("Cargo.lock"))?;
    let file = root.join("Cargo.lock");
    fs::read_to_string(&file).map_err(|error| FetchError::io("read", &file, error))
}

/// Cargo in a neutral folder: neither the source's own configuration nor its pinned toolchain may have a say.
fn cargo(fetcher: &Fetcher, scratch: &Path) -> Command {
    let mut command = Command::new(&fetcher.config.cargo);
    command.current_dir(scratch).env("CARGO_TERM_COLOR", "never").env("RUSTC_BOOTSTRAP", "1");
    command.env_remove("CARGO_BUILD_TARGET").env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    if let Some(home) = &fetcher.config.cargo_home {
        command.env("CARGO_HOME", home);
    }
    command
}

fn finish(fetcher: &Fetcher, mut command: Command, lock: &Path) -> Result<(), FetchError> {
    if fetcher.config.offline {
        command.arg("--offline");
    }
    let finished = process::run(&fetcher.config, command)?;
    if finished.is_success {
        return Ok(());
    }
    Err(FetchError::Resolution { lock: lock.display().to_string(), reason: finished.last_words() })
}

/// Cargo's configuration that takes the given git sources from a folder.
fn source_tables(sources: &BTreeSet<&str>, folder: &Path) -> String {
    let mut tables = toml::Table::new();
    for source in sources.iter().filter_map(|line| GitSource::parse(line)) {
        let mut table = toml::Table::new();
        table.insert("git".to_owned(), source.url.into());
        if let Some((kind, value)) = source.reference {
            table.insert(kind.to_owned(), value.into());
        }
        table.insert("replace-with".to_owned(), "rednix-git".into());
        tables.insert(source.table.to_owned(), table.into());
    }
    let mut directory = toml::Table::new();
    directory.insert("directory".to_owned(), folder.display().to_string().into());
    tables.insert("rednix-git".to_owned(), directory.into());
    toml::Table::from_iter([("source".to_owned(), toml::Value::from(tables))]).to_string()
}

/// The lock with the versions that are there now: cargo would otherwise look for the old ones in the folder.
fn with_versions(text: &str, placed: &[Placed]) -> String {
    let mut changes: BTreeMap<(&str, &str, &str), &str> = BTreeMap::new();
    for p in placed.iter().filter(|p| p.version != p.package.version) {
        changes.insert((&p.package.name, &p.package.version, &p.package.source), &p.version);
    }
    if changes.is_empty() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for (number, block) in text.split("[[package]]").enumerate() {
        if number > 0 {
            out.push_str("[[package]]");
        }
        let own = |key: &str| {
            let start = format!("\n{key} = \"");
            block.split_once(&start).and_then(|(_, rest)| rest.split('"').next())
        };
        let (name, version, source) = (own("name"), own("version"), own("source"));
        let mut block = block.to_owned();
        if let (Some(name), Some(version), Some(source)) = (name, version, source)
            && let Some(new) = changes.get(&(name, version, source))
        {
            block =
                block.replacen(&format!("\nversion = \"{version}\""), &format!("\nversion = \"{new}\""), 1);
        }
        for ((name, version, source), new) in &changes {
            let base = source.split('#').next().unwrap_or_default();
            for ending in [format!(" ({base})\""), format!(" ({source})\""), "\"".to_owned()] {
                block = block
                    .replace(&format!(" \"{name} {version}{ending}"), &format!(" \"{name} {new}{ending}"));
            }
        }
        out.push_str(&block);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"own\"\nversion = \"1.0.0\"\ndependencies = [\n \"a\",\n \"g 3.0.0 (git+https://h.test/u.git)\",\n]\n\n\
        [[package]]\nname = \"a\"\nversion = \"2.0.0\"\nsource = \"registry+x\"\nchecksum = \"aa\"\n\n\
        [[package]]\nname = \"g\"\nversion = \"3.0.0\"\nsource = \"git+https://h.test/u.git#r\"\n";

    #[test]
    fn packages_of_a_lock() {
        let lock = CargoLock::parse(LOCK).unwrap();
        assert_eq!(lock.crates, [("a".to_owned(), "2.0.0".to_owned(), "aa".to_owned())]);
        assert_eq!(
            (lock.git[0].name.as_str(), lock.git[0].source.as_str()),
            ("g", "git+https://h.test/u.git#r")
        );
        let old = "[[package]]\nname = \"a\"\nversion = \"2.0.0\"\nsource = \"registry+x\"\n\n[metadata]\n\"checksum a 2.0.0 (registry+x)\" = \"bb\"\n";
        assert_eq!(CargoLock::parse(old).unwrap().crates[0].2, "bb");
        assert!(CargoLock::parse("[").is_err());
    }

    #[test]
    fn git_source_lines() {
        let source = GitSource::parse("git+https://h.test/a/b.git?branch=x/y#abc").unwrap();
        assert_eq!((source.url, source.rev), ("https://h.test/a/b.git", "abc"));
        assert_eq!(
            (source.reference, source.table),
            (Some(("branch", "x/y")), "https://h.test/a/b.git?branch=x/y")
        );
        assert_eq!(source.repository(), "b");
        for line in ["", "registry+x", "git+https://h.test/a", "git+u?x=y#z", "git+#r"] {
            assert!(GitSource::parse(line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_replaced_version_is_put_everywhere() {
        let package = CargoLock::parse(LOCK).unwrap().git.remove(0);
        let placed = Placed { package, version: "3.1.0".into(), tree: PathBuf::new(), folder: String::new() };
        let text = with_versions(LOCK, std::slice::from_ref(&placed));
        assert_eq!(text, LOCK.replace("3.0.0", "3.1.0"));
        let tables = source_tables(&BTreeSet::from([placed.package.source.as_str()]), Path::new("/v"));
        let tables: toml::Table = tables.parse().unwrap();
        assert_eq!(tables["source"]["https://h.test/u.git"]["replace-with"].as_str(), Some("rednix-git"));
    }

    proptest! {
        #[test]
        fn any_text(text in "(\\[\\[package\\]\\]\n(name|version|source|checksum) = \"[ -~]{0,9}\"\n){0,3}[ -~\n]{0,60}") {
            if let Ok(lock) = CargoLock::parse(&text) {
                for package in &lock.git {
                    let _ = GitSource::parse(&package.source).map(|source| source.repository().len());
                }
            }
            prop_assert_eq!(with_versions(&text, &[]), text);
        }
    }
}
