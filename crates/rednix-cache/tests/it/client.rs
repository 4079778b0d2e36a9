//! The client and what can go wrong that is nobody's malice.

use rednix_cache::cache::Address;
use rednix_cache::caches::Ask;
use rednix_cache::transport::{Answer as Found, Body, Opened, Transport};
use rednix_store::store::VerifyOptions;

use rednix_cache::NarInfo;

use crate::support::{
    Answer, Nobody, Scripted, built, caches, caches_with, files, impatient, noise, patiently, push, realised,
    store, trust, url,
};

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
    let chain = chain(&noise(60_000));
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
    let cases: [(&str, fn(&str, Vec<u8>) -> Answer, &str); 10] = [
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
        ("nar/", |_, _| Answer::Status(404), "and not its archive"),
        ("nar/", |_, _| Answer::Status(403), "(HTTP 403)"),
        (".narinfo", |_, _| Answer::Status(401), "(HTTP 401)"),
        (".narinfo", |_, _| Answer::Status(403), "refuses"),
        (".narinfo", |_, _| Answer::Status(418), "is not understood: HTTP 418"),
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
    let nobody = Nobody::new();
    let failing = Scripted::start(|_, _| Answer::Status(500));
    let to = store(&chain.folder.path().join("to"));
    let scene = caches(
        &[
            format!("http://{}?priority=1", nobody.address()),
            format!("{}?priority=2", failing.url()),
            format!("{}?priority=3", url(&chain.folder.path().join("cache"))),
        ],
        trust(),
    );
    scene.bring(&to, &chain.top).unwrap();
    assert!(failing.requests.lock().unwrap().len() <= 12, "{}", failing.requests.lock().unwrap().len());
    assert_eq!(scene.warnings().matches("left alone").count(), 2, "{}", scene.warnings());
}

