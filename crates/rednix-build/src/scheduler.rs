//! Carries a plan out: one dispatcher that knows the graph, workers that know one derivation each, and one
//! fetching thread for all that comes from the network. They exchange messages and share no graph.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use crossbeam_channel::{Receiver, Sender};
use rednix_events::{Event, Events};
use rednix_store::path::StorePath;
use rednix_store::store::Store;

use crate::backend::Backend;
use crate::builtins::Builtins;
use crate::cancel::CancelToken;
use crate::config::BuildConfig;
use crate::error::{BuildError, BuildErrors, Reason};
use crate::fetch::Fetch;
use crate::fetching::fetch_all;
use crate::job::{Context, Job, Outputs};
use crate::local::Local;
use crate::plan::{NodeId, Plan, Task, Wanted, input_outputs};
use crate::substitute::{Ask, NoSubstitute, Substitute};

/// Builds what is asked for, in one store, by one configuration.
pub struct Builder {
    pub(crate) context: Context,
    pub(crate) fetcher: Arc<dyn Fetch>,
    /// Derivations whose outputs a cache promised and did not give.
    refused: Mutex<BTreeSet<StorePath>>,
}

/// A derivation and its output's name, with the path it has.
pub type Built = BTreeMap<(StorePath, String), StorePath>;

/// A worker or the fetching thread is done with a node.
struct Finished {
    node: NodeId,
    result: Result<Outputs, Box<BuildError>>,
}

impl Builder {
    /// A builder with any backend.
    pub fn with_backend(
        store: Arc<Store>,
        backend: Arc<dyn Backend>,
        fetcher: Arc<dyn Fetch>,
        builtins: Builtins,
        config: BuildConfig,
        events: Events,
        cancel: CancelToken,
    ) -> Self {
        let substitute = Arc::new(NoSubstitute);
        let context = Context { store, backend, builtins, config, events, cancel, substitute };
        Builder { context, fetcher, refused: Mutex::default() }
    }

    /// Lets somebody be asked for outputs before they are built.
    pub fn with_substitute(mut self, substitute: Arc<dyn Substitute>) -> Self {
        self.context.substitute = substitute;
        self
    }

    fn refused(&self) -> MutexGuard<'_, BTreeSet<StorePath>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A builder in this machine's sandbox.
    pub fn new(
        store: Arc<Store>,
        fetcher: Arc<dyn Fetch>,
        builtins: Builtins,
        config: BuildConfig,
        events: Events,
        cancel: CancelToken,
    ) -> Self {
        // Composed roots are leftovers that collection may remove: they belong to the half-made things.
        let backend = Arc::new(Local::new(store.layout().scratch(), config.limits.clone()));
        Builder::with_backend(store, backend, fetcher, builtins, config, events, cancel)
    }

    /// Makes the plan without carrying it out.
    pub fn plan(&self, wanted: &[Wanted]) -> Result<Plan, BuildErrors> {
        let is_fetched = |builder: &str| self.fetcher.handles(builder);
        let refused = self.refused().clone();
        Ok(Plan::make_with(&self.context.store, wanted, &is_fetched, &*self.context.substitute, &refused)?)
    }

    /// Makes all wanted outputs valid and tells their paths. They are temporary roots of the open store.
    pub fn build(&self, wanted: &[Wanted]) -> Result<Built, BuildErrors> {
        let mut plan = self.plan(wanted)?;
        // What a cache promised and did not give is planned anew, without asking for it again.
        loop {
            let (builds, fetches) = (plan.count(Task::Build), plan.count(Task::Fetch));
            let fetches = fetches + plan.count(Task::Substitute);
            if builds + fetches == 0 {
                break;
            }
            let fetch_bytes = plan.fetch_bytes();
            self.context.events.emit(Event::Plan { builds, fetches, fetch_bytes });
            let refused = self.refused().len();
            let result = self.carry_out(&mut plan);
            if self.refused().len() == refused || self.context.cancel.is_cancelled() {
                result?;
                break;
            }
            if let Err(errors) = result
                && !errors.failed.is_empty()
            {
                return Err(errors);
            }
            plan = self.plan(wanted)?;
        }
        let mut built = Built::new();
        for one in wanted {
            let node = &plan.nodes[plan.id(&one.derivation).expect("what is wanted is in the plan")];
            let all = node.derivation.outputs.keys();
            let named = all.filter(|name| one.outputs.is_empty() || one.outputs.contains(*name));
            for output in named {
                let path = node.outputs[output].clone();
                built.insert((one.derivation.clone(), output.clone()), path);
            }
        }
        Ok(built)
    }

