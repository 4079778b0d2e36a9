//! Overrides: what the user wants in place of something that would be fetched. Reads their written forms, finds
//! the one that holds for an address, and puts the replacement's tree where the original would have gone.
//!
//! Decides nothing about locks; whether a replacement is still the one that was locked is the caller's check.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rednix_events::Events;
use rednix_store::handle::{Dir, Kind};
use rednix_store::hash::{Hash, HashAlgorithm, Hasher};

use crate::archive::tar::{Strip, unpack_file};
use crate::archive::writer::TreeWriter;
use crate::error::FetchError;
use crate::fetcher::{FetchRequest, Fetcher};
use crate::git::GitRequest;
use crate::source::{is_crate_name, is_crate_version};

/// What a lock writes in place of a revision where only this machine's configuration knows the folder.
pub const LOCAL: &str = "override";

/// What is used in place of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// A folder, or an archive, of this machine.
    Path(PathBuf),
    /// Crates (name, version) of cargo's registry. One is the tree itself, several are a folder each.
    Crates(Vec<(String, String)>),
    /// Another revision, branch or tag, perhaps of another repository.
    Git { url: Option<String>, reference: String },
}

impl Replacement {
    /// Reads the form of the command line: `crate:NAME/VERSION[,NAME/VERSION…]`, `git+URL#REF`, `rev:REF`, else a path.
    pub fn parse(text: &str) -> Result<Replacement, String> {
        if let Some(list) = text.strip_prefix("crate:") {
            let crates =
                list.split(',').map(|item| item.split_once('/').ok_or("a crate is written NAME/VERSION"));
            let crates: Result<Vec<_>, _> =
                crates.map(|pair| pair.map(|(n, v)| (n.to_owned(), v.to_owned()))).collect();
            return Replacement::crates(crates?);
        }
        if let Some(reference) = text.strip_prefix("rev:") {
            return Replacement::git(None, reference);
        }
        if let Some(rest) = text.strip_prefix("git+") {
            let (url, reference) = rest.rsplit_once('#').unwrap_or((rest, "HEAD"));
            return Replacement::git(Some(url.to_owned()), reference);
        }
        match text {
            "" => Err("it is empty".to_owned()),
            _ if text.contains("://") => {
                Err("to fetch from another address use a mirror, or write git+URL#REV".to_owned())
            }
            path => Ok(Replacement::Path(PathBuf::from(path))),
        }
    }

    /// Crates of the registry, checked.
    pub fn crates(crates: Vec<(String, String)>) -> Result<Replacement, String> {
        for (name, version) in &crates {
            if !is_crate_name(name) || !is_crate_version(version) {
                return Err(format!("`{name}` `{version}` is no crate's name and full version"));
            }
        }
        if crates.is_empty() {
            return Err("no crate is named".to_owned());
        }
        Ok(Replacement::Crates(crates))
    }

    /// A revision, branch or tag, checked.
    pub fn git(url: Option<String>, reference: &str) -> Result<Replacement, String> {
        let is_plain = |text: &str| {
            !text.is_empty() && !text.starts_with('-') && !text.contains(|c: char| c.is_control() || c == ' ')
        };
        if !is_plain(reference) || !url.as_deref().is_none_or(is_plain) {
            return Err("its address or revision is not one git can be given safely".to_owned());
        }
        Ok(Replacement::Git { url, reference: reference.to_owned() })
    }

    /// Reads what [`Replacement::pinned`] wrote. A path there is none of this machine's.
    pub fn parse_pinned(text: &str) -> Option<Replacement> {
        Replacement::parse(text).ok().filter(|replacement| !matches!(replacement, Replacement::Path(_)))
    }