/// A cache that asks for a moment gets it, from all questions; one that asks for long is left alone that long.
#[test]
fn a_cache_that_has_too_much_to_do_is_waited_for_or_left_alone() {
    let chain = chain("contents");
    let cache = chain.folder.path().join("cache");
    let busy =
        |status: u16, after: &str| Answer::With(status, format!("Retry-After: {after}\r\n"), Vec::new());
    // One refusal for each thing that is asked for: the entry, the archive; then it is given.
    let refused = std::sync::Mutex::new(std::collections::HashSet::new());
    let server = Scripted::folder(&cache, move |path, _| {
        let is_first = refused.lock().unwrap().insert(path.to_owned());
        let status = if path.starts_with("nar/") { 503 } else { 429 };
        (is_first && path != "nix-cache-info").then(|| busy(status, "1"))
    });
    let to = store(&chain.folder.path().join("to"));
    let (scene, started) = (caches(&[server.url()], trust()), std::time::Instant::now());
    scene.bring(&to, &chain.top).unwrap();
    // Three entries and three archives, each level of which waits once; and each is asked for once more.
    assert!(started.elapsed().as_secs() >= 3, "{:?}", started.elapsed());
    assert_eq!((server.count(".narinfo"), server.count("nar/")), (6, 6));
    assert_eq!(scene.warnings(), "");
    let date = "Fri, 01 Jan 2100 00:00:00 GMT";
    for (number, (after, expected)) in
        [("900", "left alone for 900 s"), (date, "left alone for 3600 s")].into_iter().enumerate()
    {
        let server =
            Scripted::folder(&cache, move |path, _| path.ends_with(".narinfo").then(|| busy(429, after)));
        let addresses = [format!("{}?priority=1", server.url()), format!("{}?priority=2", url(&cache))];
        let to = store(&chain.folder.path().join(format!("to-{number}")));
        let scene = caches(&addresses, trust());
        scene.bring(&to, &chain.top).unwrap();
        assert!(scene.warnings().contains(expected), "{}", scene.warnings());
        assert_eq!(server.count(".narinfo"), 1);
    }
    // And whoever pushes is told how long it would take.
    let server = Scripted::start(move |_, _| busy(503, "60"));
    let from = store(&chain.folder.path().join("from"));
    let told = push(&from, &server.url(), None, &[&chain.top]).unwrap_err();
    assert!(told.is_passing() && told.to_string().contains("asks for 60 s"), "{told}");
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

/// Whoever names paths to pull is not told what was so a moment ago, and is told who was asked.
#[test]
fn pulling_asks_anew() {
    let chain = chain("contents");
    let is_there = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = is_there.clone();
    let server = Scripted::folder(&chain.folder.path().join("cache"), move |path, _| {
        let is_there = flag.load(std::sync::atomic::Ordering::Relaxed);
        (!is_there && path.ends_with(".narinfo")).then_some(Answer::Status(404))
    });
    let to = store(&chain.folder.path().join("to"));
    let scene = caches(&[server.url()], trust());
    scene.bring(&to, &chain.top).unwrap_err();
    let paths = std::collections::BTreeSet::from([chain.top.clone()]);
    let told = scene.caches.pull(&to, &paths).unwrap_err().to_string();
    let expected = format!("no cache has `{}`; asked: {}", chain.top, server.url());
    assert!(told.starts_with(&expected) && !told.contains("build goes on"), "{told}");
    is_there.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(scene.caches.pull(&to, &paths).unwrap().paths, 3);
}

/// A log is told as it comes; one that is too long ends in an error, and one that trickles with the wait for it.
#[test]
fn logs_are_read_within_bounds() {
    let derivation = rednix_store::path::StorePath::from_parts(&[1; 20], "d.drv").unwrap();
    let long = vec![b'x'; rednix_cache::limits::LOG_BYTES_MAX as usize + 1];
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &long).unwrap();
    let packed = encoder.finish().unwrap();
    let server = Scripted::start(move |_, _| {
        Answer::With(200, "Content-Encoding: gzip\r\n".to_owned(), packed.clone())
    });
    let mut log = caches(&[server.url()], trust()).caches.log(&derivation).unwrap();
    let told = std::io::copy(&mut log, &mut std::io::sink()).unwrap_err().to_string();
    assert!(told.contains("larger than 67108864 bytes"), "{told}");
    // It would be there after minutes.
    let trickle = Scripted::start(|_, _| Answer::Trickle(vec![b'x'; 10_000]));
    patiently(|times| {
        let address = format!("{}?priority=1", trickle.url());
        let mut log = caches_with(&[address], trust(), impatient(times)).caches.log(&derivation).unwrap();
        let told = std::io::copy(&mut log, &mut std::io::sink()).unwrap_err().to_string();
        assert!(told.contains("took longer than"), "{told}");
    });
}

/// A cache that keeps silent, stops in the middle or trickles costs a moment, and once only, however much it has.
#[test]
fn slow_caches_do_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let from = store(&folder.path().join("from"));
    let many: Vec<_> = (0..40).map(|n| built(&from, &format!("p{n}"), &noise(3000), &[])).collect();
    let references: Vec<_> = many.iter().collect();
    let top = built(&from, "top", "t", &references);
    let id = realised(&from, &top);
    let cache = folder.path().join("cache");
    push(&from, &url(&cache), Some(&crate::support::key()), &[&top]).unwrap();
    let cases: [(&str, fn(Vec<u8>) -> Answer); 8] = [
        (".narinfo", |_| Answer::Silence),
        (".narinfo", Answer::Trickle),
        ("realisations/", Answer::Trickle),
        ("nix-cache-info", Answer::Trickle),
        ("nar/", |bytes| Answer::Restart(bytes, 2000)),
        ("nar/", |_| Answer::Silence),
        ("nar/", |bytes| Answer::Stall(bytes, 100)),
        ("nar/", Answer::Trickle),
    ];
    for (number, (part, answer)) in cases.into_iter().enumerate() {
        let files = cache.clone();
        let server = Scripted::folder(&cache, move |path, _| {
            let bytes = std::fs::read(files.join(path)).ok().filter(|_| path.contains(part))?;
            Some(answer(bytes))
        });
        let to = store(&folder.path().join(format!("to-{number}")));
        let mut addresses = [format!("{}?priority=1", server.url()), format!("{}?priority=2", url(&cache))];
        if part == "nix-cache-info" {
            addresses = [server.url(), url(&cache)];
        }
        let scene = caches_with(&addresses, trust(), impatient(1));
        let (derivation, output) = (top.clone(), "out".to_owned());
        scene.ask(&to, Ask { derivation, output, path: None, realisation: Some(id.clone()) }).unwrap();
        // What is asked for at once, and the attempts to take it up again: not one wait for each of forty paths.
        let asked = server.count(part);
        assert!((1..25).contains(&asked), "case {number}: asked {asked} times");
        assert!(scene.warnings().contains("took longer than 0 s"), "case {number}: {}", scene.warnings());
        assert!(scene.warnings().contains("left alone"), "case {number}: {}", scene.warnings());
    }
}

