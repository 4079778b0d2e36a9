//! Git sources through the machine's git: one revision as a plain tree, and references resolved to revisions.
//!
//! The user's own git configuration (credentials, `insteadOf`, proxies) holds; what could run a program or change
//! file contents on the way does not. Nothing here trusts a name: trees are checked by hash afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rednix_events::{Activity, Event, Events};
use rednix_store::handle::Dir;
use rednix_store::hash::{Hash, HashAlgorithm};

use crate::config::FetchConfig;
use crate::error::FetchError;
use crate::fetcher::{Fetcher, make_folder};
use crate::limits;
use crate::overrides::{self, Replacement};
use crate::process::{self, Finished};
use crate::source;

/// Attributes of `builtin:rednix-fetch-git`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct GitRequest {
    pub url: String,
    /// A whole commit id; or what is there in place of one, as [`Replacement::pinned`] writes it.
    pub rev: String,
    #[serde(default)]
    pub submodules: bool,
    /// What the lock puts in place of submodules, by normalised address, as [`Replacement::pinned`] writes it.
    #[serde(default)]
    pub overrides: BTreeMap<String, String>,
}

/// A tree that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitTree {
    /// SHA-256 of the tree's NAR, as fixed outputs have it.
    pub hash: Hash,
    /// Committer's time, seconds since 1970; 0 where it is no commit.
    pub commit_time_s: i64,
    /// Submodules by normalised address: the commit, or what replaced it as [`Replacement::pinned`] writes it.
    pub submodules: BTreeMap<String, String>,
}

impl GitRequest {
    /// Reads and checks a derivation's attributes.
    pub fn from_attributes(attributes: &serde_json::Value) -> Result<GitRequest, FetchError> {
        let bad = |reason: String| FetchError::BadUrl {
            url: attributes["url"].as_str().unwrap_or("?").to_owned(),
            reason,
        };
        if attributes["formatVersion"].as_u64() != Some(1) {
            return Err(bad("builtin:rednix-fetch-git: formatVersion is not 1".to_owned()));
        }
        serde_json::from_value(attributes.clone())
            .map_err(|error| bad(format!("builtin:rednix-fetch-git: {error}")))
    }
}

