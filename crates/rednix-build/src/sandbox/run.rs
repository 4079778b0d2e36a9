//! The parent's side of the sandbox: starts the child, passes the request, reads output and reports, ends
//! it on time-outs and cancellation. It sets nothing up itself.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::child::{CHILD_ARGUMENT, STEP_NAMESPACES, STEP_START, STEP_USER_MAP};
use super::spec::{Report, SandboxSpec};
use crate::cancel::CancelToken;
use crate::limits;

/// When to give up.
#[derive(Clone, Debug)]
pub struct Control {
    /// From the start of the sandbox.
    pub timeout_total: Option<Duration>,
    /// Since the last output.
    pub timeout_silence: Option<Duration>,
    pub cancel: CancelToken,
}

/// How a sandboxed program ended. In every case no process of it is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Exited(i32),
    Signalled(i32),
    BuiltinFailed(String),
    TimedOut(Duration),
    Silent(Duration),
    Cancelled,
}

/// Why nothing ran. The machine, not the derivation, is at fault, except for `Start`.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The builder is missing or not executable in the sandbox's root.
    #[error(
        "cannot start the builder `{builder}` in the sandbox: {source}\n\nhint: is it in one of the layers that the derivation's `rednixRoot` names?"
    )]
    Start { builder: String, source: std::io::Error },
    /// Without namespaces there is no sandbox, and nothing is ever built outside one.
    #[error("cannot create a sandbox, namespaces are denied here: {source}\n\nhint: {remedy}")]
    Denied { source: std::io::Error, remedy: String },
    #[error("cannot set the sandbox up, {step} `{object}`: {source}")]
    Setup { step: String, object: String, source: std::io::Error },
    #[error("cannot {operation} the sandbox process: {source}")]
    Process { operation: &'static str, source: std::io::Error },
    /// The child vanished without a word; a bug or the machine's out-of-memory killer.
    #[error("the sandbox process ended without a report")]
    Lost,
}

/// Runs `spec` and hands every piece of its output to `on_output`.
pub fn run(
    spec: &SandboxSpec,
    control: &Control,
    on_output: &mut dyn FnMut(&[u8]),
) -> Result<Ending, SandboxError> {
    let (mut child, socket, log) = start(spec)?;
    let mut watch = Watch::new(control, socket, log);
    watch.follow(on_output);
    let give_up = Instant::now() + Duration::from_millis(limits::KILL_GRACE_MS);
    end_child(&mut child, give_up)?;
    watch.ending()
}

fn process<T>(operation: &'static str, result: std::io::Result<T>) -> Result<T, SandboxError> {
    result.map_err(|source| SandboxError::Process { operation, source })
}

/// Starts the child and sends it the request.
fn start(spec: &SandboxSpec) -> Result<(Child, UnixStream, OwnedFd), SandboxError> {
    let (mut ours, theirs) = process("connect to", UnixStream::pair())?;
    let (log, log_writer) =
        process("connect to", rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(Into::into))?;
    let second_writer = process("connect to", log_writer.try_clone())?;
    // A new image rather than a bare fork: this process has threads, and the child needs a clean start.
    let child = Command::new("/proc/self/exe")
        .arg(CHILD_ARGUMENT)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(log_writer))
        .stderr(Stdio::from(second_writer))
        .spawn();
    let child = process("start", child)?;
    let request = process("write to", serde_json::to_vec(spec).map_err(Into::into))?;
    assert!(request.len() <= limits::REQUEST_BYTES_MAX, "a sandbox request within the limit");
    let length = (request.len() as u64).to_le_bytes();
    // A child that dies early is found out below, by its missing report.
    let _ = ours.write_all(&length).and_then(|()| ours.write_all(&request));
    Ok((child, ours, log))
}