/// Ctrl-C ends what waits for a cache that sends a byte now and then, be it a small file or what is read again.
#[test]
fn interruptions_end_slow_answers() {
    let chain = chain(&noise(9000));
    let cache = chain.folder.path().join("cache");
    // With the requests after which there is only a byte now and then.
    let cases: [(&str, usize, fn(Vec<u8>) -> Answer); 2] =
        [(".narinfo", 1, Answer::Trickle), ("nar/", 2, |bytes| Answer::Restart(bytes, 2000))];
    for (number, (part, requests, answer)) in cases.into_iter().enumerate() {
        let files = cache.clone();
        let server = Scripted::folder(&cache, move |path, _| {
            let bytes = std::fs::read(files.join(path)).ok().filter(|_| path.contains(part))?;
            Some(answer(bytes))
        });
        let to = store(&chain.folder.path().join(format!("to-{number}")));
        // With all the patience that there is by default.
        let settings = rednix_cache::transport::HttpSettings::default();
        let cancelled = settings.cancelled.clone();
        let scene = caches_with(&[server.url()], trust(), settings);
        let told = std::thread::scope(|scope| {
            let bringing = scope.spawn(|| scene.bring(&to, &chain.top).unwrap_err());
            while server.count(part) < requests && !bringing.is_finished() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            // In the middle of it.
            std::thread::sleep(std::time::Duration::from_millis(300));
            cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
            bringing.join().unwrap()
        });
        // All the patience would have ended otherwise.
        assert!(told.contains("interrupted"), "case {number}: {told}");
        assert!(server.count(part) >= requests, "case {number}");
        assert!(!scene.warnings().contains("left alone"), "{}", scene.warnings());
    }
}

/// Storage that refuses what is not there is of use for what is; and what it refused is not taken for absent.
#[test]
fn refusals_of_single_files_do_not_close_a_cache() {
    let chain = chain("contents");
    let cache = chain.folder.path().join("cache");
    let files = cache.clone();
    let server =
        Scripted::folder(&cache, move |path, _| (!files.join(path).exists()).then_some(Answer::Status(403)));
    let from = store(&chain.folder.path().join("from"));
    let absent = built(&from, "absent", "x", &[]);
    let to = store(&chain.folder.path().join("to"));
    let scene = caches(&[server.url()], trust());
    assert!(scene.bring(&to, &absent).is_err());
    assert!(scene.warnings().contains("goes on without what a cache refuses"), "{}", scene.warnings());
    scene.bring(&to, &chain.top).unwrap();
    push(&from, &url(&cache), Some(&crate::support::key()), &[&absent]).unwrap();
    caches(&[server.url()], trust()).bring(&to, &absent).unwrap();
}

