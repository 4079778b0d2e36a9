//! A store as a binary cache over HTTP: entries signed and archives packed as they are asked for, with no second copy
//! of anything. Takes uploads where a token is set. Listens where it is told and knows no TLS: that is a proxy's work.

mod answer;
mod archive;
mod connections;
mod entering;
mod flushes;
mod incoming;
mod page;
mod pieces;
mod quota;
mod rate;
mod taken;
mod upload;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use rednix_events::{Event, Events};
use rednix_store::Store;
use tokio::sync::Semaphore;

use crate::error::{Error, Result};
use crate::keys::{SecretKey, Trust};
use crate::limits::{STOP_LOOK, SWEEP_LOOKS, UPLOADS_PARALLEL};

pub use answer::Fault;
pub use connections::Patience;

/// How to serve.
pub struct ServerConfig {
    pub key: Option<SecretKey>,
    /// Allows uploads; none are taken without it.
    pub token: Option<String>,
    /// Uploads are believed on the token's word.
    pub accept_unsigned: bool,
    /// Whose signatures make an upload believable.
    pub trust: Trust,
    pub priority: u32,
    /// Archives are packed with zstd.
    pub compress: bool,
    /// Bytes that uploads may take in all, unpacked.
    pub uploads_bytes_max: Option<u64>,
    pub patience: Patience,
}

/// What happened so far.
#[derive(Default)]
pub struct Counters {
    pub requests: AtomicU64,
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub archives: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub uploads: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) struct Shared {
    pub store: Arc<Store>,
    pub config: ServerConfig,
    pub counters: Arc<Counters>,
    pub events: Events,
    pub folders: taken::Folders,
    pub patience: Patience,
    pub turns: Arc<pieces::Turns>,
    pub receiving: Arc<Semaphore>,
    pub rates: rate::Rates,
    pub quota: Arc<quota::Quota>,
    pub waiting: upload::Waiting,
    pub entering: entering::Entering,
    pub flushes: flushes::Flushes,
    /// Seconds since 1970.
    pub started_s: i64,
    pub sizes: archive::Sizes,
}

/// A bound server.
pub struct Server {
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
}

impl Server {
    pub fn bind(
        store: Arc<Store>,
        config: ServerConfig,
        address: SocketAddr,
        events: Events,
    ) -> Result<Server> {
        let fail = |error| Error::io("listen at", address.to_string(), error);
        let listener = std::net::TcpListener::bind(address).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        let folders = taken::Folders::of(&store);
        if config.token.is_some() {
            folders.create()?;
        }
        let waiting = upload::Waiting::default();
        let taken = match config.token.is_some() {
            true => taken::measure(&store, &folders, &waiting)?,
            false => 0,
        };
        let quota = quota::Quota::new(config.uploads_bytes_max, taken);
        let patience = Patience { connections: connections(config.patience.connections), ..config.patience };
        let shared = Shared {
            store,
            config,
            counters: Arc::default(),
            events,
            folders,
            patience,
            turns: Arc::default(),
            receiving: Arc::new(Semaphore::new(UPLOADS_PARALLEL)),
            rates: Default::default(),
            quota,
            waiting,
            entering: Default::default(),
            flushes: Default::default(),
            started_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64),
            sizes: Default::default(),
        };
        Ok(Server { listener, shared: Arc::new(shared) })
    }

    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|error| Error::io("find the address of", "the listener", error))
    }

    /// Serves until `stop` is set.
    pub fn run(self, stop: Arc<AtomicBool>) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::io("start", "the server's threads", error))?;
        let (shared, store) = (self.shared.clone(), self.shared.store.clone());
        let served = runtime.block_on(async move {
            let swept = shared.clone();
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            let stopped = async move {
                let mut looks = 0u32;
                while !stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(STOP_LOOK).await;
                    looks = (looks + 1) % SWEEP_LOOKS;
                    if looks == 0 && swept.config.token.is_some() {
                        let shared = swept.clone();
                        drop(tokio::task::spawn_blocking(move || taken::sweep(&shared)));
                    }
                }
            };
            tokio::select! {
                () = connections::accept(listener, shared) => {}
                () = stopped => {}
            }
            Ok(())
        });
        // What is half sent is broken off: whoever gets it takes it up again.
        runtime.shutdown_timeout(Duration::from_secs(1));
        // Logs are answered for without a wait for the disk.
        let flushed = store.flush_if_needed();
        served.map_err(|error| Error::io("serve", "the store", error))?;
        Ok(flushed?)
    }
}

