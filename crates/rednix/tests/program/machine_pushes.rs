//! `rednix run --push` and `rednix push`, with the made-up QEMU of the machine tests. Whatever becomes of a push, the
//! terminal is served and the machine ends as any other.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;
use crate::machine_endings::{Process, Terminal, descendants, is_alive};
use crate::machine_tests::{called, entry, environment, in_scene, tree, until, write_system};
use crate::support::{Run, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 8] = [
    ("packages_are_pushed_into_a_running_machine", || in_scene(pushed)),
    ("pushing_without_a_machine_says_so", pushed_to_nobody),
    ("a_machine_that_takes_pushes_ends_as_others", || in_scene(endings)),
    ("keys_are_heard_during_a_push", || in_scene(keys_during_a_push)),
    ("a_machine_that_ends_during_a_push_is_told", || in_scene(ended_during_a_push)),
    ("a_push_ends_with_who_asked_for_it", || in_scene(client_gone)),
    ("a_push_that_waits_ends_when_it_is_interrupted", || in_scene(interrupted)),
    ("a_machine_that_does_not_start_leaves_no_socket", || in_scene(failed_start)),
];

fn pushed(folder: &Path) -> Result<(), String> {
    // The made-up machine's files are this machine's: the package has its own in a folder made for it.
    let inside = folder.join("guest");
    std::fs::create_dir(&inside).map_err(|e| e.to_string())?;
    let tool = inside.join("tool").display().to_string();
    let package = |text: &str| {
        write(
            &folder.join("package.nix"),
            &tree(&format!("{} {}", entry(&tool, text), entry(&format!("{tool}.same"), "same"))),
        );
        folder.join("package.nix").display().to_string()
    };
    let paths = [write_system(folder), package("first")];
    let mut machine = called(folder, &["run", "--push", &paths[0]])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let socket = folder.join("state/rednix/machines/system.sock");
    until("there is a socket", || socket.exists())?;
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
    Ok(())
}

fn pushed_to_nobody() -> Outcome {
    let folder = scratch();
    run(&mut called(folder.path(), &["push", "ion"]))
        .expect(2, &["no machine runs that takes packages", "rednix run --push"])?;
    Ok(None)
}

/// Where the package of these tests has its one file.
fn package(folder: &Path) -> String {
    let file = folder.join("package.nix");
    let place = folder.join("guest").display().to_string();
    let _ = std::fs::create_dir(&place);
    write(&file, &tree(&entry(&format!("{place}/tool"), "text")));
    file.display().to_string()
}

/// A machine at a terminal that takes pushes.
struct Machine {
    terminal: Terminal,
    below: Vec<Process>,
    socket: std::path::PathBuf,
}

impl Machine {
    fn start(folder: &Path) -> Result<Machine, String> {
        let system = write_system(folder);
        let socket = folder.join("state/rednix/machines/system.sock");
        let mut terminal = Terminal::start_with(&["run", "--push", &system], &environment(folder))?;
        terminal.wait_for("# ")?;
        let below = descendants(Pid::from_child(&terminal.child));
        if below.is_empty() || !socket.exists() {
            return Err("there is no monitor, or no socket".into());
        }
        Ok(Machine { terminal, below, socket })
    }

    /// A push that goes as far as asking for a hash, of which `function` is made in the guest's shell.
    fn push(&mut self, folder: &Path, function: &str) -> Result<Child, String> {
        let package = package(folder);
        self.terminal.write(format!("sha256sum() {{ {function}; }}; echo d''one\r").as_bytes())?;
        self.terminal.wait_for("done")?;
        let child = called(folder, &["push", &package])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        // It looks for the disk first, which is told by its hash as well.
        self.terminal.wait_for("| sha256sum'")?;
        Ok(child)
    }

    /// The program's status, after which neither monitor nor socket may be left.
    fn end(&mut self, status: Option<i32>) -> Result<(), String> {
        let ended = self.terminal.end()?;
        if ended != status {
            return Err(format!("exit status {ended:?}, not {status:?}:\n{}", self.terminal.seen));
        }
        until("no monitor is left", || !self.below.iter().any(|&process| is_alive(process)))?;
        // A program that is killed cannot remove it.
        if status.is_some() && self.socket.exists() { Err("the socket is left".into()) } else { Ok(()) }
    }
}