#[test]
fn caches_say_themselves_who_goes_first() {
    let chain = chain("contents");
    let cache = chain.folder.path().join("cache");
    let with_priority = |priority: u32| {
        Scripted::folder(&cache, move |path, _| {
            let info = format!("StoreDir: /nix/store\nPriority: {priority}\n");
            (path == "nix-cache-info").then(|| Answer::Bytes(info.into_bytes()))
        })
    };
    let (late, early, foreign) = (with_priority(60), with_priority(20), {
        Scripted::folder(&cache, |path, _| {
            (path == "nix-cache-info").then(|| Answer::Bytes(b"StoreDir: /other\nPriority: 1\n".to_vec()))
        })
    });
    let to = store(&chain.folder.path().join("to"));
    caches(&[late.url(), early.url()], trust()).bring(&to, &chain.top).unwrap();
    assert_eq!((late.count("narinfo"), late.count("nar/")), (0, 0));
    assert_eq!(early.count(".narinfo"), 3);
    // An address goes before what the cache says; another store's cache goes last.
    let to = store(&chain.folder.path().join("to-2"));
    caches(&[early.url(), format!("{}?priority=1", late.url()), foreign.url()], trust())
        .bring(&to, &chain.top)
        .unwrap();
    assert_eq!((early.count(".narinfo"), late.count(".narinfo"), foreign.count(".narinfo")), (3, 3, 0));
}

/// What an entry says about the file holds, or the path is not taken: even where the archive inside is right.
#[test]
fn the_file_at_the_cache_is_the_one_its_entry_describes() {
    let chain = chain("contents of some length, contents of some length");
    let cache = chain.folder.path().join("cache");
    let place = format!("{}.narinfo", chain.top.hash_part());
    let good = std::fs::read(cache.join(&place)).unwrap();
    let entry = NarInfo::parse(&place, &good).unwrap();
    let packed = std::fs::read(cache.join(&entry.url)).unwrap();
    let bring = |name: &str, entry: &NarInfo, packed: &[u8]| {
        std::fs::write(cache.join(&place), entry.to_text()).unwrap();
        std::fs::write(cache.join(&entry.url), packed).unwrap();
        let to = store(&chain.folder.path().join(name));
        let result = caches(&[url(&cache)], trust()).bring(&to, &chain.top).map(drop);
        assert_eq!(result.is_ok(), to.is_valid(&chain.top).unwrap());
        result
    };
    // Packed otherwise: the same archive, another file.
    let mut plain = Vec::new();
    std::io::Read::read_to_end(
        &mut entry.compression.decoder(packed.as_slice(), u64::MAX).unwrap(),
        &mut plain,
    )
    .unwrap();
    let other = zstd::encode_all(plain.as_slice(), 19).unwrap();
    let mut changed = entry.clone();
    changed.file_size = Some(other.len() as u64);
    assert!(bring("a", &changed, &other).unwrap_err().contains("the file's hash is"));
    changed.file_hash = None;
    bring("b", &changed, &other).unwrap();
    // Something behind the end, which decompressors do not look at.
    let mut longer = packed.clone();
    longer.extend_from_slice(b"\x50\x2a\x4d\x18\x04\x00\x00\x00more");
    let mut changed = entry.clone();
    changed.file_size = None;
    assert!(bring("c", &changed, &longer).unwrap_err().contains("the file's hash is"));
    bring("d", &entry, &packed).unwrap();
}

/// Some caches keep small files packed.
#[test]
fn small_files_may_be_packed() {
    let chain = chain("contents");
    let cache = chain.folder.path().join("cache");
    for (number, bad) in [false, true].into_iter().enumerate() {
        let files = cache.clone();
        let server = Scripted::folder(&cache, move |path, _| {
            let bytes = std::fs::read(files.join(path)).ok().filter(|_| path.ends_with(".narinfo"))?;
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &bytes).unwrap();
            if bad {
                // More than an entry may have, in few bytes.
                std::io::Write::write_all(&mut encoder, &vec![b'x'; 8 << 20]).unwrap();
            }
            Some(Answer::With(200, "Content-Encoding: gzip\r\n".to_owned(), encoder.finish().unwrap()))
        });
        let to = store(&chain.folder.path().join(format!("to-{number}")));
        match (caches(&[server.url()], trust()).bring(&to, &chain.top), bad) {
            (Ok(_), false) => {}
            (Err(told), true) => assert!(told.contains("is larger than"), "{told}"),
            (other, _) => panic!("{other:?}"),
        }
    }
}

