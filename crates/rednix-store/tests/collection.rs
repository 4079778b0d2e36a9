//! Roots, locks and collection, also by several users at once.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use rednix_events::{Event, Recorder};
use rednix_store::error::Error;
use rednix_store::hash::Hash;
use rednix_store::nar::{self, Tree};
use rednix_store::path::StorePath;
use rednix_store::store::*;

#[test]
fn roots_keep_closures() {
    let (folder, store) = new_store();
    let texts = |store: &Store| {
        let one = store.add_text("one", b"1", &BTreeSet::new()).unwrap();
        let two = store.add_text("two", b"2", &[one.clone()].into()).unwrap();
        let three = store.add_text("three", b"3", &[two.clone()].into()).unwrap();
        (one, two, three)
    };
    let (one, two, three) = texts(&store);
    // This process's own temporary roots keep everything.
    assert_eq!(store.gc(&GcOptions::default()).unwrap().removed, []);
    drop(store);
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    store.add_root("some/name", &two).unwrap();
    let link = folder.path().join("result");
    store.add_indirect_root(&link, &one).unwrap();
    assert_eq!(std::fs::read(&link).unwrap(), b"1");
    drop(store);
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    let kinds: Vec<_> = store.roots().unwrap().into_iter().map(|root| (root.path, root.kind)).collect();
    let mut expected = vec![(two.clone(), RootKind::Permanent), (one.clone(), RootKind::Indirect)];
    expected.sort();
    assert_eq!(kinds, expected);
    let dry = GcOptions { dry_run: true, ..GcOptions::default() };
    let report = store.gc(&dry).unwrap();
    assert_eq!(report.removed, std::slice::from_ref(&three));
    assert!(report.bytes > 0);
    assert!(store.is_valid(&three).unwrap());
    assert_eq!(store.gc(&GcOptions::default()).unwrap().removed, std::slice::from_ref(&three));
    assert!(!store.real_path(&three).exists());
    assert!(store.remove_root("some/name").unwrap());
    assert!(!store.remove_root("some/name").unwrap());
    assert_eq!(store.gc(&GcOptions::default()).unwrap().removed, [two]);
    let extra = GcOptions { extra_roots: [one.clone()].into(), ..GcOptions::default() };
    std::fs::remove_file(&link).unwrap();
    assert_eq!(store.gc(&extra).unwrap().removed, []);
    let report = store.gc(&GcOptions::default()).unwrap();
    assert_eq!((report.removed, report.kept), (vec![one], 0));
    assert_eq!(std::fs::read_dir(store.layout().indirect_roots()).unwrap().count(), 0);
    assert_clean(&store);
}

#[test]
fn users_files_do_not_become_roots() {
    let (folder, store) = new_store();
    let one = store.add_text("one", b"1", &BTreeSet::new()).unwrap();
    let two = store.add_text("two", b"2", &BTreeSet::new()).unwrap();
    let precious = folder.path().join("precious");
    std::fs::write(&precious, "x").unwrap();
    assert!(matches!(store.add_indirect_root(&precious, &one), Err(Error::BadRoot { .. })));
    let elsewhere = folder.path().join("elsewhere");
    std::os::unix::fs::symlink("/etc/passwd", &elsewhere).unwrap();
    assert!(matches!(store.add_indirect_root(&elsewhere, &one), Err(Error::BadRoot { .. })));
    for name in ["../x", "/x", "", "a/../../b"] {
        assert!(matches!(store.add_root(name, &one), Err(Error::BadRoot { .. })), "{name}");
    }
    let link = folder.path().join("result");
    store.add_indirect_root(&link, &one).unwrap();
    store.add_indirect_root(&link, &two).unwrap();
    assert_eq!(std::fs::read(&link).unwrap(), b"2");
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "x");
}

#[test]
fn derivations_and_outputs_are_kept_as_asked() {
    let (folder, store) = new_store();
    let drv_value = derivation("x", &[], &[]);
    let drv = store.write_derivation(&drv_value).unwrap();
    let out = drv_value.output_path("out").unwrap().clone();
    let nar = Tree::file("built").to_nar().unwrap();
    let info = PathInfo::new(out.clone(), Hash::sha256(&nar), nar.len() as u64);
    store.add_nar(&mut nar.as_slice(), &info).unwrap();
    // A floating output knows its derivation only by itself.
    let floating = StorePath::from_parts(&[8; 20], "floating").unwrap();
    let floating_drv = store.write_derivation(&derivation("f", &[], &[])).unwrap();
    let mut info = PathInfo::new(floating.clone(), Hash::sha256(&nar), nar.len() as u64);
    info.deriver = Some(floating_drv.clone());
    store.add_nar(&mut nar.as_slice(), &info).unwrap();
    drop(store);
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    let removed = |roots: &[&StorePath], keep_derivations, keep_outputs| {
        let extra_roots = roots.iter().map(|path| (*path).clone()).collect();
        let options =
            GcOptions { keep_derivations, keep_outputs, extra_roots, dry_run: true, ..GcOptions::default() };
        store.gc(&options).unwrap().removed.into_iter().collect::<BTreeSet<_>>()
    };
    assert_eq!(removed(&[&out, &floating], true, false), [].into());
    assert_eq!(removed(&[&out, &floating], false, false), [drv.clone(), floating_drv.clone()].into());
    assert_eq!(removed(&[&drv, &floating_drv], true, false), [out.clone(), floating.clone()].into());
    assert_eq!(removed(&[&drv, &floating_drv], true, true), [].into());
    assert_eq!(removed(&[], true, true).len(), 4);
}

