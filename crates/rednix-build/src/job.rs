//! One derivation from "all its inputs are there" to "its outputs are valid": resolve, look again, lock,
//! run, collect, register. It plans nothing and knows no other derivation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rednix_events::{Activity, Event, Events};
use rednix_store::derivation::{Derivation, Output, hash_modulo_masked, resolve_inputs, scratch_output_path};
use rednix_store::hash::Hash;
use rednix_store::path::StorePath;
use rednix_store::store::{PathLocks, Realisation, RealisationId, ScratchDir, Store};

use crate::backend::{Backend, BuildRequest};
use crate::builtins::Builtins;
use crate::cancel::CancelToken;
use crate::config::BuildConfig;
use crate::environment::{self, prepare};
use crate::error::{BuildError, Reason};
use crate::log::BuildLog;
use crate::outputs::Built;
use crate::plan::may_substitute;
use crate::sandbox::{Control, Ending, Program};
use crate::substitute::{Ask, Substitute};
use crate::work;

/// Output name to path.
pub type Outputs = BTreeMap<String, StorePath>;

/// What every job needs.
pub struct Context {
    pub store: Arc<Store>,
    pub backend: Arc<dyn Backend>,
    pub builtins: Builtins,
    pub config: BuildConfig,
    pub events: Events,
    pub cancel: CancelToken,
    pub substitute: Arc<dyn Substitute>,
}

/// One derivation whose inputs are all valid.
pub struct Job {
    pub path: StorePath,
    pub derivation: Arc<Derivation>,
    /// Names the realisations; only where outputs float or hang on floating inputs.
    pub hash: Option<Hash>,
    /// What the input derivations' outputs turned out to be.
    pub inputs: BTreeMap<(StorePath, String), StorePath>,
}

/// Realisation of one output of a derivation hash.
pub fn realisation_id(hash: &Hash, output: &str) -> RealisationId {
    RealisationId { derivation_hash: *hash, output: output.to_owned() }
}

impl Context {
    /// Builds, unless it turns out to be built already.
    pub fn build(&self, job: &Job) -> Result<Outputs, Box<BuildError>> {
        let fail = |reason: Reason| Box::new(BuildError::new(&job.path, reason));
        let resolved = self.resolve(job).map_err(fail)?;
        self.check_machine(&resolved.derivation).map_err(fail)?;
        if let Some(outputs) = self.known(&resolved).map_err(fail)? {
            return self.record(job, &resolved, outputs).map_err(fail);
        }
        if let Some(outputs) = self.substituted(job, &resolved) {
            return self.record(job, &resolved, outputs).map_err(fail);
        }
        let _locks = self.lock(&resolved).map_err(fail)?;
        // While we waited for the lock, another rednix may have built it.
        if let Some(outputs) = self.known(&resolved).map_err(fail)? {
            return self.record(job, &resolved, outputs).map_err(fail);
        }
        self.run(job, &resolved)
    }

    fn phase(&self, id: Activity, phase: &str) {
        self.events.emit(Event::BuildPhase { id, phase: phase.to_owned() });
    }

    /// Puts the real paths of its inputs into the derivation.
    pub(crate) fn resolve(&self, job: &Job) -> Result<Resolved, Reason> {
        let derivation = if job.derivation.input_derivations.is_empty() {
            Derivation::clone(&job.derivation)
        } else {
            let mut built = |path: &StorePath, output: &str| {
                Ok(job.inputs.get(&(path.clone(), output.to_owned())).cloned())
            };
            resolve_inputs(&job.derivation, &mut built)?.expect("a job starts when all its inputs are known")
        };
        let path = derivation.store_path()?;
        let hash = match job.hash {
            Some(_) => {
                let mut none =
                    |input: &StorePath| Err(rednix_store::Error::NotValid { path: input.to_string() });
                Some(*hash_modulo_masked(&derivation, &mut none)?.hash())
            }
            None => None,
        };
        let scratch = derivation
            .outputs
            .iter()
            .map(|(name, output)| {
                let place = match output.path() {
                    Some(known) => known.clone(),
                    None => scratch_output_path(&path, name)?,
                };
                Ok((name.clone(), place))
            })
            .collect::<Result<Outputs, Reason>>()?;
        Ok(Resolved { derivation, path, hash, scratch })
    }