    fn carry_out(&self, plan: &mut Plan) -> Result<(), BuildErrors> {
        std::thread::scope(|scope| {
            let (sender, receiver) = crossbeam_channel::unbounded();
            let mut dispatcher = Dispatcher::new(self, plan, scope, sender);
            dispatcher.run(&receiver);
            dispatcher.result()
        })
    }
}

/// Order of starting: the farthest from the goal first, then the first found, so that runs are alike.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Ready {
    depth: usize,
    earlier: std::cmp::Reverse<NodeId>,
}

struct Dispatcher<'scope, 'env, 'plan> {
    builder: &'env Builder,
    plan: &'plan mut Plan,
    scope: &'scope Scope<'scope, 'env>,
    sender: Sender<Finished>,
    ready: BinaryHeap<Ready>,
    /// Builds that run.
    running: usize,
    /// Fetches that have not reported.
    fetching: usize,
    failed: BTreeMap<NodeId, BuildError>,
}

impl<'scope, 'env, 'plan> Dispatcher<'scope, 'env, 'plan> {
    fn new(
        builder: &'env Builder,
        plan: &'plan mut Plan,
        scope: &'scope Scope<'scope, 'env>,
        sender: Sender<Finished>,
    ) -> Self {
        let (ready, failed) = (BinaryHeap::new(), BTreeMap::new());
        Dispatcher { builder, plan, scope, sender, ready, running: 0, fetching: 0, failed }
    }

    fn run(&mut self, receiver: &Receiver<Finished>) {
        self.start_substitutions();
        self.start_fetches();
        for id in 0..self.plan.nodes.len() {
            if self.plan.nodes[id].task == Task::Build && self.plan.nodes[id].missing_inputs == 0 {
                self.make_ready(id);
            }
        }
        loop {
            self.start_builds();
            if self.running + self.fetching == 0 {
                return;
            }
            let Ok(Finished { node, result }) = receiver.recv() else { return };
            match self.plan.nodes[node].task {
                Task::Fetch | Task::Substitute => self.fetching -= 1,
                _ => self.running -= 1,
            }
            match result {
                Ok(outputs) => self.complete(node, outputs),
                // No failure: whatever waits for it is left for the next plan.
                Err(_) if self.plan.nodes[node].task == Task::Substitute => {
                    let path = self.plan.nodes[node].path.clone();
                    self.builder.refused().insert(path);
                }
                Err(error) => drop(self.failed.insert(node, *error)),
            }
        }
    }

    fn make_ready(&mut self, id: NodeId) {
        let depth = self.plan.nodes[id].depth;
        self.ready.push(Ready { depth, earlier: std::cmp::Reverse(id) });
    }

    /// No more is begun after Ctrl-C, or after a failure unless asked to go on. What runs goes on: minutes of
    /// work are not thrown away because something else failed.
    fn may_start(&self) -> bool {
        !self.builder.context.cancel.is_cancelled()
            && (self.failed.is_empty() || self.builder.context.config.keep_going)
    }

    fn start_builds(&mut self) {
        while self.may_start() && self.running < self.builder.context.config.max_jobs.max(1) {
            let Some(Ready { earlier: std::cmp::Reverse(id), .. }) = self.ready.pop() else { return };
            let node = &self.plan.nodes[id];
            let job = Job {
                path: node.path.clone(),
                derivation: node.derivation.clone(),
                hash: node.hash,
                inputs: input_outputs(self.plan, node),
            };
            self.running += 1;
            let (builder, sender) = (self.builder, self.sender.clone());
            self.scope.spawn(move || {
                let build = AssertUnwindSafe(|| builder.context.build(&job));
                let result = catch_unwind(build)
                    .unwrap_or_else(|_| Err(Box::new(BuildError::new(&job.path, Reason::Panicked))));
                // The dispatcher listens until everything it started has reported.
                let _ = sender.send(Finished { node: id, result });
            });
        }
    }

