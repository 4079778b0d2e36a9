//! What a builder left becomes store paths: copied out of its reach, checked, named, put in place and
//! registered. It runs after every process of the builder is dead, and starts none.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rednix_store::canonical;
use rednix_store::derivation::{Derivation, Output};
use rednix_store::handle::Dir;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::nar;
use rednix_store::path::{ContentMethod, StorePath, content_address, fixed_output_path};
use rednix_store::rewrite::Rewrites;
use rednix_store::scan::{Scanned, scan_path};
use rednix_store::store::protocol::{self, Entering, at_once};
use rednix_store::store::{ImportMode, PathInfo, PathLocks, ScratchDir, Store, hash_flat, name_by_contents};

use crate::cancel::CancelToken;
use crate::error::Reason;

/// What was built, and from what.
pub struct Built<'a> {
    pub store: &'a Store,
    /// Resolved: it says what kind each output is.
    pub derivation: &'a Derivation,
    /// As asked for, remembered as what made the paths.
    pub deriver: &'a StorePath,
    /// Where the builder was told to put its outputs.
    pub scratch: &'a BTreeMap<String, StorePath>,
    /// The host folder that holds them.
    pub folder: &'a Path,
    /// True for rednix's own builders, whose outputs need no copy: nothing foreign ran beside them.
    pub by_builtin: bool,
    /// True for builds of working copies: what they leave depends on what was built before.
    pub is_impure: bool,
    /// The input closure: what outputs may refer to.
    pub closure: &'a BTreeSet<StorePath>,
    pub cancel: &'a CancelToken,
}

/// An output with everything known but not yet in place.
struct Named {
    output: String,
    source: PathBuf,
    rewrites: Rewrites,
    info: PathInfo,
    known: Option<(Hash, u64)>,
    floating: bool,
}

