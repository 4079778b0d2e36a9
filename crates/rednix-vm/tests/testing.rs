//! The test framework with a made-up monitor: a shell on a real terminal that asks for a login first. What tests do
//! with consoles, shells, files, several machines and endings is tried here; what they do with real monitors in the
//! machine tests of the library.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rednix_events::Outcome;
use rednix_vm::testing::{self, Guest, Pushed, Shell, Surroundings};
use rednix_vm::{Error, TestReport, TestSpec, run_test};
use serde_json::{Value, json};
use support::{Exchange, MadeUp, Place, silent};

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

/// Guests here have this machine's own `/tmp`: two at once must not have the same names there.
fn run_number() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::process::id().wrapping_mul(64).wrapping_add(number)
}

struct Scene {
    place: Place,
    runner: MadeUp,
}

impl Scene {
    /// A guest that has a console alone. None, and a line that says so, where the host has no `script`.
    fn new() -> Option<Scene> {
        let has_script = ["/usr/bin/script", "/bin/script"].iter().any(|path| Path::new(path).exists());
        if !has_script {
            println!("skipped: `script`, which gives the made-up guest its terminal, is not installed");
            return None;
        }
        let place = Place::new(MONITOR);
        std::fs::write(place.file("guest.sh"), GUEST).unwrap();
        Some(Scene { place, runner: MadeUp::default() })
    }

    /// One that has the disk for files too.
    fn with(exchange: Exchange) -> Option<Scene> {
        Some(Scene { runner: MadeUp { exchange }, ..Self::new()? })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.file(name)
    }

    fn machine(&self, name: &str) -> Value {
        let mut value = serde_json::to_value(self.place.machine(name)).unwrap();
        value["shell"] = json!("sh");
        // Said by the specification, but not by the test: the private network is the default of several.
        value.as_object_mut().unwrap().remove("network");
        value
    }

    /// A guest of its own that somebody is logged in to.
    fn with_guest<T>(&self, work: impl FnOnce(&mut Guest<'_>, Instant) -> T) -> T {
        let spec = self.place.machine("box");
        let (events, folder) = (silent(), self.file("logs"));
        std::fs::create_dir_all(&folder).unwrap();
        let around = Surroundings {
            config: &self.place.config,
            events: &events,
            folder: &folder,
            switch: None,
            forbidden: &[],
            run: run_number(),
            meanwhile: None,
        };
        let exchange = self.runner.exchange != Exchange::Absent;
        let place = testing::Place { exchange, ..testing::Place::default() };
        let mut guest = Guest::new(&around, &self.runner, Shell::Sh, &spec, place);
        let deadline = Instant::now() + Duration::from_secs(300);
        guest.start().unwrap();
        guest.login("root", Some("secret"), deadline).unwrap();
        work(&mut guest, deadline)
    }

    fn test(&self, machines: &[&str], steps: Value) -> TestReport {
        let machines: serde_json::Map<String, Value> =
            machines.iter().map(|name| ((*name).to_owned(), self.machine(name))).collect();
        let test = json!({ "name": "test", "machines": machines, "steps": steps, "failOn": ["panicked"], "capture": true });
        let spec: TestSpec = serde_json::from_value(test).unwrap();
        run_test(&self.runner, &spec, &self.place.config, &silent()).unwrap()
    }

    /// Steps after a login, and what the report has to say.
    fn expect(&self, mut steps: Value, expected: &str) -> TestReport {
        let login = json!({ "login": { "user": "root", "password": "secret" }, "timeout": 120 });
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
    scene.expect(
        json!([{ "run": "echo seen; (exit 3)" }]),
        "it ended with status 3, not 0, with the output\nseen",
    );
    scene.expect(json!([{ "run": "true", "status": 1 }]), "it ended with status 0, not 1, without output");
    scene.expect(json!([{ "run": "echo x", "output": "y" }]), "\"y\" is not in its output");
    scene.expect(json!([{ "run": "sleep 60", "timeout": 1 }]), "did not end the command: not seen within ");
    // One second is enough for the first time, or on a machine that has much to do one of the others is.
    let in_vain = [1, 10, 100].into_iter().any(|seconds| {
        let report = scene.expect(json!([{ "runUntil": "false", "timeout": seconds }]), "in");
        report.message.contains("not as wanted in time; the last time it ended with status 1, not 0")
    });
    assert!(in_vain);
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
        json!([{ "login": { "user": "root", "password": "wrong" }, "timeout": 120, "position": "t.nix:3" }]),
    );
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(
        report.message.starts_with("step 1 at t.nix:3 (log in as `root`): the machine ended"),
        "{}",
        report.message
    );
    assert!(report.console_tail.iter().any(|line| line.contains("Login incorrect")));
}

/// Over the console, and by the exchange disk.
#[test]
fn files_go_in_and_out_whole() {
    for exchange in [Exchange::Absent, Exchange::Hidden, Exchange::There] {
        let Some(scene) = Scene::with(exchange) else { return };
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
                { "copyOut": { "from": "empty", "same": scene.file("nothing") } },
            ]),
            "",
        );
        let back = report.files.iter().find(|file| file.ends_with("back")).unwrap();
        assert!(std::fs::read(back).unwrap() == bytes);
        let by_disk =
            std::fs::read_to_string(report.console_log.unwrap()).unwrap().contains("truncate -s 20000");
        assert_eq!(by_disk, exchange == Exchange::There, "which way they went");
        let into = |from: &Path, to: &str| json!({ "copyIn": { "from": from, "to": to } });
        let data = scene.file("data");
        scene.expect(json!([{ "copyOut": { "from": "missing" } }]), "reading `missing` ended with status 1");
        scene.expect(
            json!([into(&data, "a"), { "copyOut": { "from": "a", "same": scene.file("other") } }]),
            "it differs from",
        );
        scene.expect(json!([into(&data, "/no/such/folder")]), "writing `/no/such/folder` ended with status");
        scene.expect(json!([into(Path::new("/no/such/file"), "a")]), "cannot read `/no/such/file`");
    }
}

