//! Entries whose paths are being made, and what each of them needs meanwhile. Makes nothing itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rednix_events::Event;
use rednix_store::path::StorePath;

use super::{Fault, Shared};

/// What entries that are being taken in need: two for one path come one after the other, so that room is taken once, and
/// what one relies on is kept from collections until the last one that does is done.
#[derive(Debug, Default)]
pub struct Entering {
    paths: Mutex<BTreeSet<StorePath>>,
    changed: Condvar,
    needed: Mutex<HashMap<StorePath, u32>>,
}

/// One entry's turn.
pub struct Entered<'e> {
    shared: &'e Shared,
    path: &'e StorePath,
    needed: BTreeSet<StorePath>,
}

impl Entering {
    fn needed(&self) -> MutexGuard<'_, HashMap<StorePath, u32>> {
        self.needed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'e> Entered<'e> {
    pub fn wait(shared: &'e Shared, path: &'e StorePath) -> Result<Entered<'e>, Fault> {
        let mut paths = shared.entering.paths.lock().unwrap_or_else(PoisonError::into_inner);
        while !paths.insert(path.clone()) {
            paths = shared.entering.changed.wait(paths).unwrap_or_else(PoisonError::into_inner);
        }
        drop(paths);
        let mut entered = Entered { shared, path, needed: BTreeSet::new() };
        entered.need(BTreeSet::from([path.clone()]))?;
        Ok(entered)
    }

    /// Keeps paths until this one's turn ends. Others that need one of them must not lose it in between, and so the
    /// promise is made and ended under one lock.
    pub fn need(&mut self, paths: BTreeSet<StorePath>) -> Result<(), Fault> {
        let mut needed = self.shared.entering.needed();
        for path in paths {
            if !self.needed.contains(&path) {
                *needed.entry(path.clone()).or_default() += 1;
                self.needed.insert(path);
            }
        }
        Ok(self.shared.store.add_temp_roots(&self.needed)?)
    }

    fn give_back(&mut self) -> Result<(), rednix_store::Error> {
        let mut needed = self.shared.entering.needed();
        let mut is_last = |path: &StorePath| match needed.get_mut(path) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => needed.remove(path).is_some(),
        };
        self.needed.retain(|path| is_last(path));
        self.shared.store.release_temp_roots(&self.needed)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.give_back() {
            let message = format!("what an upload needed stays until this server ends: {error}");
            self.shared.events.emit(Event::Warning { message });
        }
        let entering = &self.shared.entering;
        entering.paths.lock().unwrap_or_else(PoisonError::into_inner).remove(self.path);
        entering.changed.notify_all();
    }
}
