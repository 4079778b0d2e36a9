//! Side by side with C++ Nix 2.34, where it is: the same derivations for the library and for the golden set.
//! `$REDNIX_PEER` is a folder with its programs; else they are looked for on PATH.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::support::{call, checkout, run, scratch};

pub const TESTS: [(&str, fn() -> Outcome); 3] = [
    ("golden_derivations", golden_derivations),
    ("library_as_the_peer_evaluates_it", library_as_the_peer_evaluates_it),
    ("modules_as_the_peer_evaluates_them", modules_as_the_peer_evaluates_them),
];

/// The peer's program of that name, configured to touch nothing of the system.
pub fn tool(name: &str) -> Option<Command> {
    let folders: Vec<PathBuf> = match std::env::var_os("REDNIX_PEER") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => std::env::split_paths(&std::env::var_os("PATH")?).collect(),
    };
    let program = folders.iter().map(|f| f.join(name)).find(|p| p.is_file())?;
    let mut command = Command::new(program);
    command.env(
        "NIX_CONFIG",
        "build-users-group =\nsubstituters =\nbuilders =\nbuild-hook =\nexperimental-features = nix-command flakes ca-derivations",
    );
    Some(command)
}

/// Why a test of this module cannot run here.
pub fn absent(test: &str) -> Option<String> {
    match test {
        "golden_derivations" if conformance().is_none() => {
            Some("the golden derivations are not beside the checkout (REDNIX_CONFORMANCE)".to_owned())
        }
        "front_as_the_peer"
        | "cache_and_the_peer_copy_both_ways"
        | "library_as_the_peer_evaluates_it"
        | "modules_as_the_peer_evaluates_them" => instantiate().err(),
        _ => None,
    }
}

/// The peer counts only in the version whose paths the project promises.
pub fn instantiate() -> Result<Command, String> {
    let mut version = tool("nix-instantiate").ok_or("C++ Nix is not installed")?;
    let output = version.arg("--version").output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains(" 2.34") {
        Ok(tool("nix-instantiate").expect("it was just found"))
    } else {
        Err(format!("the peer is {}, not 2.34", text.trim()))
    }
}

fn conformance() -> Option<PathBuf> {
    let folder = match std::env::var_os("REDNIX_CONFORMANCE") {
        Some(folder) => PathBuf::from(folder),
        None => checkout().join("../shared/conformance"),
    };
    folder.join("golden/show.nix").is_file().then_some(folder)
}

/// One derivation of each kind; the expected paths lie beside the cases.
fn golden_derivations() -> Outcome {
    let Some(conformance) = conformance() else {
        return Ok(Some(
            "the golden derivations are not beside the checkout (REDNIX_CONFORMANCE)".to_owned(),
        ));
    };
    let golden = scratch();
    copy_tree(&conformance.join("golden"), golden.path());
    // The set has a symbolic link, which not every way of copying it keeps.
    let link = golden.path().join("tree/link");
    if !link.is_symlink() {
        std::fs::remove_file(&link).map_err(|e| e.to_string())?;
        std::os::unix::fs::symlink("a.txt", &link).map_err(|e| e.to_string())?;
    }
    let expected = std::fs::read_to_string(golden.path().join("paths.txt")).map_err(|e| e.to_string())?;
    let store = scratch();
    let result = run(call(&["nix-instantiate", "--eval", "--strict", "--raw", "--store"])
        .arg(format!("local?root={}", store.path().display()))
        .arg(golden.path().join("show.nix")));
    result.expect(0, &[])?;
    for (got, want) in result.stdout.lines().zip(expected.lines()) {
        if got != want {
            return Err(format!("got    {got}\nwanted {want}"));
        }
    }
    if result.stdout.lines().count() != expected.lines().count() {
        return Err("the number of derivations differs".to_owned());
    }
    Ok(None)
}

