//! Garbage collection: marks from the roots, then removes what nothing needs, and leftovers of crashes. Holds the
//! collection lock all the time, so that no temporary root can appear behind its back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;

use rednix_events::Event;
use rustix::fs::FlockOperation;

use super::archive::Archiving;
use super::flush::delete_rows;
use super::protocol::{self, Leaving, at_once};
use super::query::stored_path;
use super::{GcGuard, Store, locks};
use crate::error::{Error, Result};
use crate::handle::{Dir, Kind};
use crate::limits::{COLLECT_BATCH, COLLECT_BATCH_ALL, COLLECT_CACHE_BYTES, REMOVE_THREADS};
use crate::path::StorePath;

#[derive(Clone, Debug)]
pub struct GcOptions {
    /// Keep the derivations that kept outputs were built from.
    pub keep_derivations: bool,
    /// Keep the outputs of kept derivations.
    pub keep_outputs: bool,
    /// Only say what would be removed.
    pub dry_run: bool,
    /// Stop once this many bytes are free.
    pub bytes_max: Option<u64>,
    /// Remove only so much that the archives (NARs) of all that is left are together no larger, oldest first.
    pub store_bytes_max: Option<u64>,
    /// Remove only what was registered before this time, in seconds since 1970.
    pub registered_before_s: Option<i64>,
    /// More paths to keep, besides the roots on disk.
    pub extra_roots: BTreeSet<StorePath>,
}

