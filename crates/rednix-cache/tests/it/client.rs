//! The client and what can go wrong that is nobody's malice.

use rednix_cache::caches::Ask;
use rednix_store::store::VerifyOptions;

use crate::support::{Answer, Scripted, built, caches, files, push, realised, store, trust, url};

/// A store with a chain of three paths, pushed to a folder.
struct Chain {
    folder: tempfile::TempDir,
    top: rednix_store::path::StorePath,
    id: rednix_store::store::RealisationId,
}

fn chain(contents: &str) -> Chain {
    let folder = tempfile::tempdir().unwrap();
    let from = store(&folder.path().join("from"));
    let low = built(&from, "low", contents, &[]);
    let middle = built(&from, "middle", "m", &[&low]);
    let top = built(&from, "top", "t", &[&middle, &low]);
    let id = realised(&from, &top);
    let pushed =
        push(&from, &url(&folder.path().join("cache")), Some(&crate::support::key()), &[&top]).unwrap();
    assert_eq!((pushed.paths, pushed.present, pushed.realisations), (3, 0, 1));
    let again = push(&from, &url(&folder.path().join("cache")), None, &[&top]).unwrap();
    assert_eq!((again.paths, again.present), (0, 3), "pushed twice, nothing is uploaded twice");
    Chain { folder, top, id }
}

#[test]
fn a_closure_and_its_realisation_come_whole_from_a_folder() {
    let chain = chain("contents");
    let to = store(&chain.folder.path().join("to"));
    let scene = caches(&[url(&chain.folder.path().join("cache"))], trust());
    let ask = Ask {
        derivation: chain.top.clone(),
        output: "out".to_owned(),
        path: None,
        realisation: Some(chain.id.clone()),
    };
    assert_eq!(scene.ask(&to, ask), Ok(chain.top.clone()));
    assert_eq!(to.all_valid_paths().unwrap().len(), 3);
    assert_eq!(to.query_realisation(&chain.id).unwrap().unwrap().path, chain.top);
    let report = to.verify(VerifyOptions::default()).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[test]
fn a_transfer_that_breaks_is_taken_up_where_it_broke() {
    // Not compressible, so that the file is large.
    let noise: String = (0u64..60_000)
        .scan(1u64, |state, _| {
            *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            Some(char::from(b'!' + (*state >> 57) as u8 % 90))
        })
        .collect();
    let chain = chain(&noise);
    let cache = chain.folder.path().join("cache");
    let folder = cache.clone();
    let server = Scripted::folder(&cache, move |path, _| {
        let bytes = std::fs::read(folder.join(path)).ok().filter(|_| path.starts_with("nar/"))?;
        Some(if bytes.len() > 20_000 { Answer::Cut(bytes, 15_000) } else { Answer::Bytes(bytes) })
    });
    let to = store(&chain.folder.path().join("to"));
    caches(&[server.url()], trust()).bring(&to, &chain.top).unwrap();
    assert_eq!(to.all_valid_paths().unwrap().len(), 3);
    let resumed = server.count("range: bytes=15000-") + server.count("Range: bytes=15000-");
    assert!(resumed >= 1, "{:?}", server.requests.lock().unwrap());
}

/// Each trouble with what it is called.
#[test]
fn troubles_are_told_apart() {
    let chain = chain("contents");
    let cache = chain.folder.path().join("cache");
    let cases: [(&str, fn(&str, Vec<u8>) -> Answer, &str); 6] = [
        ("nar/", |_, bytes| Answer::Cut(bytes, 0), "breaks off after"),
        (
            "nar/",
            |_, mut bytes| {
                bytes.truncate(9);
                Answer::Bytes(bytes)
            },
            "and its entry says",
        ),
        (
            "nar/",
            |_, mut bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x20;
                Answer::Bytes(bytes)
            },
            "hint: ",
        ),
        (".narinfo", |_, _| Answer::Status(403), "refuses"),
        (".narinfo", |_, _| Answer::Status(503), "fails at"),
        (".narinfo", |_, _| Answer::Bytes(b"<html>".to_vec()), "malformed"),
    ];
    for (number, (part, answer, expected)) in cases.into_iter().enumerate() {
        let folder = cache.clone();
        let server = Scripted::folder(&cache, move |path, _| {
            let bytes = std::fs::read(folder.join(path)).ok().filter(|_| path.contains(part))?;
            Some(answer(path, bytes))
        });
        let to = store(&chain.folder.path().join(format!("to-{number}")));
        let error = caches(&[server.url()], trust()).bring(&to, &chain.top).unwrap_err();
        assert!(error.contains(expected), "case {number}: wanted `{expected}` in: {error}");
        assert!(!to.is_valid(&chain.top).unwrap());
        // The next cache is asked, and the same store gets everything.
        let both =
            caches(&[format!("{}?priority=1", server.url()), format!("{}?priority=2", url(&cache))], trust());
        both.bring(&to, &chain.top).unwrap();
    }
}

