//! The golden set of derivations: paths equal to what C++ Nix prints for them.

#[path = "../examples/support/read_only.rs"]
mod read_only;

use rednix_eval::{Evaluator, Settings};
use std::path::{Path, PathBuf};

/// The conformance folder: `REDNIX_CONFORMANCE`, or beside the checkout.
fn conformance() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = std::env::var_os("REDNIX_CONFORMANCE").map(PathBuf::from);
    let candidates =
        [folder, Some(root.join("../shared/conformance")), Some(root.join("../../shared/conformance"))];
    candidates.into_iter().flatten().find(|folder| folder.join("golden/show.nix").is_file())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder for the copy");
    for entry in std::fs::read_dir(from).expect("the golden set is readable") {
        let entry = entry.expect("the golden set is readable");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().expect("a file has a type").is_dir() {
            copy(&source, &target);
        } else {
            std::fs::copy(&source, &target).expect("the copy is writable");
        }
    }
}

#[test]
fn golden_paths() {
    let Some(folder) = conformance() else {
        println!("skipped: no conformance folder (set REDNIX_CONFORMANCE)");
        return;
    };
    let copied = tempfile::tempdir().expect("a temporary folder");
    copy(&folder.join("golden"), copied.path());
    // The set has a link in it, which not every way of handing the folder on keeps.
    let link = copied.path().join("tree/link");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink("a.txt", &link).expect("the copy is writable");
    for collect_always in [false, true] {
        check(&folder, copied.path(), collect_always);
    }
}

fn check(folder: &Path, copied: &Path, collect_always: bool) {
    let settings = Settings { read_only: true, collect_always, ..Settings::default() };
    let mut evaluator = Evaluator::new(Box::new(read_only::ReadOnlyWorld::default()), settings);
    let show = copied.join("show.nix");
    let value = evaluator.file(show.as_os_str().as_encoded_bytes()).expect("the set parses");
    let value = evaluator.force(value).expect("the set evaluates");
    let found =
        String::from_utf8(evaluator.string_of(value).expect("it is a text")).expect("paths are ASCII");
    let wanted = std::fs::read_to_string(folder.join("golden/paths.txt")).expect("the expected paths");
    for (found, wanted) in found.lines().zip(wanted.lines()) {
        assert_eq!(found, wanted);
    }
    assert_eq!(found, wanted);
}
