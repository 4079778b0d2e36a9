//! Stores, caches in folders, and an HTTP server that does what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rednix_cache::cache::{Address, Cache};
use rednix_cache::caches::{Ask, Caches};
use rednix_cache::push::{Push, Pushed};
use rednix_cache::transport::{self, Connections, HttpSettings, Patience};
use rednix_cache::{Result, SecretKey, Trust};
use rednix_events::{Event, Events, Recorder};
use rednix_store::PathInfo;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::nar::Tree;
use rednix_store::path::StorePath;
use rednix_store::store::{OpenOptions, Realisation, RealisationId, Store};

pub fn store(folder: &Path) -> Store {
    Store::open(folder, OpenOptions::default()).unwrap()
}

pub fn key() -> SecretKey {
    SecretKey::from_seed("test-1", [9; 32]).unwrap()
}

pub fn trust() -> Trust {
    Trust::new(vec![key().public()])
}

/// A path whose name says nothing about its contents, built here.
pub fn built(store: &Store, name: &str, contents: &str, references: &[&StorePath]) -> StorePath {
    let mut tree = Tree::directory();
    tree.insert("file", Tree::file(contents)).unwrap();
    tree.insert("run", Tree::executable(&b"#!/bin/sh\n"[..])).unwrap();
    tree.insert("link", Tree::symlink("file")).unwrap();
    let nar = tree.to_nar().unwrap();
    let path = rednix_store::path::output_path("out", &Hash::sha256(name.as_bytes()), name).unwrap();
    let mut info = PathInfo::new(path.clone(), Hash::sha256(&nar), nar.len() as u64);
    info.references = references.iter().map(|path| (*path).clone()).collect();
    info.ultimate = true;
    store.add_nar(&mut nar.as_slice(), &info).unwrap();
    path
}

pub fn realised(store: &Store, path: &StorePath) -> RealisationId {
    let id =
        RealisationId { derivation_hash: Hash::of(HashAlgorithm::Sha256, b"drv"), output: "out".to_owned() };
    let realisation = Realisation { id: id.clone(), path: path.clone(), signatures: Vec::new() };
    store.register_realisations(&[realisation]).unwrap();
    id
}

pub fn push(store: &Store, to: &str, key: Option<&SecretKey>, paths: &[&StorePath]) -> Result<Pushed> {
    push_with(store, to, key, paths, HttpSettings::default())
}

pub fn push_with(
    store: &Store,
    to: &str,
    key: Option<&SecretKey>,
    paths: &[&StorePath],
    settings: HttpSettings,
) -> Result<Pushed> {
    let events: Events = Arc::new(rednix_events::Silent);
    let scratch = tempfile::tempdir().unwrap();
    let transport = transport::connect(&Address::parse(to)?, &Arc::new(Connections::new(settings)))?;
    let cancelled = AtomicBool::new(false);
    let push = Push {
        store,
        transport: &*transport,
        key,
        events: &events,
        cancelled: &cancelled,
        scratch: scratch.path().to_owned(),
        keep_going: false,
    };
    push.run(&paths.iter().map(|path| (*path).clone()).collect::<BTreeSet<_>>())
}

/// Says that something was not tested, where test runners do not swallow it.
pub fn skipped(reason: &str) {
    let _ = std::io::stderr().write_all(format!("skipped: {reason}\n").as_bytes());
}

/// A client that waits no longer than a test likes to, or so many times as long.
pub fn impatient(times: u32) -> HttpSettings {
    let ms = |count| std::time::Duration::from_millis(count) * times;
    let patience =
        Patience { connect: ms(500), silence: ms(500), slow_after: ms(800), small: ms(800), pause: ms(50) };
    HttpSettings { patience, ..HttpSettings::default() }
}

/// A machine with much to do may take longer than the little patience of a test allows those who are in order. Then the
/// same is tried with many times as much: what is wrong fails with each.
pub fn patiently(attempt: impl Fn(u32)) {
    for times in [1, 8] {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attempt(times))).is_ok() {
            return;
        }
    }
    attempt(40);
}

/// An address of this machine where nobody listens, and that nobody else can get meanwhile: the near end of a
/// connection.
pub struct Nobody {
    near: TcpStream,
    _far: TcpListener,
}

impl Nobody {
    pub fn new() -> Nobody {
        let far = TcpListener::bind("127.0.0.1:0").unwrap();
        Nobody { near: TcpStream::connect(far.local_addr().unwrap()).unwrap(), _far: far }
    }

    pub fn address(&self) -> SocketAddr {
        self.near.local_addr().unwrap()
    }
}

/// Text that does not get smaller by packing: so many bytes of it.
pub fn noise(bytes: usize) -> String {
    let mut state = 1u64;
    let next = std::iter::repeat_with(move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        char::from(b'!' + (state >> 57) as u8 % 90)
    });
    next.take(bytes).collect()
}

/// Caches at addresses, and what they tell.
pub struct Scene {
    pub caches: Caches,
    pub recorder: Arc<Recorder>,
}

pub fn caches(addresses: &[String], trust: Trust) -> Scene {
    caches_with(addresses, trust, HttpSettings::default())
}

pub fn caches_with(addresses: &[String], trust: Trust, settings: HttpSettings) -> Scene {
    let recorder = Arc::new(Recorder::default());
    let events: Events = recorder.clone();
    let cancelled = settings.cancelled.clone();
    let settings = Arc::new(Connections::new(settings));
    let open = |address: &String| {
        Cache::open(Address::parse(address).unwrap(), &settings, None, events.clone()).unwrap()
    };
    let opened = addresses.iter().map(open).collect();
    Scene { caches: Caches::over(opened, trust, events.clone(), cancelled), recorder }
}

