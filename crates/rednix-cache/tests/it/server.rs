//! The server: both ways with the project's own client, and what it refuses.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rednix_cache::netrc::Netrc;
use rednix_cache::server::{Server, ServerConfig};
use rednix_cache::transport::HttpSettings;
use rednix_cache::{SecretKey, Trust};
use rednix_store::store::Store;

use crate::support::{built, caches, key, push_with, realised, store, trust};

pub struct Running {
    pub url: String,
    pub store: Arc<Store>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

pub fn config() -> ServerConfig {
    ServerConfig {
        key: Some(key()),
        token: Some("a-good-token".to_owned()),
        accept_unsigned: false,
        trust: Trust::default(),
        priority: 40,
        compress: true,
        uploads_bytes_max: None,
        patience: Default::default(),
    }
}

pub fn serve(folder: &Path, config: ServerConfig) -> Running {
    serve_telling(folder, config, Arc::new(rednix_events::Silent))
}

pub fn serve_telling(folder: &Path, config: ServerConfig, events: rednix_events::Events) -> Running {
    let store = Arc::new(store(folder));
    let server = Server::bind(store.clone(), config, "127.0.0.1:0".parse().unwrap(), events).unwrap();
    let url = format!("http://{}", server.address().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = Some(std::thread::spawn(move || server.run(stopped).unwrap()));
    Running { url, store, stop, thread }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

impl Running {
    pub fn ask(&self, request: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap();
        let length = body.len();
        write!(stream, "{request}\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")
            .unwrap();
        let _ = stream.write_all(body);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let split = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(all.len() - 4);
        let status = String::from_utf8_lossy(&all[9..12]).parse().unwrap();
        (status, all[split + 4..].to_vec())
    }

    pub fn get(&self, place: &str) -> (u16, String) {
        let (status, body) = self.ask(&format!("GET /{place} HTTP/1.1"), b"");
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

pub fn token(token: &str) -> HttpSettings {
    HttpSettings { netrc: Netrc::token(token), ..HttpSettings::default() }
}

#[test]
fn a_store_is_served_and_a_cold_one_filled() {
    for compress in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let server = serve(&folder.path().join("from"), ServerConfig { compress, ..config() });
        let low = built(&server.store, "low", &"low ".repeat(100_000), &[]);
        let top = built(&server.store, "top", "t", &[&low]);
        let id = realised(&server.store, &top);
        let to = store(&folder.path().join("to"));
        let ask = rednix_cache::caches::Ask {
            derivation: top.clone(),
            output: "out".to_owned(),
            path: None,
            realisation: Some(id),
        };
        caches(std::slice::from_ref(&server.url), trust()).ask(&to, ask).unwrap();
        assert_eq!(to.all_valid_paths().unwrap().len(), 2);
        let info = server.get("nix-cache-info").1;
        assert!(info.contains("StoreDir: /nix/store\n") && info.contains("Priority: 40\n"), "{info}");
        let page = server.get("").1;
        assert!(page.contains("<h1>rednix cache</h1>") && page.contains(top.basename()), "{page}");
    }
}

#[test]
fn uploads_are_checked_kept_once_and_served() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&folder.path().join("server"), config());
    let from = store(&folder.path().join("from"));
    let low = built(&from, "low", "l", &[]);
    let top = built(&from, "top", "t", &[&low]);
    let id = realised(&from, &top);
    let push =
        |secret: Option<&SecretKey>, word: &str| push_with(&from, &server.url, secret, &[&top], token(word));
    assert!(push(Some(&key()), "a-wrong-token").unwrap_err().to_string().contains("refuses"));
    assert!(server.store.all_valid_paths().unwrap().is_empty());
    // The right token, and nobody's signature.
    assert!(push(None, "a-good-token").unwrap_err().to_string().contains("not signed by a key"));
    assert!(server.store.all_valid_paths().unwrap().is_empty());
    let pushed = push(Some(&key()), "a-good-token").unwrap();
    assert_eq!((pushed.paths, pushed.realisations), (2, 1));
    assert_eq!(push(Some(&key()), "a-good-token").unwrap().present, 2);
    assert_eq!(server.store.all_valid_paths().unwrap().len(), 2);
    assert_eq!(server.store.query_realisation(&id).unwrap().unwrap().path, top);
    let to = store(&folder.path().join("to"));
    caches(std::slice::from_ref(&server.url), trust()).bring(&to, &top).unwrap();
    // Nothing half-made stays, and a collection leaves what was uploaded.
    assert_eq!(std::fs::read_dir(server.store.layout().own_state().join("uploads")).unwrap().count(), 0);
    assert!(server.store.roots().unwrap().iter().any(|root| root.path == top));
}

#[test]
fn unsigned_uploads_are_signed_where_the_token_suffices() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&folder.path().join("server"), ServerConfig { accept_unsigned: true, ..config() });
    let from = store(&folder.path().join("from"));
    let top = built(&from, "top", "t", &[]);
    push_with(&from, &server.url, None, &[&top], token("a-good-token")).unwrap();
    let to = store(&folder.path().join("to"));
    caches(std::slice::from_ref(&server.url), trust()).bring(&to, &top).unwrap();
}

