//! A flag that many threads can wait for: "stop now". It kills nothing itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

struct Inner {
    cancelled: AtomicBool,
    /// Readable from the moment of cancelling on, for those who poll.
    event: OwnedFd,
}

/// Set once (by Ctrl-C, or by the first failure without `keep_going`), seen by all clones.
#[derive(Clone)]
pub struct CancelToken(Arc<Inner>);

impl CancelToken {
    pub fn new() -> std::io::Result<Self> {
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        Ok(CancelToken(Arc::new(Inner { cancelled: AtomicBool::new(false), event })))
    }

    /// Safe to call from any thread, any number of times.
    pub fn cancel(&self) {
        if !self.0.cancelled.swap(true, Ordering::SeqCst) {
            // An eventfd counter that was never read cannot be full.
            let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
        }
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Becomes readable when cancelled; never read from it.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

impl std::fmt::Debug for CancelToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("CancelToken").field(&self.is_cancelled()).finish()
    }
}
