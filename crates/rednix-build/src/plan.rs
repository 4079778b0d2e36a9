//! What has to be done: the graph of derivations below the wanted ones that are not there yet. Nothing below
//! an output that is there is looked at. It starts nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rednix_store::derivation::{Derivation, DerivationHashes};
use rednix_store::hash::Hash;
use rednix_store::path::StorePath;
use rednix_store::store::Store;

use crate::environment::builtin_name;
use crate::job::{Outputs, needs_realisations, realisation_id};
use crate::substitute::{Ask, NoSubstitute, Substitute};

/// Something the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub derivation: StorePath,
    /// Empty means all.
    pub outputs: BTreeSet<String>,
}

impl Wanted {
    /// All outputs.
    pub fn all(derivation: &StorePath) -> Self {
        Wanted { derivation: derivation.clone(), outputs: BTreeSet::new() }
    }

    /// One output.
    pub fn output(derivation: &StorePath, output: &str) -> Self {
        Wanted { derivation: derivation.clone(), outputs: BTreeSet::from([output.to_owned()]) }
    }
}

pub type NodeId = usize;

/// What is to be done with a derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Nothing: its wanted outputs are valid.
    Nothing,
    Fetch,
    Build,
    /// Its missing outputs are brought from a cache.
    Substitute,
}

/// One derivation of the plan.
pub struct Node {
    pub path: StorePath,
    pub derivation: Arc<Derivation>,
    /// See [`crate::job::Job::hash`].
    pub hash: Option<Hash>,
    pub wanted: BTreeSet<String>,
    pub task: Task,
    /// Outputs known to be valid.
    pub outputs: Outputs,
    /// Derivations that need this one.
    pub dependents: Vec<NodeId>,
    /// How many derivations it needs are to be built or fetched.
    pub missing_inputs: usize,
    /// Bytes that [`Task::Substitute`] moves.
    pub transfer_bytes: u64,
    /// Steps from the wanted derivations; the farthest are started first, for most waits for them.
    pub depth: usize,
}

/// The whole plan.
pub struct Plan {
    pub nodes: Vec<Node>,
    ids: HashMap<StorePath, NodeId>,
}

impl Plan {
    /// Looks at the store and plans for `wanted`. `is_fetched` tells fetches from builds by builder name.
    pub fn make(
        store: &Store,
        wanted: &[Wanted],
        is_fetched: &dyn Fn(&str) -> bool,
    ) -> Result<Plan, rednix_store::Error> {
        Plan::make_with(store, wanted, is_fetched, &NoSubstitute, &BTreeSet::new())
    }

    /// [`Plan::make`] with somebody who may have outputs; derivations of `refused` are not asked for.
    pub fn make_with(
        store: &Store,
        wanted: &[Wanted],
        is_fetched: &dyn Fn(&str) -> bool,
        substitute: &dyn Substitute,
        refused: &BTreeSet<StorePath>,
    ) -> Result<Plan, rednix_store::Error> {
        let mut planner = Planner {
            store,
            is_fetched,
            substitute,
            refused,
            plan: Plan { nodes: Vec::new(), ids: HashMap::new() },
            derivations: HashMap::new(),
            hashes: DerivationHashes::new(),
            inspected: HashMap::new(),
        };
        let mut wave: BTreeSet<NodeId> = BTreeSet::new();
        for one in wanted {
            let derivation = planner.load(&one.derivation)?;
            let outputs = match one.outputs.is_empty() {
                true => derivation.outputs.keys().cloned().collect(),
                false => one.outputs.clone(),
            };
            wave.extend(planner.want(&one.derivation, derivation, &outputs, 0)?);
        }
        while !wave.is_empty() {
            wave = planner.inspect(wave)?;
        }
        planner.connect();
        Ok(planner.plan)
    }

    pub fn id(&self, path: &StorePath) -> Option<NodeId> {
        self.ids.get(path).copied()
    }

    pub fn count(&self, task: Task) -> u64 {
        self.nodes.iter().filter(|node| node.task == task).count() as u64
    }

    /// Bytes to be fetched, as far as the derivations tell (`size`).
    pub fn fetch_bytes(&self) -> u64 {
        let fetched = self.nodes.iter().filter(|node| node.task == Task::Fetch);
        let sources: u64 =
            fetched.filter_map(|node| node.derivation.variable("size")?.parse::<u64>().ok()).sum();
        sources + self.nodes.iter().map(|node| node.transfer_bytes).sum::<u64>()
    }
}

impl Node {
    fn missing_outputs(&self) -> impl Iterator<Item = &String> {
        self.wanted.iter().filter(|output| !self.outputs.contains_key(*output))
    }

