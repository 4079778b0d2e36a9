//! Checks that what the database calls valid is there, and is what it was. Repairs nothing.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rednix_events::Event;

use super::{PathInfo, Store};
use crate::error::Result;
use crate::handle::Kind;
use crate::hash::HashAlgorithm;
use crate::nar;
use crate::path::StorePath;

#[derive(Clone, Copy, Debug)]
pub struct VerifyOptions {
    /// Hash all contents, not only look whether they are there.
    pub check_contents: bool,
    /// Threads that hash.
    pub threads: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        VerifyOptions { check_contents: true, threads }
    }
}

/// What is wrong with one path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// Valid, but not there.
    Missing(StorePath),
    /// The contents are not what was registered.
    Changed { path: StorePath, expected: String, found: String },
    /// The contents could not be read.
    Unreadable { path: StorePath, message: String },
    /// Not valid, but archived, and what the archive has of it cannot be read back.
    Archived(StorePath),
}

impl Problem {
    pub fn path(&self) -> &StorePath {
        match self {
            Problem::Missing(path)
            | Problem::Changed { path, .. }
            | Problem::Unreadable { path, .. }
            | Problem::Archived(path) => path,
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Missing(path) => write!(f, "`{path}` is registered but not there"),
            Problem::Changed { path, expected, found } => {
                write!(f, "`{path}` was changed: expected {expected}, got {found}")
            }
            Problem::Unreadable { path, message } => write!(f, "`{path}` cannot be checked: {message}"),
            Problem::Archived(path) => write!(f, "`{path}` is damaged in the archive"),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Sorted by path; those of the archive last.
    pub problems: Vec<Problem>,
    /// Valid paths.
    pub checked: usize,
    pub bytes: u64,
}

impl VerifyReport {
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Store {
    pub fn verify(&self, options: VerifyOptions) -> Result<VerifyReport> {
        let paths = self.all_valid_paths()?;
        let infos: Vec<PathInfo> = self.path_infos(&paths)?.into_values().collect();
        let bytes = infos.iter().map(|info| info.nar_size).sum();
        let what = if options.check_contents { "checking the contents of" } else { "looking for" };
        self.events.emit(Event::Step { what: format!("{what} {} store paths", infos.len()) });
        let mut problems = self.check_all(&infos, options);
        if options.check_contents {
            problems.extend(self.damaged_in_archive()?.into_iter().map(Problem::Archived));
        }
        Ok(VerifyReport { problems, checked: infos.len(), bytes })
    }

    /// What is wrong with some of the valid paths, contents and all.
    pub(super) fn problems_among(&self, paths: &BTreeSet<StorePath>) -> Result<Vec<Problem>> {
        let infos: Vec<PathInfo> = self.path_infos(paths)?.into_values().collect();
        Ok(self.check_all(&infos, VerifyOptions::default()))
    }

    /// Sorted by path.
    fn check_all(&self, infos: &[PathInfo], options: VerifyOptions) -> Vec<Problem> {
        let problems = Mutex::new(Vec::new());
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..options.threads.clamp(1, infos.len().max(1)) {
                scope.spawn(|| {
                    while let Some(info) = infos.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Some(problem) = self.check(info, options.check_contents) {
                            let mut problems =
                                problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                            problems.push(problem);
                        }
                    }
                });
            }
        });
        let mut problems = problems.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        problems.sort();
        problems
    }

    /// Whether the database itself is whole; says nothing about contents.
    pub fn verify_database(&self) -> Result<()> {
        let answer: String = self.database.with("check", |connection| {
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        })?;
        if answer == "ok" { Ok(()) } else { Err(self.database.damaged(answer)) }
    }

    fn check(&self, info: &PathInfo, contents: bool) -> Option<Problem> {
        let path = info.path.clone();
        match self.contents.kind(path.basename()) {
            Err(error) if error.is_not_found() => return Some(Problem::Missing(path)),
            Err(error) => return Some(Problem::Unreadable { path, message: error.to_string() }),
            Ok(Kind::Other) => {
                return Some(Problem::Unreadable {
                    path,
                    message: "it is a device, a socket or a pipe".to_owned(),
                });
            }
            Ok(_) if !contents => return None,
            Ok(_) => {}
        }
        match nar::hash_path(self.real_path(&path), HashAlgorithm::Sha256) {
            Err(error) => Some(Problem::Unreadable { path, message: error.to_string() }),
            Ok((hash, size)) if (hash, size) == (info.nar_hash, info.nar_size) => None,
            Ok((hash, size)) => Some(Problem::Changed {
                path,
                expected: format!("{} ({} bytes)", info.nar_hash.to_sri(), info.nar_size),
                found: format!("{} ({size} bytes)", hash.to_sri()),
            }),
        }
    }
}