#[test]
fn collecting_stops_when_enough_is_free() {
    let (folder, store) = new_store();
    for index in 0..600 {
        store.add_text("x", format!("{index}").as_bytes(), &BTreeSet::new()).unwrap();
    }
    drop(store);
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    let report = store.gc(&GcOptions { bytes_max: Some(1), ..GcOptions::default() }).unwrap();
    assert!(report.bytes >= 1 && report.removed.len() < 600, "{}", report.removed.len());
    assert_clean(&store);
    store.gc(&GcOptions::default()).unwrap();
    assert!(store.all_valid_paths().unwrap().is_empty());
    assert!(store.contents().entries().unwrap().is_empty());
}

#[test]
fn leftovers_go_and_work_in_progress_stays() {
    let (folder, store) = new_store();
    let contents = store.layout().contents();
    let path = |seed: u8| StorePath::from_parts(&[seed; 20], "thing").unwrap();
    for seed in 1..=3 {
        std::fs::create_dir_all(contents.join(path(seed).basename()).join("a")).unwrap();
    }
    std::fs::write(contents.join(format!("{}.lock", path(4).basename())), "").unwrap();
    std::fs::create_dir(contents.join("tmp-123-0")).unwrap();
    let abandoned = store.scratch_dir("abandoned").unwrap().keep();
    let working = store.scratch_dir("working").unwrap();
    // Another process: one path locked, one only promised, one forgotten.
    let other = Store::open(folder.path(), OpenOptions::default()).unwrap();
    let lock = other.lock_path(&path(1)).unwrap();
    other.add_temp_root(&path(2)).unwrap();
    let report = store.gc(&GcOptions::default()).unwrap();
    assert_eq!(report.leftovers, 4, "{report:?}");
    let names: BTreeSet<_> = store
        .contents()
        .entries()
        .unwrap()
        .into_iter()
        .map(|entry| entry.name.into_string().unwrap())
        .collect();
    let lock_name = format!("{}.lock", path(1).basename());
    let expected: BTreeSet<String> = [path(1).basename().into(), lock_name, path(2).basename().into()].into();
    assert_eq!(names, expected);
    assert!(working.path().exists() && !abandoned.exists());
    drop((lock, other));
    store.gc(&GcOptions::default()).unwrap();
    assert!(store.contents().entries().unwrap().is_empty());
}

#[test]
fn temporary_roots_end_with_their_process() {
    let (folder, store) = new_store();
    let path = store.add_text("x", b"x", &BTreeSet::new()).unwrap();
    let other = Store::open(folder.path(), OpenOptions::default()).unwrap();
    other.add_temp_root(&path).unwrap();
    drop(store);
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    assert_eq!(store.roots().unwrap()[0].kind, RootKind::Temporary);
    assert_eq!(store.gc(&GcOptions::default()).unwrap().removed, []);
    drop(other);
    // The list of a process that died without cleaning up.
    let stale = store.layout().temporary_roots().join("999999-x");
    std::fs::write(&stale, format!("{path}\0")).unwrap();
    assert_eq!(store.gc(&GcOptions::default()).unwrap().removed, [path]);
    assert!(!stale.exists());
}

#[test]
fn temporary_roots_that_are_released_keep_nothing() {
    let (folder, store) = new_store();
    let paths: Vec<_> =
        ["a", "b", "c"].map(|name| store.add_text(name, b"x", &BTreeSet::new()).unwrap()).into();
    let other = Store::open(folder.path(), OpenOptions::default()).unwrap();
    drop(store);
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    other.add_temp_roots(&paths).unwrap();
    // What was promised to nobody is nothing to release.
    let stranger = StorePath::from_parts(&[1; 20], "thing").unwrap();
    other.release_temp_roots([&paths[1], &stranger]).unwrap();
    assert_eq!(store.gc(&GcOptions::default()).unwrap().removed, [paths[1].clone()]);
    // One that is promised again is kept again.
    other.release_temp_roots(&paths).unwrap();
    assert_eq!(std::fs::read_dir(store.layout().temporary_roots()).unwrap().count(), 0);
    other.add_temp_root(&paths[2]).unwrap();
    assert_eq!(store.gc(&GcOptions::default()).unwrap().removed, [paths[0].clone()]);
    drop(other);
    assert_eq!(store.gc(&GcOptions::default()).unwrap().removed, [paths[2].clone()]);
}

