//! What Rust's side of a lock says: which compiler builds, and which commit of a git source each Cargo.lock means.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::locking::{World, cargo_package, same};
use crate::recipes::{build, contents, equal};
use crate::support::{checkout, run, write};

pub const TESTS: [(&str, fn() -> Outcome); 4] = [
    ("prefix_takes_debians_place_and_links_dynamically", prefix),
    ("toolchain_of_a_day_takes_debians_place", toolchain_of_a_day),
    ("source_without_a_cargo_lock_gets_one", source_without_lock),
    ("two_locks_of_a_package_mean_two_commits", two_locks_two_commits),
];

fn archive(world: &World, component: &str, files: &[(&str, &str)]) -> Result<String, String> {
    let folder = format!("dist/{component}-nightly");
    for (file, text) in files {
        world.write(&format!("{folder}/{component}/{file}"), text);
    }
    let packed = format!("{component}.tar.xz");
    let place = world.path("dist");
    let tar = Command::new("tar")
        .args(["-cJf", &packed, &format!("{component}-nightly")])
        .current_dir(&place)
        .output();
    let tar = tar.map_err(|e| format!("tar: {e}"))?;
    if !tar.status.success() {
        return Err(String::from_utf8_lossy(&tar.stderr).into_owned());
    }
    sha256(&place.join(packed))
}

