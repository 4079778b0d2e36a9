//! The graph of derivations below one, read from the store. It evaluates nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use rednix_build::plan::realised_output;
use rednix_store::derivation::{Derivation, DerivationHashes, upstream_placeholder};
use rednix_store::path::StorePath;
use rednix_store::store::Store;
use serde_json::Value;

type Result<T> = std::result::Result<T, rednix_store::Error>;

/// Chains told where there are several of one length.
const CHAINS_MAX: usize = 20;

/// Derivations, each read once.
pub struct Graph {
    store: Arc<Store>,
    read: RefCell<HashMap<StorePath, Arc<Derivation>>>,
    hashes: RefCell<DerivationHashes>,
}

/// From the start of a chain to its end.
pub type Chain = Vec<StorePath>;

impl Graph {
    pub fn new(store: Arc<Store>) -> Graph {
        Graph { store, read: RefCell::default(), hashes: RefCell::default() }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn get(&self, path: &StorePath) -> Result<Arc<Derivation>> {
        if let Some(known) = self.read.borrow().get(path) {
            return Ok(known.clone());
        }
        let derivation = Arc::new(self.store.read_derivation(path)?);
        self.read.borrow_mut().insert(path.clone(), derivation.clone());
        Ok(derivation)
    }

    /// What an output turned out to be, if it was built and is still there.
    pub fn output(&self, path: &StorePath, output: &str) -> Result<Option<StorePath>> {
        let derivation = self.get(path)?;
        let mut load = |input: &StorePath| self.get(input).map(|found| Derivation::clone(&found));
        realised_output(&self.store, &derivation, output, &mut self.hashes.borrow_mut(), &mut load)
    }

    /// The derivation and all below it, nearest first.
    pub fn closure(&self, root: &StorePath) -> Result<Vec<StorePath>> {
        let (mut seen, mut pending) = (HashSet::from([root.clone()]), VecDeque::from([root.clone()]));
        let mut closure = Vec::new();
        while let Some(path) = pending.pop_front() {
            for input in self.get(&path)?.input_derivations.keys() {
                if seen.insert(input.clone()) {
                    pending.push_back(input.clone());
                }
            }
            closure.push(path);
        }
        Ok(closure)
    }

    /// The shortest chains from `root` to something `is_goal` says yes to: one, or all of that length.
    pub fn chains(
        &self,
        root: &StorePath,
        all: bool,
        is_goal: &mut dyn FnMut(&StorePath) -> Result<bool>,
    ) -> Result<Vec<Chain>> {
        let mut next = |path: &StorePath| -> Result<Vec<StorePath>> {
            if !path.is_derivation() {
                return Ok(Vec::new());
            }
            let derivation = self.get(path)?;
            Ok(derivation.input_derivations.keys().chain(&derivation.input_sources).cloned().collect())
        };
        shortest(root, all, &mut next, is_goal)
    }
}

/// Breadth first, level by level; keeps every parent on a shortest way, so that all shortest chains can be told.
pub fn shortest(
    root: &StorePath,
    all: bool,
    next: &mut dyn FnMut(&StorePath) -> Result<Vec<StorePath>>,
    is_goal: &mut dyn FnMut(&StorePath) -> Result<bool>,
) -> Result<Vec<Chain>> {
    let mut parents: HashMap<StorePath, Vec<StorePath>> = HashMap::from([(root.clone(), Vec::new())]);
    let mut level = vec![root.clone()];
    while !level.is_empty() {
        let mut reached: BTreeMap<StorePath, Vec<StorePath>> = BTreeMap::new();
        for path in &level {
            for child in next(path)? {
                if !parents.contains_key(&child) {
                    reached.entry(child).or_default().push(path.clone());
                }
            }
        }
        level = reached.keys().cloned().collect();
        parents.extend(reached);
        let mut goals = Vec::new();
        for path in &level {
            if is_goal(path)? {
                goals.push(path.clone());
            }
        }
        if !goals.is_empty() {
            let mut chains = Vec::new();
            for goal in goals {
                unwind(&goal, &parents, &mut vec![], &mut chains, if all { CHAINS_MAX } else { 1 });
            }
            return Ok(chains);
        }
    }
    Ok(Vec::new())
}

/// Follows parents up to the start; the depth is that of the found chain.
fn unwind(
    at: &StorePath,
    parents: &HashMap<StorePath, Vec<StorePath>>,
    below: &mut Vec<StorePath>,
    chains: &mut Vec<Chain>,
    chains_max: usize,
) {
    if chains.len() >= chains_max {
        return;
    }
    below.push(at.clone());
    if parents[at].is_empty() {
        chains.push(below.iter().rev().cloned().collect());
    }
    for parent in &parents[at] {
        unwind(parent, parents, below, chains, chains_max);
    }
    below.pop();
}

/// The derivation's name, or a source's.
pub fn name(path: &StorePath) -> &str {
    path.name().strip_suffix(".drv").unwrap_or(path.name())
}

/// Attributes of a derivation, structured ones one by one, and what is not an attribute under a name that tells.
pub fn attributes(derivation: &Derivation) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut attributes = BTreeMap::new();
    for (name, value) in &derivation.environment {
        match (name.as_slice(), serde_json::from_slice::<Value>(value)) {
            (b"__json", Ok(Value::Object(fields))) => {
                for (name, value) in fields {
                    let value = match value {
                        Value::String(text) => text,
                        other => serde_json::to_string_pretty(&other).expect("a JSON value can be written"),
                    };
                    attributes.insert(name, value);
                }
            }
            _ => drop(attributes.insert(text(name), text(value))),
        }
    }
    attributes.insert("builder".to_owned(), text(&derivation.builder));
    attributes.insert("system".to_owned(), text(&derivation.system));
    let arguments: Vec<String> = derivation.arguments.iter().map(|argument| text(argument)).collect();
    attributes.insert("args".to_owned(), arguments.join("\n"));
    attributes
}

