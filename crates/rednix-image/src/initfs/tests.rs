//! Round trips, refusals and hostile images.

use proptest::prelude::*;

use super::*;

fn file(path: &str, data: &[u8], executable: bool) -> Entry {
    Entry { path: path.into(), node: Node::File { data: data.to_vec(), executable } }
}

fn link(path: &str, target: &str) -> Entry {
    Entry { path: path.into(), node: Node::Symlink { target: target.into() } }
}

/// A 64-byte ELF header with the entry address 0x2345.
fn elf() -> Vec<u8> {
    let mut program = vec![0; 64];
    program[..6].copy_from_slice(b"\x7fELF\x02\x01");
    program[0x18..0x20].copy_from_slice(&0x2345u64.to_le_bytes());
    program
}

#[test]
fn both_formats_keep_tree_and_bootstrap() {
    for format in [Format::Current, Format::Old] {
        let entries =
            [file("bin/init", b"program", true), file("etc/x", &[7; 9000], false), link("lib", "/bin")];
        let image = build(format, Some(&elf()), &entries).unwrap();
        assert_eq!(image.len() % PAGE_SIZE, 0);
        assert_eq!(&image[PAGE_SIZE..PAGE_SIZE + 64], elf(), "the bootstrap program is at page 1, verbatim");
        assert_eq!(image[0x1a..0x22], 0x2345u64.to_le_bytes());
        let (header, read) = parse(&image).unwrap();
        assert_eq!(header.format, format);
        assert_eq!(header.initfs_size, image.len() as u64);
        assert_eq!(header.inode_count, 6);
        let paths: Vec<&str> = read.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["bin", "bin/init", "etc", "etc/x", "lib"]);
        assert_eq!(read[1], entries[0]);
        assert_eq!(read[3], entries[1]);
        assert_eq!(read[4], link("lib", "bin"), "absolute targets become relative");
    }
}

#[test]
fn targets_are_relative_to_the_link() {
    let cases = [
        ("a", "/b", "b"),
        ("a/b", "/c/d", "../c/d"),
        ("a/b/c", "/", "../.."),
        ("a", "/", "."),
        ("a", "../x", "../x"),
    ];
    for (path, target, expected) in cases {
        let image = build(Format::Current, None, &[link(path, target)]).unwrap();
        let (_, entries) = parse(&image).unwrap();
        assert_eq!(
            entries.last().unwrap().node,
            Node::Symlink { target: expected.into() },
            "{path} -> {target}"
        );
    }
}