    pub(crate) fn check_machine(&self, derivation: &Derivation) -> Result<(), Reason> {
        let system = String::from_utf8_lossy(&derivation.system).into_owned();
        if system != "builtin" && !self.config.systems.contains(&system) {
            let available = self.config.systems.join(", ");
            return Err(Reason::OtherSystem { wanted: system, available });
        }
        for feature in required_features(derivation) {
            if !self.config.features.contains(&feature) {
                return Err(Reason::MissingFeature(feature));
            }
        }
        Ok(())
    }

    /// The outputs, if all of them are valid: this is where a change that changed nothing ends.
    pub(crate) fn known(&self, resolved: &Resolved) -> Result<Option<Outputs>, Reason> {
        let mut outputs = Outputs::new();
        for (name, output) in &resolved.derivation.outputs {
            let path = match (output.path(), &resolved.hash) {
                (Some(path), _) => Some(path.clone()),
                (None, Some(hash)) => {
                    self.store.query_realisation(&realisation_id(hash, name))?.map(|found| found.path)
                }
                (None, None) => None,
            };
            let Some(path) = path else { return Ok(None) };
            outputs.insert(name.clone(), path);
        }
        self.store.add_temp_roots(outputs.values())?;
        let valid = self.store.valid_among(outputs.values())?;
        Ok(outputs.values().all(|path| valid.contains(path)).then_some(outputs))
    }

    /// The outputs, if a cache has all of them: only now that the inputs are known does the derivation have the name
    /// under which somebody else may have built it from other sources with the same result.
    fn substituted(&self, job: &Job, resolved: &Resolved) -> Option<Outputs> {
        let hash = resolved.hash.filter(|hash| Some(*hash) != job.hash)?;
        if !self.substitute.is_any() || self.cancel.is_cancelled() || !may_substitute(&resolved.derivation) {
            return None;
        }
        let ask = |(output, kind): (&String, &Output)| Ask {
            derivation: resolved.path.clone(),
            output: output.clone(),
            path: kind.path().cloned(),
            realisation: Some(realisation_id(&hash, output)),
        };
        let asked: Vec<Ask> = resolved.derivation.outputs.iter().map(ask).collect();
        if self.substitute.offers(&self.store, &asked).iter().any(Option::is_none) {
            return None;
        }
        let brought = Mutex::new(Outputs::new());
        self.substitute.bring(&self.store, &asked, &|index, result| {
            if let Ok(path) = result {
                let mut brought = brought.lock().unwrap_or_else(PoisonError::into_inner);
                brought.insert(asked[index].output.clone(), path);
            }
        });
        let brought = brought.into_inner().unwrap_or_else(PoisonError::into_inner);
        (brought.len() == asked.len()).then_some(brought)
    }

    /// Locks what is about to be made, so that it is made once.
    fn lock(&self, resolved: &Resolved) -> Result<PathLocks, Reason> {
        let floats = resolved.derivation.is_floating();
        let names: BTreeSet<StorePath> = match floats {
            true => BTreeSet::from([resolved.path.clone()]),
            false => resolved.scratch.values().cloned().collect(),
        };
        let mut told = false;
        let mut keep_waiting = |waited: Duration| {
            if !told && waited > Duration::from_secs(1) {
                told = true;
                let name = &resolved.derivation.name;
                let message = format!("waiting for another rednix that builds `{name}`");
                self.events.emit(Event::Notice { message });
            }
            !self.cancel.is_cancelled()
        };
        match self.store.lock_paths(&names, &mut keep_waiting) {
            Err(_) if self.cancel.is_cancelled() => Err(Reason::Cancelled),
            other => Ok(other?),
        }
    }

