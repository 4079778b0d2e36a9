//! Machines end to end: a scripted monitor for everything about consoles, tests and endings; a real QEMU with a boot
//! sector of our own where it is installed.

#[path = "support/sector.rs"]
mod sector;
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rednix_events::{Event, Events, Outcome, Recorder};
use rednix_vm::spec::Network;
use rednix_vm::{
    Config, Error, Exit, ExitKind, Machine, MachineSpec, Runner, TestReport, TestSpec, run_test,
};
use serde_json::{Value, json};
use support::{Exchange, MadeUp, Place, silent};

const MADE_UP: MadeUp = MadeUp { exchange: Exchange::Absent };

/// A monitor that is a shell script playing a guest: lines end with a carriage return, as from a terminal.
const SCRIPT: &str = r#"#!/usr/bin/env bash
printf 'firmware\r\n\033[2J\033[1;1Hbooting \033[32mguest\033[0m\r\n'
printf '%s\n' "$$" > "$TMPDIR/../monitor.pid"
while IFS= read -r -d $'\r' line; do
  case $line in
    hello) printf 'hello back, number 42\r\n' ;;
    twice) printf 'twice\r\n' ;;
    panic) printf 'kernel panicked: oh\r\n' ;;
    poweroff) exit 0 ;;
    exit*) exit "${line#exit }" ;;
    stubborn) trap '' TERM; printf 'stubborn\r\n' ;;
    die) kill -SEGV $$ ;;
  esac
  printf '# '
done
sleep 1000
"#;

struct Scene {
    place: Place,
}

impl Scene {
    fn new() -> Self {
        Self::with_script(SCRIPT)
    }

    fn with_script(script: &str) -> Self {
        Scene { place: Place::new(script) }
    }

    fn machine(&self) -> MachineSpec {
        self.place.machine("guest")
    }

    fn scratch(&self) -> &Path {
        &self.place.config.scratch_folder
    }

    fn start<'a>(&'a self, spec: &'a MachineSpec, events: &Events, log: &str) -> Machine<'a> {
        Machine::start(&MADE_UP, spec, &self.place.config, events, &self.place.file(log)).unwrap()
    }

    fn test(&self, rest: Value) -> TestReport {
        let mut value = json!({ "name": "test", "machine": self.machine() });
        value.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let spec: TestSpec = serde_json::from_value(value).unwrap();
        run_test(&MADE_UP, &spec, &self.place.config, &silent()).unwrap()
    }
}

fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The field after the name; a zombie is dead, only nobody has asked yet.
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z')
}

fn gone_soon(pid: u32) -> bool {
    let deadline = Instant::now() + Duration::from_secs(120);
    while alive(pid) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    !alive(pid)
}

#[test]
fn tests_pass_and_fail_for_the_right_reason() {
    let scene = Scene::new();
    let cases = [
        (json!([{ "waitFor": "booting guest" }, { "powerOff": true }]), ""),
        (
            json!([{ "waitFor": "booting guest" }, { "command": { "send": "hello", "expect": { "regex": "number [0-9]+$" } } },
                   { "send": "poweroff\r" }, { "expectExit": 0 }]),
            "",
        ),
        (json!([{ "command": { "send": "exit 51", "expect": "booting" } }, { "expectExit": 51 }]), ""),
        (
            json!([{ "send": "exit 53\r" }, { "expectExit": 51 }]),
            "step 2 (expect exit status 51): the guest ended with status 53",
        ),
        (json!([{ "send": "exit 51\r" }, { "expectExit": 0 }]), "the guest ended with status 51"),
        (json!([{ "send": "die\r" }, { "expectExit": 0 }]), "killed by signal 11"),
        (json!([{ "waitFor": "never", "timeout": 1 }]), "step 1 (expect \"never\"): not seen within "),
        (json!([{ "expectExit": 0, "timeout": 1 }]), "the machine still runs"),
        (json!([{ "send": "poweroff\r" }, { "expect": "never" }]), "the machine ended before: powered off"),
        (json!([{ "send": "panic\r" }, { "expect": "never" }]), "\"panicked\" appeared on the console"),
        (
            json!([{ "send": "panic\rpoweroff\r" }, { "expectExit": 0 }]),
            "\"panicked\" appeared on the console",
        ),
        // A match is used up: the same text has to come again.
        (json!([{ "expect": "booting" }, { "expect": "booting", "timeout": 1 }]), "step 2"),
        (json!([{ "command": { "send": "stubborn", "expect": "stubborn" } }, { "powerOff": true }]), ""),
    ];
    for (steps, expected) in cases {
        let report = scene.test(json!({ "steps": steps, "failOn": ["panicked"] }));
        let wanted = if expected.is_empty() { Outcome::Passed } else { Outcome::Failed };
        assert_eq!(report.outcome, wanted, "{steps}: {}", report.message);
        assert!(report.message.contains(expected), "{steps}: {:?} has no {expected:?}", report.message);
        assert_eq!(report.console_tail.is_empty(), expected.is_empty());
    }
    let left: Vec<_> =
        std::fs::read_dir(scene.scratch()).unwrap().flatten().map(|item| item.file_name()).collect();
    assert_eq!(left, ["monitor.pid"], "machines leave nothing in the scratch folder");
}

