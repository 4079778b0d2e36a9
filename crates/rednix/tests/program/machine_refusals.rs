//! What a run of a machine is refused for before anything starts, and that each refusal names what it is about, the way
//! out, and has the status of its kind: 2 where the call is wrong, 1 where the host is.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::support::{Run, call, run, scratch};

pub const TESTS: [(&str, fn() -> Outcome); 6] = [
    ("wrong_machines_are_wrong_usage", wrong_usage),
    ("what_cannot_run_is_refused_before_anything_is_built", before_building),
    ("a_folder_of_somebody_else_takes_no_state", foreign_folder),
    ("half_a_layer_is_no_layer", half_a_layer),
    ("what_qemu_cannot_have_has_a_way_out", beyond_qemu),
    ("kvm_that_is_asked_for_has_to_work", insists_on_kvm),
];

fn dry(options: &[&str]) -> Run {
    run(call(&["run", "probe", "--dry-run"]).args(options))
}

fn wrong_usage() -> Outcome {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (state, layer) = (path("state"), path("layer"));
    let saved = ["--snapshot", &state];
    let kept = ["--persist", &layer];
    let cases: [(&[&str], &[&str], &[&str]); 19] = [
        (&["--vmm", "firecracker"], &kept, &["machine `probe`", "firecracker", "this machine has none"]),
        (&["--vmm", "microvm"], &kept, &["microvm", "this machine has none"]),
        (&["--vmm", "kvmtool"], &kept, &["kvmtool", "this machine has none"]),
        (&["--vmm", "cloud-hypervisor", "--firmware", "direct"], &kept, &["this machine has none"]),
        (&["--firmware", "direct"], &kept, &["this machine has none"]),
        (&["--disk", "none"], &kept, &["this machine has none"]),
        (&["--vmm", "microvm", "--share", "/tmp=t"], &[], &["microvm shares no folders"]),
        (&["--resolution", "800x600"], &[], &["`--resolution 800x600`", "add `--graphics`"]),
        (&["--vmm", "kvmtool", "--share", "/tmp=t,ro"], &[], &["kvmtool shares folders for writing only"]),
        (&["--vmm", "kvmtool", "--net", "tap=a,b"], &[], &["kvmtool takes no name with `,`", "`a,b`"]),
        (&["--net", "tap=a/../../b"], &[], &["no name of an interface"]),
        (&["--vmm", "xen"], &[], &["there is no monitor `xen`", "`firecracker`"]),
        (&["--memory", "1"], &[], &["machine `probe`", "16 to"]),
        (&[], &saved, &["machine `probe`: qemu saves no state", "--vmm firecracker"]),
        (&["--vmm", "microvm"], &saved, &["microvm saves no state"]),
        (&["--vmm", "kvmtool"], &saved, &["kvmtool saves no state"]),
        (&["--vmm", "firecracker", "--persist", &layer], &saved, &["leave `--persist` or `--snapshot` out"]),
        (&["--vmm", "cloud-hypervisor", "--persist", &layer], &saved, &["leave `--persist`"]),
        (&["--forward", "8022:22", "--gdb=8022"], &[], &["port 8022 of the host is wanted twice"]),
    ];
    for (options, more, expected) in cases {
        dry(&[options, more].concat()).expect(2, expected)?;
    }
    run(&mut call(&["run", "probe", "--memory", "1"])).expect(2, &["16 to"])?;
    run(&mut call(&["run", "probe", "--memory", "1", "--push"])).expect(2, &["16 to"])?;
    match folder.path().read_dir().map(Iterator::count) {
        Ok(0) => Ok(None),
        other => Err(format!("something was made: {other:?}")),
    }
}

/// In a store without anything in it, where building would take long and needs the network.
fn before_building() -> Outcome {
    let folder = scratch();
    let store = folder.path().join("store");
    let cases: [(&[&str], i32, &str); 4] = [
        (&["--vmm", "firecracker", "--graphics"], 2, "firecracker has no display"),
        (&["--vmm", "microvm", "--disk", "nvme"], 2, "microvm's disk is `virtioModern`"),
        (&["--memory", "1"], 2, "`memoryMib` must be"),
        (&[], 1, "`qemu-system-x86_64` was not found"),
    ];
    let tools = folder.path().join("tools");
    std::fs::create_dir(&tools).map_err(|error| error.to_string())?;
    for (options, status, expected) in cases {
        let mut command = call(&["run", "probe"]);
        command.args(options).env("REDNIX_STORE", &store).env("PATH", &tools);
        ended(command)?.expect(status, &[expected])?;
    }
    Ok(None)
}

