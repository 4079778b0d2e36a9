//! The store as its users see it: adding, registering, roots, collection, verification, several at once.

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use common::*;
use rednix_store::derivation::{Derivation, DerivationHashes, Output, hash_modulo_masked};
use rednix_store::error::Error;
use rednix_store::handle::Kind;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::nar::{self, Tree};
use rednix_store::path::{ContentMethod, StorePath};
use rednix_store::rewrite::Rewrites;
use rednix_store::scan;
use rednix_store::store::*;

#[test]
fn opens_creates_and_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a b%?#/store");
    let read_write = OpenOptions { access: Access::ReadWrite, ..OpenOptions::default() };
    for options in [OpenOptions::read_only(), read_write.clone()] {
        assert!(matches!(Store::open(&root, options), Err(Error::NoStore { .. })));
    }
    let store = Store::open(&root, OpenOptions::default()).unwrap();
    let path = store.add_text("x", b"x", &BTreeSet::new()).unwrap();
    drop(store);
    let store = Store::open(&root, OpenOptions::read_only()).unwrap();
    assert!(store.is_valid(&path).unwrap());
    assert!(matches!(store.add_text("y", b"y", &BTreeSet::new()), Err(Error::ReadOnly { .. })));
    assert!(matches!(store.gc(&GcOptions::default()), Err(Error::ReadOnly { .. })));
    drop(store);
    let schema = root.join("nix/var/nix/db/schema");
    for (text, expected) in [("11", "newer"), ("9", "older"), ("x", "not a schema"), ("10\n", "")] {
        std::fs::write(&schema, text).unwrap();
        match Store::open(&root, read_write.clone()) {
            Ok(_) => assert_eq!(expected, ""),
            Err(error) => {
                let message = error.to_string();
                let expected = if expected == "newer" { "newer rednix" } else { expected };
                assert!(!expected.is_empty() && message.contains(expected), "{text}: {message}");
                assert!(message.contains(root.to_str().unwrap()), "{message}");
            }
        }
    }
    let database = rusqlite::Connection::open(root.join("nix/var/nix/db/db.sqlite")).unwrap();
    database.execute("INSERT INTO SchemaMigrations VALUES ('30000101-unheard-of')", []).unwrap();
    drop(database);
    for options in [OpenOptions::default(), OpenOptions::read_only()] {
        let error = Store::open(&root, options).unwrap_err();
        assert!(matches!(error, Error::NewerSchema { .. }), "{error}");
        assert!(error.to_string().contains("unheard-of"), "{error}");
    }
}

#[test]
fn opens_what_a_peer_without_realisations_made() {
    let (folder, store) = new_store();
    drop(store);
    let database = rusqlite::Connection::open(folder.path().join("nix/var/nix/db/db.sqlite")).unwrap();
    database
        .execute_batch("DROP TABLE RealisationsRefs; DROP TABLE Realisations; DROP TABLE SchemaMigrations;")
        .unwrap();
    drop(database);
    let id = RealisationId { derivation_hash: Hash::sha256(b""), output: "out".into() };
    let store = Store::open(folder.path(), OpenOptions::read_only()).unwrap();
    assert_eq!(store.query_realisation(&id).unwrap(), None);
    drop(store);
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    assert_eq!(store.query_realisation(&id).unwrap(), None);
}

