//! Archives built here, honest and malicious, and the trees that come of them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;
use rednix_store::hash::HashAlgorithm;
use serde_json::json;

use super::tar::{Strip, pax_records, unpack, unpack_stream};
use super::writer::TreeWriter;
use super::*;

/// One tar entry: kind, name as it stands in the header, link target, mode, contents.
type Item<'i> = (u8, &'i str, &'i str, u32, &'i [u8]);

/// Writes headers by hand, so that names no honest tool writes are possible.
fn tar_bytes(items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, name, link, mode, contents) in items {
        let mut header = [0u8; 512];
        header[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
        header[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", contents.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = *kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(contents);
        bytes.resize(bytes.len().div_ceil(512) * 512, 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// A tree as sorted lines: `path/`, `path = text`, `path* = text` (executable), `path -> target`.
fn listing(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let dir = rednix_store::handle::Dir::open(folder).unwrap();
    dir.walk(&mut |visit| {
        let path = folder.join(visit.relative);
        let shown = visit.relative.display();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mode = metadata.permissions().mode();
        assert_eq!(mode & 0o7000, 0, "{shown} has special bits");
        if metadata.is_symlink() {
            lines.push(format!("{shown} -> {}", fs::read_link(&path).unwrap().display()));
        } else if metadata.is_dir() {
            lines.push(format!("{shown}/"));
        } else {
            let star = if mode & 0o111 != 0 { "*" } else { "" };
            lines.push(format!("{shown}{star} = {}", String::from_utf8_lossy(&fs::read(&path).unwrap())));
        }
        Ok(rednix_store::handle::Walk::Continue)
    })
    .unwrap();
    lines
}

fn unpack_items(items: &[Item], strip: usize) -> Result<Vec<String>, Error> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let mut writer = TreeWriter::create(&output)?;
    unpack_stream(Path::new("a.tar"), tar_bytes(items).as_slice(), &mut writer, &Strip(strip))?;
    // Nothing may appear beside the output, whatever the archive says.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    Ok(listing(&output))
}

#[test]
fn honest_archives() {
    let items: &[Item] = &[
        (b'g', "pax_global_header", "", 0, b"10 a=bcde\n"),
        (b'5', "./top/", "", 0o755, b""),
        (b'0', "./top/a", "", 0o644, b"A"),
        (b'0', "top/run", "", 0o4755, b"R"),
        (b'1', "top/same", "top/run", 0o755, b""),
        (b'2', "top/link", "/outside/../x", 0o777, b""),
        (b'0', "top/deep/er/b", "", 0o600, b"B"),
        (b'0', "top/a", "", 0o644, b"last wins"),
        (0, "top/old/", "", 0o755, b""),
        (b'x', "ignored", "", 0, b"20 path=top/\xc3\xa4 long\n"),
        (b'0', "top/short", "", 0o644, b"L"),
        (b'L', "././@LongLink", "", 0, b"top/longer\0"),
        (b'0', "top/l", "", 0o644, b"G"),
        (b'0', "alone", "", 0o644, b"stripped away"),
    ];
    let expected = [
        "a = last wins",
        "deep/",
        "deep/er/",
        "deep/er/b = B",
        "link -> /outside/../x",
        "longer = G",
        "old/",
        "run* = R",
        "same* = R",
        "ä long = L",
    ];
    assert_eq!(unpack_items(items, 1).unwrap(), expected);
    assert!(unpack_items(items, 0).unwrap().contains(&"alone = stripped away".to_owned()));
}

#[test]
fn malicious_archives_are_refused() {
    let cases: &[(&str, &[Item], &str)] = &[
        ("parent", &[(b'0', "../x", "", 0o644, b"x")], "`..`"),
        ("parent inside", &[(b'0', "a/../../x", "", 0o644, b"x")], "`..`"),
        ("absolute", &[(b'0', "/tmp/x", "", 0o644, b"x")], "absolute"),
        ("through a link", &[(b'2', "d", "..", 0o777, b""), (b'0', "d/x", "", 0o644, b"x")], "link"),
        ("folder over a link", &[(b'2', "d", "..", 0o777, b""), (b'5', "d", "", 0o755, b"")], "folder"),
        (
            "through a deep link",
            &[(b'2', "a/d", "../..", 0o777, b""), (b'0', "a/d/x/y", "", 0o644, b"x")],
            "link",
        ),
        ("hard link out", &[(b'1', "h", "../../etc/passwd", 0o644, b"")], "`..`"),
        ("hard link absolute", &[(b'1', "h", "/etc/passwd", 0o644, b"")], "absolute"),
        (
            "hard link through a link",
            &[(b'2', "d", "/etc", 0o777, b""), (b'1', "h", "d/passwd", 0o644, b"")],
            "link",
        ),
        ("device", &[(b'3', "dev", "", 0o666, b"")], "device"),
        ("pipe", &[(b'6', "pipe", "", 0o666, b"")], "device or a pipe"),
        ("sparse", &[(b'S', "s", "", 0o644, b"")], "not supported"),
        (
            "pax sparse",
            &[(b'x', "p", "", 0, b"22 GNU.sparse.major=1\n"), (b'0', "s", "", 0o644, b"")],
            "sparse",
        ),
        ("pax path out", &[(b'x', "p", "", 0, b"13 path=../x\n"), (b'0', "s", "", 0o644, b"")], "`..`"),
        ("pax damaged", &[(b'x', "p", "", 0, b"99 path=../x\n"), (b'0', "s", "", 0o644, b"")], "damaged"),
        ("file over a full folder", &[(b'0', "d/x", "", 0o644, b"x"), (b'0', "d", "", 0o644, b"x")], "d"),
        ("link without target", &[(b'2', "l", "", 0o777, b"")], "target"),
    ];
    for (name, items, expected) in cases {
        let error = unpack_items(items, 0).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(error.contains("hint:"), "{name}: {error}");
    }
    let deep = "d/".repeat(limits_depth() + 1) + "x";
    let long = format!("{} path={deep}\n", deep.len() + 10);
    let items: &[Item] = &[(b'x', "p", "", 0, long.as_bytes()), (b'0', "s", "", 0o644, b"")];
    assert!(unpack_items(items, 0).unwrap_err().to_string().contains("deeper"));
}

fn limits_depth() -> usize {
    crate::limits::ARCHIVE_DEPTH_MAX
}

fn compress(kind: &str, bytes: &[u8]) -> Vec<u8> {
    match kind {
        "gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "xz" => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "zst" => zstd::encode_all(bytes, 1).unwrap(),
        "bz2" => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        _ => bytes.to_vec(),
    }
}

#[test]
fn every_compression_and_damage_to_it() {
    let contents = vec![b'x'; 100_000];
    let tar = tar_bytes(&[(b'0', "top/a", "", 0o644, b"A"), (b'0', "top/b", "", 0o644, &contents)]);
    for kind in ["gz", "xz", "zst", "bz2", "tar"] {
        let folder = tempfile::tempdir().unwrap();
        let (archive, output) = (folder.path().join("archive"), folder.path().join("out"));
        let bytes = compress(kind, &tar);
        fs::write(&archive, &bytes).unwrap();
        let attributes = json!({ "formatVersion": 1, "src": archive });
        unpack(&attributes, &output).unwrap();
        assert_eq!(fs::read(output.join("b")).unwrap(), contents, "{kind}");
        fs::write(&archive, &bytes[..bytes.len() * 2 / 3]).unwrap();
        let error = unpack(&attributes, &folder.path().join("cut")).expect_err(kind).to_string();
        assert!(error.contains("hint:"), "{kind}: {error}");
    }
}

#[test]
fn attributes_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (json!({ "src": "/x" }), "formatVersion is missing"),
        (json!({ "formatVersion": 2, "src": "/x" }), "formatVersion is 2"),
        (json!({ "formatVersion": 1 }), "missing field `src`"),
        (json!({ "formatVersion": 1, "src": "/absent/file" }), "/absent/file"),
    ];
    for (number, (attributes, expected)) in cases.into_iter().enumerate() {
        let error = unpack(&attributes, &folder.path().join(number.to_string())).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn deb_bytes(items: &[Item], kind: &str) -> Vec<u8> {
    let data = compress(kind, &tar_bytes(items));
    let control = compress("gz", &tar_bytes(&[(b'0', "./postinst", "", 0o755, b"#!/bin/sh")]));
    let name = if kind == "tar" { "data.tar".to_owned() } else { format!("data.tar.{kind}") };
    ar::tests::write(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &control), (&name, &data)])
}

#[test]
fn packages_are_merged() {
    let items: &[Item] = &[
        (b'5', "./", "", 0o755, b""),
        (b'5', "./bin/", "", 0o755, b""),
        (b'0', "./bin/su", "", 0o4755, b"su"),
        (b'2', "./bin/sh", "su", 0o777, b""),
        (b'1', "./bin/ln", "./bin/su", 0o755, b""),
        (b'2', "./lib/x/l.so", "../../usr/lib/l.so.1", 0o777, b""),
        (b'0', "./usr/bin/env", "", 0o755, b"env"),
        (b'2', "./lib64", "usr/lib64", 0o777, b""),
    ];
    for kind in ["xz", "zst", "gz", "tar"] {
        let folder = tempfile::tempdir().unwrap();
        let (package, output) = (folder.path().join("a.deb"), folder.path().join("out"));
        fs::write(&package, deb_bytes(items, kind)).unwrap();
        deb::unpack_deb(&json!({ "formatVersion": 1, "src": package }), &output).unwrap();
        let expected = [
            "lib64 -> usr/lib64",
            "usr/",
            "usr/bin/",
            "usr/bin/env* = env",
            "usr/bin/ln* = su",
            "usr/bin/sh -> su",
            "usr/bin/su* = su",
            "usr/lib/",
            "usr/lib/x/",
            "usr/lib/x/l.so -> ../../../usr/lib/l.so.1",
        ];
        assert_eq!(listing(&output), expected, "{kind}");
    }
}

#[test]
fn wrong_packages_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tar = tar_bytes(&[]);
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("empty", Vec::new(), "too short"),
        ("tar", tar.clone(), "no ar archive"),
        ("version", ar::tests::write(&[("debian-binary", b"3.0\n"), ("data.tar", &tar)]), "format 2"),
        ("order", ar::tests::write(&[("data.tar", &tar), ("debian-binary", b"2.0\n")]), "format 2"),
        ("no data", ar::tests::write(&[("debian-binary", b"2.0\n")]), "no data archive"),
    ];
    for (name, bytes, expected) in cases {
        let package = folder.path().join(format!("{name}.deb"));
        fs::write(&package, bytes).unwrap();
        let output = folder.path().join(name);
        let error =
            deb::unpack_deb(&json!({ "formatVersion": 1, "src": package }), &output).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("hint:"), "{name}: {error}");
    }
}

