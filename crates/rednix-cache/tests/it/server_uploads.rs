//! Uploads to the server: many at once, and what they may take.

use std::io::{Read, Write};

use rednix_cache::NarInfo;
use rednix_cache::compression::Compression;
use rednix_cache::server::ServerConfig;
use rednix_store::store::{GcOptions, OpenOptions, Store};

use crate::server::{Running, config, serve, token};
use crate::support::{built, key, noise, push_with, store};

/// Under names of their own, in folders of their own, and from two sides at once.
#[test]
fn paths_with_equal_contents_are_pushed_together() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&folder.path().join("server"), config());
    let from = [0, 1].map(|side| {
        let store = store(&folder.path().join(format!("from-{side}")));
        let paths: Vec<_> =
            (0..40).map(|number| built(&store, &format!("same-{side}-{number}"), "same", &[])).collect();
        (store, paths)
    });
    std::thread::scope(|scope| {
        for (store, paths) in &from {
            scope.spawn(|| {
                let paths: Vec<_> = paths.iter().collect();
                let pushed =
                    push_with(store, &server.url, Some(&key()), &paths, token("a-good-token")).unwrap();
                assert_eq!(pushed.paths, 40);
            });
        }
    });
    assert_eq!(server.store.all_valid_paths().unwrap().len(), 80);
    // The last one that needed it took it away.
    assert_eq!(std::fs::read_dir(server.store.layout().own_state().join("uploads")).unwrap().count(), 0);
}

/// A folder gets the archive once.
#[test]
fn equal_contents_are_one_archive_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let from = store(&folder.path().join("from"));
    let paths: Vec<_> = (0..20).map(|number| built(&from, &format!("same-{number}"), "same", &[])).collect();
    let cache = folder.path().join("cache");
    let url = crate::support::url(&cache);
    let pushed = crate::support::push(&from, &url, Some(&key()), &paths.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(pushed.paths, 20);
    assert_eq!(std::fs::read_dir(cache.join("nar")).unwrap().count(), 1);
}

fn put(server: &Running, place: &str, body: &[u8]) -> u16 {
    server.ask(&format!("PUT /{place} HTTP/1.1\r\nAuthorization: Bearer a-good-token"), body).0
}

/// What was answered for survives a power cut: it is flushed by then, not when the server ends.
#[test]
fn uploads_are_on_the_disk_when_they_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&folder.path().join("server"), config());
    let from = store(&folder.path().join("from"));
    let paths: Vec<_> = (0..20)
        .map(|number| built(&from, &format!("p-{number}"), &format!("contents {number}"), &[]))
        .collect();
    let youngest = || {
        let text = std::fs::read_to_string(server.store.layout().own_state().join("flushed.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["row"].as_i64().unwrap()
    };
    assert_eq!(youngest(), 0);
    push_with(&from, &server.url, Some(&key()), &paths.iter().collect::<Vec<_>>(), token("a-good-token"))
        .unwrap();
    assert!(youngest() >= 20, "{}", youngest());
}

/// Logs, realisations and what is known of others' derivations count, also for a server that begins anew; and what goes
/// gives its room back to one that runs.
#[test]
fn all_that_is_uploaded_takes_room() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("server");
    let limit = |bytes| ServerConfig { uploads_bytes_max: Some(bytes), accept_unsigned: true, ..config() };
    let server = serve(&root, limit(60_000));
    let from = store(&folder.path().join("from"));
    let path = built(&from, "path", "p", &[]);
    push_with(&from, &server.url, Some(&key()), &[&path], token("a-good-token")).unwrap();
    let hash = |number: usize| format!("{}{number:02}", "0".repeat(30));
    let known = format!("{{\"outPath\":\"{}\",\"signatures\":[]}}", path.basename());
    // Each takes what a file takes at least.
    let upload = |server: &Running, number: usize| match number % 2 {
        0 => put(server, &format!("log/{}-x.drv", hash(number)), b"a log"),
        _ => put(server, &format!("build-trace-v2/{}-x.drv/out.doi", hash(number)), known.as_bytes()),
    };
    let taken = (0..40).take_while(|&number| upload(&server, number) == 201).count();
    assert!((10..15).contains(&taken), "{taken}");
    assert_eq!((upload(&server, 38), upload(&server, 39)), (507, 507));
    let upload_again = |server: &Running| (upload(server, 38), upload(server, 39));
    drop(server);
    let server = serve(&root, limit(60_000));
    assert_eq!(upload_again(&server), (507, 507));
    drop(server);
    // In the database, too: of derivations nobody has.
    let server = serve(&root, limit(62_000));
    let realised = |number: usize| {
        let id = format!("sha256:{number:064x}!out");
        let text = format!(
            "{{\"dependentRealisations\":{{}},\"id\":\"{id}\",\"outPath\":\"{}\",\"signatures\":[]}}",
            path.basename()
        );
        put(&server, &format!("realisations/{id}.doi"), text.as_bytes())
    };
    let taken = (0..40).take_while(|&number| realised(number) == 201).count();
    assert!((1..20).contains(&taken), "{taken}");
    // Somebody else removes the logs and the root, and collects.
    std::fs::remove_dir_all(root.join("nix/var/log/nix/drvs")).unwrap();
    assert!(server.store.remove_root(&format!("cache/{}", path.basename())).unwrap());
    std::thread::sleep(rednix_cache::limits::RECOUNT_AFTER);
    assert_eq!(put(&server, &format!("log/{}-y.drv", hash(0)), b"a log"), 201);
}