#[test]
fn the_console_is_kept_raw_and_sent_plain() {
    let scene = Scene::new();
    let recorder = Arc::new(Recorder::default());
    let spec: TestSpec = serde_json::from_value(
        json!({ "name": "kept", "machine": scene.machine(), "steps": [{ "send": "poweroff\r" }, { "expectExit": 0 }] }),
    )
    .unwrap();
    let events: Events = recorder.clone();
    let report = run_test(&MADE_UP, &spec, &scene.place.config, &events).unwrap();
    let log = std::fs::read(report.console_log.unwrap()).unwrap();
    assert!(log.windows(4).any(|bytes| bytes == b"\x1b[2J"), "the log is raw");
    let lines: Vec<String> = recorder
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::MachineOutput { line, .. } => Some(line),
            _ => None,
        })
        .collect();
    assert_eq!(lines[..2], ["firmware", "booting guest"]);
    assert!(
        recorder
            .events()
            .iter()
            .any(|event| matches!(event, Event::TestDone { outcome: Outcome::Passed, .. }))
    );
}

#[test]
fn a_missing_monitor_skips_and_a_failing_one_fails() {
    let mut scene = Scene::new();
    scene.place.config.search_path.clear();
    let steps = json!({ "steps": [{ "waitFor": "x" }] });
    let report = scene.test(steps.clone());
    assert_eq!((report.outcome, report.console_log), (Outcome::Skipped, None));
    assert!(report.message.contains("`monitor` was not found"), "{}", report.message);
    let scene = Scene::with_script("#!/bin/sh\necho 'no such device' >&2\nexit 1\n");
    let report = scene.test(steps.clone());
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(report.message.contains("no such device"), "{}", report.message);
    assert!(!report.message.contains("hint"), "{}", report.message);
    let network = Network::Bridge { name: "br0".into(), card: None };
    let mut bridged = steps;
    bridged["machine"] = json!(MachineSpec { network, ..scene.machine() });
    let report = scene.test(bridged);
    assert!(report.message.contains("no such device\n\nhint: QEMU joins only bridges"), "{}", report.message);
}

#[test]
fn a_monitor_that_fails_later_did_start_its_machine() {
    // Nobody answers for it: what the guest has said is what shows that there was one.
    let scene = Scene::with_script("#!/bin/sh\nprintf 'booting\\r\\n'\necho 'no more memory' >&2\nexit 2\n");
    let report = scene.test(json!({ "steps": [{ "waitFor": "booting" }, { "expectExit": 0 }] }));
    assert_eq!(report.outcome, Outcome::Failed);
    let expected = "made-up failed with status 2 while it ran machine `guest`:\nno more memory";
    assert!(report.message.contains(expected), "{}", report.message);
}

#[test]
fn wrong_tests_are_refused_before_a_machine_starts() {
    let scene = Scene::with_script("#!/bin/sh\ntouch \"$TMPDIR/../started\"\n");
    let cases = [
        (json!({ "steps": [] }), "1 to"),
        (json!({ "steps": [{ "expect": "" }] }), "step 1: an empty text"),
        (json!({ "steps": [{ "expect": { "regex": "(" } }] }), "step 1: the regular expression"),
        (json!({ "steps": [{ "send": "x" }], "failOn": [""] }), "`failOn`"),
        (json!({ "name": "../x", "steps": [{ "send": "x" }] }), "no file name"),
    ];
    for (rest, expected) in cases {
        let mut value = json!({ "name": "test", "machine": scene.machine() });
        value.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let message = serde_json::from_value::<TestSpec>(value).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    assert!(!scene.scratch().join("started").exists());
}

#[test]
fn a_stop_request_ends_the_test_and_the_monitor() {
    let scene = Scene::new();
    let spec = scene.machine();
    let events = silent();
    let mut machine = scene.start(&spec, &events, "log");
    let pid = machine.process_id();
    assert!(alive(pid));
    let stop = scene.place.config.stop.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        stop.request();
    });
    let result = machine.wait(Instant::now() + Duration::from_secs(120));
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    thread.join().unwrap();
    drop(machine);
    assert!(!alive(pid));
}

/// Not a test by itself: the other half of the tests below, run as a process of its own.
#[test]
#[ignore = "started by other tests"]
fn helper_holds_a_machine() {
    let scene = Scene::new();
    let spec = scene.machine();
    let events = silent();
    let machine = scene.start(&spec, &events, "log");
    println!("\npid {} folder {}", machine.process_id(), scene.place.folder.path().display());
    std::thread::sleep(Duration::from_secs(1000));
}

