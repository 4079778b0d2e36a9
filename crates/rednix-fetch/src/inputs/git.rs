//! Git repositories as inputs: a commit of one, with what the language tells about it.
//!
//! Repositories elsewhere are kept as bare copies in the cache; repositories on this machine are read where they
//! lie and never written to. What is uncommitted is `workdir`'s.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rednix_flake::{Input, Url};
use rednix_store::hash::Hash;

use super::{FetchedInput, InputOptions, refuse, workdir, wrong};
use crate::error::FetchError;
use crate::fetcher::{Fetcher, make_folder};
use crate::git::{Checkout, GitRequest, command, git_error, is_rev, places};
use crate::process;

/// One repository that git can be asked about.
pub struct Repository<'r> {
    pub fetcher: &'r Fetcher,
    /// Git's own folder.
    pub folder: PathBuf,
    /// As errors name it.
    pub shown: String,
}

impl Repository<'_> {
    pub fn output(&self, operation: &'static str, arguments: &[&str]) -> Result<Vec<u8>, FetchError> {
        let mut git = command(&self.fetcher.config, &self.folder);
        git.args(arguments);
        let finished = process::run(&self.fetcher.config, git)?;
        if finished.is_success {
            Ok(finished.stdout)
        } else {
            Err(git_error(&self.shown, operation, &finished.last_words()))
        }
    }

    pub fn line(&self, operation: &'static str, arguments: &[&str]) -> Result<String, FetchError> {
        let output = self.output(operation, arguments)?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    /// The branch that is checked out, as a whole name.
    pub fn head(&self) -> Option<String> {
        self.line("symbolic-ref", &["symbolic-ref", "--quiet", "HEAD"]).ok().filter(|name| !name.is_empty())
    }

    pub fn commit_time(&self, rev: &str) -> Result<u64, FetchError> {
        let text = self.line("log", &["log", "-1", "--format=%ct", "--no-show-signature", rev, "--"])?;
        Ok(text.parse().unwrap_or(0))
    }

    pub fn commit_count(&self, rev: &str) -> Result<u64, FetchError> {
        let text = self.line("rev-list", &["rev-list", "--count", rev, "--"])?;
        text.parse().map_err(|_| git_error(&self.shown, "rev-list", "git counts no commits"))
    }

    fn has(&self, rev: &str) -> bool {
        self.output("cat-file", &["cat-file", "-e", &format!("{rev}^{{commit}}")]).is_ok()
    }

    fn resolve(&self, name: &str) -> Result<String, FetchError> {
        let candidates = [name.to_owned(), format!("refs/heads/{name}"), format!("refs/tags/{name}")];
        for candidate in candidates {
            let wanted = format!("{candidate}^{{commit}}");
            let found =
                self.line("rev-parse", &["rev-parse", "--quiet", "--verify", "--end-of-options", &wanted]);
            if let Ok(rev) = found
                && is_rev(&rev)
            {
                return Ok(rev);
            }
        }
        Err(git_error(&self.shown, "rev-parse", &format!("there is no branch, tag or commit `{name}`")))
    }

    fn is_shallow(&self) -> bool {
        self.folder.join("shallow").exists()
    }
}

/// Git's folder of a repository with a working tree, which may be named by a file.
pub fn git_folder(fetcher: &Fetcher, path: &Path) -> Result<PathBuf, FetchError> {
    let plain = path.join(".git");
    if plain.is_dir() {
        return Ok(plain);
    }
    let mut git = command(&fetcher.config, &plain);
    git.args(["rev-parse", "--absolute-git-dir"]);
    let finished = process::run(&fetcher.config, git)?;
    if !finished.is_success {
        return Err(git_error(&path.display().to_string(), "rev-parse", &finished.last_words()));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&finished.stdout).trim()))
}