impl Default for GcOptions {
    fn default() -> Self {
        GcOptions {
            keep_derivations: true,
            keep_outputs: false,
            dry_run: false,
            bytes_max: None,
            store_bytes_max: None,
            registered_before_s: None,
            extra_roots: BTreeSet::new(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Paths removed (or, in a dry run, to be removed), what refers to others first.
    pub removed: Vec<StorePath>,
    /// Bytes the file system gave back; in a dry run the sum of the archives' sizes.
    pub bytes: u64,
    /// Unregistered things removed: leftovers of crashes and interrupted work.
    pub leftovers: u64,
    pub kept: usize,
}

/// Paths on their way out: into nothing, or into an archive.
pub(super) struct Collection<'a> {
    store: &'a Store,
    options: &'a GcOptions,
    archive: Option<Archiving<'a>>,
    graph: Graph,
    temporary: HashSet<StorePath>,
    report: GcReport,
}

impl<'a> Collection<'a> {
    pub fn new(store: &'a Store, options: &'a GcOptions, archive: Option<Archiving<'a>>) -> Self {
        let (graph, temporary, report) = (Graph::default(), HashSet::new(), GcReport::default());
        Collection { store, options, archive, graph, temporary, report }
    }

    pub fn finish(self) -> (GcReport, Option<Archiving<'a>>) {
        (self.report, self.archive)
    }
}

impl Leaving for Collection<'_> {
    type Error = Error;
    /// None where nothing is deleted, and nothing can be.
    type Lock = Option<GcGuard>;
    /// A row's number.
    type Path = i64;

    async fn lock_all(&mut self) -> Result<Option<GcGuard>> {
        if self.options.dry_run && self.store.is_read_only() {
            return Ok(None);
        }
        self.store.lock_for_collection().map(Some)
    }

    async fn unneeded(&mut self) -> Result<Vec<i64>> {
        let (store, options) = (self.store, self.options);
        if !options.dry_run {
            store.remove_stale_roots()?;
        }
        let (temporary, stale_lists) = store.read_temporary_roots()?;
        self.temporary = temporary.into_values().flatten().collect();
        let mut roots: BTreeSet<StorePath> = store.roots()?.into_iter().map(|root| root.path).collect();
        roots.extend(options.extra_roots.iter().cloned());
        roots.extend(self.temporary.iter().cloned());
        self.graph = store.load_graph()?;
        let alive = self.graph.mark(&roots, options);
        let dead = self.graph.dead(&alive, options);
        self.report.kept = self.graph.paths.len() - dead.len();
        store.events.emit(Event::Step { what: format!("collecting {} store paths", dead.len()) });
        if options.dry_run {
            self.report.bytes = dead.iter().filter_map(|id| self.graph.nar_sizes.get(id)).sum();
            self.report.removed = dead.iter().map(|id| self.graph.paths[id].clone()).collect();
            return Ok(Vec::new());
        }
        for list in stale_lists {
            let _ = std::fs::remove_file(list);
        }
        Ok(dead)
    }

    async fn sweep(&mut self) -> Result<()> {
        if self.options.dry_run {
            return Ok(());
        }
        self.store.remove_leftovers(&self.graph, &self.temporary, &mut self.report)
    }

    async fn keep(&mut self, batch: &[i64]) -> Result<()> {
        match &mut self.archive {
            None => Ok(()),
            Some(archive) => archive.keep(batch.iter().map(|id| &self.graph.paths[id])),
        }
    }

    async fn unregister(&mut self, batch: &[i64]) -> Result<()> {
        self.store.database.with("remove paths", |connection| {
            connection.pragma_update(None, "cache_size", -(COLLECT_CACHE_BYTES >> 10))
        })?;
        self.store.database.write_through("remove paths", |transaction| {
            delete_rows(transaction, batch)
                .map_err(|source| self.store.database.error("remove paths", source))
        })
    }

    async fn remove(&mut self, batch: &[i64]) -> Result<()> {
        let paths: Vec<&StorePath> = batch.iter().map(|id| &self.graph.paths[id]).collect();
        let names: Vec<&OsStr> = paths.iter().map(|path| OsStr::new(path.basename())).collect();
        self.report.bytes += self.store.contents.remove_trees(&names, REMOVE_THREADS)?.bytes;
        self.report.removed.extend(paths.into_iter().cloned());
        Ok(())
    }

    fn is_enough(&self) -> bool {
        self.options.bytes_max.is_some_and(|max| self.report.bytes >= max)
    }
}

/// The whole database, as far as collection needs it.
#[derive(Default)]
pub(super) struct Graph {
    paths: HashMap<i64, StorePath>,
    ids: HashMap<StorePath, i64>,
    references: HashMap<i64, Vec<i64>>,
    derivers: HashMap<i64, StorePath>,
    nar_sizes: HashMap<i64, u64>,
    registered_s: HashMap<i64, i64>,
    /// Derivation, output.
    outputs: Vec<(i64, StorePath)>,
}

impl Store {
    /// Removes everything that no root needs.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport> {
        if !options.dry_run {
            self.need_writable("collect garbage")?;
        }
        let mut collection = Collection::new(self, options, None);
        // Small steps where the end may come early.
        let early = options.bytes_max.is_some() || options.store_bytes_max.is_some();
        at_once(protocol::leave(&mut collection, if early { COLLECT_BATCH } else { COLLECT_BATCH_ALL }))?;
        if !options.dry_run {
            self.remove_unused_links(&mut collection.report)?;
        }
        Ok(collection.report)
    }

