//! A child process that cannot outlive us: killed with its group when dropped, and by the kernel when this process
//! dies in whatever way. It knows nothing of machines.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::limits::{STOP_POLL, TERMINATION_GRACE};
use crate::runner::Stop;

/// A running child.
pub struct Process {
    child: Child,
    handle: OwnedFd,
    /// The child leads a process group of its own.
    group: bool,
    ended: Option<i32>,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Process status, or the negated number of the signal that killed it.
    Ended(i32),
    TimedOut,
    Stopped,
}

impl Process {
    /// Starts a command. `inherited` descriptors stay open in the child. With `group` the child leaves our process
    /// group, so that keys of the terminal do not reach it; without, it may read the terminal.
    ///
    /// The kernel kills the child when the calling *thread* ends: call this from the thread that waits.
    pub fn spawn(command: &mut Command, inherited: &[BorrowedFd<'_>], group: bool) -> io::Result<Process> {
        use std::os::fd::AsRawFd;
        let parent = rustix::process::getpid();
        let inherited: Vec<i32> = inherited.iter().map(|fd| fd.as_raw_fd()).collect();
        if group {
            command.process_group(0);
        }
        let prepare = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // A monitor that aborts must not leave a core file somewhere.
            let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
            rustix::process::setrlimit(rustix::process::Resource::Core, none)?;
            // We may have died before the line above.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
            }
            for &fd in &inherited {
                // SAFETY: the descriptors are borrowed by `spawn` for longer than the child needs to start, and
                // nothing closes them between fork and exec.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure only makes the system calls prctl, prlimit, getppid and fcntl; it
        // allocates nothing and takes no lock.
        unsafe { command.pre_exec(prepare) };
        let mut child = command.spawn()?;
        match rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(handle) => Ok(Process { child, handle, group, ended: None }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn take_streams(&mut self) -> (Option<File>, Option<File>, Option<File>) {
        let stdin = self.child.stdin.take().map(|stream| File::from(OwnedFd::from(stream)));
        let stdout = self.child.stdout.take().map(|stream| File::from(OwnedFd::from(stream)));
        let stderr = self.child.stderr.take().map(|stream| File::from(OwnedFd::from(stream)));
        (stdin, stdout, stderr)
    }

    /// Waits until the child ends, the deadline passes or `stop` is requested.
    pub fn wait(&mut self, deadline: Option<Instant>, stop: &Stop) -> io::Result<Waited> {
        loop {
            if let Some(status) = self.ended {
                return Ok(Waited::Ended(status));
            }
            if stop.requested() {
                return Ok(Waited::Stopped);
            }
            let left =
                deadline.map_or(STOP_POLL, |deadline| deadline.saturating_duration_since(Instant::now()));
            if readable(self.handle.as_fd(), left.min(STOP_POLL))? {
                let status = self.child.wait()?;
                self.ended = Some(status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)));
            } else if left.is_zero() {
                return Ok(Waited::TimedOut);
            }
        }
    }

    /// Asks the child to end, then kills it; answers its status.
    pub fn terminate(&mut self) -> io::Result<i32> {
        if self.ended.is_none() {
            let _ = rustix::process::pidfd_send_signal(&self.handle, Signal::TERM);
        }
        let deadline = Instant::now() + TERMINATION_GRACE;
        match self.wait(Some(deadline), &Stop::default())? {
            Waited::Ended(status) => Ok(status),
            _ => self.kill(),
        }
    }

    pub fn kill(&mut self) -> io::Result<i32> {
        if self.ended.is_none() {
            if self.group {
                // The leader is not reaped yet, so the number still names its group.
                let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            }
            let _ = rustix::process::pidfd_send_signal(&self.handle, Signal::KILL);
        }
        match self.wait(None, &Stop::default())? {
            Waited::Ended(status) => Ok(status),
            _ => Ok(-Signal::KILL.as_raw()),
        }
    }
}

impl AsFd for Process {
    /// Ready for reading once the child has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Whether `fd` has something to read (or has ended) within `timeout`.
pub fn readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    ready(fd, PollFlags::IN, timeout)
}

pub fn writable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    ready(fd, PollFlags::OUT, timeout)
}

fn ready(fd: BorrowedFd<'_>, flags: PollFlags, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
    match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Runs a short command to its end and answers status and standard output; killed at the time-out.
pub fn output(command: &mut Command, timeout: Duration, stop: &Stop) -> io::Result<(Waited, String)> {
    use std::io::Read;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process::spawn(command, &[], true)?;
    let (_, stdout, _) = process.take_streams();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(64 << 10).read_to_string(&mut text);
        }
        text
    });
    let waited = process.wait(Some(Instant::now() + timeout), stop)?;
    process.kill()?;
    Ok((waited, reader.join().unwrap_or_default()))
}
