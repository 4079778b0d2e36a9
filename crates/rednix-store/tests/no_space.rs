//! A full disk: one clear error, nothing half-done. The tests run themselves again in a user namespace, on a small
//! file system in memory; where namespaces are denied they say that they were skipped.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use rednix_store::error::Error;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::nar::{self, Tree};
use rednix_store::path::StorePath;
use rednix_store::rewrite::Rewrites;
use rednix_store::store::*;

/// Names the small file system's folder to the second run.
const FOLDER: &str = "REDNIX_TEST_SMALL_FOLDER";

/// Runs `test` of this file on a file system of `size_mib`; in the second run, gives its folder.
fn small_file_system(test: &str, size_mib: u32) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let inside = |script: String| {
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .env(FOLDER, folder.path())
            .env("PROGRAM", std::env::current_exe().unwrap())
            .output()
    };
    let mount = format!("mount -t tmpfs -o size={size_mib}m small \"${FOLDER}\"");
    match inside(mount.clone()) {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            skipped(&format!("no user namespace: {}", String::from_utf8_lossy(&output.stderr).trim()));
            return None;
        }
        Err(error) => {
            skipped(&format!("cannot run `unshare`: {error}"));
            return None;
        }
    }
    let output = inside(format!("{mount} && exec \"$PROGRAM\" --exact {test} --nocapture")).unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    None
}

/// Bytes that take their place on any file system.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn assert_no_space<T: std::fmt::Debug>(root: &Path, result: rednix_store::Result<T>) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("no space left") && message.contains(root.to_str().unwrap()), "{message}");
    assert!(message.contains("hint: "), "{message}");
    println!("{message}");
}

/// What is there is whole, nothing is left lying about, and work goes on.
fn assert_usable(store: &Store, round: &str) {
    assert_clean(store);
    assert!(scratch_is_empty(store.root()));
    let valid = store.all_valid_paths().unwrap();
    for entry in store.contents().entries().unwrap() {
        let name = entry.name.to_str().unwrap();
        assert!(
            StorePath::from_basename(name).is_ok_and(|path| valid.contains(&path)),
            "left behind: {name}"
        );
    }
    store.add_text("after", round.as_bytes(), &BTreeSet::new()).unwrap();
}

#[test]
fn contents_that_do_not_fit() {
    let Some(folder) = small_file_system("contents_that_do_not_fit", 6) else { return };
    let root = folder.join("root");
    let store = Store::open(&root, OpenOptions::default()).unwrap();
    store.add_text("small", b"small", &BTreeSet::new()).unwrap();
    let mut tree = Tree::directory();
    tree.insert("a/large", Tree::file(noise(8 << 20))).unwrap();
    assert_no_space(&root, store.add_source_tree("large", &tree));
    assert_usable(&store, "tree");

    // Too large to be held in memory, so that it goes through the pipe.
    let outside = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let larger = outside.path().join("larger");
    std::fs::write(&larger, noise(33 << 20)).unwrap();
    assert_no_space(&root, store.add_from_path(&larger, Source::tree("larger")));
    assert_usable(&store, "pipe");

    let nar = tree.to_nar().unwrap();
    let path = StorePath::from_parts(&[1; 20], "copied").unwrap();
    let info = PathInfo::new(path.clone(), Hash::sha256(&nar), nar.len() as u64);
    assert_no_space(&root, store.add_nar(&mut nar.as_slice(), &info));
    assert_usable(&store, "nar");

    let (hash, size) = nar::hash_path(&larger, HashAlgorithm::Sha256).unwrap();
    let lock = store.lock_path(&path).unwrap();
    let imported = store.import_tree(&larger, &path, ImportMode::Copy, &Rewrites::new(), Some((hash, size)));
    assert_no_space(&root, imported);
    drop(lock);
    assert_usable(&store, "import");

    let derivations: Vec<_> =
        (0..3000).map(|index| derivation(&format!("drv{index}"), &[("x", &"y".repeat(3000))], &[])).collect();
    assert_no_space(&root, store.write_derivations(&derivations));
    assert_clean(&store);
    // The texts placed before the error are not registered; the next attempt or a collection deals with them.
    drop(store);
    let store = Store::open(&root, OpenOptions::default()).unwrap();
    assert!(store.gc(&GcOptions::default()).unwrap().leftovers > 0);
    assert_usable(&store, "derivations");
}

