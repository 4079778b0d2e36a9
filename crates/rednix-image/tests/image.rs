//! Whole images: what goes in comes out, twice the same, and what is impossible is refused with a reason.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rednix_image::builtin;
use rednix_image::manifest::{Manifest, Record};
use rednix_image::verify::{verify, verify_folder};
use serde_json::{Value, json};

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Scene { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn image(&self, name: &str, attributes: &Value) -> Result<Manifest, String> {
        let output = self.path(name);
        builtin::image(attributes, &output).map_err(|error| error.to_string())?;
        verify_folder(&output).map_err(|error| error.to_string())?;
        Ok(serde_json::from_slice(&fs::read(output.join("manifest.json")).unwrap()).unwrap())
    }

    fn refusal(&self, attributes: &Value) -> String {
        self.image("refused", attributes).expect_err("the image must be refused")
    }
}

fn record<'a>(manifest: &'a Manifest, path: &str) -> &'a Record {
    manifest
        .entries
        .iter()
        .find(|record| record.path == path)
        .unwrap_or_else(|| panic!("no `{path}` in the image"))
}

fn shape(manifest: &Manifest, path: &str) -> (String, u32, u32) {
    let record = record(manifest, path);
    (record.mode.clone(), record.uid, record.gid)
}

/// A two-package system with loaders, users, links and files of every size class of RedoxFS.
fn full(scene: &Scene) -> Value {
    let noise = |length: usize| -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect()
    };
    scene.file("one/usr/lib/boot/kernel", noise(1_100_000));
    scene.file("one/usr/bin/tool", noise(3967));
    fs::set_permissions(scene.path("one/usr/bin/tool"), fs::Permissions::from_mode(0o555)).unwrap();
    scene.file("one/usr/bin/edge", noise(3968));
    scene.file("one/usr/share/empty", b"");
    scene.file("one/usr/share/zeros", vec![0; 300_000]);
    scene.file("one/usr/share/big", noise(40 << 20));
    scene.file("two/usr/bin/tool", b"the second tool");
    scene.file("two/bin/through-the-link", b"#!");
    symlink("../lib/boot/kernel", scene.path("two/usr/bin/kernel")).unwrap();
    fs::create_dir_all(scene.path("two/var/empty")).unwrap();
    for number in 0..600 {
        scene.file(&format!("two/usr/share/many/file-{number}"), format!("number {number}"));
    }
    scene.file("loader/usr/lib/boot/bootloader.efi", noise(180_000));
    let mut bios = noise(100_000);
    bios[512..17408].fill(0);
    scene.file("loader/usr/lib/boot/bootloader.bios", bios);
    scene.file("initfs", noise(5000));
    json!({
        "formatVersion": 2,
        "name": "full",
        "configName": "full \"system\"",
        "config": {
            "general": { "filesystem_size": 128, "prompt": false, "unknown": 1 },
            "files": [
                { "path": "/bin", "data": "usr/bin", "symlink": true },
                { "path": "/usr/bin/tool", "data": "configured" },
                { "path": "/etc/hostname", "data": "redox\n", "postinstall": true },
                { "path": "/etc/hostname", "data": "more\n", "postinstall": true, "append": true },
                { "path": "/var/tmp", "data": "", "directory": true, "mode": 0o1777 },
                { "path": "/srv/data/x", "data": "", "uid": 7, "gid": 8, "mode": 0o600 },
                { "path": "/srv", "data": "", "directory": true, "uid": 9, "recursive_chown": true, "postinstall": true },
                { "path": "/etc/skel/.profile", "data": "skeleton" },
            ],
            "users": { "root": { "password": "password", "uid": 0, "gid": 0, "home": "/root" }, "user": { "password": "" } },
            "groups": { "sudo": { "gid": 1, "members": ["user"] } },
        },
        "packages": [
            { "name": "one", "path": scene.path("one") },
            { "name": "two", "path": scene.path("two") },
        ],
        "loader": scene.path("loader"),
        "initfs": scene.path("initfs"),
    })
}