#[test]
fn wrong_requests_and_uploads_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&folder.path().join("server"), config());
    let path = built(&server.store, "x", "x", &[]);
    let secret = "\r\nAuthorization: Bearer a-good-token";
    let cases: [(&str, &[u8], u16); 16] = [
        ("GET /../../etc/passwd HTTP/1.1", b"", 404),
        ("GET /nar/../../etc/passwd HTTP/1.1", b"", 404),
        ("GET /nar/%2e%2e%2fx HTTP/1.1", b"", 404),
        ("GET /build-trace-v2/..%2f..%2fx.drv/out.doi HTTP/1.1", b"", 404),
        ("GET /00000000000000000000000000000000.narinfo HTTP/1.1", b"", 404),
        ("GET /%.narinfo HTTP/1.1", b"", 404),
        ("POST / HTTP/1.1", b"", 405),
        ("DELETE /x.narinfo HTTP/1.1", b"", 405),
        ("PUT /nar/x.nar HTTP/1.1", b"x", 401),
        ("PUT /nar/x.nar HTTP/1.1\r\nAuthorization: Basic !!!", b"x", 401),
        ("PUT /nar/.hidden HTTP/1.1+", b"x", 400),
        ("PUT /nar/../x HTTP/1.1+", b"x", 400),
        ("PUT /elsewhere HTTP/1.1+", b"x", 404),
        ("PUT /x.narinfo HTTP/1.1+", b"nonsense", 422),
        ("PUT /realisations/x HTTP/1.1+", b"{}", 404),
        ("PUT /nix-cache-info HTTP/1.1+", b"StoreDir: /evil\n", 200),
    ];
    for (request, body, expected) in cases {
        let request = request.replace("HTTP/1.1+", &format!("HTTP/1.1{secret}"));
        assert_eq!(server.ask(&request, body).0, expected, "{request}");
    }
    assert!(server.get("nix-cache-info").1.contains("StoreDir: /nix/store"));
    // Another archive under the name of one that is there.
    let entry = server.get(&format!("{}.narinfo", path.hash_part())).1;
    let changed = entry.replace("NarSize: ", "NarSize: 1");
    let request = format!("PUT /{}.narinfo HTTP/1.1{secret}", path.hash_part());
    assert_eq!(server.ask(&request, changed.as_bytes()).0, 422);
    assert_eq!(server.store.all_valid_paths().unwrap().len(), 1);
}

#[test]
fn parts_are_the_parts_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&folder.path().join("server"), config());
    let path = built(&server.store, "x", &(0..100_000).map(|n| format!("{n} ")).collect::<String>(), &[]);
    let entry =
        rednix_cache::NarInfo::parse("x", server.get(&format!("{}.narinfo", path.hash_part())).1.as_bytes())
            .unwrap();
    for (url, is_packed) in
        [(entry.url.clone(), true), (entry.url.trim_end_matches(".zst").to_owned(), false)]
    {
        let range = |range: &str| server.ask(&format!("GET /{url} HTTP/1.1\r\nRange: bytes={range}"), b"");
        // Before the size is known, too.
        let (status, tail) = range("1000-");
        assert_eq!(status, 206, "{url}");
        let part = range("1000-1999");
        assert_eq!((part.0, part.1.as_slice()), (206, &tail[..1000]));
        let whole = range("0-");
        assert_eq!((whole.0, &whole.1[1000..]), (206, tail.as_slice()));
        assert_eq!(range("999999999-").0, 416);
        let other =
            server.ask(&format!("GET /{url} HTTP/1.1\r\nRange: bytes=5-\r\nIf-Range: \"other\""), b"");
        assert_eq!(other.0, 200);
        if !is_packed {
            assert_eq!(whole.1.len() as u64, entry.nar_size);
        }
    }
}

/// Only what was built here is vouched for.
#[test]
fn others_paths_are_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&folder.path().join("server"), config());
    let path = built(&server.store, "x", "x", &[]);
    let mut info = server.store.path_info(&path).unwrap().unwrap();
    assert!(server.get(&format!("{}.narinfo", path.hash_part())).1.contains("Sig: test-1:"));
    info.ultimate = false;
    server.store.register_valid_paths(&[info]).unwrap();
    let id = realised(&server.store, &path);
    assert!(!server.get(&format!("{}.narinfo", path.hash_part())).1.contains("Sig: "));
    assert!(server.get(&format!("realisations/{id}.doi")).1.contains("\"signatures\":[]"));
}