    /// Questions for what it lacks.
    pub fn asks(&self) -> Vec<Ask> {
        let ask = |output: &String| Ask {
            derivation: self.path.clone(),
            output: output.clone(),
            path: self.derivation.output_path(output).cloned(),
            realisation: self.hash.as_ref().map(|hash| realisation_id(hash, output)),
        };
        self.missing_outputs().map(ask).collect()
    }
}

/// The attribute `allowSubstitutes`; working copies are nobody else's business.
pub fn may_substitute(derivation: &Derivation) -> bool {
    let named = |name: &str| match derivation.variable("__json") {
        Some(json) => {
            let attributes: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
            attributes.get(name).map(|value| value.as_bool() != Some(false))
        }
        None => derivation.variable(name).map(|value| !value.is_empty()),
    };
    named("allowSubstitutes").unwrap_or(true) && derivation.variable("rednixWork").is_none()
}

struct Planner<'a> {
    store: &'a Store,
    is_fetched: &'a dyn Fn(&str) -> bool,
    substitute: &'a dyn Substitute,
    refused: &'a BTreeSet<StorePath>,
    plan: Plan,
    derivations: HashMap<StorePath, Arc<Derivation>>,
    hashes: DerivationHashes,
    /// Nodes looked at, with the outputs that were wanted then.
    inspected: HashMap<NodeId, BTreeSet<String>>,
}

impl Planner<'_> {
    fn load(&mut self, path: &StorePath) -> Result<Arc<Derivation>, rednix_store::Error> {
        load(self.store, &mut self.derivations, path)
    }

    /// Notes that outputs of a derivation are needed; returns its node if it must be looked at (again).
    fn want(
        &mut self,
        path: &StorePath,
        derivation: Arc<Derivation>,
        outputs: &BTreeSet<String>,
        depth: usize,
    ) -> Result<Option<NodeId>, rednix_store::Error> {
        if let Some(absent) = outputs.iter().find(|output| !derivation.outputs.contains_key(*output)) {
            return Err(rednix_store::Error::NotValid { path: format!("{path}!{absent}") });
        }
        let id = match self.plan.ids.get(path) {
            Some(&id) => id,
            None => {
                let id = self.plan.nodes.len();
                self.plan.ids.insert(path.clone(), id);
                self.plan.nodes.push(Node {
                    path: path.clone(),
                    derivation,
                    hash: None,
                    wanted: BTreeSet::new(),
                    task: Task::Nothing,
                    outputs: Outputs::new(),
                    dependents: Vec::new(),
                    missing_inputs: 0,
                    transfer_bytes: 0,
                    depth,
                });
                id
            }
        };
        let node = &mut self.plan.nodes[id];
        node.depth = node.depth.max(depth);
        node.wanted.extend(outputs.iter().cloned());
        Ok((self.inspected.get(&id) != Some(&node.wanted)).then_some(id))
    }

    /// Looks whether the wanted outputs of these nodes are there; returns the nodes to look at next.
    fn inspect(&mut self, wave: BTreeSet<NodeId>) -> Result<BTreeSet<NodeId>, rednix_store::Error> {
        let mut candidates: Vec<(NodeId, String, StorePath)> = Vec::new();
        for &id in &wave {
            self.inspected.insert(id, self.plan.nodes[id].wanted.clone());
            self.candidates(id, &mut candidates)?;
        }
        // Rooted first, looked at then: a collection between the two cannot take them away.
        self.store.add_temp_roots(candidates.iter().map(|(_, _, path)| path))?;
        self.store.restore_readable(candidates.iter().map(|(_, _, path)| path))?;
        let valid = self.store.valid_among(candidates.iter().map(|(_, _, path)| path))?;
        for (id, output, path) in candidates {
            if valid.contains(&path) {
                self.plan.nodes[id].outputs.insert(output, path);
            }
        }
        let mut next = BTreeSet::new();
        let mut missing: BTreeSet<NodeId> =
            wave.into_iter().filter(|&id| self.plan.nodes[id].missing_outputs().next().is_some()).collect();
        self.ask(&mut missing);
        for id in missing {
            let node = &self.plan.nodes[id];
            let derivation = node.derivation.clone();
            let depth = node.depth + 1;
            self.plan.nodes[id].task = self.task(&derivation);
            for (input, outputs) in &derivation.input_derivations {
                let loaded = self.load(input)?;
                next.extend(self.want(input, loaded, outputs, depth)?);
            }
        }
        Ok(next)
    }

    /// Takes those nodes out of `missing` whose outputs can all be had.
    fn ask(&mut self, missing: &mut BTreeSet<NodeId>) {
        if !self.substitute.is_any() {
            return;
        }
        let mut asked = Vec::new();
        for &id in missing.iter() {
            let node = &self.plan.nodes[id];
            if may_substitute(&node.derivation) && !self.refused.contains(&node.path) {
                asked.extend(node.asks().into_iter().map(|ask| (id, ask)));
            }
        }
        let questions: Vec<Ask> = asked.iter().map(|(_, ask)| ask.clone()).collect();
        let mut had: BTreeMap<NodeId, Option<u64>> = BTreeMap::new();
        for ((id, _), offer) in asked.iter().zip(self.substitute.offers(self.store, &questions)) {
            let all = had.entry(*id).or_insert(Some(0));
            *all = all.zip(offer).map(|(sum, bytes)| sum + bytes);
        }
        for (id, bytes) in had {
            if let Some(bytes) = bytes {
                missing.remove(&id);
                self.plan.nodes[id].task = Task::Substitute;
                self.plan.nodes[id].transfer_bytes = bytes;
            }
        }
    }

    /// Paths that the wanted outputs of a node have, or are said to have.
    fn candidates(
        &mut self,
        id: NodeId,
        candidates: &mut Vec<(NodeId, String, StorePath)>,
    ) -> Result<(), rednix_store::Error> {
        let derivation = self.plan.nodes[id].derivation.clone();
        if needs_realisations(&derivation) && self.plan.nodes[id].hash.is_none() {
            let (store, derivations) = (self.store, &mut self.derivations);
            let mut load = |path: &StorePath| load(store, derivations, path).map(|found| (*found).clone());
            self.plan.nodes[id].hash = Some(*self.hashes.masked(&derivation, &mut load)?.hash());
        }
        let node = &self.plan.nodes[id];
        for output in &node.wanted {
            let known = match (derivation.output_path(output), &node.hash) {
                (Some(path), _) => Some(path.clone()),
                (None, Some(hash)) => {
                    let id = realisation_id(hash, output);
                    match self.store.query_realisation(&id)? {
                        Some(found) => Some(found.path),
                        None => self.store.archived_realisation(&id)?,
                    }
                }
                (None, None) => None,
            };
            candidates.extend(known.map(|path| (id, output.clone(), path)));
        }
        Ok(())
    }

    fn task(&self, derivation: &Derivation) -> Task {
        let fetched = derivation.is_fixed() && derivation.input_derivations.is_empty();
        match builtin_name(derivation) {
            Some(name) if fetched && (self.is_fetched)(&name) => Task::Fetch,
            _ => Task::Build,
        }
    }

    /// Ties each node to those that wait for it, and settles the depths.
    fn connect(&mut self) {
        for id in 0..self.plan.nodes.len() {
            if self.plan.nodes[id].task != Task::Build {
                continue;
            }
            let derivation = self.plan.nodes[id].derivation.clone();
            for input in derivation.input_derivations.keys() {
                let input = self.plan.ids[input];
                if self.plan.nodes[input].task != Task::Nothing {
                    self.plan.nodes[input].dependents.push(id);
                    self.plan.nodes[id].missing_inputs += 1;
                }
            }
        }
    }
}