impl Built<'_> {
    /// Brings all outputs into the store. Either all become valid, or none.
    pub fn collect(&self) -> Result<BTreeMap<String, StorePath>, Reason> {
        let safe = self.store.scratch_dir("outputs")?;
        let mut scanned = BTreeMap::new();
        for (output, path) in self.scratch {
            self.copy_out(output, path, &safe, &Rewrites::new())?;
            let candidates = self.closure.iter().chain(self.scratch.values());
            let found = scan_path(safe.path().join(path.basename()), candidates)
                .map_err(|error| bad_output(output, error))?;
            scanned.insert(output.clone(), found);
        }
        let mut named: Vec<Named> = Vec::new();
        let mut finals = BTreeMap::new();
        for output in self.order(&scanned)? {
            let one = self.name(&output, &scanned[&output], &finals, &safe)?;
            finals.insert(self.scratch[&output].clone(), one.info.path.clone());
            named.push(one);
        }
        self.place(named)?;
        safe.close()?;
        Ok(self.scratch.iter().map(|(output, path)| (output.clone(), finals[path].clone())).collect())
    }

    /// Brings one output into a folder the builder never had a handle of, in the store's own shape.
    pub fn copy_out(
        &self,
        output: &str,
        path: &StorePath,
        safe: &ScratchDir,
        rewrites: &Rewrites,
    ) -> Result<(), Reason> {
        let folder = Dir::open(self.folder)?;
        let name = OsStr::new(path.basename());
        if !folder.exists(name)? {
            return Err(Reason::MissingOutput { output: output.to_owned(), path: path.to_string() });
        }
        if self.by_builtin && rewrites.is_empty() {
            let moved =
                canonical::canonicalise(&folder, name).and_then(|()| folder.rename(name, safe.dir(), name));
            return moved.map_err(|error| bad_output(output, error));
        }
        let copied = canonical::copy_tree(&folder, name, safe.dir(), name, rewrites);
        let copied = match copied {
            // Something its own builder made unreadable.
            Err(error) if error.os_error() == Some(libc::EACCES) => {
                safe.dir().remove_tree(name)?;
                canonical::canonicalise(&folder, name)
                    .and_then(|()| canonical::copy_tree(&folder, name, safe.dir(), name, rewrites))
            }
            other => other,
        };
        copied.map_err(|error| bad_output(output, error))
    }

    /// Outputs so that each comes after those it refers to.
    fn order(&self, scanned: &BTreeMap<String, Scanned>) -> Result<Vec<String>, Reason> {
        let mut order = Vec::new();
        let mut left: BTreeSet<&String> = scanned.keys().collect();
        while !left.is_empty() {
            let refers = |from: &String, to: &String| {
                from != to && scanned[from].references.contains(&self.scratch[to])
            };
            let free = left.iter().find(|from| !left.iter().any(|to| refers(from, to))).copied();
            let Some(free) = free else {
                let names: Vec<&str> = left.iter().map(|name| name.as_str()).collect();
                return Err(Reason::OutputCycle(names.join(", ")));
            };
            left.remove(free);
            order.push(free.clone());
        }
        Ok(order)
    }

    /// Finds an output's path; `finals` has those of the outputs before it, by scratch path.
    fn name(
        &self,
        output: &str,
        scanned: &Scanned,
        finals: &BTreeMap<StorePath, StorePath>,
        safe: &ScratchDir,
    ) -> Result<Named, Reason> {
        let scratch = &self.scratch[output];
        let source = safe.path().join(scratch.basename());
        let kind = &self.derivation.outputs[output];
        match kind {
            Output::Fixed { method, hash, path } => {
                self.check_fixed(output, *method, hash, path, source, scanned)
            }
            Output::Floating { method, algorithm } => {
                self.name_floating(output, (*method, *algorithm), source, scanned, finals, safe)
            }
            Output::InputAddressed(path) => {
                let mut info = PathInfo::new(path.clone(), scanned.nar_hash, scanned.nar_size);
                info.references = scanned.references.clone();
                let known = Some((scanned.nar_hash, scanned.nar_size));
                let (rewrites, floating) = (Rewrites::new(), false);
                Ok(Named { output: output.to_owned(), source, rewrites, info, known, floating })
            }
            Output::Deferred => unreachable!("a resolved derivation has no deferred outputs"),
        }
    }

    fn check_fixed(
        &self,
        output: &str,
        method: ContentMethod,
        wanted: &Hash,
        path: &StorePath,
        source: PathBuf,
        scanned: &Scanned,
    ) -> Result<Named, Reason> {
        if let Some(reference) = scanned.references.first() {
            let reason = format!("its hash is fixed, so it must not refer to `{reference}`");
            return Err(Reason::BadOutput { output: output.to_owned(), reason });
        }
        let info = fixed_info(method, wanted, path, &source, (scanned.nar_hash, scanned.nar_size), output)?;
        let known = Some((scanned.nar_hash, scanned.nar_size));
        let rewrites = Rewrites::new();
        Ok(Named { output: output.to_owned(), source, rewrites, info, known, floating: false })
    }

    fn name_floating(
        &self,
        output: &str,
        (method, algorithm): (ContentMethod, HashAlgorithm),
        mut source: PathBuf,
        scanned: &Scanned,
        finals: &BTreeMap<StorePath, StorePath>,
        safe: &ScratchDir,
    ) -> Result<Named, Reason> {
        let scratch = &self.scratch[output];
        let name = self.derivation.output_name(output);
        let mut references: BTreeSet<StorePath> = BTreeSet::new();
        let mut others = Rewrites::new();
        for reference in &scanned.references {
            match finals.get(reference) {
                Some(path) => {
                    others.insert(reference, path);
                    references.insert(path.clone());
                }
                None => drop(references.insert(reference.clone())),
            }
        }
        let mut known = Some((scanned.nar_hash, scanned.nar_size));
        if !others.is_empty() {
            // The contents must say the other outputs' real paths before they are hashed.
            let rewritten = format!("{}-rewritten", scratch.hash_part());
            let from = OsStr::new(scratch.basename());
            canonical::copy_tree(safe.dir(), from, safe.dir(), OsStr::new(&rewritten), &others)?;
            source = safe.path().join(rewritten);
            known = None;
        }
        let own = references.contains(scratch);
        let plain = method == ContentMethod::Recursive && algorithm == HashAlgorithm::Sha256 && !own;
        let (path, address) = match known {
            Some((hash, _)) if plain => {
                (fixed_output_path(method, &hash, &name, &references, false)?, content_address(method, &hash))
            }
            _ => {
                let named = name_by_contents(&source, scratch, &name, method, algorithm, &references)
                    .map_err(|error| bad_output(output, error))?;
                (named.path, named.content_address)
            }
        };
        let mut rewrites = Rewrites::new();
        if own {
            rewrites.insert(scratch, &path);
            references.remove(scratch);
            references.insert(path.clone());
            known = None;
        }
        let (nar_hash, nar_size) = known.unwrap_or((Hash::zero(HashAlgorithm::Sha256), 0));
        let mut info = PathInfo::new(path, nar_hash, nar_size);
        info.references = references;
        info.content_address = Some(address);
        Ok(Named { output: output.to_owned(), source, rewrites, info, known, floating: true })
    }

    /// Moves everything that is not there yet into the store and registers it, in one transaction.
    fn place(&self, named: Vec<Named>) -> Result<(), Reason> {
        at_once(protocol::enter(&mut Placing { built: self, named, infos: Vec::new() })).map(drop)
    }
}

