//! Fetching as the scheduler does it: what nobody else is fetching goes to the fetcher in one batch, and what
//! arrives is checked and registered one by one. It moves no bytes over a network itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use rednix_store::derivation::Derivation;
use rednix_store::path::StorePath;
use rednix_store::scan::scan_path;
use rednix_store::store::{ImportMode, PathLocks, ScratchDir};

use crate::environment::builtin_name;
use crate::error::{BuildError, Reason};
use crate::fetch::{Fetch, FetchRequest};
use crate::job::{Context, Outputs};
use crate::outputs::fixed_info;

type Report<'a> = dyn Fn(usize, Result<Outputs, Box<BuildError>>) + Sync + 'a;

/// Fetches all `wanted` fixed outputs; `report` is called once for each, by index.
pub fn fetch_all(
    context: &Context,
    fetcher: &dyn Fetch,
    wanted: &[(StorePath, Arc<Derivation>)],
    report: &Report<'_>,
) {
    allow_open_files(wanted.len());
    let fetching = Fetching { context, fetcher, wanted, report };
    let mut others = Vec::new();
    let mut ours = Vec::new();
    for index in 0..wanted.len() {
        match fetching.lock(index, false) {
            Ok(Some(lock)) => ours.push((index, lock)),
            Ok(None) => others.push(index),
            Err(reason) => fetching.fail(index, reason),
        }
    }
    fetching.batch(ours);
    // Another rednix was fetching these: mostly there is nothing left to do.
    for index in others {
        match fetching.lock(index, true) {
            Ok(lock) => fetching.batch(lock.into_iter().map(|lock| (index, lock)).collect()),
            Err(reason) => fetching.fail(index, reason),
        }
    }
}

/// Each path being fetched holds one lock file open.
fn allow_open_files(count: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let needed = count as u64 + 512;
    if limit.current.is_some_and(|current| current < needed) {
        let current = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    }
}

struct Fetching<'a> {
    context: &'a Context,
    fetcher: &'a dyn Fetch,
    wanted: &'a [(StorePath, Arc<Derivation>)],
    report: &'a Report<'a>,
}

impl Fetching<'_> {
    fn output(&self, index: usize) -> &StorePath {
        let (_, _, path) = self.wanted[index].1.fixed_output().expect("only fixed outputs are fetched");
        path
    }

    fn fail(&self, index: usize, reason: Reason) {
        (self.report)(index, Err(Box::new(BuildError::new(&self.wanted[index].0, reason))));
    }

    fn lock(&self, index: usize, wait: bool) -> Result<Option<PathLocks>, Reason> {
        let paths = BTreeSet::from([self.output(index).clone()]);
        if !wait {
            return Ok(self.context.store.try_lock_paths(&paths)?);
        }
        match self.context.store.lock_paths(&paths, &mut |_| !self.context.cancel.is_cancelled()) {
            Err(_) if self.context.cancel.is_cancelled() => Err(Reason::Cancelled),
            other => Ok(Some(other?)),
        }
    }

    /// Fetches what is not valid by now; the locks are held until each one is registered.
    fn batch(&self, locked: Vec<(usize, PathLocks)>) {
        let mut needed = Vec::new();
        for (index, lock) in locked {
            match self.context.store.is_valid(self.output(index)) {
                Ok(true) => self.succeed(index),
                Ok(false) if self.context.config.offline => self.fail(index, Reason::Offline),
                Ok(false) => needed.push((index, lock)),
                Err(error) => self.fail(index, error.into()),
            }
        }
        if needed.is_empty() {
            return;
        }
        let scratch = match self.context.store.scratch_dir("fetch") {
            Ok(scratch) => scratch,
            Err(error) => {
                // One trouble, told once with its object; the rest waits for it.
                let text = error.to_string();
                for (index, _lock) in needed {
                    self.fail(index, Reason::Fetch(text.clone()));
                }
                return;
            }
        };
        let requests: Vec<FetchRequest> =
            needed.iter().map(|(index, _)| self.request(*index, &scratch)).collect();
        let locks: Vec<(usize, Mutex<Option<PathLocks>>)> =
            needed.into_iter().map(|(index, lock)| (index, Mutex::new(Some(lock)))).collect();
        self.fetcher.fetch(&requests, &self.context.cancel, &self.context.events, &|position, result| {
            let (index, lock) = &locks[position];
            // Dropped at the end of this call; a second report for the same request finds none and is void.
            let taken = lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if taken.is_none() {
                return;
            }
            match result.map_err(Reason::Fetch).and_then(|()| self.register(*index, &requests[position])) {
                Ok(()) => self.succeed(*index),
                Err(_) if self.context.cancel.is_cancelled() => self.fail(*index, Reason::Cancelled),
                Err(reason) => self.fail(*index, reason),
            }
        });
        for (index, lock) in &locks {
            if lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take().is_some() {
                let reason = match self.context.cancel.is_cancelled() {
                    true => Reason::Cancelled,
                    false => Reason::Fetch("the fetcher never reported it".to_owned()),
                };
                self.fail(*index, reason);
            }
        }
    }

    fn succeed(&self, index: usize) {
        let path = self.output(index).clone();
        (self.report)(index, Ok(Outputs::from([("out".to_owned(), path)])));
    }

    fn request(&self, index: usize, scratch: &ScratchDir) -> FetchRequest {
        let (path, derivation) = &self.wanted[index];
        let (method, hash, output) = derivation.fixed_output().expect("only fixed outputs are fetched");
        let attributes = match derivation.variable("__json") {
            Some(json) => serde_json::from_str(json).unwrap_or_default(),
            None => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let variables = derivation.environment.iter();
                variables.map(|(name, value)| (text(name), text(value).into())).collect()
            }
        };
        FetchRequest {
            derivation: path.clone(),
            name: output.name().to_owned(),
            builder: builtin_name(derivation).unwrap_or_default(),
            attributes,
            method,
            hash: *hash,
            destination: scratch.path().join(output.basename()),
        }
    }

    /// Bytes that are not the wanted ones never get the name.
    fn register(&self, index: usize, request: &FetchRequest) -> Result<(), Reason> {
        let store = &self.context.store;
        let path = self.output(index);
        let source = &request.destination;
        if std::fs::symlink_metadata(source).is_err() {
            return Err(Reason::Fetch("the fetcher left nothing".to_owned()));
        }
        store.add_temp_root(path)?;
        let none: [StorePath; 0] = [];
        let scanned = scan_path(source, &none)?;
        let known = (scanned.nar_hash, scanned.nar_size);
        let mut info = fixed_info(request.method, &request.hash, path, source, known, "out")?;
        info.deriver = Some(request.derivation.clone());
        let rewrites = rednix_store::rewrite::Rewrites::new();
        store.import_tree(source, path, ImportMode::Move, &rewrites, Some(known))?;
        store.register_valid_paths(&[info])?;
        Ok(())
    }
}
