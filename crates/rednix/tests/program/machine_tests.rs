//! `rednix test` and what stands beside it (pushes are in `machine_pushes`), with a made-up QEMU: a script that gives a shell of this machine a
//! terminal. So images are never looked into, and nothing has to be built for them.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Outcome;
use crate::machine_endings::{Terminal, descendants, is_alive};
use crate::support::{Run, call, checkout, run, scratch, write, write_program};

pub const TESTS: [(&str, fn() -> Outcome); 9] = [
    ("machine_tests_of_a_file_run_and_are_told", || in_scene(of_a_file)),
    ("machine_tests_that_are_wrong_name_their_place", || in_scene(wrong_ones)),
    ("machine_tests_of_a_flake_are_checks", || in_scene(of_a_flake)),
    ("machine_tests_of_a_flake_have_nothing_of_this_machine", || in_scene(of_a_hostile_flake)),
    ("machine_tests_beyond_their_monitor_are_usage_errors", || in_scene(impossible_ones)),
    ("machine_tests_that_are_interrupted_keep_their_results", || in_scene(interrupted)),
    ("machine_tests_say_last_why_a_console_is_open", || in_scene(interactive)),
    ("a_run_ends_with_its_output", || in_scene(output_gone)),
    ("cargo_without_a_crate_says_so", cargo_without_crate),
];

/// The prompt is said twice, for a shell that `script` starts in between may drop it, and that of ordinary users is another.
const QEMU: &str = r#"#!/bin/sh
case "$*" in *--version*) echo "QEMU emulator version 7.2.0"; exit 0 ;; esac
export PS1='# '
exec script -qfec "PS1='$PS1' exec sh -i" /dev/null
"#;

/// What tests need of a machine so that the made-up QEMU does.
const MACHINE: &str = r#"shell = "sh"; firmware = "bios"; acceleration = "tcg"; image = ./image;"#;

/// Runs a test in a folder with the program and an image; skips it where this machine has no terminals to give.
pub fn in_scene(test: fn(&Path) -> Result<(), String>) -> Outcome {
    if !["/usr/bin/script", "/bin/script"].iter().any(|path| Path::new(path).exists()) {
        let reason = "`script`, which gives the made-up machine its terminal, is not installed";
        return Ok(Some(reason.to_owned()));
    }
    let folder = scratch();
    write_program(&folder.path().join("bin/qemu-system-x86_64"), QEMU);
    write(&folder.path().join("image/disk.img"), &"\0".repeat(512));
    test(folder.path()).map(|()| None)
}

pub fn called(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = call(arguments);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", folder.join("bin").display()));
    command.env("XDG_STATE_HOME", folder.join("state")).env("XDG_CACHE_HOME", folder.join("cache"));
    command
}

fn tests_of(folder: &Path, arguments: &[&str]) -> Run {
    let file = folder.join("t.nix").display().to_string();
    run(called(folder, &[&["test", &file][..], arguments].concat())
        .arg("--results")
        .arg(folder.join("results")))
}

