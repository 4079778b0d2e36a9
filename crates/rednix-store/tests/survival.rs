//! What a store outlives: a power cut, damage, a clock that jumps, folders that cannot be written to. The order of steps
//! behind it is tested in `simulation`, how it saves room in `space`.

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use common::*;
use rednix_store::error::Error;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::nar::{self, Tree};
use rednix_store::path::StorePath;
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

/// What was not flushed and is damaged is taken back with all that refers to it; the rest stays.
#[test]
fn a_power_cut_takes_back_only_what_it_damaged() {
    let (folder, store) = new_store();
    let old = store.add_text("old", b"old", &BTreeSet::new()).unwrap();
    store.flush().unwrap();
    let torn = store.add_text("torn", b"torn", &BTreeSet::new()).unwrap();
    let user = store.add_text("user", b"user", &[torn.clone()].into()).unwrap();
    let whole = store.add_source_tree("whole", &sample_tree()).unwrap().path;
    overwrite(&store, &torn, "", b"");
    let store = reopen(&folder, store);
    // The same start of the machine: nothing is looked at again.
    assert_eq!(store.all_valid_paths().unwrap().len(), 4);
    store.pretend_restart().unwrap();
    let store = reopen(&folder, store);
    assert_eq!(store.all_valid_paths().unwrap(), [old, whole].into());
    assert!(!store.is_valid(&user).unwrap());
    assert_clean(&store);
    // It can be made again, in the place of what is left of it.
    assert_eq!(store.add_text("torn", b"torn", &BTreeSet::new()).unwrap(), torn);
    assert_clean(&store);
}

#[test]
fn what_was_flushed_is_not_hashed_again() {
    let (folder, store) = new_store();
    let path = store.add_text("x", b"x", &BTreeSet::new()).unwrap();
    store.flush_if_needed().unwrap();
    overwrite(&store, &path, "", b"y");
    store.pretend_restart().unwrap();
    let store = reopen(&folder, store);
    assert!(store.is_valid(&path).unwrap());
    // `verify` is what finds such damage.
    assert_eq!(store.verify(VerifyOptions::default()).unwrap().problems.len(), 1);
    assert_eq!(store.repair().unwrap().taken_back.len(), 1);
    assert_clean(&store);
}

#[test]
fn damaged_paths_come_back_from_the_archive() {
    let (folder, store) = new_store();
    let path = store.add_source_tree("x", &sample_tree()).unwrap().path;
    let store = reopen(&folder, store);
    store.archive_unneeded(&GcOptions::default()).unwrap();
    store.restore_archived([&path]).unwrap();
    overwrite(&store, &path, "file", b"wrong");
    assert_eq!(store.repair().unwrap().restored, std::slice::from_ref(&path));
    assert_clean(&store);
    store.contents().remove_tree(path.basename()).unwrap();
    assert_eq!(store.repair().unwrap().restored, [path]);
    assert_clean(&store);
}

