//! Every kind of read is seen again when it changes, and damaged entries are nothing.

use std::path::Path;

use super::reads::{Identity, Read};
use super::{ENTRY_BYTES_MAX, Entry, VERSION, keep};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// However long this machine takes for the next step.
fn stays_new(path: &Path) {
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1000);
    let file = std::fs::File::options().write(true).open(path).expect("the file can be written");
    file.set_modified(later).expect("its time can be set");
}

/// As an evaluation reads it. Files of these tests are new, so their identities are of no use; where those are, is
/// tested with the program.
fn read_now(path: &Path) -> Read {
    stays_new(path);
    let before = Identity::of(path);
    Read::file(path, before, &std::fs::read(path).expect("the file can be read"))
}

#[test]
fn a_file_changed_within_the_same_second_is_seen() {
    let folder = folder();
    let path = folder.path().join("file");
    std::fs::write(&path, "one").expect("the file can be written");
    let read = read_now(&path);
    assert!(matches!(read, Read::File { identity: None, .. }), "a new file is not known by its times");
    assert!(read.holds());
    // The same length, at once: nothing but the contents tells.
    std::fs::write(&path, "two").expect("the file can be written");
    assert!(!read.holds());
    std::fs::write(&path, "one").expect("the file can be written");
    assert!(read.holds(), "going back to the contents is no change");
    std::fs::remove_file(&path).expect("the file can be removed");
    assert!(!read.holds());
}

#[test]
fn entries_of_folders_that_come_and_go_are_seen() {
    let folder = folder();
    std::fs::write(folder.path().join("a"), "").expect("the file can be written");
    let entries = [(b"a".to_vec(), "Regular".to_owned())];
    let read = Read::folder(folder.path(), Identity::of(folder.path()), &entries);
    assert!(read.holds());
    std::fs::write(folder.path().join("b"), "").expect("the file can be written");
    assert!(!read.holds());
    std::fs::remove_file(folder.path().join("b")).expect("the file can be removed");
    assert!(read.holds());
    std::fs::remove_file(folder.path().join("a")).expect("the file can be removed");
    std::fs::create_dir(folder.path().join("a")).expect("the folder can be made");
    assert!(!read.holds(), "another kind of the same name is a change");
}

#[test]
fn absent_paths_links_and_variables_are_seen() {
    let folder = folder();
    let path = folder.path().join("absent");
    let read = Read::Kind { path: path.clone(), kind: None };
    assert!(read.holds());
    std::os::unix::fs::symlink("one", &path).expect("the link can be made");
    assert!(!read.holds());
    let link = Read::Link { path: path.clone(), target: "one".into() };
    assert!(link.holds());
    std::fs::remove_file(&path).expect("the link can be removed");
    std::os::unix::fs::symlink("two", &path).expect("the link can be made");
    assert!(!link.holds());
    let home = std::env::var_os("PATH").expect("tests have a PATH");
    use std::os::unix::ffi::OsStrExt;
    assert!(Read::variable(b"PATH", Some(home.as_bytes())).holds());
    assert!(!Read::variable(b"PATH", Some(b"another")).holds());
    assert!(!Read::variable(b"PATH", None).holds());
    assert!(Read::variable(b"REDNIX_NO_SUCH_VARIABLE", None).holds());
}

#[test]
fn parts_of_trees_are_known_by_identity_alone() {
    let folder = folder();
    let path = folder.path().join("file");
    std::fs::write(&path, "one").expect("the file can be written");
    stays_new(&path);
    assert_eq!(Read::part(&path), None, "what is new cannot be known again");
    let metadata = Path::new("/proc/self/exe");
    let program = std::fs::read_link(metadata).expect("the test is a program");
    // The test program was linked a while ago, except in a build that just ended.
    if let Some(read) = Read::part(&program) {
        assert!(read.holds());
    }
}

fn entry() -> Entry {
    let reads = vec![Read::Kind { path: "/no/such/path".into(), kind: None }];
    Entry {
        version: VERSION,
        reads,
        valid: Vec::new(),
        messages: vec!["said".into()],
        results: vec!["1".into()],
    }
}

#[test]
fn entries_are_read_back_and_damaged_ones_are_nothing() {
    let folder = folder();
    let file = folder.path().join("entry");
    keep(&file, &entry()).expect("the entry can be written");
    let bytes = std::fs::read(&file).expect("the entry is there");
    assert!((bytes.len() as u64) < ENTRY_BYTES_MAX);
    let read = Entry::parse(&bytes).expect("the entry is whole");
    assert_eq!(read.results, ["1"]);
    assert_eq!(read.messages, ["said"]);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(Entry::parse(&damaged).is_none(), "byte {at} was changed");
        assert!(Entry::parse(&bytes[..at]).is_none(), "cut at {at}");
    }
    let newer = Entry { version: VERSION + 1, ..entry() };
    keep(&file, &newer).expect("the entry can be written");
    assert!(Entry::parse(&std::fs::read(&file).expect("the entry is there")).is_none());
}