fn of_a_file(folder: &Path) -> Result<(), String> {
    write(
        &folder.join("t.nix"),
        &format!(
            r##"{{ word ? "hello", ... }}:
{{
  good = {{
    machines.box = {{ {MACHINE} }};
    steps = [
      {{ waitFor = "# "; }}
      {{ run = "echo ${{word}}"; output = {{ regex = "^hello$"; }}; }}
      {{ copyIn = {{ from = ./t.nix; to = "t-{}.copy"; }}; }}
      {{ run = "rm t-{}.copy"; }}
      {{ shutdown = "exit 0"; }}
    ];
  }};
  bad = {{
    machines.box = {{ {MACHINE} }};
    steps = [
      {{ waitFor = "# "; }}
      {{ run = "echo oh no; false"; }}
    ];
  }};
}}
"##,
            std::process::id(),
            std::process::id()
        ),
    );
    let junit = folder.join("results.xml").display().to_string();
    let result = tests_of(folder, &["--junit", &junit, "--json"]);
    let place = format!(
        "bad: step 2 at {}:17 (run \"echo oh no; false\"): it ended with status 1, not 0",
        folder.join("t.nix").display()
    );
    result.expect(1, &["1 of 2 machine tests failed", &place, "oh no"])?;
    let value: Value = serde_json::from_str(&result.stdout).map_err(|e| format!("{e}: {}", result.stdout))?;
    let outcome = |at: usize| value["tests"][at]["outcome"].as_str().unwrap_or_default().to_owned();
    if (outcome(0).as_str(), outcome(1).as_str()) != ("failed", "passed") {
        return Err(format!("other outcomes: {value:#}"));
    }
    if value["tests"][1]["steps"][1]["answer"]["output"] != "hello\n" {
        return Err(format!("no answer of the command: {value:#}"));
    }
    let xml = std::fs::read_to_string(&junit).map_err(|e| e.to_string())?;
    if !xml.contains("tests=\"2\" failures=\"1\"") || !xml.contains("name=\"bad\"") {
        return Err(format!("the results as XML are other ones: {xml}"));
    }
    if !folder.join("results/bad/box.console").is_file() {
        return Err("the console was not kept".into());
    }
    let one = format!("{}#good", folder.join("t.nix").display());
    let result = run(called(folder, &["test", &one]).arg("--results").arg(folder.join("results")));
    result.expect(0, &[])?;
    if !result.stdout.contains("1 passed, 0 failed, 0 skipped") {
        return Err(format!("another summary: {}", result.stdout));
    }
    let list = |test: &str| run(&mut called(folder, &["test", "--list", test]));
    let named = |name: &str| list(&format!("{}#{name}", folder.join("t.nix").display()));
    for (result, expected) in
        [(list(&folder.join("t.nix").display().to_string()), "bad\ngood\n"), (named("good"), "good\n")]
    {
        result.expect(0, &[])?;
        if result.stdout != expected {
            return Err(format!("other names: {}", result.stdout));
        }
    }
    named("ugly").expect(2, &["no test is named `ugly`; there are: bad, good"])?;
    Ok(())
}

fn wrong_ones(folder: &Path) -> Result<(), String> {
    let test = |steps: &str| {
        format!(
            "{{\n  t = {{\n    machines.box = {{ {MACHINE} }};\n    steps = [\n{steps}\n    ];\n  }};\n}}\n"
        )
    };
    let cases = [
        (test("      { rnu = \"ls\"; }"), "the test `t` is wrong: step 1 at"),
        (test("      { rnu = \"ls\"; }"), "t.nix:5: unknown field `rnu`; did you mean `run`?"),
        (
            test("      { send = \"x\"; }\n      { run = \"a\"; waitFor = \"b\"; }"),
            "t.nix:6: a step has exactly one action",
        ),
        (test(""), "1 to"),
        (test("      \"ls\""), "a step is an attribute set"),
        (
            "{ t = { steps = [ { start = true; } ]; }; }".into(),
            "the test `t` has neither `system` nor `machines`",
        ),
        (
            "{ t = { machines.box = { }; steps = [ ]; }; }".into(),
            "machine `box` of the test `t` has neither `system` nor `image`",
        ),
        ("5".into(), "gives no tests"),
    ];
    for (text, expected) in cases {
        write(&folder.join("t.nix"), &text);
        let result = tests_of(folder, &[]);
        if result.status == Some(0) || !result.stderr.contains(expected) {
            return Err(format!("{text}\nstatus {:?}, no {expected:?} in\n{}", result.status, result.stderr));
        }
    }
    let file = format!("{}#other", folder.join("t.nix").display());
    write(&folder.join("t.nix"), &test("      { start = true; }"));
    run(&mut called(folder, &["test", &file])).expect(2, &["no test is named `other`; there are: t"])?;
    run(&mut called(folder, &["test", "no-such"]))
        .expect(2, &["no test is named `no-such`", "probe-microvm"])?;
    Ok(())
}

