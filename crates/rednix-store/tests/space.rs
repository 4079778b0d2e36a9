//! How a store grows slowly: equal files linked, now and then or as they come; and the archive, where versions of one
//! thing share chunks and what is alike in them. How small real things become is measured by `benches/store`.

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use common::*;
use rednix_store::hash::Hash;
use rednix_store::nar::Tree;
use rednix_store::path::StorePath;
use rednix_store::rewrite::Rewrites;
use rednix_store::store::*;

fn reopen(folder: &tempfile::TempDir, store: Store) -> Store {
    drop(store);
    Store::open(folder.path(), OpenOptions::default()).unwrap()
}

fn overwrite(store: &Store, path: &StorePath, inside: &str, bytes: &[u8]) {
    let real = store.real_path(path);
    let real = if inside.is_empty() { real } else { real.join(inside) };
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&real, bytes).unwrap();
}

#[test]
fn equal_files_are_stored_once() {
    let (folder, store) = new_store();
    let mut tree = Tree::directory();
    for (path, node) in [
        ("a/one", Tree::file("same".repeat(3000))),
        ("a/b/two", Tree::file("same".repeat(3000))),
        ("run", Tree::executable("same".repeat(3000))),
        ("other", Tree::file("other".repeat(3000))),
        ("empty", Tree::file("")),
    ] {
        tree.insert(path, node).unwrap();
    }
    let first = store.add_source_tree("first", &tree).unwrap().path;
    tree.insert("more", Tree::file("more".repeat(3000))).unwrap();
    let second = store.add_source_tree("second", &tree).unwrap().path;
    let inode = |path: &StorePath, inside: &str| {
        std::fs::symlink_metadata(store.real_path(path).join(inside)).unwrap().ino()
    };
    let report = store.optimise().unwrap();
    assert_eq!((report.files, report.linked), (9, 5));
    assert!(report.freed_bytes >= 5 * 12_000, "{report:?}");
    assert_eq!(inode(&first, "a/one"), inode(&second, "a/b/two"));
    assert_eq!(inode(&first, "run"), inode(&second, "run"));
    assert_ne!(inode(&first, "a/one"), inode(&first, "run"));
    for folder in ["", "a", "a/b"] {
        let metadata = std::fs::symlink_metadata(store.real_path(&first).join(folder)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o555, 1), "{folder}");
    }
    assert_clean(&store);
    assert_eq!(store.optimise().unwrap(), OptimiseReport::default());
    // A damaged older file is not handed on.
    overwrite(&store, &first, "other", &b"wrong".repeat(3000));
    let third = store.add_source_tree("third", &tree).unwrap().path;
    store.optimise().unwrap();
    assert_eq!(
        std::fs::read(store.real_path(&third).join("other")).unwrap(),
        "other".repeat(3000).as_bytes()
    );
    let store = reopen(&folder, store);
    store.gc(&GcOptions::default()).unwrap();
    assert_eq!(store.contents().open_dir(".links").unwrap().entries().unwrap().len(), 0);
}

fn linking_store(folder: &Path) -> Store {
    Store::open(folder, OpenOptions { link_equal_files: true, ..OpenOptions::default() }).unwrap()
}

/// With the switch on, equal files are one from the moment a path is valid, whichever way it came.
#[test]
fn equal_files_are_linked_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let store = linking_store(folder.path());
    let mut tree = Tree::directory();
    tree.insert("a/one", Tree::file("same".repeat(3000))).unwrap();
    tree.insert("b/two", Tree::file("same".repeat(3000))).unwrap();
    let added = store.add_source_tree("added", &tree).unwrap().path;
    let (nar, mut paths) = (tree.to_nar().unwrap(), vec![added.clone()]);
    for (number, mode) in [(1, ImportMode::Copy), (2, ImportMode::Move)] {
        let scratch = store.scratch_dir("test").unwrap();
        rednix_store::nar::restore_into(&mut nar.as_slice(), scratch.dir(), b"made").unwrap();
        let path = StorePath::from_parts(&[number; 20], "imported").unwrap();
        let known = Some((Hash::sha256(&nar), nar.len() as u64));
        store.import_tree(&scratch.path().join("made"), &path, mode, &Rewrites::new(), known).unwrap();
        store
            .register_valid_paths(&[PathInfo::new(path.clone(), Hash::sha256(&nar), nar.len() as u64)])
            .unwrap();
        paths.push(path);
    }
    let status = |path: &StorePath, inside: &str| {
        std::fs::symlink_metadata(store.real_path(path).join(inside)).unwrap()
    };
    for path in &paths {
        for inside in ["a/one", "b/two"] {
            assert_eq!(status(path, inside).ino(), status(&added, "a/one").ino(), "{path} {inside}");
        }
        for inside in ["", "a", "b"] {
            let status = status(path, inside);
            assert_eq!((status.mode() & 0o7777, status.mtime()), (0o555, 1), "{path} {inside}");
        }
    }
    // One name in each place, and one in `.links`.
    assert_eq!(status(&added, "a/one").nlink(), 7);
    assert_eq!(store.optimise().unwrap().linked, 0);
    assert_clean(&store);
    // A damaged older file is not handed on.
    overwrite(&store, &added, "a/one", &b"wrong".repeat(2400));
    tree.insert("c", Tree::file("more")).unwrap();
    let later = store.add_source_tree("later", &tree).unwrap().path;
    assert_eq!(std::fs::read(store.real_path(&later).join("a/one")).unwrap(), "same".repeat(3000).as_bytes());
    assert_eq!(status(&later, "a/one").ino(), status(&later, "b/two").ino());
    drop(store);
    let store = linking_store(folder.path());
    store.gc(&GcOptions::default()).unwrap();
    assert_eq!(store.contents().open_dir(".links").unwrap().entries().unwrap().len(), 0);
}