/// The outputs of one build on their way into the store.
struct Placing<'a> {
    built: &'a Built<'a>,
    named: Vec<Named>,
    /// Of what is in place and to be registered.
    infos: Vec<PathInfo>,
}

impl Entering for Placing<'_> {
    type Error = Reason;
    type Lock = PathLocks;
    /// The contents were made by the builder.
    type Made = ();

    async fn promise(&mut self) -> Result<(), Reason> {
        Ok(self.built.store.add_temp_roots(self.named.iter().map(|one| &one.info.path))?)
    }

    async fn are_valid(&mut self) -> Result<bool, Reason> {
        let valid = self.built.store.valid_among(self.named.iter().map(|one| &one.info.path))?;
        Ok(self.named.iter().all(|one| valid.contains(&one.info.path)))
    }

    async fn lock(&mut self) -> Result<PathLocks, Reason> {
        // The paths of other outputs are locked by the caller, who knew them.
        let floating: BTreeSet<StorePath> =
            self.named.iter().filter(|one| one.floating).map(|one| one.info.path.clone()).collect();
        Ok(self.built.store.lock_paths(&floating, &mut |_| !self.built.cancel.is_cancelled())?)
    }

    async fn make(&mut self) -> Result<(), Reason> {
        Ok(())
    }

    async fn put_in_place(&mut self, (): &()) -> Result<(), Reason> {
        let store = self.built.store;
        let valid = store.valid_among(self.named.iter().map(|one| &one.info.path))?;
        for mut one in std::mem::take(&mut self.named) {
            let path = &one.info.path;
            if valid.contains(path) {
                continue;
            }
            let imported = store.import_tree(&one.source, path, ImportMode::Move, &one.rewrites, one.known);
            let imported = imported.map_err(|error| bad_output(&one.output, error))?;
            one.info.nar_hash = imported.nar_hash;
            one.info.nar_size = imported.nar_size;
            one.info.deriver = Some(self.built.deriver.clone());
            // Nobody else would get the same: such a path is never this store's own word.
            one.info.ultimate = !self.built.is_impure;
            self.infos.push(one.info);
        }
        Ok(())
    }

    async fn register(&mut self) -> Result<(), Reason> {
        Ok(self.built.store.register_valid_paths(&self.infos)?)
    }

    async fn clear_away(&mut self, (): ()) -> Result<(), Reason> {
        Ok(())
    }
}

/// Only what is the output's own fault is told as such; a full disk stays a full disk.
fn bad_output(output: &str, error: rednix_store::Error) -> Reason {
    match error {
        rednix_store::Error::Unstorable { reason, .. } => {
            Reason::BadOutput { output: output.to_owned(), reason }
        }
        other => Reason::Store(other),
    }
}

/// Checks contents against the hash their path promises. `nar` is the hash and size of the contents as NAR.
pub fn fixed_info(
    method: ContentMethod,
    wanted: &Hash,
    path: &StorePath,
    source: &Path,
    nar: (Hash, u64),
    output: &str,
) -> Result<PathInfo, Reason> {
    let found = match method {
        ContentMethod::Flat => {
            hash_flat(source, wanted.algorithm()).map_err(|error| bad_output(output, error))?
        }
        ContentMethod::Recursive if wanted.algorithm() == HashAlgorithm::Sha256 => nar.0,
        ContentMethod::Recursive => nar::hash_path(source, wanted.algorithm())?.0,
        ContentMethod::Text | ContentMethod::Git => {
            let reason = "only flat and recursive hashes of fixed outputs are supported".to_owned();
            return Err(Reason::BadOutput { output: output.to_owned(), reason });
        }
    };
    if found != *wanted {
        return Err(Reason::WrongHash { wanted: wanted.to_sri(), found: found.to_sri() });
    }
    let mut info = PathInfo::new(path.clone(), nar.0, nar.1);
    info.content_address = Some(content_address(method, wanted));
    Ok(info)
}