#[test]
fn texts_and_derivations() {
    let (folder, store) = new_store();
    let one = store.add_text("one", b"hello", &BTreeSet::new()).unwrap();
    assert_eq!(std::fs::read(store.real_path(&one)).unwrap(), b"hello");
    let info = store.path_info(&one).unwrap().unwrap();
    let (hash, size) = nar::hash_path(store.real_path(&one), HashAlgorithm::Sha256).unwrap();
    assert_eq!((info.nar_hash, info.nar_size), (hash, size));
    assert_eq!(info.content_address, Some(format!("text:{}", Hash::sha256(b"hello"))));
    let two = store.add_text("two", b"two", &[one.clone()].into()).unwrap();
    assert_eq!(store.references(&two).unwrap(), [one.clone()].into());
    assert_eq!(store.referrers(&one).unwrap(), [two.clone()].into());
    assert_eq!(
        store.closure([&two]).unwrap().into_keys().collect::<BTreeSet<_>>(),
        [one.clone(), two.clone()].into()
    );
    assert_eq!(store.path_from_hash_part(one.hash_part()).unwrap(), Some(one.clone()));
    assert_eq!(store.path_from_hash_part(&"0".repeat(32)).unwrap(), None);
    let missing = StorePath::from_parts(&[1; 20], "missing").unwrap();
    let error = store.add_text("three", b"3", &[missing.clone()].into()).unwrap_err();
    assert!(matches!(error, Error::MissingReference { .. }), "{error}");
    assert!(matches!(store.references(&missing), Err(Error::NotValid { .. })));

    let derivation = derivation("build", &[], std::slice::from_ref(&one));
    let path = store.write_derivation(&derivation).unwrap();
    assert_eq!(path, derivation.store_path().unwrap());
    assert_eq!(store.read_derivation(&path).unwrap(), derivation);
    let out = derivation.output_path("out").unwrap().clone();
    assert_eq!(store.derivation_outputs(&path).unwrap(), [("out".to_owned(), out.clone())].into());
    assert_eq!(store.valid_derivers(&out).unwrap(), [path.clone()].into());
    assert_eq!(store.write_derivation(&derivation).unwrap(), path);
    for path in [&one, &path] {
        let metadata = std::fs::metadata(store.real_path(path)).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.mtime()), (0o444, 1));
    }
    assert_clean(&store);
    assert!(scratch_is_empty(folder.path()));
}

#[test]
fn thousands_of_derivations_in_one_transaction() {
    let (_folder, store) = new_store();
    let mut hashes = DerivationHashes::new();
    let mut derivations: Vec<Derivation> = Vec::new();
    let mut paths: Vec<StorePath> = Vec::new();
    for index in 0..4000usize {
        let mut derivation = Derivation::new(&format!("package-{index}"), "x86_64-linux", "/bin/sh");
        derivation.outputs.insert("out".into(), Output::Deferred);
        for back in [1usize, 7, 50] {
            if let Some(path) = index.checked_sub(back).and_then(|input| paths.get(input)) {
                derivation.input_derivations.insert(path.clone(), ["out".to_owned()].into());
            }
        }
        derivation.environment.insert(b"text".to_vec(), vec![b'x'; 1500]);
        derivation.fill_output_paths(&mut |path| Ok(hashes.get(path).unwrap())).unwrap();
        let hash =
            rednix_store::derivation::hash_modulo(&derivation, &mut |path| Ok(hashes.get(path).unwrap()));
        let path = derivation.store_path().unwrap();
        hashes.insert(path.clone(), hash.unwrap());
        paths.push(path);
        derivations.push(derivation);
    }
    assert_eq!(store.write_derivations(&derivations).unwrap(), paths);
    assert_eq!(store.write_derivations(&derivations).unwrap(), paths);
    assert_eq!(store.valid_among(&paths).unwrap().len(), 4000);
    assert_eq!(store.closure([&paths[3999]]).unwrap().len(), 4000);
}

