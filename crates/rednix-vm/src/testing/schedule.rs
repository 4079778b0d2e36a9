//! Several tests at once, as far as memory and a number of them allow. It knows nothing of what a test does.

use std::sync::{Condvar, Mutex};

use crate::limits::MACHINE_OVERHEAD_MIB;
use crate::testing::spec::TestSpec;

/// What may be used at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Tests.
    pub jobs: usize,
    pub memory_mib: u64,
}

/// Memory that a test's machines take on the host, in MiB.
pub fn memory_of(spec: &TestSpec) -> u64 {
    spec.machines.iter().map(|machine| machine.machine.memory_mib + MACHINE_OVERHEAD_MIB).sum()
}

struct State {
    next: usize,
    running: usize,
    used_mib: u64,
    stopped: bool,
}

/// Runs all works, each with a need of memory in MiB, and answers their results in order; none for those that were not
/// begun because an earlier one asked to stop by giving none. Works start in order. One that needs more than there is
/// runs alone.
pub fn run_all<T: Send>(
    needs_mib: &[u64],
    budget: Budget,
    work: impl Fn(usize) -> Option<T> + Sync,
) -> Vec<Option<T>> {
    let state = Mutex::new(State { next: 0, running: 0, used_mib: 0, stopped: false });
    let freed = Condvar::new();
    let results: Mutex<Vec<Option<T>>> = Mutex::new(needs_mib.iter().map(|_| None).collect());
    let worker = || {
        loop {
            let mut state_now = state.lock().expect("no holder panics");
            let number = loop {
                let Some(&need) = needs_mib.get(state_now.next).filter(|_| !state_now.stopped) else {
                    return;
                };
                let fits = state_now.used_mib.saturating_add(need) <= budget.memory_mib;
                if fits || state_now.running == 0 {
                    break state_now.next;
                }
                state_now = freed.wait(state_now).expect("no holder panics");
            };
            let need = needs_mib[number];
            state_now.next += 1;
            state_now.running += 1;
            state_now.used_mib += need;
            drop(state_now);
            let result = work(number);
            let mut state_now = state.lock().expect("no holder panics");
            state_now.running -= 1;
            state_now.used_mib -= need;
            state_now.stopped |= result.is_none();
            results.lock().expect("no holder panics")[number] = result;
            freed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..budget.jobs.clamp(1, needs_mib.len().max(1)) {
            scope.spawn(worker);
        }
    });
    results.into_inner().expect("no holder panics")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    /// The most memory and the most works at once, of which there are to be so many.
    fn peaks(needs: &[u64], budget: Budget, wanted: u64) -> (u64, u64) {
        let (used, count) = (AtomicU64::new(0), AtomicU64::new(0));
        let (most_used, most_count) = (AtomicU64::new(0), AtomicU64::new(0));
        let results = run_all(needs, budget, |number| {
            most_used
                .fetch_max(used.fetch_add(needs[number], Ordering::SeqCst) + needs[number], Ordering::SeqCst);
            most_count.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Until they are all there, however late they start; and a moment longer, for one too many.
            let begun = Instant::now();
            while most_count.load(Ordering::SeqCst) < wanted && begun.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(5));
            used.fetch_sub(needs[number], Ordering::SeqCst);
            count.fetch_sub(1, Ordering::SeqCst);
            Some(number)
        });
        let expected: Vec<Option<usize>> = (0..needs.len()).map(Some).collect();
        assert_eq!(results, expected, "results are in order");
        (most_used.into_inner(), most_count.into_inner())
    }

    #[test]
    fn memory_and_number_bound_what_runs() {
        let budget = Budget { jobs: 4, memory_mib: 1000 };
        assert_eq!(peaks(&[100; 8], budget, 4), (400, 4));
        let (used, count) = peaks(&[400; 6], budget, 2);
        assert!(used <= 1000 && count == 2, "{used} MiB, {count}");
        // What does not fit at all runs alone.
        assert_eq!(peaks(&[5000, 5000], budget, 1), (5000, 1));
        assert_eq!(peaks(&[], budget, 0), (0, 0));
    }

    #[test]
    fn nothing_begins_after_a_stop() {
        let results =
            run_all(&[1; 5], Budget { jobs: 1, memory_mib: 10 }, |number| (number < 2).then_some(number));
        assert_eq!(results, [Some(0), Some(1), None, None, None]);
    }
}
