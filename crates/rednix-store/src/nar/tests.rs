//! Archives: written, read, refused.

use std::io::Cursor;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::handle::{Dir, Kind};
use crate::limits::NAR_DEPTH_MAX;

fn sample() -> Tree {
    let mut tree = Tree::directory();
    for (path, node) in [
        ("a", Tree::file("text")),
        ("a.b", Tree::executable("12345678")),
        ("bin/run", Tree::executable(vec![7; 300_000])),
        ("bin/same", Tree::symlink("run")),
        ("empty/none", Tree::file("")),
        ("nothing", Tree::directory()),
        ("\u{fc}", Tree::symlink("../anywhere")),
    ] {
        tree.insert(path, node).unwrap();
    }
    tree
}

fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text);
    bytes.resize(bytes.len() + padding(text.len() as u64), 0);
    bytes
}

fn strings(texts: &[&[u8]]) -> Vec<u8> {
    texts.iter().flat_map(|text| string(text)).collect()
}

#[test]
fn a_known_archive() {
    let expected = strings(&[b"nix-archive-1", b"(", b"type", b"regular", b"contents", b"hello\n", b")"]);
    let nar = Tree::file("hello\n").to_nar().unwrap();
    assert_eq!(nar, expected);
    assert_eq!(nar.len(), 120);
    let hash = Hash::sha256(&nar).to_hex();
    assert_eq!(hash, "1c37d01af40be2e80691de3cc3df44377a699afbb17c68f080964b2fd071fc13");
    let mut file = Vec::new();
    dump_file(false, b"hello\n", &mut file).unwrap();
    assert_eq!(file, expected);
}

/// What is read is what is written, in whatever pieces it is asked for.
#[test]
fn an_archive_is_read_as_it_is_written() {
    use std::io::Read;
    let folder = tempfile::tempdir().unwrap();
    let mut many = sample();
    for number in 0..3000 {
        many.insert(&format!("many/{number:04}"), Tree::file(vec![b'x'; number * 37 % 1000])).unwrap();
    }
    let sizes = [0, 1, 7, 8, (32 << 10) - 1, 32 << 10, (32 << 10) + 1, 300_001];
    let files = sizes.map(|size| Tree::file(vec![b'y'; size]));
    let trees = [many, Tree::directory(), Tree::symlink("somewhere"), Tree::executable("run")];
    for (number, tree) in trees.into_iter().chain(files).enumerate() {
        let place = folder.path().join(format!("t{number}"));
        let nar = tree.to_nar().unwrap();
        restore(&mut nar.as_slice(), &place).unwrap();
        for piece in [3, 4096, 1 << 20] {
            let (mut archive, mut found) = (Archive::open(&place).unwrap(), Vec::new());
            let mut buffer = vec![0; piece];
            loop {
                match archive.read(&mut buffer).unwrap() {
                    0 => break,
                    count => found.extend_from_slice(&buffer[..count]),
                }
            }
            assert!(found == nar, "tree {number} in pieces of {piece}");
        }
    }
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    assert!(Archive::open(&pipe).is_err());
    assert!(Archive::open(folder.path()).unwrap().read_to_end(&mut Vec::new()).is_err());
    assert!(Archive::open(&folder.path().join("absent")).is_err());
}

#[test]
fn disk_and_memory_agree() {
    let folder = tempfile::tempdir().unwrap();
    let nar = sample().to_nar().unwrap();
    let place = folder.path().join("tree");
    let size = restore(&mut nar.as_slice(), &place).unwrap();
    assert_eq!(size, nar.len() as u64);
    let mut again = Vec::new();
    dump(&place, &mut again).unwrap();
    assert_eq!(again, nar);
    assert_eq!(hash_path(&place, HashAlgorithm::Sha256).unwrap(), (Hash::sha256(&nar), size));
    assert_eq!(Tree::read(&mut again.as_slice(), 1 << 20).unwrap(), sample());
    assert!(matches!(Tree::read(&mut again.as_slice(), 300_000), Err(Error::BadNar { .. })));
    for single in ["a", "a.b", "bin/same"] {
        let mut nar = Vec::new();
        dump(place.join(single), &mut nar).unwrap();
        let copy = folder.path().join("copy");
        restore(&mut nar.as_slice(), &copy).unwrap();
        assert_eq!(copy.is_symlink(), single == "bin/same");
        std::fs::remove_file(copy).unwrap();
    }
    assert!(restore(&mut nar.as_slice(), &place).unwrap_err().is_already_exists());
}

