//! Everything that is decided and made before a monitor starts: checks, layer, private folder, control connection,
//! helper programs. It does not talk to the machine.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rednix_events::{Activity, Event, Events};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::acceleration;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::limits::SOCKET_TIMEOUT;
use crate::process::{Process, Waited};
use crate::runner::{CardSocket, Command, Config, Runner, Wiring};
use crate::spec::MachineSpec;

/// A card on a network between machines: one end of a pair of datagram sockets, one frame in each datagram.
#[derive(Debug)]
pub struct PrivateCard {
    pub socket: OwnedFd,
    pub address: [u8; 6],
}

/// The command that [`crate::run`] would start, as shell text. Starts no machine (but may run the KVM smoke test).
pub fn dry_run(runner: &dyn Runner, spec: &MachineSpec, config: &Config, events: &Events) -> Result<String> {
    runner.check(spec)?;
    let program = runner.find(spec, config)?;
    let kvm = acceleration::choose(runner, &program, spec, config, events)?;
    let scratch = config.scratch_folder.join(format!("rednix-{}", spec.name));
    let end_on_reset = spec.restart == Some(false);
    let wiring = Wiring { kvm, control: None, cards: &[], scratch: &scratch, end_on_reset };
    let command = runner.command(&program, spec, config, &wiring)?;
    let folder = crate::runner::quote(scratch.as_os_str());
    Ok(format!("mkdir -p {folder} && cd {folder}\n{}", command.shell_text()))
}

/// Everything decided and made before the monitor starts.
pub(crate) struct Prepared {
    pub command: Command,
    pub control: Box<dyn Control>,
    /// The monitor's end of the control socket.
    inherited: Option<OwnedFd>,
    helpers: Vec<Process>,
    pub held: Held,
}

/// What a machine holds on to for as long as it lives.
pub(crate) struct Held {
    _helpers: Vec<Process>,
    _locks: Vec<File>,
    pub scratch: Scratch,
}

impl Prepared {
    pub fn new(
        runner: &dyn Runner,
        spec: &MachineSpec,
        config: &Config,
        events: &Events,
        end_on_reset: bool,
        cards: &[PrivateCard],
    ) -> Result<Self> {
        runner.check(spec)?;
        let program = runner.find(spec, config)?;
        let kvm = acceleration::choose(runner, &program, spec, config, events)?;
        let folder = &config.scratch_folder;
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let scratch = Scratch::new(folder)?;
        let (control, inherited) = runner.control(&program, scratch.path())?;
        let sockets: Vec<CardSocket> = cards
            .iter()
            .map(|card| CardSocket { descriptor: card.socket.as_raw_fd(), address: card.address })
            .collect();
        let wiring = Wiring {
            kvm,
            control: inherited.as_ref().map(AsRawFd::as_raw_fd),
            cards: &sockets,
            scratch: scratch.path(),
            end_on_reset,
        };
        let command = runner.command(&program, spec, config, &wiring)?;
        let mut locks = Vec::new();
        for layer in &command.layers {
            locks.push(layer.prepare()?);
        }
        for (from, to) in &command.copies {
            copy_writable(from, to)?;
        }
        for (file, contents) in &command.files {
            std::fs::write(file, contents).map_err(Error::io("write", file))?;
        }
        let held = Held { _helpers: Vec::new(), _locks: locks, scratch };
        Ok(Prepared { command, control, inherited, helpers: Vec::new(), held })
    }

    /// Starts helpers and monitor. The monitor leads a process group of its own: keys of the terminal do not reach it.
    pub fn spawn(
        &mut self,
        spec: &MachineSpec,
        config: &Config,
        events: &Events,
        id: Activity,
        cards: &[PrivateCard],
    ) -> Result<Process> {
        for (helper, socket) in &self.command.helpers {
            let mut process = self.start(helper, [Stdio::null(), Stdio::null(), Stdio::inherit()], &[])?;
            wait_for_socket(&mut process, helper, socket, config)?;
            self.helpers.push(process);
        }
        events.emit(Event::MachineStarted { id, name: spec.name.clone(), command: self.command.words() });
        let control = self.inherited.iter().map(AsFd::as_fd);
        let inherited: Vec<_> = control.chain(cards.iter().map(|card| card.socket.as_fd())).collect();
        let process =
            self.start(&self.command, [Stdio::piped(), Stdio::piped(), Stdio::piped()], &inherited)?;
        self.held._helpers.append(&mut self.helpers);
        // Our copy of the monitor's end must go: the connection ends when the monitor does.
        self.inherited = None;
        for (method, path, body) in &self.command.requests {
            self.control.send(method, path, body)?;
        }
        Ok(process)
    }

    fn start(
        &self,
        command: &Command,
        [input, output, errors]: [Stdio; 3],
        inherited: &[BorrowedFd<'_>],
    ) -> Result<Process> {
        let mut process = std::process::Command::new(&command.program);
        process.args(&command.arguments).envs(command.environment.iter().cloned());
        process.current_dir(self.held.scratch.path()).stdin(input).stdout(output).stderr(errors);
        Process::spawn(&mut process, inherited, true).map_err(Error::io("start", &command.program))
    }
}

fn wait_for_socket(process: &mut Process, helper: &Command, socket: &Path, config: &Config) -> Result<()> {
    let deadline = Instant::now() + SOCKET_TIMEOUT;
    let failed = |reason: &str| Error::io("start", &helper.program)(std::io::Error::other(reason.to_owned()));
    while !socket.exists() {
        let pause = Some(Instant::now() + Duration::from_millis(2));
        match process.wait(pause, &config.stop).map_err(Error::io("wait for", &helper.program))? {
            Waited::Ended(status) => {
                return Err(failed(&format!("it ended with status {status} before the machine")));
            }
            Waited::Stopped => return Err(Error::Interrupted),
            Waited::TimedOut if Instant::now() >= deadline => return Err(failed("it makes no socket")),
            Waited::TimedOut => {}
        }
    }
    Ok(())
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

    pub fn path(&self) -> &Path {
        self.folder.path()
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