fn sha256(file: &Path) -> Result<String, String> {
    let output = Command::new("sha256sum").arg(file).output().map_err(|e| format!("sha256sum: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(' ').next().map(str::to_owned).ok_or_else(|| "sha256sum says nothing".to_owned())
}

/// A release of four tiny archives behind a mirror; with it no compiler of Debian's is in the root any more.
fn toolchain_of_a_day() -> Outcome {
    if Command::new("xz").arg("--version").output().is_err() {
        return Ok(Some("xz is not installed".to_owned()));
    }
    let world = World::new();
    let server = "https://static.rust-lang.org/dist";
    let mirror = world.path("dist");
    write(
        &world.path("config/rednix/config.toml"),
        &format!("[mirrors]\n\"{server}/\" = \"{}/\"\n", mirror.display()),
    );
    let zeros = "0".repeat(64);
    let lock = format!(
        "version = 4\n[[package]]\nname = \"cfg-if\"\nversion = \"1.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"{zeros}\"\n"
    );
    let mut manifest = "manifest-version = \"2\"\n".to_owned();
    for (component, target, file, text) in [
        ("cargo", "x86_64-unknown-linux-gnu", "bin/cargo", "cargo"),
        ("rust-src", "*", "lib/rustlib/src/rust/library/Cargo.lock", &lock),
        ("rust-std", "x86_64-unknown-linux-gnu", "lib/rustlib/std", "std"),
        ("rustc", "x86_64-unknown-linux-gnu", "bin/rustc", "rustc"),
    ] {
        let hash = archive(&world, component, &[(file, text), ("manifest.in", "x")])?;
        manifest += &format!(
            "[pkg.{component}.target.\"{target}\"]\navailable = true\nxz_url = \"{server}/{component}.tar.xz\"\nxz_hash = \"{hash}\"\n"
        );
    }
    world.write("dist/2026-01-02/channel-rust-nightly.toml", &manifest);
    world.write("tree/rust-toolchain.toml", "[toolchain]\nchannel = \"nightly-2026-01-02\"\n");

    world.recipe("any", "path = \"x\"");
    world.lock(&["lock", "--toolchain", "nightly"]).expect(2, &["stays as it is", "nightly-YYYY-MM-DD"])?;
    // The crates of its standard library are asked for at once, and this one nobody has.
    world.lock(&["lock", "--toolchain", "tree"]).expect(1, &["cfg-if"])?;
    let locked = world.read()?;
    same("the channel", &locked["toolchain"]["channel"], "nightly-2026-01-02")?;
    same("a crate of the library", &locked["toolchain"]["std"]["crates"][0][0], "cfg-if")?;

    let compilers = || -> Result<(bool, bool), String> {
        let expression = format!(
            "map (layer: layer.name) ((import {}/nix {{ tree = {}; }}).rust.root \"rust\")",
            checkout().display(),
            world.path("tree").display()
        );
        let names = run(&mut world.call(&["eval", "--offline", "--json", "--expr", &expression]));
        names.expect(0, &[])?;
        Ok((names.stdout.contains("toolchain-rustc"), names.stdout.contains("deb-rustc")))
    };
    if compilers()? != (true, false) {
        return Err("the root has not this compiler alone".to_owned());
    }
    let folder = run(&mut world.call(&["build", "--no-link", "--offline", ".#rust.component \"rustc\""]));
    folder.expect(0, &[])?;
    let layer = Path::new(folder.stdout.trim());
    equal(&contents(&layer.join("usr/bin/rustc"))?, "rustc")?;
    if layer.join("usr/manifest.in").exists() {
        return Err("the installer's list is in the root".to_owned());
    }
    world.lock(&["lock", "--toolchain", "debian"]).expect(0, &[])?;
    if compilers()? != (false, true) {
        return Err("Debian's compiler is not back".to_owned());
    }
    world.write("dist/2026-01-02/channel-rust-nightly.toml", &manifest.replace("[pkg.rustc", "[pkg.other"));
    world.lock(&["lock", "--toolchain", "tree"]).expect(1, &["has no `rustc`", "choose another"])?;
    Ok(None)
}

/// Programs that only say what they were, packed the way upstream packs its own toolchain.
fn prefix_archives(world: &World) -> Result<(), String> {
    let gnu = "x86_64-unknown-redox";
    let programs = [
        ("gcc-install", format!("bin/{gnu}-gcc"), "echo \"gcc of the prefix: $*\""),
        ("rust-install", "bin/rustc".to_owned(), "echo 'rustc of the prefix'"),
        ("rust-install", "bin/cargo".to_owned(), "echo 'cargo of the prefix'"),
    ];
    for (archive, file, text) in programs {
        world.write(&format!("prefix/{archive}/{file}"), &format!("#!/usr/bin/bash\n{text}\n"));
    }
    for (file, text) in [
        (format!("gcc-install/{gnu}/include/c++/13.2.0/vector"), "a header of C++"),
        (format!("gcc-install/{gnu}/include/old.h"), "a header of another day's relibc"),
        (format!("gcc-install/{gnu}/lib/libgcc_s.so.1"), "libgcc_s"),
        ("rust-install/lib/rustlib/src/rust/library/Cargo.lock".to_owned(), "version = 4\n"),
    ] {
        world.write(&format!("prefix/{file}"), text);
    }
    for archive in ["gcc-install", "rust-install"] {
        let script =
            format!("chmod +x {archive}/bin/*; tar -czf {archive}.tar.gz -C {archive} . && rm -r {archive}");
        let done = Command::new("sh").args(["-c", &script]).current_dir(world.path("prefix")).status();
        match done {
            Ok(status) if status.success() => {}
            other => return Err(format!("packing {archive}: {other:?}")),
        }
    }
    Ok(())
}

/// Redox's own gcc and Rust as the toolchain: its programs are called under their own names, what gcc needs at run time
/// is packaged, and packages are linked dynamically.
fn prefix() -> Outcome {
    let world = World::new();
    prefix_archives(&world)?;
    let recipe = |name: &str, script: &str| {
        let text = format!("[build]\ntemplate = \"custom\"\nscript = \"\"\"\n{script}\n\"\"\"\n");
        world.write(&format!("tree/recipes/{name}/recipe.toml"), &text);
    };
    recipe("relibc", "mkdir -p $COOKBOOK_STAGE/usr/include; echo new >$COOKBOOK_STAGE/usr/include/new.h");
    recipe(
        "libgcc",
        "mkdir -p $COOKBOOK_STAGE/usr/lib; cp -av $COOKBOOK_HOST_SYSROOT/$GNU_TARGET/lib/libgcc_s.so* $COOKBOOK_STAGE/usr/lib/",
    );
    recipe(
        "made",
        "DYNAMIC_INIT\nmkdir -p $COOKBOOK_STAGE/usr/share\n(cd /usr/$GNU_TARGET/include; echo *\n $CC -shared\n cookbook-redoxer cc x.c\n rustc\n echo dynamic: $COOKBOOK_DYNAMIC\n) >$COOKBOOK_STAGE/usr/share/said",
    );
    let folder = world.path("prefix");
    let named = format!("prefix:{}", folder.display());
    world.lock(&["lock", "--toolchain", "prefix:nowhere"]).expect(2, &["nowhere", "gcc-install.tar.gz"])?;
    world.lock(&["lock", "--toolchain", &named]).expect(0, &[])?;
    let locked = world.read()?;
    same("the channel", &locked["toolchain"]["channel"], "prefix")?;
    same("its target", &locked["toolchain"]["target"], "x86_64-unknown-redox")?;
    same(
        "its gcc",
        &locked["toolchain"]["components"]["gcc-install"]["sha256"],
        &sha256(&folder.join("gcc-install.tar.gz"))?,
    )?;

    let (_, paths) = build(&world.path("tree"), &["made", "libgcc"])?;
    equal(
        &contents(&paths[0].join("usr/share/said"))?,
        "c++ new.h\ngcc of the prefix: -shared\ngcc of the prefix: x.c\nrustc of the prefix\ndynamic: 1\n",
    )?;
    equal(&contents(&paths[1].join("usr/lib/libgcc_s.so.1"))?, "libgcc_s")?;

    let other = run(&mut world.call(&["build", "--no-link", "--target", "aarch64-unknown-redox", "made"]));
    other.expect(2, &["builds for x86_64-unknown-redox", "rednix lock --toolchain prefix"])?;

    // The server of the time before had one archive with everything, and one without anything is no toolchain.
    let rename = |from: &str, to: &str| {
        std::fs::rename(folder.join(from), folder.join(to)).map_err(|e| format!("{from}: {e}"))
    };
    rename("rust-install.tar.gz", "relibc-install.tar.gz")?;
    world.lock(&["lock", "--toolchain", &named]).expect(1, &["rust-install.tar.gz", "is not there"])?;
    rename("gcc-install.tar.gz", "kept")?;
    world.lock(&["lock", "--toolchain", &named]).expect(0, &[])?;
    same(
        "one archive",
        &world.read()?["toolchain"]["components"]["relibc-install"]["url"],
        &format!("file://{}/relibc-install.tar.gz", folder.display()),
    )?;
    Ok(None)
}

/// A workspace and a program beside it, each with its own Cargo.lock, which agree on a repository but not on its
/// commit, as upstream's base has it. Cargo's configuration has room for one commit only.
fn two_locks_two_commits() -> Outcome {
    let world = World::new();
    let mut revs = Vec::new();
    for (day, word) in [("2026-01-01", "first"), ("2026-01-02", "second")] {
        cargo_package(&world, "dep", "dep", "0.1.0", "");
        world.write("dep/src/lib.rs", &format!("pub const WORD: &str = \"{word}\";\n"));
        revs.push(world.commit("dep", day, "note", word)?);
    }
    let url = world.url("dep");
    for (folder, name, rev) in [("own", "outer", &revs[0]), ("own/inner", "inner", &revs[1])] {
        cargo_package(
            &world,
            &format!("tree/recipes/{folder}"),
            name,
            "1.0.0",
            &format!("[dependencies]\ndep = {{ git = \"{url}\" }}\n"),
        );
        world.write(
            &format!("tree/recipes/{folder}/src/main.rs"),
            "fn main() { println!(\"{}\", dep::WORD); }\n",
        );
        world.write(
            &format!("tree/recipes/{folder}/Cargo.lock"),
            &format!(
                "version = 3\n\n[[package]]\nname = \"dep\"\nversion = \"0.1.0\"\nsource = \"git+{url}#{rev}\"\n\n[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\ndependencies = [\n \"dep\",\n]\n"
            ),
        );
    }
    // A git source, for which the lock looks for every Cargo.lock there is.
    std::fs::rename(world.path("tree/recipes/own"), world.path("own")).map_err(|e| e.to_string())?;
    world.commit("own", "2026-01-03", "note", "both")?;
    world.write(
        "tree/recipes/both/recipe.toml",
        &format!(
            "[source]\ngit = \"{}\"\n[build]\ntemplate = \"custom\"\nscript = \"\"\"\n\
             cargo run --quiet --manifest-path ${{COOKBOOK_SOURCE}}/Cargo.toml > ${{COOKBOOK_STAGE}}/said\n\
             cargo run --quiet --manifest-path=${{COOKBOOK_SOURCE}}/inner/Cargo.toml >> ${{COOKBOOK_STAGE}}/said\n\
             cd ${{COOKBOOK_SOURCE}}/inner && cargo run --quiet >> ${{COOKBOOK_STAGE}}/said\n\
             \"\"\"\n[rednix]\nroot = \"rust\"\n",
            world.url("own")
        ),
    );
    world.lock(&["lock", "both"]).expect(0, &[])?;
    let result = run(&mut world.call(&["build", "--no-link", "host:both"]));
    result.expect(0, &[])?;
    equal(&contents(&Path::new(result.stdout.trim()).join("said"))?, "first\nsecond\nsecond\n")?;
    Ok(None)
}

/// A program whose author keeps no Cargo.lock: what cargo makes of it when it is locked holds from then on.
fn source_without_lock() -> Outcome {
    let world = World::new();
    cargo_package(&world, "dep", "dep", "0.1.0", "");
    world.write("dep/src/lib.rs", "pub const WORD: &str = \"one\";\n");
    let rev = world.commit("dep", "2026-01-01", "note", "one")?;
    let url = world.url("dep");
    cargo_package(&world, "own", "own", "1.0.0", &format!("[dependencies]\ndep = {{ git = \"{url}\" }}\n"));
    world.write("own/src/main.rs", "fn main() { println!(\"{}\", dep::WORD); }\n");
    world.commit("own", "2026-01-01", "note", "own")?;
    world.write(
        "tree/recipes/own/recipe.toml",
        &format!(
            "[source]\ngit = \"{}\"\n[build]\ntemplate = \"custom\"\nscript = \"\"\"\n\
             cargo run --quiet --locked --manifest-path ${{COOKBOOK_SOURCE}}/Cargo.toml > ${{COOKBOOK_STAGE}}/said\n\
             \"\"\"\n[rednix]\nroot = \"rust\"\n",
            world.url("own")
        ),
    );
    // Cargo itself fetches the repository next door.
    let output = world.path("tree/rednix.lock");
    let mut lock =
        world.call(&["lock", "own", "--output", output.to_str().expect("scratch paths are plain")]);
    run(lock.env("CARGO_NET_OFFLINE", "false")).expect(0, &["which has no Cargo.lock"])?;
    let line = world.read()?["sources"]["own"]["cargo"]["Cargo.lock"]["git"][0]["source"].clone();
    same("the dependency", &line, &format!("git+{url}#{rev}"))?;
    // What comes later counts only when it is asked for.
    world.write("dep/src/lib.rs", "pub const WORD: &str = \"two\";\n");
    world.commit("dep", "2026-01-02", "note", "two")?;
    world.lock(&["lock", "own"]).expect(0, &[])?;
    let result = run(&mut world.call(&["build", "--no-link", "host:own"]));
    result.expect(0, &[])?;
    equal(&contents(&Path::new(result.stdout.trim()).join("said"))?, "one\n")?;
    Ok(None)
}