#[test]
fn canonical_unpacking_settles_modes_and_times() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open(folder.path()).unwrap();
    let nar = sample().to_nar().unwrap();
    restore_canonical(&mut nar.as_slice(), &dir, b"tree").unwrap();
    crate::canonical::settle_root(&dir, "tree".as_ref()).unwrap();
    for (name, mode) in [("", 0o555), ("a", 0o444), ("a.b", 0o555), ("bin", 0o555), ("bin/run", 0o555)] {
        let metadata = std::fs::symlink_metadata(folder.path().join("tree").join(name)).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.mtime()), (mode, 1), "{name}");
    }
    assert_eq!(std::fs::symlink_metadata(folder.path().join("tree/bin/same")).unwrap().mtime(), 1);
    dir.remove_tree("tree").unwrap();
}

#[test]
fn only_what_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("tree");
    restore(&mut sample().to_nar().unwrap().as_slice(), &place).unwrap();
    let mut nar = Vec::new();
    let mut asked = Vec::new();
    dump_accepted(
        &place,
        &mut |path, kind| {
            asked.push(path.to_path_buf());
            Ok(kind != Kind::Symlink && path != Path::new("empty"))
        },
        &mut nar,
    )
    .unwrap();
    let mut expected = Tree::directory();
    expected.insert("a", Tree::file("text")).unwrap();
    expected.insert("a.b", Tree::executable("12345678")).unwrap();
    expected.insert("bin/run", Tree::executable(vec![7; 300_000])).unwrap();
    expected.insert("nothing", Tree::directory()).unwrap();
    assert_eq!(Tree::read(&mut nar.as_slice(), 1 << 20).unwrap(), expected);
    assert!(!asked.contains(&PathBuf::from("empty/none")));
}

#[test]
fn stops_behind_the_end() {
    let mut stream = sample().to_nar().unwrap();
    let len = stream.len() as u64;
    stream.extend_from_slice(b"more");
    let mut stream = Cursor::new(stream);
    assert_eq!(read(&mut stream, &mut Discard).unwrap(), len);
    assert_eq!(stream.position(), len);
}

#[test]
fn cut_archives_are_refused_at_every_length() {
    let mut tree = sample();
    if let Tree::Directory(entries) = &mut tree {
        entries.remove(b"bin".as_slice());
    }
    let nar = tree.to_nar().unwrap();
    for len in 0..nar.len() {
        let error = read(&mut &nar[..len], &mut Discard).unwrap_err();
        assert!(matches!(error, Error::BadNar { .. }), "{len}: {error}");
    }
}

fn entry(name: &[u8]) -> Vec<u8> {
    strings(&[
        b"entry",
        b"(",
        b"name",
        name,
        b"node",
        b"(",
        b"type",
        b"regular",
        b"contents",
        b"",
        b")",
        b")",
    ])
}

#[test]
fn bad_archives_are_refused_without_a_trace_outside() {
    let directory = |entries: &[Vec<u8>]| {
        let mut nar = strings(&[b"nix-archive-1", b"(", b"type", b"directory"]);
        entries.iter().for_each(|entry| nar.extend_from_slice(entry));
        nar.extend(strings(&[b")"]));
        nar
    };
    let file = |middle: &[&[u8]]| {
        let mut all: Vec<&[u8]> = vec![b"nix-archive-1", b"(", b"type"];
        all.extend_from_slice(middle);
        strings(&all)
    };
    let mut bad_padding = strings(&[b"nix-archive-1", b"(", b"type", b"regular", b"contents", b"x", b")"]);
    let at = bad_padding.len() - 20;
    bad_padding[at] = 1;
    let mut long = strings(&[b"nix-archive-1", b"(", b"type", b"symlink", b"target"]);
    long.extend_from_slice(&u64::MAX.to_le_bytes());
    let long_name = vec![b'a'; 256];
    for (nar, reason) in [
        (vec![], "too early"),
        (strings(&[b"nix-archive-2"]), "expected `nix-archive-1`"),
        (string(b"nix-archive-1 and very much more"), "a keyword of"),
        (file(&[b"device", b")"]), "unknown node type"),
        (file(&[b"regular", b"executable", b"x"]), "expected ``"),
        (file(&[b"regular", b"content", b""]), "expected `contents`"),
        (file(&[b"symlink", b"target", b"", b")"]), "empty"),
        (file(&[b"symlink", b"target", b"a\0b", b")"]), "zero byte"),
        (directory(&[entry(b"..")]), "lead elsewhere"),
        (directory(&[entry(b".")]), "lead elsewhere"),
        (directory(&[entry(b"")]), "is empty"),
        (directory(&[entry(b"a/b")]), "slash"),
        (directory(&[entry(b"/etc")]), "slash"),
        (directory(&[entry(b"a\0")]), "zero byte"),
        (directory(&[entry(&long_name)]), "a file name of"),
        (directory(&[entry(b"a"), entry(b"a")]), "not in order"),
        (directory(&[entry(b"b"), entry(b"a")]), "not in order"),
        (directory(&[strings(&[b"entr"])]), "expected `entry`"),
        (bad_padding, "padding"),
        (long, "a link's target of"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let message = restore(&mut nar.as_slice(), folder.path().join("in")).unwrap_err().to_string();
        assert!(message.contains(reason), "{}\n{message}", nar.escape_ascii());
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.is_empty() || names == ["in"], "{names:?}");
    }
}