#[test]
fn impossible_entries_are_refused() {
    let cases: [(&[Entry], &str); 6] = [
        (&[file("a", b"", false), file("a", b"", false)], "given twice"),
        (&[file("a", b"", false), file("a/b", b"", false)], "not a directory"),
        (&[file("../a", b"", false)], "no file name"),
        (&[file("/a", b"", false)], "no file name"),
        (&[file("", b"", false)], "no file name"),
        (&[Entry { path: ["a"; 100].join("/"), node: Node::Directory }], "too deeply"),
    ];
    for (entries, expected) in cases {
        let message = build(Format::Current, None, entries).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let message = build(Format::Old, Some(b"#!/bin/sh"), &[]).unwrap_err().to_string();
    assert!(message.contains("ELF"), "{message}");
}

#[test]
fn the_size_limit_is_an_error() {
    let big = vec![0; (crate::limits::INITFS_SIZE_MAX - 4096) as usize];
    let message = build(Format::Current, None, &[file("big", &big, false)]).unwrap_err().to_string();
    assert!(message.contains("64 MiB"), "{message}");
}

#[test]
fn a_loop_of_directories_ends_in_an_error() {
    let entries = [Entry { path: "a/b".into(), node: Node::Directory }];
    let mut image = build(Format::Current, None, &entries).unwrap();
    let header = parse_header(&image).unwrap();
    // Point the directory `b` at the table of the root.
    let table = header.inode_table_offset as usize;
    let root: Vec<u8> = image[table..table + 12].to_vec();
    image[table + 24..table + 36].copy_from_slice(&root);
    assert!(parse(&image).unwrap_err().to_string().contains("loop"));
}

#[test]
fn an_image_is_changed_in_place() {
    for format in [Format::Current, Format::Old] {
        let entries = [
            file("etc/table", b"[[drivers]]", false),
            file("lib/drivers/a", b"program", true),
            link("lib/b", "drivers/a"),
        ];
        let mut program = elf();
        program.resize(5000, 7);
        let image = build(format, Some(&program), &entries).unwrap();
        let changes = [
            Change::Add { path: "lib/drivers/new".into(), data: vec![9; 5000], executable: true },
            Change::Add { path: "lib/drivers/a".into(), data: b"program".to_vec(), executable: true },
            Change::Append {
                paths: vec!["lib/table".into(), "etc/table".into()],
                text: "more\n".into(),
                optional: false,
            },
            Change::Append { paths: vec!["etc/init.rc".into()], text: "lost".into(), optional: true },
        ];
        let (changed, notes) = edit(&image, &changes).unwrap();
        assert_eq!(notes, ["initfs: added `lib/drivers/new`", "initfs: added to `etc/table`"]);
        assert_eq!(changed[PAGE_SIZE..3 * PAGE_SIZE], image[PAGE_SIZE..3 * PAGE_SIZE]);
        let (header, read) = parse(&changed).unwrap();
        assert_eq!((header.format, header.bootstrap_entry), (format, 0x2345));
        let files: Vec<&Entry> = read.iter().filter(|entry| entry.node != Node::Directory).collect();
        let expected = [
            file("etc/table", b"[[drivers]]\nmore\n", false),
            link("lib/b", "drivers/a"),
            entries[1].clone(),
            file("lib/drivers/new", &[9; 5000], true),
        ];
        assert_eq!(files, expected.iter().collect::<Vec<_>>());
        assert_eq!(edit(&image, &changes).unwrap().0, changed);
    }
}

#[test]
fn changes_that_cannot_be_made_are_refused() {
    let image = build(Format::Old, Some(&elf()), &[file("etc/a", b"a", false), link("etc/l", "a")]).unwrap();
    let append =
        |path: &str| Change::Append { paths: vec![path.into()], text: String::new(), optional: false };
    let cases = [
        (Change::Add { path: "etc/a".into(), data: b"b".to_vec(), executable: false }, "another `etc/a`"),
        (Change::Add { path: "etc/a/b".into(), data: Vec::new(), executable: false }, "not a directory"),
        (append("etc/b"), "no `etc/b` to add to"),
        (append("etc/l"), "`etc/l` is no file"),
        (append("etc"), "`etc` is no file"),
    ];
    for (change, expected) in cases {
        let message = edit(&image, &[change]).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let mut headless = build(Format::Old, None, &[]).unwrap();
    headless[BOOTSTRAP_ENTRY_OFFSET] = 1;
    assert!(edit(&headless, &[]).unwrap_err().to_string().contains("no program on page 1"));
}

fn tree() -> impl Strategy<Value = Vec<Entry>> {
    let name = prop::sample::select(vec!["a", "b", "bin", "x.so", "é"]);
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let node = prop_oneof![
        (prop::collection::vec(any::<u8>(), 0..6000), any::<bool>())
            .prop_map(|(data, executable)| Node::File { data, executable }),
        Just(Node::Directory),
        "[a-z./]{1,12}"
            .prop_map(|target| Node::Symlink { target: target.trim_start_matches('/').to_owned() + "t" }),
    ];
    prop::collection::vec((path, node), 0..12)
        .prop_map(|list| list.into_iter().map(|(path, node)| Entry { path, node }).collect())
}

proptest! {
    #[test]
    fn what_is_written_is_read(entries in tree(), old: bool) {
        let format = if old { Format::Old } else { Format::Current };
        let mut reversed = entries.clone();
        reversed.reverse();
        if let Ok(image) = build(format, None, &entries) {
            prop_assert_eq!(&build(format, None, &reversed).unwrap(), &image, "order of entries does not matter");
            let (header, read) = parse(&image).unwrap();
            prop_assert_eq!(header.format, format);
            for entry in &entries {
                prop_assert!(read.contains(entry));
            }
            // Reading and writing again gives the same bytes.
            prop_assert_eq!(build(format, None, &read).unwrap(), image);
        }
    }

    #[test]
    fn nothing_but_the_change_is_changed(
        entries in tree(), old: bool, with_program: bool, pages in 0usize..20_000, added in prop::collection::vec(any::<u8>(), 0..9000),
    ) {
        let format = if old { Format::Old } else { Format::Current };
        let mut program = elf();
        program.resize(64 + pages, 1);
        let program = with_program.then_some(program.as_slice());
        if let Ok(image) = build(format, program, &entries) {
            // An image without a program may have anything on page 1; with one, no change is no change.
            if with_program {
                prop_assert_eq!(&edit(&image, &[]).unwrap().0, &image);
            }
            let change = Change::Add { path: "new/file".into(), data: added.clone(), executable: true };
            let (changed, _) = edit(&image, std::slice::from_ref(&change)).unwrap();
            let (before, mut expected) = parse(&image).unwrap();
            let (after, read) = parse(&changed).unwrap();
            prop_assert_eq!((after.format, after.bootstrap_entry), (before.format, before.bootstrap_entry));
            expected.push(Entry { path: "new".into(), node: Node::Directory });
            expected.push(Entry { path: "new/file".into(), node: Node::File { data: added, executable: true } });
            expected.sort_by(|a, b| a.path.cmp(&b.path));
            prop_assert_eq!(read, expected);
            if let Some(program) = program {
                prop_assert_eq!(&changed[PAGE_SIZE..PAGE_SIZE + program.len()], program);
            }
            // The same file once more is nothing new.
            prop_assert_eq!(edit(&changed, &[change]).unwrap().0, changed);
        }
    }

    #[test]
    fn hostile_images_never_panic(entries in tree(), old: bool, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
        let format = if old { Format::Old } else { Format::Current };
        if let Ok(mut image) = build(format, None, &entries) {
            let interesting: Vec<usize> = (0..image.len()).filter(|&at| at < 64 || image[at] != 0).collect();
            for (index, byte) in flips {
                image[*index.get(&interesting)] = byte;
            }
            let _ = parse(&image);
            let _ = edit(&image, &[]);
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
        if bytes.len() > 8 {
            bytes[..8].copy_from_slice(MAGIC);
            let _ = parse(&bytes);
        }
    }
}