/// How an input is spelled inside a derivation.
pub fn spellings(
    input: &StorePath,
    derivation: &Derivation,
    loaded: Option<&Derivation>,
) -> BTreeSet<String> {
    let Some(outputs) = derivation.input_derivations.get(input) else {
        return BTreeSet::from([input.to_string()]);
    };
    let mut spellings = BTreeSet::new();
    for output in outputs {
        spellings.insert(upstream_placeholder(input, output));
        spellings.extend(loaded.and_then(|d| d.output_path(output)).map(ToString::to_string));
    }
    spellings
}

/// The attributes of `derivation` that name `input`.
pub fn roles(derivation: &Derivation, input: &StorePath, loaded: Option<&Derivation>) -> Vec<String> {
    let spellings = spellings(input, derivation, loaded);
    attributes(derivation)
        .into_iter()
        .filter(|(_, value)| spellings.iter().any(|spelling| value.contains(spelling.as_str())))
        .map(|(name, _)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rednix_store::hash::Hash;
    use rednix_store::path::text_path;

    use super::*;

    fn node(number: usize) -> StorePath {
        text_path(&format!("n{number:02}"), &Hash::sha256(&[number as u8]), &BTreeSet::new()).unwrap()
    }

    fn find(edges: &[(usize, usize)], all: bool, goal: usize) -> Vec<Vec<usize>> {
        let number = |path: &StorePath| path.name()[1..].parse::<usize>().unwrap();
        let mut next = |path: &StorePath| {
            Ok(edges.iter().filter(|(from, _)| *from == number(path)).map(|(_, to)| node(*to)).collect())
        };
        let chains = shortest(&node(0), all, &mut next, &mut |path| Ok(*path == node(goal))).unwrap();
        let mut chains: Vec<Vec<usize>> =
            chains.iter().map(|chain| chain.iter().map(number).collect()).collect();
        chains.sort();
        chains
    }

    #[test]
    fn chains_table() {
        let edges = [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (0, 5), (5, 0)];
        assert_eq!(find(&edges, true, 4), [vec![0, 1, 3, 4], vec![0, 2, 3, 4]]);
        assert_eq!(find(&edges, false, 4).len(), 1);
        assert_eq!(find(&edges, true, 5), [vec![0, 5]]);
        assert!(find(&edges, true, 9).is_empty());
    }

    proptest! {
        /// Every chain follows edges, begins and ends right, and none is longer than another.
        #[test]
        fn chains_are_real(edges in prop::collection::vec((0..9_usize, 0..9_usize), 0..30), goal in 1..9_usize) {
            let chains = find(&edges, true, goal);
            for chain in &chains {
                prop_assert_eq!((chain[0], *chain.last().unwrap()), (0, goal));
                prop_assert_eq!(chain.len(), chains[0].len());
                prop_assert!(chain.windows(2).all(|pair| edges.contains(&(pair[0], pair[1]))));
            }
        }
    }
}