#[test]
fn depth_has_a_limit_both_ways() {
    let nested = |depth: usize| {
        let mut nar = strings(&[b"nix-archive-1"]);
        for _ in 0..depth {
            nar.extend(strings(&[b"(", b"type", b"directory", b"entry", b"(", b"name", b"d", b"node"]));
        }
        nar.extend(strings(&[b"(", b"type", b"regular", b"contents", b"", b")"]));
        (0..depth).for_each(|_| nar.extend(strings(&[b")", b")"])));
        nar
    };
    let folder = tempfile::tempdir().unwrap();
    let deepest = nested(NAR_DEPTH_MAX - 1);
    restore(&mut deepest.as_slice(), folder.path().join("fine")).unwrap();
    let mut again = Vec::new();
    dump(folder.path().join("fine"), &mut again).unwrap();
    assert_eq!(again, deepest);
    let message = read(&mut nested(NAR_DEPTH_MAX).as_slice(), &mut Discard).unwrap_err().to_string();
    assert!(message.contains("nested"), "{message}");
    let mut inner = folder.path().join("fine");
    (0..NAR_DEPTH_MAX - 1).for_each(|_| inner.push("d"));
    std::fs::remove_file(&inner).unwrap();
    std::fs::create_dir(&inner).unwrap();
    dump(folder.path().join("fine"), &mut std::io::sink()).unwrap();
    std::fs::create_dir(inner.join("d")).unwrap();
    let message = dump(folder.path().join("fine"), &mut std::io::sink()).unwrap_err().to_string();
    assert!(message.contains("nested"), "{message}");
}

#[test]
fn writers_check_order_and_names() {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.enter_directory(b"").unwrap();
    writer.file(b"b", false, b"").unwrap();
    assert!(writer.file(b"a", false, b"").is_err());
    assert!(writer.file(b"b", false, b"").is_err());
    assert!(writer.symlink(b"c/d", b"x").is_err());
    assert!(writer.symlink(b"..", b"x").is_err());
}

#[test]
fn pipes_and_sockets_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    let error = dump(folder.path(), &mut std::io::sink()).unwrap_err();
    assert!(matches!(error, Error::Unstorable { .. }), "{error}");
    assert!(dump(folder.path().join("socket"), &mut std::io::sink()).is_err());
    assert!(dump(folder.path().join("missing"), &mut std::io::sink()).unwrap_err().is_not_found());
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (any::<bool>(), any::<Vec<u8>>())
            .prop_map(|(executable, contents)| Tree::File { executable, contents }),
        "[a-z/.]{1,20}".prop_map(Tree::symlink),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        proptest::collection::btree_map("[a-c.\u{e9}-]{1,3}", inner, 0..6).prop_map(|entries| {
            let entries = entries.into_iter().filter(|(name, _)| name != "." && name != "..");
            Tree::Directory(entries.map(|(name, node)| (name.into_bytes(), node)).collect())
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_tree_reads_back(tree in any_tree()) {
        let nar = tree.to_nar().unwrap();
        prop_assert_eq!(nar.len() % 8, 0);
        prop_assert_eq!(Tree::read(&mut nar.as_slice(), 1 << 20).unwrap(), tree);
    }

    #[test]
    fn every_tree_survives_the_disk(tree in any_tree()) {
        let folder = tempfile::tempdir().unwrap();
        let nar = tree.to_nar().unwrap();
        restore(&mut nar.as_slice(), folder.path().join("t")).unwrap();
        let mut again = Vec::new();
        dump(folder.path().join("t"), &mut again).unwrap();
        prop_assert_eq!(again, nar);
    }

    #[test]
    fn damaged_archives_are_read_or_refused(tree in any_tree(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut nar = tree.to_nar().unwrap();
        let at = at.index(nar.len());
        nar[at] = byte;
        if let Ok(read) = Tree::read(&mut nar.as_slice(), 1 << 20) {
            let again = read.to_nar().unwrap();
            prop_assert_eq!(Tree::read(&mut again.as_slice(), 1 << 20).unwrap(), read);
        }
    }
}