fn load(
    store: &Store,
    derivations: &mut HashMap<StorePath, Arc<Derivation>>,
    path: &StorePath,
) -> Result<Arc<Derivation>, rednix_store::Error> {
    if let Some(known) = derivations.get(path) {
        return Ok(known.clone());
    }
    let derivation = match store.read_derivation(path) {
        Err(error) if error.is_not_found() => {
            return Err(rednix_store::Error::NotValid { path: path.to_string() });
        }
        other => Arc::new(other?),
    };
    derivations.insert(path.clone(), derivation.clone());
    Ok(derivation)
}

/// Outputs of a node's input derivations, once all are known.
pub fn input_outputs(plan: &Plan, node: &Node) -> BTreeMap<(StorePath, String), StorePath> {
    let mut inputs = BTreeMap::new();
    for (path, outputs) in &node.derivation.input_derivations {
        let input = &plan.nodes[plan.ids[path]];
        for output in outputs {
            let known = input.outputs.get(output).expect("a node starts when its inputs are there");
            inputs.insert((path.clone(), output.clone()), known.clone());
        }
    }
    inputs
}

/// What one output of a derivation turned out to be, if it is known and still valid.
pub fn realised_output(
    store: &Store,
    derivation: &Derivation,
    output: &str,
    hashes: &mut DerivationHashes,
    load: &mut dyn FnMut(&StorePath) -> Result<Derivation, rednix_store::Error>,
) -> Result<Option<StorePath>, rednix_store::Error> {
    let path = match derivation.output_path(output) {
        Some(path) => Some(path.clone()),
        None => {
            let hash = *hashes.masked(derivation, load)?.hash();
            store.query_realisation(&realisation_id(&hash, output))?.map(|found| found.path)
        }
    };
    Ok(match path {
        Some(path) if store.is_valid(&path)? => Some(path),
        _ => None,
    })
}