/// Whoever runs the server is told what is wrong with it; whoever asks sees only that it breaks off.
#[test]
fn what_cannot_be_sent_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Arc::new(rednix_events::Recorder::default());
    let server = serve_telling(&folder.path().join("server"), config(), recorder.clone());
    let path = built(&server.store, "path", "p", &[]);
    let text = server.get(&format!("{}.narinfo", path.hash_part())).1;
    let archive = rednix_cache::NarInfo::parse("x", text.as_bytes()).unwrap().url;
    let told = || {
        let warnings = recorder.events().into_iter().filter_map(|event| match event {
            rednix_events::Event::Warning { message } => Some(message),
            _ => None,
        });
        warnings.collect::<Vec<_>>().join("\n")
    };
    assert_eq!((server.get(&archive).0, told().as_str()), (200, ""));
    server.store.contents().remove_tree(std::ffi::OsStr::new(path.basename())).unwrap();
    server.get(&archive);
    assert!(told().contains(&path.to_string()) && told().contains("could not be sent"), "{}", told());
}

#[test]
fn a_full_disk_is_told_as_such() {
    let full = std::io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
    let fault = rednix_cache::server::Fault::from(rednix_cache::Error::io("write", "an upload", full));
    assert_eq!((fault.status.as_u16(), fault.message.as_str()), (507, "the disk of this cache is full"));
}

#[test]
fn logs_travel_with_what_was_built() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&folder.path().join("server"), config());
    let from = store(&folder.path().join("from"));
    let path = built(&from, "x", "x", &[]);
    let derivation = rednix_store::path::StorePath::from_parts(&[3; 20], "x.drv").unwrap();
    let mut info = from.path_info(&path).unwrap().unwrap();
    info.deriver = Some(derivation.clone());
    from.register_valid_paths(&[info]).unwrap();
    let log = from.log_path(&derivation);
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::fs::write(&log, zstd::encode_all(&b"one\ntwo\n"[..], 3).unwrap()).unwrap();
    push_with(&from, &server.url, Some(&key()), &[&path], token("a-good-token")).unwrap();
    let place = format!("log/{}", derivation.basename());
    assert_eq!(server.get(&place), (200, "one\ntwo\n".to_owned()));
    let folder_cache = format!("file://{}", folder.path().join("cache").display());
    crate::support::push(&from, &folder_cache, None, &[&path]).unwrap();
    for address in [server.url.clone(), folder_cache] {
        let log = caches(&[address], trust()).caches.log(&derivation).unwrap();
        assert_eq!(std::io::read_to_string(log).unwrap(), "one\ntwo\n");
    }
    // The first one stays; nobody else's name is taken, and nothing without the token.
    let put = |place: &str, word: &str| {
        server.ask(&format!("PUT /{place} HTTP/1.1\r\nAuthorization: Bearer {word}"), b"other").0
    };
    assert_eq!(
        (put(&place, "a-good-token"), put(&place, "wrong"), put("log/../x", "a-good-token")),
        (200, 401, 400)
    );
    assert_eq!(server.get(&place).1, "one\ntwo\n");
    assert_eq!((server.get("log/x").0, server.get("log/..%2f..%2fx.drv").0), (404, 404));
}

#[test]
fn uploads_take_no_more_room_than_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let bounded = || ServerConfig { uploads_bytes_max: Some(450_000), ..config() };
    let from = store(&folder.path().join("from"));
    let (small, large) =
        (built(&from, "small", "s", &[]), built(&from, "large", &crate::support::noise(600_000), &[]));
    let other = built(&from, "other", &crate::support::noise(200_000), &[]);
    let another = built(&from, "another", &crate::support::noise(200_001), &[]);
    let server = serve(&folder.path().join("server"), bounded());
    let push =
        |server: &Running, path| push_with(&from, &server.url, Some(&key()), &[path], token("a-good-token"));
    push(&server, &small).unwrap();
    let told = push(&server, &large).unwrap_err().to_string();
    assert!(told.contains("takes nothing") && told.contains("uploads may take 450000 bytes"), "{told}");
    // While it is unpacked, an archive takes room twice.
    push(&server, &other).unwrap();
    // What is there already takes no more room.
    push(&server, &other).unwrap();
    assert!(push(&server, &another).is_err());
    drop(server);
    // Also for a server that begins anew.
    let server = serve(&folder.path().join("server"), bounded());
    assert!(push(&server, &another).is_err());
    assert_eq!(server.store.all_valid_paths().unwrap().len(), 2);
    assert_eq!(std::fs::read_dir(folder.path().join("server/nix/var/rednix/uploads")).unwrap().count(), 0);
}
