//! How much room uploads may take in all: archives that wait for their entry, and paths that came with one. Counts
//! bytes; touches no file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

use super::Fault;

#[derive(Debug, Default)]
pub struct Quota {
    limit: Option<u64>,
    used: AtomicU64,
}

impl Quota {
    pub fn new(limit: Option<u64>, used: u64) -> Arc<Quota> {
        Arc::new(Quota { limit, used: AtomicU64::new(used) })
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
        let Quota { limit, used } = &*self.quota;
        let fits = |used: u64| used.checked_add(bytes).filter(|&sum| limit.is_none_or(|limit| sum <= limit));
        match used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
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
        self.bytes = 0;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.quota.give_back(self.bytes);
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
        assert!(Quota::new(None, 5).reserve(u64::MAX - 5).is_ok());
    }
}
