//! Sources of the language and of flakes: from an input's attributes to a tree, and to what is known of it then.
//!
//! Knows no store: a tree lies where it is found or in a folder that goes away with the value, and whoever asked
//! hashes it. Registries are resolved before.

mod archive;
mod forge;
mod git;
mod workdir;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rednix_events::Events;
use rednix_flake::{FlakeError, Input, Kind};

use crate::error::FetchError;
use crate::fetcher::Fetcher;

pub use archive::{DownloadedTree, newest_time};

/// How an input is to be fetched.
#[derive(Clone, Copy)]
pub struct InputOptions<'o> {
    pub events: &'o Events,
    /// Asks the source again, however lately it was asked.
    pub refresh: bool,
}

/// An input whose contents are on this disk.
#[derive(Debug)]
pub struct FetchedInput {
    /// With all that is known of it but the hash of its contents.
    pub input: Input,
    /// The tree or file.
    pub place: PathBuf,
    /// What of the tree belongs to it, relative to `place`; everything where there is none.
    pub accepted: Option<BTreeSet<PathBuf>>,
    /// For the user.
    pub warnings: Vec<String>,
    /// Goes away with the value.
    folder: Option<tempfile::TempDir>,
}

impl FetchedInput {
    fn at(input: Input, place: PathBuf) -> FetchedInput {
        FetchedInput { input, place, accepted: None, warnings: Vec::new(), folder: None }
    }

    fn within(input: Input, place: PathBuf, folder: tempfile::TempDir) -> FetchedInput {
        FetchedInput { folder: Some(folder), ..FetchedInput::at(input, place) }
    }

    /// Whether what lies there goes away with this value.
    pub fn is_temporary(&self) -> bool {
        self.folder.is_some()
    }
}

fn wrong(error: &FlakeError) -> FetchError {
    FetchError::BadUrl { url: "the input".to_owned(), reason: error.to_string() }
}

fn refuse(url: &str, reason: impl Into<String>) -> FetchError {
    FetchError::BadUrl { url: url.to_owned(), reason: reason.into() }
}

impl Fetcher {
    pub fn fetch_input(&self, input: &Input, options: InputOptions<'_>) -> Result<FetchedInput, FetchError> {
        match input.kind() {
            Kind::Path => fetch_path(input),
            Kind::Git => git::fetch(self, input, options),
            Kind::Tarball => {
                let url = input.attributes.required_text("url").map_err(|error| wrong(&error))?;
                let tree = self.fetch_archive(url, &[], options)?;
                let mut input = input.clone();
                if input.last_modified().is_none() && tree.newest_s > 0 {
                    input.attributes.set("lastModified", tree.newest_s);
                }
                Ok(FetchedInput::within(input, tree.place, tree.folder))
            }
            Kind::File => {
                let url = input.attributes.required_text("url").map_err(|error| wrong(&error))?;
                let (place, folder) = self.fetch_plain(url, None, &[], options)?;
                Ok(FetchedInput::within(input.clone(), place, folder))
            }
            Kind::GitHub | Kind::GitLab | Kind::SourceHut => forge::fetch(self, input, options),
            Kind::Indirect => {
                Err(refuse(&input.show(), "it is a name that only a registry can say the address of"))
            }
            Kind::Unknown => Err(refuse(&input.show(), "sources of this kind are unknown to rednix")),
        }
    }
}

fn fetch_path(input: &Input) -> Result<FetchedInput, FetchError> {
    let path = input.attributes.required_text("path").map_err(|error| wrong(&error))?;
    if !path.starts_with('/') {
        return Err(refuse(&input.show(), "it uses a relative path, which only inputs of a flake can have"));
    }
    let place = PathBuf::from(path);
    let mut input = input.clone();
    if input.last_modified().is_none() {
        input.attributes.set("lastModified", newest_file(&place)?);
    }
    Ok(FetchedInput::at(input, place))
}

/// The latest modification of anything in a tree, links not followed, seconds since 1970.
fn newest_file(root: &Path) -> Result<u64, FetchError> {
    use std::os::unix::fs::MetadataExt;
    let mut newest = 0;
    let mut pending = vec![root.to_path_buf()];
    while let Some(path) = pending.pop() {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => FetchError::NoFile { path: path.clone() },
            _ => FetchError::io("look at", &path, error),
        };
        let metadata = std::fs::symlink_metadata(&path).map_err(failed)?;
        newest = newest.max(metadata.mtime());
        if metadata.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(failed)? {
                pending.push(entry.map_err(failed)?.path());
            }
        }
    }
    Ok(newest.max(0) as u64)
}