    /// Remembers what the outputs are, for the derivation as resolved and as asked for.
    ///
    /// Another rednix may have been first with a different result; then everybody goes on with the first.
    fn record(&self, job: &Job, resolved: &Resolved, mut outputs: Outputs) -> Result<Outputs, Reason> {
        let own = job.hash.filter(|hash| Some(*hash) != resolved.hash);
        for hash in resolved.hash.iter().chain(&own) {
            let realisation = |(name, path): (&String, &StorePath)| Realisation {
                id: realisation_id(hash, name),
                path: path.clone(),
                signatures: Vec::new(),
            };
            let realisations: Vec<Realisation> = outputs.iter().map(realisation).collect();
            let in_force = self.store.register_realisations(&realisations)?;
            for (name, path) in &mut outputs {
                if let Some(first) = in_force.get(&realisation_id(hash, name)) {
                    *path = first.clone();
                }
            }
        }
        Ok(outputs)
    }

    fn run(&self, job: &Job, resolved: &Resolved) -> Result<Outputs, Box<BuildError>> {
        let id = Activity::next();
        let started = Instant::now();
        self.events.emit(Event::BuildStarted {
            id,
            name: resolved.derivation.name.clone(),
            derivation: job.path.to_string(),
        });
        let mut log = BuildLog::new(id, self.events.clone(), self.store.log_path(&job.path));
        let mut trouble = Trouble::default();
        let result = self
            .run_in_scratch(job, resolved, &mut log, &mut trouble, &mut |built| built.collect())
            .and_then(|outputs| self.record(job, resolved, outputs));
        let (log_tail, log_file) = log.finish();
        match result {
            Ok(outputs) => {
                self.events.emit(Event::BuildDone {
                    id,
                    duration_ms: started.elapsed().as_millis() as u64,
                    outputs: outputs.values().map(StorePath::to_string).collect(),
                });
                Ok(outputs)
            }
            Err(reason) => {
                let error = BuildError {
                    log_tail,
                    log_file,
                    kept: trouble.kept,
                    disk_full: trouble.disk_full && !matches!(reason, Reason::Store(_)),
                    ..BuildError::new(&job.path, reason)
                };
                self.events.emit(Event::BuildFailed {
                    id,
                    message: error.to_string(),
                    log_tail: error.log_tail.clone(),
                });
                Err(Box::new(error))
            }
        }
    }

