//! The test framework with a made-up monitor: a shell on a real terminal that asks for a login first. What tests do
//! with consoles, shells, files, several machines and endings is tried here; what they do with real monitors in the
//! machine tests of the library.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rednix_events::{Events, Outcome, Silent};
use rednix_vm::control::{Control, Qmp};
use rednix_vm::runner::{Command, Wiring};
use rednix_vm::spec::Acceleration;
use rednix_vm::{Config, Error, Exit, MachineSpec, Program, Result, Runner, TestReport, TestSpec, run_test};
use serde_json::{Value, json};

const MONITOR: &str = r#"#!/bin/sh
printf 'booting\r\n'
exec script -qfec "sh $TMPDIR/../../guest.sh" /dev/null
"#;

/// A login whose password is not echoed, then a shell at a prompt.
const GUEST: &str = r"
printf 'box login: '
read name
stty -echo
printf 'Password: '
read password
stty echo
[ $password = secret ] || { echo 'Login incorrect'; exit 9; }
echo
cd $TMPDIR
PS1='# ' exec sh -i
";

struct Terminal;

impl Runner for Terminal {
    fn name(&self) -> &'static str {
        "terminal"
    }

    fn find(&self, _: &MachineSpec, config: &Config) -> Result<Program> {
        match config.find_program("monitor") {
            Some(path) => Ok(Program::at(path)),
            None => Err(Error::Missing { what: "`monitor`".into(), how: "nothing".into() }),
        }
    }

    fn limitations(&self) -> &'static [&'static str] {
        &[]
    }

    fn check(&self, spec: &MachineSpec) -> Result<()> {
        spec.check()
    }

    fn smoke_test(&self, _: &Program, _: &Config) -> Result<std::result::Result<(), String>> {
        Ok(Err("a script".into()))
    }

    fn command(
        &self,
        program: &Program,
        _: &MachineSpec,
        _: &Config,
        wiring: &Wiring<'_>,
    ) -> Result<Command> {
        let environment = vec![("TMPDIR".into(), wiring.scratch.into())];
        Ok(Command { program: program.path.clone(), environment, ..Command::default() })
    }

    fn control(&self, _: &Program, _: &Path) -> Result<(Box<dyn Control>, Option<OwnedFd>)> {
        let (ours, theirs) = Qmp::pair()?;
        Ok((Box::new(ours), Some(theirs.into())))
    }

    fn exit(&self, status: i32) -> Exit {
        rednix_vm::qemu::Qemu::Pc.exit(status)
    }
}

struct Scene {
    folder: tempfile::TempDir,
    config: Config,
}