#[test]
fn sources_from_disk_and_memory() {
    let (folder, store) = new_store();
    let source = folder.path().join("source");
    nar::restore(&mut sample_tree().to_nar().unwrap().as_slice(), &source).unwrap();
    let added = store.add_from_path(&source, Source::tree("src")).unwrap();
    assert!(added.new);
    let (hash, size) = sample_tree().hash(HashAlgorithm::Sha256).unwrap();
    let info = store.path_info(&added.path).unwrap().unwrap();
    assert_eq!((info.nar_hash, info.nar_size), (hash, size));
    assert_eq!(info.content_address, Some(format!("fixed:r:{hash}")));
    assert!(!store.add_from_path(&source, Source::tree("src")).unwrap().new);
    let memory = store.add_source_tree("src", &sample_tree()).unwrap();
    assert_eq!((memory.path, memory.new), (added.path.clone(), false));
    assert_ne!(store.add_source_tree("other", &sample_tree()).unwrap().path, added.path);

    let mut accept = |path: &Path, kind: Kind| Ok(path != Path::new("dir") && kind != Kind::Symlink);
    let filtered = Source { accept: Some(&mut accept), ..Source::tree("part") };
    let part = store.add_from_path(&source, filtered).unwrap().path;
    let names: Vec<_> = store.contents().open_dir(part.basename()).unwrap().entries().unwrap();
    assert_eq!(names.iter().map(|entry| entry.name.to_str().unwrap()).collect::<Vec<_>>(), ["file", "run"]);

    for (algorithm, method) in [
        (HashAlgorithm::Sha256, ContentMethod::Flat),
        (HashAlgorithm::Sha512, ContentMethod::Flat),
        (HashAlgorithm::Sha1, ContentMethod::Recursive),
    ] {
        let flat = Source { method, algorithm, ..Source::tree("flat") };
        let path = store.add_from_path(&source.join("run"), flat).unwrap().path;
        let contents = std::fs::read(source.join("run")).unwrap();
        let expected = match method {
            ContentMethod::Flat => Hash::of(algorithm, &contents),
            _ => Tree::executable(contents).hash(algorithm).unwrap().0,
        };
        let (found_method, found) = rednix_store::path::parse_content_address(
            &store.path_info(&path).unwrap().unwrap().content_address.unwrap(),
        )
        .unwrap();
        assert_eq!((found_method, found), (method, expected));
        let mode = std::fs::metadata(store.real_path(&path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if method == ContentMethod::Flat { 0o444 } else { 0o555 });
    }
    let wrong = Source { expected: Some(Hash::sha256(b"")), ..Source::tree("wrong") };
    let error = store.add_from_path(&source, wrong).unwrap_err();
    assert!(matches!(error, Error::HashMismatch { .. }), "{error}");
    assert!(
        store.add_from_path(&folder.path().join("missing"), Source::tree("x")).unwrap_err().is_not_found()
    );
    assert!(matches!(store.add_from_path(&source, Source::tree("a b")), Err(Error::BadName { .. })));
    assert_clean(&store);
    assert!(scratch_is_empty(folder.path()));
}

#[test]
fn large_sources_are_streamed() {
    let (folder, store) = new_store();
    let source = folder.path().join("large");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("zeros"), vec![0; 40 << 20]).unwrap();
    std::fs::write(source.join("left-out"), "x").unwrap();
    let mut asked = 0;
    let mut accept = |path: &Path, _: Kind| {
        asked += 1;
        Ok(path != Path::new("left-out"))
    };
    let large = Source { accept: Some(&mut accept), ..Source::tree("large") };
    let added = store.add_from_path(&source, large).unwrap();
    assert!(added.new);
    assert_eq!(asked, 2);
    let flat = Source { method: ContentMethod::Flat, ..Source::tree("zeros") };
    assert!(store.add_from_path(&source.join("zeros"), flat).unwrap().new);
    assert!(!store.real_path(&added.path).join("left-out").exists());
    assert_clean(&store);
    assert!(scratch_is_empty(folder.path()));
}

