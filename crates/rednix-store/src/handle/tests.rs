//! What handles must do and must refuse.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn folder() -> (tempfile::TempDir, Dir) {
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir(outside.path().join("inside")).unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let dir = Dir::open(outside.path().join("inside")).unwrap();
    (outside, dir)
}

#[test]
fn creates_and_reads_below() {
    let (_outside, dir) = folder();
    dir.create_dir_all("a/b/c", 0o755).unwrap();
    dir.create_dir_all("a/b", 0o755).unwrap();
    dir.create_file("a/b/f", 0o644).unwrap().write_all(b"text").unwrap();
    let mut text = String::new();
    dir.open_file("a/b/f").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "text");
    dir.symlink("anything/../at all", "a/link").unwrap();
    assert_eq!(dir.read_link("a/link").unwrap(), "anything/../at all");
    dir.hard_link("a/b/f", &dir, "a/g").unwrap();
    assert_eq!(dir.metadata("a/g").unwrap().st_nlink, 2);
    dir.rename("a/g", &dir, "a/h").unwrap();
    assert!(dir.exists("a/h").unwrap());
    assert!(!dir.exists("a/g").unwrap());
    let names: Vec<_> = dir.open_dir("a").unwrap().entries().unwrap();
    let names: Vec<_> = names.iter().map(|entry| (entry.name.to_str().unwrap(), entry.kind)).collect();
    assert_eq!(names, [("b", Kind::Directory), ("h", Kind::File), ("link", Kind::Symlink)]);
    assert!(dir.create_file("a/h", 0o644).unwrap_err().is_already_exists());
    assert!(dir.open_file("nothing").unwrap_err().is_not_found());
}

