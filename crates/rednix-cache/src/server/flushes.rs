//! What was uploaded is answered for when it survives a power cut. One wait for the disk serves everybody who asked
//! before it began. Knows not what is flushed.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub struct Flushes {
    state: Mutex<State>,
    changed: Condvar,
}

/// Flushes are counted from one on.
#[derive(Debug, Default)]
struct State {
    is_running: bool,
    begun: u64,
    /// The last one that went well.
    good: u64,
    #[cfg(test)]
    waiting: usize,
}

impl Flushes {
    /// Returns when a flush that began after this call went well; makes one, where nobody else does.
    pub fn flush<E>(&self, once: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut state = self.state();
        let wanted = state.begun + 1;
        while state.is_running && state.good < wanted {
            #[cfg(test)]
            (state.waiting += 1);
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            #[cfg(test)]
            (state.waiting -= 1);
        }
        if state.good >= wanted {
            return Ok(());
        }
        state.is_running = true;
        state.begun += 1;
        let number = state.begun;
        drop(state);
        let ended = Ended(self);
        let result = once();
        if result.is_ok() {
            self.state().good = number;
        }
        drop(ended);
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// However a flush ends, the next one may begin.
struct Ended<'f>(&'f Flushes);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.state().is_running = false;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn nobody_returns_before_a_flush_that_began_after_his_call() {
        let (flushes, written, flushed) = (Flushes::default(), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let mine = written.fetch_add(1, Ordering::SeqCst) + 1;
                        let flush = || -> Result<(), ()> {
                            let seen = written.load(Ordering::SeqCst);
                            std::thread::sleep(Duration::from_millis(2));
                            flushed.fetch_max(seen, Ordering::SeqCst);
                            Ok(())
                        };
                        flushes.flush(flush).unwrap();
                        assert!(flushed.load(Ordering::SeqCst) >= mine);
                    }
                });
            }
        });
    }

    #[test]
    fn one_flush_serves_all_that_asked_before_it() {
        let (flushes, count) = (Flushes::default(), AtomicU64::new(0));
        let once = || -> Result<(), ()> {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        std::thread::scope(|scope| {
            let all_wait = || -> Result<(), ()> {
                for _ in 0..7 {
                    scope.spawn(|| flushes.flush(once).unwrap());
                }
                while flushes.state().waiting < 7 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                once()
            };
            flushes.flush(all_wait).unwrap();
        });
        assert_eq!(
            count.into_inner(),
            2,
            "theirs began before they asked, and the next one is for all of them"
        );
    }

    #[test]
    fn a_failure_is_only_that_of_who_tried() {
        let flushes = Flushes::default();
        assert_eq!(flushes.flush(|| Err("full")), Err("full"));
        assert_eq!(flushes.flush(|| Ok::<_, &str>(())), Ok(()));
        std::thread::scope(|scope| {
            let tried: Vec<_> = (0..4)
                .map(|number| {
                    let flushes = &flushes;
                    scope.spawn(move || {
                        flushes.flush(|| {
                            std::thread::sleep(Duration::from_millis(5));
                            if number == 0 { Err(()) } else { Ok(()) }
                        })
                    })
                })
                .collect();
            let failed = tried.into_iter().map(|t| t.join().unwrap());
            assert!(failed.filter(Result::is_err).count() <= 1);
        });
    }
}
