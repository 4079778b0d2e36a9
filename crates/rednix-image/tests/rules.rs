//! Upstream's rules for configurations, each on the smallest image that shows it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use rednix_image::builtin;
use rednix_image::closure::Reason;
use rednix_image::manifest::{Manifest, Record};
use rednix_image::pkgar::parse_head;
use rednix_image::state::{REMOTE, public_knowledge_key};
use rednix_image::verify::{Image, verify_folder};
use serde_json::{Value, json};

struct Scene {
    folder: tempfile::TempDir,
    /// Attributes that every image of the scene has.
    more: Value,
}

/// What an image became.
struct Made {
    manifest: Manifest,
    folder: PathBuf,
}

impl Scene {
    fn new() -> Self {
        Scene { folder: tempfile::tempdir().unwrap(), more: json!({}) }
    }

    fn package(&self, name: &str, files: &[(&str, &str)]) -> Value {
        let folder = self.folder.path().join("packages").join(name);
        fs::create_dir_all(&folder).unwrap();
        for (path, text) in files {
            let file = folder.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => symlink(target, file).unwrap(),
                None => fs::write(file, text).unwrap(),
            }
        }
        json!({ "name": name, "path": folder })
    }

    fn attempt(&self, config: &str, packages: Value) -> Result<Made, String> {
        let config: toml::Value = toml::from_str(config).unwrap();
        let mut attributes = json!({
            "formatVersion": 2, "name": "x-image", "configName": "x", "config": config, "packages": packages,
        });
        attributes.as_object_mut().unwrap().extend(self.more.as_object().unwrap().clone());
        let folder = self.folder.path().join("image");
        let _ = fs::remove_dir_all(&folder);
        builtin::image(&attributes, &folder).map_err(|error| error.to_string())?;
        verify_folder(&folder).map_err(|error| error.to_string())?;
        let text = fs::read(folder.join("manifest.json")).unwrap();
        Ok(Made { manifest: serde_json::from_slice(&text).unwrap(), folder })
    }

    fn make(&self, config: &str, packages: Value) -> Made {
        self.attempt(config, packages).unwrap()
    }
}

impl Made {
    fn record(&self, path: &str) -> Option<&Record> {
        self.manifest.entries.iter().find(|record| record.path == path)
    }

    /// `mode uid gid`.
    fn shape(&self, path: &str) -> String {
        let record = self.record(path).unwrap_or_else(|| panic!("no `{path}`"));
        format!("{} {} {}", record.mode, record.uid, record.gid)
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        let mut image = Image::open(&self.folder.join("disk.img"), &self.manifest).unwrap();
        image.read(path).unwrap()
    }

    fn text(&self, path: &str) -> String {
        String::from_utf8(self.bytes(path)).unwrap()
    }
}

#[test]
fn configured_files_packages_configured_files_users() {
    let scene = Scene::new();
    let package =
        scene.package("p", &[("etc/early", "package"), ("etc/late", "package"), ("etc/passwd", "package")]);
    let made = scene.make(
        r#"
        users.root = { password = "", uid = 0, gid = 0, home = "/root" }
        files = [
            { path = "/etc/late", data = "configuration", postinstall = true },
            { path = "/etc/early", data = "configuration" },
            { path = "/etc/twice", data = "1" },
            { path = "/etc/twice", data = "2" },
        ]
    "#,
        json!([package]),
    );
    assert_eq!(made.text("etc/early"), "package");
    assert_eq!(made.text("etc/late"), "configuration");
    assert_eq!(made.text("etc/twice"), "2");
    assert_eq!(made.text("etc/passwd"), "root;0;0;root;/root;/bin/ion\n");
    let warning = &made.manifest.warnings[0];
    assert!(warning.contains("package p replaces `/etc/early` of configuration; `postinstall"), "{warning}");
}

#[test]
fn appending_a_diamond_and_new_files() {
    let scene = Scene::new();
    let made = scene.make(
        r#"
        files = [
            { path = "/a", data = "1" },
            { path = "/a", data = "2", append = true, mode = 0o600 },
            { path = "/a", data = "2", append = true },
            { path = "/new/b", data = "3", append = true },
        ]
    "#,
        json!([]),
    );
    assert_eq!(made.text("a"), "122");
    assert_eq!(made.shape("a"), "100644 0 0", "an entry without a mode sets the default again");
    assert_eq!(made.text("new/b"), "3");
}