/// What a console would take minutes for.
#[test]
fn large_files_go_by_the_exchange_disk() {
    let Some(scene) = Scene::with(Exchange::There) else { return };
    let bytes: Vec<u8> = (0..9_000_001_u32).map(|at| ((at * 7) ^ (at >> 9)) as u8).collect();
    std::fs::write(scene.file("data"), &bytes).unwrap();
    let copy_in = json!({ "copyIn": { "from": scene.file("data"), "to": "here" }, "timeout": 300 });
    let copy_out = json!({ "copyOut": { "from": "here", "same": scene.file("data") }, "timeout": 300 });
    // The machine that starts again has a new disk.
    let login = json!({ "login": { "user": "root", "password": "secret" }, "timeout": 120 });
    scene.expect(
        json!([copy_in, copy_out, { "powerCut": true }, { "start": true }, login, copy_in, copy_out]),
        "",
    );
    // A copy that is spoilt on either way is found out.
    let spoil =
        "dd() { command dd \"$@\"; printf x | command dd of=here bs=1 seek=9 conv=notrunc status=none; }";
    for copy in [&copy_in, &copy_out] {
        scene.expect(json!([copy_in, { "run": spoil }, copy]), "`here` did not come through whole");
    }
}

/// Files of a package come into a running guest: what differs, and nothing else, whole, and executable where they are.
#[test]
fn a_package_is_pushed() {
    for exchange in [Exchange::Absent, Exchange::There] {
        let Some(scene) = Scene::with(exchange) else { return };
        // The guest's root is this machine's own, so the package's files have their places in the test's folder.
        let system = scene.file("system");
        let package = scene.file("package");
        let inside = |name: &str| package.join(system.strip_prefix("/").unwrap()).join(name);
        let program: Vec<u8> = (0..1_500_000_u32).map(|at| ((at * 31) ^ (at >> 7)) as u8).collect();
        let program = if exchange == Exchange::There { program } else { program[..9000].to_vec() };
        std::fs::create_dir_all(inside("bin")).unwrap();
        std::fs::create_dir_all(inside("etc/new")).unwrap();
        std::fs::create_dir_all(system.join("etc")).unwrap();
        std::fs::write(inside("bin/it's one"), &program).unwrap();
        std::fs::set_permissions(inside("bin/it's one"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(inside("etc/new/empty"), "").unwrap();
        std::fs::write(inside("etc/known"), "known").unwrap();
        std::fs::write(inside("etc/changed"), "new").unwrap();
        std::os::unix::fs::symlink("it's one", inside("bin/two")).unwrap();
        std::fs::write(system.join("etc/known"), "known").unwrap();
        std::fs::write(system.join("etc/changed"), "old").unwrap();

        let (first, second) = scene.with_guest(|guest, deadline| {
            let mut said = Vec::new();
            let mut push = |guest: &mut Guest<'_>| {
                let mut say = |path: &str| said.push(path.to_owned());
                testing::push(guest, &package, &mut say, deadline).unwrap()
            };
            let pushed = (push(guest), push(guest));
            assert!(said[0].ends_with("/bin/it's one") && said.len() == 3, "{said:?}");
            pushed
        });
        let bytes = program.len() as u64 + 3;
        assert_eq!(first, Pushed { sent: 3, bytes, same: 1 });
        assert_eq!(second, Pushed { sent: 0, bytes: 0, same: 4 });
        assert!(std::fs::read(system.join("bin/two")).unwrap() == program);
        let mode = |name: &str| std::fs::metadata(system.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("bin/it's one"), mode("etc/changed")), (0o755, 0o644));
        assert_eq!(std::fs::read(system.join("etc/changed")).unwrap(), b"new");
        assert_eq!(std::fs::read(system.join("etc/new/empty")).unwrap(), b"");
    }
}