/// Whether this is a whole commit id, SHA-1 or SHA-256.
pub fn is_rev(text: &str) -> bool {
    (text.len() == 40 || text.len() == 64)
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Fetcher {
    /// Writes the tree of a revision to `output`, which must not exist; there is no `.git` anywhere in it.
    pub fn fetch_git(
        &self,
        request: &GitRequest,
        output: &Path,
        events: &Events,
    ) -> Result<GitTree, FetchError> {
        let id = Activity::next();
        let started = Instant::now();
        let url = format!("{}?rev={}", request.url, request.rev);
        events.emit(Event::FetchStarted { id, url, size_bytes: None });
        let result = self.write_tree(request, output, events).and_then(|(commit_time_s, submodules)| {
            let (hash, size_bytes) = rednix_store::nar::hash_path(output, HashAlgorithm::Sha256)
                .map_err(|error| git_error(&request.url, "checkout", &error.to_string()))?;
            Ok((GitTree { hash, commit_time_s, submodules }, size_bytes))
        });
        match result {
            Ok((tree, size_bytes)) => {
                let duration_ms = started.elapsed().as_millis() as u64;
                events.emit(Event::FetchDone { id, size_bytes, duration_ms });
                Ok(tree)
            }
            Err(error) => {
                remove(output);
                events.emit(Event::FetchFailed { id, message: error.reason() });
                Err(error)
            }
        }
    }

    /// The commit's tree, or that of what is there in its place.
    fn write_tree(
        &self,
        request: &GitRequest,
        output: &Path,
        events: &Events,
    ) -> Result<(i64, BTreeMap<String, String>), FetchError> {
        let replacement = if is_rev(&request.rev) {
            None
        } else if request.rev == overrides::LOCAL {
            let overrides = &self.config.overrides;
            let named = match request.url.strip_prefix("recipe:") {
                Some(recipe) => overrides.of_recipe(recipe),
                None => overrides.of_url(&request.url),
            };
            Some(named.cloned().ok_or_else(|| FetchError::NoOverride { url: request.url.clone() })?)
        } else {
            let wrong =
                || git_error(&request.url, "fetch", &format!("`{}` is no whole commit id", request.rev));
            Some(Replacement::parse_pinned(&request.rev).ok_or_else(wrong)?)
        };
        if let Some(replacement) = replacement {
            self.fetch_replacement(&request.url, &replacement, output, events)?;
            return Ok((0, BTreeMap::new()));
        }
        let mut walked =
            Walked { overrides: &request.overrides, count: 0, submodules: BTreeMap::new(), events };
        let time = Checkout::new(self, &request.url)?.tree(request, output, 0, &mut walked)?;
        Ok((time, walked.submodules))
    }

    /// The commit a branch, tag, full reference name or `HEAD` stands for now; a commit id stands for itself, and a
    /// part of one for the commit that begins so.
    /// With `before` (a date git understands) the newest commit of its first-parent history that is not newer.
    pub fn resolve_ref(
        &self,
        url: &str,
        reference: &str,
        before: Option<&str>,
    ) -> Result<String, FetchError> {
        if is_rev(reference) {
            return Ok(reference.to_owned());
        }
        let checkout = Checkout::new(self, url)?;
        match before {
            None => {
                checkout.resolve(reference).or_else(|error| checkout.resolve_short(reference).ok_or(error))
            }
            Some(date) => checkout.resolve_before(reference, date),
        }
    }
}

fn remove(output: &Path) {
    if let (Some(parent), Some(name)) = (output.parent(), output.file_name())
        && let Ok(dir) = Dir::open(parent)
    {
        let _ = dir.remove_tree(name);
    }
}

pub(crate) fn git_error(url: &str, operation: &'static str, reason: &str) -> FetchError {
    FetchError::Git { url: url.to_owned(), operation, reason: reason.to_owned() }
}

/// What one fetch shares between a tree and its submodules.
pub(crate) struct Walked<'w> {
    overrides: &'w BTreeMap<String, String>,
    count: usize,
    submodules: BTreeMap<String, String>,
    events: &'w Events,
}

/// One repository's objects in a folder of our own.
pub(crate) struct Checkout<'c> {
    fetcher: &'c Fetcher,
    config: &'c FetchConfig,
    url: String,
    /// Addresses to try in order, mirrors first.
    places: Vec<String>,
    folder: tempfile::TempDir,
    /// Files are written as they are in the repository, whatever its attributes say of line ends.
    raw: bool,
}

impl<'c> Checkout<'c> {
    fn new(fetcher: &'c Fetcher, url: &str) -> Result<Self, FetchError> {
        let places = places(&fetcher.config, url)?;
        let checkout = Checkout::empty(fetcher, url, places)?;
        checkout.borrow_objects()?;
        Ok(checkout)
    }

    /// As [`Checkout::new`], with the objects of a repository of our own, and files as they are in it.
    pub(crate) fn raw(fetcher: &'c Fetcher, url: &str, repository: &Path) -> Result<Self, FetchError> {
        let places = places(&fetcher.config, url).unwrap_or_default();
        let mut checkout = Checkout::empty(fetcher, url, places)?;
        checkout.be_raw()?;
        checkout.borrow(&[repository.join("objects")])?;
        Ok(checkout)
    }

    fn be_raw(&mut self) -> Result<(), FetchError> {
        self.raw = true;
        let info = self.folder.path().join("info");
        make_folder(&info)?;
        let file = info.join("attributes");
        fs::write(&file, "* -text -eol -ident -filter -working-tree-encoding\n")
            .map_err(|error| FetchError::io("write", &file, error))
    }