/// A password for one host does not travel to another one, whoever sends the client there.
#[test]
fn passwords_stay_with_their_host() {
    let chain = chain("contents");
    let cache = chain.folder.path().join("cache");
    let elsewhere = Scripted::folder(&cache, |_, _| None);
    let target = elsewhere.url().replace("127.0.0.1", "localhost");
    let server = Scripted::folder(&cache, move |path, _| {
        let to = format!("Location: {target}/{path}\r\n");
        path.starts_with("nar/").then(|| Answer::With(302, to, Vec::new()))
    });
    let netrc = rednix_cache::netrc::Netrc::parse("machine 127.0.0.1 login user password secret-word");
    let settings = rednix_cache::transport::HttpSettings { netrc, ..Default::default() };
    let to = store(&chain.folder.path().join("to"));
    caches_with(&[server.url()], trust(), settings).bring(&to, &chain.top).unwrap();
    assert!(server.count("uthorization: Basic ") >= 4, "{:?}", server.requests.lock().unwrap());
    assert!(elsewhere.count("/nar/") >= 3);
    assert_eq!(elsewhere.count("uthorization"), 0, "{:?}", elsewhere.requests.lock().unwrap());
    // One in the address is sent, and shown nowhere: not as work is told, nor in warnings, nor in errors.
    let address = server.url().replace("http://", "http://user:secret%2Dword@");
    let before = server.count("uthorization: Basic dXNlcjpzZWNyZXQtd29yZA==");
    let to = store(&chain.folder.path().join("to-2"));
    let scene = caches(std::slice::from_ref(&address), trust());
    scene.bring(&to, &chain.top).unwrap();
    assert!(server.count("uthorization: Basic dXNlcjpzZWNyZXQtd29yZA==") >= before + 4);
    let told = format!("{:?} {:?}", scene.recorder.events(), Address::parse(&address).unwrap());
    assert!(told.contains(&server.url()) && !told.contains("word") && !told.contains("dXNl"), "{told}");
    for (answer, number) in [(500, 3), (403, 4), (418, 5)] {
        let failing = Scripted::start(move |_, _| Answer::Status(answer));
        let address = failing.url().replace("http://", "http://user:secret-word@");
        let to = store(&chain.folder.path().join(format!("to-{number}")));
        let scene = caches(std::slice::from_ref(&address), trust());
        let told = scene.bring(&to, &chain.top).unwrap_err();
        let pushed = push(&to, &address, None, &[&built(&to, "x", "x", &[])]).unwrap_err();
        let told = format!("{told} {:?} {pushed} {pushed:?}", scene.recorder.events());
        assert!(told.contains(&failing.url()) && !told.contains("secret-word"), "{told}");
    }
    for wrong in
        ["http://user:secret-word@", "http://user:secret-word@h?priority=x", "http://u:secret-word/x@h"]
    {
        let told = push(&to, wrong, None, &[]).unwrap_err().to_string();
        assert!(told.contains("is not the address") && !told.contains("secret-word"), "{told}");
    }
}

