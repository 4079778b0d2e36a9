//! Archives as another program reads them: by the format's numbers, not by this crate's reader.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use proptest::prelude::*;
use rednix_image::pkgar::{Archive, Contents, Entry, PublicKey, SecretKey, parse_head, write_archive};

fn key() -> SecretKey {
    SecretKey::from_seed([42; 32])
}

fn file(root: &Path, path: &str, bytes: &[u8], mode: u32) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// `(path, mode, contents)` of an archive, every hash and the signature checked.
fn read_by_the_book(archive: &[u8], key: PublicKey) -> Vec<(String, u32, Vec<u8>)> {
    let u32_at = |at: usize| u32::from_le_bytes(archive[at..at + 4].try_into().unwrap()) as usize;
    let u64_at = |at: usize| u64::from_le_bytes(archive[at..at + 8].try_into().unwrap()) as usize;
    let signature = Signature::from_slice(&archive[..64]).unwrap();
    assert_eq!(archive[64..96], key.0);
    VerifyingKey::from_bytes(&key.0).unwrap().verify(&archive[64..136], &signature).unwrap();
    let (count, flags) = (u32_at(128), u32_at(132));
    assert_eq!(flags, 0);
    let data = 136 + count * 308;
    assert_eq!(archive[96..128], *blake3::hash(&archive[136..data]).as_bytes());
    let mut end = data;
    let entries = (0..count).map(|number| {
        let at = 136 + number * 308;
        let (offset, size) = (u64_at(at + 32), u64_at(at + 40));
        assert_eq!(data + offset, end, "contents lie one after another");
        end += size;
        let contents = archive[data + offset..][..size].to_vec();
        assert_eq!(archive[at..at + 32], *blake3::hash(&contents).as_bytes());
        let path = &archive[at + 52..at + 308];
        let length = path.iter().position(|&byte| byte == 0).unwrap();
        assert!(path[length..].iter().all(|&byte| byte == 0));
        (String::from_utf8(path[..length].to_vec()).unwrap(), u32_at(at + 48) as u32, contents)
    });
    let entries: Vec<_> = entries.collect();
    assert_eq!(end, archive.len());
    entries
}

#[test]
fn an_archive_reads_by_the_book() {
    let scene = tempfile::tempdir().unwrap();
    let root = scene.path().join("package");
    file(&root, "usr/bin/tool", b"#!/bin/sh\n", 0o555);
    file(&root, "usr/bin.d/x", b"", 0o444);
    file(&root, "usr/share/big", &vec![7; 3_000_000], 0o644);
    symlink("tool", root.join("usr/bin/alias")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    let contents = Contents::read(&root).unwrap();
    let archive = scene.path().join("a.pkgar");
    write_archive(&contents, &key(), &archive).unwrap();
    let bytes = fs::read(&archive).unwrap();
    let found: Vec<(String, u32, usize)> = read_by_the_book(&bytes, key().public())
        .into_iter()
        .map(|(path, mode, contents)| (path, mode, contents.len()))
        .collect();
    let expected = [
        ("usr/bin/alias", 0o120_777, 4),
        ("usr/bin/tool", 0o100_755, 10),
        ("usr/bin.d/x", 0o100_644, 0),
        ("usr/share/big", 0o100_644, 3_000_000),
    ];
    assert_eq!(found, expected.map(|(path, mode, size)| (path.to_owned(), mode, size)));
    assert_eq!(bytes.len() as u64, contents.head.archive_size());
    write_archive(&contents, &key(), &scene.path().join("b.pkgar")).unwrap();
    assert_eq!(bytes, fs::read(scene.path().join("b.pkgar")).unwrap());

    let opened = Archive::open(&archive, key().public()).unwrap();
    assert_eq!(opened.head, contents.head);
    let mut bytes_read = 0;
    opened.read(|_: &Entry, piece| bytes_read += piece.len()).unwrap();
    assert_eq!(bytes_read, 3_000_014);
    assert_eq!(parse_head(&bytes, key().public()).unwrap(), contents.head);
    assert_eq!(parse_head(&contents.head.encode(&key()), key().public()).unwrap(), contents.head);
}

#[test]
fn what_does_not_fit_the_format_is_refused() {
    let scene = tempfile::tempdir().unwrap();
    let long = ["x".repeat(200), "y".repeat(54)].join("/");
    file(scene.path(), &long, b"fits", 0o644);
    assert_eq!(Contents::read(scene.path()).unwrap().head.entries[0].path, long);
    file(scene.path(), &(long + "z"), b"does not", 0o644);
    assert!(Contents::read(scene.path()).unwrap_err().to_string().contains("255 bytes"));
}

#[test]
fn a_file_that_changes_while_it_is_packed_is_an_error() {
    let scene = tempfile::tempdir().unwrap();
    let root = scene.path().join("package");
    file(&root, "a", b"before", 0o644);
    let contents = Contents::read(&root).unwrap();
    file(&root, "a", b"after!", 0o644);
    let message = write_archive(&contents, &key(), &scene.path().join("x")).unwrap_err().to_string();
    assert!(message.contains("changed while"), "{message}");
}

#[test]
fn another_key_and_any_changed_byte_are_noticed() {
    let scene = tempfile::tempdir().unwrap();
    let root = scene.path().join("package");
    file(&root, "a/b", b"contents", 0o644);
    symlink("b", root.join("a/c")).unwrap();
    let archive = scene.path().join("x.pkgar");
    write_archive(&Contents::read(&root).unwrap(), &key(), &archive).unwrap();
    let other = SecretKey::from_seed([1; 32]).public();
    assert!(Archive::open(&archive, other).unwrap_err().to_string().contains("another key"));
    let good = fs::read(&archive).unwrap();
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1;
        fs::write(&archive, &bad).unwrap();
        let result = Archive::open(&archive, key().public()).and_then(|archive| archive.read(|_, _| {}));
        assert!(result.is_err(), "byte {place}");
    }
    for length in [0, 64, 135, 136, 400, good.len() - 1] {
        fs::write(&archive, &good[..length]).unwrap();
        let result = Archive::open(&archive, key().public()).and_then(|archive| archive.read(|_, _| {}));
        assert!(result.is_err(), "length {length}");
    }
}