/// Several that add, link and collect at once: nobody fails, and everything is as it was.
#[test]
fn linking_beside_collections() {
    let folder = tempfile::tempdir().unwrap();
    drop(linking_store(folder.path()));
    std::thread::scope(|scope| {
        for thread in 0..3u8 {
            let folder = folder.path();
            scope.spawn(move || {
                for round in 0..20u8 {
                    let store = linking_store(folder);
                    let mut tree = Tree::directory();
                    for file in 0..4u8 {
                        let text = format!("text {}", (file + round) % 5).repeat(2000);
                        tree.insert(&file.to_string(), Tree::file(text)).unwrap();
                    }
                    tree.insert("own", Tree::file(format!("{thread} {round}"))).unwrap();
                    let path = store.add_source_tree("x", &tree).unwrap().path;
                    store.optimise_paths(&[path.clone()].into()).unwrap();
                    let (hash, _) = tree.hash(rednix_store::hash::HashAlgorithm::Sha256).unwrap();
                    assert_eq!(store.path_info(&path).unwrap().unwrap().nar_hash, hash);
                    drop(store);
                    let store = linking_store(folder);
                    store.gc(&GcOptions::default()).unwrap();
                }
            });
        }
    });
    let store = linking_store(folder.path());
    assert_clean(&store);
    store.gc(&GcOptions::default()).unwrap();
    assert!(store.all_valid_paths().unwrap().is_empty());
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn archived_paths_come_back_as_they_were() {
    let (folder, store) = new_store();
    let text = store.add_text("text", b"text", &BTreeSet::new()).unwrap();
    let mut versions = Vec::new();
    for version in 0..6u64 {
        let mut large = noise(1, 3 << 20);
        let at = 200_000 + version as usize * 100_000;
        large.splice(at..at, noise(version + 2, 500));
        let mut tree = sample_tree();
        tree.insert("large", Tree::file(large)).unwrap();
        let nar = tree.to_nar().unwrap();
        let path = StorePath::from_parts(&[version as u8 + 1; 20], "version").unwrap();
        let mut info = PathInfo::new(path.clone(), Hash::sha256(&nar), nar.len() as u64);
        info.references = [text.clone()].into();
        info.signatures = vec!["key:abc".into()];
        store.add_nar(&mut nar.as_slice(), &info).unwrap();
        let id = RealisationId { derivation_hash: Hash::sha256(&[version as u8]), output: "out".into() };
        store.register_realisations(&[Realisation { id, path: path.clone(), signatures: vec![] }]).unwrap();
        versions.push(store.path_info(&path).unwrap().unwrap());
    }
    let store = reopen(&folder, store);
    assert_eq!(
        store.archive_unneeded(&GcOptions { dry_run: true, ..GcOptions::default() }).unwrap().paths.len(),
        7
    );
    let report = store.archive_unneeded(&GcOptions::default()).unwrap();
    assert_eq!(report.paths.len(), 7);
    assert!(report.nar_bytes > 18 << 20 && report.stored_bytes < 5 << 20, "{report:?}");
    assert!(store.all_valid_paths().unwrap().is_empty() && store.contents().entries().unwrap().is_empty());
    let last = &versions[5];
    assert!(store.check_archived(&last.path).unwrap());
    let id = RealisationId { derivation_hash: Hash::sha256(&[5]), output: "out".into() };
    assert_eq!(store.archived_realisation(&id).unwrap().as_ref(), Some(&last.path));
    // What it refers to comes first.
    assert_eq!(store.restore_archived([&last.path]).unwrap(), [text.clone(), last.path.clone()]);
    let mut back = store.path_info(&last.path).unwrap().unwrap();
    back.registration_time_s = last.registration_time_s;
    assert_eq!(&back, last);
    assert_eq!(store.query_realisation(&id).unwrap().unwrap().path, last.path);
    assert_eq!(store.restore_archived([&last.path]).unwrap(), []);
    assert_clean(&store);
    // Archived once more it takes no room; forgotten, all of it is given back.
    let store = reopen(&folder, store);
    assert!(store.archive_unneeded(&GcOptions::default()).unwrap().stored_bytes < 64 << 10);
    assert_eq!(store.forget_archived(versions.iter().map(|info| &info.path)).unwrap(), 6);
    assert!(store.restore_archived([&last.path]).unwrap().is_empty());
    assert_eq!(store.restore_archived([&text]).unwrap(), std::slice::from_ref(&text));
    // Its chunk shares a block with others; with the last of them the block goes.
    assert_eq!(store.forget_archived([&text]).unwrap(), 1);
    assert!(store.archive_sizes().unwrap().stored_bytes < 256 << 10, "{:?}", store.archive_sizes());
}

#[test]
fn a_damaged_archive_restores_nothing_wrong() {
    let (folder, store) = new_store();
    let mut tree = Tree::directory();
    tree.insert("noise", Tree::file(noise(1, 100_000))).unwrap();
    let path = store.add_source_tree("x", &tree).unwrap().path;
    let store = reopen(&folder, store);
    store.archive_unneeded(&GcOptions::default()).unwrap();
    let store = reopen(&folder, store);
    let file = folder.path().join("nix/var/rednix/archive.sqlite");
    for name in [file.clone(), file.with_extension("sqlite-wal")] {
        let Ok(mut bytes) = std::fs::read(&name) else { continue };
        // In the middle of the data, not in the tables' own pages.
        let len = bytes.len();
        if len > 60_000 {
            bytes[len / 2..len / 2 + 2000].fill(7);
            std::fs::write(&name, bytes).unwrap();
        }
    }
    assert!(!store.restore_archived([&path]).is_ok_and(|restored| restored.contains(&path)));
    assert!(!store.is_valid(&path).unwrap());
    assert_eq!(store.verify(VerifyOptions::default()).unwrap().problems, [Problem::Archived(path)]);
}

/// A copy in the archive that cannot be read is no reason to delete the one in the store; archiving heals it, and
/// every other path made of the same chunks.
#[test]
fn archiving_again_heals_what_is_damaged_there() {
    let (folder, store) = new_store();
    let mut tree = Tree::directory();
    tree.insert("noise", Tree::file(noise(1, 300_000))).unwrap();
    let path = store.add_source_tree("x", &tree).unwrap().path;
    tree.insert("more", Tree::file("more")).unwrap();
    let other = store.add_source_tree("y", &tree).unwrap().path;
    let store = reopen(&folder, store);
    store.archive_unneeded(&GcOptions::default()).unwrap();
    drop(store);
    let file = folder.path().join("nix/var/rednix/archive.sqlite");
    let archive = rusqlite::Connection::open(&file).unwrap();
    archive.execute("UPDATE blocks SET data = zeroblob(length(data))", []).unwrap();
    drop(archive);

    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    let problems = store.verify(VerifyOptions::default()).unwrap().problems;
    let mut both = [path.clone(), other.clone()];
    both.sort();
    assert_eq!(problems, both.map(Problem::Archived));
    assert!(matches!(store.restore_archived([&path]), Err(rednix_store::Error::DamagedArchive { .. })));
    store.restore_readable([&path]).unwrap();
    assert!(!store.is_valid(&path).unwrap());

    let mut tree = Tree::directory();
    tree.insert("noise", Tree::file(noise(1, 300_000))).unwrap();
    assert_eq!(store.add_source_tree("x", &tree).unwrap().path, path);
    let store = reopen(&folder, store);
    assert!(store.archive_unneeded(&GcOptions::default()).unwrap().paths.contains(&path));
    assert!(store.check_archived(&path).unwrap());
    assert_eq!(store.restore_archived([&path]).unwrap(), std::slice::from_ref(&path));

    // What is still damaged goes with the repair; what is readable stays.
    let repaired = store.repair().unwrap();
    assert_eq!(repaired.forgotten, [other]);
    assert!(store.check_archived(&path).unwrap());
    assert!(store.verify(VerifyOptions::default()).unwrap().is_clean());
}

/// Something like a program: the same instructions with other addresses in each version.
fn program(version: u64, len: usize) -> Vec<u8> {
    let mut bytes = noise(7, len);
    for (place, address) in bytes.chunks_exact_mut(64).enumerate() {
        address[..4].copy_from_slice(&((place as u64 * 37 + version * 4096) as u32).to_le_bytes());
    }
    bytes
}

fn add_program(store: &Store, version: u64, len: usize) -> StorePath {
    let mut tree = Tree::directory();
    tree.insert("bin/program", Tree::executable(program(version, len))).unwrap();
    tree.insert("version", Tree::file(version.to_string())).unwrap();
    let nar = tree.to_nar().unwrap();
    let seed = Hash::sha256(&version.to_le_bytes());
    let name = format!("program-0.{version}");
    let path = StorePath::from_parts(seed.digest()[..20].try_into().unwrap(), &name).unwrap();
    let info = PathInfo::new(path.clone(), Hash::sha256(&nar), nar.len() as u64);
    store.add_nar(&mut nar.as_slice(), &info).unwrap();
    path
}

/// No chunk of them is the same, and still each further one takes little; however long the row of versions is, and
/// whichever of them are deleted.
#[test]
fn versions_are_stored_by_what_differs() {
    const VERSIONS: u64 = 40;
    let (folder, mut store) = new_store();
    let mut paths = Vec::new();
    let mut first_bytes = 0;
    for version in 0..VERSIONS {
        paths.push(add_program(&store, version, 300_000));
        store = reopen(&folder, store);
        let report = store.archive_unneeded(&GcOptions::default()).unwrap();
        if version == 0 {
            first_bytes = report.stored_bytes;
        }
    }
    let sizes = store.archive_sizes().unwrap();
    assert_eq!(sizes.paths, VERSIONS);
    assert!(first_bytes > 280_000 && sizes.stored_bytes < first_bytes * 9, "{first_bytes} {sizes:?}");
    for path in &paths {
        assert!(store.check_archived(path).unwrap(), "{path}");
    }
    let (gone, left): (Vec<_>, Vec<_>) = paths.iter().enumerate().partition(|(number, _)| number % 3 != 0);
    assert_eq!(store.forget_archived(gone.iter().map(|(_, path)| *path)).unwrap(), gone.len() as u64);
    for (number, path) in &left {
        assert_eq!(store.restore_archived([*path]).unwrap(), [(*path).clone()]);
        let bytes = std::fs::read(store.real_path(path).join("bin/program")).unwrap();
        assert!(bytes == program(*number as u64, 300_000), "{path}");
    }
    assert_clean(&store);
    store.forget_archived(&paths).unwrap();
    assert_eq!((store.archive_sizes().unwrap().chunks, store.archive_sizes().unwrap().paths), (0, 0));
    assert!(store.archive_sizes().unwrap().stored_bytes < 100_000);
}

/// Many versions at once, where one is compressed against another of the same run.
#[test]
fn versions_archived_together() {
    let (folder, store) = new_store();
    let paths: Vec<StorePath> = (0..8).map(|version| add_program(&store, version, 1 << 20)).collect();
    let store = reopen(&folder, store);
    let report = store.archive_unneeded(&GcOptions::default()).unwrap();
    assert!(report.stored_bytes < report.nar_bytes / 3, "{report:?}");
    for path in &paths {
        assert!(store.check_archived(path).unwrap(), "{path}");
    }
}

/// An archive of the first version is brought up to date when it is opened for writing, and not before.
#[test]
fn older_archives_are_brought_up_to_date() {
    let (folder, store) = new_store();
    let path = add_program(&store, 0, 100_000);
    let store = reopen(&folder, store);
    store.archive_unneeded(&GcOptions::default()).unwrap();
    drop(store);
    let file = folder.path().join("nix/var/rednix/archive.sqlite");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection
        .execute_batch(
            "DROP INDEX pathsOfKind; ALTER TABLE paths DROP COLUMN kind; ALTER TABLE paths DROP COLUMN number; \
             ALTER TABLE blocks DROP COLUMN base; ALTER TABLE blocks DROP COLUMN baseFrom; \
             ALTER TABLE blocks DROP COLUMN baseBytes; ALTER TABLE blocks DROP COLUMN depth; PRAGMA user_version = 1",
        )
        .unwrap();
    drop(connection);
    let read_only = Store::open(folder.path(), OpenOptions::read_only()).unwrap();
    let error = read_only.archived(&path).unwrap_err().to_string();
    assert!(error.contains("archive version 1") && error.contains("rednix store archive --list"), "{error}");
    drop(read_only);
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    let other = add_program(&store, 1, 100_000);
    assert_eq!(store.restore_archived([&path]).unwrap(), std::slice::from_ref(&path));
    let store = reopen(&folder, store);
    assert_eq!(store.archive_unneeded(&GcOptions::default()).unwrap().paths.len(), 2);
    assert!(store.check_archived(&path).unwrap() && store.check_archived(&other).unwrap());
}