/// Everything the embedded system is made of.
fn library_as_the_peer_evaluates_it() -> Outcome {
    let mut peer = instantiate()?;
    let file = checkout().join("nix/default.nix");
    let attributes = ["systems.probe.image", "hostPackages.redoxfs", "hostPackages.redox_installer"];
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let (our_store, their_store) = (scratch(), scratch());
    peer.arg("--store").arg(format!("local?root={}", their_store.path().display())).arg(&file);
    let mut command = call(&["nix-instantiate", "--store"]);
    command.arg(format!("local?root={}", our_store.path().display())).arg(&file);
    for attribute in attributes {
        peer.args(["-A", attribute]);
        command.args(["-A", attribute]);
    }
    let result = run(&mut command);
    result.expect(0, &[])?;
    ours.extend(result.stdout.lines().map(str::to_owned));
    let output = peer.output().map_err(|e| format!("the peer: {e}"))?;
    theirs.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
    if theirs.len() != attributes.len() {
        return Err(format!("the peer fails: {}", String::from_utf8_lossy(&output.stderr)));
    }
    if ours != theirs {
        return Err(format!("ours   {ours:#?}\ntheirs {theirs:#?}"));
    }
    // The names are hashes of the contents and of everything below; still, look at the files once.
    same_derivations(our_store.path(), their_store.path())
}

/// The documented system's derivations, and every case of the module system.
fn modules_as_the_peer_evaluates_them() -> Outcome {
    let (our_store, their_store) = (scratch(), scratch());
    let expression = "((import ./nix { }).systemOf ./docs/examples/system.nix).image";
    let written = |command: &mut Command, store: &Path| -> Result<String, String> {
        command.current_dir(checkout()).arg("--store").arg(format!("local?root={}", store.display()));
        let output = command.args(["-E", expression]).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let ours = written(&mut call(&["nix-instantiate"]), our_store.path())?;
    let theirs = written(&mut instantiate()?, their_store.path())?;
    if ours != theirs {
        return Err(format!("ours   {ours}theirs {theirs}"));
    }
    same_derivations(our_store.path(), their_store.path())?;

    let values = |command: &mut Command, store: &Path| -> Result<serde_json::Value, String> {
        command.args(["--eval", "--strict", "--json", "--read-write-mode", "-A", "values", "--store"]);
        command.arg(format!("local?root={}", store.display()));
        command.arg(checkout().join("crates/rednix/tests/program/modules/cases.nix"));
        let output = command.output().map_err(|e| e.to_string())?;
        serde_json::from_slice(&output.stdout)
            .map_err(|e| format!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
    };
    let ours = values(&mut call(&["nix-instantiate"]), our_store.path())?;
    let theirs = values(&mut instantiate()?, their_store.path())?;
    if ours == theirs { Ok(None) } else { Err(format!("ours   {ours}\ntheirs {theirs}")) }
}

fn same_derivations(ours: &Path, theirs: &Path) -> Outcome {
    let names = |root: &Path| -> Result<Vec<String>, String> {
        let mut names: Vec<String> = std::fs::read_dir(root.join("nix/store"))
            .map_err(|e| e.to_string())?
            .filter_map(|e| e.ok().and_then(|e| e.file_name().into_string().ok()))
            .filter(|name| name.ends_with(".drv"))
            .collect();
        names.sort();
        Ok(names)
    };
    let (our_names, their_names) = (names(ours)?, names(theirs)?);
    if our_names != their_names {
        return Err(format!("we wrote {} derivations, the peer {}", our_names.len(), their_names.len()));
    }
    for name in our_names {
        let read = |root: &Path| std::fs::read(root.join("nix/store").join(&name)).map_err(|e| e.to_string());
        if read(ours)? != read(theirs)? {
            return Err(format!("{name} has other contents"));
        }
    }
    Ok(None)
}

pub fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("folders can be made");
    for entry in std::fs::read_dir(from).expect("the folder can be read") {
        let entry = entry.expect("the entry can be read");
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("the entry has a type");
        if kind.is_dir() {
            copy_tree(&entry.path(), &target);
        } else if kind.is_symlink() {
            let link = std::fs::read_link(entry.path()).expect("the link can be read");
            std::os::unix::fs::symlink(link, target).expect("the link can be made");
        } else {
            std::fs::copy(entry.path(), target).expect("the file can be copied");
        }
    }
}