    pub(super) fn load_graph(&self) -> Result<Graph> {
        self.database.read("read the references", |connection| {
            let fail = |source| self.database.error("read the references", source);
            let mut graph = Graph {
                paths: HashMap::new(),
                ids: HashMap::new(),
                references: HashMap::new(),
                derivers: HashMap::new(),
                nar_sizes: HashMap::new(),
                registered_s: HashMap::new(),
                outputs: Vec::new(),
            };
            let mut statement = connection
                .prepare("SELECT id, path, deriver, narSize, registrationTime FROM ValidPaths")
                .map_err(fail)?;
            let mut rows = statement.query([]).map_err(fail)?;
            while let Some(row) = rows.next().map_err(fail)? {
                let (id, path): (i64, String) = (row.get(0).map_err(fail)?, row.get(1).map_err(fail)?);
                let deriver: Option<String> = row.get(2).map_err(fail)?;
                let size: Option<i64> = row.get(3).map_err(fail)?;
                let path = stored_path(&path)?;
                graph.ids.insert(path.clone(), id);
                graph.paths.insert(id, path);
                graph.nar_sizes.insert(id, size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0));
                graph.registered_s.insert(id, row.get(4).map_err(fail)?);
                if let Some(deriver) = deriver.filter(|text| !text.is_empty()) {
                    graph.derivers.insert(id, stored_path(&deriver)?);
                }
            }
            let mut statement = connection.prepare("SELECT referrer, reference FROM Refs").map_err(fail)?;
            let mut rows = statement.query([]).map_err(fail)?;
            while let Some(row) = rows.next().map_err(fail)? {
                let (referrer, reference) = (row.get(0).map_err(fail)?, row.get(1).map_err(fail)?);
                graph.references.entry(referrer).or_default().push(reference);
            }
            let mut statement =
                connection.prepare("SELECT drv, path FROM DerivationOutputs").map_err(fail)?;
            let mut rows = statement.query([]).map_err(fail)?;
            while let Some(row) = rows.next().map_err(fail)? {
                let (derivation, path): (i64, String) =
                    (row.get(0).map_err(fail)?, row.get(1).map_err(fail)?);
                graph.outputs.push((derivation, stored_path(&path)?));
            }
            Ok(graph)
        })
    }

    /// Removes what is in the store's folders without being registered or worked on.
    fn remove_leftovers(
        &self,
        graph: &Graph,
        temporary: &HashSet<StorePath>,
        report: &mut GcReport,
    ) -> Result<()> {
        let entries = self.contents.entries()?;
        let mut busy: BTreeSet<String> = BTreeSet::new();
        for entry in &entries {
            if let Some(made) = entry.name.to_str().and_then(|name| name.strip_suffix(".lock"))
                && StorePath::from_basename(made).is_ok_and(|path| !graph.ids.contains_key(&path))
                && self.lock_is_held(&entry.name)?
            {
                busy.insert(made.to_owned());
            }
        }
        for entry in &entries {
            let Some(name) = entry.name.to_str() else { continue };
            let path = StorePath::from_basename(name).ok();
            let registered = path.as_ref().is_some_and(|path| graph.ids.contains_key(path));
            let wanted = path.as_ref().is_some_and(|path| temporary.contains(path));
            let lock_of = name.strip_suffix(".lock").filter(|_| entry.kind == Kind::File);
            if name == ".links" || registered || busy.contains(name) {
                continue;
            }
            let leftover = match lock_of {
                Some(made) => !busy.contains(made) && !self.lock_is_held(&entry.name)?,
                // A temporary root covers a path that is about to be registered.
                None if path.is_some() => !wanted,
                // C++ Nix makes its temporary folders here, and locks them while it uses them.
                None => !self.lock_is_held(&entry.name)?,
            };
            if leftover {
                report.bytes += self.contents.remove_tree(&entry.name)?.bytes;
                report.leftovers += 1;
            }
        }
        self.remove_scratch(report)
    }

    fn lock_is_held(&self, name: &OsStr) -> Result<bool> {
        let path = self.layout.contents().join(name);
        if !matches!(self.contents.kind(name), Ok(Kind::File | Kind::Directory)) {
            return Ok(false);
        }
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(|error| Error::io("open", &path, error))?,
        };
        Ok(!locks::try_flock(&file, &path, FlockOperation::NonBlockingLockExclusive)?)
    }

    fn remove_scratch(&self, report: &mut GcReport) -> Result<()> {
        let scratch = match Dir::open(self.layout.scratch()) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        for entry in scratch.entries()? {
            let path = scratch.path_of(&entry.name);
            let file = match File::open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(|error| Error::io("open", &path, error))?,
            };
            if locks::try_flock(&file, &path, FlockOperation::NonBlockingLockExclusive)? {
                report.bytes += scratch.remove_tree(&entry.name)?.bytes;
                report.leftovers += 1;
            }
        }
        Ok(())
    }

    /// C++ Nix's store optimisation keeps one more name per file; the last one is of no use.
    fn remove_unused_links(&self, report: &mut GcReport) -> Result<()> {
        let links = match self.contents.open_dir(".links") {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        let mut unused = Vec::new();
        for entry in links.entries()? {
            match links.metadata(&entry.name) {
                Ok(stat) if stat.st_nlink == 1 => unused.push(entry.name),
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        let unused: Vec<&OsStr> = unused.iter().map(OsString::as_os_str).collect();
        report.bytes += links.remove_trees(&unused, REMOVE_THREADS)?.bytes;
        Ok(())
    }
}

impl Graph {
    /// Everything reachable from the roots, with derivations or outputs as the options say.
    pub(super) fn mark(&self, roots: &BTreeSet<StorePath>, options: &GcOptions) -> HashSet<i64> {
        let mut derivations_of: BTreeMap<&StorePath, Vec<i64>> = BTreeMap::new();
        let mut outputs_of: HashMap<i64, Vec<i64>> = HashMap::new();
        for (derivation, output) in &self.outputs {
            derivations_of.entry(output).or_default().push(*derivation);
            outputs_of.entry(*derivation).or_default().extend(self.ids.get(output));
        }
        // Floating outputs are linked to their derivation only by what they say themselves.
        for (id, deriver) in &self.derivers {
            if let Some(derivation) = self.ids.get(deriver) {
                outputs_of.entry(*derivation).or_default().push(*id);
            }
        }
        let mut alive = HashSet::new();
        let mut pending: Vec<i64> = roots.iter().filter_map(|path| self.ids.get(path).copied()).collect();
        while let Some(id) = pending.pop() {
            if !alive.insert(id) {
                continue;
            }
            pending.extend(self.references.get(&id).into_iter().flatten());
            if options.keep_derivations {
                pending.extend(derivations_of.get(&self.paths[&id]).into_iter().flatten());
                pending.extend(self.derivers.get(&id).and_then(|deriver| self.ids.get(deriver)));
            }
            if options.keep_outputs {
                pending.extend(outputs_of.get(&id).into_iter().flatten());
            }
        }
        alive
    }

    /// What is to go, referrers before what they refer to, and what was registered first as early as that allows.
    pub(super) fn dead(&self, alive: &HashSet<i64>, options: &GcOptions) -> Vec<i64> {
        let dead: HashSet<i64> = self.paths.keys().filter(|id| !alive.contains(*id)).copied().collect();
        let references = |id: &i64| self.references.get(id).map_or(&[][..], Vec::as_slice).iter();
        let mut referrers: HashMap<i64, usize> = HashMap::new();
        for id in &dead {
            for reference in references(id).filter(|reference| *reference != id) {
                *referrers.entry(*reference).or_default() += 1;
            }
        }
        let is_old = |id: &i64| match options.registered_before_s {
            Some(limit_s) => self.registered_s.get(id).is_some_and(|time_s| *time_s < limit_s),
            None => true,
        };
        let ready_at = |id: i64| Reverse((self.registered_s.get(&id).copied().unwrap_or(0), id));
        let mut ready: BinaryHeap<_> = dead
            .iter()
            .filter(|id| !referrers.contains_key(*id) && is_old(id))
            .map(|id| ready_at(*id))
            .collect();
        let mut left: u64 = self.nar_sizes.values().sum();
        let mut order = Vec::with_capacity(dead.len());
        while let Some(Reverse((_, id))) = ready.pop() {
            if options.store_bytes_max.is_some_and(|max| left <= max) {
                break;
            }
            left -= self.nar_sizes.get(&id).copied().unwrap_or(0);
            order.push(id);
            for reference in references(&id).filter(|reference| **reference != id) {
                let count = referrers.get_mut(reference).expect("every reference was counted");
                *count -= 1;
                if *count == 0 && dead.contains(reference) && is_old(reference) {
                    ready.push(ready_at(*reference));
                }
            }
        }
        // Paths that refer to each other in a circle have no order: they stay, and nothing is broken by it.
        order
    }
}
