//! Fetching over HTTP from a server that misbehaves, and through mirrors, proxies and caches.

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rednix_events::{Event, Events, Recorder};
use rednix_fetch::{FetchConfig, FetchError, FetchRequest, Fetcher};
use rednix_store::hash::{Hash, HashAlgorithm};
use support::{Reply, Server};

fn contents() -> Vec<u8> {
    (0..300_000u32).map(|number| (number * 7 % 251) as u8).collect()
}

fn sha256(bytes: &[u8]) -> Option<Hash> {
    Some(Hash::of(HashAlgorithm::Sha256, bytes))
}

fn request(url: &str, hash: Option<Hash>) -> FetchRequest {
    FetchRequest { urls: vec![url.to_owned()], file_name: "file".to_owned(), hash, size_bytes: None }
}

struct Bench {
    folder: tempfile::TempDir,
    config: FetchConfig,
    recorder: Arc<Recorder>,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let mut config = FetchConfig::new(folder.path().join("cache"));
        // No server here keeps anybody waiting unless it is to, but this machine may have other things to do.
        config.read_timeout = Duration::from_secs(120);
        config.retry_delay = Duration::from_millis(16);
        config.retries = 2;
        fs::create_dir(folder.path().join("out")).unwrap();
        Bench { folder, config, recorder: Arc::default() }
    }

    /// For a server that stands still: short, and longer where it was too short to see all that comes before.
    fn impatient(patience: Duration) -> Bench {
        let mut bench = Bench::new();
        bench.config.read_timeout = patience;
        bench
    }

    /// What is there of a file, for a later run.
    fn part_bytes(&self, hash: Option<Hash>) -> u64 {
        let part = self.folder.path().join("cache/partial").join(hash.unwrap().to_nix32());
        fs::metadata(part).map_or(0, |metadata| metadata.len())
    }

    fn out(&self) -> std::path::PathBuf {
        self.folder.path().join("out")
    }

    fn fetch(&self, request: &FetchRequest) -> Result<Vec<u8>, FetchError> {
        let events: Events = self.recorder.clone();
        let fetched = Fetcher::new(self.config.clone()).fetch(request, &self.out(), &events)?;
        let bytes = fs::read(&fetched.path).unwrap();
        assert_eq!(fetched.size_bytes, bytes.len() as u64);
        Ok(bytes)
    }
}

/// Time-outs for servers that stand still, one after another until all is seen.
const PATIENCE: [Duration; 3] = [Duration::from_millis(400), Duration::from_secs(4), Duration::from_secs(40)];

#[test]
fn good_answers() {
    let bytes = contents();
    let server = Server::start(&[
        ("/file", Reply::File(bytes.clone())),
        ("/cut", Reply::CutOnce(bytes.clone(), 100_000)),
        ("/redirect", Reply::Redirect("/file".into())),
        ("/once", Reply::StatusOnce(503, bytes.clone())),
        ("/empty", Reply::File(Vec::new())),
    ]);
    for path in ["/file", "/cut", "/redirect", "/once"] {
        let bench = Bench::new();
        assert_eq!(bench.fetch(&request(&server.url(path), sha256(&bytes))).unwrap(), bytes, "{path}");
        let left: Vec<_> = fs::read_dir(bench.folder.path().join("cache/partial")).unwrap().collect();
        assert!(left.is_empty(), "{path}: {left:?}");
        let events = bench.recorder.events();
        assert!(matches!(events.first(), Some(Event::FetchStarted { .. })));
        assert!(matches!(events.last(), Some(Event::FetchDone { size_bytes: 300_000, .. })), "{events:?}");
    }
    assert_eq!(Bench::new().fetch(&request(&server.url("/empty"), sha256(b""))).unwrap(), b"");
    // Without a wanted hash the whole file comes from one answer.
    assert_eq!(Bench::new().fetch(&request(&server.url("/file"), None)).unwrap(), bytes);
    assert!(server.log().contains(&"/cut from 100000".to_owned()), "{:?}", server.log());
}

