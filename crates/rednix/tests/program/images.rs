//! What becomes of a configuration: the merge in Nix against its reference, images as upstream's tool reads them,
//! repositories.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rednix_image::Error;
use rednix_image::manifest::Manifest;
use rednix_image::pkgar::{Archive, PublicKey};

use crate::Outcome;
use crate::support::{call, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 5] = [
    ("merge_in_nix_is_the_reference", merge),
    ("upstreams_redoxfs_reads_every_file", upstream_reads),
    ("repository_is_signed_and_repeats", repository),
    ("repository_is_served", served),
    ("virtio_option_adds_to_the_initfs", virtio_option),
];

/// Configurations of every shape the rules speak of, for one architecture and one board.
fn configurations() -> tempfile::TempDir {
    let tree = scratch();
    let file = |path: &str, text: &str| write(&tree.path().join(path), text);
    file("recipes/one/recipe.toml", "[build]\ntemplate = \"none\"\n");
    file(
        "config/base.toml",
        "[general]\nprompt = false\nfilesystem_size = 64\n[packages]\none = {}\ntwo = \"local\"\n[[files]]\npath = \"/a\"\ndata = \"1\"\nappend = true\n[users.root]\npassword = \"x\"\nuid = 0\n[groups.sudo]\ngid = 1\nmembers = [\"user\"]\n",
    );
    file(
        "config/left.toml",
        "include = [\"base.toml\"]\n[general]\nprompt = true\n[packages]\none = \"ignore\"\n[[files]]\npath = \"/left\"\ndata = \"\"\ndirectory = true\nmode = 0o700\n",
    );
    file(
        "config/right.toml",
        "include = [\"base.toml\"]\n[general]\nefi_partition_size = 4\n[users.root]\nuid = 0\n",
    );
    file(
        "config/top.toml",
        "include = [\"left.toml\", \"right.toml\"]\n[general]\nfilesystem_size = 128\nlive_disk = true\n[groups.sudo]\nmembers = []\n",
    );
    file("config/alone.toml", "[[files]]\npath = \"/z\"\ndata = \"q\"\npostinstall = true\n");
    file("config/x86_64/alone.toml", "include = [\"../right.toml\"]\n[general]\nskip_partitions = true\n");
    file(
        "config/x86_64/board/top.toml",
        "include = [\"../../top.toml\"]\n[general]\nwrite_bootloader = \"x.efi\"\n",
    );
    tree
}

fn merge() -> Outcome {
    let tree = configurations();
    for (system, path) in [
        ("base", "base.toml"),
        ("left", "left.toml"),
        ("top", "top.toml"),
        ("alone", "x86_64/alone.toml"),
        ("board/top", "x86_64/board/top.toml"),
    ] {
        let attribute = format!("systems.\"{system}\".config");
        let result = run(call(&["eval", "--json", "-A", &attribute, "--tree"]).arg(tree.path()));
        result.expect(0, &[])?;
        let merged: rednix_image::config::Config =
            serde_json::from_str(&result.stdout).map_err(|e| format!("{system}: {e}"))?;
        let reference =
            rednix_image::config::load(&tree.path().join("config").join(path)).map_err(|e| e.to_string())?;
        if merged != reference {
            return Err(format!("{system}: Nix merges to {merged:#?}\nthe reference to {reference:#?}"));
        }
    }
    Ok(None)
}

