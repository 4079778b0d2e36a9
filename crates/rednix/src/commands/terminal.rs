//! This terminal as a machine's console: keys one by one, and what the machine prints as its log grows. It knows no
//! commands.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Ctrl-A comes before keys that are not for the machine.
pub const PREFIX: u8 = 1;

/// A console's log, as it grows.
pub struct Follow {
    file: Option<File>,
}

impl Follow {
    pub fn new(log: Option<&Path>) -> Follow {
        Follow { file: log.and_then(|log| File::open(log).ok()) }
    }

    /// Prints what is new.
    pub fn print(&mut self) {
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.file {
            let _ = file.read_to_end(&mut bytes);
        }
        if !bytes.is_empty() {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(&bytes).and_then(|()| out.flush());
        }
    }
}

/// Keys within a moment; nothing typed is none, and the end of input zero.
pub fn typed(keys: &mut [u8]) -> Option<usize> {
    let stdin = std::io::stdin();
    let pause = Timespec { tv_sec: 0, tv_nsec: Duration::from_millis(20).subsec_nanos().into() };
    let mut polled = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
    match poll(&mut polled, Some(&pause)) {
        Ok(1..) => rustix::io::read(stdin.as_fd(), keys).ok(),
        _ => None,
    }
}

/// The terminal hands over every key, and is put back when this goes.
pub struct Raw(Termios);

impl Raw {
    /// None where standard input is no terminal.
    pub fn enter() -> Option<Raw> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