    /// Writes the tree of a commit whose objects are there.
    pub(crate) fn write(
        &self,
        request: &GitRequest,
        output: &Path,
        events: &Events,
    ) -> Result<(), FetchError> {
        let mut walked =
            Walked { overrides: &request.overrides, count: 0, submodules: BTreeMap::new(), events };
        self.tree(request, output, 0, &mut walked).map(drop)
    }

    fn empty(fetcher: &'c Fetcher, url: &str, places: Vec<String>) -> Result<Self, FetchError> {
        let config = &fetcher.config;
        make_folder(&config.cache_dir)?;
        let folder = tempfile::Builder::new().prefix("git-").tempdir_in(&config.cache_dir);
        let folder =
            folder.map_err(|error| FetchError::io("create a folder in", &config.cache_dir, error))?;
        let checkout = Checkout { fetcher, config, url: url.to_owned(), places, folder, raw: false };
        let mut command = checkout.git();
        command.args(["init", "--quiet", "--bare", "--template="]).arg(checkout.folder.path());
        checkout.expect("init", command)?;
        Ok(checkout)
    }

    /// Reads the objects of repositories on this machine where they lie: copying a whole history only to look at one
    /// tree of it takes minutes.
    fn borrow_objects(&self) -> Result<(), FetchError> {
        let mut found = Vec::new();
        for place in &self.places {
            let Some(folder) =
                place.strip_prefix("file://").or_else(|| place.starts_with('/').then_some(place))
            else {
                continue;
            };
            for git in [PathBuf::from(folder), Path::new(folder).join(".git")] {
                let objects = git.join("objects");
                // A shallow repository lacks parents, which only its own `shallow` file says.
                if objects.is_dir() && git.join("HEAD").is_file() && !git.join("shallow").exists() {
                    found.push(objects);
                }
            }
        }
        self.borrow(&found)
    }

    fn borrow(&self, folders: &[PathBuf]) -> Result<(), FetchError> {
        let plain = |path: &&str| !path.contains(['\n', '"', '#']);
        let lines: String = folders
            .iter()
            .filter_map(|objects| objects.to_str().filter(plain))
            .map(|objects| format!("{objects}\n"))
            .collect();
        if lines.is_empty() {
            return Ok(());
        }
        let info = self.folder.path().join("objects/info");
        make_folder(&info)?;
        let file = info.join("alternates");
        fs::write(&file, lines).map_err(|error| FetchError::io("write", &file, error))
    }

    fn git(&self) -> Command {
        command(self.config, self.folder.path())
    }

    fn expect(&self, operation: &'static str, command: Command) -> Result<Finished, FetchError> {
        let finished = process::run(self.config, command)?;
        if finished.is_success {
            Ok(finished)
        } else {
            Err(git_error(&self.url, operation, &finished.last_words()))
        }
    }

    fn stdout(&self, operation: &'static str, arguments: &[&str]) -> Result<Vec<u8>, FetchError> {
        let mut command = self.git();
        command.args(arguments);
        Ok(self.expect(operation, command)?.stdout)
    }

    fn has_commit(&self, rev: &str) -> bool {
        self.stdout("cat-file", &["cat-file", "-e", &format!("{rev}^{{commit}}")]).is_ok()
    }