#[test]
fn a_database_that_does_not_fit() {
    let Some(folder) = small_file_system("a_database_that_does_not_fit", 6) else { return };
    let root = folder.join("root");
    let filler = folder.join("filler");
    std::fs::write(&filler, noise(2 << 20)).unwrap();
    let store = Store::open(&root, OpenOptions::default()).unwrap();
    store.add_text("small", b"small", &BTreeSet::new()).unwrap();
    drop(store);
    let store = Store::open(&root, OpenOptions::default()).unwrap();
    let infos: Vec<PathInfo> = (0..60_000u32)
        .map(|index| {
            let mut part = [0; 20];
            part[..4].copy_from_slice(&index.to_le_bytes());
            PathInfo::new(StorePath::from_parts(&part, "many").unwrap(), Hash::sha256(&part), 1)
        })
        .collect();
    assert_no_space(&root, store.register_valid_paths(&infos));
    assert_eq!(store.all_valid_paths().unwrap().len(), 1);
    assert_clean(&store);
    // Collecting needs no room.
    assert_eq!(store.gc(&GcOptions::default()).unwrap().removed.len(), 1);
    std::fs::remove_file(&filler).unwrap();
    assert_usable(&store, "database");
    drop(store);
    let store = Store::open(&root, OpenOptions::default()).unwrap();
    assert_usable(&store, "reopened");
}

#[test]
fn a_store_that_does_not_fit() {
    let Some(folder) = small_file_system("a_store_that_does_not_fit", 1) else { return };
    let filler = folder.join("filler");
    std::fs::write(&filler, noise(1000 << 10)).unwrap();
    let root = folder.join("root");
    assert_no_space(&root, Store::open(&root, OpenOptions::default()));
    std::fs::remove_file(&filler).unwrap();
    let store = Store::open(&root, OpenOptions::default()).unwrap();
    assert_usable(&store, "opened");
}

/// A list of temporary roots that could not grow is as it was, and grows again where there is room.
#[test]
fn temporary_roots_that_do_not_fit() {
    let Some(folder) = small_file_system("temporary_roots_that_do_not_fit", 6) else { return };
    let root = folder.join("root");
    let store = Store::open(&root, OpenOptions::default()).unwrap();
    let [first, second] = ["a", "b"].map(|name| store.add_text(name, b"x", &BTreeSet::new()).unwrap());
    drop(store);
    let store = Store::open(&root, OpenOptions::default()).unwrap();
    store.add_temp_root(&first).unwrap();
    let filler = folder.join("filler");
    std::fs::write(&filler, noise(6 << 20)).unwrap_err();
    let many: Vec<_> = (0..20_000u32)
        .map(|number| {
            let digest = Hash::sha256(&number.to_le_bytes());
            StorePath::from_parts(digest.digest()[..20].try_into().unwrap(), "thing").unwrap()
        })
        .collect();
    assert_no_space(&root, store.add_temp_roots(&many));
    std::fs::remove_file(&filler).unwrap();
    store.add_temp_root(&second).unwrap();
    let other = Store::open(&root, OpenOptions::default()).unwrap();
    let kept: BTreeSet<_> = other.roots().unwrap().into_iter().map(|root| root.path).collect();
    assert_eq!(kept, BTreeSet::from([first, second]));
}

/// Contents on a file system of their own: nothing can be moved into them.
#[test]
fn a_store_in_two_parts() {
    let Some(folder) = small_file_system("a_store_in_two_parts", 6) else { return };
    let root = folder.join("root");
    let contents = root.join("nix/store");
    std::fs::create_dir_all(&contents).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "apart"]).arg(&contents).status().unwrap();
    assert!(mounted.success());
    let store = Store::open(&root, OpenOptions::default()).unwrap();
    let message = store.add_text("a", b"x", &BTreeSet::new()).unwrap_err().to_string();
    assert!(message.contains("another file system") && message.contains("hint: "), "{message}");
    assert!(scratch_is_empty(store.root()) && store.all_valid_paths().unwrap().is_empty());
}