/// Another store is a cache that packs nothing; its word counts as little as any other's.
#[test]
fn a_store_is_pulled_from() {
    let folder = tempfile::tempdir().unwrap();
    let from = store(&folder.path().join("from"));
    let low = built(&from, "low", &noise(900_000), &[]);
    let top = built(&from, "top", "t", &[&low]);
    let id = realised(&from, &top);
    let address = format!("local?root={}", folder.path().join("from").display());
    let to = store(&folder.path().join("to"));
    let told = caches(std::slice::from_ref(&address), trust()).bring(&to, &top).unwrap_err();
    assert!(told.contains("not signed by a key that is trusted"), "{told}");
    let trusted = caches(&[format!("{address}&trusted=1")], trust());
    let paths = std::collections::BTreeSet::from([top.clone()]);
    assert_eq!(trusted.caches.pull(&to, &paths).unwrap().paths, 2);
    assert_eq!(trusted.caches.pull(&to, &paths).unwrap().paths, 0);
    assert!(to.verify(VerifyOptions::default()).unwrap().problems.is_empty());
    let ask =
        Ask { derivation: top.clone(), output: "out".to_owned(), path: None, realisation: Some(id.clone()) };
    trusted.ask(&to, ask).unwrap();
    assert_eq!(to.query_realisation(&id).unwrap().unwrap().path, top);
    let nobody = caches(&[format!("local?root={}", folder.path().join("to").display())], trust());
    let absent = std::collections::BTreeSet::from([built(&from, "absent", "a", &[])]);
    let told = nobody.caches.pull(&store(&folder.path().join("third")), &absent).unwrap_err().to_string();
    assert!(told.contains("no cache has"), "{told}");
}

#[test]
fn every_compression_is_read() {
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
            let mut decoder = entry.compression.decoder(packed.as_slice(), u64::MAX).unwrap();
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

/// A cache that notes what is written, in order.
struct Noting {
    inner: Box<dyn Transport>,
    written: std::sync::Mutex<Vec<String>>,
}

impl Transport for Noting {
    fn url(&self, place: &str) -> String {
        self.inner.url(place)
    }

    fn get(&self, place: &str) -> rednix_cache::Result<Option<Found>> {
        self.inner.get(place)
    }

    fn log(&self, place: &str) -> rednix_cache::Result<Option<Box<dyn std::io::Read + Send>>> {
        self.inner.log(place)
    }

    fn exists(&self, place: &str) -> rednix_cache::Result<bool> {
        self.inner.exists(place)
    }

    fn open(&self, place: &str, offset: u64, tag: Option<&str>) -> rednix_cache::Result<Option<Opened>> {
        self.inner.open(place, offset, tag)
    }

    fn put(&self, place: &str, kind: &'static str, body: Body) -> rednix_cache::Result<()> {
        self.inner.put(place, kind, body)?;
        self.written.lock().unwrap().push(place.to_owned());
        Ok(())
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// At no moment does a cache name an archive, or refer to a path, that it does not have.
#[test]
fn what_is_pushed_comes_after_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let from = store(&folder.path().join("from"));
    let mut paths = Vec::new();
    for number in 0..30usize {
        let references: Vec<_> = paths.iter().skip(number / 2).step_by(3).collect();
        paths.push(built(&from, &format!("p{number}"), &noise(number * 700), &references));
    }
    let cache = folder.path().join("cache");
    let connections = std::sync::Arc::default();
    let inner =
        rednix_cache::transport::connect(&Address::parse(&url(&cache)).unwrap(), &connections).unwrap();
    let noting = Noting { inner, written: Default::default() };
    let events: rednix_events::Events = std::sync::Arc::new(rednix_events::Silent);
    let push = rednix_cache::push::Push {
        store: &from,
        transport: &noting,
        key: None,
        events: &events,
        cancelled: &Default::default(),
        scratch: folder.path().to_owned(),
        keep_going: false,
    };
    assert_eq!(push.run(&paths.iter().cloned().collect()).unwrap().paths, 30);
    let written = noting.written.into_inner().unwrap();
    let at =
        |place: &str| written.iter().position(|other| other == place).unwrap_or_else(|| panic!("no {place}"));
    for (place, bytes) in files(&cache).iter().filter(|(place, _)| place.ends_with(".narinfo")) {
        let entry = NarInfo::parse(place, bytes).unwrap();
        assert!(at(&entry.url) < at(place), "{place}");
        for reference in &entry.references {
            assert!(at(&format!("{}.narinfo", reference.hash_part())) < at(place), "{place} and {reference}");
        }
    }
}
