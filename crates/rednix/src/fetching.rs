//! Answers the build room's fetches: first from other stores on this machine, then through the fetch room.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rednix_build::cancel::CancelToken;
use rednix_build::fetch::{Fetch, FetchRequest};
use rednix_events::Events;
use rednix_fetch::git::GitRequest;
use rednix_fetch::{FetchError, Fetched, Fetcher};
use rednix_store::path::{ContentMethod, fixed_output_path};
use rednix_store::store::Layout;

/// Everything a fixed output can come from.
pub struct Sources {
    fetcher: Fetcher,
    /// Roots of stores whose fixed outputs may be copied.
    lenders: Vec<Layout>,
    /// Pinned packages that no mirror has any more, as messages.
    gone: Mutex<Vec<String>>,
}

impl Sources {
    pub fn new(fetcher: Fetcher, lenders: &[PathBuf]) -> Sources {
        Sources { fetcher, lenders: lenders.iter().map(Layout::new).collect(), gone: Mutex::default() }
    }

    /// The pins that turned out to have rotted.
    pub fn gone(&self) -> Vec<String> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Copies the output from a store that has it. What is copied is hashed again by whoever asked.
    fn borrow(&self, request: &FetchRequest) -> bool {
        let none = Default::default();
        let Ok(path) = fixed_output_path(request.method, &request.hash, &request.name, &none, false) else {
            return false;
        };
        self.lenders.iter().any(|lender| {
            let from = lender.real_path(&path);
            from.exists() && copy_tree(&from, &request.destination).is_ok()
        })
    }

    fn fetch_files(&self, wanted: Vec<(usize, &FetchRequest)>, events: &Events, done: &Done<'_>) {
        if wanted.is_empty() {
            return;
        }
        let mut files = Vec::new();
        for (_, request) in &wanted {
            let name = request.destination.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(rednix_fetch::FetchRequest {
                urls: request.urls(),
                file_name: name,
                hash: (request.method == ContentMethod::Flat).then_some(request.hash),
                size_bytes: request.size_bytes(),
            });
        }
        let folder =
            |request: &FetchRequest| request.destination.parent().unwrap_or(Path::new("/")).to_path_buf();
        let folders: Vec<PathBuf> = wanted.iter().map(|(_, request)| folder(request)).collect();
        let report = |position: usize, result: &Result<Fetched, FetchError>| {
            let (index, request) = wanted[position];
            let outcome = match result {
                Err(error) => {
                    if matches!(error, FetchError::PackageGone { .. }) {
                        self.gone.lock().unwrap_or_else(PoisonError::into_inner).push(error.reason());
                    }
                    // The file's name in scratch space is no business of the user's.
                    Err(error.to_string().replace(&files[position].file_name, &request.name))
                }
                Ok(_) if request.flag("executable") => make_executable(&request.destination),
                Ok(_) => Ok(()),
            };
            done(index, outcome);
        };
        self.fetcher.fetch_each(&files, &folders, events, &report);
    }

    fn fetch_git(&self, request: &FetchRequest, events: &Events) -> Result<(), String> {
        let attributes = serde_json::Value::Object(request.attributes.clone());
        GitRequest::from_attributes(&attributes)
            .and_then(|git| self.fetcher.fetch_git(&git, &request.destination, events))
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

type Done<'d> = dyn Fn(usize, Result<(), String>) + Sync + 'd;

impl Fetch for Sources {
    fn handles(&self, builder: &str) -> bool {
        matches!(builder, "fetchurl" | "rednix-fetch-git")
    }

    fn fetch(&self, requests: &[FetchRequest], cancel: &CancelToken, events: &Events, done: &Done<'_>) {
        let mut files = Vec::new();
        let mut trees = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            if self.borrow(request) {
                done(index, Ok(()));
            } else if request.builder == "rednix-fetch-git" {
                trees.push((index, request));
            } else if request.flag("unpack") {
                done(index, Err(format!("`{}`: unpacking while fetching is not supported", request.name)));
            } else {
                files.push((index, request));
            }
        }
        std::thread::scope(|scope| {
            scope.spawn(|| self.fetch_files(files, events, done));
            for (index, request) in trees {
                if cancel.is_cancelled() {
                    done(index, Err("interrupted".to_owned()));
                } else {
                    done(index, self.fetch_git(request, events));
                }
            }
        });
    }
}

fn make_executable(file: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))
        .map_err(|e| format!("cannot make `{}` executable: {e}", file.display()))
}

/// Copies files, folders and links; a store has nothing else.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    let metadata = std::fs::symlink_metadata(from)?;
    if metadata.is_symlink() {
        std::os::unix::fs::symlink(std::fs::read_link(from)?, to)
    } else if metadata.is_dir() {
        std::fs::create_dir(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    } else {
        std::fs::copy(from, to).map(drop)
    }
}