#[test]
fn trees_from_entries() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = folder.path().join("inputs");
    fs::create_dir_all(inputs.join("sub")).unwrap();
    fs::write(inputs.join("run"), "R").unwrap();
    fs::set_permissions(inputs.join("run"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::write(inputs.join("sub/x"), "X").unwrap();
    symlink("x", inputs.join("sub/l")).unwrap();
    let entries = json!([
        { "path": "etc/hosts", "type": "file", "text": "127.0.0.1\n" },
        { "path": "/bin/run", "type": "file", "source": inputs.join("run") },
        { "path": "bin/text", "type": "file", "text": "#!", "executable": true },
        { "path": "bin/plain", "type": "file", "source": inputs.join("run"), "executable": false },
        { "path": "l", "type": "symlink", "target": "/nix/store/x" },
        { "path": "empty", "type": "directory" },
        { "path": "copy", "type": "directory", "source": inputs },
    ]);
    let output = folder.path().join("out");
    tree::tree(&json!({ "formatVersion": 1, "entries": entries }), &output).unwrap();
    let expected = [
        "bin/",
        "bin/plain = R",
        "bin/run* = R",
        "bin/text* = #!",
        "copy/",
        "copy/run* = R",
        "copy/sub/",
        "copy/sub/l -> x",
        "copy/sub/x = X",
        "empty/",
        "etc/",
        "etc/hosts = 127.0.0.1\n",
        "l -> /nix/store/x",
    ];
    assert_eq!(listing(&output), expected);
    let wrong = [
        (json!([{ "path": "../x", "type": "file", "text": "" }]), "`..`"),
        (json!([{ "path": "", "type": "file", "text": "" }]), "empty"),
        (json!([{ "path": "x", "type": "file" }]), "`text` or `source`"),
        (json!([{ "path": "x", "type": "file", "text": "", "target": "y" }]), "`text` or `source`"),
        (json!([{ "path": "x", "type": "symlink", "text": "" }]), "`target`"),
        (
            json!([{ "path": "x", "type": "file", "text": "" }, { "path": "./x", "type": "directory" }]),
            "twice",
        ),
        (
            json!([{ "path": "x", "type": "symlink", "target": ".." }, { "path": "x/y", "type": "file", "text": "" }]),
            "link",
        ),
        (json!([{ "path": "x", "type": "device" }]), "unknown variant"),
        (json!([{ "path": "x", "type": "file", "source": folder.path() }]), "no file"),
    ];
    for (number, (entries, expected)) in wrong.into_iter().enumerate() {
        let output = folder.path().join(number.to_string());
        let error =
            tree::tree(&json!({ "formatVersion": 1, "entries": entries }), &output).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// A `.crate` file with a manifest and a source file.
fn crate_file(folder: &Path, name: &str, version: &str) -> (PathBuf, String) {
    let manifest = format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\n");
    let (toml, source) = (format!("{name}-{version}/Cargo.toml"), format!("{name}-{version}/src/lib.rs"));
    let items: &[Item] = &[(b'0', &toml, "", 0o644, manifest.as_bytes()), (b'0', &source, "", 0o644, b"")];
    let path = folder.join(format!("{name}-{version}.crate"));
    fs::write(&path, compress("gz", &tar_bytes(items))).unwrap();
    let (hash, _) = crate::fetcher::hash_file(&path, HashAlgorithm::Sha256).unwrap();
    (path, hash.to_hex())
}

#[test]
fn directory_sources() {
    let folder = tempfile::tempdir().unwrap();
    let (src, checksum) = crate_file(folder.path(), "a", "1.0.0");
    let git = folder.path().join("git");
    fs::create_dir_all(git.join("crates/b/src")).unwrap();
    fs::create_dir_all(git.join("crates/b/nested/deep")).unwrap();
    fs::write(
        git.join("Cargo.toml"),
        "[workspace]\nmembers = [\"crates/*\"]\n[workspace.package]\nversion = \"2.0.0\"\n",
    )
    .unwrap();
    fs::write(git.join("crates/b/Cargo.toml"), "[package]\nname = \"b\"\nversion.workspace = true\n")
        .unwrap();
    fs::write(git.join("crates/b/src/lib.rs"), "").unwrap();
    fs::write(git.join("crates/b/nested/Cargo.toml"), "[package]\nname = \"n\"\nversion = \"1.0.0\"\n")
        .unwrap();
    let other = folder.path().join("other");
    for (name, version) in [("a", "1.0.0"), ("c", "3.0.0")] {
        fs::create_dir_all(other.join(name)).unwrap();
        let manifest = format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\n");
        fs::write(other.join(name).join("Cargo.toml"), manifest).unwrap();
        fs::write(
            other.join(name).join(".cargo-checksum.json"),
            "{\"files\":{\"x\":\"y\"},\"package\":\"abc\"}",
        )
        .unwrap();
    }
    let registry = json!({ "name": "a", "version": "1.0.0", "checksum": checksum, "src": src });
    let attributes = json!({
        "formatVersion": 1,
        "crates": [registry, registry],
        "git": [{ "name": "b", "version": "2.0.0", "src": git, "subdirectory": "crates/b" }],
        "merge": [other],
    });
    let output = folder.path().join("out");
    vendor::vendor(&attributes, &output).unwrap();
    let lines = listing(&output).join("\n");
    for expected in [
        format!("a-1.0.0/.cargo-checksum.json = {{\"files\":{{}},\"package\":\"{checksum}\"}}"),
        "b-2.0.0/.cargo-checksum.json = {\"files\":{},\"package\":null}".to_owned(),
        "c-3.0.0/.cargo-checksum.json = {\"files\":{},\"package\":\"abc\"}".to_owned(),
        "version = \"2.0.0\"".to_owned(),
        "a-1.0.0/src/lib.rs = ".to_owned(),
    ] {
        assert!(lines.contains(&expected), "{expected}\nin\n{lines}");
    }
    assert!(!lines.contains("nested"), "{lines}");
    let wrong = [
        (
            json!({ "crates": [{ "name": "../a", "version": "1.0.0", "checksum": checksum, "src": src }] }),
            "no crate's name",
        ),
        (
            json!({ "crates": [{ "name": "a", "version": "1.0.0", "checksum": "x", "src": src }] }),
            "no SHA-256",
        ),
        (json!({ "git": [{ "name": "b", "version": "2.0.0", "src": git, "subdirectory": "../x" }] }), "`..`"),
        (
            json!({ "git": [{ "name": "b", "version": "2.0.0", "src": git, "subdirectory": "crates" }] }),
            "not there",
        ),
        (
            json!({ "crates": [registry], "git": [{ "name": "a", "version": "1.0.0", "src": git }] }),
            "two sources",
        ),
    ];
    for (number, (mut attributes, expected)) in wrong.into_iter().enumerate() {
        attributes["formatVersion"] = json!(1);
        let error =
            vendor::vendor(&attributes, &folder.path().join(number.to_string())).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

proptest! {
    /// Whatever bytes a tar has, unpacking ends, writes nothing outside and never panics.
    #[test]
    fn damaged_tars_stay_inside(
        names in proptest::collection::vec("(\\.\\./|/|\\./|[ab]/){0,3}[abc]", 1..6),
        kinds in proptest::collection::vec(prop::sample::select(b"0125xLKg367S".to_vec()), 6),
        links in proptest::collection::vec("(\\.\\./|/)?[abc]", 6),
        damage in proptest::collection::vec((0..4096usize, any::<u8>()), 0..4),
    ) {
        let items: Vec<Item> = names.iter().enumerate()
            .map(|(number, name)| (kinds[number], name.as_str(), links[number].as_str(), 0o644, b"12 path=../a\n".as_slice()))
            .collect();
        let mut bytes = tar_bytes(&items);
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("in/out");
        fs::create_dir(folder.path().join("in")).unwrap();
        let mut writer = TreeWriter::create(&output).unwrap();
        let _ = unpack_stream(Path::new("x"), bytes.as_slice(), &mut writer, &Strip(0));
        prop_assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        prop_assert_eq!(fs::read_dir(folder.path().join("in")).unwrap().count(), 1);
    }

    #[test]
    fn extended_headers_never_panic(bytes in "([0-9]{0,2} ?[a-z=]{0,9}\n?){0,4}") {
        if let Some(records) = pax_records(bytes.as_bytes()) {
            let total: usize = records.iter().map(|(key, value)| key.len() + value.len()).sum();
            prop_assert!(total <= bytes.len());
        }
    }
}