#[test]
fn a_later_run_resumes() {
    let bytes = contents();
    let server = Server::start(&[
        ("/stall", Reply::Stall(bytes[..120_000].to_vec())),
        ("/file", Reply::File(bytes.clone())),
        ("/norange", Reply::NoRange(bytes.clone())),
        ("/changed", Reply::CutThenChanged(vec![1; 200_000], 50_000, bytes.clone())),
    ]);
    for (second, expected) in [("/file", "/file from 120000"), ("/norange", "/norange from 120000")] {
        let stopped = PATIENCE.into_iter().find_map(|patience| {
            let mut bench = Bench::impatient(patience);
            bench.config.retries = 0;
            let error = bench.fetch(&request(&server.url("/stall"), sha256(&bytes))).unwrap_err();
            assert!(matches!(error, FetchError::TimedOut { .. }), "{error}");
            assert_eq!(fs::read_dir(bench.out()).unwrap().count(), 0, "nothing half gets a name");
            (bench.part_bytes(sha256(&bytes)) == 120_000).then_some(bench)
        });
        let mut bench = stopped.expect("what came is kept");
        bench.config.read_timeout = Bench::new().config.read_timeout;
        assert_eq!(bench.fetch(&request(&server.url(second), sha256(&bytes))).unwrap(), bytes);
        assert!(server.log().contains(&expected.to_owned()), "{:?}", server.log());
    }
    // The part is of a file that is no more: it is thrown away, not glued.
    assert_eq!(Bench::new().fetch(&request(&server.url("/changed"), sha256(&bytes))).unwrap(), bytes);
}

#[test]
fn a_wrong_part_is_thrown_away() {
    let bytes = contents();
    let server = Server::start(&[("/file", Reply::File(bytes.clone()))]);
    let bench = Bench::new();
    let partial = bench.folder.path().join("cache/partial");
    fs::create_dir_all(&partial).unwrap();
    for part in [vec![9; 1000], vec![9; 400_000]] {
        fs::write(partial.join(sha256(&bytes).unwrap().to_nix32()), part).unwrap();
        assert_eq!(bench.fetch(&request(&server.url("/file"), sha256(&bytes))).unwrap(), bytes);
    }
}

#[test]
fn each_failure_has_its_error() {
    let bytes = contents();
    let server = Server::start(&[
        ("/file", Reply::File(bytes.clone())),
        ("/denied", Reply::Status(403)),
        ("/error", Reply::Status(500)),
        ("/short", Reply::CutAlways(bytes.clone(), 1000)),
        ("/loop", Reply::Redirect("/loop".into())),
        ("/stall", Reply::Stall(b"some".to_vec())),
        ("/endless", Reply::Endless),
    ]);
    // The near end of a connection: nobody listens there, and nobody else can get the port.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let unused = connection.local_addr().unwrap();
    let good = sha256(&bytes);
    let other = sha256(b"other").unwrap();
    let nowhere = format!("http://{unused}/x");
    let at = |path: &str| server.url(path);
    type Check = fn(&FetchError) -> bool;
    let cases: [(String, Option<Hash>, Check, &str); 10] = [
        (at("/absent"), good, |e| matches!(e, FetchError::NotFound { status: 404, .. }), "is not there"),
        (at("/denied"), good, |e| matches!(e, FetchError::Denied { status: 403, .. }), "refuses"),
        (at("/error"), good, |e| matches!(e, FetchError::Server { status: 500, .. }), "500"),
        (at("/short"), good, |e| matches!(e, FetchError::Truncated { .. }), "1000 of 300000"),
        (at("/loop"), good, |e| matches!(e, FetchError::Protocol { .. }), "loop"),
        (at("/stall"), good, |e| matches!(e, FetchError::TimedOut { .. }), "in time"),
        (at("/file"), Some(other), |e| matches!(e, FetchError::WrongHash { .. }), &other.to_hex()),
        (nowhere, good, |e| matches!(e, FetchError::NoRoute { .. }), "cannot reach"),
        ("file:///absent/file".into(), good, |e| matches!(e, FetchError::NoFile { .. }), "/absent/file"),
        ("gopher://x".into(), good, |e| matches!(e, FetchError::BadUrl { .. }), "gopher"),
    ];
    for (url, hash, is_right, words) in cases {
        let bench = if url.ends_with("/stall") { Bench::impatient(PATIENCE[0]) } else { Bench::new() };
        let error = bench.fetch(&request(&url, hash)).unwrap_err();
        let text = error.to_string();
        assert!(is_right(&error), "{url}: {error:?}");
        assert!(text.contains(words) && text.contains("\n\nhint: "), "{url}: {text}");
        assert_eq!(fs::read_dir(bench.out()).unwrap().count(), 0, "{url}");
        assert!(matches!(bench.recorder.events().last(), Some(Event::FetchFailed { .. })), "{url}");
    }
    let limited = FetchRequest { size_bytes: Some(1000), ..request(&at("/endless"), good) };
    assert!(matches!(Bench::new().fetch(&limited), Err(FetchError::TooLarge { limit_bytes: 1000, .. })));
    // Wrong contents name both hashes.
    let error = Bench::new().fetch(&request(&at("/file"), Some(other))).unwrap_err().to_string();
    assert!(error.contains(&good.unwrap().to_hex()), "{error}");
}

