//! A process killed at any moment leaves a store that verifies clean, and nothing that collection cannot remove.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::*;
use rednix_store::nar::Tree;
use rednix_store::store::*;

/// Tells the second run which store to work on.
const ROOT: &str = "REDNIX_TEST_CRASH_ROOT";

const ROUNDS: u64 = 20;

/// What the second run says when it begins, and when it has registered something.
const AT_WORK: &str = "at work";
const REGISTERED: &str = "registered";

/// Adds and collects until it is killed.
fn work(root: &std::ffi::OsStr) -> ! {
    println!("\n{AT_WORK}");
    for round in 0u64.. {
        let store = Store::open(root, OpenOptions::default()).unwrap();
        let seed = format!("{}-{round}", std::process::id());
        let text = store.add_text("text", seed.as_bytes(), &BTreeSet::new()).unwrap();
        let derivations: Vec<_> = (0..20)
            .map(|index| derivation(&format!("d{index}"), &[("seed", &seed)], std::slice::from_ref(&text)))
            .collect();
        store.write_derivations(&derivations).unwrap();
        println!("\n{REGISTERED}");
        let mut tree = sample_tree();
        tree.insert("seed", Tree::file(seed.repeat(20_000))).unwrap();
        store.add_source_tree("tree", &tree).unwrap();
        if round % 3 == 2 {
            drop(store);
            let store = Store::open(root, OpenOptions::default()).unwrap();
            store.gc(&GcOptions { keep_derivations: false, ..GcOptions::default() }).unwrap();
        }
    }
    unreachable!("it counts for ever")
}

#[test]
fn killed_at_any_moment() {
    if let Some(root) = std::env::var_os(ROOT) {
        work(&root);
    }
    let (folder, store) = new_store();
    drop(store);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_at_any_moment", "--nocapture"])
            .env(ROOT, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The moments are those of its work: starting takes as long as it takes. The last round has done something.
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let awaited = if round == ROUNDS - 1 { REGISTERED } else { AT_WORK };
        assert!(said.any(|line| line == awaited), "it ended before it was `{awaited}`");
        std::thread::sleep(Duration::from_millis(15 + round * 7));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(!status.success() && status.code().is_none(), "it ended by itself: {status}");
        let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
        assert_clean(&store);
    }
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    store.gc(&GcOptions::default()).unwrap();
    assert!(store.all_valid_paths().unwrap().is_empty());
    let left = store.contents().entries().unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert!(scratch_is_empty(folder.path()));
    assert_eq!(std::fs::read_dir(store.layout().temporary_roots()).unwrap().count(), 0);
}