#[test]
fn symlinks_directories_modes_and_owners() {
    let scene = Scene::new();
    let made = scene.make(
        r#"
        files = [
            { path = "/bin", data = "usr/bin", symlink = true },
            { path = "/bin", data = "/usr/bin", symlink = true },
            { path = "/bin/x", data = "through the link" },
            { path = "link", data = "bin/y", symlink = true },
            { path = "link", data = "written to what the link names", uid = 3 },
            { path = "/var/tmp/", data = "", directory = true, mode = 0o1777 },
            { path = "/srv/a/b", data = "", mode = 0o4750, uid = 7, gid = 8 },
            { path = "/srv/a/b", data = "again" },
            { path = "/srv", data = "", directory = true, gid = 5, recursive_chown = true },
            { path = "/srv/a", data = "", directory = true, uid = -1, gid = 6 },
        ]
    "#,
        json!([]),
    );
    assert_eq!(made.record("bin").unwrap().target.as_deref(), Some("/usr/bin"));
    assert_eq!(made.text("usr/bin/x"), "through the link");
    assert_eq!(made.text("usr/bin/y"), "written to what the link names");
    assert_eq!(made.shape("usr/bin/y"), "100644 3 0");
    assert_eq!(made.shape("usr/bin"), "40755 0 0");
    assert_eq!(made.shape("var/tmp"), "41777 0 0");
    assert_eq!(made.shape("srv"), "40755 0 5");
    assert_eq!(made.shape("srv/a"), "40755 0 6");
    assert_eq!(made.shape("srv/a/b"), "100644 7 5", "writing again keeps owners, not modes");
    let refused = scene.attempt(
        "files = [{ path = '/a', data = '' }, { path = '/a', data = 'b', symlink = true }]",
        json!([]),
    );
    assert!(refused.err().unwrap().contains("cannot replace the file"));
}

/// What only systems written in Nix can say: a file's bytes from elsewhere, and a password as its hash.
#[test]
fn sources_and_hashes() {
    let scene = Scene::new();
    let source = scene.folder.path().join("source");
    fs::write(&source, b"\0\xff not text").unwrap();
    let config = format!(
        r#"
        files = [{{ path = "/usr/bin/x", source = "{}", mode = 0o755, uid = 3 }}]
        users.root = {{ hashed_password = "$argon2id$v=19$m=8$c2FsdA$aGFzaA", password = "no", uid = 0 }}
    "#,
        source.display()
    );
    let made = scene.make(&config, json!([]));
    assert_eq!(made.bytes("usr/bin/x"), b"\0\xff not text");
    assert_eq!(made.shape("usr/bin/x"), "100755 3 0");
    assert_eq!(made.text("etc/shadow"), "root;$argon2id$v=19$m=8$c2FsdA$aGFzaA\n");
    let written = made.text("filesystem.toml");
    assert!(
        !written.contains("argon2") && !written.contains("source") && written.contains("prompt = true"),
        "{written}"
    );
    let refused = |config: &str| scene.attempt(config, json!([])).err().unwrap();
    let folder = scene.folder.path().display();
    assert!(refused(&format!("files = [{{ path = '/a', source = '{folder}' }}]")).contains("is no file"));
    let append = format!("files = [{{ path = '/a', source = '{}', append = true }}]", source.display());
    assert!(refused(&append).contains("only text can"));
    assert!(refused("users.root = { hashed_password = 'a;b' }").contains("line break"));
}

