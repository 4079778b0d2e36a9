//! One cache: what it says about itself, its entries, and whether it is worth asking at the moment. Registers nothing.

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rednix_events::{Event, Events};
use rednix_store::hash::Hash;
use rednix_store::path::{STORE_DIR, StorePath};

use crate::absent::Absent;
use crate::error::{Error, Result, quoted};
use crate::limits::{BUSY_REST_MAX, FAILURES_MAX, PRIORITY_DEFAULT, REST};
use crate::narinfo::NarInfo;
use crate::netrc::{Login, without_logins};
use crate::realisation::{Found, Key};
use crate::transport::{self, Answer, Connections, Transport};

/// The address of a cache with its parameters: `URL?priority=N&trusted=1`. Those of a bucket or a store stay in
/// its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub url: String,
    pub priority: Option<u32>,
    /// Its word counts without signatures.
    pub trusted: bool,
    /// Who asks, where the address said so; the URL does not any more.
    pub login: Option<Login>,
}

impl Address {
    pub fn parse(text: &str) -> Result<Address> {
        let bad = |reason: String| Error::BadAddress { url: without_logins(text), reason };
        let (url, parameters) = text.split_once('?').unwrap_or((text, ""));
        // A plain folder is meant as one.
        let mut url = if url.starts_with('/') { format!("file://{url}") } else { url.to_owned() };
        let login = if url.starts_with("http") { Login::take_from(&mut url) } else { None };
        let mut address = Address { url, priority: None, trusted: false, login };
        for parameter in parameters.split('&').filter(|part| !part.is_empty()) {
            match parameter.split_once('=') {
                Some(("priority", value)) => {
                    let number = value.parse().map_err(|_| bad(format!("`{value}` is no priority")))?;
                    address.priority = Some(number);
                }
                Some(("trusted", value)) => address.trusted = matches!(value, "1" | "true"),
                // Where a bucket or a store is, which makes it another cache.
                Some(_)
                    if address.url.starts_with("s3://") || address.url.split('?').next() == Some("local") =>
                {
                    address.url.push(if address.url.contains('?') { '&' } else { '?' });
                    address.url.push_str(parameter);
                }
                // C++ Nix's other parameters are about writing.
                _ => {}
            }
        }
        Ok(address)
    }

    /// The URL without anything secret.
    pub fn shown(&self) -> String {
        without_logins(&self.url)
    }
}

/// Whether what a cache had not a moment ago is believed to be absent still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    Remembering,
    Anew,
}

/// Rests a cache that fails.
#[derive(Default)]
struct Health {
    failures: u32,
    until: Option<Instant>,
    /// It answered something.
    answered: bool,
}

pub struct Cache {
    pub address: Address,
    pub(crate) transport: Arc<dyn Transport>,
    info: OnceLock<Option<u32>>,
    health: Mutex<Health>,
    absent: Absent,
    events: Events,
    told: AtomicBool,
    told_refusal: AtomicBool,
}

impl Cache {
    /// `state` is a folder for what is remembered between runs.
    pub fn open(
        address: Address,
        connections: &Arc<Connections>,
        state: Option<&Path>,
        events: Events,
    ) -> Result<Cache> {
        let transport: Arc<dyn Transport> = transport::connect(&address, connections)?.into();
        Ok(Cache::over(address, transport, state, events))
    }

    pub fn over(
        address: Address,
        transport: Arc<dyn Transport>,
        state: Option<&Path>,
        events: Events,
    ) -> Cache {
        let file = state
            .filter(|_| !transport.is_local())
            .map(|folder| folder.join(format!("{}.absent", Hash::sha256(address.url.as_bytes()).to_nix32())));
        let absent = Absent::new(file);
        let (info, health, told) = (OnceLock::new(), Mutex::default(), AtomicBool::new(false));
        let told_refusal = AtomicBool::new(false);
        Cache { address, transport, info, health, absent, events, told, told_refusal }
    }

    /// Less is asked first. Asks the cache where the address does not say it.
    pub fn priority(&self) -> u32 {
        self.address.priority.or_else(|| self.own_priority()).unwrap_or(PRIORITY_DEFAULT)
    }

    fn own_priority(&self) -> Option<u32> {
        *self.info.get_or_init(|| {
            self.guarded(|| {
                let Some(bytes) = self.transport.get("nix-cache-info")? else { return Ok(None) };
                parse_info(&self.address.shown(), &bytes)
            })
            .ok()
            .flatten()
        })
    }

