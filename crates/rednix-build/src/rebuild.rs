//! Building what is built already once more, in a scratch place, and comparing. The store keeps what it has: the
//! second result gets no name and no realisation.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rednix_events::{Activity, Event};
use rednix_store::derivation::{Derivation, DerivationHashes};
use rednix_store::nar;
use rednix_store::path::{ContentMethod, StorePath};
use rednix_store::rewrite::Rewrites;
use rednix_store::store::hash_flat;

use crate::compare::{Comparison, compare_trees};
use crate::environment::builtin_name;
use crate::error::{BuildError, BuildErrors, Reason};
use crate::job::{Context, Job, Outputs, Resolved, Trouble, needs_realisations};
use crate::log::BuildLog;
use crate::outputs::Built;
use crate::plan::Wanted;
use crate::scheduler::Builder;

/// A derivation that was built twice.
#[derive(Debug)]
pub struct Rebuilt {
    pub derivation: StorePath,
    pub outputs: Vec<RebuiltOutput>,
}

#[derive(Debug)]
pub struct RebuiltOutput {
    pub output: String,
    /// What the store has.
    pub first: StorePath,
    pub verdict: Verdict,
}

#[derive(Debug)]
pub enum Verdict {
    Identical {
        entries: u64,
    },
    Differs {
        comparison: Comparison,
        /// The second tree, where it was asked for; it stays until the next collection.
        kept: Option<PathBuf>,
    },
    /// It was fetched: what the store has was hashed again and is what it must be.
    HashHolds,
    /// It was fetched, and the store's copy is not what it was when it got its name.
    HashBroken,
}

impl Verdict {
    pub fn is_identical(&self) -> bool {
        matches!(self, Verdict::Identical { .. } | Verdict::HashHolds)
    }
}