    /// Runs the builder, and `finish` on what it left, before the folder it was left in goes.
    pub(crate) fn run_in_scratch<T>(
        &self,
        job: &Job,
        resolved: &Resolved,
        log: &mut BuildLog,
        trouble: &mut Trouble,
        finish: &mut dyn FnMut(&Built<'_>) -> Result<T, Reason>,
    ) -> Result<T, Reason> {
        self.phase(log.id(), PHASE_PREPARE);
        let closure = self.input_closure(&resolved.derivation)?;
        let scratch = self.store.scratch_dir("build")?;
        let mut request = self.request(resolved, &closure, &scratch)?;
        let work = work::open(&resolved.derivation, &self.config.work)?;
        if let Some(opened) = &work {
            request.kept = opened.folders.clone();
            if opened.is_fresh {
                let message = format!(
                    "`{}` is built from nothing; from now on incrementally",
                    resolved.derivation.name
                );
                self.events.emit(Event::Notice { message });
            }
        }
        let control = Control {
            timeout_total: self.config.timeout_total,
            timeout_silence: self.config.timeout_silence,
            cancel: self.cancel.clone(),
        };
        self.phase(log.id(), PHASE_RUN);
        let outcome = self.backend.run(&request, &control, &mut |piece| log.push(piece))?;
        let result = check_ending(outcome.ending).and_then(|()| {
            let built = Built {
                store: &self.store,
                derivation: &resolved.derivation,
                deriver: &job.path,
                scratch: &resolved.scratch,
                folder: &outcome.output_folder,
                by_builtin: matches!(request.program, Program::Builtin { .. }),
                is_impure: work.is_some(),
                closure: &closure,
                cancel: &self.cancel,
            };
            self.phase(log.id(), PHASE_KEEP);
            finish(&built)
        });
        // Looked at before the scratch folder goes, and gives back what it took.
        trouble.disk_full = result.is_err() && self.is_disk_full();
        if result.is_err() && self.config.keep_failed && !self.cancel.is_cancelled() {
            let _ = scratch.keep();
            trouble.kept = Some(outcome.build_folder);
        } else if result.is_ok() {
            scratch.close()?;
        }
        result
    }

    /// Everything the builder may see and refer to.
    fn input_closure(&self, derivation: &Derivation) -> Result<BTreeSet<StorePath>, Reason> {
        self.store.add_temp_roots(&derivation.input_sources)?;
        match self.store.closure(&derivation.input_sources) {
            Ok(closure) => Ok(closure.into_keys().collect()),
            Err(rednix_store::Error::NotValid { path }) => Err(Reason::MissingInput(path)),
            Err(error) => Err(error.into()),
        }
    }

    fn request(
        &self,
        resolved: &Resolved,
        closure: &BTreeSet<StorePath>,
        scratch: &ScratchDir,
    ) -> Result<BuildRequest, Reason> {
        let prepared = prepare(&resolved.derivation, &resolved.scratch, self.config.cores)?;
        let mut root_layers = Vec::with_capacity(prepared.root_layers.len());
        let mut seen = BTreeSet::new();
        // Named twice it would change nothing, but the kernel refuses to lay a folder over itself.
        for layer in prepared.root_layers.iter().filter(|layer| seen.insert(*layer)) {
            if !closure.contains(layer) {
                return Err(Reason::MissingInput(layer.to_string()));
            }
            root_layers.push(self.store.real_path(layer));
        }
        if let Some(name) = environment::builtin_name(&resolved.derivation)
            && !self.builtins.contains(&name)
        {
            return Err(Reason::Builtin(format!("this rednix has no builder `builtin:{name}`")));
        }
        Ok(BuildRequest {
            name: resolved.derivation.name.clone(),
            program: prepared.program,
            environment: prepared.environment,
            root_layers,
            inputs: closure.iter().map(|path| (path.clone(), self.store.real_path(path))).collect(),
            files: prepared.files,
            kept: Vec::new(),
            outputs: resolved.scratch.clone(),
            work_folder: scratch.path().to_owned(),
        })
    }

    /// Whether the store's file system has less than 1 MiB left: then most other messages are consequences.
    fn is_disk_full(&self) -> bool {
        rustix::fs::statvfs(self.store.root())
            .is_ok_and(|status| status.f_bavail.saturating_mul(status.f_frsize) < 1 << 20)
    }
}

/// What is known about a failed run besides its reason.
#[derive(Default)]
pub(crate) struct Trouble {
    pub kept: Option<std::path::PathBuf>,
    pub disk_full: bool,
}

/// A derivation as it is really built.
pub(crate) struct Resolved {
    pub derivation: Derivation,
    /// What its `.drv` file would be called.
    path: StorePath,
    hash: Option<Hash>,
    /// Where the builder puts its outputs.
    pub scratch: Outputs,
}

/// rednix's own phases of a build; a builder may announce more between the second and the third.
const PHASE_PREPARE: &str = "prepare";
const PHASE_RUN: &str = "run";
const PHASE_KEEP: &str = "keep outputs";

fn check_ending(ending: Ending) -> Result<(), Reason> {
    match ending {
        Ending::Exited(0) => Ok(()),
        Ending::Exited(status) => Err(Reason::Exit(status)),
        Ending::Signalled(signal) => Err(Reason::Signal(signal)),
        Ending::BuiltinFailed(message) => Err(Reason::Builtin(message)),
        Ending::TimedOut(limit) => Err(Reason::TimedOut(limit)),
        Ending::Silent(limit) => Err(Reason::Silent(limit)),
        Ending::Cancelled => Err(Reason::Cancelled),
    }
}

/// The attribute `requiredSystemFeatures`, in either spelling.
fn required_features(derivation: &Derivation) -> Vec<String> {
    if let Some(json) = derivation.variable("__json") {
        let attributes: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
        let list = attributes["requiredSystemFeatures"].as_array().cloned().unwrap_or_default();
        return list.iter().filter_map(|entry| entry.as_str().map(str::to_owned)).collect();
    }
    let text = derivation.variable("requiredSystemFeatures").unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Whether realisations are what tells a derivation's outputs.
pub fn needs_realisations(derivation: &Derivation) -> bool {
    derivation.outputs.values().any(|output| matches!(output, Output::Floating { .. } | Output::Deferred))
}
