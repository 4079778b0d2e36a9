//! A machine at the user's terminal: keys go to the guest, all but those after Ctrl-A; the guest's bytes go to standard
//! output as they are. The monitor itself never sees the terminal, so whatever happens to either, this process can put
//! the terminal's modes back and end the monitor.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rednix_events::{Event, Events};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, OutputModes, Termios, tcgetattr, tcsetattr};

use crate::error::{Error, Result};
use crate::exit::{Exit, ExitKind};
use crate::launch::Extras;
use crate::limits::{STOP_POLL, TYPED_AHEAD_MAX};
use crate::machine::{Machine, failed};
use crate::process::readable;
use crate::runner::{Config, Runner};
use crate::spec::{Display, MachineSpec};

/// What keys at the terminal can lead to outside of the guest.
#[derive(Clone, Debug, Default)]
pub struct Keyboard {
    /// Folder that a saved state goes to; none: there is no such key.
    pub save_folder: Option<PathBuf>,
    /// Folder for screenshots.
    pub screenshot_folder: PathBuf,
    /// There are other machines to go to.
    pub several: bool,
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
    Next,
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
                b'x' | b'X' => wishes.push(Wish::Quit),
                b'n' | b'N' => wishes.push(Wish::Next),
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
    let extras = Extras { terminal: true, ..Extras::default() };
    let mut machine = Machine::start_with(runner, spec, config, events, None, &extras)?;
    let mut attached = Attached::new(keyboard, events);
    loop {
        match attached.turn(&mut machine)? {
            Turn::Goes | Turn::Next => {}
            Turn::Ended(exit) => return Ok(exit),
            Turn::Left => {
                machine.switch_off()?;
                return Ok(Exit { kind: ExitKind::PoweredOff, status: 0 });
            }
        }
    }
}

/// What came of a moment at the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    Goes,
    /// The machine ended by itself.
    Ended(Exit),
    /// The user wants it to end.
    Left,
    /// The user wants the next machine.
    Next,
}

/// This process's terminal as that of a machine: raw until this is dropped. What the machine prints comes to the screen
/// by the machine's own thread.
pub struct Attached<'a> {
    events: &'a Events,
    keyboard: &'a Keyboard,
    modes: Modes,
    keys: Keys,
    /// Typed, and not yet taken by the guest.
    pending: Vec<u8>,
    /// Nothing more comes from standard input.
    at_end: bool,
    paused: bool,
    screenshots: u32,
}

impl<'a> Attached<'a> {
    pub fn new(keyboard: &'a Keyboard, events: &'a Events) -> Self {
        Attached {
            events,
            keyboard,
            modes: Modes::raw(),
            keys: Keys::default(),
            pending: Vec::new(),
            at_end: false,
            paused: false,
            screenshots: 0,
        }
    }

    /// Waits for a moment, serves the keyboard, and says what came of it.
    pub fn turn(&mut self, machine: &mut Machine<'_>) -> Result<Turn> {
        let stdin = io::stdin();
        let stdout = io::stdout();
        if machine.config().stop.requested() {
            return Err(Error::Interrupted);
        }
        let wrong = |source| failed(machine.spec(), "wait for it", source);
        let ready = self.wait(machine, stdin.as_fd(), stdout.as_fd()).map_err(wrong)?;
        if ready.screen_gone || machine.console.screen_is_gone() {
            return Err(Error::Interrupted);
        }
        if ready.ended
            && let Some(exit) = machine.wait(Instant::now())?
        {
            return Ok(Turn::Ended(exit));
        }
        if machine.console.take_menus() > 0 && machine.spec().display != Display::None {
            self.answer_menu(machine);
        }
        let mut turn = Turn::Goes;
        if ready.typed {
            turn = self.read(machine, stdin.as_fd())?;
        }
        if ready.takes {
            self.pass_on(machine);
        }
        Ok(turn)
    }

