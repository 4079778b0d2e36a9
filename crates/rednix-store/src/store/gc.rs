//! Garbage collection: marks from the roots, then removes what nothing needs, and leftovers of crashes. Holds the
//! collection lock all the time, so that no temporary root can appear behind its back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;

use rednix_events::Event;
use rustix::fs::FlockOperation;

use super::query::stored_path;
use super::{Store, locks};
use crate::error::{Error, Result};
use crate::handle::{Dir, Kind};
use crate::limits::COLLECT_BATCH;
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

/// The whole database, as far as collection needs it.
struct Graph {
    paths: HashMap<i64, StorePath>,
    ids: HashMap<StorePath, i64>,
    references: HashMap<i64, Vec<i64>>,
    derivers: HashMap<i64, StorePath>,
    nar_sizes: HashMap<i64, u64>,
    /// Derivation, output.
    outputs: Vec<(i64, StorePath)>,
}

impl Store {
    /// Removes everything that no root needs.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport> {
        self.need_writable("collect garbage")?;
        let _guard = self.lock_for_collection()?;
        if !options.dry_run {
            self.remove_stale_roots()?;
        }
        let (temporary, stale_lists) = self.read_temporary_roots()?;
        let temporary: HashSet<StorePath> = temporary.into_values().flatten().collect();
        let mut roots: BTreeSet<StorePath> = self.roots()?.into_iter().map(|root| root.path).collect();
        roots.extend(options.extra_roots.iter().cloned());
        roots.extend(temporary.iter().cloned());
        let graph = self.load_graph()?;
        let alive = graph.mark(&roots, options);
        let dead = graph.dead(&alive);
        let mut report = GcReport { kept: alive.len(), ..GcReport::default() };
        self.events.emit(Event::Step { what: format!("collecting {} store paths", dead.len()) });
        if options.dry_run {
            report.bytes = dead.iter().filter_map(|id| graph.nar_sizes.get(id)).sum();
            report.removed = dead.iter().map(|id| graph.paths[id].clone()).collect();
            return Ok(report);
        }
        for list in stale_lists {
            let _ = std::fs::remove_file(list);
        }
        self.remove_leftovers(&graph, &temporary, &mut report)?;
        self.remove_dead(&graph, &dead, options.bytes_max, &mut report)?;
        self.remove_unused_links(&mut report)?;
        Ok(report)
    }

    fn load_graph(&self) -> Result<Graph> {
        self.database.read("read the references", |connection| {
            let fail = |source| self.database.error("read the references", source);
            let mut graph = Graph {
                paths: HashMap::new(),
                ids: HashMap::new(),
                references: HashMap::new(),
                derivers: HashMap::new(),
                nar_sizes: HashMap::new(),
                outputs: Vec::new(),
            };
            let mut statement =
                connection.prepare("SELECT id, path, deriver, narSize FROM ValidPaths").map_err(fail)?;
            let mut rows = statement.query([]).map_err(fail)?;
            while let Some(row) = rows.next().map_err(fail)? {
                let (id, path): (i64, String) = (row.get(0).map_err(fail)?, row.get(1).map_err(fail)?);
                let deriver: Option<String> = row.get(2).map_err(fail)?;
                let size: Option<i64> = row.get(3).map_err(fail)?;
                let path = stored_path(&path)?;
                graph.ids.insert(path.clone(), id);
                graph.paths.insert(id, path);
                graph.nar_sizes.insert(id, size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0));
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

    fn remove_dead(
        &self,
        graph: &Graph,
        dead: &[i64],
        bytes_max: Option<u64>,
        report: &mut GcReport,
    ) -> Result<()> {
        for batch in dead.chunks(COLLECT_BATCH) {
            if bytes_max.is_some_and(|max| report.bytes >= max) {
                return Ok(());
            }
            // First the database, then the contents: after a crash there are leftovers, never valid paths without
            // contents.
            self.database.write("remove paths", |transaction| {
                let fail = |source| self.database.error("remove paths", source);
                for query in ["DELETE FROM Refs WHERE referrer = ?1", "DELETE FROM ValidPaths WHERE id = ?1"]
                {
                    let mut statement = transaction.prepare_cached(query).map_err(fail)?;
                    for id in batch {
                        statement.execute([id]).map_err(fail)?;
                    }
                }
                Ok(())
            })?;
            for id in batch {
                let path = &graph.paths[id];
                report.bytes += self.contents.remove_tree(path.basename())?.bytes;
                report.removed.push(path.clone());
            }
        }
        Ok(())
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
        for entry in links.entries()? {
            if links.metadata(&entry.name)?.st_nlink == 1 {
                report.bytes += links.remove_tree(&entry.name)?.bytes;
            }
        }
        Ok(())
    }
}

impl Graph {
    /// Everything reachable from the roots, with derivations or outputs as the options say.
    fn mark(&self, roots: &BTreeSet<StorePath>, options: &GcOptions) -> HashSet<i64> {
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

    /// What is not alive, referrers before what they refer to.
    fn dead(&self, alive: &HashSet<i64>) -> Vec<i64> {
        let mut dead: Vec<i64> = self.paths.keys().filter(|id| !alive.contains(*id)).copied().collect();
        dead.sort_unstable_by(|a, b| self.paths[a].cmp(&self.paths[b]));
        let mut referrers: HashMap<i64, usize> = HashMap::new();
        for id in &dead {
            for reference in
                self.references.get(id).into_iter().flatten().filter(|reference| *reference != id)
            {
                *referrers.entry(*reference).or_default() += 1;
            }
        }
        let mut ready: Vec<i64> = dead.iter().filter(|id| !referrers.contains_key(*id)).copied().collect();
        let mut order = Vec::with_capacity(dead.len());
        while let Some(id) = ready.pop() {
            order.push(id);
            for reference in
                self.references.get(&id).into_iter().flatten().filter(|reference| **reference != id)
            {
                let left = referrers.get_mut(reference).expect("every reference was counted");
                *left -= 1;
                if *left == 0 && !alive.contains(reference) {
                    ready.push(*reference);
                }
            }
        }
        // Paths that refer to each other in a circle have no order: they stay, and nothing is broken by it.
        order
    }
}
