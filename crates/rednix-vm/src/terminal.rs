//! A machine at the user's terminal: keys go to the guest, all but those after Ctrl-A; the guest's bytes go to standard
//! output as they are. The monitor itself never sees the terminal, so whatever happens to either, this process can put
//! the terminal's modes back and end the monitor.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rednix_events::{Activity, Event, Events};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, OutputModes, Termios, tcgetattr, tcsetattr};

use crate::control::{Control, Request, Shared};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::launch::{Prepared, Streams};
use crate::limits::{CONSOLE_POLL, OUTPUT_GRACE, STOP_POLL, TYPED_AHEAD_MAX};
use crate::machine::{Diagnostics, failed, judge, milliseconds};
use crate::menu::{self, Menu};
use crate::process::{Process, Waited, readable};
use crate::runner::{Config, Runner};
use crate::spec::{Display, MachineSpec};

/// What keys at the terminal can lead to outside of the guest.
#[derive(Clone, Debug, Default)]
pub struct Keyboard {
    /// Folder that a saved state goes to; none: there is no such key.
    pub save_folder: Option<PathBuf>,
    /// Folder for screenshots.
    pub screenshot_folder: PathBuf,
}

/// The byte of Ctrl-A, which begins what is not for the guest.
const PREFIX: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Quit,
    PowerButton,
    Reset,
    PauseOrResume,
    Screenshot,
    Save,
    Help,
}

const HELP: &str = "Ctrl-A, then: x ends the machine, o presses its power button, r its reset button, p pauses it or \
                    lets it go on, s takes a screenshot, w saves its state (with --snapshot), a sends Ctrl-A";

/// Separates what is typed for the guest from what is not, across reads.
#[derive(Debug, Default)]
struct Keys {
    after_prefix: bool,
}

impl Keys {
    fn feed(&mut self, bytes: &[u8], guest: &mut Vec<u8>, wishes: &mut Vec<Wish>) {
        for &byte in bytes {
            if !std::mem::take(&mut self.after_prefix) {
                if byte == PREFIX {
                    self.after_prefix = true;
                } else {
                    guest.push(byte);
                }
                continue;
            }
            match byte {
                PREFIX | b'a' => guest.push(PREFIX),
                b'x' => wishes.push(Wish::Quit),
                b'o' => wishes.push(Wish::PowerButton),
                b'r' => wishes.push(Wish::Reset),
                b'p' => wishes.push(Wish::PauseOrResume),
                b's' => wishes.push(Wish::Screenshot),
                b'w' => wishes.push(Wish::Save),
                _ => wishes.push(Wish::Help),
            }
        }
    }
}

/// Runs a machine with its console on our standard input and output until it ends. The terminal's modes are
/// restored whatever happens, short of this process being killed outright.
pub fn run(
    runner: &dyn Runner,
    spec: &MachineSpec,
    config: &Config,
    events: &Events,
    keyboard: &Keyboard,
) -> Result<Exit> {
    let end_on_reset = spec.restart == Some(false);
    let mut prepared = Prepared::new(runner, spec, config, events, end_on_reset, &[])?;
    let id = Activity::next();
    let started = Instant::now();
    let (mut process, Streams { input, output, errors }) = prepared.spawn(spec, config, events, id, &[])?;
    let terminal = Modes::raw();
    let menus = Arc::<AtomicUsize>::default();
    let written = pump(output, menus.clone());
    let control = Shared::new(prepared.control);
    menu::watch_screen(spec, &control, prepared.held.scratch.path());
    let mut attached = Attached {
        spec,
        config,
        events,
        keyboard,
        control,
        is_terminal: terminal.0,
        input: Some(input),
        keys: Keys::default(),
        pending: Vec::new(),
        paused: false,
        screenshots: 0,
        quit: false,
        menus,
    };
    let mut diagnostics = Diagnostics::read(errors, duplicate(io::stderr().as_fd()));
    let result = match attached.until_end(&mut process) {
        Ok(status) => {
            // What the guest said last is still on its way.
            let _ = written.recv_timeout(OUTPUT_GRACE);
            if attached.quit {
                Ok(Exit { kind: crate::exit::ExitKind::PoweredOff, status: 0 })
            } else {
                judge(runner, spec, status, &attached.control, diagnostics.text()).map_err(once)
            }
        }
        Err(error) => {
            let _ = process.terminate();
            Err(error)
        }
    };
    drop(process);
    drop(terminal);
    let message = match &result {
        Ok(exit) => exit.to_string(),
        Err(error) => error.to_string(),
    };
    events.emit(Event::MachineDone { id, duration_ms: milliseconds(started), message });
    drop(prepared.held);
    result
}

