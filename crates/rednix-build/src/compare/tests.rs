use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;

/// An `ar` archive in the common format.
fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, contents) in members {
        let header =
            format!("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", format!("{name}/"), 0, 0, 0, 644, contents.len());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(contents);
        if contents.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, contents) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *contents).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A 64-bit relocatable ELF file with these sections.
fn elf(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut names = vec![0_u8];
    let mut body = vec![0_u8; 64];
    let mut headers = vec![[0_u8; 64]];
    let mut header = |name: &str, kind: u32, contents: &[u8], names: &mut Vec<u8>, body: &mut Vec<u8>| {
        let mut bytes = [0_u8; 64];
        bytes[0..4].copy_from_slice(&(names.len() as u32).to_le_bytes());
        bytes[4..8].copy_from_slice(&kind.to_le_bytes());
        bytes[24..32].copy_from_slice(&(body.len() as u64).to_le_bytes());
        bytes[32..40].copy_from_slice(&(contents.len() as u64).to_le_bytes());
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        body.extend_from_slice(contents);
        headers.push(bytes);
    };
    for (name, contents) in sections {
        header(name, 1, contents, &mut names, &mut body);
    }
    let table = [&names[..], b".shstrtab\0"].concat();
    header(".shstrtab", 3, &table, &mut names, &mut body);
    let start = body.len() as u64;
    let count = headers.len() as u16;
    headers.iter().for_each(|header| body.extend_from_slice(header));
    body[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    body[16..18].copy_from_slice(&1_u16.to_le_bytes());
    body[18..20].copy_from_slice(&62_u16.to_le_bytes());
    body[20..24].copy_from_slice(&1_u32.to_le_bytes());
    body[40..48].copy_from_slice(&start.to_le_bytes());
    body[52..54].copy_from_slice(&64_u16.to_le_bytes());
    body[58..60].copy_from_slice(&64_u16.to_le_bytes());
    body[60..62].copy_from_slice(&count.to_le_bytes());
    body[62..64].copy_from_slice(&(count - 1).to_le_bytes());
    body
}

fn told(first: &[u8], second: &[u8]) -> String {
    locate(first, second).expect("they differ").to_string()
}

#[test]
fn places_table() {
    let object = |text: &[u8]| elf(&[(".text", text), (".rodata", b"the same")]);
    let (one, two) = (object(b"\x90\x90\xc3"), object(b"\x90\x91\xc3"));
    let cases: Vec<(Vec<u8>, Vec<u8>, &str)> = vec![
        (b"abc".to_vec(), b"abd".to_vec(), "byte 0x2"),
        (b"abc".to_vec(), b"ab".to_vec(), "byte 0x2"),
        (one.clone(), two.clone(), "section `.text`, byte 0x1 (of the file: 0x41)"),
        (
            elf(&[(".a", b"x"), (".b", b"y")]),
            elf(&[(".a", b"x"), (".c", b"y")]),
            "section `.b` and section `.c`, byte 0x0",
        ),
        (
            ar(&[("a.o", b"1"), ("b.o", b"2345")]),
            ar(&[("a.o", b"1"), ("b.o", b"2335")]),
            "member `b.o`, byte 0x2",
        ),
        (
            ar(&[("a.o", b"1")]),
            ar(&[("a.o", b"1"), ("b.o", b"2")]),
            "member (none) and member `b.o`, byte 0x0",
        ),
        (ar(&[("x.o", &one)]), ar(&[("x.o", &two)]), "member `x.o`, section `.text`, byte 0x1"),
        (
            tar_of(&[("d/a", b"1"), ("d/b", b"22")]),
            tar_of(&[("d/a", b"1"), ("d/b", b"23")]),
            "member `d/b`, byte 0x1",
        ),
        (
            tar_of(&[("l.a", &ar(&[("m.o", &one)]))]),
            tar_of(&[("l.a", &ar(&[("m.o", &two)]))]),
            "member `l.a`, member `m.o`, section `.text`, byte 0x1",
        ),
    ];
    for (first, second, expected) in cases {
        let got = told(&first, &second);
        assert!(got.starts_with(expected), "{got} is not {expected}");
    }
}

/// A longer section moves all that follows; still only it differs.
#[test]
fn what_only_moved_is_not_blamed() {
    let first = elf(&[(".text", b"long enough"), (".data", b"short"), (".rodata", b"after")]);
    let second = elf(&[(".text", b"long enough"), (".data", b"short but longer"), (".rodata", b"after")]);
    assert!(told(&first, &second).starts_with("section `.data`, byte 0x5"));
}

#[test]
fn a_changed_date_in_an_archive_is_found_too() {
    let first = ar(&[("a.o", b"12")]);
    let mut second = first.clone();
    second[8 + 16] = b'7';
    assert_eq!(told(&first, &second), "the archive's own tables, byte 0x18 (of the file: 0x18)");
    let first = elf(&[(".text", b"12")]);
    let mut second = first.clone();
    second[48] = 1;
    assert!(told(&first, &second).starts_with("outside all sections"));
}

fn tree(entries: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, what) in entries {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match what.split_once(':') {
            Some(("link", target)) => symlink(target, path).unwrap(),
            Some(("program", text)) => {
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            Some(("folder", _)) => fs::create_dir(path).unwrap(),
            _ => fs::write(path, what).unwrap(),
        }
    }
    folder
}

#[test]
fn trees_table() {
    let base: &[(&str, &str)] = &[("a/x", "1"), ("b", "program:2"), ("l", "link:a"), ("z/y/w", "3")];
    let cases: &[(&[(&str, &str)], &[&str])] = &[
        (base, &[]),
        (&[("a/x", "2"), ("b", "program:2"), ("l", "link:a"), ("z/y/w", "3")], &["a/x: byte 0x0"]),
        (&[("a/x", "1"), ("b", "2"), ("l", "link:a"), ("z/y/w", "3")], &["b: executable only in the first"]),
        (
            &[("a/x", "1"), ("b", "program:2"), ("l", "link:z"), ("z/y/w", "3")],
            &["l: a link to `a` and to `z`"],
        ),
        (&[("a/x", "1"), ("b", "program:2"), ("z/y/w", "3")], &["l: only in the first"]),
        (&[("a/x", "1"), ("b", "program:2"), ("l", "link:a"), ("z/y", "3")], &["z/y: a folder and a file"]),
        (
            &[("a/x", "17"), ("b", "program:2"), ("l", "link:a"), ("z/new", ""), ("z/y/w", "4")],
            &["a/x: byte 0x1; 1 and 2 bytes", "z/new: only in the second", "z/y/w: byte 0x0"],
        ),
    ];
    let first = tree(base);
    for (entries, expected) in cases {
        let second = tree(entries);
        let comparison = compare_trees(first.path(), second.path()).unwrap();
        let told: Vec<String> = comparison.told.iter().map(ToString::to_string).collect();
        assert_eq!(told, *expected);
        assert_eq!(comparison.count as usize, expected.len());
    }
}

#[test]
fn outputs_may_be_single_files_and_differences_are_counted_beyond_those_told() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    fs::write(&a, "1").unwrap();
    fs::write(&b, "2").unwrap();
    assert_eq!(compare_trees(&a, &b).unwrap().told[0].to_string(), ".: byte 0x0");
    assert!(compare_trees(&a, &a).unwrap().is_identical());
    let (many, none) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for index in 0..DIFFERENCES_TOLD_MAX + 5 {
        fs::write(many.path().join(index.to_string()), "").unwrap();
    }
    let comparison = compare_trees(many.path(), none.path()).unwrap();
    assert_eq!(
        (comparison.told.len(), comparison.count as usize),
        (DIFFERENCES_TOLD_MAX, DIFFERENCES_TOLD_MAX + 5)
    );
}

proptest! {
    /// Whatever the bytes are, the file's offset is the first differing one, and equal files have no place.
    #[test]
    fn any_change_of_any_file_is_located(kind in 0..4_u8, text: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8) {
        let first = match kind {
            0 => text,
            1 => ar(&[("a.o", &text), ("b.o", b"fixed")]),
            2 => tar_of(&[("a", &text), ("b", b"fixed")]),
            _ => elf(&[(".text", &text), (".data", b"fixed")]),
        };
        prop_assert_eq!(locate(&first, &first), None);
        prop_assume!(!first.is_empty());
        let index = at.index(first.len());
        let mut second = first.clone();
        second[index] ^= 1 << bit;
        prop_assert_eq!(locate(&first, &second).unwrap().file_offset, index as u64);
    }

    #[test]
    fn damaged_files_are_just_bytes(mut bytes: Vec<u8>, kind in 0..3_u8) {
        let magic: &[u8] = [&b"!<arch>\n"[..], b"\x7fELF\x02\x01\x01", b""][kind as usize];
        bytes.splice(0..0, magic.iter().copied());
        let other = [&bytes[..], b"x"].concat();
        prop_assert!(locate(&bytes, &other).is_some());
    }
}
