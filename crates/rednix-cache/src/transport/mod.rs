//! How a cache is reached: over HTTP, in a bucket, as a folder, or as another store. Knows no narinfo and no trust.

mod file;
mod http;
mod multipart;
mod s3;
mod store;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub use http::{Connections, HttpSettings, Patience};
pub use s3::S3Settings;

use crate::cache::Address;
use crate::error::{Error, Result};
use crate::limits::{
    ANSWER_BYTES_FREE, ANSWER_BYTES_MAX, ANSWERS_BYTES_MAX, RESUMES_MAX, SMALL_FILE_BYTES_MAX,
};
use crate::memory::{ANSWERS, Share};
use crate::streams::{Cause, Pace};

/// A file of a cache, from some offset on.
pub struct Opened {
    /// Where in the file the body begins: the wanted offset, or 0 where it cannot be taken up again.
    pub offset: u64,
    /// Of the whole file, where the cache says it.
    pub size: Option<u64>,
    /// What the file's present state is called.
    pub tag: Option<String>,
    pub body: Box<dyn Read + Send>,
}

/// A small file. A larger one of the small ones has a share of what such files may take together, for what is made of it
/// as well: whoever has one must not wait for another.
pub struct Answer {
    bytes: Vec<u8>,
    share: Option<Share<'static>>,
}

impl Answer {
    pub fn new(bytes: Vec<u8>) -> Answer {
        let share = Answer::share(bytes.len() as u64);
        Answer { bytes, share }
    }

    /// The share that an answer of some size needs; waits for it.
    fn share(size: u64) -> Option<Share<'static>> {
        if size > ANSWER_BYTES_FREE { ANSWERS.take(ANSWER_BYTES_MAX) } else { None }
    }
}

/// Buffers of large answers, to be used again: every thread that made its own would leave the allocator's memory of it
/// behind.
static BUFFERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// For an answer that has a share, so that there are never many.
fn buffer() -> Vec<u8> {
    let pooled = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner).pop();
    pooled.unwrap_or_else(|| Vec::with_capacity(SMALL_FILE_BYTES_MAX as usize + 1))
}

fn give_back(mut buffer: Vec<u8>) {
    let mut buffers = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner);
    if buffer.capacity() as u64 > SMALL_FILE_BYTES_MAX
        && (buffers.len() as u64) < ANSWERS_BYTES_MAX / ANSWER_BYTES_MAX
    {
        buffer.clear();
        buffers.push(buffer);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.bytes));
    }
}

