//! Everything that is decided and made before a monitor starts: checks, layer, private folder, control connection,
//! helper programs. It does not talk to the machine.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rednix_events::{Activity, Event, Events};

use crate::acceleration;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::exchange::ExchangeDisk;
use crate::limits::{DIAGNOSTICS_MAX, SOCKET_TIMEOUT};
use crate::locked::Locked;
use crate::process::{Process, Waited};
use crate::runner::{CardSocket, Command, Config, Runner, Wiring};
use crate::scratch::Scratch;
use crate::spec::MachineSpec;
use crate::{host_ports, sparse, state};

/// A card on a network between machines: one end of a pair of datagram sockets, one frame in each datagram.
#[derive(Debug)]
pub struct PrivateCard {
    pub socket: OwnedFd,
    pub address: [u8; 6],
}

/// What a machine has beside what its specification says, because of who runs it.
#[derive(Debug, Default)]
pub struct Extras<'a> {
    /// Cards on networks between machines. The monitor gets a descriptor of each socket of its own.
    pub cards: &'a [PrivateCard],
    /// A disk through which files go to the guest and back, where the monitor can give it one.
    pub exchange: bool,
    /// Its console is shown on standard output, and what the monitor says on standard error: [`crate::terminal::Attached`]
    /// passes keys on.
    pub terminal: bool,
}

/// Refuses a machine before its image is built: what its monitor cannot do, and a monitor that is not there.
pub fn check_plan(runner: &dyn Runner, spec: &MachineSpec, config: &Config) -> Result<()> {
    runner.check(spec)?;
    runner.find(spec, config).map(drop)
}

/// The command that [`crate::run`] would start, as shell text. Starts no machine (but may run the KVM smoke test).
pub fn dry_run(runner: &dyn Runner, spec: &MachineSpec, config: &Config, events: &Events) -> Result<String> {
    runner.check(spec)?;
    let program = runner.find(spec, config)?;
    let engine = acceleration::choose(runner, &program, spec, config, events)?;
    let scratch = config.scratch_folder.join(format!("rednix-{}", spec.name));
    let end_on_reset = spec.restart == Some(false);
    let wiring =
        Wiring { engine, control: None, cards: &[], exchange: None, scratch: &scratch, end_on_reset };
    let command = runner.command(&program, spec, config, &wiring)?;
    let folder = crate::runner::quote(scratch.as_os_str());
    Ok(format!("mkdir -p {folder} && cd {folder}\n{}", command.shell_text()))
}

/// Everything decided and made before the monitor starts.
pub(crate) struct Prepared {
    pub command: Command,
    pub control: Box<dyn Control>,
    pub exchange: Option<ExchangeDisk>,
    /// The monitor's end of the control socket.
    inherited: Option<OwnedFd>,
    /// A saved state, until it was read.
    restored: Option<Locked>,
    helpers: Vec<Process>,
    needs_terminal: bool,
    pub held: Held,
}

/// What a machine holds on to for as long as it lives.
pub(crate) struct Held {
    _helpers: Vec<Process>,
    _locks: Vec<Locked>,
    pub scratch: Scratch,
}

impl Prepared {
    pub fn new(
        runner: &dyn Runner,
        spec: &MachineSpec,
        config: &Config,
        events: &Events,
        end_on_reset: bool,
        extras: &Extras<'_>,
    ) -> Result<Self> {
        runner.check(spec)?;
        let program = runner.find(spec, config)?;
        host_ports::check_free(spec)?;
        let engine = acceleration::choose(runner, &program, spec, config, events)?;
        let scratch = Scratch::new(&config.scratch_folder)?;
        let (control, inherited) = runner.control(&program, scratch.path())?;
        let sockets: Vec<CardSocket> = extras
            .cards
            .iter()
            .map(|card| CardSocket { descriptor: card.socket.as_raw_fd(), address: card.address })
            .collect();
        let exchange = if extras.exchange { exchange(runner, spec, &scratch)? } else { None };
        let wiring = Wiring {
            engine,
            control: inherited.as_ref().map(AsRawFd::as_raw_fd),
            cards: &sockets,
            exchange: exchange.as_ref().map(ExchangeDisk::path),
            scratch: scratch.path(),
            end_on_reset,
        };
        let command = runner.command(&program, spec, config, &wiring)?;
        let restored = spec.restore.as_deref().map(state::hold).transpose()?;
        let mut locks = Vec::new();
        for layer in &command.layers {
            locks.push(layer.prepare(&config.stop)?);
        }
        for (from, to) in &command.copies {
            sparse::copy_file(from, to, &config.stop)?;
        }
        for (file, contents) in &command.files {
            std::fs::write(file, contents).map_err(Error::io("write", file))?;
        }
        let held = Held { _helpers: Vec::new(), _locks: locks, scratch };
        Ok(Prepared {
            command,
            control,
            exchange,
            inherited,
            restored,
            helpers: Vec::new(),
            needs_terminal: runner.needs_terminal(),
            held,
        })
    }