#[test]
fn mirrors_come_first_and_fail_softly() {
    let bytes = contents();
    let server =
        Server::start(&[("/file", Reply::File(bytes.clone())), ("/bad/file", Reply::File(b"bad".to_vec()))]);
    let mut bench = Bench::new();
    bench.config.mirrors =
        vec![(server.url("/"), server.url("/bad/")), (server.url("/"), server.url("/none/"))];
    assert_eq!(bench.fetch(&request(&server.url("/file"), sha256(&bytes))).unwrap(), bytes);
    assert_eq!(server.log(), ["/bad/file", "/none/file", "/file"]);
    // A folder as mirror serves without any network, also when working offline.
    let folder = bench.folder.path().join("mirror");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("x"), &bytes).unwrap();
    bench.config.mirrors = vec![("http://site.test/".into(), folder.display().to_string())];
    bench.config.offline = true;
    assert_eq!(bench.fetch(&request("http://site.test/x", sha256(&bytes))).unwrap(), bytes);
    let error = bench.fetch(&request("http://other.test/x", sha256(&bytes))).unwrap_err();
    assert!(matches!(error, FetchError::Offline { .. }), "{error}");
}

#[test]
fn several_places_that_fail_are_all_named() {
    let server = Server::start(&[("/denied", Reply::Status(403))]);
    let mut both = request(&server.url("/denied"), None);
    both.urls.push(server.url("/absent"));
    let text = Bench::new().fetch(&both).unwrap_err().to_string();
    assert!(text.contains("refuses access") && text.contains("/absent is not there"), "{text}");
}

#[test]
fn a_cancelled_fetch_keeps_its_part() {
    let bytes = contents();
    let server = Server::start(&[
        ("/stall", Reply::Stall(bytes[..90_000].to_vec())),
        ("/file", Reply::File(bytes.clone())),
    ]);
    // Cancelling is noticed where the time-out is; it may not come before.
    let cancelled = PATIENCE.into_iter().find_map(|patience| {
        let seen = server.log().len();
        let bench = Bench::impatient(patience);
        let cancel = Arc::clone(&bench.config.cancel);
        std::thread::scope(|scope| {
            let running = scope.spawn(|| bench.fetch(&request(&server.url("/stall"), sha256(&bytes))));
            while bench.part_bytes(sha256(&bytes)) < 90_000 && !running.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
            }
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
            let result = running.join().unwrap();
            (server.log().len() == seen + 1)
                .then(|| assert!(matches!(result, Err(FetchError::Cancelled)), "{result:?}"))
        })?;
        Some(bench)
    });
    let mut bench = cancelled.expect("nothing is tried again");
    bench.config.cancel = Arc::default();
    bench.config.read_timeout = Bench::new().config.read_timeout;
    assert_eq!(bench.fetch(&request(&server.url("/file"), sha256(&bytes))).unwrap(), bytes);
    assert_eq!(server.log().last().unwrap(), "/file from 90000");
}

#[test]
fn a_proxy_is_used_and_passed_by() {
    let bytes = contents();
    let proxy = Server::start(&[("proxied:site.test/file", Reply::File(bytes.clone()))]);
    let direct = Server::start(&[("/file", Reply::File(bytes.clone()))]);
    let mut bench = Bench::new();
    bench.config.http_proxy = Some(proxy.base.clone());
    bench.config.no_proxy = Some("localhost, 127.0.0.1".into());
    assert_eq!(bench.fetch(&request("http://site.test/file", sha256(&bytes))).unwrap(), bytes);
    assert_eq!(bench.fetch(&request(&direct.url("/file"), sha256(&bytes))).unwrap(), bytes);
    assert_eq!(proxy.log(), ["proxied:site.test/file"]);
}