/// The option is there for any tree, says it in the image's derivation, and changes no other image.
fn virtio_option() -> Outcome {
    let tree = scratch();
    let file = |path: &str, text: &str| write(&tree.path().join(path), text);
    file("recipes/base/recipe.toml", "[build]\ntemplate = \"custom\"\nscript = \"\"\n");
    file("config/plain.toml", "[packages]\nbase = {}\n");
    file("config/modern.toml", "include = [\"plain.toml\"]\n[rednix]\nvirtio = true\n");
    let module = tree.path().join("modern.nix");
    write(
        &module,
        "{ rednix, ... }: rednix.system { config = \"plain\"; name = \"modern\"; modules = [ { boot.virtio = true; } ]; }\n",
    );
    let eval = |attribute: &str| -> Result<serde_json::Value, String> {
        let result = run(call(&["eval", "--json", "-A", attribute, "--tree"]).arg(tree.path()));
        result.expect(0, &[])?;
        serde_json::from_str(&result.stdout).map_err(|error| format!("{attribute}: {error}"))
    };
    let additions = eval("systems.modern.image.initfsAdditions")?;
    let text = additions.to_string();
    for wanted in ["usr/lib/drivers/virtiod", "0x1042", "0x1041", "etc/pcid/initfs.toml", "virtiod slots"] {
        if !text.contains(wanted) {
            return Err(format!("the additions lack `{wanted}`: {text}"));
        }
    }
    if eval("systems.modern.image.formatVersion")? != 3 || eval("systems.plain.image.formatVersion")? != 2 {
        return Err("only an image with additions is of version 3".to_owned());
    }
    let packages = eval("systems.modern.packages")?;
    if packages != serde_json::json!(["base"]) {
        return Err(format!("the drivers are in the initfs only, yet the packages are {packages}"));
    }
    // From a module it is the same image.
    let expression = format!(
        "let rednix = import ./nix {{ tree = {0}; }}; in (rednix.systemOf {1}).image.drvPath == rednix.systems.modern.image.drvPath",
        tree.path().display(),
        module.display()
    );
    let result = run(&mut call(&["eval", "-E", &expression]));
    result.expect(0, &[])?;
    if result.stdout.trim() != "true" {
        return Err("a module makes another image than the configuration".to_owned());
    }
    // The recipe is this project's own: buildable from any tree, pinned by none.
    let drivers = eval("packages.virtio-drivers.drvPath")?;
    if !drivers.to_string().contains("virtio-drivers.drv") {
        return Err(format!("the drivers' derivation is {drivers}"));
    }
    let expression = format!("((import ./nix {{ tree = {}; }}).lockable [ ]).all", tree.path().display());
    let result = run(&mut call(&["eval", "--json", "-E", &expression]));
    result.expect(0, &[])?;
    if result.stdout.trim() == "[\"base\"]" {
        Ok(None)
    } else {
        Err(format!("the tree's recipes are {}", result.stdout))
    }
}

fn built(arguments: &[&str]) -> Result<Vec<PathBuf>, String> {
    let result = run(&mut call(arguments));
    result.expect(0, &[])?;
    Ok(result.stdout.lines().map(PathBuf::from).collect())
}

/// The file system goes through upstream's own tool, which opens it, reads all of it and writes it anew; what it
/// wrote must hold every file of the manifest.
fn upstream_reads() -> Outcome {
    let tools = built(&["build", "--no-link", "host:redoxfs"])?.remove(0);
    let folder = built(&["image", "probe"])?.remove(0);
    let text = fs::read(folder.join("manifest.json")).map_err(|e| e.to_string())?;
    let mut manifest: Manifest = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    let scene = scratch();
    let (ours, theirs) = (scene.path().join("ours"), scene.path().join("theirs"));
    let place = &manifest.filesystem;
    cut(&folder.join("disk.img"), place.offset, place.size, &ours).map_err(|e| e.to_string())?;
    fs::File::create(&theirs).and_then(|file| file.set_len(place.size)).map_err(|e| e.to_string())?;
    let output = Command::new(tools.join("usr/bin/redoxfs-clone"))
        .args([&ours, &theirs])
        .output()
        .map_err(|e| format!("redoxfs-clone: {e}"))?;
    if !output.status.success() {
        return Err(format!("redoxfs-clone fails: {}", String::from_utf8_lossy(&output.stdout)));
    }
    manifest.disk_size = place.size;
    manifest.filesystem.offset = 0;
    manifest.partitions.clear();
    match rednix_image::verify::verify(&theirs, &manifest) {
        Err(Error::Differs(lines))
            if lines.iter().all(|line| line.starts_with("UUID of the file system")) =>
        {
            let files = manifest.entries.iter().filter(|entry| entry.sha256.is_some()).count();
            eprintln!("upstream's redoxfs-clone read back {files} files, {} entries", manifest.entries.len());
            Ok(None)
        }
        Err(error) => Err(format!("what redoxfs-clone read differs: {error}")),
        Ok(_) => Err("the copy has the original's UUID: it is not the tool's own".to_owned()),
    }
}