/// The monitor's own words are on the terminal already.
fn once(error: Error) -> Error {
    match error {
        Error::Start { program, machine, status, hint, .. } => {
            Error::Start { program, machine, status, diagnostics: String::new(), hint }
        }
        other => other,
    }
}

struct Attached<'a> {
    spec: &'a MachineSpec,
    config: &'a Config,
    events: &'a Events,
    keyboard: &'a Keyboard,
    control: Shared,
    is_terminal: bool,
    /// The guest's; none after the end of ours.
    input: Option<File>,
    keys: Keys,
    pending: Vec<u8>,
    paused: bool,
    screenshots: u32,
    quit: bool,
    /// Menus of the loader that nobody has answered.
    menus: Arc<AtomicUsize>,
}

impl Attached<'_> {
    /// Serves the keyboard until the monitor ends; answers its status.
    fn until_end(&mut self, process: &mut Process) -> Result<i32> {
        let wrong = |source| failed(self.spec, "wait for it", source);
        let stdin = io::stdin();
        loop {
            if self.config.stop.requested() {
                return Err(Error::Interrupted);
            }
            let ready = self.wait(process.as_fd(), stdin.as_fd()).map_err(wrong)?;
            if ready.ended
                && let Waited::Ended(status) =
                    process.wait(Some(Instant::now()), &self.config.stop).map_err(wrong)?
            {
                return Ok(status);
            }
            if self.menus.swap(0, Ordering::Relaxed) > 0 && self.spec.display != Display::None {
                self.answer_menu();
            }
            if ready.typed {
                self.read(stdin.as_fd())?;
            }
            if ready.takes {
                self.pass_on();
            }
            if self.quit {
                return match process.terminate() {
                    Ok(status) => Ok(status),
                    Err(source) => Err(failed(self.spec, "end it", source)),
                };
            }
        }
    }

    fn wait(&self, process: BorrowedFd<'_>, stdin: BorrowedFd<'_>) -> io::Result<Ready> {
        let mut descriptors = vec![PollFd::from_borrowed_fd(process, PollFlags::IN)];
        let reads = self.input.is_some() && self.pending.len() < TYPED_AHEAD_MAX;
        if reads {
            descriptors.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        if let (Some(input), false) = (&self.input, self.pending.is_empty()) {
            descriptors.push(PollFd::from_borrowed_fd(input.as_fd(), PollFlags::OUT));
        }
        let pause = Timespec { tv_sec: 0, tv_nsec: STOP_POLL.subsec_nanos().into() };
        match poll(&mut descriptors, Some(&pause)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |index: usize| descriptors.get(index).is_some_and(|found| !found.revents().is_empty());
        Ok(Ready { ended: is_ready(0), typed: reads && is_ready(1), takes: is_ready(1 + usize::from(reads)) })
    }

    fn read(&mut self, stdin: BorrowedFd<'_>) -> Result<()> {
        let mut buffer = [0; 4096];
        // Not through the standard library's buffer: what is in there would not wake the wait above.
        let count = match rustix::io::read(stdin, &mut buffer) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(()),
            Err(_) => 0,
        };
        if count == 0 {
            // A terminal that ends is gone for good; a file or pipe has just been read.
            if self.is_terminal {
                return Err(Error::Interrupted);
            }
            if self.pending.is_empty() {
                self.input = None;
            } else {
                self.pass_on();
                self.input = None;
            }
            return Ok(());
        }
        let mut wishes = Vec::new();
        if self.is_terminal {
            self.keys.feed(&buffer[..count], &mut self.pending, &mut wishes);
        } else {
            self.pending.extend(&buffer[..count]);
        }
        self.pass_on();
        wishes.into_iter().for_each(|wish| self.fulfil(wish));
        Ok(())
    }

    /// Gives the guest what it takes now.
    fn pass_on(&mut self) {
        let Some(input) = &mut self.input else { return };
        match input.write(&self.pending) {
            Ok(count) => drop(self.pending.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The monitor has closed it: what is typed goes nowhere.
            Err(_) => self.pending.clear(),
        }
    }

    /// On the keyboard; at the console where there is no keyboard.
    fn answer_menu(&mut self) {
        if self.control.ask(&Request::Press(&["ret".to_owned()])).is_err() {
            self.pending.push(b'\r');
            self.pass_on();
        }
    }

    fn fulfil(&mut self, wish: Wish) {
        let message = match self.attempt(wish) {
            Ok(message) => message,
            Err(error) => error.to_string(),
        };
        if !message.is_empty() {
            self.events.emit(Event::Notice { message });
        }
    }

    fn attempt(&mut self, wish: Wish) -> Result<String> {
        match wish {
            Wish::Quit => {
                self.quit = true;
                let _ = self.control.ask(&Request::Quit);
                Ok(String::new())
            }
            Wish::PowerButton => {
                self.control.ask(&Request::PowerButton)?;
                Ok("the power button was pressed".into())
            }
            Wish::Reset => {
                self.control.ask(&Request::Reset)?;
                Ok("the reset button was pressed".into())
            }
            Wish::PauseOrResume => {
                self.control.ask(if self.paused { &Request::Resume } else { &Request::Pause })?;
                self.paused = !self.paused;
                Ok(if self.paused { "paused" } else { "goes on" }.into())
            }
            Wish::Screenshot => self.screenshot(),
            Wish::Save => self.save(),
            Wish::Help => Ok(HELP.into()),
        }
    }

    fn screenshot(&mut self) -> Result<String> {
        let file = loop {
            self.screenshots += 1;
            let name = format!("{}-{}.png", self.spec.name, self.screenshots);
            let file = self.keyboard.screenshot_folder.join(name);
            if !file.exists() {
                break file;
            }
        };
        self.control.ask(&Request::Screenshot(&file))?;
        Ok(format!("the screen is in `{}`", file.display()))
    }

    fn save(&mut self) -> Result<String> {
        let Some(folder) = &self.keyboard.save_folder else {
            return Ok("there is no folder for the machine's state: give one with --snapshot".into());
        };
        if !self.paused {
            self.control.ask(&Request::Pause)?;
        }
        let result = self.control.ask(&Request::Save(folder));
        if !self.paused {
            self.control.ask(&Request::Resume)?;
        }
        result?;
        Ok(format!("the machine's state is in `{}`; the machine goes on", folder.display()))
    }
}

struct Ready {
    ended: bool,
    typed: bool,
    takes: bool,
}

/// Copies the guest's output to ours in a thread of its own: a terminal that takes nothing must not keep us from ending.
fn pump(mut output: File, menus: Arc<AtomicUsize>) -> Receiver<()> {
    let (done, receiver) = channel();
    let target = duplicate(io::stdout().as_fd());
    std::thread::spawn(move || {
        let mut target = target;
        let mut menu = Menu::default();
        let mut buffer = [0; 16 << 10];
        loop {
            match output.read(&mut buffer) {
                Ok(0) => break,
                // Read on even if nobody takes it: the guest must not stand still for that.
                Ok(count) => {
                    menus.fetch_add(menu.feed(&buffer[..count]), Ordering::Relaxed);
                    if target.as_mut().is_some_and(|target| target.write_all(&buffer[..count]).is_err()) {
                        target = None;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = readable(output.as_fd(), CONSOLE_POLL);
                }
                Err(_) => break,
            }
        }
        let _ = done.send(());
    });
    receiver
}

fn duplicate(descriptor: BorrowedFd<'_>) -> Option<File> {
    descriptor.try_clone_to_owned().ok().map(File::from)
}

/// The terminal's modes as they were, for whoever ends the process.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Puts the terminal's modes back, if a machine has changed them. For the way out of a signal handler's thread.
pub fn restore_terminal() {
    let modes = BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some(modes) = modes {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &modes);
    }
}

/// Raw modes until dropped, where standard input is a terminal.
struct Modes(bool);

impl Modes {
    fn raw() -> Self {
        let stdin = io::stdin();
        let Some(before) = stdin.is_terminal().then(|| tcgetattr(&stdin).ok()).flatten() else {
            return Modes(false);
        };
        let mut raw = before.clone();
        raw.make_raw();
        // Messages of ours and of the monitor end their lines as everywhere.
        raw.output_modes |= before.output_modes & (OutputModes::OPOST | OutputModes::ONLCR);
        *BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(before);
        Modes(tcsetattr(&stdin, OptionalActions::Now, &raw).is_ok())
    }
}

impl Drop for Modes {
    fn drop(&mut self) {
        restore_terminal();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_separates_wishes_from_text() {
        let cases: [(&[&[u8]], &[u8], &[Wish]); 5] = [
            (&[b"ls\r\x03"], b"ls\r\x03", &[]),
            (&[b"a\x01xb"], b"ab", &[Wish::Quit]),
            (&[b"\x01", b"p", b"p"], b"p", &[Wish::PauseOrResume]),
            (&[b"\x01\x01\x01a"], b"\x01\x01", &[]),
            (
                &[b"\x01o\x01r\x01s\x01w\x01?"],
                b"",
                &[Wish::PowerButton, Wish::Reset, Wish::Screenshot, Wish::Save, Wish::Help],
            ),
        ];
        for (reads, guest, wishes) in cases {
            let (mut keys, mut typed, mut wished) = (Keys::default(), Vec::new(), Vec::new());
            reads.iter().for_each(|read| keys.feed(read, &mut typed, &mut wished));
            assert_eq!((typed.as_slice(), wished.as_slice()), (guest, wishes), "{reads:?}");
        }
    }
}