#[test]
fn a_new_database_from_what_contents_prove() {
    let (folder, store) = new_store();
    let text = store.add_text("text", b"text", &BTreeSet::new()).unwrap();
    let user = store.add_text("user", text.to_string().as_bytes(), &[text.clone()].into()).unwrap();
    let tree = store.add_source_tree("tree", &sample_tree()).unwrap().path;
    let drv = store
        .write_derivation(&derivation("x", &[("src", &tree.to_string())], std::slice::from_ref(&tree)))
        .unwrap();
    let flat = folder.path().join("flat");
    std::fs::write(&flat, "flat").unwrap();
    let source = Source {
        method: rednix_store::path::ContentMethod::Flat,
        algorithm: HashAlgorithm::Sha512,
        ..Source::tree("flat")
    };
    let flat = store.add_from_path(&flat, source).unwrap().path;
    // An input-addressed output proves nothing about itself, and neither does what was changed.
    let nar = sample_tree().to_nar().unwrap();
    let output = StorePath::from_parts(&[9; 20], "output").unwrap();
    store
        .add_nar(&mut nar.as_slice(), &PathInfo::new(output.clone(), Hash::sha256(&nar), nar.len() as u64))
        .unwrap();
    let changed = store.add_text("changed", b"before", &BTreeSet::new()).unwrap();
    overwrite(&store, &changed, "", b"after");
    let database = store.layout().database();
    let before = store.path_info(&drv).unwrap().unwrap();
    drop(store);
    for name in
        [database.clone(), database.with_extension("sqlite-wal"), database.with_extension("sqlite-shm")]
    {
        std::fs::write(&name, b"no database".repeat(1000)).unwrap();
    }
    let error = Store::open(folder.path(), OpenOptions::default()).unwrap_err();
    assert!(
        matches!(error, Error::DamagedDatabase { .. }) && error.to_string().contains("--repair"),
        "{error}"
    );
    let (store, rebuilt) = Store::rebuild_database(folder.path(), OpenOptions::default()).unwrap();
    assert_eq!(store.all_valid_paths().unwrap(), [text, user, tree, drv.clone(), flat].into());
    assert_eq!((rebuilt.salvaged, rebuilt.proven), (0, 5));
    assert_eq!(rebuilt.given_up.into_iter().collect::<BTreeSet<_>>(), [output, changed].into());
    let after = store.path_info(&drv).unwrap().unwrap();
    assert_eq!((after.references, after.content_address), (before.references, before.content_address));
    assert_eq!(store.derivation_outputs(&drv).unwrap().len(), 1);
    assert_clean(&store);
}

/// Rows that can still be read are believed where contents agree.
#[test]
fn old_rows_are_salvaged() {
    let (folder, store) = new_store();
    let nar = sample_tree().to_nar().unwrap();
    let output = StorePath::from_parts(&[9; 20], "output").unwrap();
    let mut info = PathInfo::new(output.clone(), Hash::sha256(&nar), nar.len() as u64);
    info.signatures = vec!["key:abc".into()];
    store.add_nar(&mut nar.as_slice(), &info).unwrap();
    drop(store);
    let (store, rebuilt) = Store::rebuild_database(folder.path(), OpenOptions::default()).unwrap();
    assert_eq!((rebuilt.salvaged, rebuilt.proven), (1, 0));
    assert_eq!(store.path_info(&output).unwrap().unwrap().signatures, ["key:abc"]);
}

/// Times are remarks: whatever the clock says, nothing needed goes and nothing is lost.
#[test]
fn a_clock_that_jumps() {
    let (folder, store) = new_store();
    let mut paths = Vec::new();
    for (index, time_s) in [1, 2_000_000_000, i64::MAX, -5].into_iter().enumerate() {
        let nar = Tree::file(format!("{index}")).to_nar().unwrap();
        let path = StorePath::from_parts(&[index as u8 + 1; 20], "x").unwrap();
        let mut info = PathInfo::new(path.clone(), Hash::sha256(&nar), nar.len() as u64);
        info.registration_time_s = time_s;
        store.add_nar(&mut nar.as_slice(), &info).unwrap();
        paths.push(path);
    }
    store.add_root("kept", &paths[0]).unwrap();
    let store = reopen(&folder, store);
    let before = GcOptions { registered_before_s: Some(1_000_000_000), ..GcOptions::default() };
    assert_eq!(store.gc(&before).unwrap().removed, [paths[3].clone()]);
    let all: u64 = 3 * 120;
    let small = GcOptions { store_bytes_max: Some(all), ..GcOptions::default() };
    assert_eq!(store.gc(&small).unwrap().removed.len(), 0);
    assert_eq!(
        store.gc(&GcOptions { store_bytes_max: Some(120), ..GcOptions::default() }).unwrap().removed,
        paths[1..3]
    );
    assert_clean(&store);
}

