//! What the server does with clients that take, send or say nothing, and with many of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rednix_cache::NarInfo;
use rednix_cache::limits::SERVED_PER_CLIENT;
use rednix_cache::server::{Patience, ServerConfig};
use rednix_store::path::StorePath;
use socket2::{Domain, Socket, Type};

use crate::server::{Running, config, serve};
use crate::support::{built, noise, patiently};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What a test waits for at most: longer than the server's patience with anybody, shorter than what it waits for in vain.
const SOON: Duration = Duration::from_secs(120);
const LATE: Duration = Duration::from_secs(1000);

fn address(server: &Running) -> SocketAddr {
    server.url.strip_prefix("http://").unwrap().parse().unwrap()
}

fn connect(server: &Running, said: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address(server)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(said.as_bytes()).unwrap();
    stream
}

/// The same from another address of this machine.
fn connect_from(client: &str, server: &Running, said: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&format!("{client}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&address(server).into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(said.as_bytes()).unwrap();
    stream
}

/// Whether the other side ends the connection, whatever it says before.
fn is_ended(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 1 << 16];
    let started = Instant::now();
    while started.elapsed() < SOON {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
    false
}

fn archive(server: &Running, path: &StorePath) -> String {
    let text = server.get(&format!("{}.narinfo", path.hash_part())).1;
    NarInfo::parse("x", text.as_bytes()).unwrap().url
}

fn request(place: &str) -> String {
    format!("GET /{place} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

/// Larger than what kernels keep on the way.
const LARGE: usize = 24 << 20;

#[test]
fn clients_that_do_not_read_hold_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let patience = Patience { silence: LATE, slow_after: LATE, ..Patience::default() };
    let server = serve(&folder.path().join("server"), ServerConfig { patience, compress: false, ..config() });
    let (large, small) =
        (built(&server.store, "large", &noise(LARGE), &[]), built(&server.store, "small", "s", &[]));
    let (large, small) = (request(&archive(&server, &large)), archive(&server, &small));
    // More than are worked for at once; and as many as somebody else likes to come with.
    let mut silent: Vec<_> = (0..9).map(|_| connect(&server, &large)).collect();
    silent.extend((0..60).map(|_| connect_from("127.0.0.2", &server, &large)));
    // Until they are all stuck.
    std::thread::sleep(ms(1500));
    let started = Instant::now();
    assert_eq!(server.get(&small).0, 200);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    drop(silent);
}

#[test]
fn a_client_that_does_not_read_is_left() {
    patiently(|times| {
        let ms = move |count| ms(count) * times;
        let folder = tempfile::tempdir().unwrap();
        let patience = Patience { silence: ms(700), ..Patience::default() };
        let server =
            serve(&folder.path().join("server"), ServerConfig { patience, compress: false, ..config() });
        let large = built(&server.store, "large", &noise(LARGE), &[]);
        let place = archive(&server, &large);
        // More than one client gets, of whom the last one reads.
        let silent: Vec<_> = (0..30).map(|_| connect(&server, &request(&place))).collect();
        std::thread::sleep(ms(1000));
        let mut reading = connect(&server, &request(&place));
        let mut all = Vec::new();
        reading.read_to_end(&mut all).unwrap();
        assert!(all.len() > LARGE);
        // They were cut off before the end of what they asked for.
        let cut = silent.iter().filter(|stream| {
            let mut got = Vec::new();
            let mut stream: &TcpStream = stream;
            stream.read_to_end(&mut got).is_err() || got.len() < LARGE
        });
        // All that had a place at first, or all but the last of them, whose place it did not need.
        assert!(cut.count() >= SERVED_PER_CLIENT - 1);
    });
}

/// Slowly, but so that it moves: it gets all of it.
#[test]
fn a_slow_client_is_waited_for() {
    patiently(|times| {
        let ms = move |count| ms(count) * times;
        let folder = tempfile::tempdir().unwrap();
        let patience = Patience { silence: ms(1000), slow_after: ms(1500), ..Patience::default() };
        let server =
            serve(&folder.path().join("server"), ServerConfig { patience, compress: false, ..config() });
        let path = built(&server.store, "path", &noise(4 << 20), &[]);
        let place = archive(&server, &path);
        let mut stream = connect(&server, &request(&place));
        let (mut total, mut buffer) = (0, vec![0; 128 << 10]);
        loop {
            std::thread::sleep(ms(60));
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                count => total += count,
            }
        }
        assert!(total > 4 << 20, "{total}");
    });
}

#[test]
fn half_requests_are_ended_and_make_room() {
    patiently(|times| {
        let ms = move |count| ms(count) * times;
        let folder = tempfile::tempdir().unwrap();
        let patience = Patience {
            connections: 16,
            head: ms(600),
            crowded: ms(200),
            idle: ms(900),
            ..Patience::default()
        };
        let server = serve(&folder.path().join("server"), ServerConfig { patience, ..config() });
        let begun = ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n", "PRI * HTTP/2.0\r\n\r\n"];
        let mut half: Vec<_> = (0..80).map(|number| connect(&server, begun[number % begun.len()])).collect();
        // One that goes on a byte at a time gets no further.
        let mut dripping = connect(&server, "GET / HTTP/1.1\r\nX: ");
        let drip = std::thread::spawn(move || {
            let started = Instant::now();
            while started.elapsed() < SOON && dripping.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
            started.elapsed() < SOON
        });
        let started = Instant::now();
        assert_eq!(server.get("nix-cache-info").0, 200);
        assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
        assert!(half.iter_mut().all(is_ended));
        assert!(drip.join().unwrap());
    });
}

#[test]
fn connections_that_wait_for_nothing_are_ended() {
    patiently(|times| {
        let ms = move |count| ms(count) * times;
        let folder = tempfile::tempdir().unwrap();
        let patience = Patience { head: ms(300), idle: ms(900), ..Patience::default() };
        let server = serve(&folder.path().join("server"), ServerConfig { patience, ..config() });
        let ask = "GET /nix-cache-info HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut kept = connect(&server, ask);
        // It is kept for the next request for longer than a new one is waited for.
        for _ in 0..3 {
            std::thread::sleep(ms(500));
            let mut answer = vec![0; 4096];
            let count = kept.read(&mut answer).unwrap();
            assert!(answer[..count].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
            kept.write_all(ask.as_bytes()).unwrap();
        }
        let started = Instant::now();
        assert!(is_ended(&mut kept) && started.elapsed() < SOON);
    });
}

#[test]
fn bodies_that_do_not_come_are_not_waited_for() {
    patiently(|times| {
        let ms = move |count| ms(count) * times;
        let folder = tempfile::tempdir().unwrap();
        let patience = Patience { silence: ms(600), slow_after: ms(900), ..Patience::default() };
        let server = serve(&folder.path().join("server"), ServerConfig { patience, ..config() });
        let upload = |place: &str, word: &str| {
            format!(
                "PUT /{place} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {word}\r\nContent-Length: 1000000\r\n\r\n"
            )
        };
        let log = format!("log/{}-x.drv", "0".repeat(32));
        for place in ["nar/x.nar.zst", "00000000000000000000000000000000.narinfo", &log] {
            let mut silent = connect(&server, &upload(place, "a-good-token"));
            let mut answer = String::new();
            silent.read_to_string(&mut answer).unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 408") && answer.contains("stood still"),
                "{place}: {answer}"
            );
            // A byte now and then is as good as none.
            for (word, expected) in [("a-good-token", "is too slow"), ("wrong-token", "HTTP/1.1 401")] {
                let mut slow = connect(&server, &upload(place, word));
                let mut writing = slow.try_clone().unwrap();
                let writes = std::thread::spawn(move || {
                    let started = Instant::now();
                    while started.elapsed() < SOON && writing.write_all(b"x").is_ok() {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    started.elapsed()
                });
                let mut answer = Vec::new();
                let _ = slow.read_to_end(&mut answer);
                let answer = String::from_utf8_lossy(&answer);
                assert!(answer.contains(expected), "{place}: {answer}");
                drop(slow);
                assert!(writes.join().unwrap() < SOON, "{place}");
            }
        }
        let uploads =
            || std::fs::read_dir(server.store.layout().own_state().join("uploads")).unwrap().count();
        let started = Instant::now();
        while uploads() > 0 {
            assert!(started.elapsed() < SOON, "parts of uploads are left");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

/// Longer ones than fit into one piece, too, and they end where logs end.
#[test]
fn long_logs_are_sent_whole() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&folder.path().join("server"), config());
    let text: String = (0..200_000).map(|line| format!("line {line}\n")).collect();
    let place = format!("log/{}-x.drv", "0".repeat(32));
    let put = format!("PUT /{place} HTTP/1.1\r\nAuthorization: Bearer a-good-token");
    assert_eq!(server.ask(&put, text.as_bytes()).0, 201);
    let read = crate::support::caches(std::slice::from_ref(&server.url), crate::support::trust());
    let derivation = StorePath::from_basename(place.strip_prefix("log/").unwrap()).unwrap();
    let log = std::io::read_to_string(read.caches.log(&derivation).unwrap()).unwrap();
    assert!(log == text, "{} bytes, not {}", log.len(), text.len());
    assert_eq!(server.ask(&format!("HEAD /{place} HTTP/1.1"), b"").0, 200);
}

/// Where all connections are taken, those that are still being answered are not idle, however slowly they read what is
/// on its way to them.
#[test]
fn a_slow_client_gets_its_answer_in_a_crowd() {
    let folder = tempfile::tempdir().unwrap();
    let patience = Patience { connections: 2, crowded: ms(150), ..Patience::default() };
    let server = serve(&folder.path().join("server"), ServerConfig { patience, compress: false, ..config() });
    let size = 3 << 20;
    let path = built(&server.store, "path", &noise(size), &[]);
    let place = archive(&server, &path);
    // Little fits on the way, so that the end of the answer waits in the server.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address(&server).into()).unwrap();
    let mut slow = TcpStream::from(socket);
    slow.write_all(request(&place).as_bytes()).unwrap();
    let mut total = 0;
    let mut buffer = vec![0; 64 << 10];
    // Quickly at first, and slowly as soon as the server has made all of it.
    loop {
        if total > size - (1 << 20) {
            std::thread::sleep(ms(40));
        }
        match slow.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => total += count,
        }
    }
    assert!(total > size, "{total} of {size}");
}
