//! How much room uploads may take in all: archives that wait for their entry, and paths that came with one. Counts
//! bytes; touches no file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::http::StatusCode;

use super::Fault;
use crate::limits::RECOUNT_AFTER;

#[derive(Debug)]
pub struct Quota {
    limit: Option<u64>,
    /// What is there, and what is coming.
    used: AtomicU64,
    /// What is coming.
    reserved: AtomicU64,
    counted: Mutex<Instant>,
}

impl Quota {
    pub fn new(limit: Option<u64>, used: u64) -> Arc<Quota> {
        let counted = Mutex::new(Instant::now());
        Arc::new(Quota { limit, used: AtomicU64::new(used), reserved: AtomicU64::new(0), counted })
    }

    /// Whether it was not counted just now.
    pub fn is_recount_due(&self) -> bool {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= RECOUNT_AFTER
    }

    /// Corrects what is used by what was found to be there. What comes meanwhile may count twice, until the next time.
    pub fn recount<E>(&self, measure: impl FnOnce() -> Result<u64, E>) -> Result<(), E> {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let before = self.used().saturating_sub(self.reserved.load(Ordering::Relaxed));
        let found = measure()?;
        let corrected = |used: u64| Some(used.saturating_sub(before).saturating_add(found));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, corrected);
        Ok(())
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    pub fn give_back(&self, bytes: u64) {
        let _ = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(bytes)));
    }

    /// Takes room for so many bytes, until the value goes.
    pub fn reserve(self: &Arc<Quota>, bytes: u64) -> Result<Reserved, Fault> {
        let mut reserved = Reserved { quota: self.clone(), bytes: 0 };
        reserved.more(bytes)?;
        Ok(reserved)
    }
}

/// Room taken; given back unless it is kept.
#[derive(Debug)]
pub struct Reserved {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Reserved {
    pub fn more(&mut self, bytes: u64) -> Result<(), Fault> {
        let Quota { limit, used, .. } = &*self.quota;
        let fits = |used: u64| used.checked_add(bytes).filter(|&sum| limit.is_none_or(|limit| sum <= limit));
        match used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                self.quota.reserved.fetch_add(bytes, Ordering::Relaxed);
                self.bytes += bytes;
                Ok(())
            }
            Err(used) => {
                let limit = limit.unwrap_or(u64::MAX);
                let message = format!("uploads may take {limit} bytes in all here, and {used} are taken");
                Err(Fault::new(StatusCode::INSUFFICIENT_STORAGE, message))
            }
        }
    }

    pub fn keep(mut self) {
        self.end(self.bytes);
    }

    /// Keeps so much of it.
    pub fn keep_only(&mut self, bytes: u64) {
        self.end(bytes.min(self.bytes));
    }

    fn end(&mut self, kept: u64) {
        self.quota.give_back(self.bytes - kept);
        self.quota.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.end(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_given_back() {
        let quota = Quota::new(Some(100), 10);
        let one = quota.reserve(60).unwrap();
        assert!(quota.reserve(31).is_err());
        assert_eq!(quota.used(), 70);
        let mut two = quota.reserve(20).unwrap();
        assert!(two.more(11).is_err() && two.more(10).is_ok());
        one.keep();
        drop(two);
        assert_eq!(quota.used(), 70);
        quota.give_back(1000);
        assert_eq!(quota.used(), 0);
        assert!(quota.reserve(u64::MAX).is_err());
        // What is coming is not what is there.
        let coming = quota.reserve(30).unwrap();
        quota.reserve(50).unwrap().keep();
        quota.recount(|| Ok::<_, ()>(20)).unwrap();
        assert_eq!(quota.used(), 50);
        drop(coming);
        assert_eq!((quota.used(), quota.reserved.load(Ordering::Relaxed)), (20, 0));
        let mut part = quota.reserve(40).unwrap();
        part.keep_only(10);
        drop(part);
        assert_eq!(quota.used(), 30);
        assert!(Quota::new(None, 5).reserve(u64::MAX - 5).is_ok());
    }
}
