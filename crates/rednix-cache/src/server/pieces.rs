//! Answers made while they are sent: a thread makes pieces, a connection takes them. Who makes one holds a turn, and
//! gives it up while the client does not take what is there. Knows not what is made.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Bytes, HttpBody};
use http_body::Frame;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Patience;
use crate::limits::{
    BUFFER_BYTES, CLIENTS_MAX, RATE_BYTES_MIN, SERVED_PARALLEL, SERVED_PER_CLIENT, SERVED_STALLED,
    STALLED_AFTER,
};

/// Pieces between the thread that makes them and the connection.
const PIECES: usize = 8;

/// Who may make an answer at the moment.
pub struct Turns {
    /// Those at work.
    working: Arc<Semaphore>,
    /// Those that wait for their client.
    stalled: Arc<Semaphore>,
    /// What one client may have of both, so that there is something left for the others.
    clients: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            working: Arc::new(Semaphore::new(SERVED_PARALLEL)),
            stalled: Arc::new(Semaphore::new(SERVED_STALLED)),
            clients: Mutex::default(),
        }
    }
}

/// The right to make one answer.
pub struct Turn {
    turns: Arc<Turns>,
    working: Option<OwnedSemaphorePermit>,
    _client: OwnedSemaphorePermit,
}

impl Turns {
    pub async fn take(self: &Arc<Turns>, client: IpAddr) -> Turn {
        let own = self.of(client);
        let client = own.acquire_owned().await.expect("it is never closed");
        let working = self.working.clone().acquire_owned().await.expect("it is never closed");
        Turn { turns: self.clone(), working: Some(working), _client: client }
    }

    fn of(&self, client: IpAddr) -> Arc<Semaphore> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = clients.get(&client).and_then(Weak::upgrade) {
            return own;
        }
        if clients.len() >= CLIENTS_MAX {
            clients.retain(|_, own| own.strong_count() > 0);
        }
        let own = Arc::new(Semaphore::new(SERVED_PER_CLIENT));
        clients.insert(client, Arc::downgrade(&own));
        own
    }
}

/// What lies between two positions of all that is written, on its way to a client. Written to by a thread that may block.
pub struct Sending {
    sender: mpsc::Sender<Bytes>,
    turn: Turn,
    patience: Patience,
    skip: u64,
    left: u64,
    position: u64,
    /// All waiting for the client so far, and the bytes it took in it.
    waited: Duration,
    taken: u64,
    is_whole: Arc<AtomicBool>,
    /// The client took no more.
    is_left: bool,
}

/// A way to a client from `start` to before `end`, and the body that comes out of it.
pub fn way(turn: Turn, patience: Patience, start: u64, end: Option<u64>) -> (Sending, Pieces) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let left = end.map_or(u64::MAX, |end| end - start);
    let (waited, taken) = Default::default();
    let is_whole = Arc::new(AtomicBool::new(false));
    let pieces = Pieces { receiver, is_whole: is_whole.clone(), is_ended: false };
    let (position, is_left) = (0, false);
    (
        Sending { sender, turn, patience, skip: start, left, position, waited, taken, is_whole, is_left },
        pieces,
    )
}

impl Sending {
    /// Bytes made so far, and of these sent.
    pub fn position(&self) -> (u64, u64) {
        (self.position, self.position.saturating_sub(self.skip))
    }

    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Whether it ended because of the client.
    pub fn is_left(&self) -> bool {
        self.is_left
    }

    /// Large writes only.
    pub fn buffered(self) -> io::BufWriter<Sending> {
        io::BufWriter::with_capacity(BUFFER_BYTES, self)
    }

    /// Ends it; whatever was not whole is seen by the client as broken off.
    pub fn end(self, result: io::Result<()>) {
        self.is_whole.store(result.is_ok() || self.is_done(), Ordering::Release);
    }

    fn send(&mut self, piece: Bytes) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let piece = match self.sender.try_send(piece) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(piece)) => piece,
            Err(TrySendError::Closed(_)) => return Err(gone()),
        };
        let (handle, since, size) = (Handle::current(), Instant::now(), piece.len() as u64);
        // Most clients are done with the piece before within a moment.
        let wait = |wait| handle.block_on(tokio::time::timeout(wait, self.sender.reserve()));
        let mut place = wait(STALLED_AFTER.min(self.patience.silence));
        if place.is_err()
            && let Ok(stalled) = self.turn.turns.stalled.clone().try_acquire_owned()
        {
            self.turn.working = None;
            place = wait(self.patience.silence);
            let working = self.turn.turns.working.clone();
            self.turn.working = Some(handle.block_on(working.acquire_owned()).expect("it is never closed"));
            drop(stalled);
        } else if place.is_err() {
            place = wait(self.patience.silence);
        }
        match place {
            Ok(Ok(place)) => place.send(piece),
            Ok(Err(_)) => return Err(gone()),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        self.waited += since.elapsed();
        self.taken += size;
        if self.waited >= self.patience.slow_after {
            if self.taken < RATE_BYTES_MIN * self.waited.as_secs().max(1) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            (self.waited, self.taken) = Default::default();
        }
        Ok(())
    }
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped =
            usize::try_from(self.skip.saturating_sub(self.position)).unwrap_or(usize::MAX).min(bytes.len());
        let wanted = &bytes[skipped..];
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(wanted.len());
        if count > 0 {
            let sent = self.send(Bytes::copy_from_slice(&wanted[..count]));
            self.is_left = sent.is_err();
            sent?;
            self.left -= count as u64;
        } else if self.sender.is_closed() {
            // What comes before the wanted part is made for nobody, too.
            self.is_left = true;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.position += bytes.len() as u64;
        if self.left == 0 {
            // Enough: making the rest would be for nobody.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The pieces as a body.
pub struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    is_whole: Arc<AtomicBool>,
    is_ended: bool,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = std::task::ready!(self.receiver.poll_recv(context));
        Poll::Ready(match piece {
            Some(piece) => Some(Ok(Frame::data(piece))),
            // Where no length was told, an end would look like the end.
            None if !self.is_ended && !self.is_whole.load(Ordering::Acquire) => {
                self.is_ended = true;
                Some(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            None => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of a way into which so much was written, and whether it ended well.
    fn come(count: usize, result: io::Result<()>) -> (usize, bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let turn = Arc::<Turns>::default().take([127, 0, 0, 1].into()).await;
            let (mut sending, mut pieces) = way(turn, Patience::default(), 0, None);
            for _ in 0..count {
                sending.write_all(b"piece").unwrap();
            }
            sending.end(result);
            let (mut bytes, mut is_good) = (0, true);
            while let Some(piece) =
                std::future::poll_fn(|context| Pin::new(&mut pieces).poll_frame(context)).await
            {
                match piece {
                    Ok(piece) => bytes += piece.into_data().map_or(0, |piece| piece.len()),
                    Err(_) => is_good = false,
                }
            }
            (bytes, is_good)
        })
    }

    #[test]
    fn what_breaks_off_never_looks_whole() {
        assert_eq!(come(3, Ok(())), (15, true));
        assert_eq!(come(3, Err(io::ErrorKind::Other.into())), (15, false));
        // Also where nothing more can be said.
        assert_eq!(come(PIECES, Err(io::ErrorKind::Other.into())), (5 * PIECES, false));
    }
}
