//! However a run of a machine ends, the monitor ends with it, and the terminal is as it was. Each monitor that is there
//! boots the embedded system at a terminal of its own and is ended in every way.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::Outcome;
use crate::support::{call, checkout, rednix, run, scratch};

pub const TESTS: [(&str, fn() -> Outcome); 10] = [
    ("cloud_hypervisor_goes_on_where_it_was_saved", || {
        goes_on("cloud-hypervisor", &["--firmware", "direct"])
    }),
    ("firecracker_goes_on_where_it_was_saved", || goes_on("firecracker", &[])),
    ("two_machines_never_share_a_layer", two_machines),
    ("two_restored_machines_have_disks_of_their_own", two_restored),
    ("no_qemu_is_left", || nothing_is_left("qemu", &["--firmware", "direct"], b"poweroff\r")),
    ("no_microvm_is_left", || nothing_is_left("microvm", &[], b"exit\r")),
    ("no_cloud_hypervisor_is_left", || {
        nothing_is_left("cloud-hypervisor", &["--firmware", "direct"], b"poweroff\r")
    }),
    ("no_helper_of_a_shared_folder_is_left", || {
        let share = ["--firmware", "direct", "--share", "/usr/share=share"];
        helper_is_left("cloud-hypervisor", &share, b"poweroff\r")
    }),
    ("no_firecracker_is_left", || nothing_is_left("firecracker", &[], b"reboot\r")),
    ("no_kvmtool_is_left", || nothing_is_left("kvmtool", &[], b"reboot\r")),
];

/// Whatever does not come by then never comes.
const BOOT: Duration = Duration::from_secs(600);
const END: Duration = Duration::from_secs(120);

/// A way of ending a run.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Signal(Signal),
    /// Two of them, the second while the first is served.
    Twice(Signal),
    /// Keys at the terminal.
    Keys(&'static [u8]),
    /// The terminal goes away, as when its window is closed.
    Closed,
}

const ENDINGS: [Ending; 8] = [
    Ending::Signal(Signal::INT),
    Ending::Signal(Signal::TERM),
    Ending::Signal(Signal::HUP),
    Ending::Signal(Signal::QUIT),
    Ending::Twice(Signal::TERM),
    Ending::Keys(b"\x01x"),
    Ending::Signal(Signal::KILL),
    Ending::Closed,
];

/// `last` are the words by which the guest itself ends such a machine.
fn nothing_is_left(vmm: &str, arguments: &[&str], last: &'static [u8]) -> Outcome {
    let options = options(vmm, arguments);
    if let Some(reason) = absent(&options)? {
        return Ok(Some(reason));
    }
    for ending in ENDINGS.into_iter().chain([Ending::Keys(last)]) {
        ends(&options, ending).map_err(|error| format!("{vmm}, {ending:?}: {error}"))?;
    }
    Ok(None)
}

fn options<'a>(vmm: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    let mut options = vec!["run", "probe", "--vmm", vmm, "--memory", "256", "--cpus", "1"];
    options.extend(arguments);
    options
}

/// What the host lacks for such a machine; the image and the loader are there afterwards.
fn absent(options: &[&str]) -> Result<Option<String>, String> {
    run(&mut call(&["image", "probe"])).expect(0, &[])?;
    let dry = run(call(options).arg("--dry-run"));
    // The last one: a tree whose loader is none for this monitor.
    for lack in ["was not found", "there is no loader"] {
        if let Some(reason) = dry.stderr.lines().find(|line| line.contains(lack)) {
            return Ok(Some(reason.to_owned()));
        }
    }
    dry.expect(0, &[])?;
    Ok(None)
}

/// A machine is saved with a variable of its own (the last command), ended, and goes on in another run.
fn goes_on(vmm: &str, arguments: &[&str]) -> Outcome {
    let folder = scratch();
    let saved = folder.path().join("saved").display().to_string();
    let mut options = options(vmm, arguments);
    if let Some(reason) = absent(&options)? {
        return Ok(Some(reason));
    }
    options.extend(["--snapshot", &saved]);
    let mut terminal = Terminal::start(&options)?;
    terminal.wait_for("probe> ")?;
    terminal.write(b"nonsen")?;
    terminal.wait_for("nonsen")?;
    terminal.write(b"\x01w")?;
    let answer = terminal.wait_for_one(&["the machine goes on", "Could not get vCPU state"])?;
    if answer == 1 {
        return Ok(Some("this KVM does not tell the whole state of a processor".to_owned()));
    }
    // One that stands still is saved as well, and goes on standing still.
    terminal.write(b"\x01p")?;
    terminal.wait_for("paused")?;
    terminal.write(b"\x01w")?;
    terminal.wait_for("`; still paused")?;
    terminal.write(b"\x01x")?;
    terminal.end()?;
    // No option changes what it is like.
    let other: Vec<&str> = options.iter().map(|&word| if word == "256" { "512" } else { word }).collect();
    run(&mut call(&other)).expect(2, &[&saved, "its `memoryMib` was 256, not 512"])?;
    let mut terminal = Terminal::start(&options)?;
    terminal.wait_until_raw()?;
    // The rest of a line that was begun before.
    std::thread::sleep(Duration::from_secs(1));
    terminal.write(b"se\r")?;
    terminal.wait_for("nonsense: no such command")?;
    terminal.write(b"ls /\r")?;
    terminal.wait_for("usr")?;
    if terminal.seen.contains("entering the kernel") {
        return Err("the machine was started anew".into());
    }
    terminal.write(b"\x01x")?;
    terminal.end()?;
    Ok(None)
}

