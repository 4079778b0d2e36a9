//! Starts machines: prepares the command line, wires the console and the control socket, and ends what it started.
//! It does not judge what a guest prints.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rednix_events::{Activity, Event, Events};
use rustix::fs::{FlockOperation, flock};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tempfile::TempDir;

use crate::acceleration;
use crate::console::Transcript;
use crate::control::{Control, Qmp, Request};
use crate::error::{Error, Result};
use crate::exit::{Exit, ExitKind};
use crate::limits::{DIAGNOSTICS_MAX, SEND_TIMEOUT};
use crate::process::{Process, Waited, writable};
use crate::runner::{CardSocket, Command, Config, Console, Program, Runner, Wiring};
use crate::spec::MachineSpec;

/// The command that [`run`] would start, as shell text. Starts no machine (but may run the KVM smoke test).
pub fn dry_run(runner: &dyn Runner, spec: &MachineSpec, config: &Config, events: &Events) -> Result<String> {
    runner.check(spec)?;
    let program = runner.find(config)?;
    let kvm = acceleration::choose(runner, &program, spec, config, events)?;
    let scratch = config.scratch_folder.join(format!("rednix-{}", spec.name));
    let wiring = Wiring {
        console: Console::Terminal,
        kvm,
        control: None,
        cards: &[],
        scratch: &scratch,
        end_on_reset: spec.restart == Some(false),
    };
    Ok(runner.command(&program, spec, config, &wiring)?.shell_text())
}

/// Runs a machine with its console on our standard input and output until it ends. The terminal's modes are
/// restored whatever happens, short of this process being killed outright.
pub fn run(runner: &dyn Runner, spec: &MachineSpec, config: &Config, events: &Events) -> Result<Exit> {
    let terminal = Terminal::save();
    let prepared = Prepared::new(runner, spec, config, events, Console::Terminal, &[])?;
    let id = Activity::next();
    let started = Instant::now();
    let mut process =
        prepared.spawn(spec, events, id, (Stdio::inherit(), Stdio::inherit(), Stdio::inherit()), &[])?;
    // Our copy of the monitor's end of the control socket goes here: it must end when the monitor does.
    let (control, scratch) = (prepared.control.map(|(control, _)| control), prepared.scratch);
    let waited = process.wait(None, &config.stop);
    let result = match waited.map_err(|source| failed(spec, "wait for it", source))? {
        Waited::Ended(status) => {
            judge(runner, spec, status, control.as_ref().map(|control| control as _), String::new())
        }
        Waited::Stopped | Waited::TimedOut => {
            let _ = process.terminate();
            Err(Error::Interrupted)
        }
    };
    drop(process);
    drop(terminal);
    drop(scratch);
    let message = match &result {
        Ok(exit) => exit.to_string(),
        Err(error) => error.to_string(),
    };
    events.emit(Event::MachineDone { id, duration_ms: milliseconds(started), message });
    result
}

/// A card on a network between machines: one end of a pair of datagram sockets, one frame in each datagram.
#[derive(Debug)]
pub struct PrivateCard {
    pub socket: OwnedFd,
    pub address: [u8; 6],
}

/// A machine whose console is read by us. It ends when this is dropped.
pub struct Machine<'a> {
    runner: &'a dyn Runner,
    spec: &'a MachineSpec,
    config: &'a Config,
    events: Events,
    pub id: Activity,
    process: Process,
    input: File,
    pub console: Transcript,
    reader: Option<std::thread::JoinHandle<()>>,
    control: Box<dyn Control>,
    diagnostics: Diagnostics,
    started: Instant,
    exit: Option<Exit>,
    _scratch: Scratch,
}