pub fn fetch(
    fetcher: &Fetcher,
    input: &Input,
    options: InputOptions<'_>,
) -> Result<FetchedInput, FetchError> {
    let address = input.attributes.required_text("url").map_err(|error| wrong(&error))?;
    let mut url = Url::parse(address).map_err(|error| wrong(&error))?;
    if input.attributes.is_set("exportIgnore") && input.attributes.is_set("submodules") {
        return Err(refuse(address, "exportIgnore and submodules are not supported together yet"));
    }
    if input.attributes.is_set("lfs") {
        return Err(refuse(
            address,
            "Git LFS is not supported; fetch the large files by their own addresses",
        ));
    }
    let rev = input.rev().map_err(|error| wrong(&error))?;
    if url.scheme == "file" {
        let path = PathBuf::from(url.file_path().map_err(|error| wrong(&error))?);
        let path = std::path::absolute(&path).map_err(|error| FetchError::io("find", &path, error))?;
        if !path.exists() {
            return Err(FetchError::NoFile { path });
        }
        if path.join(".git").exists() {
            if input.reference().is_none() && rev.is_none() {
                return workdir::fetch(fetcher, input, &path, options);
            }
            let folder = git_folder(fetcher, &path)?;
            let repository = Repository { fetcher, folder, shown: path.display().to_string() };
            return from_commit(&repository, input, None, options);
        }
        // Bare: git would take a query for a part of the name.
        url.query.clear();
    }
    url.query.remove("dir");
    let url = url.to_string();
    let cached = Cached::open(fetcher, &url, input.attributes.is_set("shallow"))?;
    cached.update(input, rev.as_deref(), options)?;
    from_commit(&cached.repository, input, Some(&cached), options)
}

/// The tree of a commit, and what is known of it.
fn from_commit(
    repository: &Repository<'_>,
    input: &Input,
    cached: Option<&Cached<'_>>,
    options: InputOptions<'_>,
) -> Result<FetchedInput, FetchError> {
    let mut input = input.clone();
    let mut warnings = Vec::new();
    let reference = match input.reference() {
        Some(reference) => reference.to_owned(),
        None => {
            let head = match cached {
                Some(cached) => cached.head(options),
                None => repository.head(),
            };
            head.unwrap_or_else(|| {
                let message =
                    format!("could not read HEAD ref from repo at '{}', using 'master'", repository.shown);
                warnings.push(message);
                "master".to_owned()
            })
        }
    };
    let is_shallow = input.attributes.is_set("shallow");
    if repository.is_shallow() && !is_shallow {
        let reason = "it is a shallow Git repository, but shallow repositories are only allowed when `shallow = true;` is specified";
        return Err(refuse(&repository.shown, reason));
    }
    let rev = match input.rev().map_err(|error| wrong(&error))? {
        Some(rev) if repository.has(&rev) => rev,
        Some(rev) => {
            let reason = format!(
                "Cannot find Git revision '{rev}' in ref '{reference}' of repository '{}'! Please make sure that \
                 the rev exists on the ref you've specified or add allRefs = true; to fetchGit.",
                repository.shown
            );
            return Err(git_error(&repository.shown, "fetch", &reason));
        }
        None => repository.resolve(&reference)?,
    };
    input.attributes.set("ref", reference);
    input.attributes.set("rev", rev.as_str());
    input.attributes.set("lastModified", repository.commit_time(&rev)?);
    if !is_shallow {
        input.attributes.set("revCount", repository.commit_count(&rev)?);
    }
    let folder = repository.fetcher.input_folder()?;
    let place = folder.path().join("tree");
    let url = cached.map_or_else(|| format!("file://{}", repository.shown), |cached| cached.url.clone());
    let request = GitRequest {
        url: url.clone(),
        rev: rev.clone(),
        submodules: input.attributes.is_set("submodules"),
        overrides: Default::default(),
    };
    Checkout::raw(repository.fetcher, &url, &repository.folder)?.write(&request, &place, options.events)?;
    let mut fetched = FetchedInput::within(input, place, folder);
    fetched.warnings = warnings;
    if fetched.input.attributes.is_set("exportIgnore") {
        remove_ignored(repository, &rev, &fetched.place)?;
    }
    Ok(fetched)
}