/// An entry that names what is not here keeps nothing.
#[test]
fn invented_references_are_no_roots() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&folder.path().join("server"), ServerConfig { accept_unsigned: true, ..config() });
    let from = store(&folder.path().join("from"));
    let path = built(&from, "path", "p", &[]);
    let info = from.path_info(&path).unwrap().unwrap();
    let mut entry = rednix_cache::NarInfo::of(
        &info,
        "nar/x.nar".to_owned(),
        rednix_cache::compression::Compression::None,
    );
    entry.references = (0..5000)
        .map(|number| {
            rednix_store::path::StorePath::from_basename(&format!("{number:0>32}-invented"))
                .expect("digits are letters of a hash")
        })
        .collect();
    let place = format!("{}.narinfo", path.hash_part());
    assert_eq!(put(&server, &place, entry.to_text().as_bytes()), 422);
    let kept = std::fs::read_dir(server.store.layout().temporary_roots()).into_iter().flatten().flatten();
    let bytes: u64 = kept.map(|entry| entry.metadata().unwrap().len()).sum();
    assert!(bytes < 1000, "{bytes}");
}

/// Two entries for one path take its room once.
#[test]
fn one_path_that_is_sent_twice_at_once_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let limit = 3_000_000;
    let bounded = ServerConfig { uploads_bytes_max: Some(limit), ..config() };
    let server = serve(&folder.path().join("server"), bounded);
    let from = store(&folder.path().join("from"));
    for round in 0..12 {
        let path = built(&from, &format!("path-{round}"), &noise(100_000 + round), &[]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    push_with(&from, &server.url, Some(&key()), &[&path], token("a-good-token")).unwrap();
                });
            }
        });
    }
    // Of 3 MB, 1.2 MB are taken: as much again fits, once while it is sent and once unpacked.
    let last = built(&from, "last", &noise(850_000), &[]);
    push_with(&from, &server.url, Some(&key()), &[&last], token("a-good-token")).unwrap();
}

/// A server that runs for long keeps what it was sent as long as there is a root for it, and no longer.
#[test]
fn uploads_are_collected_while_the_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("server");
    let server = serve(&root, config());
    let from = store(&folder.path().join("from"));
    let below = built(&from, "below", "b", &[]);
    let paths = [built(&from, "one", "1", &[&below]), built(&from, "two", "2", &[&below]), below];
    push_with(&from, &server.url, Some(&key()), &paths.iter().collect::<Vec<_>>(), token("a-good-token"))
        .unwrap();
    // Another process.
    let other = Store::open(&root, OpenOptions::default()).unwrap();
    assert_eq!(other.gc(&GcOptions::default()).unwrap().removed, []);
    assert!(other.remove_root(&format!("cache/{}", paths[0].basename())).unwrap());
    assert_eq!(other.gc(&GcOptions::default()).unwrap().removed, [paths[0].clone()]);
    assert_eq!(other.all_valid_paths().unwrap().len(), 2);
    // And it may come again.
    push_with(&from, &server.url, Some(&key()), &[&paths[0]], token("a-good-token")).unwrap();
    assert!(server.store.is_valid(&paths[0]).unwrap());
}