    /// Whether it is worth asking now.
    pub fn is_awake(&self) -> bool {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        match health.until {
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                // One question decides whether it is back.
                (health.failures, health.until) = (FAILURES_MAX - 1, None);
                true
            }
            None => true,
        }
    }

    /// Asks, and notes how that went.
    pub(crate) fn guarded<T>(&self, ask: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = ask();
        match &result {
            Ok(_) => {
                let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
                *health = Health { answered: true, ..Health::default() };
            }
            Err(error) => self.note(error),
        }
        result
    }

    /// Counts a trouble; one too many, and the cache is left alone for a while.
    pub(crate) fn note(&self, error: &Error) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.failures += match error {
            Error::Server { .. } | Error::Truncated { .. } => 1,
            // Some storage refuses what is not there; whoever answered before is not closed as a whole.
            Error::Denied { .. } | Error::Refused { .. } if health.answered => {
                drop(health);
                return self.tell_refusal(error);
            }
            // A short wait was waited for, in vain; a long one is respected.
            Error::Busy { .. } => FAILURES_MAX,
            // Time was lost already, or nobody is there, or the answer will stay the same.
            _ if error.is_outage() => FAILURES_MAX,
            _ => return,
        };
        if health.failures >= FAILURES_MAX && health.until.is_none() {
            let rest = match error {
                Error::Busy { wait, .. } => (*wait).clamp(REST, BUSY_REST_MAX),
                _ => REST,
            };
            health.until = Some(Instant::now() + rest);
            drop(health);
            self.tell(error, rest);
        }
    }

    fn tell_refusal(&self, error: &Error) {
        if !self.told_refusal.swap(true, Ordering::Relaxed) {
            let message = format!("the work goes on without what a cache refuses: {error}");
            self.events.emit(Event::Warning { message });
        }
    }

    /// Once per run, so that a dead cache is seen and does not fill the screen.
    fn tell(&self, error: &Error, rest: Duration) {
        if !self.told.swap(true, Ordering::Relaxed) {
            let (url, seconds) = (self.address.shown(), rest.as_secs());
            let message = format!(
                "the cache {url} is left alone for {seconds} s, and the work goes on without it: {error}"
            );
            self.events.emit(Event::Warning { message });
        }
    }

    fn small(&self, place: &str, asking: Asking) -> Result<Option<Answer>> {
        let is_absent = self.absent.contains(place);
        if is_absent && asking == Asking::Remembering {
            return Ok(None);
        }
        let found = self.guarded(|| self.transport.get(place))?;
        match &found {
            // To ask what is on this machine costs nothing.
            None if !self.transport.is_local() => self.absent.insert(place),
            Some(_) if is_absent => self.absent.remove(place),
            _ => {}
        }
        Ok(found)
    }

    /// The entry for a path, which it must really be about.
    /// `has_room` is asked before it is read, with its length in bytes.
    pub fn narinfo(
        &self,
        path: &StorePath,
        asking: Asking,
        has_room: impl FnOnce(usize) -> Result<()>,
    ) -> Result<Option<NarInfo>> {
        let place = format!("{}.narinfo", path.hash_part());
        let Some(bytes) = self.small(&place, asking)? else { return Ok(None) };
        has_room(bytes.len())?;
        let url = self.transport.url(&place);
        let entry = NarInfo::parse(&url, &bytes)?;
        if entry.path != *path {
            let reason = format!("it is about `{}`, not `{path}`", entry.path);
            return Err(Error::Malformed { what: url, reason });
        }
        Ok(Some(entry))
    }

    /// The log of a build, which nobody vouches for.
    pub fn log(&self, derivation: &StorePath) -> Result<Option<Box<dyn Read + Send>>> {
        self.guarded(|| self.transport.log(&crate::log::place(derivation)))
    }

    /// What it says an output is; nothing is checked.
    pub fn realisation(&self, key: &Key) -> Result<Option<Found>> {
        let place = key.place();
        self.small(&place, Asking::Remembering)?.map(|bytes| key.read(&bytes)).transpose()
    }
}

/// The priority in a `nix-cache-info`, after a look at whose store it is.
pub fn parse_info(url: &str, bytes: &[u8]) -> Result<Option<u32>> {
    let text = String::from_utf8_lossy(bytes);
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    if let Some(folder) = field("StoreDir")
        && folder != STORE_DIR
    {
        let reason = format!("it is for the store `{}`, not `{STORE_DIR}`", quoted(folder));
        return Err(Error::Protocol { url: url.to_owned(), reason });
    }
    Ok(field("Priority").and_then(|value| value.parse().ok()))
}
