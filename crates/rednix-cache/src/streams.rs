//! Readers that watch what passes through them: sizes, hashes and the rate. They never hold more than a buffer.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rednix_store::hash::{Hash, Hasher};

use crate::error::Error;
use crate::limits::RATE_BYTES_MIN;

/// Where a reader inside a pipeline leaves its typed error, as `io::Error` has no room for it.
#[derive(Clone, Default)]
pub struct Cause(Arc<Mutex<Option<Error>>>);

impl Cause {
    pub fn set(&self, error: Error) -> io::Error {
        let told = io::Error::other(error.brief());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        told
    }

    pub fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Refuses to deliver more than was promised, and lets the last byte through only when all that was promised about the
/// rest of the pipeline holds.
pub struct Bounded<R> {
    inner: R,
    left: u64,
    too_long: Option<Box<dyn FnOnce() -> Error + Send>>,
    at_end: Option<Box<dyn FnOnce() -> crate::Result<()> + Send>>,
    cause: Cause,
}

impl<R: Read> Bounded<R> {
    pub fn new(inner: R, size: u64, cause: Cause, too_long: impl FnOnce() -> Error + Send + 'static) -> Self {
        Bounded { inner, left: size, too_long: Some(Box::new(too_long)), at_end: None, cause }
    }

    /// With a check for the moment in which everything was read, the inner reader to its end.
    pub fn then(mut self, at_end: impl FnOnce() -> crate::Result<()> + Send + 'static) -> Self {
        self.at_end = Some(Box::new(at_end));
        self
    }

    fn too_long(&mut self) -> io::Error {
        match self.too_long.take() {
            Some(error) => self.cause.set(error()),
            None => io::Error::other("read on after an error"),
        }
    }

    /// Nothing may follow; and what has the check is to be read to its end, trailers included.
    fn end(&mut self) -> io::Result<()> {
        let Some(at_end) = self.at_end.take() else { return Ok(()) };
        if self.inner.read(&mut [0; 1])? > 0 {
            return Err(self.too_long());
        }
        at_end().map_err(|error| self.cause.set(error))
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte more than allowed is asked for, to see that there is none.
        let wanted = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..wanted])?;
        let Some(left) = self.left.checked_sub(count as u64) else { return Err(self.too_long()) };
        self.left = left;
        if left == 0 {
            self.end()?;
        }
        Ok(count)
    }
}

/// Sees that less than [`RATE_BYTES_MIN`] per second arrives for a while: a trickle is a dead cache that does not show.
pub struct Pace {
    /// Time spent waiting and bytes that came, since the rate was last looked at.
    waited: Duration,
    bytes: u64,
    slow_after: Duration,
}

impl Pace {
    pub fn new(slow_after: Duration) -> Pace {
        Pace { waited: Duration::ZERO, bytes: 0, slow_after }
    }

    /// Notes what came, if anything, and how long it was waited for. An error where that is too slow.
    pub fn note(&mut self, url: &str, count: usize, waited: Duration) -> crate::Result<()> {
        self.waited += waited;
        self.bytes += count as u64;
        if self.waited < self.slow_after {
            return Ok(());
        }
        if count > 0 && (self.bytes as f64) < RATE_BYTES_MIN as f64 * self.waited.as_secs_f64() {
            let (url, limit_s) = (url.to_owned(), self.slow_after.as_secs());
            return Err(Error::TimedOut { url, phase: "to send next to nothing", limit_s });
        }
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        Ok(())
    }
}

/// Fails where what it reads is too slow.
pub struct Paced<R> {
    inner: R,
    url: String,
    pace: Pace,
    cause: Cause,
}

impl<R: Read> Paced<R> {
    pub fn new(inner: R, url: String, slow_after: Duration, cause: Cause) -> Self {
        Paced { inner, url, pace: Pace::new(slow_after), cause }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Only waiting counts: what the reader's user does meanwhile is not the cache's fault.
        let began = Instant::now();
        let count = self.inner.read(buffer)?;
        match self.pace.note(&self.url, count, began.elapsed()) {
            Ok(()) => Ok(count),
            Err(error) => Err(self.cause.set(error)),
        }
    }
}

/// Ends in an error where there is more than allowed.
pub struct Limited<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R> Limited<R> {
    pub fn new(inner: R, limit: u64) -> Self {
        Limited { inner, left: limit, limit }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.left.checked_sub(count as u64);
        self.left =
            left.ok_or_else(|| io::Error::other(format!("it is larger than {} bytes", self.limit)))?;
        Ok(count)
    }
}

/// Counts and hashes.
pub struct Hashing<R> {
    inner: R,
    pub hasher: Hasher,
}

impl<R> Hashing<R> {
    pub fn new(inner: R, hasher: Hasher) -> Self {
        Hashing { inner, hasher }
    }

    pub fn finish(self) -> (Hash, u64) {
        let size = self.hasher.len();
        (self.hasher.finish(), size)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