fn of_a_flake(folder: &Path) -> Result<(), String> {
    let flake = folder.join("flake");
    write(&flake.join("image/disk.img"), &"\0".repeat(512));
    let write_flake = |status: u8| {
        write(
            &flake.join("flake.nix"),
            &format!(
                r##"{{
  inputs.rednix = {{ url = "path:{}"; flake = false; }};
  outputs = {{ self, rednix }}: {{
    checks.x86_64-linux.console = (import "${{rednix}}" {{ }}).machineTest "console" {{
      machines.box = {{ {MACHINE} }};
      steps = [ {{ waitFor = "# "; }} {{ run = "(exit {status})"; }} {{ shutdown = "exit 0"; }} ];
    }};
  }};
}}
"##,
                checkout().join("nix").display()
            ),
        );
    };
    let flake = format!("path:{}", flake.display());
    write_flake(0);
    let result = run(&mut called(folder, &["flake", "check", &flake]));
    result.expect(0, &["test console: passed"])?;
    let result = run(&mut called(folder, &["test", &format!("{flake}#console")]));
    result.expect(0, &["test console: passed"])?;
    write_flake(3);
    let result = run(&mut called(folder, &["flake", "check", &flake]));
    result.expect(1, &["console: step 2", "it ended with status 3, not 0"])?;
    // Without building nothing is run.
    run(&mut called(folder, &["flake", "check", "--no-build", &flake])).expect(0, &[])?;
    Ok(())
}

/// A test that has the monitor write a file of the user's, or reads one, does so with the user's word only.
fn of_a_hostile_flake(folder: &Path) -> Result<(), String> {
    let flake = folder.join("flake");
    write(&flake.join("image/disk.img"), &"\0".repeat(512));
    write(&folder.join("secret"), "secret");
    let secret = folder.join("secret").display().to_string();
    // The made-up monitor, which does what a real one does with `-D FILE`.
    write_program(
        &folder.join("bin/qemu-system-x86_64"),
        &QEMU.replace(
            "export PS1",
            "while [ $# -gt 1 ]; do [ $1 = -D ] && echo owned > $2; shift; done\nexport PS1",
        ),
    );
    let reference = format!("path:{}", flake.display());
    let cases = [
        (format!("extraArguments = [ \"-D\" \"{secret}\" ];"), "", "machine `box`: `extraArguments`"),
        ("network.tap.interface = \"tap0\";".to_owned(), "", "machine `box`: `network`"),
        (format!("persist = \"{secret}\";"), "", "machine `box`: `persist`"),
        (String::new(), "{ copyIn = { from = \"SECRET\"; to = \"x\"; }; }", "machine `box`: `copyIn.from`"),
    ];
    for (attribute, step, expected) in cases {
        write(
            &flake.join("flake.nix"),
            &format!(
                r##"{{
  inputs.rednix = {{ url = "path:{}"; flake = false; }};
  outputs = {{ self, rednix }}: {{
    checks.x86_64-linux.console = (import "${{rednix}}" {{ }}).machineTest "console" {{
      machines.box = {{ {MACHINE} {attribute} }};
      steps = [ {{ waitFor = "# "; }} {} {{ shutdown = "exit 0"; }} ];
    }};
  }};
}}
"##,
                checkout().join("nix").display(),
                step.replace("SECRET", &secret)
            ),
        );
        let whole = ["the test `console` of a flake", expected, "--trust-machines"];
        run(&mut called(folder, &["flake", "check", &reference])).expect(2, &whole)?;
        run(&mut called(folder, &["test", &format!("{reference}#console")])).expect(2, &whole)?;
        if std::fs::read_to_string(&secret).map_err(|e| e.to_string())? != "secret" {
            return Err(format!("{expected}: the file was written"));
        }
        if attribute.starts_with("extra") {
            let trusted = ["flake", "check", &reference, "--trust-machines"];
            run(&mut called(folder, &trusted)).expect(0, &["test console: passed"])?;
            if std::fs::read_to_string(&secret).map_err(|e| e.to_string())? != "owned\n" {
                return Err("the trusted test did not do what it says, so this test shows nothing".into());
            }
            write(&folder.join("secret"), "secret");
        }
    }
    Ok(())
}