#[test]
fn the_installed_system_knows_its_configuration_but_no_password() {
    let scene = Scene::new();
    let release = scene.package("p", &[("usr/share/p", "")]);
    let made = scene.make(
        r#"
        general.filesystem_size = 40
        users.root = { password = "open sesame", uid = 0, home = "/root" }
        [[files]]
        path = "/usr/lib/os-release"
        data = "NAME=x\n"
    "#,
        json!([release]),
    );
    let written = made.text("filesystem.toml");
    assert!(written.contains("filesystem_size = 40") && written.contains("prompt = true"), "{written}");
    let disk = fs::read(made.folder.join("disk.img")).unwrap();
    assert!(!disk.windows(11).any(|window| window == b"open sesame"));
    assert!(!fs::read_to_string(made.folder.join("manifest.json")).unwrap().contains("open sesame"));
    let lines: Vec<String> = made.text("usr/lib/os-release").lines().map(str::to_owned).collect();
    assert_eq!(lines[..2], ["NAME=x", "VARIANT=\"x\""]);
    let id = lines[2].strip_prefix("BUILD_ID=\"").and_then(|id| id.strip_suffix('"')).unwrap();
    assert!(id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    // It follows the packages' contents and nothing else.
    let id_of = |made: &Made| made.text("usr/lib/os-release").lines().last().unwrap().to_owned();
    let other = scene.make("files = [{ path = '/z', data = '' }]", json!([scene.package("p", &[])]));
    assert_eq!(id_of(&other), lines[2]);
    let other = scene.make("", json!([scene.package("p", &[("usr/share/p", "changed")])]));
    assert_ne!(id_of(&other), lines[2]);
}

#[test]
fn the_package_manager_finds_what_is_installed() {
    let scene = Scene::new();
    let mut app = scene.package("app", &[("usr/bin/app", "program"), ("usr/bin/alias", "-> app")]);
    app["dependencies"] = json!(["data", "meta"]);
    let data = scene.package("data", &[("usr/share/data", "data")]);
    let mut scene_more = scene;
    scene_more.more = json!({ "listed": ["app"] });
    let made = scene_more
        .make("", json!([app, data, { "name": "meta" }, scene_more.package("unused", &[("u", "")])]));
    let names: Vec<_> = made.manifest.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["app", "data", "meta"]);
    assert_eq!(made.manifest.packages[1].reason, Reason::Declared { by: "app".into() });
    assert!(made.record("u").is_none(), "a candidate nobody needs stays out");

    let state: toml::Table = made.text("etc/pkg/packages.toml").parse().unwrap();
    let key = public_knowledge_key().public();
    let hex: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(state["pubkeys"][REMOTE]["pkey"].as_str(), Some(hex.as_str()));
    assert!(REMOTE.contains(':'), "no server can have this name");
    let installed = &state["installed"];
    assert_eq!(installed["app"]["manual"].as_bool(), Some(true));
    assert_eq!(installed["data"]["manual"].as_bool(), Some(false));
    assert_eq!(installed["data"]["dependents"].as_array().unwrap()[0].as_str(), Some("app"));
    assert_eq!(installed["app"]["dependencies"].as_array().unwrap().len(), 2);
    assert_eq!(installed["meta"]["blake3"].as_str(), Some(""));

    let head = parse_head(&made.bytes("var/lib/packages/app.pkgar_head"), key).unwrap();
    let paths: Vec<_> = head.entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["usr/bin/alias", "usr/bin/app"]);
    assert_eq!(installed["app"]["blake3"].as_str(), Some(head.hash_hex().as_str()));
    assert_eq!(installed["app"]["storage_size"].as_integer(), Some(136 + 2 * 308 + 3 + 7));
    assert!(made.record("var/lib/packages/meta.pkgar_head").is_none());
}

/// Upstream's `pkg` of February 2026 and the present one, and something else of that name.
#[test]
fn both_ages_of_the_package_manager_find_their_heads() {
    let cases = [
        ("reads \0pkg/packages\0", "pkg/packages"),
        ("reads \0var/lib/packages\0", "var/lib/packages"),
        ("moves \0pkg/packages\0 to \0var/lib/packages\0", "var/lib/packages"),
        ("#!/usr/bin/ion", "var/lib/packages"),
    ];
    for (program, folder) in cases {
        let scene = Scene::new();
        let package = scene.package("pkgutils", &[("usr/bin/pkg", program)]);
        let made = scene.make("", json!([package]));
        let heads: Vec<&str> = ["pkg/packages", "var/lib/packages"]
            .into_iter()
            .filter(|folder| made.record(&format!("{folder}/pkgutils.pkgar_head")).is_some())
            .collect();
        assert_eq!(heads, [folder], "{program:?}");
    }
}

#[test]
fn collisions_name_both_packages_and_the_winner() {
    let scene = Scene::new();
    let a = scene
        .package("a", &[("bin/same", "1"), ("bin/1", "a"), ("bin/2", "a"), ("bin/3", "a"), ("bin/4", "a")]);
    let b = scene.package(
        "b",
        &[("bin/same", "1"), ("bin/1", "b"), ("bin/2", "b"), ("bin/3", "-> 2"), ("bin/4", "b")],
    );
    let made = scene.make("", json!([b, a]));
    assert_eq!(
        made.manifest.warnings[0], "package b replaces `/bin/1`, `/bin/2`, `/bin/3` and 1 more of package a",
        "names decide the order, not the list"
    );
    assert_eq!(made.manifest.collisions.len(), 4);
    assert_eq!(made.text("bin/1"), "b");
}