/// Removes what the repository marks as left out of archives.
fn remove_ignored(repository: &Repository<'_>, rev: &str, tree: &Path) -> Result<(), FetchError> {
    let listing =
        repository.output("ls-tree", &["ls-tree", "-r", "-t", "-z", "--name-only", "--full-tree", rev])?;
    let names: Vec<&[u8]> = listing.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    let source = format!("--source={rev}");
    let ignored = ignored(repository, &names, &["check-attr", &source, "-z", "--stdin", "export-ignore"])?;
    if ignored.is_empty() {
        return Ok(());
    }
    let root = rednix_store::handle::Dir::open(tree)
        .map_err(|error| refuse(&repository.shown, error.to_string()))?;
    for name in ignored {
        use std::os::unix::ffi::OsStrExt;
        let name = Path::new(std::ffi::OsStr::from_bytes(&name));
        let (Some(last), parent) = (name.file_name(), name.parent().unwrap_or(Path::new(""))) else {
            continue;
        };
        let folder = if parent.as_os_str().is_empty() { root.try_clone() } else { root.open_dir(parent) };
        // A parent that is gone took everything with it.
        if let Ok(folder) = folder {
            folder.remove_tree(last).map_err(|error| refuse(&repository.shown, error.to_string()))?;
        }
    }
    Ok(())
}

/// Those of the names that have `export-ignore` set, in order.
pub fn ignored(
    repository: &Repository<'_>,
    names: &[&[u8]],
    arguments: &[&str],
) -> Result<Vec<Vec<u8>>, FetchError> {
    let is_attributes = |name: &&[u8]| *name == b".gitattributes" || name.ends_with(b"/.gitattributes");
    if !names.iter().any(is_attributes) {
        return Ok(Vec::new());
    }
    // From a file: git may answer before it has read everything.
    let list = repository.fetcher.input_folder()?;
    let file = list.path().join("names");
    fs::write(&file, names.join(&0)).map_err(|error| FetchError::io("write", &file, error))?;
    let stdin = File::open(&file).map_err(|error| FetchError::io("open", &file, error))?;
    let mut git = command(&repository.fetcher.config, &repository.folder);
    git.args(arguments);
    let finished = process::run_with(&repository.fetcher.config, git, stdin.into())?;
    if !finished.is_success {
        return Err(git_error(&repository.shown, "check-attr", &finished.last_words()));
    }
    // Records of three: name, attribute, value.
    let fields: Vec<&[u8]> = finished.stdout.split(|byte| *byte == 0).collect();
    Ok(fields.chunks_exact(3).filter(|record| record[2] == b"set").map(|record| record[0].to_vec()).collect())
}

/// A copy of a repository elsewhere.
struct Cached<'c> {
    repository: Repository<'c>,
    url: String,
    /// Addresses to try in order, mirrors first; none when offline.
    places: Vec<String>,
    /// Held while the copy is brought up to date.
    lock: File,
}

impl<'c> Cached<'c> {
    fn open(fetcher: &'c Fetcher, url: &str, shallow: bool) -> Result<Cached<'c>, FetchError> {
        let key = Hash::sha256(url.as_bytes()).to_nix32();
        let parent = fetcher.config.cache_dir.join("git");
        let folder = parent.join(if shallow { format!("{key}-shallow") } else { key });
        make_folder(&parent)?;
        let lock_path = folder.with_extension("lock");
        let lock = File::create(&lock_path).map_err(|error| FetchError::io("create", &lock_path, error))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| FetchError::io("lock", &lock_path, error.into()))?;
        let places = match places(&fetcher.config, url) {
            Err(FetchError::Offline { .. }) if folder.join("HEAD").exists() => Vec::new(),
            other => other?,
        };
        let repository = Repository { fetcher, folder, shown: url.to_owned() };
        let cached = Cached { repository, url: url.to_owned(), places, lock };
        if !cached.repository.folder.join("HEAD").exists() {
            let path = cached.repository.folder.to_string_lossy().into_owned();
            cached.repository.output(
                "init",
                &["-c", "init.defaultBranch=rednix-none", "init", "--quiet", "--bare", "--template=", &path],
            )?;
        }
        Ok(cached)
    }