    /// Starts helpers and monitor. The monitor leads a process group of its own: keys of the terminal do not reach it.
    pub fn spawn(
        &mut self,
        runner: &dyn Runner,
        spec: &MachineSpec,
        config: &Config,
        events: &Events,
        id: Activity,
        cards: &[PrivateCard],
    ) -> Result<(Process, Streams)> {
        for (helper, socket) in &self.command.helpers {
            let mut process = self.start(helper, [Stdio::null(), Stdio::null(), Stdio::inherit()], &[])?;
            wait_for_socket(&mut process, helper, socket, config)?;
            self.helpers.push(process);
        }
        events.emit(Event::MachineStarted { id, name: spec.name.clone(), command: self.command.words() });
        let control = self.inherited.iter().map(AsFd::as_fd);
        let inherited: Vec<_> = control.chain(cards.iter().map(|card| card.socket.as_fd())).collect();
        let (process, streams) = if self.needs_terminal {
            let (ours, theirs) =
                terminal().map_err(Error::io("make a terminal for", &self.command.program))?;
            let twice = |file: &File| {
                file.try_clone().map_err(Error::io("make a terminal for", &self.command.program))
            };
            let standard = [twice(&theirs)?.into(), theirs.into(), Stdio::piped()];
            let mut process = self.start(&self.command, standard, &inherited)?;
            let (_, _, errors) = process.take_streams();
            (process, (Some(twice(&ours)?), Some(ours), errors))
        } else {
            let standard = [Stdio::piped(), Stdio::piped(), Stdio::piped()];
            let mut process = self.start(&self.command, standard, &inherited)?;
            let streams = process.take_streams();
            (process, streams)
        };
        self.held._helpers.append(&mut self.helpers);
        // Our copy of the monitor's end must go: the connection ends when the monitor does.
        self.inherited = None;
        for (method, path, body) in &self.command.requests {
            if let Err(error) = self.control.send(method, path, body) {
                return Err(refused(runner, spec, process, streams, error));
            }
        }
        self.restored = None;
        Ok((process, Streams::new(spec, streams)?))
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

/// The console's two directions, and what the monitor says on standard error. Writing to the input never blocks;
/// reading a terminal neither, for its two directions have one mode.
pub(crate) struct Streams {
    pub input: File,
    pub output: File,
    pub errors: File,
}

impl Streams {
    fn new(spec: &MachineSpec, streams: (Option<File>, Option<File>, Option<File>)) -> Result<Self> {
        let wrong =
            |source| Error::Machine { machine: spec.name.clone(), operation: "connect its console", source };
        let (Some(input), Some(output), Some(errors)) = streams else {
            return Err(wrong(std::io::Error::other("a pipe is missing")));
        };
        rustix::io::ioctl_fionbio(&input, true).map_err(|error| wrong(error.into()))?;
        Ok(Streams { input, output, errors })
    }
}

/// A terminal that changes nothing on the way: our end, the other end.
fn terminal() -> std::io::Result<(File, File)> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let theirs = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty())?;
    let mut modes = tcgetattr(&theirs)?;
    modes.make_raw();
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    Ok((ours.into(), theirs.into()))
}

/// A monitor that did not take what it was sent has said why, one way or the other.
fn refused(
    runner: &dyn Runner,
    spec: &MachineSpec,
    mut process: Process,
    (_, output, errors): (Option<File>, Option<File>, Option<File>),
    error: Error,
) -> Error {
    use std::io::Read;
    let status = process.terminate().unwrap_or(-1);
    let mut diagnostics = format!("{error}\n");
    for stream in [output, errors].into_iter().flatten() {
        let mut bytes = Vec::new();
        let _ = stream.take(DIAGNOSTICS_MAX as u64).read_to_end(&mut bytes);
        diagnostics.push_str(&String::from_utf8_lossy(&bytes));
    }
    let hint = runner.explain(spec, &diagnostics);
    Error::Start { program: runner.name().into(), machine: spec.name.clone(), status, diagnostics, hint }
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

/// The disk for files, where the monitor can give it to such a machine.
fn exchange(runner: &dyn Runner, spec: &MachineSpec, scratch: &Scratch) -> Result<Option<ExchangeDisk>> {
    let path = scratch.path().join("exchange.img");
    let places = runner.exchange_places(spec, &path);
    if places.is_empty() {
        return Ok(None);
    }
    // The folder's name is new for each machine.
    let name = scratch.path().file_name().unwrap_or_default().to_string_lossy();
    ExchangeDisk::create(&path, &name, places).map(Some)
}