impl std::ops::Deref for Answer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One cache's files. Absent is `None`; whatever else keeps a file from being read is an error.
pub trait Transport: Send + Sync {
    /// The whole address of a place, for messages.
    fn url(&self, place: &str) -> String;
    /// A small file.
    fn get(&self, place: &str) -> Result<Option<Answer>>;
    /// A log of a build, unpacked where the cache keeps it packed. It may be long, and ends in an error where it is longer
    /// than allowed.
    fn log(&self, place: &str) -> Result<Option<Box<dyn Read + Send>>>;
    fn exists(&self, place: &str) -> Result<bool>;
    fn open(&self, place: &str, offset: u64, tag: Option<&str>) -> Result<Option<Opened>>;
    /// Writes a file whole or not at all. A file in memory may get its name only with [`Transport::settle`]; whatever was
    /// put before it is there by then, also after a power cut.
    fn put(&self, place: &str, kind: &'static str, body: Body) -> Result<()>;
    /// Returns when everything that was put is there for good.
    fn settle(&self) -> Result<()> {
        Ok(())
    }
    /// How long it is waited for.
    fn patience(&self) -> Patience {
        Patience::default()
    }
    /// A folder in which a file can be written that [`Transport::put`] only needs to name.
    fn workshop(&self) -> Option<PathBuf> {
        None
    }
    /// Whether it is on this machine, so that asking costs nothing.
    fn is_local(&self) -> bool;
}

/// What is written.
pub enum Body {
    Bytes(Vec<u8>),
    File(File, u64),
}

/// Opens the transport for an address; only that of a bucket or a store has parameters.
pub fn connect(address: &Address, connections: &Arc<Connections>) -> Result<Box<dyn Transport>> {
    let url = address.url.as_str();
    let bad = |reason: &str| Error::BadAddress { url: address.shown(), reason: reason.to_owned() };
    if let Some(folder) = url.strip_prefix("file://") {
        if !folder.starts_with('/') {
            return Err(bad("a folder's path is absolute"));
        }
        return Ok(Box::new(file::Folder::new(PathBuf::from(folder))));
    }
    if url.starts_with("http://") || url.starts_with("https://") {
        return Ok(Box::new(http::Http::new(address, connections.clone())?));
    }
    if url.starts_with("local?") {
        return Ok(Box::new(store::LocalStore::open(url)?));
    }
    if url.starts_with("s3://") {
        let bucket = s3::Bucket::open(url, connections.s3())?;
        return Ok(Box::new(http::Http::bucket(bucket, connections.clone())));
    }
    Err(bad("it is no address this rednix can reach"))
}

/// Reads a file to its end whatever breaks in between: asks again from where it stopped.
pub struct Resuming {
    transport: Arc<dyn Transport>,
    place: String,
    current: Opened,
    position: u64,
    size: Option<u64>,
    /// Of the body that is read now, bytes that were read before.
    skip: u64,
    pace: Pace,
    /// Attempts since the last byte that is new.
    attempts: u32,
    cancelled: Arc<AtomicBool>,
    cause: Cause,
}

impl Resuming {
    pub fn new(
        transport: Arc<dyn Transport>,
        place: &str,
        opened: Opened,
        promised: Option<u64>,
        cancelled: Arc<AtomicBool>,
        cause: Cause,
    ) -> Resuming {
        let size = opened.size.or(promised);
        let place = place.to_owned();
        let pace = Pace::new(transport.patience().slow_after);
        Resuming {
            transport,
            place,
            current: opened,
            position: 0,
            size,
            skip: 0,
            pace,
            attempts: 0,
            cancelled,
            cause,
        }
    }

    fn url(&self) -> String {
        self.transport.url(&self.place)
    }

    /// Opens the file again at the present position.
    fn again(&mut self, broken: Error) -> Result<()> {
        // Time was lost already: whoever stays silent twice in a row is gone.
        self.attempts += if matches!(broken, Error::TimedOut { .. }) { RESUMES_MAX } else { 1 };
        if self.attempts > RESUMES_MAX || self.current.tag.is_none() {
            return Err(broken);
        }
        std::thread::sleep(self.transport.patience().pause * (1 << (self.attempts.min(4) - 1)));
        let tag = self.current.tag.clone();
        let opened = match self.transport.open(&self.place, self.position, tag.as_deref()) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Err(broken),
            // Perhaps it comes back for the next attempt.
            Err(error) if error.is_passing() => return Ok(()),
            Err(error) => return Err(error),
        };
        if opened.tag != tag {
            return Err(Error::Corrupt {
                url: self.url(),
                reason: "it changed while it was read".to_owned(),
            });
        }
        // A cache that cannot resume sends it from the start.
        self.skip = self.position - opened.offset.min(self.position);
        self.current = opened;
        Ok(())
    }

    /// Reads on: what came before and is to be passed over, or what is new.
    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = match usize::try_from(self.skip).unwrap_or(usize::MAX) {
            0 => buffer.len(),
            skip => skip.min(buffer.len()),
        };
        let count = self.current.body.read(&mut buffer[..wanted])?;
        self.skip = self.skip.saturating_sub(count as u64);
        Ok(count)
    }
}

impl Read for Resuming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(self.cause.set(Error::Cancelled));
            }
            let (is_known, began) = (self.skip > 0, Instant::now());
            let broken = match self.next(buffer) {
                Ok(count) if is_known && count > 0 => {
                    let noted = self.pace.note(&self.url(), count, began.elapsed());
                    noted.map_err(|error| self.cause.set(error))?;
                    continue;
                }
                Ok(0) if !buffer.is_empty() && (is_known || self.size.is_some_and(|s| self.position < s)) => {
                    let wanted = self.size.unwrap_or(self.position);
                    Error::Truncated { url: self.url(), got: self.position, wanted }
                }
                Ok(count) => {
                    self.position += count as u64;
                    self.attempts = 0;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    http::body_error(&self.url(), &error, self.position, self.size, self.transport.patience())
                }
            };
            self.again(broken).map_err(|error| self.cause.set(error))?;
        }
    }
}
