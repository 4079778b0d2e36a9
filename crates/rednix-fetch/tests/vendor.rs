//! A vendored directory as cargo itself sees it: registry crates and workspace members of git sources.

use std::fs;
use std::path::Path;
use std::process::Command;

use rednix_store::hash::{Hash, HashAlgorithm};
use serde_json::json;

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A `.crate` of one library; returns its checksum.
fn pack(folder: &Path, name: &str, version: &str) -> String {
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (file, text) in [
        (
            "Cargo.toml",
            format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n"),
        ),
        ("src/lib.rs", "pub fn one() -> u32 { 1 }\n".to_owned()),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, format!("{name}-{version}/{file}"), text.as_bytes()).unwrap();
    }
    let bytes = builder.into_inner().unwrap().finish().unwrap();
    fs::write(folder.join(format!("{name}-{version}.crate")), &bytes).unwrap();
    Hash::of(HashAlgorithm::Sha256, &bytes).to_hex()
}

/// What cargo calls its default registry in lock files.
fn registry_name(project: &Path) -> Option<String> {
    write(
        &project.join("probe/Cargo.toml"),
        "[package]\nname = \"p\"\nversion = \"0.0.0\"\n[workspace]\n[dependencies]\nx = \"1\"\n",
    );
    write(&project.join("probe/src/lib.rs"), "");
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new("cargo").args(arguments).current_dir(project.join("probe")).output().ok()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(metadata["packages"][0]["dependencies"][0]["source"].as_str()?.to_owned())
}

#[test]
fn cargo_builds_from_it_offline() {
    if Command::new("cargo").arg("--version").output().is_err() {
        println!("skipped: cargo is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let checksum = pack(folder, "plain", "1.2.3");
    // A git source whose crates inherit from their workspace and depend on each other by path.
    let git = folder.join("git");
    write(
        &git.join("Cargo.toml"),
        "[workspace]\nmembers = [\"crates/*\"]\nresolver = \"2\"\n[workspace.package]\nversion = \"0.3.0\"\nedition = \"2021\"\n\
         [workspace.dependencies]\nplain = \"1\"\nlower = { path = \"crates/lower\" }\n[workspace.lints.rust]\ndead_code = \"allow\"\n",
    );
    let inherited = "version.workspace = true\nedition.workspace = true\n";
    write(
        &git.join("crates/lower/Cargo.toml"),
        &format!("[package]\nname = \"lower\"\n{inherited}[features]\nextra = []\n"),
    );
    write(
        &git.join("crates/lower/src/lib.rs"),
        "#[cfg(feature = \"extra\")]\n#[path = \"../../../shared/two.rs\"]\nmod shared;\n#[cfg(feature = \"extra\")]\npub use shared::two;\n",
    );
    // Outside of every package.
    write(&git.join("shared/two.rs"), "pub fn two() -> u32 { 2 }\n");
    write(
        &git.join("crates/upper/Cargo.toml"),
        &format!(
            "[package]\nname = \"upper\"\n{inherited}[dependencies]\nplain.workspace = true\nlower = {{ workspace = true, features = [\"extra\"] }}\n[lints]\nworkspace = true\n"
        ),
    );
    write(&git.join("crates/upper/src/lib.rs"), "pub fn three() -> u32 { plain::one() + lower::two() }\n");
    let crates = [
        json!({ "name": "plain", "version": "1.2.3", "checksum": checksum, "src": folder.join("plain-1.2.3.crate") }),
    ];
    let member = |name: &str| json!({ "name": name, "version": "0.3.0", "src": git, "subdirectory": format!("crates/{name}"), "whole": true });
    let vendor = folder.join("vendor");
    let attributes =
        json!({ "formatVersion": 1, "crates": crates, "git": [member("lower"), member("upper")] });
    rednix_fetch::vendor(&attributes, &vendor).unwrap();

    let project = folder.join("project");
    let rev = "0123456789abcdef0123456789abcdef01234567";
    write(
        &project.join("Cargo.toml"),
        &format!(
            "[package]\nname = \"user\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n[dependencies]\nupper = {{ git = \"https://git.test/x\", rev = \"{rev}\" }}\n"
        ),
    );
    write(&project.join("src/main.rs"), "fn main() { assert_eq!(upper::three(), 3); }\n");
    let configuration = format!(
        "[source.vendored]\ndirectory = \"{}\"\n[source.crates-io]\nreplace-with = \"vendored\"\n\
         [source.git]\ngit = \"https://git.test/x\"\nrev = \"{rev}\"\nreplace-with = \"vendored\"\n",
        vendor.display()
    );
    write(&project.join(".cargo/config.toml"), &configuration);
    let cargo = |arguments: &[&str]| {
        let output = Command::new("cargo")
            .args(arguments)
            .current_dir(&project)
            .env("CARGO_HOME", folder.join("home"))
            .env("CARGO_TARGET_DIR", folder.join("target"))
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    // The lock as cargo would have written it with the network: a directory alone does not give one for git.
    let registry = registry_name(&project).expect("cargo names its own registry");
    let git_source = format!("git+https://git.test/x?rev={rev}#{rev}");
    let packages = [
        ("lower", "0.3.0", format!("source = \"{git_source}\"\n")),
        ("plain", "1.2.3", format!("source = \"{registry}\"\nchecksum = \"{checksum}\"\n")),
        ("upper", "0.3.0", format!("source = \"{git_source}\"\ndependencies = [\"lower\", \"plain\"]\n")),
        ("user", "0.0.0", "dependencies = [\"upper\"]\n".to_owned()),
    ];
    let mut lock = "version = 4\n".to_owned();
    for (name, version, rest) in packages {
        lock.push_str(&format!("\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{rest}"));
    }
    write(&project.join("Cargo.lock"), &lock);
    cargo(&["run", "--quiet", "--offline", "--locked"]);
}