/// The pid namespace is dead by now unless something is very wrong; the child only has to be collected.
fn end_child(child: &mut Child, give_up: Instant) -> Result<(), SandboxError> {
    loop {
        if process("wait for", child.try_wait())?.is_some() {
            return Ok(());
        }
        if Instant::now() > give_up {
            process("kill", child.kill())?;
            process("wait for", child.wait())?;
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// What the parent sees of a running sandbox.
struct Watch<'a> {
    control: &'a Control,
    socket: UnixStream,
    log: OwnedFd,
    started: Instant,
    last_output: Instant,
    /// Set when the parent asked for the end, and why.
    stopped: Option<Ending>,
    reports: Vec<u8>,
}

impl<'a> Watch<'a> {
    fn new(control: &'a Control, socket: UnixStream, log: OwnedFd) -> Self {
        let now = Instant::now();
        Watch { control, socket, log, started: now, last_output: now, stopped: None, reports: Vec::new() }
    }

    /// Reads until both the log and the control socket are closed.
    fn follow(&mut self, on_output: &mut dyn FnMut(&[u8])) {
        let (mut log_open, mut socket_open) = (true, true);
        let mut buffer = vec![0; limits::LOG_CHUNK_BYTES];
        while log_open || socket_open {
            let (log_ready, socket_ready, cancelled) = self.wait(log_open, socket_open);
            if log_ready {
                match rustix::io::read(&self.log, &mut buffer) {
                    Ok(0) => log_open = false,
                    Ok(length) => {
                        self.last_output = Instant::now();
                        on_output(&buffer[..length]);
                    }
                    Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                    Err(_) => log_open = false,
                }
            }
            if socket_ready {
                match self.socket.read(&mut buffer) {
                    Ok(0) => socket_open = false,
                    Ok(length) if self.reports.len() + length <= limits::REPORT_BYTES_MAX => {
                        self.reports.extend_from_slice(&buffer[..length]);
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => socket_open = false,
                }
            }
            if cancelled {
                self.stop(Ending::Cancelled);
            }
            self.check_time();
            if self.overdue() {
                break;
            }
        }
    }

    /// Waits for the log, the socket, cancellation or the next deadline.
    fn wait(&self, log_open: bool, socket_open: bool) -> (bool, bool, bool) {
        let event = self.control.cancel.descriptor();
        let mut polled = Vec::with_capacity(3);
        if log_open {
            polled.push(PollFd::new(&self.log, PollFlags::IN));
        }
        if socket_open {
            polled.push(PollFd::new(&self.socket, PollFlags::IN));
        }
        if self.stopped.is_none() {
            polled.push(PollFd::new(&event, PollFlags::IN));
        }
        let timeout = self.next_deadline().map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        if rustix::event::poll(&mut polled, timeout.as_ref()).is_err() {
            return (false, false, false);
        }
        let mut ready = polled.iter().map(|entry| !entry.revents().is_empty());
        let log = log_open && ready.next().unwrap_or(false);
        let socket = socket_open && ready.next().unwrap_or(false);
        (log, socket, ready.next().unwrap_or(false))
    }

    fn next_deadline(&self) -> Option<Instant> {
        if self.stopped.is_some() {
            return Some(self.last_output + Duration::from_millis(limits::KILL_GRACE_MS));
        }
        let total = self.control.timeout_total.map(|limit| self.started + limit);
        let silence = self.control.timeout_silence.map(|limit| self.last_output + limit);
        [total, silence].into_iter().flatten().min()
    }

    fn check_time(&mut self) {
        if let Some(limit) = self.control.timeout_total
            && self.started.elapsed() >= limit
        {
            self.stop(Ending::TimedOut(limit));
        }
        if let Some(limit) = self.control.timeout_silence
            && self.last_output.elapsed() >= limit
        {
            self.stop(Ending::Silent(limit));
        }
    }

    /// Asks the child to kill the pid namespace, once.
    fn stop(&mut self, why: Ending) {
        if self.stopped.is_none() {
            self.stopped = Some(why);
            self.last_output = Instant::now();
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    fn overdue(&self) -> bool {
        self.stopped.is_some() && self.last_output.elapsed() >= Duration::from_millis(limits::KILL_GRACE_MS)
    }

    fn ending(self) -> Result<Ending, SandboxError> {
        let mut ending = None;
        for line in self.reports.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let Ok(report) = serde_json::from_slice::<Report>(line) else { continue };
            match report {
                Report::SetupFailed { step, object, error } => return Err(setup_error(step, object, error)),
                Report::Started => {}
                Report::BuiltinFailed { message } => ending = Some(Ending::BuiltinFailed(message)),
                // The first word is the cause: what the builtin said counts more than its exit status.
                Report::Exited { status } => ending = ending.or(Some(Ending::Exited(status))),
                Report::Signalled { signal } => ending = ending.or(Some(Ending::Signalled(signal))),
            }
        }
        match (self.stopped, ending) {
            // It was over before the order to stop arrived.
            (Some(_), Some(ending)) if !matches!(ending, Ending::Signalled(_)) => Ok(ending),
            (Some(why), _) => Ok(why),
            (None, Some(ending)) => Ok(ending),
            (None, None) => Err(SandboxError::Lost),
        }
    }
}

fn setup_error(step: String, object: String, error: i32) -> SandboxError {
    let source = std::io::Error::from_raw_os_error(error);
    match step.as_str() {
        STEP_START => SandboxError::Start { builder: object, source },
        STEP_NAMESPACES | STEP_USER_MAP => {
            // The kernel's word for it would send people looking at their disks.
            let source = match error {
                libc::ENOSPC => std::io::Error::other("the machine's limit on namespaces is reached"),
                _ => source,
            };
            SandboxError::Denied { source, remedy: super::probe::remedy() }
        }
        _ => SandboxError::Setup { step, object, source },
    }
}