fn foreign_folder() -> Outcome {
    let folder = scratch();
    let file = folder.path().join("config.json");
    std::fs::write(&file, "mine").map_err(|error| error.to_string())?;
    for vmm in ["firecracker", "cloud-hypervisor"] {
        let name = folder.path().display().to_string();
        dry(&["--vmm", vmm, "--snapshot", &name]).expect(2, &[&name, "no machine's", "new or empty"])?;
    }
    if std::fs::read_to_string(&file).is_ok_and(|text| text == "mine") {
        return Ok(None);
    }
    Err("the file is not as it was".into())
}

/// A file as large as the image, of which nothing says that it is a copy of it.
fn half_a_layer() -> Outcome {
    let image = dry(&["--vmm", "firecracker", "--disk", "virtioModern"]);
    for lack in ["was not found", "there is no loader"] {
        if let Some(reason) = image.stderr.lines().find(|line| line.contains(lack)) {
            return Ok(Some(reason.to_owned()));
        }
    }
    image.expect(0, &[])?;
    let image = image
        .stdout
        .split_whitespace()
        .find(|word| word.ends_with("/disk.img"))
        .ok_or("there is no image")?;
    let size = std::fs::metadata(image).map_err(|error| error.to_string())?.len();
    let folder = scratch();
    let layer = folder.path().join("half.layer");
    let made = std::fs::File::create(&layer).and_then(|file| file.set_len(size));
    made.map_err(|error| error.to_string())?;
    let name = layer.display().to_string();
    let options = ["run", "probe", "--vmm", "firecracker", "--disk", "virtioModern", "--persist", &name];
    ended(call(&options))?.expect(2, &[&name, "what it is a copy of", "name another file"])?;
    Ok(None)
}

/// A machine that starts although it must not is ended.
fn ended(mut command: Command) -> Result<Run, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(text)?;
    let deadline = Instant::now() + Duration::from_secs(240);
    while child.try_wait().map_err(text)?.is_none() {
        if Instant::now() > deadline {
            child.kill().map_err(text)?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().map(Run::from).map_err(text)
}

fn no_qemu(options: &[&str]) -> Option<String> {
    let result = dry(options);
    result.stderr.lines().find(|line| line.contains("was not found")).map(str::to_owned)
}

fn beyond_qemu() -> Outcome {
    let direct = ["--accel", "tcg", "--firmware", "bios"];
    if let Some(reason) = no_qemu(&direct) {
        return Ok(Some(reason));
    }
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let (forward, gdb) = (format!("{port}:22"), format!("--gdb={port}"));
    let taken = format!("port {port} of the host");
    let mut cases: Vec<(Vec<&str>, Vec<&str>)> = vec![
        (vec!["--forward", &forward], vec!["machine `probe`", &taken, "is taken", "--forward PORT"]),
        (vec![&gdb], vec![&taken, "for a debugger", "--gdb=PORT"]),
        (vec!["--audio", "hda=nowhere"], vec!["no sound output `nowhere`", "-audiodev help"]),
        (vec!["--graphics=gtk"], vec!["did not start machine `probe`", "--graphics=vnc"]),
        (vec!["--graphics=sdl"], vec!["did not start machine `probe`", "--graphics=vnc"]),
    ];
    let shown = (5900..5999).find_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?)));
    let vnc = shown.as_ref().map(|(port, _)| format!("--graphics=vnc={port}"));
    if let Some(vnc) = &vnc {
        cases.push((vec![vnc], vec!["for its screen by VNC", "is taken", "--graphics=vnc=PORT"]));
    }
    for (options, expected) in &cases {
        let mut command = call(&["run", "probe"]);
        command.args(direct).args(options).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        ended(command)?.expect(1, expected)?;
    }
    Ok(None)
}

/// What `auto` finds out counts for who insists, too.
fn insists_on_kvm() -> Outcome {
    if let Some(reason) = no_qemu(&[]) {
        return Ok(Some(reason));
    }
    let auto = dry(&["--accel", "auto"]);
    auto.expect(0, &[])?;
    let insisting = dry(&["--accel", "kvm"]);
    if auto.stdout.contains("-accel kvm") {
        insisting.expect(0, &[])?;
    } else {
        insisting.expect(1, &["a KVM that works", "--accel tcg"])?;
        let reason = if Path::new("/dev/kvm").exists() { "KVM" } else { "there is no /dev/kvm" };
        insisting.expect(1, &[reason])?;
    }
    Ok(None)
}