    /// Starts everything that comes from the network at once, beside the builds.
    fn start_fetches(&mut self) {
        let nodes: Vec<(NodeId, StorePath, Arc<rednix_store::derivation::Derivation>)> = self
            .plan
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.task == Task::Fetch)
            .map(|(id, node)| (id, node.path.clone(), node.derivation.clone()))
            .collect();
        if nodes.is_empty() {
            return;
        }
        self.fetching += nodes.len();
        let (builder, sender) = (self.builder, self.sender.clone());
        self.scope.spawn(move || {
            let wanted: Vec<_> =
                nodes.iter().map(|(_, path, derivation)| (path.clone(), derivation.clone())).collect();
            let reported: Vec<AtomicBool> = nodes.iter().map(|_| AtomicBool::new(false)).collect();
            let report = |index: usize, result| {
                if !reported[index].swap(true, Ordering::SeqCst) {
                    let _ = sender.send(Finished { node: nodes[index].0, result });
                }
            };
            let fetch = || fetch_all(&builder.context, &*builder.fetcher, &wanted, &report);
            if catch_unwind(AssertUnwindSafe(fetch)).is_err() {
                for (index, (_, path, _)) in nodes.iter().enumerate() {
                    report(index, Err(Box::new(BuildError::new(path, Reason::Panicked))));
                }
            }
        });
    }

    /// Starts everything that caches offer, beside the fetches and builds.
    fn start_substitutions(&mut self) {
        let mut asked: Vec<(NodeId, Ask)> = Vec::new();
        let mut waiting: BTreeMap<NodeId, (StorePath, usize, Outputs)> = BTreeMap::new();
        for (id, node) in self.plan.nodes.iter().enumerate() {
            if node.task == Task::Substitute {
                let asks = node.asks();
                waiting.insert(id, (node.path.clone(), asks.len(), Outputs::new()));
                asked.extend(asks.into_iter().map(|ask| (id, ask)));
            }
        }
        if asked.is_empty() {
            return;
        }
        self.fetching += waiting.len();
        let (builder, sender) = (self.builder, self.sender.clone());
        self.scope.spawn(move || {
            let waiting = Mutex::new(waiting);
            // A node is done with its last output, and at once with the first that cannot be had.
            let report = |id: NodeId, result: Result<(String, StorePath), String>| {
                let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let Some((path, left, outputs)) = waiting.get_mut(&id) else { return };
                let result = match result {
                    Err(reason) => Err(Box::new(BuildError::new(path, Reason::Fetch(reason)))),
                    Ok((output, path)) => {
                        outputs.insert(output, path);
                        *left -= 1;
                        if *left > 0 {
                            return;
                        }
                        Ok(std::mem::take(outputs))
                    }
                };
                waiting.remove(&id);
                let _ = sender.send(Finished { node: id, result });
            };
            let questions: Vec<Ask> = asked.iter().map(|(_, ask)| ask.clone()).collect();
            let bring = || {
                builder.context.substitute.bring(&builder.context.store, &questions, &|index, result| {
                    let (id, ask) = &asked[index];
                    report(*id, result.map(|path| (ask.output.clone(), path)));
                });
            };
            let _ = catch_unwind(AssertUnwindSafe(bring));
            for (id, _) in &asked {
                report(*id, Err("it was never reported".to_owned()));
            }
        });
    }

    fn complete(&mut self, id: NodeId, outputs: Outputs) {
        self.plan.nodes[id].outputs.extend(outputs);
        for dependent in std::mem::take(&mut self.plan.nodes[id].dependents) {
            let node = &mut self.plan.nodes[dependent];
            node.missing_inputs -= 1;
            if node.missing_inputs == 0 {
                self.make_ready(dependent);
            }
        }
    }

    fn result(mut self) -> Result<(), BuildErrors> {
        let cancelled = self.builder.context.cancel.is_cancelled();
        if self.failed.is_empty() && !cancelled {
            return Ok(());
        }
        let mut errors = BuildErrors { cancelled, ..BuildErrors::default() };
        for (id, node) in self.plan.nodes.iter().enumerate() {
            let done = node.wanted.iter().all(|output| node.outputs.contains_key(output));
            if !done && node.task != Task::Nothing && !self.failed.contains_key(&id) {
                errors.not_tried.insert(node.path.clone(), node.missing_inputs);
            }
        }
        errors.failed = std::mem::take(&mut self.failed).into_values().collect();
        errors.failed.sort_by_key(|error| matches!(error.reason, Reason::Cancelled));
        if errors.failed.is_empty() && errors.not_tried.is_empty() {
            // Ctrl-C came when everything was done.
            return Ok(());
        }
        Err(errors)
    }
}