    /// Tries one fetch at every place; the last error counts.
    fn fetch(&self, options: &[&str], references: &[&str]) -> Result<(), FetchError> {
        let mut last = Err(git_error(&self.url, "fetch", "no place is left to ask"));
        for place in &self.places {
            let mut command = self.git();
            command.args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--force"]).args(options);
            command.arg("--").arg(place).args(references);
            last = self.expect("fetch", command).map(|_| ());
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Makes a commit's objects present: alone when the server gives single commits, else by way of branches and
    /// tags, else with everything the server has.
    fn fetch_commit(&self, rev: &str) -> Result<(), FetchError> {
        if self.has_commit(rev) {
            return Ok(());
        }
        let first = self.fetch(&["--depth=1"], &[rev]);
        if first.is_ok() && self.has_commit(rev) {
            return Ok(());
        }
        for references in
            [&["refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*"][..], &["refs/*:refs/all/*"][..]]
        {
            let fetched = self.fetch(&[], references);
            if self.has_commit(rev) {
                return Ok(());
            }
            if let Err(error) = fetched {
                return Err(first.err().unwrap_or(error));
            }
        }
        Err(git_error(&self.url, "fetch", &format!("the repository has no commit {rev}")))
    }

    /// Writes the tree of a commit, submodules included, and returns the commit's time.
    fn tree(
        &self,
        request: &GitRequest,
        output: &Path,
        depth: usize,
        walked: &mut Walked<'_>,
    ) -> Result<i64, FetchError> {
        let rev = request.rev.as_str();
        if !is_rev(rev) {
            return Err(git_error(&self.url, "fetch", &format!("`{rev}` is no whole commit id")));
        }
        self.fetch_commit(rev)?;
        fs::create_dir(output).map_err(|error| FetchError::io("create", output, error))?;
        let mut command = self.git();
        // An own index, as the folder is shared by nothing else but must not look bare here.
        command.arg("--work-tree").arg(output).args([
            "-c",
            "core.bare=false",
            "checkout",
            "--quiet",
            "--force",
            "--detach",
            rev,
        ]);
        self.expect("checkout", command)?;
        let time = self.stdout("log", &["log", "-1", "--format=%ct", rev])?;
        let commit_time_s = String::from_utf8_lossy(&time).trim().parse().unwrap_or(0);
        if request.submodules {
            self.submodules(rev, output, depth, walked)?;
        }
        Ok(commit_time_s)
    }

    fn submodules(
        &self,
        rev: &str,
        output: &Path,
        depth: usize,
        walked: &mut Walked<'_>,
    ) -> Result<(), FetchError> {
        let listing = self.stdout("ls-tree", &["ls-tree", "-r", "-z", "--full-tree", rev])?;
        let links = git_links(&listing);
        if links.is_empty() {
            return Ok(());
        }
        if depth >= limits::SUBMODULE_DEPTH_MAX {
            return Err(git_error(&self.url, "submodules", "they are nested too deep"));
        }
        let modules = self.stdout(
            "config",
            &["config", "-z", "--blob", &format!("{rev}:.gitmodules"), "--get-regexp", "^submodule\\."],
        );
        let urls = module_urls(&modules.unwrap_or_default());
        for (path, rev) in links {
            walked.count += 1;
            if walked.count > limits::SUBMODULES_MAX {
                return Err(git_error(&self.url, "submodules", "there are too many"));
            }
            let wrong = |reason: &str| git_error(&self.url, "submodules", &format!("`{path}`: {reason}"));
            // A link without an entry is left empty, as git itself does.
            let Some(url) = urls.get(&path) else { continue };
            let url = join(&self.url, url).ok_or_else(|| wrong("its address leads above its parent's"))?;
            let target = self.empty_folder(output, &path).map_err(|error| wrong(&error))?;
            if self.replaced_submodule(&url, &target, walked)? {
                continue;
            }
            walked.submodules.insert(overrides::normalise(&url), rev.clone());
            let request = GitRequest { url: url.clone(), rev, submodules: true, overrides: BTreeMap::new() };
            let mut inner = Checkout::new(self.fetcher, &url)?;
            if self.raw {
                inner.be_raw()?;
            }
            inner.tree(&request, &target, depth + 1, walked)?;
        }
        Ok(())
    }

    /// Puts an override in a submodule's place: the lock's, else the configuration's. False where there is none.
    fn replaced_submodule(
        &self,
        url: &str,
        target: &Path,
        walked: &mut Walked<'_>,
    ) -> Result<bool, FetchError> {
        let key = overrides::normalise(url);
        let configured = self.config.overrides.of_url(url).cloned();
        let replacement = match walked.overrides.get(&key).map(String::as_str) {
            Some(overrides::LOCAL) => {
                Some(configured.ok_or_else(|| FetchError::NoOverride { url: url.to_owned() })?)
            }
            Some(pinned) => {
                let reason = format!("the lock's `{pinned}` is nothing rednix knows");
                let wrong = FetchError::Override { url: url.to_owned(), reason };
                Some(Replacement::parse_pinned(pinned).ok_or(wrong)?)
            }
            None => configured,
        };
        let Some(replacement) = replacement else { return Ok(false) };
        self.fetcher.fetch_replacement(url, &replacement, target, walked.events)?;
        walked.submodules.insert(key, replacement.pinned());
        Ok(true)
    }

    /// Removes the empty folder git leaves for a submodule; no link may be on the way to it.
    fn empty_folder(&self, output: &Path, path: &str) -> Result<PathBuf, String> {
        let parts = rednix_store::handle::check_relative(Path::new(path))?;
        let root = Dir::open(output).map_err(|error| error.to_string())?;
        let relative: PathBuf = parts.iter().collect();
        match root.remove_dir(&relative) {
            Err(error) if !error.is_not_found() => Err(error.to_string()),
            _ => {
                if let Some(parent) = relative.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                    root.create_dir_all(parent, 0o755).map_err(|error| error.to_string())?;
                }
                Ok(output.join(relative))
            }
        }
    }

    /// Asks the server what a reference stands for.
    fn resolve(&self, reference: &str) -> Result<String, FetchError> {
        let names = reference_names(reference);
        let mut last = git_error(&self.url, "ls-remote", "no place is left to ask");
        for place in &self.places {
            let mut command = self.git();
            command
                .args(["ls-remote", "--quiet", "--"])
                .arg(place)
                .args(names.iter().flat_map(|name| [name.clone(), format!("{name}^{{}}")]));
            match self.expect("ls-remote", command) {
                Err(error) => last = error,
                Ok(finished) => {
                    let listing = String::from_utf8_lossy(&finished.stdout).into_owned();
                    return pick_reference(&listing, &names).ok_or_else(|| {
                        git_error(&self.url, "ls-remote", &format!("there is no branch or tag `{reference}`"))
                    });
                }
            }
        }
        Err(last)
    }

    /// The commit whose id begins so, where that is what the text could be.
    fn resolve_short(&self, reference: &str) -> Option<String> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if !(4..40).contains(&reference.len()) || !reference.bytes().all(is_hex) {
            return None;
        }
        let find = || {
            let name = format!("{reference}^{{commit}}");
            let found = self.stdout("rev-parse", &["rev-parse", "--quiet", "--verify", &name]).ok()?;
            let rev = String::from_utf8_lossy(&found).trim().to_owned();
            is_rev(&rev).then_some(rev)
        };
        find().or_else(|| {
            let all = ["refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*"];
            self.fetch(&["--filter=tree:0"], &all).ok()?;
            find()
        })
    }