#[test]
fn refuses_to_leave() {
    let (outside, dir) = folder();
    symlink("../secret", dir.path().join("up")).unwrap();
    symlink("..", dir.path().join("updir")).unwrap();
    symlink("/", dir.path().join("root")).unwrap();
    symlink(".", dir.path().join("here")).unwrap();
    let absolute = outside.path().join("secret");
    for name in [
        Path::new("../secret"),
        Path::new(".."),
        Path::new("a/../../secret"),
        Path::new("up"),
        Path::new("updir/secret"),
        Path::new("here/up"),
        Path::new("root/etc/passwd"),
        Path::new(""),
        Path::new("."),
        Path::new("a\0b"),
        absolute.as_path(),
    ] {
        for result in [
            dir.open_file(name).map(drop),
            dir.open_dir(name).map(drop),
            dir.create_file(name, 0o644).map(drop),
            dir.open_or_create_file(name, 0o644).map(drop),
            dir.create_dir(name.join("new"), 0o755),
            dir.symlink("x", name.join("new")),
            dir.hard_link(name.join("new"), &dir, "new"),
            dir.rename(name.join("new"), &dir, "new"),
            dir.remove_file(name.join("new")),
            dir.remove_tree(name.join("new")).map(drop),
        ] {
            // "." below a folder is the folder itself: operations on a new name there are allowed to work.
            if name == Path::new("") || name == Path::new(".") {
                continue;
            }
            assert!(result.is_err(), "{}", name.display());
        }
    }
    assert!(dir.open_dir("").is_err());
    assert!(dir.create_dir(".", 0o755).is_err());
    assert_eq!(std::fs::read_to_string(absolute).unwrap(), "secret");
    let names: Vec<_> = std::fs::read_dir(outside.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn stepwise_opening_refuses_the_same() {
    let (_outside, dir) = folder();
    dir.create_dir_all("a/b", 0o755).unwrap();
    symlink("b", dir.path().join("a/link")).unwrap();
    symlink("../..", dir.path().join("a/b/up")).unwrap();
    let open = |names: &[&str]| {
        let names: Vec<&OsStr> = names.iter().map(OsStr::new).collect();
        dir.open_stepwise(&names, DIRECTORY, Mode::empty()).map(drop)
    };
    assert!(open(&["a", "b"]).is_ok());
    assert_eq!(open(&["a", "link"]), Err(Errno::LOOP));
    assert_eq!(open(&["a", "link", "x"]), Err(Errno::LOOP));
    assert_eq!(open(&["a", "b", "up", "secret"]), Err(Errno::LOOP));
}

#[test]
fn links_are_named_in_the_message() {
    let (_outside, dir) = folder();
    symlink("/", dir.path().join("root")).unwrap();
    let message = dir.open_dir("root").unwrap_err().to_string();
    assert!(message.contains("root") && message.contains("symbolic link"), "{message}");
}

#[test]
fn pipes_are_not_opened() {
    let (_outside, dir) = folder();
    rustix::fs::mknodat(&dir, "pipe", FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    assert!(matches!(dir.open_file("pipe"), Err(Error::Unstorable { .. })));
}

#[test]
fn removes_trees_however_they_are() {
    let (outside, dir) = folder();
    dir.create_dir_all("tree/a/b", 0o755).unwrap();
    std::fs::write(dir.path_of("tree/a/b/f"), vec![1; 100_000]).unwrap();
    symlink(outside.path(), dir.path_of("tree/out")).unwrap();
    symlink("../../secret", dir.path_of("tree/a/up")).unwrap();
    std::fs::set_permissions(dir.path_of("tree/a/b"), std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::set_permissions(dir.path_of("tree/a"), std::fs::Permissions::from_mode(0o555)).unwrap();
    let removed = dir.remove_tree("tree").unwrap();
    assert_eq!(removed.entries, 6);
    assert!(removed.bytes >= 100_000, "{removed:?}");
    assert!(!dir.exists("tree").unwrap());
    assert!(outside.path().join("secret").exists());
    assert_eq!(dir.remove_tree("tree").unwrap(), Removed::default());
}

#[test]
fn removes_what_has_another_name_without_counting_its_bytes() {
    let (outside, dir) = folder();
    std::fs::write(outside.path().join("kept"), vec![1; 100_000]).unwrap();
    std::fs::hard_link(outside.path().join("kept"), dir.path_of("name")).unwrap();
    assert_eq!(dir.remove_tree("name").unwrap(), Removed { bytes: 0, entries: 1 });
    assert_eq!(std::fs::metadata(outside.path().join("kept")).unwrap().nlink(), 1);
}

#[test]
fn removes_trees_deeper_than_handles_and_path_limits() {
    let (_outside, dir) = folder();
    let depth = 700;
    let mut at = dir.try_clone().unwrap();
    for _ in 0..depth {
        at.create_dir("some-directory", 0o755).unwrap();
        at = at.open_dir("some-directory").unwrap();
    }
    let removed = dir.remove_tree("some-directory").unwrap();
    assert_eq!(removed.entries, depth);
    assert!(dir.entries().unwrap().is_empty());
}

#[test]
fn walks_in_order_and_skips() {
    let (_outside, dir) = folder();
    dir.create_dir_all("b/c", 0o755).unwrap();
    dir.create_dir_all("a/x", 0o755).unwrap();
    dir.create_file("b.txt", 0o644).unwrap();
    dir.create_file("a/x/y", 0o644).unwrap();
    dir.symlink("a", "link").unwrap();
    let mut seen = Vec::new();
    dir.walk(&mut |visit| {
        seen.push(visit.relative.to_str().unwrap().to_owned());
        Ok(if visit.relative == Path::new("a/x") { Walk::Skip } else { Walk::Continue })
    })
    .unwrap();
    assert_eq!(seen, ["a", "a/x", "b", "b/c", "b.txt", "link"]);
}

proptest! {
    #[test]
    fn checked_names_stay_below(text in "[a./\\\\ ]{0,12}") {
        let base = Path::new("/base/folder");
        if let Ok(components) = check_relative(Path::new(&text)) {
            prop_assert!(!components.is_empty());
            prop_assert!(base.join(components.iter().collect::<PathBuf>()).starts_with(base));
            prop_assert!(components.iter().all(|name| *name != ".." && *name != "."));
        }
    }
}