#[test]
fn many_files_at_once() {
    let files: Vec<(String, Vec<u8>)> =
        (0..40).map(|number| (format!("/{number}"), format!("file {number}").into_bytes())).collect();
    let replies: Vec<(&str, Reply)> =
        files.iter().map(|(path, bytes)| (path.as_str(), Reply::File(bytes.clone()))).collect();
    let server = Server::start(&replies);
    let bench = Bench::new();
    let mut requests: Vec<FetchRequest> = files
        .iter()
        .map(|(path, bytes)| FetchRequest {
            file_name: path[1..].to_owned(),
            ..request(&server.url(path), sha256(bytes))
        })
        .collect();
    requests[7].hash = sha256(b"something else");
    requests[9].file_name = "8".to_owned();
    requests[11].file_name = "../escape".to_owned();
    let events: Events = bench.recorder.clone();
    let results = Fetcher::new(bench.config.clone()).fetch_batch(&requests, &bench.out(), &events);
    for (number, result) in results.iter().enumerate() {
        match number {
            7 => assert!(matches!(result, Err(FetchError::WrongHash { .. }))),
            9 | 11 => assert!(matches!(result, Err(FetchError::SameName { .. }))),
            _ => assert_eq!(fs::read(&result.as_ref().unwrap().path).unwrap(), files[number].1),
        }
    }
    let names = fs::read_dir(bench.out()).unwrap().count();
    assert_eq!(names, 37);
}

#[test]
fn two_at_once_on_one_file() {
    let bytes = contents();
    let server = Server::start(&[("/file", Reply::File(bytes.clone()))]);
    let bench = Bench::new();
    let fetcher = Fetcher::new(bench.config.clone());
    let events: Events = bench.recorder.clone();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let (fetcher, events, out, url) = (&fetcher, &events, bench.out(), server.url("/file"));
            let wanted = FetchRequest { file_name: name.to_owned(), ..request(&url, sha256(&bytes)) };
            scope.spawn(move || fetcher.fetch(&wanted, &out, events).unwrap());
        }
    });
    for name in ["a", "b", "c"] {
        assert_eq!(fs::read(bench.out().join(name)).unwrap(), bytes);
    }
}

/// A stand-in for cargo: it writes what a real one would have fetched. Written by another process: what this one has
/// open for writing, a program that another test is just starting has open too, and then it cannot be executed.
fn fake_cargo(folder: &Path, script: &str) -> std::path::PathBuf {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let path = folder.join("cargo");
    let mut writer = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = writer.stdin.take().unwrap();
    text.write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
    drop(text);
    assert!(writer.wait().unwrap().success());
    path
}

