//! A bucket of S3-compatible storage, as a local server has it: `moto_server` of the Python package `moto[server]`, on
//! PATH or named by `REDNIX_S3_SERVER`. Without it these tests say that they were skipped.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rednix_cache::aws::Identity;
use rednix_cache::transport::{HttpSettings, S3Settings};

use crate::support::{Scripted, built, caches_with, noise, push_with, realised, skipped, store, trust};

struct Storage {
    child: Child,
    port: u16,
}

impl Storage {
    fn start() -> Option<Storage> {
        let program = std::env::var("REDNIX_S3_SERVER").unwrap_or_else(|_| "moto_server".to_owned());
        let begun = Instant::now();
        loop {
            // Free a moment ago. Where somebody else got it in between, the server ends, and another one is tried.
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let child = Command::new(&program)
                .args(["-H", "127.0.0.1", "-p", &port.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let child = match child {
                Ok(child) => child,
                Err(error) => {
                    skipped(&format!("no S3-compatible server: `{program}`: {error}"));
                    return None;
                }
            };
            let mut storage = Storage { child, port };
            while storage.child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Some(storage);
                }
                assert!(begun.elapsed() < Duration::from_secs(300), "`{program}` does not listen");
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(begun.elapsed() < Duration::from_secs(300), "`{program}` ends at once");
        }
    }

    fn ask(&self, request: &str) -> (u16, String) {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        .unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        (text[9..12].parse().unwrap(), text)
    }

    fn url(&self, bucket: &str) -> String {
        format!("s3://{bucket}?endpoint=127.0.0.1:{}&scheme=http&region=eu-west-1", self.port)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings() -> HttpSettings {
    let identity = Some(Identity::new("KEY", "secret", None));
    HttpSettings { s3: S3Settings { identity, ..S3Settings::default() }, ..HttpSettings::default() }
}

#[test]
fn a_bucket_is_pushed_to_and_taken_from() {
    let Some(storage) = Storage::start() else { return };
    assert_eq!(storage.ask("PUT /bucket").0, 200);
    let folder = tempfile::tempdir().unwrap();
    let from = store(&folder.path().join("from"));
    let low = built(&from, "low+plus", "low", &[]);
    // Does not get smaller by packing, so that its archive goes in parts.
    let large = built(&from, "large", &noise(50 << 20), &[&low]);
    let id = realised(&from, &large);
    for url in [storage.url("bucket"), storage.url("bucket").replace("bucket?", "bucket/team/x?")] {
        let push = || push_with(&from, &url, Some(&crate::support::key()), &[&large], settings());
        let first = push().unwrap();
        assert_eq!((first.paths, first.present, first.realisations), (2, 0, 1));
        assert!(first.file_bytes > 32 << 20, "{first:?}");
        let again = push().unwrap();
        assert_eq!((again.paths, again.present), (0, 2));
        let to = store(&folder.path().join(format!("to-{}", url.len())));
        let ask = rednix_cache::caches::Ask {
            derivation: large.clone(),
            output: "out".to_owned(),
            path: None,
            realisation: Some(id.clone()),
        };
        assert_eq!(caches_with(&[url], trust(), settings()).ask(&to, ask), Ok(large.clone()));
        let report = to.verify(rednix_store::store::VerifyOptions::default()).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
    // Nothing of an upload in parts is left.
    let open = storage.ask("GET /bucket?uploads").1;
    assert!(open.contains("ListMultipartUploadsResult") && !open.contains("<UploadId>"), "{open}");
    let told = push_with(&from, &storage.url("nobody"), None, &[&low], settings()).unwrap_err().to_string();
    assert!(told.contains("no such bucket") && told.contains("s3://nobody/"), "{told}");
}

/// Storage that refuses, breaks and lies, without any server of the registries.
#[test]
fn troubles_of_buckets_are_told_apart() {
    use crate::support::Answer;
    let folder = tempfile::tempdir().unwrap();
    let from = store(&folder.path().join("from"));
    let large = built(&from, "large", &noise(48 << 20), &[]);
    let error = |status: u16, code: &str| {
        Answer::With(status, String::new(), format!("<Error><Code>{code}</Code></Error>").into_bytes())
    };
    let begun = || Answer::With(200, String::new(), b"<R><UploadId>u/1&amp;</UploadId></R>".to_vec());
    let tagged = || Answer::With(200, "ETag: \"t\"\r\n".to_owned(), Vec::new());
    type Script = Box<dyn Fn(&str) -> Answer + Send + Sync>;
    let scripts: Vec<(Script, &str, bool)> =
        vec![
            (
                Box::new(move |_| error(403, "InvalidAccessKeyId")),
                "refuses `s3://b/nix-cache-info`: InvalidAccessKeyId",
                false,
            ),
            (
                Box::new(
                    move |line| {
                        if line.contains("uploads=") { error(403, "AccessDenied") } else { missing(line) }
                    },
                ),
                "AccessDenied",
                false,
            ),
            (
                Box::new(move |line| {
                    if line.contains("uploads=") { Answer::Bytes(b"<R/>".to_vec()) } else { missing(line) }
                }),
                "without an `UploadId`",
                false,
            ),
            (
                Box::new(move |line| match line {
                    line if line.contains("uploads=") => begun(),
                    line if line.contains("partNumber=2") => error(500, "InternalError"),
                    line if line.contains("partNumber=") => tagged(),
                    line => missing(line),
                }),
                "fails at",
                true,
            ),
            (
                Box::new(move |line| match line {
                    line if line.contains("uploads=") => begun(),
                    line if line.contains("partNumber=") => tagged(),
                    // "Done", and then it is not.
                    line if line.starts_with("POST") => error(200, "InternalError"),
                    line => missing(line),
                }),
                "could not put the parts together",
                true,
            ),
        ];
    for (number, (script, expected, gives_back)) in scripts.into_iter().enumerate() {
        let server = Scripted::lines(move |line| script(line));
        let url = format!("s3://b?endpoint={}", server.url());
        let told = push_with(&from, &url, None, &[&large], settings()).unwrap_err().to_string();
        assert!(told.contains(expected), "case {number}: {told}");
        assert!(!told.contains("Signature") && !told.contains("secret"), "{told}");
        let deleted =
            server.requests.lock().unwrap().iter().filter(|head| head.starts_with("DELETE")).count();
        assert_eq!(deleted, usize::from(gives_back), "case {number}: parts are given back, and nothing else");
        assert_eq!(server.count("DELETE /b/nar/"), deleted);
        assert_eq!(server.count("PUT /b/").min(1), usize::from(gives_back || number > 0), "case {number}");
        assert_eq!(server.count(".narinfo?X-Amz"), server.count("HEAD /b/"), "no entry without its archive");
    }
}

/// Nothing is there yet, and what is written is taken.
fn missing(line: &str) -> crate::support::Answer {
    use crate::support::Answer;
    match line.split(' ').next() {
        Some("GET" | "HEAD") => Answer::Status(404),
        _ => Answer::Status(200),
    }
}