    /// What a lock has in place of a revision, so that the same tree can be made again from the lock alone. A path is
    /// this machine's business and is not written down.
    pub fn pinned(&self) -> String {
        match self {
            Replacement::Path(_) => LOCAL.to_owned(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Replacement::Path(path) => path.display().fmt(f),
            Replacement::Crates(crates) => {
                let list: Vec<String> =
                    crates.iter().map(|(name, version)| format!("{name}/{version}")).collect();
                write!(f, "crate:{}", list.join(","))
            }
            Replacement::Git { url: Some(url), reference } => write!(f, "git+{url}#{reference}"),
            Replacement::Git { url: None, reference } => write!(f, "rev:{reference}"),
        }
    }
}

/// Whether an override's key is an address; else it is a recipe's name.
pub fn is_address(key: &str) -> bool {
    key.contains("://") || key.starts_with("git@")
}

/// An address as it is compared: without a trailing slash, `.git`, and capitals in scheme and host.
pub fn normalise(url: &str) -> String {
    let mut rest = url.trim();
    loop {
        let cut = rest.trim_end().trim_end_matches('/');
        let cut = cut.strip_suffix(".git").unwrap_or(cut);
        if cut.len() == rest.len() {
            break;
        }
        rest = cut;
    }
    match rest.split_once("://") {
        Some((scheme, after)) => {
            let (host, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            format!("{}://{}{path}", scheme.to_ascii_lowercase(), host.to_ascii_lowercase())
        }
        None => rest.to_owned(),
    }
}

/// All overrides, by recipe name or normalised address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<String, Replacement>);

impl Overrides {
    /// Notes one; a later one for the same key counts.
    pub fn insert(&mut self, key: &str, replacement: Replacement) {
        let key = if is_address(key) { normalise(key) } else { key.to_owned() };
        self.0.insert(key, replacement);
    }

    /// The override of an address.
    pub fn of_url(&self, url: &str) -> Option<&Replacement> {
        if self.0.is_empty() { None } else { self.0.get(&normalise(url)) }
    }

    /// The override of a recipe's source.
    pub fn of_recipe(&self, name: &str) -> Option<&Replacement> {
        self.0.get(name)
    }

    /// The override by its key as a lock has it.
    pub fn get(&self, key: &str) -> Option<&Replacement> {
        self.0.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Replacement)> {
        self.0.iter().map(|(key, replacement)| (key.as_str(), replacement))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Fetcher {
    /// Writes the tree of a replacement to `output`, which must not exist. `url` is what is replaced.
    pub fn fetch_replacement(
        &self,
        url: &str,
        replacement: &Replacement,
        output: &Path,
        events: &Events,
    ) -> Result<(), FetchError> {
        let failed = |reason: String| FetchError::Override { url: url.to_owned(), reason };
        match replacement {
            Replacement::Path(path) => copy_path(path, output).map_err(failed),
            Replacement::Crates(crates) => {
                self.unpack_crates(crates, output, events).map_err(|error| match error {
                    FetchError::Override { reason, .. } => failed(reason),
                    other => other,
                })
            }
            Replacement::Git { url: other, reference } => {
                let url = other.as_deref().unwrap_or(url).to_owned();
                let rev = self.resolve_ref(&url, reference, None)?;
                let request = GitRequest { url, rev, submodules: true, overrides: BTreeMap::new() };
                self.fetch_git(&request, output, events).map(drop)
            }
        }
    }

    fn unpack_crates(
        &self,
        crates: &[(String, String)],
        output: &Path,
        events: &Events,
    ) -> Result<(), FetchError> {
        crate::fetcher::make_folder(&self.config.cache_dir)?;
        let scratch = tempfile::Builder::new().prefix("override-").tempdir_in(&self.config.cache_dir);
        let scratch =
            scratch.map_err(|error| FetchError::io("create a folder in", &self.config.cache_dir, error))?;
        let requests: Vec<FetchRequest> = crates
            .iter()
            .map(|(name, version)| FetchRequest {
                urls: vec![format!("crate:{name}/{version}")],
                file_name: format!("{name}-{version}.crate"),
                hash: None,
                size_bytes: None,
            })
            .collect();
        if crates.len() > 1 {
            fs::create_dir(output).map_err(|error| FetchError::io("create", output, error))?;
        }
        for ((name, version), fetched) in
            crates.iter().zip(self.fetch_batch(&requests, scratch.path(), events))
        {
            let file = fetched?.path;
            let folder = if crates.len() > 1 {
                output.join(format!("{name}-{version}"))
            } else {
                output.to_path_buf()
            };
            TreeWriter::create(&folder)
                .and_then(|mut writer| unpack_file(&file, &mut writer, &Strip(1)))
                .map_err(|error| FetchError::Override { url: String::new(), reason: error.to_string() })?;
            if crates.len() > 1 {
                join_crate(&folder.join("Cargo.toml"), crates)?;
            }
        }
        Ok(())
    }
}

/// Crates of one repository mean each other, as they did in it, and not the registry's of the same names: cargo would
/// take those for other crates.
fn join_crate(manifest: &Path, crates: &[(String, String)]) -> Result<(), FetchError> {
    let text = fs::read_to_string(manifest).map_err(|error| FetchError::io("read", manifest, error))?;
    let joined = joined(&text, crates).map_err(|error| FetchError::Override {
        url: String::new(),
        reason: format!("`{}` cannot be read: {}", manifest.display(), error.message()),
    })?;
    match joined {
        Some(text) => fs::write(manifest, text).map_err(|error| FetchError::io("write", manifest, error)),
        None => Ok(()),
    }
}

/// A manifest whose dependencies on these crates lead to the folders beside its own; none where it has no such.
fn joined(manifest: &str, crates: &[(String, String)]) -> Result<Option<String>, toml::de::Error> {
    let mut manifest: toml::Table = manifest.parse()?;
    let mut changed = join_tables(&mut manifest, crates);
    for target in manifest.get_mut("target").and_then(|t| t.as_table_mut()).into_iter().flatten() {
        changed |= target.1.as_table_mut().is_some_and(|table| join_tables(table, crates));
    }
    Ok(changed.then(|| manifest.to_string()))
}

fn join_tables(table: &mut toml::Table, crates: &[(String, String)]) -> bool {
    let mut changed = false;
    for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
        for (name, value) in table.get_mut(kind).and_then(|t| t.as_table_mut()).into_iter().flatten() {
            let package = value.get("package").and_then(|p| p.as_str()).unwrap_or(name);
            let Some((name, version)) = crates.iter().find(|(wanted, _)| wanted == package) else { continue };
            let path = toml::Value::String(format!("../{name}-{version}"));
            match value {
                toml::Value::Table(value) => drop(value.insert("path".to_owned(), path)),
                _ => *value = toml::Value::Table([("path".to_owned(), path)].into_iter().collect()),
            }
            changed = true;
        }
    }
    changed
}

/// A folder without what git and cargo keep in it, or what an archive holds.
fn copy_path(path: &Path, output: &Path) -> Result<(), String> {
    // A link to a folder is as good as the folder.
    let path =
        &fs::canonicalize(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let metadata =
        fs::metadata(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let copied = TreeWriter::create(output).and_then(|mut writer| {
        if !metadata.is_dir() {
            return unpack_file(path, &mut writer, &Strip(1));
        }
        let from = Dir::open(path)?;
        writer
            .copy_tree(&from, Path::new(""), &mut |visit| {
                let below = path.join(visit.relative);
                Ok(is_left_out(&below, visit.entry.kind))
            })
            .map_err(Into::into)
    });
    copied.map_err(|error| error.to_string())
}

/// What git and cargo keep in a folder is no part of a source.
fn is_left_out(path: &Path, kind: Kind) -> bool {
    let name = path.file_name().unwrap_or_default();
    name == ".git" || (kind == Kind::Directory && name == "target" && path.join("CACHEDIR.TAG").exists())
}

/// The hash by which a lock knows a folder (of its NAR) or a file (of its bytes), without copying it.
pub fn hash_local(path: &Path) -> Result<Hash, FetchError> {
    let path = &fs::canonicalize(path).map_err(|error| FetchError::io("read", path, error))?;
    if path.is_file() {
        return crate::fetcher::hash_file(path, HashAlgorithm::Sha256).map(|(hash, _)| hash);
    }
    let mut hasher = HashSink(Hasher::new(HashAlgorithm::Sha256));
    rednix_store::nar::dump_accepted(
        path,
        &mut |relative, kind| Ok(!is_left_out(&path.join(relative), kind)),
        &mut hasher,
    )
    .map_err(|error| FetchError::Override { url: path.display().to_string(), reason: error.to_string() })?;
    Ok(hasher.0.finish())
}

struct HashSink(Hasher);

impl std::io::Write for HashSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn written_forms() {
        let crates = |list: &[(&str, &str)]| {
            Ok(Replacement::Crates(list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()))
        };
        let git = |url: Option<&str>, reference: &str| {
            Ok(Replacement::Git { url: url.map(str::to_owned), reference: reference.to_owned() })
        };
        let cases = [
            ("/folder", Ok(Replacement::Path("/folder".into()))),
            ("some/file.tar.xz", Ok(Replacement::Path("some/file.tar.xz".into()))),
            ("crate:a/1.0.0", crates(&[("a", "1.0.0")])),
            ("crate:a/1.0.0,b-c/0.2.0-x+y", crates(&[("a", "1.0.0"), ("b-c", "0.2.0-x+y")])),
            ("rev:v1", git(None, "v1")),
            ("git+https://h.test/x.git#abc", git(Some("https://h.test/x.git"), "abc")),
            ("git+https://h.test/x", git(Some("https://h.test/x"), "HEAD")),
        ];
        for (text, expected) in cases {
            assert_eq!(Replacement::parse(text), expected, "{text}");
        }
        for text in [
            "",
            "crate:",
            "crate:a",
            "crate:../b/1.0",
            "crate:a/x",
            "rev:",
            "rev:-x",
            "git+#x",
            "https://h.test/x",
        ] {
            assert!(Replacement::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn crates_of_one_repository_mean_each_other() {
        let crates = [("one".to_owned(), "1.0.0".to_owned()), ("two".to_owned(), "2.1.0".to_owned())];
        let manifest = "[dependencies]\none = \"1\"\nother = \"3\"\n\
            [target.'cfg(unix)'.dependencies.renamed]\nversion = \"2\"\npackage = \"two\"\nfeatures = [\"x\"]\n";
        let text = joined(manifest, &crates).expect("it is a manifest").expect("it changes");
        let table: toml::Table = text.parse().expect("it is a manifest still");
        assert_eq!(table["dependencies"]["one"]["path"].as_str(), Some("../one-1.0.0"));
        assert_eq!(table["dependencies"]["other"].as_str(), Some("3"));
        let renamed = &table["target"]["cfg(unix)"]["dependencies"]["renamed"];
        assert_eq!(renamed["path"].as_str(), Some("../two-2.1.0"));
        assert_eq!(renamed["features"][0].as_str(), Some("x"));
        assert_eq!(joined("[dependencies]\nother = \"3\"\n", &crates), Ok(None));
    }

    #[test]
    fn addresses_are_compared_without_their_ending() {
        let mut overrides = Overrides::default();
        overrides.insert("https://Host.test/a/b.git/", Replacement::Path("/one".into()));
        overrides.insert("recipe", Replacement::Path("/two".into()));
        for url in ["https://host.test/a/b", "https://host.test/a/b/", "HTTPS://host.test/a/b.git"] {
            assert!(overrides.of_url(url).is_some(), "{url}");
        }
        for url in ["https://host.test/A/b", "https://host.test/a/b.gitx", "https://host.test/a"] {
            assert!(overrides.of_url(url).is_none(), "{url}");
        }
        assert!(overrides.of_recipe("recipe").is_some());
    }

    #[test]
    fn folders_are_copied_without_what_tools_keep_in_them() {
        let scratch = tempfile::tempdir().unwrap();
        let from = scratch.path().join("from");
        for (path, text) in
            [("a", "a"), (".git/HEAD", "x"), ("target/CACHEDIR.TAG", ""), ("src/target/b", "b")]
        {
            fs::create_dir_all(from.join(path).parent().unwrap()).unwrap();
            fs::write(from.join(path), text).unwrap();
        }
        let output = scratch.path().join("to");
        copy_path(&from, &output).unwrap();
        assert!(output.join("a").is_file() && output.join("src/target/b").is_file());
        assert!(!output.join(".git").exists() && !output.join("target").exists());
        let copy = rednix_store::nar::hash_path(&output, HashAlgorithm::Sha256).unwrap().0;
        assert_eq!(hash_local(&from).unwrap(), copy);
        assert!(copy_path(&scratch.path().join("absent"), &scratch.path().join("x")).is_err());
    }

    proptest! {
        /// What is written can be read again, and nothing makes the readers panic.
        #[test]
        fn forms_round_trip(text in "(crate:|rev:|git\\+|)?[ -~]{0,24}") {
            if let Ok(replacement) = Replacement::parse(&text) {
                prop_assert_eq!(Replacement::parse(&replacement.to_string()), Ok(replacement));
            }
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }
    }
}