#[test]
fn crates_in_one_batch() {
    let mut bench = Bench::new();
    let home = bench.folder.path().join("home");
    let cache = home.join("registry/cache/some-registry");
    fs::create_dir_all(&cache).unwrap();
    fs::write(cache.join("have-1.0.0.crate"), "have").unwrap();
    let log = bench.folder.path().join("log");
    // Refuses the crate `odd` in company, as cargo does with two packages that link one library.
    let script = format!(
        "echo \"$1\" >> {log}\n[ \"$1\" = fetch ] || {{ echo '{{\"packages\":[{{\"dependencies\":[{{\"source\":\"registry+x\"}}]}}]}}'; exit 0; }}\n\
         if grep -q odd Cargo.toml && [ $(grep -c '^c[0-9]' Cargo.toml) -gt 1 ]; then echo 'failed to select a version' >&2; exit 1; fi\n\
         sed -n 's/^c[0-9]* = .*package = \"\\([^\"]*\\)\", version = \"=\\([^\"]*\\)\".*/\\1 \\2/p' Cargo.toml | while read n v; do\n\
         [ $n = gone ] || printf %s \"$n\" > $CARGO_HOME/registry/cache/some-registry/$n-$v.crate; done",
        log = log.display()
    );
    bench.config.cargo = fake_cargo(bench.folder.path(), &script);
    bench.config.cargo_home = Some(home);
    let wanted = |name: &str, version: &str, text: &str| FetchRequest {
        urls: vec![format!("crate:{name}/{version}")],
        file_name: format!("{name}-{version}.crate"),
        hash: sha256(text.as_bytes()),
        size_bytes: None,
    };
    let requests = [
        wanted("have", "1.0.0", "have"),
        wanted("fresh", "1.0.0", "fresh"),
        wanted("fresh", "1.1.0", "fresh"),
        wanted("odd", "2.0.0", "odd"),
        wanted("other", "2.0.0", "other"),
        wanted("wrong", "1.0.0", "something else"),
        wanted("gone", "1.0.0", "gone"),
    ];
    let events: Events = bench.recorder.clone();
    let results = Fetcher::new(bench.config.clone()).fetch_batch(&requests, &bench.out(), &events);
    for (request, result) in requests.iter().zip(&results) {
        match request.file_name.as_str() {
            "wrong-1.0.0.crate" => assert!(matches!(result, Err(FetchError::WrongHash { .. })), "{result:?}"),
            "gone-1.0.0.crate" => assert!(matches!(result, Err(FetchError::Crate { .. })), "{result:?}"),
            _ => assert!(result.is_ok(), "{}: {result:?}", request.file_name),
        }
    }
    // All in the cache: cargo is not even started, and offline is fine.
    bench.config.offline = true;
    bench.config.cargo = "/absent/cargo".into();
    fs::remove_dir_all(bench.out()).unwrap();
    fs::create_dir(bench.out()).unwrap();
    let results = Fetcher::new(bench.config.clone()).fetch_batch(&requests[..5], &bench.out(), &events);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let absent =
        Fetcher::new(bench.config.clone()).fetch(&wanted("new", "1.0.0", "new"), &bench.out(), &events);
    assert!(matches!(absent, Err(FetchError::Offline { .. })), "{absent:?}");
}

/// Crates of many lock files together suit each other so badly that each has to be fetched by itself.
#[test]
fn crates_that_only_come_alone() {
    let mut bench = Bench::new();
    let home = bench.folder.path().join("home");
    fs::create_dir_all(home.join("registry/cache/some-registry")).unwrap();
    let script = "[ \"$1\" = fetch ] || exit 0\n\
         if [ $(grep -c '^c[0-9]' Cargo.toml) -gt 1 ]; then echo 'failed to select a version' >&2; exit 1; fi\n\
         name=$(sed -n 's/^c0 = .*package = \"\\([^\"]*\\)\".*/\\1/p' Cargo.toml)\n\
         printf %s \"$name\" > $CARGO_HOME/registry/cache/some-registry/$name-1.0.0.crate";
    bench.config.cargo = fake_cargo(bench.folder.path(), script);
    bench.config.cargo_home = Some(home);
    let requests: Vec<FetchRequest> = (0..50)
        .map(|number| FetchRequest {
            urls: vec![format!("crate:alone{number}/1.0.0")],
            file_name: format!("alone{number}-1.0.0.crate"),
            hash: sha256(format!("alone{number}").as_bytes()),
            size_bytes: None,
        })
        .collect();
    let events: Events = bench.recorder.clone();
    let results = Fetcher::new(bench.config.clone()).fetch_batch(&requests, &bench.out(), &events);
    for (request, result) in requests.iter().zip(&results) {
        assert!(result.is_ok(), "{}: {result:?}", request.file_name);
    }
}

#[test]
fn crates_from_a_mirror_need_no_cargo() {
    let mut bench = Bench::new();
    let server = Server::start(&[("/get/a/1.0.0", Reply::File(b"a".to_vec()))]);
    bench.config.mirrors = vec![("crate:".into(), server.url("/get/{name}/{version}"))];
    bench.config.cargo = "/absent/cargo".into();
    bench.config.cargo_home = Some(bench.folder.path().join("home"));
    assert_eq!(bench.fetch(&request("crate:a/1.0.0", sha256(b"a"))).unwrap(), b"a");
    let error = bench.fetch(&request("crate:b/1.0.0", sha256(b"b"))).unwrap_err().to_string();
    assert!(error.contains("/absent/cargo"), "{error}");
}
