//! Answers of caches over HTTP, whatever they are: a server on loopback sends the input's parts as they are, one for
//! each question, and hangs up. Nothing crashes, nothing grows without bound, and what is believed is what was asked for.
#![no_main]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rednix_cache::cache::{Address, Asking, Cache};
use rednix_cache::realisation::Key;
use rednix_cache::transport::{Connections, HttpSettings, Patience, connect};
use rednix_store::path::StorePath;

const PATH: &str = "/nix/store/00000000000000000000000000000000-x";
const KEY: &str =
    "realisations/sha256:cbd2e08be9361a3bed4b6364310397768927520492fb7928d2b85f2b9ef7d620!out.doi";
/// Between the answers within an input.
const MARK: &[u8] = b"\n----\n";

static ANSWERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

static PORT: LazyLock<u16> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
            let mut head = Vec::new();
            let mut piece = [0; 4096];
            while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(count) if count > 0 => head.extend_from_slice(&piece[..count]),
                    _ => break,
                }
            }
            let answer = ANSWERS.lock().expect("nobody panicked with it").pop().unwrap_or_default();
            let _ = stream.write_all(&answer);
        }
    });
    port
});

static CONNECTIONS: LazyLock<Arc<Connections>> = LazyLock::new(|| {
    let ms = Duration::from_millis;
    let patience =
        Patience { connect: ms(200), silence: ms(200), small: ms(400), slow_after: ms(200), pause: ms(0) };
    Arc::new(Connections::new(HttpSettings { patience, ..HttpSettings::default() }))
});

fuzz_target!(|bytes: &[u8]| {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(MARK.len()).position(|window| window == MARK) {
        parts.push(rest[..at].to_vec());
        rest = &rest[at + MARK.len()..];
    }
    parts.push(rest.to_vec());
    // An input that begins with this alone is about a bucket.
    let is_bucket = parts[0] == b"S";
    parts.drain(..usize::from(is_bucket));
    parts.truncate(8);
    parts.reverse();
    let port = *PORT;
    *ANSWERS.lock().expect("nobody panicked with it") = parts;
    let url = match is_bucket {
        true => format!("s3://bucket?endpoint=http://127.0.0.1:{port}"),
        false => format!("http://127.0.0.1:{port}"),
    };
    let address = Address::parse(&url).expect("it is one");
    let cache = Cache::open(address.clone(), &CONNECTIONS, None, Arc::new(rednix_events::Silent))
        .expect("nothing is asked yet");
    let path = StorePath::parse(PATH).expect("it is one");
    let _ = cache.priority();
    if let Ok(Some(entry)) = cache.narinfo(&path, Asking::Anew, |_| Ok(())) {
        assert_eq!(entry.path, path);
    }
    let _ = cache.realisation(&Key::parse(KEY).expect("it is one"));
    let transport = connect(&address, &CONNECTIONS).expect("it is an address");
    if let Ok(Some(opened)) = transport.open("nar/x", 5, Some("\"tag\"")) {
        assert!(opened.offset == 0 || opened.offset == 5);
        let mut some = Vec::new();
        let _ = opened.body.take(1 << 20).read_to_end(&mut some);
    }
    let _ = transport.exists("x");
});
