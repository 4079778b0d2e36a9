//! A git repository's working tree as it is now: the files git knows of, with what is not committed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rednix_flake::Input;

use super::git::{Repository, git_folder, ignored};
use super::{FetchedInput, InputOptions, refuse};
use crate::error::FetchError;
use crate::fetcher::Fetcher;
use crate::git::is_rev;

pub fn fetch(
    fetcher: &Fetcher,
    input: &Input,
    path: &Path,
    options: InputOptions<'_>,
) -> Result<FetchedInput, FetchError> {
    let folder = git_folder(fetcher, path)?;
    let repository = Repository { fetcher, folder, shown: path.display().to_string() };
    let tree = format!("--work-tree={}", path.display());
    let listing = repository.output("ls-files", &[&tree, "ls-files", "--stage", "-z"])?;
    let (names, links) = tracked(&listing);
    let mut input = input.clone();
    let mut accepted = accepted(path, &names);
    if input.attributes.is_set("submodules") && !links.is_empty() {
        add_submodules(fetcher, path, &links, &mut accepted, options)?;
    }
    if input.attributes.is_set("exportIgnore") {
        let names: Vec<&[u8]> = accepted.iter().map(|name| name.as_os_str().as_bytes()).collect();
        let arguments = [tree.as_str(), "check-attr", "-z", "--stdin", "export-ignore"];
        for name in ignored(&repository, &names, &arguments)? {
            let name = PathBuf::from(OsStr::from_bytes(&name));
            accepted.retain(|other| !other.starts_with(&name));
        }
    }
    let status = repository.output(
        "status",
        &[&tree, "status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=dirty"],
    )?;
    let rev = repository.line("rev-parse", &["rev-parse", "--quiet", "--verify", "HEAD^{commit}"]).ok();
    let rev = rev.filter(|rev| is_rev(rev));
    let mut warnings = Vec::new();
    let attributes = &mut input.attributes;
    if status.iter().all(|byte| *byte == 0) {
        if let Some(head) = repository.head() {
            attributes.set("ref", head);
        }
        attributes.set("rev", rev.clone().unwrap_or_else(|| "0".repeat(40)));
        if !attributes.is_set("shallow") {
            if repository.folder.join("shallow").exists() {
                let reason = "it is a shallow Git repository, but shallow repositories are only allowed when `shallow = true;` is specified";
                return Err(refuse(&repository.shown, reason));
            }
            let count = rev.as_deref().map_or(Ok(0), |rev| repository.commit_count(rev))?;
            attributes.set("revCount", count);
        }
    } else {
        warnings.push(format!("Git tree '{}' is dirty", path.display()));
        if let Some(rev) = &rev {
            attributes.set("dirtyRev", format!("{rev}-dirty"));
            attributes.set("dirtyShortRev", format!("{}-dirty", &rev[..7]));
        }
    }
    attributes.set("lastModified", rev.as_deref().map_or(Ok(0), |rev| repository.commit_time(rev))?);
    let mut fetched = FetchedInput::at(input, path.to_path_buf());
    (fetched.accepted, fetched.warnings) = (Some(accepted), warnings);
    Ok(fetched)
}

/// Files and submodules in the output of `ls-files --stage -z`.
fn tracked(listing: &[u8]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut files, mut links) = (Vec::new(), Vec::new());
    for record in listing.split(|byte| *byte == 0) {
        let Some(tab) = record.iter().position(|byte| *byte == b'\t') else { continue };
        let name = PathBuf::from(OsStr::from_bytes(&record[tab + 1..]));
        if record.starts_with(b"160000 ") { links.push(name) } else { files.push(name) }
    }
    (files, links)
}

/// The files that are there, and the folders above them.
fn accepted(root: &Path, names: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut accepted = BTreeSet::new();
    for name in names {
        let is_there = std::fs::symlink_metadata(root.join(name)).is_ok_and(|m| !m.is_dir());
        if is_there {
            add(&mut accepted, name);
        }
    }
    accepted
}

fn add(accepted: &mut BTreeSet<PathBuf>, name: &Path) {
    for folder in name.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
        if !accepted.insert(folder.to_path_buf()) {
            break;
        }
    }
}

/// Submodules that are checked out give what their own repositories know of.
fn add_submodules(
    fetcher: &Fetcher,
    path: &Path,
    links: &[PathBuf],
    accepted: &mut BTreeSet<PathBuf>,
    options: InputOptions<'_>,
) -> Result<(), FetchError> {
    for link in links {
        add(accepted, link);
        let place = path.join(link);
        if !place.join(".git").exists() {
            continue;
        }
        let url = Input::from_url(&format!("git+file://{}?submodules=1", place.display()))
            .map_err(|error| super::wrong(&error))?;
        let inner = fetch(fetcher, &url, &place, options)?;
        for name in inner.accepted.unwrap_or_default() {
            add(accepted, &link.join(name));
        }
    }
    Ok(())
}

impl Fetcher {
    /// Makes git know a file that was written into a repository, and commits it alone where a message is given. A file
    /// that git ignores is left alone.
    pub fn track_file(&self, root: &Path, file: &Path, message: Option<&str>) -> Result<(), FetchError> {
        let folder = git_folder(self, root)?;
        let repository = Repository { fetcher: self, folder, shown: root.display().to_string() };
        let tree = format!("--work-tree={}", root.display());
        let name = file.to_string_lossy().into_owned();
        if repository.output("check-ignore", &[&tree, "check-ignore", "--quiet", "--", &name]).is_ok() {
            return Ok(());
        }
        repository.output("add", &[&tree, "add", "--intent-to-add", "--", &name])?;
        if let Some(message) = message {
            repository.output("commit", &[&tree, "commit", "--quiet", "-m", message, "--", &name])?;
        }
        Ok(())
    }
}