#[test]
fn a_dead_cache_is_asked_once_and_left_alone() {
    let chain = chain("contents");
    // Bound and closed again: nobody listens there.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failing = Scripted::start(|_, _| Answer::Status(500));
    let to = store(&chain.folder.path().join("to"));
    let scene = caches(
        &[
            format!("http://{dead}?priority=1"),
            format!("{}?priority=2", failing.url()),
            format!("{}?priority=3", url(&chain.folder.path().join("cache"))),
        ],
        trust(),
    );
    let started = std::time::Instant::now();
    scene.bring(&to, &chain.top).unwrap();
    assert!(started.elapsed().as_secs() < 10);
    assert!(failing.requests.lock().unwrap().len() <= 12, "{}", failing.requests.lock().unwrap().len());
    assert_eq!(scene.warnings().matches("left alone").count(), 2, "{}", scene.warnings());
}

#[test]
fn what_a_cache_has_not_is_not_asked_for_twice() {
    let folder = tempfile::tempdir().unwrap();
    let from = store(&folder.path().join("from"));
    let path = built(&from, "x", "x", &[]);
    let to = store(&folder.path().join("to"));
    let server = Scripted::start(|_, _| Answer::Status(404));
    let scene = caches(&[server.url()], trust());
    assert!(scene.bring(&to, &path).is_err());
    let asked = server.count(".narinfo");
    assert!(scene.bring(&to, &path).is_err());
    assert_eq!((asked, server.count(".narinfo")), (1, 1));
}

#[test]
fn every_compression_is_read() {
    use rednix_cache::NarInfo;
    use rednix_cache::compression::Compression;
    use std::io::Write;
    let chain = chain("contents of some length, contents of some length");
    let cache = chain.folder.path().join("cache");
    for compression in Compression::ALL {
        for (name, bytes) in files(&cache) {
            if !name.ends_with(".narinfo") {
                continue;
            }
            let mut entry = NarInfo::parse(&name, &bytes).unwrap();
            let packed = std::fs::read(cache.join(&entry.url)).unwrap();
            let mut plain = Vec::new();
            let mut decoder = entry.compression.decoder(packed.as_slice()).unwrap();
            std::io::Read::read_to_end(&mut decoder, &mut plain).unwrap();
            let packed = match compression {
                Compression::None => plain,
                Compression::Zstd => zstd::encode_all(plain.as_slice(), 3).unwrap(),
                Compression::Xz => {
                    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
                    encoder.write_all(&plain).unwrap();
                    encoder.finish().unwrap()
                }
                Compression::Bzip2 => {
                    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
                    encoder.write_all(&plain).unwrap();
                    encoder.finish().unwrap()
                }
                Compression::Gzip => {
                    let mut encoder =
                        flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                    encoder.write_all(&plain).unwrap();
                    encoder.finish().unwrap()
                }
                Compression::Brotli => stored_brotli(&plain),
            };
            entry.compression = compression;
            entry.url = format!("nar/{}{}", entry.path.hash_part(), compression.suffix());
            entry.file_size = Some(packed.len() as u64);
            entry.file_hash = Some(rednix_store::hash::Hash::sha256(&packed));
            std::fs::write(cache.join(&entry.url), packed).unwrap();
            std::fs::write(cache.join(&name), entry.to_text()).unwrap();
        }
        let to = store(&chain.folder.path().join(format!("to-{compression}")));
        caches(&[url(&cache)], trust())
            .bring(&to, &chain.top)
            .unwrap_or_else(|e| panic!("{compression}: {e}"));
    }
}

/// A brotli stream of uncompressed blocks (RFC 7932, section 9): there is no encoder here.
fn stored_brotli(plain: &[u8]) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    let put = |bits: &mut Vec<bool>, value: usize, count: usize| {
        bits.extend((0..count).map(|bit| value >> bit & 1 == 1));
    };
    // Window of 16 bits.
    put(&mut bits, 0, 1);
    for piece in plain.chunks(1 << 16) {
        put(&mut bits, 0, 1);
        put(&mut bits, 0, 2);
        put(&mut bits, piece.len() - 1, 16);
        put(&mut bits, 1, 1);
        while !bits.len().is_multiple_of(8) {
            bits.push(false);
        }
        for &byte in piece {
            put(&mut bits, usize::from(byte), 8);
        }
    }
    // Last and empty.
    put(&mut bits, 3, 2);
    bits.chunks(8).map(|byte| byte.iter().enumerate().map(|(at, &bit)| u8::from(bit) << at).sum()).collect()
}
