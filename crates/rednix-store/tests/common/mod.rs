//! What the store's tests share.
#![allow(dead_code)]

use std::io::Write;
use std::path::Path;

use rednix_store::derivation::{Derivation, Output};
use rednix_store::nar::Tree;
use rednix_store::path::StorePath;
use rednix_store::store::{OpenOptions, Store, VerifyOptions};

pub fn new_store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    (folder, store)
}

pub fn sample_tree() -> Tree {
    let mut tree = Tree::directory();
    for (path, node) in [
        ("file", Tree::file("some text\n")),
        ("run", Tree::executable("#!/bin/sh\n")),
        ("dir/link", Tree::symlink("../file")),
        ("dir/empty", Tree::directory()),
        ("link", Tree::symlink("nowhere")),
    ] {
        tree.insert(path, node).unwrap();
    }
    tree
}

/// An input-addressed derivation without input derivations.
pub fn derivation(name: &str, environment: &[(&str, &str)], sources: &[StorePath]) -> Derivation {
    let mut derivation = Derivation::new(name, "x86_64-linux", "/bin/sh");
    derivation.outputs.insert("out".into(), Output::Deferred);
    derivation.input_sources.extend(sources.iter().cloned());
    for (key, value) in environment {
        derivation.environment.insert((*key).into(), (*value).into());
    }
    derivation.fill_output_paths(&mut |_| unreachable!("it has no input derivations")).unwrap();
    derivation
}

pub fn assert_clean(store: &Store) {
    let report = store.verify(VerifyOptions::default()).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
}

pub fn scratch_is_empty(root: &Path) -> bool {
    std::fs::read_dir(root.join("nix/var/rednix/tmp")).unwrap().next().is_none()
}

/// Says that a test did not run, past the test harness, which keeps what passing tests print to itself.
pub fn skipped(reason: &str) {
    std::io::stderr().write_all(format!("skipped: {reason}\n").as_bytes()).unwrap();
}