#[test]
fn a_full_system_is_written_and_read_back() {
    let scene = Scene::new();
    let manifest = scene.image("image", &full(&scene)).unwrap();
    let file = ("100644".to_owned(), 0, 0);
    assert_eq!(shape(&manifest, "usr/bin/tool"), file);
    assert_eq!(shape(&manifest, ""), ("40755".into(), 0, 0));
    assert_eq!(shape(&manifest, "var/tmp"), ("41777".into(), 0, 0));
    assert_eq!(shape(&manifest, "srv"), ("40755".into(), 9, 0));
    assert_eq!(shape(&manifest, "srv/data/x"), ("100600".into(), 9, 8));
    assert_eq!(shape(&manifest, "home/user"), ("40700".into(), 1000, 1000));
    assert_eq!(shape(&manifest, "home/user/.profile"), ("100600".into(), 1000, 1000));
    assert_eq!(shape(&manifest, "home/user/.local/share/Trash/info"), ("40700".into(), 1000, 1000));
    assert_eq!(shape(&manifest, "root"), ("40700".into(), 0, 0));
    assert_eq!(shape(&manifest, "etc/shadow"), ("100600".into(), 0, 0));
    assert_eq!(record(&manifest, "etc/hostname").size, 11);
    assert_eq!(record(&manifest, "usr/bin/kernel").target.as_deref(), Some("../lib/boot/kernel"));
    assert_eq!(record(&manifest, "usr/lib/boot/initfs").size, 5000);
    record(&manifest, "usr/bin/through-the-link");
    record(&manifest, "var/empty");
    let lost: Vec<_> =
        manifest.collisions.iter().map(|c| (c.path.as_str(), c.winner.as_str(), c.loser.as_str())).collect();
    assert_eq!(
        lost,
        [("usr/bin/tool", "package one", "configuration"), ("usr/bin/tool", "package two", "package one")]
    );
    let places: Vec<_> =
        manifest.partitions.iter().map(|p| (p.name.as_str(), p.first_sector, p.last_sector)).collect();
    assert_eq!(places, [("BIOS", 34, 2047), ("EFI", 2048, 4095), ("REDOX", 4096, 127 * 2048 - 1)]);
    assert_eq!(manifest.filesystem.offset, 2 << 20);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (left, right) = (Scene::new(), Scene::new());
    left.image("image", &full(&left)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    right.image("image", &full(&right)).unwrap();
    for name in ["image/disk.img", "image/manifest.json"] {
        assert!(fs::read(left.path(name)).unwrap() == fs::read(right.path(name)).unwrap(), "{name} differs");
    }
}

#[test]
fn another_input_gives_another_identity() {
    let scene = Scene::new();
    let attributes = |data: &str| json!({ "formatVersion": 2, "name": "x", "config": { "files": [{ "path": "a", "data": data }] } });
    let one = scene.image("one", &attributes("1")).unwrap();
    let two = scene.image("two", &attributes("2")).unwrap();
    assert_ne!(one.filesystem.uuid, two.filesystem.uuid);
    assert_ne!(one.disk_guid, two.disk_guid);
    assert_eq!(one.disk_size, 32 << 20, "without a size, the least");
}

#[test]
fn the_image_is_sparse() {
    use std::os::unix::fs::MetadataExt;
    let scene = Scene::new();
    let attributes =
        json!({ "formatVersion": 2, "name": "x", "config": { "general": { "filesystem_size": 1024 } } });
    scene.image("image", &attributes).unwrap();
    let metadata = fs::metadata(scene.path("image/disk.img")).unwrap();
    assert_eq!(metadata.len(), 1 << 30);
    assert!(metadata.blocks() * 512 < 4 << 20, "{} bytes on disk", metadata.blocks() * 512);
}

#[test]
fn every_header_of_the_ring_carries_the_derived_uuid() {
    let scene = Scene::new();
    let manifest = scene.image("image", &full(&scene)).unwrap();
    let disk = fs::File::open(scene.path("image/disk.img")).unwrap();
    let wanted: String = manifest.filesystem.uuid.replace('-', "");
    let mut headers = 0;
    for slot in 0..256 {
        let mut block = [0; 4096];
        disk.read_exact_at(&mut block, manifest.filesystem.offset + slot * 4096).unwrap();
        if &block[..8] == b"RedoxFS\0" {
            headers += 1;
            let uuid: String = block[16..32].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(uuid, wanted, "slot {slot}");
        } else {
            assert_ne!(slot, 0, "slot 0 must be valid for loaders");
        }
    }
    assert!(headers > 2);
}

#[test]
fn the_manifest_inside_lists_files_and_links() {
    let scene = Scene::new();
    let attributes = json!({ "formatVersion": 2, "name": "x", "config": { "files": [
        { "path": "/b/file", "data": "abc", "mode": 0o755 }, { "path": "/a", "data": "b/file", "symlink": true },
    ] } });
    let manifest = scene.image("image", &attributes).unwrap();
    let own = manifest.entries.iter().filter(|record| record.path != "usr/share/rednix/manifest");
    let lines: Vec<String> = own
        .filter_map(|record| match (&record.sha256, &record.target) {
            (Some(hash), _) => Some(format!("{hash} {} {} {}", record.size, record.mode, record.path)),
            (_, Some(target)) => Some(format!("link {} 120777 {} -> {target}", record.size, record.path)),
            _ => None,
        })
        .collect();
    assert_eq!(lines[0], "link 6 120777 a -> b/file");
    assert_eq!(lines[1], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 3 100755 b/file");
    let expected = lines.join("\n") + "\n";
    assert_eq!(record(&manifest, "usr/share/rednix/manifest").size, expected.len() as u64);
    use sha2::Digest;
    let hash: String = sha2::Sha256::digest(expected).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(record(&manifest, "usr/share/rednix/manifest").sha256, Some(hash));
}

#[test]
fn without_partitions_the_disk_is_the_file_system() {
    let scene = Scene::new();
    let attributes = json!({ "formatVersion": 2, "name": "x",
        "config": { "general": { "skip_partitions": true, "filesystem_size": 40 }, "files": [{ "path": "a", "data": "1" }] } });
    let manifest = scene.image("image", &attributes).unwrap();
    assert!(manifest.partitions.is_empty());
    assert_eq!((manifest.filesystem.offset, manifest.filesystem.size), (0, 40 << 20));
    let disk = fs::read(scene.path("image/disk.img")).unwrap();
    assert_eq!(&disk[..8], b"RedoxFS\0");
}

#[test]
fn a_larger_efi_partition_moves_the_file_system() {
    let scene = Scene::new();
    scene.file("loader/boot/bootloader.efi", vec![1; 3 << 20]);
    let attributes = json!({ "formatVersion": 2, "name": "x", "loader": scene.path("loader"),
        "config": { "general": { "efi_partition_size": 5, "filesystem_size": 64 } } });
    let manifest = scene.image("image", &attributes).unwrap();
    assert_eq!(manifest.filesystem.offset, 6 << 20);
}

#[test]
fn impossible_images_are_refused_with_a_reason() {
    let scene = Scene::new();
    let package = |name: &str| json!({ "name": name, "path": scene.path(name) });
    scene.file("flat/a", b"file");
    scene.file("deep/a/b", b"below");
    scene.file("bad-bios/boot/bootloader.bios", vec![1; 20_000]);
    scene.file("large-uefi/boot/bootloader.efi", vec![1; 2_000_000]);
    scene.file(
        "large/file",
        (0..40_000_000u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect::<Vec<u8>>(),
    );
    let base = |more: Value| {
        let mut attributes = json!({ "formatVersion": 2, "name": "x" });
        attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        attributes
    };
    let cases = [
        (base(json!({ "formatVersion": 1 })), "formatVersion"),
        (base(json!({ "packages": 7 })), "builtin:rednix-image: attributes"),
        (base(json!({ "config": { "general": { "filesystem_size": 31 } } })), "the least is 32"),
        (
            base(json!({ "config": { "general": { "filesystem_size": 33, "efi_partition_size": 40 } } })),
            "cannot be made",
        ),
        (base(json!({ "config": { "general": { "encrypt_disk": "x" } } })), "encrypt_disk"),
        (base(json!({ "config": { "files": [{ "path": "/a/../b", "data": "" }] } })), "no file name"),
        (
            base(json!({ "config": { "files": [{ "path": "/a", "data": "", "mode": 0o10000 }] } })),
            "bits beyond",
        ),
        (
            base(
                json!({ "config": { "files": [{ "path": "/a", "data": "" }, { "path": "/a", "data": "b", "symlink": true }] } }),
            ),
            "configured symlink",
        ),
        (
            base(
                json!({ "config": { "files": [{ "path": "/a", "data": "a", "symlink": true }, { "path": "/a/b", "data": "" }] } }),
            ),
            "too many symlinks",
        ),
        (base(json!({ "config": { "users": { "a;b": {} } } })), "no name for a user"),
        (
            base(json!({ "packages": [{ "name": "a-flat", "path": scene.path("flat") }, package("deep")] })),
            "package deep needs a directory",
        ),
        (base(json!({ "packages": [package("deep"), package("flat")] })), "already has a directory"),
        (base(json!({ "packages": [package("absent")] })), "absent"),
        (base(json!({ "loader": scene.path("bad-bios") })), "no room"),
        (base(json!({ "loader": scene.path("large-uefi") })), "efi_partition_size"),
        (
            base(
                json!({ "packages": [package("large")], "config": { "general": { "filesystem_size": 100 } } }),
            ),
            "the contents do not fit: `general.filesystem_size` is 100 MiB",
        ),
    ];
    for (attributes, expected) in cases {
        let message = scene.refusal(&attributes);
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
}

#[test]
fn the_size_a_refusal_names_is_enough() {
    let scene = Scene::new();
    let noise: Vec<u8> =
        (0..15_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    scene.file("large/file", noise);
    let attributes = |size: u64| {
        json!({ "formatVersion": 2, "name": "x", "config": { "general": { "filesystem_size": size } },
        "packages": [{ "name": "large", "path": scene.path("large") }] })
    };
    let message = scene.refusal(&attributes(40));
    let named: u64 = message.rsplit("to ").next().unwrap().split(' ').next().unwrap().parse().unwrap();
    scene.image("image", &attributes(named)).unwrap();
}

#[test]
fn damage_anywhere_is_found() {
    let scene = Scene::new();
    scene.file("loader/boot/bootloader.efi", b"a loader");
    let mut bios = vec![0; 20_000];
    bios[..4].copy_from_slice(b"BOOT");
    bios[18_000..18_006].copy_from_slice(b"STAGE2");
    scene.file("loader/boot/bootloader.bios", bios);
    let attributes = json!({ "formatVersion": 2, "name": "x", "loader": scene.path("loader"),
        "config": { "files": [{ "path": "/a", "data": "contents of a file" }] } });
    let manifest = scene.image("image", &attributes).unwrap();
    let disk = scene.path("image/disk.img");
    let original = fs::read(&disk).unwrap();
    let find = |needle: &[u8]| original.windows(needle.len()).rposition(|window| window == needle).unwrap();
    for (place, what) in [
        (find(b"contents of a file"), "file"),
        (find(b"a loader"), "loader"),
        (520, "table"),
        (0, "boot code"),
        (find(b"STAGE2"), "second stage"),
    ] {
        let mut damaged = original.clone();
        damaged[place] ^= 0x20;
        fs::write(&disk, &damaged).unwrap();
        assert!(verify(&disk, &manifest).is_err(), "{what}");
    }
    fs::write(&disk, &original).unwrap();
    let mut other = manifest.clone();
    other.entries.retain(|record| record.path != "a");
    let message = verify(&disk, &other).unwrap_err().to_string();
    assert!(message.contains("/a: not in the manifest"), "{message}");
    other = manifest.clone();
    other.entries.iter_mut().for_each(|record| record.uid += 1);
    assert!(verify(&disk, &other).unwrap_err().to_string().contains("(0, 0) instead of (1, 0)"));
}

#[test]
fn initfs_from_attributes() {
    let scene = Scene::new();
    scene.file("tree/bin/init", b"init");
    fs::set_permissions(scene.path("tree/bin/init"), fs::Permissions::from_mode(0o555)).unwrap();
    symlink("init", scene.path("tree/bin/alias")).unwrap();
    let attributes = json!({ "formatVersion": 1, "format": "old", "bootstrap": null, "entries": [
        { "path": "/", "source": scene.path("tree") },
        { "path": "etc/text", "text": "hello" },
        { "path": "lib", "target": "/bin" },
        { "path": "empty" },
    ] });
    let read = |output: &Path| {
        builtin::initfs(&attributes, output).unwrap();
        fs::read(output).unwrap()
    };
    let image = read(&scene.path("one"));
    assert_eq!(image, read(&scene.path("two")));
    let (header, entries) = rednix_image::initfs::parse(&image).unwrap();
    assert_eq!(header.format, rednix_image::initfs::Format::Old);
    let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["bin", "bin/alias", "bin/init", "empty", "etc", "etc/text", "lib"]);
    let twice = json!({ "formatVersion": 1, "entries": [{ "path": "a", "text": "", "target": "b" }] });
    assert!(builtin::initfs(&twice, &scene.path("three")).unwrap_err().to_string().contains("more than one"));
}

/// A package's initfs, in the format and with the tables of early 2026.
fn old_initfs(scene: &Scene) -> Vec<u8> {
    let attributes = json!({ "formatVersion": 1, "format": "old", "entries": [
        { "path": "etc/pcid/initfs.toml", "text": "[[drivers]]\nname = \"AHCI\"\n" },
        { "path": "etc/init_drivers.rc", "text": "pcid-spawner /scheme/initfs/etc/pcid/initfs.toml" },
        { "path": "lib/drivers/ahcid", "text": "program", "executable": true },
    ] });
    builtin::initfs(&attributes, &scene.path("old-initfs")).unwrap();
    fs::read(scene.path("old-initfs")).unwrap()
}

#[test]
fn additions_change_the_initfs_of_a_package() {
    let scene = Scene::new();
    let package = scene.file("base/usr/lib/boot/initfs", old_initfs(&scene));
    let before = fs::read(&package).unwrap();
    let driver = scene.file("drivers/virtiod", b"the driver");
    let attributes = |additions: Value, version: u64| {
        json!({
            "formatVersion": version,
            "name": "s",
            "config": { "general": { "filesystem_size": 40, "skip_partitions": true } },
            "packages": [{ "name": "base", "path": scene.path("base") }],
            "initfsAdditions": additions,
        })
    };
    let additions = json!([
        { "paths": ["lib/drivers/virtiod"], "source": driver, "executable": true },
        { "paths": ["lib/pcid.d/initfs.toml", "etc/pcid/initfs.toml"], "append": "more\n" },
        { "paths": ["etc/init_drivers.rc"], "append": "notify virtiod\n", "optional": true },
        { "paths": ["etc/none"], "append": "lost", "optional": true },
    ]);
    let written =
        rednix_image::builtin::image(&attributes(additions.clone(), 3), &scene.path("one")).unwrap();
    assert!(
        written.notes.iter().any(|note| note.contains("added `lib/drivers/virtiod`")),
        "{:?}",
        written.notes
    );
    let manifest = scene.image("two", &attributes(additions, 3)).unwrap();
    let disk = |name: &str| fs::read(scene.path(name).join("disk.img")).unwrap();
    assert_eq!(disk("one"), disk("two"), "the same additions give the same bytes");
    assert_eq!(fs::read(&package).unwrap(), before, "the package is not touched");
    let plain = scene.image("plain", &attributes(json!([]), 2)).unwrap();
    let hash = |manifest: &Manifest| record(manifest, "usr/lib/boot/initfs").sha256.clone();
    assert_ne!(hash(&manifest), hash(&plain));
    // What is in the image is what `edit` makes of it.
    let (wanted, _) = rednix_image::initfs::edit(
        &before,
        &[
            rednix_image::initfs::Change::Add {
                path: "lib/drivers/virtiod".into(),
                data: b"the driver".to_vec(),
                executable: true,
            },
            rednix_image::initfs::Change::Append {
                paths: vec!["etc/pcid/initfs.toml".into()],
                text: "more\n".into(),
                optional: false,
            },
            rednix_image::initfs::Change::Append {
                paths: vec!["etc/init_drivers.rc".into()],
                text: "notify virtiod\n".into(),
                optional: false,
            },
        ],
    )
    .unwrap();
    assert_eq!(record(&manifest, "usr/lib/boot/initfs").size, wanted.len() as u64);

    let cases = [
        (json!([{ "paths": ["etc/none"], "append": "x" }]), "no `etc/none` to add to"),
        (json!([{ "paths": ["lib/drivers/ahcid"], "text": "x" }]), "another `lib/drivers/ahcid`"),
        (json!([{ "paths": ["a"], "text": "x", "append": "y" }]), "needs one of"),
        (json!([{ "paths": [], "text": "x" }]), "has no path"),
        (json!([{ "paths": ["a"], "txt": "x" }]), "unknown field"),
    ];
    for (additions, expected) in cases {
        let message = scene.refusal(&attributes(additions, 3));
        assert!(message.contains(expected), "{message}");
    }
    let mut without = attributes(json!([{ "paths": ["a"], "text": "x" }]), 3);
    without["packages"] = json!([]);
    let message = scene.refusal(&without);
    assert!(message.contains("no package brings an initfs") && message.contains("hint:"), "{message}");
}

mod random_trees {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Kind {
        File(usize, bool),
        Directory,
        Link(&'static str),
    }

    fn tree() -> impl Strategy<Value = Vec<(String, Kind)>> {
        let name =
            prop::sample::select(vec!["a", "b", "a-b", "a.b", "é", "opt", "bin", "long name with spaces"]);
        let path = prop::collection::vec(name, 1..5).prop_map(|names| names.join("/"));
        // Sizes around the borders of RedoxFS: inline data, block, record.
        let size =
            prop::sample::select(vec![0, 1, 3967, 3968, 4096, 4097, 131_071, 131_072, 131_073, 700_000]);
        let kind = prop_oneof![
            (size, any::<bool>()).prop_map(|(size, executable)| Kind::File(size, executable)),
            Just(Kind::Directory),
            prop::sample::select(vec!["a", "../b", "/opt/bin", "nowhere"]).prop_map(Kind::Link),
        ];
        prop::collection::vec((path, kind), 0..30)
    }

    /// Makes what can be made of the list; the first of two that exclude each other wins.
    fn make(root: &Path, list: &[(String, Kind)]) -> usize {
        let mut made = 0;
        fs::create_dir_all(root).unwrap();
        for (path, kind) in list {
            let path = root.join(path);
            let inside = path.parent().unwrap().ancestors().take_while(|folder| *folder != root);
            if inside.clone().any(|folder| folder.is_symlink()) || fs::symlink_metadata(&path).is_ok() {
                continue;
            }
            if fs::create_dir_all(path.parent().unwrap()).is_err() {
                continue;
            }
            match kind {
                Kind::File(size, executable) => {
                    let bytes: Vec<u8> = (0..*size).map(|n| (n * n / 7) as u8).collect();
                    fs::write(&path, bytes).unwrap();
                    let mode = if *executable { 0o555 } else { 0o444 };
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                }
                Kind::Directory => fs::create_dir(&path).unwrap(),
                Kind::Link(target) => symlink(target, &path).unwrap(),
            }
            made += 1;
        }
        made
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever a package holds is in the image, and `verify_folder` (inside `image`) reads it all back.
        #[test]
        fn are_written_and_read_back(list in tree(), whole_disk: bool) {
            let scene = Scene::new();
            let made = make(&scene.path("package"), &list);
            let attributes = json!({ "formatVersion": 2, "name": "x", "config": { "general": { "skip_partitions": whole_disk } },
                "packages": [{ "name": "package", "path": scene.path("package") }] });
            let manifest = scene.image("image", &attributes).unwrap();
            prop_assert!(manifest.entries.len() >= made);
            let disk = fs::read(scene.path("image/disk.img")).unwrap();
            scene.image("again", &attributes).unwrap();
            prop_assert!(disk == fs::read(scene.path("again/disk.img")).unwrap());
        }
    }
}