    /// Serves the keys after Ctrl-A without waiting, while something else types at the machine's console: what is typed
    /// for the guest is kept for the next [`Attached::turn`]. What comes over a pipe stays there.
    pub fn aside(&mut self, machine: &mut Machine<'_>) -> Result<Turn> {
        let stdin = io::stdin();
        if machine.config().stop.requested() || machine.console.screen_is_gone() {
            return Err(Error::Interrupted);
        }
        if !self.modes.0 || !readable(stdin.as_fd(), Duration::ZERO).unwrap_or_default() {
            return Ok(Turn::Goes);
        }
        let mut buffer = [0; 4096];
        let Some(count) = read_typed(stdin.as_fd(), &mut buffer) else { return Ok(Turn::Goes) };
        if count == 0 {
            return Err(Error::Interrupted);
        }
        let mut wishes = Vec::new();
        self.keys.feed(&buffer[..count], &mut self.pending, &mut wishes);
        // Wishes are heard however much was typed before them.
        self.pending.truncate(TYPED_AHEAD_MAX);
        Ok(self.grant(machine, wishes))
    }

    fn wait(
        &self,
        machine: &Machine<'_>,
        stdin: BorrowedFd<'_>,
        stdout: BorrowedFd<'_>,
    ) -> io::Result<Ready> {
        let (process, input) = machine.descriptors();
        let mut descriptors = vec![
            PollFd::from_borrowed_fd(process, PollFlags::IN),
            // Nothing is waited for there: that nobody reads it any more is told always.
            PollFd::from_borrowed_fd(stdout, PollFlags::empty()),
        ];
        let reads = !self.at_end && self.pending.len() < TYPED_AHEAD_MAX;
        if reads {
            descriptors.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        if let (Some(input), false) = (input, self.pending.is_empty()) {
            descriptors.push(PollFd::from_borrowed_fd(input, PollFlags::OUT));
        }
        let pause = Timespec { tv_sec: 0, tv_nsec: STOP_POLL.subsec_nanos().into() };
        match poll(&mut descriptors, Some(&pause)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |index: usize| descriptors.get(index).is_some_and(|found| !found.revents().is_empty());
        Ok(Ready {
            ended: is_ready(0),
            screen_gone: is_ready(1),
            typed: reads && is_ready(2),
            takes: is_ready(2 + usize::from(reads)),
        })
    }

    fn read(&mut self, machine: &mut Machine<'_>, stdin: BorrowedFd<'_>) -> Result<Turn> {
        let mut buffer = [0; 4096];
        let Some(count) = read_typed(stdin.as_fd(), &mut buffer) else { return Ok(Turn::Goes) };
        if count == 0 {
            // A terminal that ends is gone for good; a file or pipe has just been read.
            if self.modes.0 {
                return Err(Error::Interrupted);
            }
            self.at_end = true;
            self.pass_on(machine);
            return Ok(Turn::Goes);
        }
        let mut wishes = Vec::new();
        if self.modes.0 {
            self.keys.feed(&buffer[..count], &mut self.pending, &mut wishes);
        } else {
            self.pending.extend(&buffer[..count]);
        }
        self.pass_on(machine);
        Ok(self.grant(machine, wishes))
    }

    fn grant(&mut self, machine: &mut Machine<'_>, wishes: Vec<Wish>) -> Turn {
        for wish in wishes {
            match wish {
                Wish::Quit => return Turn::Left,
                Wish::Next if self.keyboard.several => return Turn::Next,
                other => self.fulfil(machine, other),
            }
        }
        Turn::Goes
    }

    /// Gives the guest what it takes now.
    fn pass_on(&mut self, machine: &mut Machine<'_>) {
        let Some(input) = machine.input() else { return };
        match input.write(&self.pending) {
            Ok(count) => drop(self.pending.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The monitor has closed it: what is typed goes nowhere.
            Err(_) => self.pending.clear(),
        }
        if self.at_end && self.pending.is_empty() {
            *machine.input() = None;
        }
    }

    /// On the keyboard, which loaders under BIOS read alone; at the console where there is no keyboard.
    fn answer_menu(&mut self, machine: &mut Machine<'_>) {
        if machine.press(&["ret".to_owned()]).is_err() {
            self.pending.push(b'\r');
            self.pass_on(machine);
        }
    }

    fn fulfil(&mut self, machine: &mut Machine<'_>, wish: Wish) {
        let message = match self.attempt(machine, wish) {
            Ok(message) => message,
            Err(error) => error.to_string(),
        };
        if !message.is_empty() {
            self.events.emit(Event::Notice { message });
        }
    }

    fn attempt(&mut self, machine: &mut Machine<'_>, wish: Wish) -> Result<String> {
        match wish {
            Wish::PowerButton => {
                machine.shutdown()?;
                Ok("the power button was pressed".into())
            }
            Wish::Reset => {
                machine.reset()?;
                Ok("the reset button was pressed".into())
            }
            Wish::PauseOrResume => {
                if self.paused {
                    machine.resume()?
                } else {
                    machine.pause()?
                }
                self.paused = !self.paused;
                Ok(if self.paused { "paused" } else { "goes on" }.into())
            }
            Wish::Screenshot => self.screenshot(machine),
            Wish::Save => self.save(machine),
            Wish::Help if self.keyboard.several => Ok(format!("{HELP}, n goes to the next machine")),
            Wish::Quit | Wish::Next | Wish::Help => Ok(HELP.into()),
        }
    }

    fn screenshot(&mut self, machine: &mut Machine<'_>) -> Result<String> {
        let file = loop {
            self.screenshots += 1;
            let name = format!("{}-{}.png", machine.spec().name, self.screenshots);
            let file = self.keyboard.screenshot_folder.join(name);
            if !file.exists() {
                break file;
            }
        };
        machine.screenshot(&file)?;
        Ok(format!("the screen is in `{}`", file.display()))
    }

    fn save(&mut self, machine: &mut Machine<'_>) -> Result<String> {
        let Some(folder) = &self.keyboard.save_folder else {
            return Ok(if machine.saves_state() {
                "there is no folder for the machine's state: give one with --snapshot".into()
            } else {
                "this monitor saves no state: `--vmm cloud-hypervisor` and `--vmm firecracker` do".into()
            });
        };
        if !self.paused {
            machine.pause()?;
        }
        let result = machine.save(folder);
        if !self.paused {
            machine.resume()?;
        }
        result?;
        let then = if self.paused { "still paused" } else { "the machine goes on" };
        Ok(format!("the machine's state is in `{}`; {then}", folder.display()))
    }
}

struct Ready {
    ended: bool,
    screen_gone: bool,
    typed: bool,
    takes: bool,
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

/// How much was typed, 0 where nothing more ever will be; none where nothing is there yet. Not through the standard
/// library's buffer: what is in there would not wake [`Attached::wait`].
fn read_typed(stdin: BorrowedFd<'_>, buffer: &mut [u8]) -> Option<usize> {
    match rustix::io::read(stdin, buffer) {
        Ok(count) => Some(count),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => None,
        Err(_) => Some(0),
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
                &[b"\x01o\x01r\x01s\x01w\x01?\x01n"],
                b"",
                &[Wish::PowerButton, Wish::Reset, Wish::Screenshot, Wish::Save, Wish::Help, Wish::Next],
            ),
        ];
        for (reads, guest, wishes) in cases {
            let (mut keys, mut typed, mut wished) = (Keys::default(), Vec::new(), Vec::new());
            reads.iter().for_each(|read| keys.feed(read, &mut typed, &mut wished));
            assert_eq!((typed.as_slice(), wished.as_slice()), (guest, wishes), "{reads:?}");
        }
    }
}