    /// The first place that answers.
    fn ask(&self, operation: &'static str, before: &[&str], after: &[&str]) -> Result<Vec<u8>, FetchError> {
        let mut last = Err(FetchError::Offline { url: self.url.clone() });
        for place in &self.places {
            let arguments: Vec<&str> =
                before.iter().copied().chain([place.as_str()]).chain(after.iter().copied()).collect();
            last = self.repository.output(operation, &arguments);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// The branch the repository shows first, as a whole name. Remembered while it is fresh, and where nobody answers.
    fn head(&self, options: InputOptions<'_>) -> Option<String> {
        let note = self.repository.folder.join("rednix-head");
        let known = fs::read_to_string(&note).ok().filter(|name| !name.is_empty());
        if self.is_fresh(&note, options) && known.is_some() {
            return known;
        }
        let answer = self.ask("ls-remote", &["ls-remote", "--quiet", "--symref", "--"], &["HEAD"]).ok();
        let found = answer.and_then(|answer| {
            let text = String::from_utf8_lossy(&answer).into_owned();
            text.lines().find_map(|line| {
                let target = line.strip_prefix("ref: ")?.split('\t').next()?;
                Some(target.to_owned())
            })
        });
        if let Some(found) = &found {
            let _ = fs::write(&note, found);
        }
        found.or(known)
    }

    fn is_fresh(&self, file: &Path, options: InputOptions<'_>) -> bool {
        let fresh = Duration::from_secs(self.repository.fetcher.config.fresh_s);
        let age = file
            .metadata()
            .and_then(|m| m.modified())
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        self.places.is_empty() || (!options.refresh && age.is_some_and(|age| age < fresh))
    }

    /// Fetches what is missing of a commit, or the present state of a branch.
    fn update(&self, input: &Input, rev: Option<&str>, options: InputOptions<'_>) -> Result<(), FetchError> {
        let depth: &[&str] = if input.attributes.is_set("shallow") { &["--depth=1"] } else { &[] };
        let head = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--force"];
        let fetch = |what: &[&str], depth: &[&str]| {
            let before: Vec<&str> = head.iter().chain(depth).copied().chain(["--"]).collect();
            self.ask("fetch", &before, what)
        };
        let all = ["refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*"];
        if let Some(rev) = rev {
            if self.repository.has(rev) {
                return Ok(());
            }
            let first = if input.attributes.is_set("allRefs") {
                fetch(&["refs/*:refs/*"], &[])
            } else {
                fetch(&[rev], depth)
            };
            // Not every server gives single commits.
            if first.is_err() && !self.repository.has(rev) {
                fetch(&all, &[])?;
            }
            return Ok(());
        }
        let reference = match input.reference() {
            Some(reference) => reference.to_owned(),
            None => self.head(options).unwrap_or_else(|| "master".to_owned()),
        };
        let whole = if reference.starts_with("refs/") {
            reference.clone()
        } else {
            format!("refs/heads/{reference}")
        };
        let note =
            self.repository.folder.join(format!("rednix-{}", Hash::sha256(whole.as_bytes()).to_nix32()));
        if self.is_fresh(&note, options) && self.repository.resolve(&whole).is_ok() {
            return Ok(());
        }
        let result = if reference == "HEAD" {
            fetch(&["HEAD:refs/heads/HEAD"], depth)
        } else {
            // A tag is asked for by its short name too.
            fetch(&[&format!("{whole}:{whole}")], depth).or_else(|error| {
                let tag = format!("refs/tags/{reference}");
                fetch(&[&format!("{tag}:{tag}")], depth).map_err(|_| error)
            })
        };
        result?;
        fs::write(&note, b"").map_err(|error| FetchError::io("write", &note, error))
    }
}

impl Drop for Cached<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.lock, rustix::fs::FlockOperation::Unlock);
    }
}