#[test]
fn both_eras_of_loaders_find_their_kernel() {
    for (loader, kernel) in [("boot", "boot"), ("boot", "usr/lib/boot"), ("usr/lib/boot", "boot")] {
        let mut scene = Scene::new();
        let package = scene.package(
            "bootloader",
            &[
                (&format!("{loader}/bootloader.efi"), "loader"),
                (&format!("{loader}/bootloader-live.efi"), "live"),
            ],
        );
        scene.more = json!({ "loader": package["path"], "listed": ["kernel", "base"] });
        let base = scene.package("base", &[(&format!("{kernel}/initfs"), "RedoxFtw and more")]);
        let kernel = scene.package("kernel", &[(&format!("{kernel}/kernel"), "kernel")]);
        for (general, expected) in [("", "loader"), ("general.live_disk = true", "live")] {
            let general = format!("general.write_bootloader = '/somewhere/out.efi'\n{general}");
            let made = scene.make(&general, json!([base, kernel, package]));
            assert_eq!(made.text(&format!("{loader}/kernel")), "kernel");
            assert_eq!(made.text(&format!("{loader}/initfs")), "RedoxFtw and more");
            assert_eq!(fs::read_to_string(made.folder.join("out.efi")).unwrap(), expected);
            assert_eq!(made.manifest.warnings, Vec::<String>::new());
            assert!(made.record(&format!("{loader}/bootloader.efi")).is_none(), "the package was not listed");
        }
    }
}

#[test]
fn an_architecture_with_one_kind_of_loader() {
    let mut bios = vec![0; 20_000];
    bios[..4].copy_from_slice(b"BOOT");
    let text = String::from_utf8(bios.clone()).unwrap();
    // This project's own reads the partition table.
    bios[17_408..17_412].copy_from_slice(b"RdNx");
    let own = String::from_utf8(bios).unwrap();
    let mut scene = Scene::new();
    let package = scene.package("bootloader", &[("usr/lib/boot/bootloader.bios", &text)]);
    let own_package = scene.package("loader", &[("usr/lib/boot/bootloader.bios", &own)]);
    scene.more = json!({ "loader": package["path"], "architecture": "i586" });
    let made = scene.make("", json!([]));
    assert!(made.manifest.bios_loader.is_some() && made.manifest.uefi_loader.is_none());
    assert_eq!(made.manifest.warnings.len(), 2, "no kernel, no initfs: {:?}", made.manifest.warnings);
    let made = scene.make("general.efi_partition_size = 3", json!([]));
    assert!(made.manifest.warnings.iter().any(|line| line.contains("BIOS cannot boot this image")));
    scene.more["loader"] = own_package["path"].clone();
    let made = scene.make("general.efi_partition_size = 3", json!([]));
    assert_eq!(made.manifest.warnings.len(), 2, "{:?}", made.manifest.warnings);
    scene.more["loader"] = package["path"].clone();
    scene.more["bios"] = json!(false);
    assert!(scene.attempt("", json!([])).err().unwrap().contains("bootloader.efi"));
    let made = scene.make("general.skip_partitions = true", json!([]));
    assert!(made.manifest.partitions.is_empty() && made.manifest.bios_loader.is_none());
    scene.more = json!({});
    let made = scene.make("", json!([]));
    assert!(made.manifest.warnings[0].contains("no package brings loaders"));
}

#[test]
fn people_get_their_directories_and_the_skeleton() {
    let scene = Scene::new();
    let package = scene.package("skel", &[("etc/skel/.config/app/rc", "rc"), ("etc/skel/link", "-> /etc")]);
    let made = scene.make(
        "users.ada = { password = '' }\nusers.daemon = { password = '', uid = 9, gid = 9, home = '/var/daemon' }",
        json!([package]),
    );
    for folder in ["Desktop", "Downloads", ".config", ".config/app", ".local/share/Trash/info"] {
        assert_eq!(made.shape(&format!("home/ada/{folder}")), "40700 1000 1000");
    }
    assert_eq!(made.shape("home/ada/.config/app/rc"), "100600 1000 1000");
    assert_eq!(made.shape("home/ada/.config/user-dirs.dirs"), "100600 1000 1000");
    assert!(made.text("home/ada/.config/user-dirs.dirs").contains("XDG_DOWNLOAD_DIR=\"$HOME/Downloads\"\n"));
    assert!(made.record("home/ada/link").is_none(), "symlinks stay behind");
    assert_eq!(made.shape("var/daemon"), "40700 9 9");
    assert!(made.record("var/daemon/Desktop").is_none());
}

#[test]
fn sizes_are_those_of_the_configuration() {
    let scene = Scene::new();
    let made = scene.make("general = { filesystem_size = 40, efi_partition_size = 4 }", json!([]));
    let places: Vec<_> =
        made.manifest.partitions.iter().map(|p| (p.name.as_str(), p.first_sector, p.last_sector)).collect();
    assert_eq!(places, [("BIOS", 34, 2047), ("EFI", 2048, 5 * 2048 - 1), ("REDOX", 5 * 2048, 39 * 2048 - 1)]);
    assert_eq!(made.manifest.disk_size, 40 << 20);
}