fn packed(nar: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
            encoder.write_all(nar).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(nar, 19).unwrap(),
        _ => nar.to_vec(),
    }
}

fn unpacked(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut plain = Vec::new();
    compression.decoder(bytes, 1 << 30).unwrap().read_to_end(&mut plain).unwrap();
    plain
}

/// C++ Nix remembers the entries that it wrote and asks for archives by them, for a month.
#[test]
fn archives_are_there_by_the_names_they_were_sent_by() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("server");
    let server = serve(&root, ServerConfig { accept_unsigned: true, ..config() });
    let from = store(&folder.path().join("from"));
    for compression in [Compression::None, Compression::Xz, Compression::Zstd] {
        let path = built(&from, compression.as_str(), &crate::support::noise(300_000), &[]);
        let info = from.path_info(&path).unwrap().unwrap();
        let mut nar = Vec::new();
        rednix_store::nar::dump(from.real_path(&path), &mut nar).unwrap();
        let place = format!("nar/sent-{compression}.nar{}", compression.suffix());
        assert_eq!(server.get(&place).0, 404);
        assert_eq!(put(&server, &place, &packed(&nar, compression)), 201);
        let entry = NarInfo::of(&info, place.clone(), compression).to_text();
        assert_eq!(put(&server, &format!("{}.narinfo", path.hash_part()), entry.as_bytes()), 201);
        let (status, whole) = server.ask(&format!("GET /{place} HTTP/1.0"), b"");
        assert_eq!((status, whole.is_empty()), (200, false));
        let (status, end) = server.ask(&format!("GET /{place} HTTP/1.0\r\nRange: bytes=1000-"), b"");
        assert!(
            status == 206 && end == whole[1000..],
            "{compression}: {status}, {} of {}",
            end.len(),
            whole.len()
        );
        assert_eq!(unpacked(&whole, compression), nar);
        // Its contents are not there under a name that says something else.
        assert_eq!(server.get("nar/sent-.nar.bz2").0, 404);
        let other = Store::open(&root, OpenOptions::default()).unwrap();
        other.remove_root(&format!("cache/{}", path.basename())).unwrap();
        assert_eq!(other.gc(&GcOptions::default()).unwrap().removed, [path]);
        assert_eq!(server.get(&place).0, 404);
    }
    let names = server.store.layout().own_state().join("uploaded-names");
    let count = || std::fs::read_dir(&names).unwrap().count();
    assert_eq!(count(), 3);
    drop(server);
    // They go with what they name.
    let _server = serve(&root, config());
    assert_eq!(count(), 0);
}

/// What somebody said about a derivation is not forgotten when the derivation itself gets here.
#[test]
fn what_is_known_of_a_derivation_stays_known_when_it_comes() {
    use rednix_store::derivation::{Derivation, Output};
    use rednix_store::hash::HashAlgorithm;
    use rednix_store::path::ContentMethod;
    let folder = tempfile::tempdir().unwrap();
    let unsigned =
        ServerConfig { key: None, accept_unsigned: true, trust: crate::support::trust(), ..config() };
    let server = serve(&folder.path().join("server"), unsigned);
    let paths = ["one", "two"].map(|name| built(&server.store, name, name, &[]));
    let mut derivation = Derivation::new("drv", "x86_64-linux", "/bin/sh");
    derivation.outputs.insert(
        "out".to_owned(),
        Output::Floating { method: ContentMethod::Recursive, algorithm: HashAlgorithm::Sha256 },
    );
    let name = derivation.store_path().unwrap();
    let place = format!("build-trace-v2/{}/out.doi", name.basename());
    let said = |number: usize| format!("{{\"outPath\":\"{}\",\"signatures\":[]}}", paths[number].basename());
    assert_eq!(put(&server, &place, said(0).as_bytes()), 201);
    assert_eq!(server.get(&place).0, 200);
    assert_eq!(server.store.write_derivation(&derivation).unwrap(), name);
    let (status, text) = server.get(&place);
    assert!(status == 200 && text.contains(paths[0].basename()), "{status} {text}");
    // What others sign in this layout is kept, and who says nothing new takes none of it away.
    let key = rednix_cache::realisation::Key::parse(&place).unwrap();
    let signed = key.to_text(&paths[0], &[key.sign(&paths[0], &crate::support::key())]);
    assert_eq!(put(&server, &place, signed.as_bytes()), 201);
    assert_eq!(put(&server, &place, said(0).as_bytes()), 200);
    assert!(server.get(&place).1.contains("test-1:"), "{}", server.get(&place).1);
    // The first answer stays, as before.
    assert_eq!(put(&server, &place, said(1).as_bytes()), 409);
    assert!(server.get(&place).1.contains(paths[0].basename()));
}