fn told(child: Child) -> Result<Run, String> {
    Ok(child.wait_with_output().map_err(|e| e.to_string())?.into())
}

fn endings(folder: &Path) -> Result<(), String> {
    for (signal, status) in [
        (None, Some(0)),
        (Some(Signal::TERM), Some(130)),
        (Some(Signal::INT), Some(130)),
        (Some(Signal::KILL), None),
    ] {
        let mut machine = Machine::start(folder)?;
        match signal {
            None => machine.terminal.write(b"\x01x")?,
            Some(signal) => {
                kill_process(Pid::from_child(&machine.terminal.child), signal).map_err(|e| e.to_string())?;
            }
        }
        machine.end(status).map_err(|error| format!("{signal:?}: {error}"))?;
        run(&mut called(folder, &["push", "ion"])).expect(2, &["no machine runs that takes packages"])?;
    }
    // What a killed one has left is in nobody's way.
    let mut machine = Machine::start(folder)?;
    machine.terminal.write(b"\x01x")?;
    machine.end(Some(0))?;
    Ok(())
}

fn keys_during_a_push(folder: &Path) -> Result<(), String> {
    let mut machine = Machine::start(folder)?;
    let push = machine.push(folder, "sleep 1000")?;
    machine.terminal.write(b"typed ahead\x01?")?;
    machine.terminal.wait_for("Ctrl-A, then: x ends the machine")?;
    machine.terminal.write(b"\x01x")?;
    machine.end(Some(0))?;
    told(push)?.expect(1, &["the machine's user has ended it"])?;
    Ok(())
}

fn ended_during_a_push(folder: &Path) -> Result<(), String> {
    for (function, status, message) in
        [("exit 0", 0, "powered off"), ("exit 53", 53, "the guest ended with status 53")]
    {
        let mut machine = Machine::start(folder)?;
        let push = machine.push(folder, function)?;
        told(push)?.expect(1, &[&format!("the machine ended before: {message}")])?;
        machine.end(Some(status))?;
    }
    Ok(())
}

fn client_gone(folder: &Path) -> Result<(), String> {
    let mut machine = Machine::start(folder)?;
    let mut push = machine.push(folder, "sleep 1000")?;
    push.kill().and_then(|()| push.wait()).map_err(|e| e.to_string())?;
    // The guest still does what it was told, until somebody ends that.
    machine.terminal.write(b"\x03unset -f sha256sum; echo free a''gain\r")?;
    machine.terminal.wait_for("free again")?;
    run(&mut called(folder, &["push", &package(folder)])).expect(0, &[])?;
    machine.terminal.write(b"\x01x")?;
    machine.end(Some(0))?;
    Ok(())
}

/// A machine that takes the request and never answers it.
fn interrupted(folder: &Path) -> Result<(), String> {
    let sockets = folder.join("state/rednix/machines");
    std::fs::create_dir_all(&sockets).map_err(|e| e.to_string())?;
    let listener = UnixListener::bind(sockets.join("silent.sock")).map_err(|e| e.to_string())?;
    let mut push = called(folder, &["push", &package(folder)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    // The first connection only looks whether somebody listens.
    let mut held = Vec::new();
    let mut line = String::new();
    while line.is_empty() {
        let (stream, _) = listener.accept().map_err(|e| e.to_string())?;
        let copy = stream.try_clone().map_err(|e| e.to_string())?;
        BufReader::new(copy).read_line(&mut line).map_err(|e| e.to_string())?;
        held.push(stream);
    }
    kill_process(Pid::from_child(&push), Signal::INT).map_err(|e| e.to_string())?;
    let ended = until("the push has ended", || push.try_wait().is_ok_and(|status| status.is_some()));
    if ended.is_err() {
        let _ = push.kill();
    }
    let result = Run::from(push.wait_with_output().map_err(|e| e.to_string())?);
    ended?;
    result.expect(130, &["interrupted"])?;
    Ok(())
}

fn failed_start(folder: &Path) -> Result<(), String> {
    let system = write_system(folder);
    let impossible = ["run", &system, "--memory", "7"];
    run(&mut called(folder, &impossible)).expect(2, &["`memoryMib` must be"])?;
    run(called(folder, &impossible).arg("--push")).expect(2, &["`memoryMib` must be"])?;
    if folder.join("state/rednix/machines/system.sock").exists() {
        return Err("the socket is left".into());
    }
    Ok(())
}
