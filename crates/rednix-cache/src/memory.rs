//! A budget of memory that several workers share. Whoever finds too little left waits, in the order of asking, so that
//! a large wish is not passed over for ever by small ones. Allocates nothing itself.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::limits::{ANSWERS_BYTES_MAX, DECODERS_BYTES_MAX};

/// Of all decompressors of this process together.
pub static DECODERS: Budget = Budget::new(DECODERS_BYTES_MAX);

/// Of all small files that are not that small, and what is made of them.
pub static ANSWERS: Budget = Budget::new(ANSWERS_BYTES_MAX);

#[derive(Debug)]
pub struct Budget {
    bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: u64,
    /// How many asked, and how many of them got their share.
    asked: u64,
    served: u64,
}

/// Bytes of a budget, given back when dropped. Who holds one must not wait for another one of the same budget.
#[derive(Debug)]
pub struct Share<'b> {
    budget: &'b Budget,
    bytes: u64,
}

impl Budget {
    pub const fn new(bytes: u64) -> Budget {
        let state = State { free: bytes, asked: 0, served: 0 };
        Budget { bytes, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// All there is, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits until so much is free; `None` where it never will be.
    pub fn take(&self, bytes: u64) -> Option<Share<'_>> {
        if bytes > self.bytes {
            return None;
        }
        let mut state = self.state();
        let turn = state.asked;
        state.asked += 1;
        while state.served != turn || state.free < bytes {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.free -= bytes;
        state.served += 1;
        drop(state);
        self.changed.notify_all();
        Some(Share { budget: self, bytes })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share<'_> {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.state().free += self.bytes;
        self.budget.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn never_more_is_out_than_there_is_and_everybody_gets_a_turn() {
        let budget = Budget::new(100);
        assert!(budget.take(101).is_none());
        let (out, most, turns) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            // One that needs everything, among many that need little.
            for wish in [100, 3, 30, 40, 7, 60, 1, 100] {
                let (budget, out, most, turns) = (&budget, &out, &most, &turns);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let share = budget.take(wish).unwrap();
                        most.fetch_max(out.fetch_add(wish, Ordering::SeqCst) + wish, Ordering::SeqCst);
                        std::thread::yield_now();
                        out.fetch_sub(share.bytes(), Ordering::SeqCst);
                        turns.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 100);
        assert_eq!((turns.into_inner(), budget.state().free), (1600, 100));
    }
}
