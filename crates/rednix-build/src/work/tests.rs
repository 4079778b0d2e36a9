use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;

struct Copy {
    folder: tempfile::TempDir,
    kept: tempfile::TempDir,
}

impl Copy {
    fn new() -> Copy {
        Copy { folder: tempfile::tempdir().unwrap(), kept: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn scan(&self) -> Scan {
        scan(self.folder.path(), self.kept.path()).unwrap()
    }

    fn sync(&self, fingerprint: &str) -> bool {
        let kept = Dir::open(self.kept.path()).unwrap();
        sync::bring_up_to_date(&kept, self.folder.path(), &self.scan(), fingerprint).unwrap()
    }

    fn source(&self, name: &str) -> PathBuf {
        self.kept.path().join("source").join(name)
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.source(name)).ok()
    }

    fn time(&self, name: &str) -> i128 {
        let metadata = fs::metadata(self.source(name)).unwrap();
        i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
    }
}

/// Makes a file look as if it had been written long ago.
fn settle(path: &Path, seconds_ago: u64) {
    let time = SystemTime::now() - Duration::from_secs(seconds_ago);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn only_what_changed_gets_a_new_time() {
    let copy = Copy::new();
    copy.write("a", "1");
    copy.write("d/b", "2");
    copy.write("d/gone", "3");
    symlink("a", copy.folder.path().join("l")).unwrap();
    assert!(copy.sync("tools"));
    let (a, b) = (copy.time("a"), copy.time("d/b"));
    assert_eq!(a, b, "at first all have one time: nothing is older than anything else");
    fs::write(copy.source("made"), "by the build").unwrap();
    std::thread::sleep(Duration::from_millis(5));

    copy.write("d/b", "new");
    // An older file in a newer one's place is a change too.
    settle(&copy.folder.path().join("d/b"), 1000);
    fs::remove_file(copy.folder.path().join("d/gone")).unwrap();
    assert!(!copy.sync("tools"));
    assert_eq!((copy.time("a"), copy.read("d/b").as_deref()), (a, Some("new")));
    assert!(copy.time("d/b") > b);
    assert_eq!(copy.read("d/gone"), None);
    assert_eq!(copy.read("made").as_deref(), Some("by the build"));
    assert_eq!(copy.read("l").as_deref(), Some("1"));
}

#[test]
fn touching_without_changing_is_no_change() {
    let copy = Copy::new();
    copy.write("a", "1");
    copy.sync("t");
    let (before, time) = (copy.scan().content, copy.time("a"));
    settle(&copy.folder.path().join("a"), 10);
    assert_eq!(copy.scan().content, before);
    copy.sync("t");
    assert_eq!(copy.time("a"), time);
}

#[test]
fn what_a_build_changed_stays_and_what_it_removed_is_put_back() {
    let copy = Copy::new();
    copy.write("a", "pristine");
    copy.write("d/b", "2");
    copy.sync("t");
    let time = copy.time("d/b");
    fs::write(copy.source("a"), "patched in place").unwrap();
    fs::remove_dir_all(copy.source("d")).unwrap();
    // A trap: followed, the next write would leave the folder.
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), copy.source("d")).unwrap();
    copy.sync("t");
    assert_eq!(copy.read("a").as_deref(), Some("patched in place"));
    assert_eq!((copy.read("d/b").as_deref(), copy.time("d/b")), (Some("2"), time));
    assert!(fs::symlink_metadata(copy.source("d")).unwrap().is_dir());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    // What the user changes goes before what a build made of it.
    copy.write("a", "edited");
    copy.sync("t");
    assert_eq!(copy.read("a").as_deref(), Some("edited"));
}

#[test]
fn other_tools_begin_with_nothing() {
    let copy = Copy::new();
    copy.write("a", "1");
    copy.sync("one");
    fs::write(copy.kept.path().join("build/object"), "").unwrap();
    assert!(!copy.sync("one"));
    assert!(copy.kept.path().join("build/object").exists());
    assert!(copy.sync("two"));
    assert!(!copy.kept.path().join("build/object").exists());
    // After a crash in the middle nothing is believed.
    fs::remove_file(copy.kept.path().join("state.json")).unwrap();
    assert!(copy.sync("two"));
}

#[test]
fn settled_files_are_read_once() {
    let copy = Copy::new();
    copy.write("a", "1");
    copy.write(".git/x", "no source");
    copy.write("target/CACHEDIR.TAG", "");
    copy.write("src/target/mod.rs", "a module may be called so");
    let names: Vec<String> = copy.scan().entries.keys().map(|path| path.display().to_string()).collect();
    assert_eq!(names, ["a", "src", "src/target", "src/target/mod.rs"]);
    // What was just written could change within the same tick of the clock; as if no time had passed since.
    let files = ["a", "src/target/mod.rs"].map(|name| copy.folder.path().join(name));
    let time_of = |time: SystemTime| {
        files
            .iter()
            .for_each(|file| fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap());
    };
    time_of(SystemTime::now() + Duration::from_secs(1000));
    assert_eq!(copy.scan().read, 2);
    assert_eq!(copy.scan().read, 2);
    time_of(SystemTime::now());
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!((copy.scan().read, copy.scan().read), (2, 0));
    copy.write("a", "2");
    assert_eq!(copy.scan().read, 1);
    fs::write(copy.kept.path().join("index.json"), "{\"formatVersion\":9}").unwrap();
    assert_eq!(copy.scan().read, 2);
}

#[test]
fn the_fingerprint_leaves_out_what_tools_notice() {
    let derivation = |variables: &[(&str, &str)]| {
        let mut derivation = Derivation::new("x", "s", "bash");
        for (name, value) in variables {
            derivation.environment.insert(name.as_bytes().to_vec(), value.as_bytes().to_vec());
        }
        fingerprint(&derivation)
    };
    let base = derivation(&[("rednixRoot", "r"), ("rednixWorkContent", "1"), ("cookbookSysroot", "s")]);
    assert_eq!(
        base,
        derivation(&[("rednixRoot", "r"), ("rednixWorkContent", "2"), ("cookbookSysroot", "t")])
    );
    assert_ne!(
        base,
        derivation(&[("rednixRoot", "q"), ("rednixWorkContent", "1"), ("cookbookSysroot", "s")])
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// After any edits the build's source holds what the copy holds, and what did not change kept its time.
    #[test]
    fn any_edits_arrive(rounds in prop::collection::vec(prop::collection::vec(("[ab](/[cd])?", prop::option::of("[xy]")), 0..5), 1..4)) {
        let copy = Copy::new();
        let mut times: BTreeMap<PathBuf, (Entry, i128)> = BTreeMap::new();
        for edits in rounds {
            for (name, text) in edits {
                let path = copy.folder.path().join(&name);
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
                if let Some(text) = text {
                    if let Some(parent) = path.parent().filter(|parent| parent.is_file()) {
                        fs::remove_file(parent).unwrap();
                    }
                    copy.write(&name, &text);
                }
            }
            copy.sync("t");
            let (wanted, got) = (copy.scan(), scan(&copy.source(""), Path::new("/nowhere")).unwrap());
            prop_assert_eq!(&wanted.entries, &got.entries);
            let mut next = BTreeMap::new();
            for (path, entry) in wanted.entries.iter().filter(|(_, entry)| matches!(entry, Entry::File { .. })) {
                let time = copy.time(&path.to_string_lossy());
                if let Some((before, old)) = times.get(path)
                    && before == entry
                {
                    prop_assert_eq!(*old, time);
                }
                next.insert(path.clone(), (entry.clone(), time));
            }
            times = next;
        }
    }
}