/// What no run of a test could do is found before anything runs.
fn impossible_ones(folder: &Path) -> Result<(), String> {
    // It keeps what it was called with.
    write_program(
        &folder.join("bin/qemu-system-x86_64"),
        &QEMU.replace("export PS1", "echo \"$*\" > ${0%/*}/arguments\nexport PS1"),
    );
    let test = |attribute: &str| {
        format!(
            "{{ t = {{ machines.box = {{ {MACHINE} {attribute} }}; steps = [ {{ waitFor = \"# \"; }} ]; }}; }}\n"
        )
    };
    let cases = [
        ("vmm = \"xen\";", "machine `box`: `vmm` is one of qemu, microvm, "),
        ("memoryMib = 1;", "machine `box`: `memoryMib` must be"),
        ("restore = ./image;", "machine `box`: QEMU's state is not saved or restored"),
        ("shares = [ { folder = \"no/such\"; tag = \"t\"; } ];", "there is no folder"),
        ("persist = \"layer\"; disk = \"none\";", "`persist` keeps what is written to the disk"),
    ];
    for (attribute, expected) in cases {
        write(&folder.join("t.nix"), &test(attribute));
        tests_of(folder, &[]).expect(2, &["the test `t` is wrong", expected])?;
    }
    let endless = test("").replacen("machines.box", "timeout = 9223372036854775807; machines.box", 1);
    write(&folder.join("t.nix"), &endless);
    tests_of(folder, &[]).expect(2, &["the test `t` is wrong", "`timeout` is 1 to"])?;
    let steps = [
        ("{ waitForPort = 22; }", "step 1 at", "nothing leads to port 22"),
        ("{ screenshot = \"x\"; }", "step 1 at", "the machine has no screen"),
        ("{ copyIn = { from = ./absent; to = \"x\"; }; }", "step 1 at", "there is no file"),
        ("{ run = \"a\\nb\"; }", "step 1 at", "one line"),
    ];
    for (step, place, expected) in steps {
        let text = format!("{{ t = {{ machines.box = {{ {MACHINE} }}; steps = [ {step} ]; }}; }}\n");
        write(&folder.join("t.nix"), &text);
        tests_of(folder, &[]).expect(2, &[&format!("the test `t` is wrong: {place}"), expected])?;
    }
    // In a store without anything in it, where building takes long and needs the network.
    let text = format!(
        "{{ t = {{ system = \"probe\"; machine = {{ {} vmm = \"xen\"; }}; steps = [ {{ waitFor = \"# \"; }} ]; }}; }}\n",
        MACHINE.replace("image = ./image;", "")
    );
    write(&folder.join("t.nix"), &text);
    let mut unbuilt = called(folder, &["test", &folder.join("t.nix").display().to_string()]);
    run(unbuilt.env("REDNIX_STORE", folder.join("store"))).expect(2, &["`vmm` is one of"])?;
    let tests = folder.join("t.nix").display().to_string();
    let places = [
        ("--results", tests.clone(), "is no folder"),
        ("--junit", format!("{tests}/x.xml"), "there is no folder"),
        ("--junit", folder.join("no/such/x.xml").display().to_string(), "there is no folder"),
        ("--junit", folder.display().to_string(), "it is a folder"),
    ];
    write(&folder.join("t.nix"), &test(""));
    for (option, place, expected) in &places {
        let result = run(&mut called(folder, &["test", &tests, option, place]));
        result.expect(2, &[option, place, expected, "name another place"])?;
    }
    if folder.join("bin/arguments").exists() || folder.join("results").exists() {
        return Err("something was started for a test that is wrong".into());
    }
    // Paths are those of whoever calls, though the monitor works elsewhere.
    write(
        &folder.join("t.nix"),
        &test(
            "persist = \"layer\"; network.user.forwards = [ { host = 0; guest = 22; } { host = 0; guest = 80; } ];",
        ),
    );
    let file = folder.join("t.nix").display().to_string();
    let results = folder.join("results").display().to_string();
    let result = run(called(folder, &["test", &file, "--results", &results]).current_dir(folder));
    result.expect(0, &[])?;
    let arguments = std::fs::read_to_string(folder.join("bin/arguments")).map_err(|e| e.to_string())?;
    if !arguments.contains(&format!("file={}/layer", folder.display())) {
        return Err(format!("the monitor got another layer: {arguments}"));
    }
    // Each forward that takes any port has one of its own.
    let mut ports: Vec<_> =
        arguments.split("hostfwd=tcp:127.0.0.1:").skip(1).map(|rest| rest.split('-').next()).collect();
    ports.sort_unstable();
    ports.dedup();
    if ports.len() != 2 || ports.contains(&Some("0")) {
        return Err(format!("the ports are other ones: {ports:?} in {arguments}"));
    }
    Ok(())
}