/// The second machine over one layer is refused and the first one goes on; afterwards the layer is free.
fn two_machines() -> Outcome {
    let folder = scratch();
    let layer = folder.path().join("layer").display().to_string();
    let options = options("qemu", &["--firmware", "direct", "--disk", "virtio", "--persist", &layer]);
    if let Some(reason) = absent(&options)? {
        return Ok(Some(reason));
    }
    let mut terminal = Terminal::start(&options)?;
    terminal.wait_for("probe> ")?;
    run(&mut call(&options)).expect(1, &["in use by another machine"])?;
    terminal.write(b"exit\r")?;
    terminal.end()?;
    if !std::fs::read(&layer).is_ok_and(|bytes| bytes.starts_with(b"QFI\xfb")) {
        return Err("there is no layer".into());
    }
    let mut terminal = Terminal::start(&options)?;
    terminal.wait_for("probe> ")?;
    Ok(None)
}

/// A saved machine goes on in two runs while the one that saved it still runs: three disks, and none is the saved one.
fn two_restored() -> Outcome {
    let folder = scratch();
    let saved = folder.path().join("saved").display().to_string();
    let mut options = options("firecracker", &["--disk", "virtioModern"]);
    if let Some(reason) = absent(&options)? {
        return Ok(Some(reason));
    }
    options.extend(["--snapshot", &saved]);
    let mut first = Terminal::start(&options)?;
    first.wait_for("probe> ")?;
    first.write(b"\x01s")?;
    first.wait_for("machine `probe`: cannot take a screenshot: firecracker has no such thing")?;
    first.write(b"\x01w")?;
    if first.wait_for_one(&["the machine goes on", "Could not get vCPU state"])? == 1 {
        return Ok(Some("this KVM does not tell the whole state of a processor".to_owned()));
    }
    let mut machines = vec![first];
    for _ in 0..2 {
        let mut terminal = Terminal::start(&options)?;
        terminal.wait_until_raw()?;
        // Until the machine is there: the prompt was printed before it was saved.
        std::thread::sleep(Duration::from_secs(1));
        terminal.write(b"nonsense\r")?;
        terminal.wait_for("nonsense: no such command")?;
        machines.push(terminal);
    }
    let mut disks = vec![identity(&folder.path().join("saved").join("disk.layer"))?];
    for machine in &machines {
        let below = descendants(Pid::from_child(&machine.child));
        let files =
            below.iter().filter_map(|process| std::fs::read_dir(format!("/proc/{}/fd", process.number)).ok());
        let disk = files
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .find(|path| std::fs::read_link(path).is_ok_and(|target| target.ends_with("disk.layer")));
        disks.push(identity(&disk.ok_or("a machine has no disk")?)?);
    }
    let count = disks.len();
    disks.sort_unstable();
    disks.dedup();
    if disks.len() != count {
        return Err("two machines write to one disk".into());
    }
    Ok(None)
}

/// Which file it is.
fn identity(path: &std::path::Path) -> Result<(u64, u64), String> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((found.dev(), found.ino()))
}

/// The same with a program beside the monitor, which has to be there to end.
fn helper_is_left(vmm: &str, arguments: &[&str], last: &'static [u8]) -> Outcome {
    let options = options(vmm, arguments);
    if let Some(reason) = absent(&options)? {
        return Ok(Some(reason));
    }
    let mut terminal = Terminal::start(&options)?;
    terminal.wait_for("probe> ")?;
    let below = descendants(Pid::from_child(&terminal.child));
    if below.len() < 2 {
        return Err(format!("there is no helper: {below:?}"));
    }
    drop(terminal);
    nothing_is_left(vmm, arguments, last)
}