fn helper(name: &str) -> Process {
    let mut helper = Process::new(std::env::current_exe().unwrap());
    helper.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    helper
}

/// Starts the helper and answers it with the monitor's process id and the helper's folder.
fn start_holder() -> (Child, u32, PathBuf) {
    let mut child =
        helper("helper_holds_a_machine").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines
        .map_while(|line| line.ok())
        .find(|line| line.starts_with("pid "))
        .expect("the helper says its pid");
    let words: Vec<&str> = line.split(' ').collect();
    (child, words[1].parse().unwrap(), PathBuf::from(words[3]))
}

#[test]
fn no_monitor_outlives_us_whichever_way_we_die() {
    use rustix::process::{Pid, Signal, kill_process};
    for signal in [Signal::KILL, Signal::TERM, Signal::ABORT] {
        let (mut child, pid, folder) = start_holder();
        assert!(alive(pid), "the monitor runs before {signal:?}");
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
        assert!(gone_soon(pid), "the monitor is still there after {signal:?}");
        sweeps_what_was_left(&folder);
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// The next machine in the same scratch folder removes what the dead one could not.
fn sweeps_what_was_left(folder: &Path) {
    let machines = || {
        let items = std::fs::read_dir(folder.join("scratch")).unwrap().flatten();
        items.filter(|item| item.file_name().to_string_lossy().starts_with("rednix-machine-")).count()
    };
    assert_eq!(machines(), 1, "the dead machine left its folder");
    let mut scene = Scene::new();
    scene.place.config.scratch_folder = folder.join("scratch");
    let (spec, events) = (scene.machine(), silent());
    let start = |name: &str| scene.start(&spec, &events, name);
    let first = start("log1");
    assert_eq!(machines(), 1, "only its own");
    let second = start("log2");
    assert_eq!(machines(), 2, "a living machine's folder stays");
    drop((first, second));
    assert_eq!(machines(), 0);
}

/// 512 bytes of real-mode code. It prints a text on COM1, echoes what is typed, and on `q` writes 25 to the exit
/// device, so that QEMU ends with status 51.
fn boot_sector() -> Vec<u8> {
    const TEXT: &[u8] = b"boot sector speaking\r\n\0";
    let mut code = vec![
        0xfa, // cli
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xfc, // cld
        0xbe, 0x00, 0x7d, // mov si, 0x7d00
        // next: 0x09
        0xac, // lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x05, // jz listen
        0xe8, 0x17, 0x00, // call put
        0xeb, 0xf6, // jmp next
        // listen: 0x13
        0xba, 0xfd, 0x03, // mov dx, 0x3fd
        0xec, // in al, dx
        0xa8, 0x01, // test al, 1
        0x74, 0xf8, // jz listen
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xec, // in al, dx
        0x3c, 0x71, // cmp al, 'q'
        0x74, 0x16, // je quit
        0xe8, 0x02, 0x00, // call put
        0xeb, 0xeb, // jmp listen
        // put: 0x28
        0x88, 0xc3, // mov bl, al
        0xba, 0xfd, 0x03, // mov dx, 0x3fd
        0xec, // in al, dx
        0xa8, 0x20, // test al, 0x20
        0x74, 0xf8, // jz -8
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0x88, 0xd8, // mov al, bl
        0xee, // out dx, al
        0xc3, // ret
    ];
    // quit: 0x39
    assert_eq!(code.len(), 0x39);
    code.extend_from_slice(&[
        0xba, 0x01, 0x05, // mov dx, 0x501
        0xb0, 0x19, // mov al, 25
        0xee, // out dx, al
        0xf4, // hlt
        0xeb, 0xfd, // jmp
    ]);
    sector::disk(&code, TEXT)
}

fn real(folder: &Path) -> Option<(Box<dyn Runner>, MachineSpec, Config)> {
    sector::machine(folder, "sector", &boot_sector())
}

#[test]
fn a_real_machine_boots_talks_and_exits() {
    let folder = tempfile::tempdir().unwrap();
    let Some((runner, spec, config)) = real(folder.path()) else { return };
    let before = std::fs::read(&spec.image).unwrap();
    let test: TestSpec = serde_json::from_value(json!({ "name": "sector", "machine": spec, "steps": [
        { "waitFor": "boot sector speaking" }, { "send": "abc" }, { "expect": "abc" }, { "send": "q" }, { "expectExit": 51 },
    ] }))
    .unwrap();
    let report = run_test(&*runner, &test, &config, &silent()).unwrap();
    assert_eq!(report.outcome, Outcome::Passed, "{}\n{:?}", report.message, report.console_tail);
    assert!(std::fs::read(&spec.image).unwrap() == before, "the image stays as it was");
}

#[test]
fn a_real_machine_answers_on_its_control_socket() {
    let folder = tempfile::tempdir().unwrap();
    let Some((runner, spec, config)) = real(folder.path()) else { return };
    let spec = MachineSpec { display: rednix_vm::spec::Display::Headless, ..spec };
    let events = silent();
    let mut machine = Machine::start(&*runner, &spec, &config, &events, &folder.path().join("log")).unwrap();
    let screen = folder.path().join("screen.png");
    machine.screenshot(&screen).unwrap();
    assert!(std::fs::read(&screen).unwrap().starts_with(b"\x89PNG"));
    machine.press(&["a".into()]).unwrap();
    assert!(machine.press(&["no-such-key".into()]).is_err());
    let pid = machine.process_id();
    machine.switch_off().unwrap();
    assert!(!alive(pid));
}

/// Runs a real machine interactively on its own standard input and output; stops by itself after the given time.
#[test]
#[ignore = "started by other tests"]
fn helper_runs_interactively() {
    let folder = tempfile::tempdir().unwrap();
    let Some((runner, spec, config)) = real(folder.path()) else { return };
    let stop = config.stop.clone();
    let stop_file = std::env::var_os("STOP_FILE").map(PathBuf::from);
    std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(300);
        while !stop_file.as_ref().is_some_and(|file| file.exists()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.request();
    });
    let result = rednix_vm::run(&*runner, &spec, &config, &silent(), &rednix_vm::Keyboard::default());
    match result {
        Ok(exit) => println!("\nended: {exit}, code {}", exit.code()),
        Err(error) => println!("\nended: {error}"),
    }
}

#[test]
fn piped_input_and_output_work() {
    let folder = tempfile::tempdir().unwrap();
    if real(folder.path()).is_none() {
        return;
    }
    let mut child =
        helper("helper_runs_interactively").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"xq").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("boot sector speaking\r\nx"), "{text}");
    assert!(text.contains("ended: the guest ended with status 51, code 0"), "{text}");
}