    fn resolve_before(&self, reference: &str, date: &str) -> Result<String, FetchError> {
        let tip = self.resolve(reference)?;
        if !self.has_commit(&tip) {
            // History alone, without trees and files, where the server can leave them out.
            self.fetch(&["--filter=tree:0"], &[&tip])?;
        }
        let before = format!("--before={date}");
        let found = self.stdout("rev-list", &["rev-list", "-1", "--first-parent", &before, &tip, "--"])?;
        let rev = String::from_utf8_lossy(&found).trim().to_owned();
        if is_rev(&rev) {
            Ok(rev)
        } else {
            Err(git_error(&self.url, "rev-list", &format!("`{reference}` has no commit before {date}")))
        }
    }
}

/// Git with everything off that asks, runs or rewrites.
pub(crate) fn command(config: &FetchConfig, repository: &Path) -> Command {
    let mut command = Command::new(&config.git);
    let settings = [
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.autocrlf=false",
        "core.eol=lf",
        "core.symlinks=true",
        "core.fileMode=true",
        "core.attributesFile=/dev/null",
        "core.protectHFS=true",
        "core.protectNTFS=false",
        "filter.lfs.process=",
        "filter.lfs.smudge=",
        "filter.lfs.required=false",
        "submodule.recurse=false",
        "fetch.recurseSubmodules=false",
        "gc.auto=0",
        "maintenance.auto=false",
        "advice.detachedHead=false",
        "safe.directory=*",
        "protocol.allow=never",
        "protocol.file.allow=always",
        "protocol.http.allow=always",
        "protocol.https.allow=always",
        "protocol.ssh.allow=always",
        "protocol.git.allow=always",
    ];
    for setting in settings {
        command.args(["-c", setting]);
    }
    for variable in [
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_NAMESPACE",
        "GIT_COMMON_DIR",
        "GIT_EXTERNAL_DIFF",
        "GIT_ATTR_SOURCE",
    ] {
        command.env_remove(variable);
    }
    // A question would wait for ever: there is nobody to answer.
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ASKPASS", "/bin/false");
    command.env("SSH_ASKPASS", "/bin/false").env("SSH_ASKPASS_REQUIRE", "force");
    command.env("LC_ALL", "C").env("GIT_DIR", repository);
    command
}