fn ends(options: &[&str], ending: Ending) -> Result<(), String> {
    let mut terminal = Terminal::start(options)?;
    terminal.wait_for("probe> ")?;
    if terminal.is_cooked() {
        return Err("the terminal is not raw while the machine runs".into());
    }
    let process = Pid::from_child(&terminal.child);
    let below = descendants(process);
    if below.is_empty() {
        return Err("there is no monitor".into());
    }
    let send = |signal| kill_process(process, signal).map_err(|error| error.to_string());
    match ending {
        Ending::Signal(signal) => send(signal)?,
        Ending::Twice(signal) => {
            send(signal)?;
            // It may have ended by now.
            let _ = send(signal);
        }
        Ending::Keys(keys) => terminal.write(keys)?,
        Ending::Closed => terminal.master = None,
    }
    let status = terminal.end()?;
    let expected = match ending {
        Ending::Signal(Signal::KILL) => None,
        Ending::Keys(_) => Some(0),
        Ending::Signal(_) | Ending::Twice(_) | Ending::Closed => Some(130),
    };
    if status != expected {
        return Err(format!("exit status {status:?}, not {expected:?}:\n{}", terminal.seen));
    }
    let cooked = terminal.master.is_none() || terminal.is_cooked();
    if !cooked && !matches!(ending, Ending::Signal(Signal::KILL)) {
        return Err("the terminal's modes were not put back".into());
    }
    let deadline = Instant::now() + END;
    while below.iter().any(|process| is_alive(*process)) {
        if Instant::now() > deadline {
            return Err("the monitor is left".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The program with a terminal of its own, whose session it leads.
pub struct Terminal {
    master: Option<File>,
    pub child: Child,
    pub seen: String,
}

impl Terminal {
    fn start(options: &[&str]) -> Result<Self, String> {
        Self::start_with(options, &[])
    }

    /// The same, with an environment.
    pub fn start_with(options: &[&str], environment: &[(&str, String)]) -> Result<Self, String> {
        let text = |error: rustix::io::Errno| error.to_string();
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).map_err(text)?;
        grantpt(&master).map_err(text)?;
        unlockpt(&master).map_err(text)?;
        let name = ptsname(&master, Vec::new()).map_err(text)?;
        let name = name.to_str().map_err(|error| error.to_string())?.to_owned();
        let slave = || -> Result<Stdio, String> {
            let opened = File::options().read(true).write(true).open(&name);
            Ok(opened.map_err(|error| error.to_string())?.into())
        };
        // It replaces itself by the program, so the child is the program.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(rednix()).args(["--log-format", "plain"]).args(options);
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        command.current_dir(checkout()).stdin(slave()?).stdout(slave()?).stderr(slave()?);
        if !is_cooked(&master) {
            return Err("the terminal is raw before anything".into());
        }
        let child = command.spawn().map_err(|error| format!("setsid: {error}"))?;
        rustix::io::ioctl_fionbio(&master, true).map_err(text)?;
        Ok(Terminal { master: Some(File::from(master)), child, seen: String::new() })
    }

    /// Until keys go to the guest as they are.
    fn wait_until_raw(&mut self) -> Result<(), String> {
        let started = Instant::now();
        while self.is_cooked() {
            self.read();
            if started.elapsed() > BOOT || self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return Err(format!("the terminal is never raw:\n{}", self.seen));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    pub fn write(&mut self, keys: &[u8]) -> Result<(), String> {
        let master = self.master.as_mut().ok_or("there is no terminal")?;
        master.write_all(keys).map_err(|error| error.to_string())
    }

    /// Reads what is there, so that the program never waits for us.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(master) = &mut self.master {
            match master.read(&mut buffer) {
                Ok(count) if count > 0 => self.seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
                _ => break,
            }
        }
    }

    pub fn wait_for(&mut self, text: &str) -> Result<(), String> {
        self.wait_for_one(&[text]).map(|_| ())
    }

    /// Answers which one came.
    fn wait_for_one(&mut self, texts: &[&str]) -> Result<usize, String> {
        let started = Instant::now();
        loop {
            // What it said last is read after its end was seen.
            let has_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            self.read();
            if let Some(which) = texts.iter().position(|text| self.seen.contains(text)) {
                return Ok(which);
            }
            if started.elapsed() > BOOT || has_ended {
                return Err(format!("none of {texts:?} comes:\n{}", self.seen));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the program; answers its status.
    pub fn end(&mut self) -> Result<Option<i32>, String> {
        let started = Instant::now();
        loop {
            self.read();
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                self.read();
                return Ok(status.code());
            }
            if started.elapsed() > END {
                return Err(format!("the program goes on:\n{}", self.seen));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_cooked(&self) -> bool {
        self.master.as_ref().is_some_and(is_cooked)
    }
}

/// Whether lines are edited, echoed and interrupted by the terminal, as for a shell.
fn is_cooked(master: impl std::os::fd::AsFd) -> bool {
    tcgetattr(master).is_ok_and(|modes| {
        modes.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    })
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process, by the number and the time of its start: numbers are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    number: i32,
    started: u64,
}

/// State, parent and time of the start.
fn look(number: i32) -> Option<(char, i32, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let words: Vec<&str> = rest.split(' ').collect();
    Some((words.first()?.chars().next()?, words.get(1)?.parse().ok()?, words.get(19)?.parse().ok()?))
}

pub fn is_alive(process: Process) -> bool {
    look(process.number).is_some_and(|(state, _, started)| started == process.started && state != 'Z')
}

/// All processes below one.
pub fn descendants(process: Pid) -> Vec<Process> {
    let numbers: Vec<i32> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![process.as_raw_nonzero().get()];
    while let Some(parent) = parents.pop() {
        for &number in &numbers {
            if let Some((_, above, started)) = look(number)
                && above == parent
            {
                found.push(Process { number, started });
                parents.push(number);
            }
        }
    }
    found
}
