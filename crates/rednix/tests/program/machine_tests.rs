//! `rednix test` and what stands beside it, with a made-up QEMU: a script that gives a shell of this machine a
//! terminal. So images are never looked into, and nothing has to be built for them.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Outcome;
use crate::support::{Run, call, checkout, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 6] = [
    ("machine_tests_of_a_file_run_and_are_told", of_a_file),
    ("machine_tests_that_are_wrong_name_their_place", wrong_ones),
    ("machine_tests_of_a_flake_are_checks", of_a_flake),
    ("packages_are_pushed_into_a_running_machine", pushed),
    ("pushing_without_a_machine_says_so", pushed_to_nobody),
    ("cargo_without_a_crate_says_so", cargo_without_crate),
];

const QEMU: &str = r#"#!/bin/sh
case "$*" in *--version*) echo "QEMU emulator version 7.2.0"; exit 0 ;; esac
export PS1='# '
exec script -qfec "sh -i" /dev/null
"#;

/// What tests need of a machine so that the made-up QEMU does.
const MACHINE: &str = r#"shell = "sh"; firmware = "bios"; acceleration = "tcg"; image = ./image;"#;

/// A folder with the program, an image and tests; the reason where this machine has no terminals to give.
fn scene(tests: &str) -> Result<tempfile::TempDir, String> {
    if !["/usr/bin/script", "/bin/script"].iter().any(|path| Path::new(path).exists()) {
        return Err(
            "skipped: `script`, which gives the made-up machine its terminal, is not installed".into()
        );
    }
    let folder = scratch();
    let program = folder.path().join("bin/qemu-system-x86_64");
    write(&program, QEMU);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
    write(&folder.path().join("image/disk.img"), &"\0".repeat(512));
    write(&folder.path().join("t.nix"), tests);
    Ok(folder)
}

fn called(folder: &Path, arguments: &[&str]) -> Command {
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

fn skipped(reason: String) -> Outcome {
    if reason.starts_with("skipped: ") { Ok(Some(reason)) } else { Err(reason) }
}

fn of_a_file() -> Outcome {
    let folder = match scene(&format!(
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
    )) {
        Ok(folder) => folder,
        Err(reason) => return skipped(reason),
    };
    let folder = folder.path();
    let junit = folder.join("results.xml").display().to_string();
    let result = tests_of(folder, &["--junit", &junit, "--json"]);
    let place = format!(
        "bad: step 2 at {}:17 (run \"echo oh no; false\"): it ended with status 1",
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
    tests_of(folder, &["--list"]).expect(0, &[]).map(|result| result.stdout.clone()).and_then(|names| {
        if names == "bad\ngood\n" { Ok(None) } else { Err(format!("other names: {names}")) }
    })
}

fn wrong_ones() -> Outcome {
    let folder = match scene("") {
        Ok(folder) => folder,
        Err(reason) => return skipped(reason),
    };
    let folder = folder.path();
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
    Ok(None)
}

fn of_a_flake() -> Outcome {
    let folder = match scene("") {
        Ok(folder) => folder,
        Err(reason) => return skipped(reason),
    };
    let folder = folder.path();
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
    result.expect(1, &["console: step 2", "it ended with status 3"])?;
    // Without building nothing is run.
    run(&mut called(folder, &["flake", "check", "--no-build", &flake])).expect(0, &[])?;
    Ok(None)
}

fn pushed() -> Outcome {
    let folder = match scene("") {
        Ok(folder) => folder,
        Err(reason) => return skipped(reason),
    };
    let folder = folder.path();
    // The made-up machine's files are this machine's: the package has its own in a folder made for it.
    let inside = folder.join("guest");
    std::fs::create_dir(&inside).map_err(|e| e.to_string())?;
    let tree = |entries: &str| {
        format!(
            "{{ rednix, ... }}: {{ image = rednix.derive.builtinBuild \"tree\" {{ name = \"made-up\"; entries = [ {entries} ]; }}; machine = {{ firmware = \"bios\"; acceleration = \"tcg\"; }}; }}\n"
        )
    };
    let file =
        |path: &str, text: &str| format!("{{ path = \"{path}\"; type = \"file\"; text = \"{text}\"; }}");
    let tool = inside.join("tool").display().to_string();
    write(
        &folder.join("system.nix"),
        &tree(&format!("{} {}", file("disk.img", "x"), file("manifest.json", "{}"))),
    );
    let package = |text: &str| {
        write(
            &folder.join("package.nix"),
            &tree(&format!("{} {}", file(&tool, text), file(&format!("{tool}.same"), "same"))),
        );
    };
    package("first");
    let paths = ["system.nix", "package.nix"].map(|name| folder.join(name).display().to_string());
    let mut machine = called(folder, &["run", "--push", &paths[0]])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let socket = folder.join("state/rednix/machines/system.sock");
    let deadline = Instant::now() + Duration::from_secs(120);
    while !socket.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let push = || run(&mut called(folder, &["push", &paths[1]]));
    let told = |text: &str, sent: usize, same: usize| {
        text.contains(&format!("{sent} files sent, ")) && text.contains(&format!("; {same} were the same"))
    };
    let work = || -> Result<(), String> {
        let result = push();
        result.expect(0, &[])?;
        if !told(&result.stdout, 2, 0) {
            return Err(format!("another answer: {}{}", result.stdout, result.stderr));
        }
        package("second");
        let result = push();
        result.expect(0, &[])?;
        if !told(&result.stdout, 1, 1) {
            return Err(format!("another answer: {}{}", result.stdout, result.stderr));
        }
        let text = std::fs::read_to_string(&tool).map_err(|e| e.to_string())?;
        if text == "second" { Ok(()) } else { Err(format!("the file has {text:?}")) }
    };
    let result = work();
    // What comes over a pipe goes to the guest, whose shell is the whole machine here.
    let typed = machine.stdin.take().map(|mut input| std::io::Write::write_all(&mut input, b"exit\r"));
    let mut seen = String::new();
    if let Some(mut output) = machine.stderr.take() {
        let _ = output.read_to_string(&mut seen);
    }
    let status = machine.wait().map_err(|e| e.to_string())?;
    result.map_err(|reason| format!("{reason}\nthe machine said: {seen}"))?;
    if !matches!(typed, Some(Ok(()))) || !status.success() || socket.exists() {
        return Err(format!(
            "the machine ended with {status}, and its socket is there: {}\n{seen}",
            socket.exists()
        ));
    }
    Ok(None)
}

fn pushed_to_nobody() -> Outcome {
    let folder = scratch();
    run(&mut called(folder.path(), &["push", "ion"]))
        .expect(2, &["no machine runs that takes packages", "rednix run --push"])?;
    Ok(None)
}

fn cargo_without_crate() -> Outcome {
    let folder = scratch();
    let run_in = |place: &Path| run(called(folder.path(), &["cargo", "test"]).current_dir(place));
    run_in(folder.path()).expect(2, &["there is no Cargo.toml in"])?;
    write(&folder.path().join("Cargo.toml"), "[package]\nname = \"x\"\n");
    run_in(folder.path()).expect(2, &["has no Cargo.lock", "cargo generate-lockfile"])?;
    Ok(None)
}
