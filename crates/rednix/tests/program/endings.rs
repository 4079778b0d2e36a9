//! Runs that end early or begin with something gone: nothing is left behind, and the next step is said.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::support::{bash_expression, call, checkout, mark, processes_called, run, scratch, verify};

pub const TESTS: [(&str, fn() -> Outcome); 3] = [
    ("interrupted_build_leaves_nothing", interrupted_build_leaves_nothing),
    ("pinned_package_that_is_gone", pinned_package_that_is_gone),
    ("edit_of_the_probe_rebuilds_probe_and_image_only", edit_of_the_probe),
];

/// Ctrl-C while a builder sleeps: status 130, no process, and a store that verifies.
fn interrupted_build_leaves_nothing() -> Outcome {
    let mark = mark("interrupted");
    let expression = bash_expression("interrupted", &format!("( exec -a {mark} sleep 1000 ) & wait"));
    let mut child = call(&["build", "--no-link", "--expr", &expression])
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let started = Instant::now();
    while processes_called(&mark) == 0 {
        if started.elapsed() > Duration::from_secs(120) {
            let _ = child.kill();
            return Err("the build did not begin".to_owned());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).map_err(|e| e.to_string())?;
    let status = child.wait().map_err(|e| e.to_string())?;
    if status.code() != Some(130) {
        return Err(format!("exit status {status}, not 130"));
    }
    match processes_called(&mark) {
        0 => Ok(None),
        left => Err(format!("{left} processes are left")),
    }
}

/// A lock that names a version no mirror has: `--locked` refuses and names it, else a fresh lock is made beside.
fn pinned_package_that_is_gone() -> Outcome {
    let folder = scratch();
    for part in ["nix", "tree", "guest"] {
        crate::peer::copy_tree(&checkout().join(part), &folder.path().join(part));
    }
    let file = folder.path().join("nix/debian.lock.json");
    let text = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
    let mut lock: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let package = &mut lock["packages"]["gzip"];
    package["version"] = "0.0.1-1".into();
    package["path"] = "pool/main/g/gzip/gzip_0.0.1-1_amd64.deb".into();
    package["sha256"] = "3".repeat(64).into();
    std::fs::write(&file, lock.to_string()).map_err(|e| e.to_string())?;
    let store = folder.path().join("store");
    let build = |extra: &[&str]| {
        let mut command = call(&["build", ".#debian.layers.gzip", "--no-link", "--store"]);
        run(command.arg(&store).args(extra).current_dir(folder.path()))
    };
    let refused = build(&["--locked"]);
    if refused.stderr.contains("cannot reach") || refused.stderr.contains("no mirror is known") {
        return Ok(Some("no Debian mirror can be reached".to_owned()));
    }
    refused.expect(1, &["gzip", "0.0.1-1", "rednix lock debian"])?;
    build(&[]).expect(0, &["gzip", "debian.lock.local.json"])?;
    if !folder.path().join("nix/debian.lock.local.json").exists() {
        return Err("the fresh lock is not there".to_owned());
    }
    verify(&store)?;
    Ok(None)
}

fn edit_of_the_probe() -> Outcome {
    let folder = scratch();
    for part in ["nix", "tree", "guest"] {
        crate::peer::copy_tree(&checkout().join(part), &folder.path().join(part));
    }
    let image = || run(call(&["image", "probe"]).current_dir(folder.path()));
    image().expect(0, &[])?;
    let source = folder.path().join("guest/probe/src/main.rs");
    let mut text = std::fs::read_to_string(&source).map_err(|e| e.to_string())?;
    // A string in the program, so that its output really differs, and differs from every other run of this test.
    text.push_str(&format!(
        "\n#[used]\nstatic EDITED: [u8; 16] = *b\"{:016x}\";\n",
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
    ));
    std::fs::write(&source, text).map_err(|e| e.to_string())?;
    let result = image();
    result.expect(0, &["built probe ", "built probe-image"])?;
    let built: Vec<&str> = result.stderr.lines().filter(|line| line.starts_with("built ")).collect();
    if built.len() == 2 { Ok(None) } else { Err(format!("more than probe and image: {built:?}")) }
}