/// As many connections as there may be, and no more than leave files for everything else.
fn connections(wanted: usize) -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    wanted.min(files.map_or(usize::MAX, |files| usize::try_from(files / 2).unwrap_or(usize::MAX))).max(1)
}

async fn handle(shared: Arc<Shared>, client: SocketAddr, request: Request) -> Response {
    Counters::add(&shared.counters.requests);
    let what = format!("{} {}", request.method(), request.uri().path());
    let result = if shared.rates.allow(client.ip()) {
        dispatch(&shared, client.ip(), request).await
    } else {
        Err(Fault::new(StatusCode::TOO_MANY_REQUESTS, "slower, please"))
    };
    match result {
        Ok(response) => response,
        Err(fault) => {
            if fault.status.is_server_error() {
                let message = format!("{what} from {client}: {}", fault.message);
                shared.events.emit(Event::Warning { message });
            }
            fault.into_response()
        }
    }
}

async fn dispatch(shared: &Arc<Shared>, client: IpAddr, request: Request) -> Result<Response, Fault> {
    let place = request.uri().path().trim_start_matches('/').to_owned();
    // Names of stores have nothing to escape but the `+`, which some clients do.
    let place = place
        .replace("%2B", "+")
        .replace("%2b", "+")
        .replace("%21", "!")
        .replace("%3A", ":")
        .replace("%3a", ":");
    let method = request.method().clone();
    match method {
        Method::GET | Method::HEAD => {
            let with_body = method == Method::GET;
            let headers = request.headers().clone();
            if let Some(name) = place.strip_prefix("nar/") {
                return archive::serve(shared, client, name, &headers, with_body).await;
            }
            if let Some(name) = place.strip_prefix("log/") {
                return answer::log(shared, client, name, with_body).await;
            }
            let (shared, accepts) = (shared.clone(), headers);
            blocking(move || answer::small(&shared, &place, &accepts, with_body)).await
        }
        Method::PUT => upload::receive(shared, &place, request).await,
        _ => Err(Fault::new(StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD and PUT are understood")),
    }
}

/// The token as bearer, or as the password of any user: C++ Nix knows only netrc.
fn authorise(shared: &Shared, headers: &HeaderMap) -> Result<(), Fault> {
    let Some(token) = &shared.config.token else {
        return Err(Fault::new(
            StatusCode::FORBIDDEN,
            "this cache takes no uploads (it was started without --token)",
        ));
    };
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = match value.split_once(' ') {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") => given.trim().as_bytes().to_vec(),
        Some((scheme, given)) if scheme.eq_ignore_ascii_case("basic") => {
            let plain = rednix_store::hash::base64_decode(given.trim()).unwrap_or_default();
            let at = plain.iter().position(|&byte| byte == b':').map_or(0, |at| at + 1);
            plain[at..].to_vec()
        }
        _ => Vec::new(),
    };
    // Compared as hashes, so that the time taken tells nothing about the token.
    let same = rednix_store::hash::Hash::sha256(&given) == rednix_store::hash::Hash::sha256(token.as_bytes());
    if same && !given.is_empty() {
        return Ok(());
    }
    Err(Fault::new(StatusCode::UNAUTHORIZED, "uploads need this cache's token, as bearer or as password"))
}

/// Runs what waits for the disk or the database where that holds up nobody else.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed; its log says how")),
    }
}

/// What everything for people has, whatever is in a log or a name: nothing is run, and nothing loaded.
pub(crate) const CONTENT_POLICY: (&str, &str) =
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:");

pub(crate) fn respond(status: StatusCode, kind: &'static str, body: Vec<u8>, with_body: bool) -> Response {
    let length = body.len();
    let body = if with_body { Body::from(body) } else { Body::empty() };
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_LENGTH, length)
        .header("X-Content-Type-Options", "nosniff")
        .header(CONTENT_POLICY.0, CONTENT_POLICY.1)
        .body(body)
        .expect("these headers are right")
}