impl Scene {
    /// None, and a line that says so, where the host has no `script`.
    fn new() -> Option<Scene> {
        let has_script = ["/usr/bin/script", "/bin/script"].iter().any(|path| Path::new(path).exists());
        if !has_script {
            println!("skipped: `script`, which gives the made-up guest its terminal, is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("monitor");
        std::fs::write(&program, MONITOR).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(folder.path().join("guest.sh"), GUEST).unwrap();
        std::fs::write(folder.path().join("disk.img"), [0; 512]).unwrap();
        let config = Config::new(
            vec![folder.path().into()],
            folder.path().join("scratch"),
            folder.path().join("logs"),
        );
        Some(Scene { folder, config })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn machine(&self, name: &str) -> Value {
        let spec =
            MachineSpec { acceleration: Acceleration::Tcg, ..MachineSpec::new(name, self.file("disk.img")) };
        let mut value = serde_json::to_value(spec).unwrap();
        value["shell"] = json!("sh");
        // Said by the specification, but not by the test: the private network is the default of several.
        value.as_object_mut().unwrap().remove("network");
        value
    }

    fn test(&self, machines: &[&str], steps: Value) -> TestReport {
        let machines: serde_json::Map<String, Value> =
            machines.iter().map(|name| ((*name).to_owned(), self.machine(name))).collect();
        let test = json!({ "name": "test", "machines": machines, "steps": steps, "failOn": ["panicked"], "capture": true });
        let spec: TestSpec = serde_json::from_value(test).unwrap();
        let events: Events = Arc::new(Silent);
        run_test(&Terminal, &spec, &self.config, &events).unwrap()
    }

    /// Steps after a login, and what the report has to say.
    fn expect(&self, mut steps: Value, expected: &str) -> TestReport {
        let login = json!({ "login": { "user": "root", "password": "secret" }, "timeout": 20 });
        steps.as_array_mut().unwrap().insert(0, login);
        let report = self.test(&["box"], steps.clone());
        let wanted = if expected.is_empty() { Outcome::Passed } else { Outcome::Failed };
        assert_eq!(report.outcome, wanted, "{steps}: {}\n{:#?}", report.message, report.console_tail);
        assert!(report.message.contains(expected), "{steps}: {:?} has no {expected:?}", report.message);
        report
    }
}

#[test]
fn commands_have_a_status_and_an_output() {
    let Some(scene) = Scene::new() else { return };
    let report = scene.expect(
        json!([
            { "run": "echo one; echo two", "output": { "regex": "^two$" } },
            { "run": "false", "status": 1 },
            { "run": "answer() { return 42; }; answer", "status": null },
            { "run": "(exit 42)", "status": 42 },
            { "run": "cd /; pwd", "output": "/\n" },
            { "run": "pwd", "output": { "regex": "^/$" } },
            { "run": "echo it\\'s \"quoted\" '$HOME'", "output": "it's quoted $HOME" },
            { "run": "printf 'no end'", "output": "no end" },
            { "runUntil": "test -e ready || { touch ready; false; }" },
            { "shutdown": "exit 0" },
        ]),
        "",
    );
    assert_eq!(report.steps.len(), 11);
    scene.expect(json!([{ "run": "echo seen; (exit 3)" }]), "it ended with status 3, with the output\nseen");
    scene.expect(json!([{ "run": "true", "status": 1 }]), "it ended with status 0, without output");
    scene.expect(json!([{ "run": "echo x", "output": "y" }]), "\"y\" is not in its output");
    scene.expect(json!([{ "run": "sleep 60", "timeout": 1 }]), "did not end the command: not seen within 1.");
    scene.expect(
        json!([{ "runUntil": "false", "timeout": 1 }]),
        "not as wanted in time; the last time it ended with status 1",
    );
    scene.expect(json!([{ "run": "exit 0" }]), "the machine ended before: powered off");
    scene.expect(
        json!([{ "run": "printf 'kernel panick''ed\\n'" }, { "run": "true" }]),
        "\"panicked\" appeared",
    );
    scene.expect(json!([{ "shutdown": "exit 51" }]), "the guest ended with status 51");
}

#[test]
fn wrong_passwords_are_told() {
    let Some(scene) = Scene::new() else { return };
    let report = scene.test(
        &["box"],
        json!([{ "login": { "user": "root", "password": "wrong" }, "timeout": 5, "position": "t.nix:3" }]),
    );
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(
        report.message.starts_with("step 1 at t.nix:3 (log in as `root`): the machine ended"),
        "{}",
        report.message
    );
    assert!(report.console_tail.iter().any(|line| line.contains("Login incorrect")));
}

#[test]
fn files_go_in_and_out_whole() {
    let Some(scene) = Scene::new() else { return };
    let bytes: Vec<u8> = (0..20_000_u32).map(|at| ((at * 7) ^ (at >> 3)) as u8).collect();
    std::fs::write(scene.file("data"), &bytes).unwrap();
    std::fs::write(scene.file("other"), "other").unwrap();
    std::fs::write(scene.file("nothing"), "").unwrap();
    let report = scene.expect(
        json!([
            { "copyIn": { "from": scene.file("data"), "to": "it's here" } },
            { "run": "wc -c < \"it's here\"", "output": "20000" },
            { "copyOut": { "from": "it's here", "to": "back", "same": scene.file("data") } },
            { "copyIn": { "from": scene.file("nothing"), "to": "empty" } },
            { "run": "test -e empty -a ! -s empty" },
        ]),
        "",
    );
    let back = report.files.iter().find(|file| file.ends_with("back")).unwrap();
    assert!(std::fs::read(back).unwrap() == bytes);
    scene.expect(json!([{ "copyOut": { "from": "missing" } }]), "reading `missing` ended with status 1");
    scene.expect(
        json!([{ "copyIn": { "from": scene.file("data"), "to": "a" } }, { "copyOut": { "from": "a", "same": scene.file("other") } }]),
        "it differs from",
    );
    scene.expect(
        json!([{ "copyIn": { "from": scene.file("data"), "to": "/no/such/folder" } }]),
        "writing `/no/such/folder` ended with status",
    );
    scene
        .expect(json!([{ "copyIn": { "from": "/no/such/file", "to": "a" } }]), "cannot read `/no/such/file`");
}

#[test]
fn machines_are_told_apart_and_start_again() {
    let Some(scene) = Scene::new() else { return };
    let login =
        |on: &str| json!({ "on": on, "login": { "user": "root", "password": "secret" }, "timeout": 20 });
    let report = scene.test(
        &["left", "right"],
        json!([
            login("left"),
            login("right"),
            { "on": "left", "run": "echo left > /dev/null" },
            { "on": "right", "powerCut": true },
            { "on": "left", "run": "true" },
            { "on": "right", "start": true },
            login("right"),
            { "on": "right", "shutdown": "exit 0" },
            { "on": "left", "powerOff": true },
        ]),
    );
    assert_eq!(report.outcome, Outcome::Passed, "{}", report.message);
    let names: Vec<String> =
        report.files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names, ["left.console", "network.pcap", "right.2.console", "right.console"]);
    let cases = [
        (json!([{ "on": "right", "start": true }]), "step 1 on `right` (start): `right` runs already"),
        (
            json!([{ "on": "left", "powerCut": true }, { "on": "left", "run": "true" }]),
            "step 2 on `left` (run \"true\"): `left` does not run",
        ),
        (json!([{ "on": "left", "waitForPort": 80 }]), "nothing leads to port 80"),
    ];
    for (steps, expected) in cases {
        let report = scene.test(&["left", "right"], steps);
        assert_eq!(report.outcome, Outcome::Failed);
        assert!(report.message.contains(expected), "{}", report.message);
    }
    let left: Vec<_> = std::fs::read_dir(&scene.config.scratch_folder).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_interruption_is_no_result() {
    let Some(scene) = Scene::new() else { return };
    let stop = scene.config.stop.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        stop.request();
    });
    let spec: TestSpec = serde_json::from_value(
        json!({ "name": "test", "machine": scene.machine("box"), "steps": [{ "sleep": 30 }] }),
    )
    .unwrap();
    let events: Events = Arc::new(Silent);
    let result = run_test(&Terminal, &spec, &scene.config, &events);
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    thread.join().unwrap();
}
