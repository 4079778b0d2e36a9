//! A small HTTP server for a folder of files: GET and HEAD, one request per connection. It lists no folders, follows
//! no symlinks, leaves the folder for nothing, and changes nothing.
//!
//! It is here because the servers on offer are either unkept or bring an asynchronous runtime, and a package client
//! needs nothing of what they have.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rednix_events::{Event, Events};
use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Requests answered at the same time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// Longest wait for a client to send or take something.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the server looks whether it shall end.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// A folder and the address it is served at.
pub struct Server {
    listener: TcpListener,
    folder: Arc<OwnedFd>,
}

impl Server {
    pub fn bind(folder: &Path, address: SocketAddr) -> io::Result<Server> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = Arc::new(rustix::fs::open(folder, flags, Mode::empty())?);
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Server { listener, folder })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` is set.
    pub fn run(&self, events: &Events, stop: &AtomicBool) -> io::Result<()> {
        let active = Arc::new(AtomicUsize::new(0));
        while !stop.load(Ordering::SeqCst) {
            if active.load(Ordering::SeqCst) >= CONNECTIONS_MAX {
                std::thread::sleep(LOOK_INTERVAL);
                continue;
            }
            match self.listener.accept() {
                Ok((stream, _)) => {
                    active.fetch_add(1, Ordering::SeqCst);
                    let (folder, events, active) = (self.folder.clone(), events.clone(), active.clone());
                    std::thread::spawn(move || {
                        if let Some(line) = answer(&stream, &folder) {
                            events.emit(Event::Notice { message: line });
                        }
                        active.fetch_sub(1, Ordering::SeqCst);
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(LOOK_INTERVAL / 8)
                }
                // One client that went away early must not end the server.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Serves one request. Gives a line about it, unless the client left before there was one.
fn answer(stream: &TcpStream, folder: &OwnedFd) -> Option<String> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let head = read_head(stream)?;
    let (status, name) = match parse(&head) {
        Request::File { path, with_body } => {
            let status = match open(folder, &path) {
                Some((file, size)) => send_file(stream, file, size, with_body),
                None => send_text(stream, "404 Not Found", with_body),
            };
            (status, path)
        }
        Request::Wrong(status) => (send_text(stream, status, true), "?".to_owned()),
    };
    let sent = match status {
        Ok(status) => status.to_owned(),
        Err(error) => format!("broken off: {error}"),
    };
    Some(format!("{name}: {sent}"))
}

/// Everything up to the empty line.
fn read_head(mut stream: &TcpStream) -> Option<Vec<u8>> {
    let (started, mut head) = (Instant::now(), Vec::new());
    let mut piece = [0; 2048];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let count = stream.read(&mut piece).ok().filter(|&count| count > 0)?;
        head.extend_from_slice(&piece[..count]);
        if head.len() > HEAD_BYTES_MAX || started.elapsed() > PATIENCE {
            return None;
        }
    }
    Some(head)
}

#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// `path` is relative and plain.
    File { path: String, with_body: bool },
    /// The status to answer with.
    Wrong(&'static str),
}

/// What the first line of a request asks for.
fn parse(head: &[u8]) -> Request {
    const BAD: Request = Request::Wrong("400 Bad Request");
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or(head);
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return BAD;
    };
    if !version.starts_with(b"HTTP/1.") {
        return Request::Wrong("505 HTTP Version Not Supported");
    }
    let with_body = match method {
        b"GET" => true,
        b"HEAD" => false,
        _ => return Request::Wrong("405 Method Not Allowed"),
    };
    let target = target.split(|&byte| byte == b'?' || byte == b'#').next().unwrap_or(target);
    let Some(path) = decode(target).and_then(|path| path.strip_prefix('/').map(str::to_owned)) else {
        return BAD;
    };
    // A name with a leading dot is half written or nobody's business.
    if path.split('/').any(|name| name.starts_with('.')) || path.contains(['\0', '\n', '\r']) {
        return Request::Wrong("404 Not Found");
    }
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    Request::File { path: names.join("/"), with_body }
}

/// Takes `%2B` and the like back.
fn decode(target: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(target.len());
    let mut rest = target.iter();
    while let Some(&byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A regular file beneath the folder and its size.
fn open(folder: &OwnedFd, path: &str) -> Option<(File, u64)> {
    if path.is_empty() {
        return None;
    }
    // Not blocking: a pipe in the folder would otherwise be waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(folder, path, flags, Mode::empty(), beneath).ok()?);
    let metadata = file.metadata().ok().filter(|metadata| metadata.is_file())?;
    Some((file, metadata.len()))
}

fn send_file(mut stream: &TcpStream, file: File, size: u64, with_body: bool) -> io::Result<&'static str> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    if with_body {
        // Never more than was announced, should the file grow.
        let sent = io::copy(&mut file.take(size), &mut stream)?;
        if sent < size {
            return Err(io::Error::other("the file became shorter"));
        }
    }
    stream.flush().map(|()| "200 OK")
}

fn send_text(mut stream: &TcpStream, status: &'static str, with_body: bool) -> io::Result<&'static str> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        status.len()
    );
    stream.write_all(head.as_bytes())?;
    if with_body {
        stream.write_all(status.as_bytes())?;
    }
    stream.flush().map(|()| status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood_or_refused() {
        let file = |path: &str, with_body| Request::File { path: path.to_owned(), with_body };
        let cases = [
            ("GET /a/b.toml HTTP/1.1\r\n\r\n", file("a/b.toml", true)),
            ("HEAD //a/ HTTP/1.0\r\nHost: x\r\n\r\n", file("a", false)),
            ("GET /gcc%2B%2b.pkgar?x=/.. HTTP/1.1\r\n\r\n", file("gcc++.pkgar", true)),
            ("GET / HTTP/1.1\r\n\r\n", file("", true)),
            ("GET /../etc/passwd HTTP/1.1\r\n\r\n", Request::Wrong("404 Not Found")),
            ("GET /%2e%2e/etc HTTP/1.1\r\n\r\n", Request::Wrong("404 Not Found")),
            ("GET /a%00b HTTP/1.1\r\n\r\n", Request::Wrong("404 Not Found")),
            ("GET /.a.toml.part HTTP/1.1\r\n\r\n", Request::Wrong("404 Not Found")),
            ("GET a HTTP/1.1\r\n\r\n", Request::Wrong("400 Bad Request")),
            ("GET /%g0 HTTP/1.1\r\n\r\n", Request::Wrong("400 Bad Request")),
            ("GET /%4", Request::Wrong("400 Bad Request")),
            ("GET /a b HTTP/1.1\r\n\r\n", Request::Wrong("400 Bad Request")),
            ("POST /a HTTP/1.1\r\n\r\n", Request::Wrong("405 Method Not Allowed")),
            ("GET /a HTTP/2\r\n\r\n", Request::Wrong("505 HTTP Version Not Supported")),
            ("\r\n\r\n", Request::Wrong("400 Bad Request")),
        ];
        for (head, expected) in cases {
            assert_eq!(parse(head.as_bytes()), expected, "{head:?}");
        }
    }

    #[test]
    fn whatever_is_asked_the_path_stays_plain() {
        // Bytes that mean something to the parser, in every order of a pseudo-random walk.
        let alphabet = b"GET /.%2eE/5cC\0\\?#HTTP1 \r\n\xff";
        let mut state = 0x2545_f491_4f6c_dd1du64;
        for _ in 0..20_000 {
            let mut head = b"GET /".to_vec();
            for _ in 0..state % 24 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                head.push(alphabet[(state % alphabet.len() as u64) as usize]);
            }
            head.extend_from_slice(b" HTTP/1.1\r\n\r\n");
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            if let Request::File { path, .. } = parse(&head) {
                assert!(!path.starts_with('/') && !path.contains('\0'), "{path:?}");
                assert!(path.split('/').all(|name| name != "." && name != ".."), "{path:?}");
            }
        }
    }

    #[test]
    fn files_are_served_and_nothing_else() {
        let scene = tempfile::tempdir().unwrap();
        let folder = scene.path().join("served");
        std::fs::create_dir_all(folder.join("t")).unwrap();
        std::fs::write(folder.join("t/one.pkgar"), vec![7; 300_000]).unwrap();
        std::fs::write(scene.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
        let server = Server::bind(&folder, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = server.address().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let events: Events = Arc::new(rednix_events::Silent);
        let thread = std::thread::spawn(move || server.run(&events, &stopped));
        let get = |request: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            let split = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
            (String::from_utf8(all[..split].to_vec()).unwrap(), all[split + 4..].to_vec())
        };
        let (head, body) = get("GET /t/one.pkgar HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("Content-Length: 300000"), "{head}");
        assert_eq!(body, vec![7; 300_000]);
        let (head, body) = get("HEAD /t/one.pkgar HTTP/1.1\r\n\r\n");
        assert!(head.contains("Content-Length: 300000") && body.is_empty());
        for path in ["/link", "/t", "/", "/t/two.pkgar", "/../secret"] {
            let (head, _) = get(&format!("GET {path} HTTP/1.1\r\n\r\n"));
            assert!(head.starts_with("HTTP/1.1 404"), "{path}: {head}");
        }
        stop.store(true, Ordering::SeqCst);
        thread.join().unwrap().unwrap();
    }
}
