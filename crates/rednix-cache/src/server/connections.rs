//! Connections: how many there are at once, and how long one may stand still. Knows nothing of what is asked.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Shared, handle};
use crate::limits::{
    ACCEPT_PAUSE, CONNECTION_LOOK, CONNECTIONS_MAX, CROWDED_FOR, HEAD_TIMEOUT, KEPT_IDLE, RATE_BYTES_MIN,
    SENT_SILENCE, SERVED_STREAMS, SLOW_AFTER, UNSENT_BYTES,
};

/// How long clients are waited for, and how many of them there may be.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub connections: usize,
    /// For the head of the first request, from its first byte to its last.
    pub head: Duration,
    /// For the next request.
    pub idle: Duration,
    /// The same of both, once no more connections are free.
    pub crowded: Duration,
    /// For a client to take the next piece of an answer, or to send the next one of a request.
    pub silence: Duration,
    /// How long one may be slower than [`RATE_BYTES_MIN`].
    pub slow_after: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connections: CONNECTIONS_MAX,
            head: HEAD_TIMEOUT,
            idle: KEPT_IDLE,
            crowded: CROWDED_FOR,
            silence: SENT_SILENCE,
            slow_after: SLOW_AFTER,
        }
    }
}

/// Accepts until the task is dropped.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(shared.patience.connections));
    // Ended when this is dropped.
    let mut conversations = JoinSet::new();
    loop {
        while conversations.try_join_next().is_some() {}
        // What there is no place for waits in the kernel.
        let place = places.clone().acquire_owned().await.expect("it is never closed");
        let Ok((stream, client)) = listener.accept().await else {
            // No more files, or a client that was gone at once: neither is a reason to end.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (shared, places) = (shared.clone(), places.clone());
        conversations.spawn(async move {
            let _place = place;
            converse(stream, client, shared, &places).await;
        });
    }
}

/// One connection, until either side ends it or it stands still.
async fn converse(stream: TcpStream, client: SocketAddr, shared: Arc<Shared>, places: &Semaphore) {
    let patience = shared.patience;
    // Not waited for is what the kernel sends; what it keeps is little, so that a client that reads is seen to.
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES);
    let usage =
        Arc::new(Mutex::new(Usage { asked: 0, answering: 0, is_sending: false, since: Instant::now() }));
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let answering = Answering::new(&usage);
        let shared = shared.clone();
        async move {
            let response = handle(shared, client, request.map(Body::new)).await;
            let (head, body) = response.into_parts();
            Ok::<_, Infallible>(Response::from_parts(head, Held { body, _answering: answering }))
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience.idle);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(SERVED_STREAMS);
    let stream = TokioIo::new(Watched::new(stream, patience, usage.clone()));
    let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
    let look = CONNECTION_LOOK.min(patience.head).min(patience.crowded);
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = tokio::time::sleep(look) => {
                let usage = usage.lock().unwrap_or_else(PoisonError::into_inner);
                if usage.is_too_long(&patience, places.available_permits() == 0) {
                    return;
                }
            }
        }
    }
}

/// What a connection is used for. Bytes count for nothing: half a request is none, however long it is.
struct Usage {
    asked: u64,
    answering: u32,
    /// What was made is not taken yet. How long that may last is [`Watched`]'s business.
    is_sending: bool,
    /// When it was last answering or sending, or began.
    since: Instant,
}

impl Usage {
    fn is_too_long(&self, patience: &Patience, is_crowded: bool) -> bool {
        let limit = if self.asked == 0 { patience.head } else { patience.idle };
        let limit = if is_crowded { limit.min(patience.crowded) } else { limit };
        self.answering == 0 && !self.is_sending && self.since.elapsed() >= limit
    }
}

/// From the end of a request's head to the end of its answer.
struct Answering(Arc<Mutex<Usage>>);

impl Answering {
    fn new(usage: &Arc<Mutex<Usage>>) -> Answering {
        let mut state = usage.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked += 1;
        state.answering += 1;
        drop(state);
        Answering(usage.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.answering -= 1;
        state.since = Instant::now();
    }
}

/// The body of an answer, which says when it was sent.
struct Held {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that ends where the other side takes nothing for too long, or too little.
struct Watched {
    stream: TcpStream,
    patience: Patience,
    /// Since when, and until when, it has waited for the other side.
    waiting: Option<(Instant, Pin<Box<tokio::time::Sleep>>)>,
    /// All such waiting, and the bytes that were taken in it.
    waited: Duration,
    taken: u64,
    usage: Arc<Mutex<Usage>>,
}

impl Watched {
    fn new(stream: TcpStream, patience: Patience, usage: Arc<Mutex<Usage>>) -> Watched {
        Watched { stream, patience, waiting: None, waited: Duration::ZERO, taken: 0, usage }
    }

    fn note(&self, is_sending: bool) {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        (usage.is_sending, usage.since) = (is_sending, Instant::now());
    }

    fn watch(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => {
                let silence = self.patience.silence;
                if self.waiting.is_none() {
                    self.note(true);
                }
                let (_, until) = self
                    .waiting
                    .get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(silence))));
                match until.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Poll::Pending => Poll::Pending,
                }
            }
            Poll::Ready(Ok(count)) => {
                if let Some((since, _)) = self.waiting.take() {
                    self.note(false);
                    self.waited += since.elapsed();
                    self.taken += *count as u64;
                    if self.waited >= self.patience.slow_after {
                        if self.taken < RATE_BYTES_MIN * self.waited.as_secs().max(1) {
                            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                        }
                        (self.waited, self.taken) = (Duration::ZERO, 0);
                    }
                }
                written
            }
            Poll::Ready(Err(_)) => written,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