mod terminal {
    use std::fs::File;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};

    use super::*;

    /// The helper on a terminal of its own.
    struct Terminal {
        master: File,
        child: Child,
        seen: String,
        stop_file: PathBuf,
        _folder: tempfile::TempDir,
    }

    impl Terminal {
        fn start() -> Option<Self> {
            let folder = tempfile::tempdir().unwrap();
            real(folder.path())?;
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
            grantpt(&master).unwrap();
            unlockpt(&master).unwrap();
            let name = ptsname(&master, Vec::new()).unwrap();
            let slave = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
            let modes = tcgetattr(&master).unwrap().local_modes;
            assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "cooked before");
            let stop_file = folder.path().join("stop");
            let mut command = helper("helper_runs_interactively");
            command.stdin(slave()).stdout(slave()).stderr(slave()).env("STOP_FILE", &stop_file);
            let child = command.spawn().unwrap();
            let master = File::from(master);
            Some(Terminal { master, child, seen: String::new(), stop_file, _folder: folder })
        }

        fn wait_for(&mut self, text: &str) {
            let deadline = Instant::now() + Duration::from_secs(240);
            let mut buffer = [0; 1024];
            while !self.seen.contains(text) {
                assert!(Instant::now() < deadline, "{text:?} does not come in {:?}", self.seen);
                match self.master.read(&mut buffer) {
                    Ok(count) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
                    Err(error) => panic!("{error} before {text:?} in {:?}", self.seen),
                }
            }
        }

        /// Whether lines are edited and echoed by the terminal, as for a shell.
        fn cooked(&self) -> bool {
            tcgetattr(&self.master).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
        }
    }

    impl Drop for Terminal {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn the_terminal_is_raw_while_it_runs_and_restored_after() {
        let endings: [(&str, &[u8]); 3] = [
            ("ended: the guest ended with status 51", b"q"),
            ("ended: powered off", b"\x01x"),
            ("ended: interrupted", b""),
        ];
        for (expected, keys) in endings {
            let Some(mut terminal) = Terminal::start() else { return };
            terminal.wait_for("boot sector speaking");
            assert!(!terminal.cooked(), "raw while it runs");
            // Ctrl-C is the guest's: it comes back as an echo, and the machine goes on.
            terminal.master.write_all(b"\x03k").unwrap();
            terminal.wait_for("k");
            if keys.is_empty() {
                std::fs::write(&terminal.stop_file, "").unwrap();
            }
            terminal.master.write_all(keys).unwrap();
            terminal.wait_for(expected);
            assert!(terminal.cooked(), "restored after {expected:?}");
        }
    }

    #[test]
    fn exits_have_kinds() {
        assert_eq!(rednix_vm::qemu::Qemu::Pc.exit(51), Exit { kind: ExitKind::Guest, status: 51 });
    }
}