impl Scene {
    /// Brings one path, or tells everything that was warned of.
    pub fn bring(&self, store: &Store, path: &StorePath) -> std::result::Result<StorePath, String> {
        self.ask(
            store,
            Ask {
                derivation: path.clone(),
                output: "out".to_owned(),
                path: Some(path.clone()),
                realisation: None,
            },
        )
    }

    pub fn ask(&self, store: &Store, ask: Ask) -> std::result::Result<StorePath, String> {
        let answer = Mutex::new(None);
        self.caches.bring(store, &[ask], &|_, result| {
            assert!(answer.lock().unwrap().replace(result.map_err(|error| error.to_string())).is_none());
        });
        let answer = answer.into_inner().unwrap().expect("every question is answered");
        answer.map_err(|error| format!("{error}\n{}", self.warnings()))
    }

    pub fn warnings(&self) -> String {
        let texts = self.recorder.events().into_iter().filter_map(|event| match event {
            Event::Warning { message } => Some(message),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }
}

pub fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// What the scripted server does with a request.
pub enum Answer {
    Bytes(Vec<u8>),
    Status(u16),
    /// Sends the file's head and so many of its bytes from the wanted offset on, and hangs up.
    Cut(Vec<u8>, usize),
    /// A status, more lines of the head, and a body.
    With(u16, String, Vec<u8>),
    /// Nothing, ever.
    Silence,
    /// The head and so many bytes from the wanted offset on, and then nothing more.
    Stall(Vec<u8>, usize),
    /// A byte now and then.
    Trickle(Vec<u8>),
    /// As `Cut` from the file's start, and then, whatever was asked for, from the start again a byte now and then.
    Restart(Vec<u8>, usize),
}

/// Longer than any test waits.
const EVER: std::time::Duration = std::time::Duration::from_secs(1000);

type Script = dyn Fn(&str, usize) -> Answer + Send + Sync;

/// A server on loopback; the script gets the path and how many requests came before.
pub struct Scripted {
    pub address: SocketAddr,
    pub requests: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Scripted {
    pub fn start(script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Scripted {
        Scripted::start_with(false, script)
    }

    fn start_with(lines: bool, script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, stop): (Arc<Mutex<Vec<String>>>, Arc<AtomicBool>) = Default::default();
        let script: Arc<Script> = Arc::new(script);
        let (seen, stopped) = (requests.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (script, seen) = (script.clone(), seen.clone());
                std::thread::spawn(move || drop(converse(stream.unwrap(), &*script, &seen, lines)));
            }
        });
        Scripted { address, requests, stop }
    }

    /// The script gets the whole first line of a request.
    pub fn lines(script: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Scripted {
        Scripted::start_with(true, move |line, _| script(line))
    }

    /// Serves a folder; `script` may answer in its place.
    pub fn folder(
        folder: &Path,
        script: impl Fn(&str, usize) -> Option<Answer> + Send + Sync + 'static,
    ) -> Scripted {
        let folder = folder.to_owned();
        Scripted::start(move |path, number| {
            script(path, number).unwrap_or_else(|| match std::fs::read(folder.join(path)) {
                Ok(bytes) => Answer::Bytes(bytes),
                Err(_) => Answer::Status(404),
            })
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn count(&self, part: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn converse(
    stream: TcpStream,
    script: &Script,
    seen: &Mutex<Vec<String>>,
    lines: bool,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let (mut offset, mut length) = (0, 0);
    let mut head = line.clone();
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let lower = header.to_ascii_lowercase();
        if let Some(range) = lower.strip_prefix("range: bytes=") {
            offset = range.trim().trim_end_matches('-').parse().unwrap();
        }
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&header);
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    let number = seen.lock().unwrap().len();
    seen.lock().unwrap().push(head);
    let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let mut after = None;
    let (bytes, count) = match script(if lines { line.trim_end() } else { &path }, number) {
        Answer::With(status, more, body) => {
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n"
            )?;
            return stream.write_all(&body);
        }
        Answer::Status(status) => {
            return write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        Answer::Silence => {
            std::thread::sleep(EVER);
            return Ok(());
        }
        Answer::Bytes(bytes) => (bytes, usize::MAX),
        Answer::Cut(bytes, count) => (bytes, count),
        Answer::Stall(bytes, count) => {
            after = Some(EVER);
            (bytes, count)
        }
        Answer::Restart(bytes, count) if offset == 0 => (bytes, count),
        Answer::Trickle(bytes) | Answer::Restart(bytes, _) => {
            let size = bytes.len();
            write!(stream, "HTTP/1.1 200 X\r\nContent-Length: {size}\r\nETag: \"one\"\r\n\r\n")?;
            for byte in bytes {
                stream.write_all(&[byte])?;
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            return Ok(());
        }
    };
    let rest = &bytes[offset.min(bytes.len())..];
    let (status, size) = (if offset > 0 { 206 } else { 200 }, bytes.len());
    let last = size.saturating_sub(1);
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nContent-Range: bytes {offset}-{last}/{size}\r\nETag: \"one\"\r\nConnection: close\r\n\r\n",
        rest.len()
    )?;
    if !line.starts_with("HEAD") {
        stream.write_all(&rest[..count.min(rest.len())])?;
    }
    stream.flush()?;
    std::thread::sleep(after.unwrap_or_default());
    Ok(())
}

/// Files of a folder, by name below it.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}