/// Somebody vouches later for what was said before.
#[test]
fn signatures_of_realisations_are_added() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(
        &folder.path().join("server"),
        ServerConfig { key: None, trust: crate::support::trust(), accept_unsigned: true, ..config() },
    );
    let from = store(&folder.path().join("from"));
    let path = built(&from, "path", "p", &[]);
    let id = crate::support::realised(&from, &path);
    push_with(&from, &server.url, None, &[&path], token("a-good-token")).unwrap();
    let place = format!("realisations/{id}.doi");
    assert!(!server.get(&place).1.contains("test-1:"));
    push_with(&from, &server.url, Some(&key()), &[&path], token("a-good-token")).unwrap();
    let text = server.get(&place).1;
    assert!(text.contains("test-1:"), "{text}");
}

/// Whoever claims other references of what is here gets no signature for that into its entry.
#[test]
fn signatures_are_of_what_is_here() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&folder.path().join("server"), ServerConfig { accept_unsigned: true, ..config() });
    let from = store(&folder.path().join("from"));
    let (path, other) = (built(&from, "path", "p", &[]), built(&from, "other", "o", &[]));
    push_with(&from, &server.url, None, &[&path, &other], token("a-good-token")).unwrap();
    let place = format!("{}.narinfo", path.hash_part());
    let before = server.get(&place).1;
    assert_eq!(before.matches("Sig: ").count(), 1, "{before}");
    let mut entry = NarInfo::parse("x", before.as_bytes()).unwrap();
    entry.references.insert(other);
    assert_eq!(put(&server, &place, entry.to_text().as_bytes()), 200);
    assert_eq!(server.get(&place).1, before);
}

/// C++ Nix compresses entries, realisations and logs on their way, where it is told to.
#[test]
fn what_is_compressed_on_its_way_is_taken_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(&folder.path().join("server"), ServerConfig { accept_unsigned: true, ..config() });
    let from = store(&folder.path().join("from"));
    let path = built(&from, "path", "p", &[]);
    let info = from.path_info(&path).unwrap().unwrap();
    let mut nar = Vec::new();
    rednix_store::nar::dump(from.real_path(&path), &mut nar).unwrap();
    let send = |place: &str, encoding: &str, body: &[u8]| {
        let head = format!("PUT /{place} HTTP/1.1\r\nAuthorization: Bearer a-good-token");
        server.ask(&format!("{head}\r\nContent-Encoding: {encoding}"), body).0
    };
    assert_eq!(send("nar/x.nar", "xz", &packed(&nar, Compression::Xz)), 415);
    assert_eq!(put(&server, "nar/x.nar", &nar), 201);
    let place = format!("{}.narinfo", path.hash_part());
    let entry = NarInfo::of(&info, "nar/x.nar".to_owned(), Compression::None).to_text();
    assert_eq!(send(&place, "rot13", entry.as_bytes()), 415);
    assert_eq!(send(&place, "xz", entry.as_bytes()), 422);
    assert_eq!(send(&place, "xz", &packed(&vec![b' '; 2 << 20], Compression::Xz)), 413);
    assert_eq!(send(&place, "XZ", &packed(entry.as_bytes(), Compression::Xz)), 201);
    let log = format!("log/{}-x.drv", "0".repeat(32));
    assert_eq!(send(&log, "zstd", &packed(b"what a build said", Compression::Zstd)), 201);
    assert_eq!(server.get(&log), (200, "what a build said".to_owned()));
    let long = format!("log/{}-y.drv", "0".repeat(32));
    assert_eq!(send(&long, "zstd", &packed(&vec![b' '; 65 << 20], Compression::Zstd)), 413);
    assert_eq!(server.get(&long).0, 404);
    let id = crate::support::realised(&from, &path);
    let known = rednix_cache::realisation::Key::Hash(id);
    let text = known.to_text(&path, &[]);
    assert_eq!(send(&known.place(), "zstd", &packed(text.as_bytes(), Compression::Zstd)), 201);
    assert_eq!(server.get(&known.place()).0, 200);
}