/// A part of a file as a file, holes left out.
fn cut(from: &Path, offset: u64, size: u64, to: &Path) -> std::io::Result<()> {
    let (source, target) = (fs::File::open(from)?, fs::File::create(to)?);
    target.set_len(size)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        let piece = &mut buffer[..(size - at).min(1 << 20) as usize];
        source.read_exact_at(piece, offset + at)?;
        if piece.iter().any(|&byte| byte != 0) {
            target.write_all_at(piece, at)?;
        }
        at += piece.len() as u64;
    }
    Ok(())
}

/// A repository of the embedded system, signed with a key of its own.
fn publish(folder: &Path, key: &Path) -> Result<(), String> {
    let mut command = call(&["repo", "probe", "--target-dir"]);
    run(command.arg(folder).arg("--key").arg(key)).expect(0, &["3 packages"]).map(drop)
}

/// A key file; only its owner may read it.
fn key(folder: &Path) -> PathBuf {
    let file = folder.join("key.toml");
    let key = rednix_image::pkgar::KeyFile::new(&[5; 88]);
    write(&file, &key.to_toml());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("the key is ours");
    file
}

const TARGET: &str = "x86_64-unknown-redox";

fn repository() -> Outcome {
    let scene = scratch();
    let (left, right) = (scene.path().join("left"), scene.path().join("right"));
    let key = key(scene.path());
    publish(&left, &key)?;
    publish(&right, &key)?;
    let read = |path: PathBuf| fs::read(&path).map_err(|e| format!("{}: {e}", path.display()));
    let text = String::from_utf8_lossy(&read(left.join("id_ed25519.pub.toml"))?).into_owned();
    let public = PublicKey::from_toml(&text).map_err(|e| e.to_string())?;
    for name in ["loader.pkgar", "loader.toml", "probe.pkgar", "probe.toml", "repo.toml"] {
        if read(left.join(TARGET).join(name))? != read(right.join(TARGET).join(name))? {
            return Err(format!("{name} differs between two runs"));
        }
    }
    let index: toml::Table = String::from_utf8_lossy(&read(left.join(TARGET).join("repo.toml"))?)
        .parse()
        .map_err(|e| format!("{e}"))?;
    for name in ["loader", "probe"] {
        let archive = Archive::open(&left.join(TARGET).join(format!("{name}.pkgar")), public)
            .map_err(|e| e.to_string())?;
        archive.read(|_, _| {}).map_err(|e| e.to_string())?;
        if index["packages"][name].as_str() != Some(archive.head.hash_hex().as_str()) {
            return Err(format!("repo.toml has another hash for {name}"));
        }
    }
    // Another key would make what is there useless.
    let other = run(call(&["repo", "probe", "--target-dir"]).arg(&left));
    other.expect(1, &["signed with another key", "--key"])?;
    // The store's own key is made once, and is its owner's alone.
    let own = run(call(&["repo", "probe", "--target-dir"]).arg(scene.path().join("own")));
    own.expect(0, &[])?;
    Ok(None)
}

fn served() -> Outcome {
    let scene = scratch();
    let folder = scene.path().join("repo");
    publish(&folder, &key(scene.path()))?;
    let mut command = call(&["repo", "--serve", "127.0.0.1:0", "--target-dir"]);
    let mut server = command
        .arg(&folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("the server does not start: {e}"))?;
    let outcome = fetch_index(&mut server, &folder);
    // Ours, by its id: it has no other end.
    let _ = server.kill();
    let _ = server.wait();
    outcome
}

fn fetch_index(server: &mut std::process::Child, folder: &Path) -> Outcome {
    let mut line = String::new();
    let output = server.stdout.take().ok_or("the server has no output")?;
    BufReader::new(output).read_line(&mut line).map_err(|e| e.to_string())?;
    let address = line.trim().strip_prefix("http://").ok_or(format!("no address: {line:?}"))?;
    let mut stream = std::net::TcpStream::connect(address).map_err(|e| format!("{address}: {e}"))?;
    write!(stream, "GET /{TARGET}/repo.toml HTTP/1.1\r\nHost: {address}\r\n\r\n")
        .map_err(|e| e.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|e| e.to_string())?;
    let expected = fs::read(folder.join(TARGET).join("repo.toml")).map_err(|e| e.to_string())?;
    if answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(&expected) {
        Ok(None)
    } else {
        Err(format!("the server answers {:?}", String::from_utf8_lossy(&answer)))
    }
}
