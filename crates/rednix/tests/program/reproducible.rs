//! The same bits from another store, another folder, another user and another time.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::support::{Run, call, checkout, rednix, run, scratch};

pub const TESTS: [(&str, fn() -> Outcome); 2] = [
    ("image_is_the_same_from_two_stores", image_is_the_same),
    ("second_run_works_offline", second_run_works_offline),
];

/// Builds the image twice: in the shared store, and from a copy of the checkout elsewhere, in an empty store
/// that may borrow only what is pinned by hash (sources), as another user where there is one to become.
fn image_is_the_same() -> Outcome {
    let first = run(&mut call(&["image", "probe"]));
    first.expect(0, &[])?;

    let elsewhere = scratch();
    let folder = elsewhere.path().join("a folder of another length");
    for part in ["nix", "tree", "guest"] {
        crate::peer::copy_tree(&checkout().join(part), &folder.join(part));
    }
    let store = elsewhere.path().join("store");
    let lender = shared_store()?;
    let mut command = as_another_user(elsewhere.path(), &lender);
    command
        .args(["--log-format", "plain", "--borrow-from"])
        .arg(&lender)
        .arg("--store")
        .arg(&store)
        .args(["image", "probe"])
        .current_dir(&folder)
        .env("HOME", elsewhere.path())
        .env("CARGO_HOME", elsewhere.path().join("cargo"))
        .env_remove("REDNIX_STORE")
        .env("TZ", "Pacific/Auckland");
    let second: Run = run(&mut command);
    second.expect(0, &[])?;
    let (ours, theirs) = (first.stdout.trim(), second.stdout.trim());
    let base = |text: &str| Path::new(text).file_name().map(|n| n.to_os_string());
    if base(ours) != base(theirs) {
        return Err(format!("content-addressed paths differ: {ours} and {theirs}"));
    }
    let bytes =
        |path: &str| std::fs::read(Path::new(path).join("disk.img")).map_err(|e| format!("{path}: {e}"));
    if bytes(ours)? != bytes(theirs)? {
        return Err("the images' bytes differ".to_owned());
    }
    Ok(None)
}

/// Root becomes nobody where nobody can reach the program and the store it borrows from; anybody else stays.
fn as_another_user(folder: &Path, lender: &str) -> Command {
    let other = |program: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        command
    };
    let works = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let is_root = rustix::process::geteuid().is_root();
    let reachable = is_root
        && works(other(rednix()).arg("--version"))
        && works(other(Path::new("ls")).arg(format!("{lender}/nix/store")))
        && works(Command::new("chown").args(["-R", "65534:65534"]).arg(folder));
    if reachable {
        other(rednix())
    } else {
        eprintln!(
            "skipped: the part of another user: not root, or nobody cannot reach the program or the store"
        );
        Command::new(rednix())
    }
}

fn shared_store() -> Result<String, String> {
    let result = run(&mut call(&["doctor"]));
    result
        .stdout
        .lines()
        .find_map(|line| {
            line.split_once("store at ")
                .map(|(_, rest)| rest.split_whitespace().next().unwrap_or("").to_owned())
        })
        .ok_or_else(|| format!("doctor does not say where the store is:\n{}", result.stdout))
}

fn second_run_works_offline() -> Outcome {
    run(&mut call(&["image", "probe"])).expect(0, &[])?;
    run(&mut call(&["image", "probe", "--offline"])).expect(0, &[])?;
    Ok(None)
}