/// A head with a right signature and hash around any table: what a holder of the key could make.
fn signed(table: &[u8], count: u32) -> Vec<u8> {
    use ed25519_dalek::{Signer, SigningKey};
    let key = SigningKey::from_bytes(&[42; 32]);
    let mut head = key.verifying_key().to_bytes().to_vec();
    head.extend(blake3::hash(table).as_bytes());
    head.extend(count.to_le_bytes());
    head.extend([0; 4]);
    [key.sign(&head).to_bytes().as_slice(), &head, table].concat()
}

fn raw_entry(path: &[u8], mode: u32, offset: u64, size: u64) -> Vec<u8> {
    let mut entry = vec![0; 32];
    entry.extend(offset.to_le_bytes());
    entry.extend(size.to_le_bytes());
    entry.extend(mode.to_le_bytes());
    entry.extend(path);
    entry.resize(308, 0);
    entry
}

#[test]
fn signed_nonsense_is_refused_too() {
    let parse = |entry: Vec<u8>| parse_head(&signed(&entry, 1), key().public());
    assert_eq!(parse(raw_entry(b"a/b", 0o100_644, 0, 0)).unwrap().entries[0].path, "a/b");
    for path in [&b"../x"[..], b"/etc/x", b"a//b", b"a/./b", b"", b"a/..", &[0xff], &[b'x'; 256]] {
        assert!(parse(raw_entry(path, 0o100_644, 0, 0)).is_err(), "{path:?}");
    }
    for mode in [0, 0o644, 0o040_755, 0o060_644, 0o1_100_644] {
        assert!(parse(raw_entry(b"a", mode, 0, 0)).is_err(), "{mode:o}");
    }
    assert!(parse(raw_entry(b"a", 0o100_644, u64::MAX, 1)).is_err());
    assert!(parse_head(&signed(&raw_entry(b"a", 0o100_644, 0, 0), 2), key().public()).is_err());
    assert!(parse_head(&signed(&[], u32::MAX), key().public()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_packed_comes_back(
        files in prop::collection::btree_map(
            prop::collection::vec("[a-c.]{1,3}", 1..4).prop_map(|names| names.join("/")),
            (prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..12),
    ) {
        let scene = tempfile::tempdir().unwrap();
        let root = scene.path().join("package");
        fs::create_dir_all(&root).unwrap();
        for (path, (bytes, executable)) in &files {
            let host = root.join(path);
            let plain = path.split('/').all(|name| name != "." && name != "..");
            if plain && fs::create_dir_all(host.parent().unwrap()).is_ok() && !host.exists() {
                file(&root, path, bytes, if *executable { 0o755 } else { 0o644 });
            }
        }
        let contents = Contents::read(&root).unwrap();
        let archive = scene.path().join("x.pkgar");
        write_archive(&contents, &key(), &archive).unwrap();
        for (path, mode, bytes) in read_by_the_book(&fs::read(&archive).unwrap(), key().public()) {
            prop_assert_eq!(&fs::read(root.join(&path)).unwrap(), &bytes);
            let executable = fs::metadata(root.join(&path)).unwrap().permissions().mode() & 0o100 != 0;
            prop_assert_eq!(mode, if executable { 0o100_755 } else { 0o100_644 });
        }
    }

    #[test]
    fn random_tables_never_panic(table in prop::collection::vec(any::<u8>(), 0..1000), count in 0u32..5) {
        let _ = parse_head(&signed(&table, count), key().public());
        let _ = parse_head(&table, key().public());
    }
}
