//! Carries a plan out: one dispatcher that knows the graph, workers that know one derivation each, and one
//! fetching thread for all that comes from the network. They exchange messages and share no graph.

use std::collections::{BTreeMap, BinaryHeap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Builds what is asked for, in one store, by one configuration.
pub struct Builder {
    pub(crate) context: Context,
    pub(crate) fetcher: Arc<dyn Fetch>,
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
        Builder { context: Context { store, backend, builtins, config, events, cancel }, fetcher }
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
        Ok(Plan::make(&self.context.store, wanted, &|builder| self.fetcher.handles(builder))?)
    }

    /// Makes all wanted outputs valid and tells their paths. They are temporary roots of the open store.
    pub fn build(&self, wanted: &[Wanted]) -> Result<Built, BuildErrors> {
        let mut plan = self.plan(wanted)?;
        let (builds, fetches) = (plan.count(Task::Build), plan.count(Task::Fetch));
        if builds + fetches > 0 {
            let fetch_bytes = plan.fetch_bytes();
            self.context.events.emit(Event::Plan { builds, fetches, fetch_bytes });
            self.carry_out(&mut plan)?;
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
                Task::Fetch => self.fetching -= 1,
                _ => self.running -= 1,
            }
            match result {
                Ok(outputs) => self.complete(node, outputs),
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
        self.fetching = nodes.len();
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