/// Addresses to try: mirrors, then the url itself. Offline, only what is local.
pub(crate) fn places(config: &FetchConfig, url: &str) -> Result<Vec<String>, FetchError> {
    let bad = |reason: &str| FetchError::BadUrl { url: url.to_owned(), reason: reason.to_owned() };
    if url.starts_with('-')
        || url.contains("::")
        || url.contains(|c: char| c.is_control() || c == ' ')
        || url.is_empty()
    {
        return Err(bad("git cannot be given it safely"));
    }
    let rewritten = config.mirrors.iter().filter_map(|(from, to)| source::rewrite(url, from, to));
    let mut places: Vec<String> = rewritten.chain([url.to_owned()]).collect();
    if config.offline {
        places.retain(|place| place.starts_with('/') || place.starts_with("file://"));
        if places.is_empty() {
            return Err(FetchError::Offline { url: url.to_owned() });
        }
    }
    Ok(places)
}

/// Paths and commits of the submodules in `ls-tree -z` output.
fn git_links(listing: &[u8]) -> Vec<(String, String)> {
    let lines = listing.split(|byte| *byte == 0).filter_map(|line| std::str::from_utf8(line).ok());
    lines
        .filter_map(|line| {
            let (entry, path) = line.split_once('\t')?;
            let rev = entry.strip_prefix("160000 commit ")?;
            is_rev(rev).then(|| (path.to_owned(), rev.to_owned()))
        })
        .collect()
}

/// Url by path from `git config -z --get-regexp` output: records `key\nvalue\0`.
fn module_urls(output: &[u8]) -> BTreeMap<String, String> {
    let mut modules: BTreeMap<&str, (Option<&str>, Option<&str>)> = BTreeMap::new();
    for record in output.split(|byte| *byte == 0).filter_map(|record| std::str::from_utf8(record).ok()) {
        let Some((key, value)) = record.split_once('\n') else { continue };
        let Some((name, field)) = key.strip_prefix("submodule.").and_then(|key| key.rsplit_once('.')) else {
            continue;
        };
        let module = modules.entry(name).or_default();
        match field {
            "path" => module.0 = Some(value),
            "url" => module.1 = Some(value),
            _ => {}
        }
    }
    modules.into_values().filter_map(|(path, url)| Some((path?.to_owned(), url?.to_owned()))).collect()
}

/// A submodule's address, which may be relative to its parent's (`../other.git`).
fn join(parent: &str, url: &str) -> Option<String> {
    if !url.starts_with("./") && !url.starts_with("../") {
        return Some(url.to_owned());
    }
    let mut base = parent.trim_end_matches('/').to_owned();
    for part in Path::new(url).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                let cut = base.rfind(['/', ':'])?;
                // Neither the scheme nor the host may be climbed away.
                if base[..cut].ends_with([':', '/']) || base[..cut].is_empty() {
                    return None;
                }
                base.truncate(if base.as_bytes()[cut] == b':' { cut + 1 } else { cut });
            }
            Component::Normal(name) => {
                if !base.ends_with(':') {
                    base.push('/');
                }
                base.push_str(name.to_str()?);
            }
            _ => return None,
        }
    }
    Some(base)
}