/// Waits for something to become true.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !is_so() {
        if Instant::now() > deadline {
            return Err(format!("in vain: {what}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn interrupted(folder: &Path) -> Result<(), String> {
    write(
        &folder.join("t.nix"),
        &format!(
            "{{ a = {{ machines.box = {{ {MACHINE} }}; steps = [ {{ waitFor = \"# \"; }} ]; }};\n\
         b = {{ machines.box = {{ {MACHINE} }}; steps = [ {{ sleep = 600; }} ]; timeout = 900; }};\n\
         c = {{ machines.box = {{ {MACHINE} }}; steps = [ {{ waitFor = \"# \"; }} ]; }}; }}\n"
        ),
    );
    let (file, junit) = (folder.join("t.nix").display().to_string(), folder.join("junit.xml"));
    let child = called(folder, &["test", &file, "-j", "1", "--json", "--results"])
        .arg(folder.join("results"))
        .arg("--junit")
        .arg(&junit)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    until("the second test runs", || folder.join("results/b/box.console").exists())?;
    kill_process(Pid::from_child(&child), Signal::INT).map_err(|e| e.to_string())?;
    let result: Run = child.wait_with_output().map_err(|e| e.to_string())?.into();
    result.expect(130, &["interrupted"])?;
    let value: Value = serde_json::from_str(&result.stdout).map_err(|e| format!("{e}: {}", result.stdout))?;
    let outcomes: Vec<_> =
        (0..3).map(|at| value["tests"][at]["outcome"].as_str().unwrap_or_default()).collect();
    if outcomes != ["passed", "skipped", "skipped"] || value["tests"][1]["message"] != "interrupted" {
        return Err(format!("other results: {value:#}"));
    }
    let xml = std::fs::read_to_string(&junit).map_err(|e| e.to_string())?;
    if !xml.contains("tests=\"3\" failures=\"0\" errors=\"0\" skipped=\"2\"") {
        return Err(format!("other results as XML: {xml}"));
    }
    Ok(())
}

/// The environment of [`called`], for a program at a terminal.
pub fn environment(folder: &Path) -> Vec<(&'static str, String)> {
    let path = std::env::var("PATH").unwrap_or_default();
    vec![
        ("PATH", format!("{}:{path}", folder.join("bin").display())),
        ("XDG_STATE_HOME", folder.join("state").display().to_string()),
        ("XDG_CACHE_HOME", folder.join("cache").display().to_string()),
        ("NO_COLOR", "1".to_owned()),
    ]
}

fn interactive(folder: &Path) -> Result<(), String> {
    write(
        &folder.join("t.nix"),
        &format!(
            "{{ t = {{ machines.box = {{ {MACHINE} }}; steps = [\n\
         {{ waitFor = \"# \"; }} {{ run = \"echo of the console\"; }} {{ run = \"false\"; }} ]; }}; }}\n"
        ),
    );
    let (file, results) =
        (folder.join("t.nix").display().to_string(), folder.join("results").display().to_string());
    let options = ["test", &file, "--interactive", "--results", &results];
    let mut terminal = Terminal::start_with(&options, &environment(folder))?;
    terminal.wait_for("Ctrl-A X ends")?;
    let log = terminal.seen.rfind("of the console");
    let reason = terminal.seen.find("it ended with status 1, not 0");
    if log.is_none() || reason.is_none() || log > reason {
        return Err(format!("the reason is not the last that is seen:\n{}", terminal.seen));
    }
    terminal.write(b"echo a''live\r")?;
    terminal.wait_for("alive")?;
    terminal.write(b"\x01x")?;
    match terminal.end()? {
        Some(1) => Ok(()),
        status => Err(format!("exit status {status:?}:\n{}", terminal.seen)),
    }
}

/// A system that needs no building to speak of, for `rednix run`.
pub fn write_system(folder: &Path) -> String {
    let file = folder.join("system.nix");
    write(&file, &tree(&format!("{} {}", entry("disk.img", "x"), entry("manifest.json", "{}"))));
    file.display().to_string()
}

pub fn tree(entries: &str) -> String {
    format!(
        "{{ rednix, ... }}: {{ image = rednix.derive.builtinBuild \"tree\" {{ name = \"made-up\"; entries = [ {entries} ]; }}; machine = {{ firmware = \"bios\"; acceleration = \"tcg\"; }}; }}\n"
    )
}

pub fn entry(path: &str, text: &str) -> String {
    format!("{{ path = \"{path}\"; type = \"file\"; text = \"{text}\"; }}")
}

/// Whoever read what a machine prints is gone: so is the machine, whether it says something more or not.
fn output_gone(folder: &Path) -> Result<(), String> {
    let system = write_system(folder);
    for guest in ["exec sleep 100000", "while echo more; do sleep 0.2; done"] {
        let text = QEMU
            .replace("export PS1='# '", "echo ready")
            .replace("exec script -qfec \"PS1='$PS1' exec sh -i\" /dev/null", guest);
        write_program(&folder.join("bin/qemu-system-x86_64"), &text);
        let mut child = called(folder, &["run", &system])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let mut output = child.stdout.take().ok_or("there is no output")?;
        let mut seen = [0; 5];
        output.read_exact(&mut seen).map_err(|e| format!("{guest}: {e}"))?;
        let below = descendants(Pid::from_child(&child));
        drop(output);
        let ended = until("the run ends", || child.try_wait().is_ok_and(|status| status.is_some()));
        if ended.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|e| e.to_string())?;
        ended.map_err(|error| format!("{guest}: {error}"))?;
        if status.code() != Some(130) || below.is_empty() {
            return Err(format!("{guest}: {status}, {} processes below", below.len()));
        }
        until("no monitor is left", || !below.iter().any(|&process| is_alive(process)))?;
    }
    Ok(())
}

fn cargo_without_crate() -> Outcome {
    let folder = scratch();
    let run_in = |place: &Path| run(called(folder.path(), &["cargo", "test"]).current_dir(place));
    run_in(folder.path()).expect(2, &["there is no Cargo.toml in"])?;
    write(&folder.path().join("Cargo.toml"), "[package]\nname = \"x\"\n");
    run_in(folder.path()).expect(2, &["has no Cargo.lock", "cargo generate-lockfile"])?;
    let endless = u64::MAX.to_string();
    run(&mut call(&["cargo", "test", "--limit", &endless])).expect(2, &["--limit", "86400"])?;
    Ok(None)
}