impl<'a> Machine<'a> {
    /// Starts it; its console goes to `log`. Call from the thread that lives as long as the machine.
    pub fn start(
        runner: &'a dyn Runner,
        spec: &'a MachineSpec,
        config: &'a Config,
        events: &Events,
        log: &Path,
    ) -> Result<Machine<'a>> {
        Self::start_with(runner, spec, config, events, log, &[])
    }

    /// The same, with cards on networks between machines. The monitor gets a descriptor of each socket of its own.
    pub fn start_with(
        runner: &'a dyn Runner,
        spec: &'a MachineSpec,
        config: &'a Config,
        events: &Events,
        log: &Path,
        cards: &[PrivateCard],
    ) -> Result<Machine<'a>> {
        let log_file = File::create(log).map_err(Error::io("create", log))?;
        let mut prepared = Prepared::new(runner, spec, config, events, Console::Pipes, cards)?;
        let id = Activity::next();
        let mut process =
            prepared.spawn(spec, events, id, (Stdio::piped(), Stdio::piped(), Stdio::piped()), cards)?;
        let (Some(input), Some(output), Some(errors)) = process.take_streams() else {
            return Err(failed(spec, "connect its console", io::Error::other("a pipe is missing")));
        };
        rustix::io::ioctl_fionbio(&input, true)
            .map_err(|error| failed(spec, "connect its console", error.into()))?;
        let (console, reader) = Transcript::start(output, log_file, events.clone(), id);
        let control =
            Box::new(prepared.control.take().ok_or_else(|| Error::Control("was not made".into()))?.0);
        Ok(Machine {
            runner,
            spec,
            config,
            events: events.clone(),
            id,
            process,
            input,
            console,
            reader: Some(reader),
            control,
            diagnostics: Diagnostics::read(errors),
            started: Instant::now(),
            exit: None,
            _scratch: prepared.scratch,
        })
    }

    /// The monitor's process id.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Types `text` at the guest's console.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + SEND_TIMEOUT;
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match self.input.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = writable(self.input.as_fd(), Duration::from_millis(50));
                    if Instant::now() >= deadline {
                        let source =
                            io::Error::new(io::ErrorKind::TimedOut, "the guest does not read its console");
                        return Err(failed(self.spec, "type at its console", source));
                    }
                }
                Err(source) => return Err(failed(self.spec, "type at its console", source)),
            }
        }
        Ok(())
    }

    /// The screen as a PNG file of the host.
    pub fn screenshot(&mut self, file: &Path) -> Result<()> {
        self.control.ask(&Request::Screenshot(file))
    }

    /// Presses keys together on the keyboard, by QEMU's names (`ret`, `ctrl`, `a`).
    pub fn press(&mut self, keys: &[String]) -> Result<()> {
        self.control.ask(&Request::Press(keys))
    }

    /// Presses the power button: the guest is asked to power off. [`Machine::wait`] says whether it did.
    pub fn shutdown(&mut self) -> Result<()> {
        self.control.ask(&Request::PowerButton)
    }

    /// Presses the reset button.
    pub fn reset(&mut self) -> Result<()> {
        self.control.ask(&Request::Reset)
    }

    pub fn pause(&mut self) -> Result<()> {
        self.control.ask(&Request::Pause)
    }

    pub fn resume(&mut self) -> Result<()> {
        self.control.ask(&Request::Resume)
    }

    /// Saves the state of a machine that stands still to a folder, from which `restore` of a specification goes on.
    pub fn save(&mut self, folder: &Path) -> Result<()> {
        self.control.ask(&Request::Save(folder))
    }

    /// Cuts the power: the monitor is killed, and what it had not written to the machine's layer is lost.
    pub fn cut_power(&mut self) -> Result<()> {
        if self.exit.is_none() {
            self.process.kill().map_err(|source| failed(self.spec, "cut its power", source))?;
            self.done("power cut".into());
            self.exit = Some(Exit { kind: ExitKind::PoweredOff, status: 0 });
        }
        Ok(())
    }

    /// Waits for the machine to end; nothing when the deadline passes first.
    pub fn wait(&mut self, deadline: Instant) -> Result<Option<Exit>> {
        if let Some(exit) = &self.exit {
            return Ok(Some(exit.clone()));
        }
        let waited = self.process.wait(Some(deadline), &self.config.stop);
        match waited.map_err(|source| failed(self.spec, "wait for it", source))? {
            Waited::Ended(status) => {
                if let Some(reader) = self.reader.take() {
                    let _ = reader.join();
                }
                let exit = judge(
                    self.runner,
                    self.spec,
                    status,
                    Some(self.control.as_ref()),
                    self.diagnostics.text(),
                )?;
                self.done(exit.to_string());
                self.exit = Some(exit.clone());
                Ok(Some(exit))
            }
            Waited::TimedOut => Ok(None),
            Waited::Stopped => Err(Error::Interrupted),
        }
    }

    /// Switches the machine off, as pulling the plug.
    pub fn switch_off(&mut self) -> Result<()> {
        if self.exit.is_none() {
            // Asking first lets the monitor close its files; it need not agree.
            let _ = self.control.ask(&Request::Quit);
            self.process.terminate().map_err(|source| failed(self.spec, "end it", source))?;
            self.done("switched off".into());
            self.exit = Some(Exit { kind: ExitKind::PoweredOff, status: 0 });
        }
        Ok(())
    }

    fn done(&self, message: String) {
        self.events.emit(Event::MachineDone {
            id: self.id,
            duration_ms: milliseconds(self.started),
            message,
        });
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        if self.exit.is_none() {
            let _ = self.process.kill();
            self.done("ended".into());
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Everything decided and made before the monitor starts.
struct Prepared {
    console: Console,
    program: Program,
    command: Command,
    scratch: Scratch,
    control: Option<(Qmp, UnixStream)>,
}

impl Prepared {
    fn new(
        runner: &dyn Runner,
        spec: &MachineSpec,
        config: &Config,
        events: &Events,
        console: Console,
        cards: &[PrivateCard],
    ) -> Result<Self> {
        runner.check(spec)?;
        let program = runner.find(config)?;
        let kvm = acceleration::choose(runner, &program, spec, config, events)?;
        let folder = &config.scratch_folder;
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let scratch = Scratch::new(folder)?;
        let control = Qmp::pair()?;
        let sockets: Vec<CardSocket> = cards
            .iter()
            .map(|card| CardSocket { descriptor: card.socket.as_raw_fd(), address: card.address })
            .collect();
        let wiring = Wiring {
            console,
            kvm,
            control: Some(control.1.as_raw_fd()),
            scratch: scratch.folder.path(),
            cards: &sockets,
            end_on_reset: !spec.restart.unwrap_or(console == Console::Terminal),
        };
        let command = runner.command(&program, spec, config, &wiring)?;
        for (from, to) in &command.copies {
            copy_writable(from, to)?;
        }
        Ok(Prepared { console, program, command, scratch, control: Some(control) })
    }

    fn spawn(
        &self,
        spec: &MachineSpec,
        events: &Events,
        id: Activity,
        streams: (Stdio, Stdio, Stdio),
        cards: &[PrivateCard],
    ) -> Result<Process> {
        let mut command = std::process::Command::new(&self.command.program);
        command.args(&self.command.arguments).envs(self.command.environment.iter().cloned());
        command.stdin(streams.0).stdout(streams.1).stderr(streams.2);
        events.emit(Event::MachineStarted { id, name: spec.name.clone(), command: self.command.words() });
        let control = self.control.iter().map(|(_, theirs)| theirs.as_fd());
        let inherited: Vec<_> = control.chain(cards.iter().map(|card| card.socket.as_fd())).collect();
        Process::spawn(&mut command, &inherited, self.console == Console::Pipes)
            .map_err(Error::io("start", &self.program.path))
    }
}

/// A private folder for one machine's files. It is locked while in use, so that the next machine can remove those
/// that were left behind by a process that was killed.
pub(crate) struct Scratch {
    folder: TempDir,
    _lock: File,
}

const SCRATCH_PREFIX: &str = "rednix-machine-";
const SCRATCH_LOCK: &str = "lock";

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn new(parent: &Path) -> Result<Self> {
        Self::sweep(parent);
        let folder = tempfile::Builder::new()
            .prefix(SCRATCH_PREFIX)
            .tempdir_in(parent)
            .map_err(Error::io("make a folder in", parent))?;
        let path = folder.path().join(SCRATCH_LOCK);
        let lock = File::create(&path).map_err(Error::io("create", &path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| Error::io("lock", &path)(error.into()))?;
        Ok(Scratch { folder, _lock: lock })
    }

    /// Removes folders whose lock nobody holds. What cannot be removed stays: it is only space.
    fn sweep(parent: &Path) {
        for item in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            if !item.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX) {
                continue;
            }
            // No lock file: its owner is just making it.
            let Ok(lock) = File::open(item.path().join(SCRATCH_LOCK)) else { continue };
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = std::fs::remove_dir_all(item.path());
            }
        }
    }
}

