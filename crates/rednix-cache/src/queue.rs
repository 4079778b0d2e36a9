//! An order of work in which everything comes after what it refers to, for several workers. Transfers nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rednix_store::path::StorePath;

/// Paths to be worked on.
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ready: Vec<StorePath>,
    /// What each waits for.
    waiting: HashMap<StorePath, BTreeSet<StorePath>>,
    dependents: HashMap<StorePath, Vec<StorePath>>,
    /// Not finished.
    left: usize,
    all: BTreeSet<StorePath>,
}

impl Queue {
    /// Of references, only those count that are worked on too.
    pub fn new(references: BTreeMap<StorePath, BTreeSet<StorePath>>) -> Queue {
        let all: BTreeSet<StorePath> = references.keys().cloned().collect();
        let mut state = State {
            ready: Vec::new(),
            waiting: HashMap::new(),
            dependents: HashMap::new(),
            left: all.len(),
            all,
        };
        for (path, references) in references {
            let needs: BTreeSet<StorePath> =
                references.into_iter().filter(|other| *other != path && state.all.contains(other)).collect();
            for other in &needs {
                state.dependents.entry(other.clone()).or_default().push(path.clone());
            }
            if needs.is_empty() {
                state.ready.push(path);
            } else {
                state.waiting.insert(path, needs);
            }
        }
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn has(&self, path: &StorePath) -> bool {
        self.state().all.contains(path)
    }

    pub fn len(&self) -> usize {
        self.state().all.len()
    }

    /// The next to work on; waits for one. `None` when all is finished, or when what is left waits for itself.
    pub fn next(&self) -> Option<StorePath> {
        let mut state = self.state();
        loop {
            if let Some(path) = state.ready.pop() {
                return Some(path);
            }
            if state.left == 0 {
                return None;
            }
            // Entries that refer to each other in a circle: nobody works, nothing is ready. All fail.
            if state.left == state.waiting.len() {
                let path = state.waiting.keys().next().cloned()?;
                state.waiting.remove(&path);
                return Some(path);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes a result; tells everything that is settled by it: the path itself, and where it failed, whatever needed it.
    pub fn finish(
        &self,
        path: &StorePath,
        result: Result<(), String>,
    ) -> Vec<(StorePath, Result<(), String>)> {
        let mut state = self.state();
        let mut settled = vec![(path.clone(), result)];
        let mut at = 0;
        while at < settled.len() {
            let (path, result) = settled[at].clone();
            at += 1;
            state.left -= 1;
            for dependent in state.dependents.remove(&path).unwrap_or_default() {
                let Some(needs) = state.waiting.get_mut(&dependent) else { continue };
                match &result {
                    Ok(()) => {
                        needs.remove(&path);
                        if needs.is_empty() {
                            state.waiting.remove(&dependent);
                            state.ready.push(dependent);
                        }
                    }
                    Err(reason) => {
                        state.waiting.remove(&dependent);
                        let reason = match reason.starts_with("it refers to") {
                            true => reason.clone(),
                            false => format!("it refers to `{path}`: {reason}"),
                        };
                        settled.push((dependent, Err(reason)));
                    }
                }
            }
        }
        self.changed.notify_all();
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(number: usize) -> StorePath {
        StorePath::from_parts(&[number as u8; 20], &format!("p{number}")).unwrap()
    }

    fn run(edges: &[(usize, usize)], count: usize, bad: usize) -> HashMap<StorePath, bool> {
        let mut references: BTreeMap<_, BTreeSet<_>> =
            (0..count).map(|n| (path(n), BTreeSet::new())).collect();
        for &(from, to) in edges {
            references.get_mut(&path(from % count)).unwrap().insert(path(to % count));
        }
        let queue = Queue::new(references.clone());
        let (results, brought) = (Mutex::new(HashMap::new()), Mutex::new(BTreeSet::new()));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Some(next) = queue.next() {
                        let mut brought = brought.lock().unwrap();
                        let is_ready = references[&next].iter().all(|r| *r == next || brought.contains(r));
                        let result = match next == path(bad) || !is_ready {
                            true => Err("bad".to_owned()),
                            false => {
                                brought.insert(next.clone());
                                Ok(())
                            }
                        };
                        drop(brought);
                        for (path, result) in queue.finish(&next, result) {
                            assert!(results.lock().unwrap().insert(path, result.is_ok()).is_none());
                        }
                    }
                });
            }
        });
        results.into_inner().unwrap()
    }

    #[test]
    fn a_failure_takes_down_what_needs_it_and_nothing_else() {
        let results = run(&[(0, 1), (1, 2), (3, 4)], 5, 2);
        let good = |n| results[&path(n)];
        assert_eq!([good(0), good(1), good(2), good(3), good(4)], [false, false, false, true, true]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_path_is_settled_once(edges in proptest::collection::vec((0usize..8, 0usize..8), 0..12), bad in 0usize..20) {
            // Circles too: they end in failure, never in waiting.
            prop_assert_eq!(run(&edges, 8, bad).len(), 8);
        }
    }
}