/// A shell that no longer starts, as after a push of a broken one, does not keep the next push from putting it right.
#[test]
fn a_push_needs_no_second_shell() {
    let Some(scene) = Scene::with(Exchange::There) else { return };
    let (system, package) = (scene.file("system"), scene.file("package"));
    let inside = package.join(system.strip_prefix("/").unwrap());
    std::fs::create_dir_all(&inside).unwrap();
    std::fs::write(inside.join("a"), vec![b'x'; 300_000]).unwrap();
    scene.with_guest(|guest, deadline| {
        assert_eq!(guest.run("sh() { echo Page fault; return 139; }", deadline).unwrap().status, 0);
        let pushed = testing::push(guest, &package, &mut |_| {}, deadline).unwrap();
        assert_eq!(pushed, Pushed { sent: 1, bytes: 300_000, same: 0 });
    });
    assert_eq!(std::fs::read(system.join("a")).unwrap(), vec![b'x'; 300_000]);
}

/// What the guest does not take is told with its name, and nothing is moved into place.
#[test]
fn a_push_that_fails_moves_nothing() {
    let Some(scene) = Scene::with(Exchange::There) else { return };
    let (system, package) = (scene.file("system"), scene.file("package"));
    let inside = package.join(system.strip_prefix("/").unwrap());
    std::fs::create_dir_all(inside.join("blocked")).unwrap();
    std::fs::create_dir_all(&system).unwrap();
    std::fs::write(inside.join("a"), "new").unwrap();
    std::fs::write(inside.join("blocked/b"), "new").unwrap();
    std::fs::write(system.join("a"), "old").unwrap();
    std::fs::write(system.join("blocked"), "a file where a folder should be").unwrap();
    let problem = scene.with_guest(|guest, deadline| {
        format!("{:?}", testing::push(guest, &package, &mut |_| {}, deadline).unwrap_err())
    });
    assert!(problem.contains("making `") && problem.contains("/system/blocked` failed"), "{problem}");
    assert_eq!(std::fs::read(system.join("a")).unwrap(), b"old");
}

#[test]
fn machines_are_told_apart_and_start_again() {
    let Some(scene) = Scene::new() else { return };
    let login =
        |on: &str| json!({ "on": on, "login": { "user": "root", "password": "secret" }, "timeout": 120 });
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
    let left: Vec<_> = std::fs::read_dir(&scene.place.config.scratch_folder).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A machine that the guest resets has another console afterwards.
#[test]
fn what_must_not_appear_is_seen_before_a_reboot() {
    let Some(scene) = Scene::new() else { return };
    scene.expect(json!([{ "reboot": "exit 40" }, { "waitFor": "login: " }]), "");
    scene.expect(
        json!([{ "reboot": "printf 'kernel panick''ed\n'; exit 40" }, { "waitFor": "login: " }]),
        "\"panicked\" appeared on the console of `box`, which `failOn` forbids",
    );
}

/// The console is complete when the machine has ended, and is judged then as well.
#[test]
fn what_must_not_appear_is_seen_after_the_last_step() {
    // What speaks late has left the monitor's group before it says that it is ready, and waits for the monitor's end.
    const LATE: &str = r#"#!/bin/sh
setsid sh -c "printf 'ready\r\n'; while kill -0 $$ 2>/dev/null; do sleep 0.02; done; echo kernel panicked" &
exec sleep 1000
"#;
    let scene = Scene { place: Place::new(LATE), runner: MadeUp::default() };
    let report = scene.test(&["box"], json!([{ "waitFor": "ready" }]));
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(report.message.starts_with("after the last step: \"panicked\" appeared"), "{}", report.message);
    assert_eq!(report.console_tail.last().map(String::as_str), Some("kernel panicked"));
}

/// Files that no test left stay, whatever the test is called.
#[test]
fn files_of_others_are_not_removed() {
    let Some(scene) = Scene::new() else { return };
    let folder = scene.place.config.log_folder.join("test");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("thesis.txt"), "years of work").unwrap();
    let report = scene.test(&["box"], json!([{ "waitFor": "login: " }]));
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(report.message.contains("has files that no machine test left there"), "{}", report.message);
    assert!(folder.join("thesis.txt").exists());
}

#[test]
fn an_interruption_is_no_result() {
    let Some(scene) = Scene::new() else { return };
    let stop = scene.place.config.stop.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        stop.request();
    });
    let spec: TestSpec = serde_json::from_value(
        json!({ "name": "test", "machine": scene.machine("box"), "steps": [{ "sleep": 30 }] }),
    )
    .unwrap();
    let result = run_test(&scene.runner, &spec, &scene.place.config, &silent());
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    thread.join().unwrap();
}