/// A copy we may write although the original may be read only.
fn copy_writable(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).map_err(Error::io("read", from))?;
    std::fs::write(to, bytes).map_err(Error::io("write", to))
}

/// What a status means, with what the control socket knows.
fn judge(
    runner: &dyn Runner,
    spec: &MachineSpec,
    status: i32,
    control: Option<&dyn Control>,
    diagnostics: String,
) -> Result<Exit> {
    let mut exit = runner.exit(status);
    let greeted = control.is_some_and(Control::has_machine);
    match exit.kind {
        // A status of 1 from a machine that ran is the guest's value 0; before that, the monitor's own failure.
        ExitKind::Failed if status == 1 && greeted => exit.kind = ExitKind::Guest,
        // Killed before there was a machine, with something to say about it: an abort of the monitor.
        ExitKind::Killed(_) if greeted || diagnostics.is_empty() => {}
        ExitKind::Failed | ExitKind::Killed(_) => {
            let status = exit.status;
            return Err(Error::Start {
                program: runner.name().into(),
                machine: spec.name.clone(),
                status,
                diagnostics,
            });
        }
        ExitKind::PoweredOff if control.and_then(Control::end_reason).as_deref() == Some("guest-reset") => {
            exit.kind = ExitKind::Reset;
        }
        _ => {}
    }
    Ok(exit)
}

fn failed(spec: &MachineSpec, operation: &'static str, source: io::Error) -> Error {
    Error::Machine { machine: spec.name.clone(), operation, source }
}

fn milliseconds(since: Instant) -> u64 {
    since.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}

/// The terminal's modes, put back when dropped. The monitor sets raw mode itself and restores it when it ends in
/// order; this is for when it does not.
struct Terminal(Option<Termios>);

impl Terminal {
    fn save() -> Self {
        let stdin = io::stdin();
        Terminal(stdin.is_terminal().then(|| tcgetattr(&stdin).ok()).flatten())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(modes) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, modes);
        }
    }
}

/// What the monitor says on standard error, read by a thread.
struct Diagnostics {
    text: Arc<Mutex<String>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Diagnostics {
    fn read(mut source: File) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let shared = text.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = source.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                let mut text = shared.lock().expect("no holder panics");
                if text.len() < DIAGNOSTICS_MAX {
                    text.push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
            }
        });
        Diagnostics { text, thread: Some(thread) }
    }

    /// All of it; call after the monitor has ended.
    fn text(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.text.lock().expect("no holder panics").clone()
    }
}