#[test]
fn folders_that_cannot_be_written_to() {
    let (folder, store) = new_store();
    let path = store.add_text("x", b"x", &BTreeSet::new()).unwrap();
    let store = reopen(&folder, store);
    if rustix::process::geteuid().is_root() {
        // Modes do not stop root, so what is tested is the store's own word.
        let read_only = Store::open(folder.path(), OpenOptions::read_only()).unwrap();
        assert!(matches!(read_only.gc(&GcOptions::default()), Err(Error::ReadOnly { .. })));
        assert!(matches!(read_only.optimise(), Err(Error::ReadOnly { .. })));
        assert!(matches!(read_only.repair(), Err(Error::ReadOnly { .. })));
        assert!(matches!(read_only.archive_unneeded(&GcOptions::default()), Err(Error::ReadOnly { .. })));
        assert!(read_only.is_valid(&path).unwrap());
        return;
    }
    let contents = store.layout().contents();
    std::fs::set_permissions(&contents, std::fs::Permissions::from_mode(0o555)).unwrap();
    let error = store.add_text("y", b"y", &BTreeSet::new()).unwrap_err();
    std::fs::set_permissions(&contents, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(error.to_string().contains(contents.to_str().unwrap()), "{error}");
    assert_clean(&store);
}

/// CVE-2026-44028 and its kin: what says that it is huge or deep is refused before room is made for it.
#[test]
fn cve_2026_44028_sizes_and_depths_that_are_only_claimed() {
    let string = |text: &[u8]| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let begin = [&b"nix-archive-1"[..], b"(", b"type"].map(string).concat();
    for length in [u64::MAX, u64::MAX - 7, 1 << 62, 1 << 40] {
        let mut nar = begin.clone();
        nar.extend(length.to_le_bytes());
        let folder = tempfile::tempdir().unwrap();
        assert!(
            nar::restore(&mut nar.as_slice(), folder.path().join("x")).is_err(),
            "a kind of {length} bytes"
        );
        let mut nar = [begin.clone(), string(b"regular"), string(b"contents")].concat();
        nar.extend(length.to_le_bytes());
        assert!(
            nar::restore(&mut nar.as_slice(), folder.path().join("y")).is_err(),
            "a file of {length} bytes"
        );
        assert!(Tree::read(&mut nar.as_slice(), 1 << 20).is_err());
    }
    let mut deep = string(b"nix-archive-1");
    for _ in 0..200_000 {
        deep.extend(
            [&b"("[..], b"type", b"directory", b"entry", b"(", b"name", b"a", b"node"].map(string).concat(),
        );
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(nar::restore(&mut deep.as_slice(), folder.path().join("x")).is_err());
}

/// Names that only mean something to other systems' file systems are names like others.
#[test]
fn names_in_several_cases_are_different_names() {
    let mut tree = Tree::directory();
    for name in ["a", "A", "a~nix~case~hack~1", "A~nix~case~hack~1", "..a", "a:b", "con"] {
        tree.insert(name, Tree::file(name)).unwrap();
    }
    let (_folder, store) = new_store();
    let path = store.add_source_tree("cases", &tree).unwrap().path;
    assert_eq!(store.contents().open_dir(path.basename()).unwrap().entries().unwrap().len(), 7);
    assert_clean(&store);
}

/// In one go, whatever refers to what. How long a hundred thousand take is measured by `benches/store/scale.py`.
#[test]
fn thousands_of_paths_are_collected() {
    const COUNT: usize = 2000;
    let (folder, store) = new_store();
    let mut below: Option<StorePath> = None;
    for batch in 0..COUNT / 1000 {
        let derivations: Vec<_> = (0..1000)
            .map(|index| {
                let sources: Vec<StorePath> = below.iter().cloned().collect();
                derivation(&format!("d{batch}-{index}"), &[("x", "y")], &sources)
            })
            .collect();
        below = Some(store.write_derivations(&derivations).unwrap().pop().unwrap());
    }
    let store = reopen(&folder, store);
    assert_eq!(store.gc(&GcOptions::default()).unwrap().removed.len(), COUNT);
    assert_clean(&store);
}