impl Builder {
    /// Builds the derivations where that is still to be done, then each once more, and compares. With `keep`,
    /// second trees that differ stay.
    pub fn rebuild(&self, derivations: &[StorePath], keep: bool) -> Result<Vec<Rebuilt>, BuildErrors> {
        let wanted: Vec<Wanted> = derivations.iter().map(Wanted::all).collect();
        self.build(&wanted)?;
        let mut jobs = Vec::new();
        for path in derivations {
            jobs.push(self.job_for(path)?);
        }
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<(usize, Result<Rebuilt, Box<BuildError>>)>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..self.context.config.max_jobs.clamp(1, jobs.len().max(1)) {
                scope.spawn(|| {
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let result = catch_unwind(AssertUnwindSafe(|| self.rebuild_one(job, keep)))
                            .unwrap_or_else(|_| Err(Box::new(BuildError::new(&job.path, Reason::Panicked))));
                        let at = derivations.iter().position(|path| *path == job.path).unwrap_or_default();
                        results.lock().unwrap_or_else(|poison| poison.into_inner()).push((at, result));
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(|poison| poison.into_inner());
        results.sort_by_key(|(at, _)| *at);
        let (mut rebuilt, mut errors) = (Vec::new(), BuildErrors::default());
        for (_, result) in results {
            match result {
                Ok(one) => rebuilt.push(one),
                Err(error) => errors.failed.push(*error),
            }
        }
        errors.cancelled = self.context.cancel.is_cancelled();
        if errors.failed.is_empty() && !errors.cancelled { Ok(rebuilt) } else { Err(errors) }
    }

    /// The job of a built derivation: its inputs may have been collected since, and are made again then.
    fn job_for(&self, path: &StorePath) -> Result<Job, BuildErrors> {
        let store = &self.context.store;
        let derivation = store.read_derivation(path)?;
        let wanted: Vec<Wanted> = derivation
            .input_derivations
            .iter()
            .map(|(input, outputs)| Wanted { derivation: input.clone(), outputs: outputs.clone() })
            .collect();
        // What is fetched is only hashed again; its inputs are nobody's business.
        let inputs = if self.is_fetched(&derivation) { Default::default() } else { self.build(&wanted)? };
        let mut hashes = DerivationHashes::new();
        let hash = match needs_realisations(&derivation) {
            true => Some(*hashes.masked(&derivation, &mut |input| store.read_derivation(input))?.hash()),
            false => None,
        };
        Ok(Job { path: path.clone(), derivation: derivation.into(), hash, inputs })
    }

    fn is_fetched(&self, derivation: &Derivation) -> bool {
        derivation.is_fixed() && builtin_name(derivation).is_some_and(|name| self.fetcher.handles(&name))
    }

    fn rebuild_one(&self, job: &Job, keep: bool) -> Result<Rebuilt, Box<BuildError>> {
        let fail = |reason: Reason| Box::new(BuildError::new(&job.path, reason));
        let outputs = if self.is_fetched(&job.derivation) {
            vec![self.context.hash_again(&job.derivation).map_err(fail)?]
        } else {
            self.context.build_again(job, keep)?
        };
        Ok(Rebuilt { derivation: job.path.clone(), outputs })
    }
}

impl Context {
    fn hash_again(&self, derivation: &Derivation) -> Result<RebuiltOutput, Reason> {
        let (method, wanted, path) = derivation.fixed_output().expect("only fixed outputs are fetched");
        let real = self.store.real_path(path);
        let found = match method {
            ContentMethod::Flat => hash_flat(&real, wanted.algorithm())?,
            _ => nar::hash_path(&real, wanted.algorithm())?.0,
        };
        let verdict = if found == *wanted { Verdict::HashHolds } else { Verdict::HashBroken };
        Ok(RebuiltOutput { output: "out".to_owned(), first: path.clone(), verdict })
    }

    fn build_again(&self, job: &Job, keep: bool) -> Result<Vec<RebuiltOutput>, Box<BuildError>> {
        let fail = |reason: Reason| Box::new(BuildError::new(&job.path, reason));
        let resolved = self.resolve(job).map_err(fail)?;
        self.check_machine(&resolved.derivation).map_err(fail)?;
        let known = self.known(&resolved).map_err(fail)?;
        let first = known.ok_or_else(|| fail(Reason::MissingInput(job.path.to_string())))?;
        let id = Activity::next();
        let started = Instant::now();
        let name = format!("{} (again)", resolved.derivation.name);
        self.events.emit(Event::BuildStarted { id, name, derivation: job.path.to_string() });
        // The log of the first build stays what `rednix log` shows.
        let mut log_file = self.store.log_path(&job.path).into_os_string();
        log_file.push(".again");
        let mut log = BuildLog::new(id, self.events.clone(), log_file.into());
        let mut trouble = Trouble::default();
        let result = self.run_in_scratch(job, &resolved, &mut log, &mut trouble, &mut |built| {
            self.compare(built, &resolved, &first, keep)
        });
        let (log_tail, log_file) = log.finish();
        result
            .inspect(|_| {
                let (duration_ms, outputs) = (started.elapsed().as_millis() as u64, Vec::new());
                self.events.emit(Event::BuildDone { id, duration_ms, outputs });
            })
            .map_err(|reason| {
                let kept = trouble.kept.take();
                let disk_full = trouble.disk_full;
                let base = BuildError::new(&job.path, reason);
                let error = BuildError { log_tail, log_file, kept, disk_full, ..base };
                let (message, log_tail) = (error.to_string(), error.log_tail.clone());
                self.events.emit(Event::BuildFailed { id, message, log_tail });
                Box::new(error)
            })
    }

    /// Compares each output with what the store has. The second build worked under names of its own; they are
    /// replaced by the first one's, so that a tree that names itself does not differ for that.
    fn compare(
        &self,
        built: &Built<'_>,
        resolved: &Resolved,
        first: &Outputs,
        keep: bool,
    ) -> Result<Vec<RebuiltOutput>, Reason> {
        let safe = self.store.scratch_dir("rebuild")?;
        let mut rewrites = Rewrites::new();
        for (output, scratch) in &resolved.scratch {
            if *scratch != first[output] {
                rewrites.insert(scratch, &first[output]);
            }
        }
        let mut outputs = Vec::new();
        let mut differs = BTreeSet::new();
        for (output, scratch) in &resolved.scratch {
            built.copy_out(output, scratch, &safe, &rewrites)?;
            let first = first[output].clone();
            let second = safe.path().join(scratch.basename());
            let comparison = compare_trees(&self.store.real_path(&first), &second)?;
            let verdict = if comparison.is_identical() {
                safe.dir().remove_tree(scratch.basename())?;
                Verdict::Identical { entries: comparison.entries }
            } else {
                differs.insert(output);
                Verdict::Differs { comparison, kept: keep.then_some(second) }
            };
            outputs.push(RebuiltOutput { output: output.clone(), first, verdict });
        }
        if keep && !differs.is_empty() {
            let _ = safe.keep();
        } else {
            safe.close()?;
        }
        Ok(outputs)
    }
}
