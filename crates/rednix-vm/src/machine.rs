//! A machine under our control: its console is read and typed at, its power switched, its end judged. It does not judge
//! what a guest prints.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rednix_events::{Activity, Event, Events};

use crate::console::{Log, Transcript, Ways};
use crate::control::{Control, Request, Shared};
use crate::error::{Error, Result};
use crate::exchange::ExchangeDisk;
use crate::exit::{Exit, ExitKind};
use crate::launch::{Extras, Held, Prepared, Streams};
use crate::limits::{DIAGNOSTICS_MAX, OUTPUT_GRACE, SEND_TIMEOUT};
use crate::menu;
use crate::process::{Process, Waited, writable};
use crate::runner::{Config, Runner};
use crate::spec::{Display, MachineSpec};
use crate::state::check_saving;

/// A machine whose console is read by us. It ends when this is dropped.
pub struct Machine<'a> {
    runner: &'a dyn Runner,
    spec: &'a MachineSpec,
    config: &'a Config,
    events: Events,
    pub id: Activity,
    process: Process,
    /// None once what is typed has an end.
    input: Option<File>,
    pub console: Transcript,
    reader: Option<std::thread::JoinHandle<()>>,
    control: Shared,
    exchange: Option<ExchangeDisk>,
    on_terminal: bool,
    diagnostics: Diagnostics,
    started: Instant,
    exit: Option<Exit>,
    _held: Held,
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
        Self::start_with(runner, spec, config, events, Some(log), &Extras::default())
    }

    /// The same, with what a specification does not say.
    pub fn start_with(
        runner: &'a dyn Runner,
        spec: &'a MachineSpec,
        config: &'a Config,
        events: &Events,
        log: Option<&Path>,
        extras: &Extras<'_>,
    ) -> Result<Machine<'a>> {
        let log_file = log.map(|log| File::create(log).map_err(Error::io("create", log))).transpose()?;
        let on_terminal = extras.terminal;
        // Somebody at a terminal goes on with a guest that resets itself.
        let end_on_reset = !spec.restart.unwrap_or(on_terminal);
        let mut prepared = Prepared::new(runner, spec, config, events, end_on_reset, extras)?;
        let id = Activity::next();
        let (process, Streams { input, output, errors }) =
            prepared.spawn(runner, spec, config, events, id, extras.cards)?;
        let mut ways = Ways { log: log_file.map(Log::new), ..Ways::default() };
        if on_terminal {
            ways.shown = duplicate(io::stdout().as_fd());
        } else if spec.display != Display::None {
            ways.keyboard = input.try_clone().ok();
        }
        let told = (!on_terminal).then(|| (events.clone(), id));
        let (console, reader) = Transcript::start(output, ways, told);
        let diagnostics =
            Diagnostics::read(errors, if on_terminal { duplicate(io::stderr().as_fd()) } else { None });
        let control = Shared::new(prepared.control, !prepared.command.requests.is_empty());
        menu::watch_screen(spec, &control, prepared.held.scratch.path());
        Ok(Machine {
            runner,
            spec,
            config,
            events: events.clone(),
            id,
            process,
            input: Some(input),
            console,
            reader: Some(reader),
            control,
            exchange: prepared.exchange,
            on_terminal,
            diagnostics,
            started: Instant::now(),
            exit: None,
            _held: prepared.held,
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
        let Some(input) = &mut self.input else {
            return Err(failed(self.spec, "type at its console", io::ErrorKind::BrokenPipe.into()));
        };
        while !rest.is_empty() {
            match input.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = writable(input.as_fd(), Duration::from_millis(50));
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

    /// What a terminal needs: the process, which is ready for reading once it has ended, and the guest's input.
    pub(crate) fn descriptors(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        (self.process.as_fd(), self.input.as_ref().map(AsFd::as_fd))
    }

    /// The guest's input, which a terminal writes to without waiting.
    pub(crate) fn input(&mut self) -> &mut Option<File> {
        &mut self.input
    }

    pub(crate) fn config(&self) -> &'a Config {
        self.config
    }

    pub(crate) fn spec(&self) -> &'a MachineSpec {
        self.spec
    }

    /// The disk through which files go, where it has one.
    pub fn exchange(&mut self) -> Option<&mut ExchangeDisk> {
        self.exchange.as_mut()
    }

    /// The screen as a PNG file of the host.
    pub fn screenshot(&mut self, file: &Path) -> Result<()> {
        self.ask(&Request::Screenshot(file))
    }

    /// Presses keys together on the keyboard, by QEMU's names (`ret`, `ctrl`, `a`).
    pub fn press(&mut self, keys: &[String]) -> Result<()> {
        self.ask(&Request::Press(keys))
    }

    /// Presses the power button: the guest is asked to power off. [`Machine::wait`] says whether it did.
    pub fn shutdown(&mut self) -> Result<()> {
        self.ask(&Request::PowerButton)
    }

    /// Presses the reset button.
    pub fn reset(&mut self) -> Result<()> {
        self.ask(&Request::Reset)
    }

    pub fn pause(&mut self) -> Result<()> {
        self.ask(&Request::Pause)
    }

    pub fn resume(&mut self) -> Result<()> {
        self.ask(&Request::Resume)
    }

    /// Saves the state of a machine that stands still to a folder, from which `restore` of a specification goes on.
    pub fn save(&mut self, folder: &Path) -> Result<()> {
        check_saving(self.runner, self.spec, folder)?;
        self.ask(&Request::Save(folder, self.spec))
    }

    pub(crate) fn saves_state(&self) -> bool {
        self.runner.saves_state()
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<()> {
        self.control.ask(request).map_err(|error| error.of(&self.spec.name, request))
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
                self.finish_console();
                let exit = self.judge(status)?;
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
            self.finish_console();
            self.done("switched off".into());
            self.exit = Some(Exit { kind: ExitKind::PoweredOff, status: 0 });
        }
        Ok(())
    }

    /// What a status means, with what is known of the machine beside it.
    fn judge(&mut self, status: i32) -> Result<Exit> {
        let mut exit = self.runner.exit(status);
        // A monitor that got as far as having a machine has answered, or its guest has spoken.
        let ran = self.control.has_machine() || !self.console.tail(1).is_empty();
        // The guest's value 0, and what a monitor says that has no guest.
        if exit.kind == ExitKind::Guest && status == 1 && !ran {
            exit.kind = ExitKind::Failed;
        }
        if exit.kind == ExitKind::PoweredOff && self.control.end_reason().as_deref() == Some("guest-reset") {
            exit.kind = ExitKind::Reset;
        }
        let said = self.diagnostics.text();
        let failed = match exit.kind {
            ExitKind::Failed => true,
            // Killed before there was a machine, with something to say about it: an abort of the monitor.
            ExitKind::Killed(_) => !ran && !said.is_empty(),
            _ => false,
        };
        if !failed {
            return Ok(exit);
        }
        let (program, machine, status) = (self.runner.name().into(), self.spec.name.clone(), exit.status);
        let hint = self.runner.explain(self.spec, &said);
        // The monitor's own words are on the terminal already.
        let diagnostics = if self.on_terminal { String::new() } else { said };
        Err(if ran {
            Error::Broke { program, machine, status, diagnostics }
        } else {
            Error::Start { program, machine, status, diagnostics, hint }
        })
    }

    /// What the guest said last is still on its way.
    fn finish_console(&mut self) {
        if self.on_terminal {
            // A terminal that takes nothing must not keep us from ending.
            self.console.finish(OUTPUT_GRACE);
            self.reader = None;
        } else if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
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
            let _ = if self.on_terminal { self.process.terminate() } else { self.process.kill() };
            self.done("ended".into());
        }
        self.finish_console();
    }
}

fn duplicate(descriptor: BorrowedFd<'_>) -> Option<File> {
    descriptor.try_clone_to_owned().ok().map(File::from)
}

pub(crate) fn failed(spec: &MachineSpec, operation: &'static str, source: io::Error) -> Error {
    Error::Machine { machine: spec.name.clone(), operation, source }
}

fn milliseconds(since: Instant) -> u64 {
    since.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}

/// What the monitor says on standard error, read by a thread.
struct Diagnostics {
    text: Arc<Mutex<String>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Diagnostics {
    /// What comes also goes to `copy`.
    pub fn read(mut source: File, mut copy: Option<File>) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let shared = text.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = source.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                if let Some(copy) = &mut copy {
                    let _ = copy.write_all(&buffer[..count]);
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
    pub fn text(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.text.lock().expect("no holder panics").clone()
    }
}