/// What a name may stand for, in the order of preference.
fn reference_names(reference: &str) -> Vec<String> {
    if reference.is_empty() || reference == "HEAD" {
        return vec!["HEAD".to_owned()];
    }
    if reference.starts_with("refs/") {
        return vec![reference.to_owned()];
    }
    vec![format!("refs/heads/{reference}"), format!("refs/tags/{reference}")]
}

/// The commit of the first name that `ls-remote` output has; an annotated tag counts as what it points to.
fn pick_reference(listing: &str, names: &[String]) -> Option<String> {
    let found: BTreeMap<&str, &str> =
        listing.lines().filter_map(|line| line.split_once('\t')).map(|(rev, name)| (name, rev)).collect();
    names.iter().find_map(|name| {
        let peeled = format!("{name}^{{}}");
        let rev = found.get(peeled.as_str()).or_else(|| found.get(name.as_str()))?;
        is_rev(rev).then(|| (*rev).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn relative_submodules() {
        let cases = [
            ("https://h.test/a/b.git", "../c.git", Some("https://h.test/a/c.git")),
            ("https://h.test/a/b.git/", "../../d/c", Some("https://h.test/d/c")),
            ("https://h.test/b.git", "../../../x", None),
            ("https://h.test/b.git", "./x", Some("https://h.test/b.git/x")),
            ("git@h.test:a/b", "../c", Some("git@h.test:a/c")),
            ("git@h.test:b", "../c", Some("git@h.test:c")),
            ("/srv/git/b", "../c", Some("/srv/git/c")),
            ("https://h.test/b", "https://other.test/c", Some("https://other.test/c")),
        ];
        for (parent, url, expected) in cases {
            assert_eq!(join(parent, url).as_deref(), expected, "{parent} {url}");
        }
    }

    #[test]
    fn references() {
        let (a, b, c) = ("a".repeat(40), "b".repeat(40), "c".repeat(40));
        let listing = format!(
            "{a}\trefs/heads/x\n{b}\trefs/tags/x\n{c}\trefs/tags/x^{{}}\n{b}\trefs/tags/y\n{c}\trefs/tags/y^{{}}\n"
        );
        assert_eq!(pick_reference(&listing, &reference_names("x")), Some(a));
        assert_eq!(pick_reference(&listing, &reference_names("y")), Some(c.clone()));
        assert_eq!(pick_reference(&listing, &reference_names("refs/tags/x")), Some(c));
        assert_eq!(pick_reference(&listing, &reference_names("z")), None);
    }

    #[test]
    fn unsafe_addresses() {
        let config = FetchConfig::new("/cache");
        for url in ["", "-u/x", "ext::sh -c x", "ext::x", "https://a b", "a\nb"] {
            assert!(places(&config, url).is_err(), "{url:?}");
        }
        let offline = FetchConfig {
            offline: true,
            mirrors: vec![("https://h.test/".into(), "/srv/".into())],
            ..config
        };
        assert_eq!(places(&offline, "https://h.test/x.git").unwrap(), ["/srv/x.git"]);
        assert!(matches!(places(&offline, "https://other.test/x"), Err(FetchError::Offline { .. })));
    }

    proptest! {
        #[test]
        fn listings_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), parent in "[a-z:/.@]{0,20}", url in "(\\.\\./|\\./){0,4}[a-z/.:]{0,9}") {
            let _ = git_links(&bytes);
            let _ = module_urls(&bytes);
            let _ = pick_reference(&String::from_utf8_lossy(&bytes), &reference_names(&parent));
            let _ = join(&parent, &url);
        }
    }
}