#[test]
fn archives_are_checked_before_they_get_a_name() {
    let (folder, store) = new_store();
    let nar = sample_tree().to_nar().unwrap();
    let path = StorePath::from_parts(&[3; 20], "copied").unwrap();
    let good = PathInfo::new(path.clone(), Hash::sha256(&nar), nar.len() as u64);
    let mut wrong = good.clone();
    wrong.nar_hash = Hash::sha256(b"");
    assert!(matches!(store.add_nar(&mut nar.as_slice(), &wrong), Err(Error::HashMismatch { .. })));
    assert!(matches!(store.add_nar(&mut &nar[..100], &good), Err(Error::BadNar { .. })));
    assert!(!store.real_path(&path).exists());
    // Something unregistered in the way, as after a crash.
    std::fs::create_dir_all(store.real_path(&path).join("junk")).unwrap();
    assert!(store.add_nar(&mut nar.as_slice(), &good).unwrap());
    assert!(!store.add_nar(&mut std::io::empty(), &good).unwrap());
    assert!(!store.real_path(&path).join("junk").exists());
    store.add_signatures(&path, &["key:abc".into(), "a:b".into(), "a:b".into()]).unwrap();
    assert_eq!(store.path_info(&path).unwrap().unwrap().signatures, ["a:b", "key:abc"]);
    assert_clean(&store);
    assert!(scratch_is_empty(folder.path()));
    let names: Vec<_> = store.contents().entries().unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn registering_is_all_or_nothing() {
    let (_folder, store) = new_store();
    let one = StorePath::from_parts(&[1; 20], "one").unwrap();
    let two = StorePath::from_parts(&[2; 20], "two").unwrap();
    let mut first = PathInfo::new(one.clone(), Hash::sha256(b"1"), 1);
    let mut second = PathInfo::new(two.clone(), Hash::sha256(b"2"), 2);
    // They may refer to each other and themselves within a batch.
    first.references = [two.clone(), one.clone()].into();
    second.references = [StorePath::from_parts(&[9; 20], "missing").unwrap()].into();
    assert!(store.register_valid_paths(&[first.clone(), second.clone()]).is_err());
    assert!(store.all_valid_paths().unwrap().is_empty());
    second.references = [two.clone()].into();
    second.deriver = Some(StorePath::from_parts(&[4; 20], "x.drv").unwrap());
    second.ultimate = true;
    second.registration_time_s = 12345;
    second.signatures = vec!["k:s".into()];
    store.register_valid_paths(&[first.clone(), second.clone()]).unwrap();
    assert_eq!(store.path_info(&two).unwrap().unwrap(), second);
    let found = store.path_info(&one).unwrap().unwrap();
    assert!(found.registration_time_s > 1_600_000_000);
    first.registration_time_s = found.registration_time_s;
    assert_eq!(found, first);
    first.nar_size = 77;
    store.register_valid_paths(&[first.clone()]).unwrap();
    assert_eq!(store.path_infos([&one, &two]).unwrap().len(), 2);
    assert_eq!(store.path_info(&one).unwrap().unwrap().nar_size, 77);
}

#[test]
fn realisations_stay_as_first_known() {
    let (_folder, store) = new_store();
    let one = store.add_text("one", b"1", &BTreeSet::new()).unwrap();
    let two = store.add_text("two", b"2", &BTreeSet::new()).unwrap();
    let derivation = derivation("x", &[], &[]);
    let hash = hash_modulo_masked(&derivation, &mut |_| unreachable!()).unwrap();
    let id = RealisationId { derivation_hash: *hash.hash(), output: "out".into() };
    assert_eq!(id.to_string().parse::<RealisationId>().unwrap(), id);
    assert!("sha256:00!out".parse::<RealisationId>().is_err());
    assert!(id.to_string().replace('!', "-").parse::<RealisationId>().is_err());
    assert_eq!(store.query_realisation(&id).unwrap(), None);
    let first = Realisation { id: id.clone(), path: one.clone(), signatures: vec!["k:s".into()] };
    let second = Realisation { path: two, ..first.clone() };
    assert_eq!(
        store.register_realisations(&[first.clone(), second.clone()]).unwrap(),
        [(id.clone(), one.clone())].into()
    );
    assert_eq!(store.register_realisations(&[second]).unwrap(), [(id.clone(), one)].into());
    assert_eq!(store.query_realisation(&id).unwrap(), Some(first.clone()));
    let missing = StorePath::from_parts(&[1; 20], "missing").unwrap();
    let other = RealisationId { output: "dev".into(), ..id };
    let error =
        store.register_realisations(&[Realisation { id: other.clone(), path: missing, signatures: vec![] }]);
    assert!(matches!(error, Err(Error::NotValid { .. })));
    // Collected outputs take their realisations with them.
    drop(store.gc(&GcOptions::default()).unwrap());
}

#[test]
fn builds_outputs_come_in_renamed() {
    for mode in [ImportMode::Copy, ImportMode::Move] {
        let (folder, store) = new_store();
        let drv = store.write_derivation(&derivation("x", &[], &[])).unwrap();
        let dep = store.add_text("dep", b"dep", &BTreeSet::new()).unwrap();
        let built_as = rednix_store::derivation::scratch_output_path(&drv, "out").unwrap();
        let source = folder.path().join("built");
        std::fs::create_dir_all(source.join("bin")).unwrap();
        std::fs::write(source.join("bin/run"), format!("I am {built_as}, I use {dep}")).unwrap();
        std::os::unix::fs::symlink(format!("{built_as}/bin/run"), source.join("link")).unwrap();
        let candidates = [built_as.clone(), dep.clone(), drv.clone()];
        let found = scan::scan_path(&source, &candidates).unwrap();
        assert_eq!(found.references, [built_as.clone(), dep.clone()].into());
        let (method, algorithm) = (ContentMethod::Recursive, HashAlgorithm::Sha256);
        let name = name_by_contents(&source, &built_as, "x", method, algorithm, &found.references).unwrap();
        assert!(name.self_reference);
        let mut rewrites = Rewrites::new();
        rewrites.insert(&built_as, &name.path);
        let lock = store.lock_path(&name.path).unwrap();
        let imported = store.import_tree(&source, &name.path, mode, &rewrites, None).unwrap();
        let mut info = PathInfo::new(name.path.clone(), imported.nar_hash, imported.nar_size);
        info.references = [name.path.clone(), dep.clone()].into();
        info.content_address = Some(name.content_address.clone());
        info.deriver = Some(drv.clone());
        store.register_valid_paths(&[info]).unwrap();
        drop(lock);
        let place = store.real_path(&name.path);
        let link = std::fs::read_link(place.join("link")).unwrap();
        assert_eq!(link, Path::new(&format!("{}/bin/run", name.path)));
        let text = std::fs::read_to_string(place.join("bin/run")).unwrap();
        assert_eq!(text, format!("I am {}, I use {dep}", name.path));
        // Named from its own contents, it is the same again.
        let references = [name.path.clone(), dep.clone()].into();
        let again = name_by_contents(&place, &name.path, "x", method, algorithm, &references).unwrap();
        assert_eq!(again, name);
        assert_clean(&store);
        assert!(scratch_is_empty(folder.path()));
    }
}

#[test]
fn contents_have_one_shape() {
    for mode in [ImportMode::Copy, ImportMode::Move] {
        let (folder, store) = new_store();
        let source = folder.path().join("built");
        std::fs::create_dir_all(source.join("deep/er")).unwrap();
        std::fs::write(source.join("deep/er/setuid"), "x").unwrap();
        std::fs::write(source.join("plain"), "x").unwrap();
        std::fs::write(folder.path().join("outside"), "linked").unwrap();
        std::fs::hard_link(folder.path().join("outside"), source.join("linked")).unwrap();
        let chmod = |name: &str, mode| {
            std::fs::set_permissions(source.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let attribute = std::fs::File::open(source.join("plain")).unwrap();
        let attributes = rednix_store::canonical::set_test_attribute(&attribute).is_ok();
        chmod("deep/er/setuid", 0o4711);
        chmod("plain", 0o606);
        chmod("deep/er", 0o3777);
        if mode == ImportMode::Move {
            chmod("deep", 0o300);
        }
        let (hash, size) = match mode {
            ImportMode::Copy => nar::hash_path(&source, HashAlgorithm::Sha256).unwrap(),
            // Unreadable before it is canonical.
            ImportMode::Move => (Hash::sha256(b""), 0),
        };
        let path = StorePath::from_parts(&[5; 20], "shape").unwrap();
        let lock = store.lock_path(&path).unwrap();
        let imported = store.import_tree(&source, &path, mode, &Rewrites::new(), None).unwrap();
        if mode == ImportMode::Copy {
            assert_eq!((imported.nar_hash, imported.nar_size), (hash, size));
        }
        assert_eq!(source.exists(), mode == ImportMode::Copy);
        let place = store.real_path(&path);
        for (name, mode) in [
            ("", 0o555),
            ("deep", 0o555),
            ("deep/er", 0o555),
            ("deep/er/setuid", 0o555),
            ("plain", 0o444),
            ("linked", 0o444),
        ] {
            let metadata = std::fs::symlink_metadata(place.join(name)).unwrap();
            let found = (metadata.permissions().mode() & 0o7777, metadata.mtime());
            assert_eq!(found, (mode, 1), "{name}");
        }
        assert_eq!(std::fs::metadata(place.join("linked")).unwrap().nlink(), 1);
        if attributes {
            let plain = std::fs::File::open(place.join("plain")).unwrap();
            assert_eq!(rustix::fs::flistxattr(&plain, &mut [0u8; 0][..]).unwrap_or(0), 0);
        }
        drop(lock);
        store.register_valid_paths(&[PathInfo::new(path, imported.nar_hash, imported.nar_size)]).unwrap();
        assert_clean(&store);
    }
}

#[test]
fn verification_names_what_is_wrong() {
    let (_folder, store) = new_store();
    let gone = store.add_text("gone", b"1", &BTreeSet::new()).unwrap();
    let changed = store.add_text("changed", b"2", &BTreeSet::new()).unwrap();
    let odd = store.add_text("odd", b"3", &BTreeSet::new()).unwrap();
    let fine = store.add_text("fine", b"4", &BTreeSet::new()).unwrap();
    assert_clean(&store);
    for path in [&gone, &changed, &odd] {
        std::fs::remove_file(store.real_path(path)).unwrap();
    }
    std::fs::write(store.real_path(&changed), "other").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(store.real_path(&odd)).unwrap();
    let report = store.verify(VerifyOptions { check_contents: false, threads: 2 }).unwrap();
    assert_eq!(report.problems.len(), 2);
    let report = store.verify(VerifyOptions::default()).unwrap();
    assert_eq!((report.problems.len(), report.checked), (3, 4));
    let text = report.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for path in [&gone, &changed, &odd] {
        assert!(text.contains(path.basename()), "{text}");
    }
    assert!(!text.contains(fine.basename()));
}