#[test]
fn one_at_a_time_makes_a_path() {
    let (folder, store) = new_store();
    let path = StorePath::from_parts(&[1; 20], "thing").unwrap();
    let both: BTreeSet<_> = [path.clone(), StorePath::from_parts(&[2; 20], "thing").unwrap()].into();
    let other = Store::open(folder.path(), OpenOptions::default()).unwrap();
    let lock = store.lock_path(&path).unwrap();
    assert!(other.try_lock_paths(&both).unwrap().is_none());
    let mut asked = 0;
    let error = other
        .lock_paths(&both, &mut |waited| {
            asked += 1;
            waited < Duration::from_millis(50)
        })
        .unwrap_err();
    assert!(matches!(error, Error::LockTimeout { .. }) && asked >= 3, "{error} {asked}");
    let (begun, begins) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let (other, both) = (&other, &both);
        let waiting = scope.spawn(move || other.lock_paths(both, &mut |_| begun.send(()).is_ok()).unwrap());
        // It has looked twice, and waits.
        (0..2).for_each(|_| begins.recv().unwrap());
        assert!(!waiting.is_finished());
        drop(lock);
        drop(waiting.join().unwrap());
    });
    assert!(store.contents().entries().unwrap().is_empty());
}

#[test]
fn adding_waits_for_a_collection() {
    let (folder, store) = new_store();
    let guard = std::fs::File::open(store.layout().gc_lock())
        .or_else(|_| std::fs::File::create(store.layout().gc_lock()))
        .unwrap();
    rustix::fs::flock(&guard, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let recorder = Arc::new(Recorder::default());
    let options = OpenOptions::default().with_events(recorder.clone());
    let other = Store::open(folder.path(), options).unwrap();
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| other.add_text("x", b"x", &BTreeSet::new()).unwrap());
        // It tells of it before it waits.
        while recorder.events().is_empty() {
            assert!(!adding.is_finished(), "it does not wait");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!adding.is_finished());
        drop(guard);
        adding.join().unwrap();
    });
    let told = recorder.events();
    assert!(matches!(&told[..], [Event::Notice { message }] if message.contains("collection")), "{told:?}");
}

/// Several users add, read and collect at once; nothing promised disappears, and the store stays clean.
#[test]
fn many_at_once() {
    let (folder, store) = new_store();
    drop(store);
    let source = folder.path().join("source");
    nar::restore(&mut sample_tree().to_nar().unwrap().as_slice(), &source).unwrap();
    let rounds = 12;
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (folder, source) = (folder.path(), &source);
            scope.spawn(move || {
                for round in 0..rounds {
                    let store = Store::open(folder, OpenOptions::default()).unwrap();
                    let one = store
                        .add_text("text", format!("{}", round / 2).as_bytes(), &BTreeSet::new())
                        .unwrap();
                    let two = store.add_text("next", b"next", &[one.clone()].into()).unwrap();
                    let tree = store
                        .add_from_path(source, Source::tree(&format!("tree{}", round % 3)))
                        .unwrap()
                        .path;
                    for path in [&one, &two, &tree] {
                        assert!(store.is_valid(path).unwrap(), "worker {worker} round {round}: {path}");
                        assert!(store.real_path(path).exists(), "worker {worker} round {round}: {path}");
                    }
                }
            });
        }
        let folder = folder.path();
        scope.spawn(move || {
            let store = Store::open(folder, OpenOptions::default()).unwrap();
            for _ in 0..rounds {
                store.gc(&GcOptions::default()).unwrap();
            }
        });
    });
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    assert_clean(&store);
    store.gc(&GcOptions::default()).unwrap();
    assert!(store.contents().entries().unwrap().is_empty());
    assert!(scratch_is_empty(folder.path()));
}

#[test]
fn several_create_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep/root");
    let barrier = std::sync::Barrier::new(6);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                barrier.wait();
                let store = Store::open(&root, OpenOptions::default()).unwrap();
                store.add_text("same", b"same", &BTreeSet::new()).unwrap();
            });
        }
    });
    let store = Store::open(&root, OpenOptions::read_only()).unwrap();
    assert_eq!(store.all_valid_paths().unwrap().len(), 1);
    assert_clean(&store);
}
