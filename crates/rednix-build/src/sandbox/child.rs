//! The hidden half of rednix that lives between it and a builder: enters the namespaces, sets the sandbox
//! up, starts the program as a child of process 1 and reports how it ended. It reads no configuration, no
//! store and no network, and trusts only the request on its standard input.
//!
//! Three processes: *outer* stays in the host's pid namespace, waits and kills; *inner* is process 1 inside
//! and reaps; the *program* is what was asked for. Each dies when the one before it dies.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus};
use rustix::thread::UnshareFlags;

use super::mounts::{Setup, SetupError, at, enter_root, hand_over};
use super::spec::{Confinement, Program, Report, ResourceLimits, SandboxSpec};
use super::system;
use crate::builtins::Builtins;
use crate::limits;

/// First argument that turns rednix into the sandbox child.
pub const CHILD_ARGUMENT: &str = "__sandbox";

/// Runs the sandbox child if this process was started as one, and then never returns.
///
/// Call it first thing in `main`, before any thread is started.
pub fn child_main(builtins: &Builtins) {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == CHILD_ARGUMENT) {
        system::exit_now(if outer(builtins).is_ok() { 0 } else { 1 });
    }
}

/// The process that stays outside the pid namespace.
fn outer(builtins: &Builtins) -> io::Result<()> {
    system::die_with_parent()?;
    system::close_from(3)?;
    // A Ctrl-C at the terminal is for rednix, which then tells us.
    let _ = rustix::process::setsid();
    assert_eq!(system::thread_count()?, 1, "child_main must run before any thread is started");
    let control = take_control_socket()?;
    let spec = read_request(&control)?;
    let result = enter_namespaces(spec.confinement).and_then(|()| {
        let (alive, keep_alive) =
            at("create pipe", "", rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC))?;
        match at("fork", "", system::fork())? {
            None => {
                drop(keep_alive);
                inner(&spec, &control, alive, builtins)
            }
            Some(pid) => Ok((pid, keep_alive)),
        }
    });
    match result {
        Ok((pid, _keep_alive)) => supervise(pid, &control),
        Err(error) => report(&control, &setup_failed(error)),
    }
}

/// Moves the control socket away from standard input, which becomes /dev/null.
fn take_control_socket() -> io::Result<UnixStream> {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(UnixStream::from(control))
}

fn read_request(mut control: &UnixStream) -> io::Result<SandboxSpec> {
    let mut length = [0; 8];
    control.read_exact(&mut length)?;
    let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > limits::REQUEST_BYTES_MAX {
        return Err(io::Error::other("the sandbox request is too large"));
    }
    let mut request = vec![0; length];
    control.read_exact(&mut request)?;
    Ok(serde_json::from_slice(&request)?)
}

fn report(mut control: &UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    control.write_all(&line)
}

fn setup_failed(error: SetupError) -> Report {
    Report::SetupFailed {
        step: error.step.to_owned(),
        object: error.object,
        error: error.error.raw_os_error().unwrap_or(libc::EIO),
    }
}

fn unshare(step: &'static str, flags: UnshareFlags) -> Setup<()> {
    // SAFETY: the process has a single thread and shares no file descriptor table (FILES is not among the
    // flags), so no other thread's idea of the world changes.
    at(step, "", unsafe { rustix::thread::unshare_unsafe(flags) })
}

/// Name of the step whose failure means that the machine denies namespaces.
pub const STEP_NAMESPACES: &str = "create namespaces";
pub const STEP_USER_MAP: &str = "map the user";

fn enter_namespaces(confinement: Confinement) -> Setup<()> {
    let mut flags = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS;
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if matches!(confinement, Confinement::User { .. }) {
        flags |= UnshareFlags::NEWUSER;
    }
    unshare(STEP_NAMESPACES, flags)?;
    // A namespace for control groups is a matter of hiding names; some kernels have none.
    let _ = unshare("create cgroup namespace", UnshareFlags::NEWCGROUP);
    if matches!(confinement, Confinement::User { .. }) {
        map_user(SandboxSpec::USER_DEFAULT, user, SandboxSpec::GROUP_DEFAULT, group)?;
    }
    Ok(())
}

/// Maps one user and one group of the parent namespace into this new one.
fn map_user(inside: u32, outside: u32, inside_group: u32, outside_group: u32) -> Setup<()> {
    let lines = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{inside} {outside} 1\n")),
        ("/proc/self/gid_map", format!("{inside_group} {outside_group} 1\n")),
    ];
    for (path, text) in lines {
        at(STEP_USER_MAP, path, fs::write(path, text))?;
    }
    Ok(())
}

/// Waits until the whole pid namespace is gone, killing it when the parent says so or is gone.
fn supervise(pid: Pid, control: &UnixStream) -> io::Result<()> {
    // The log must end when the builder's processes end, whatever this process still does.
    let null = fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    let mut killed = false;
    loop {
        let mut polled =
            [PollFd::new(&handle, PollFlags::IN), PollFd::new(control, PollFlags::IN | PollFlags::HUP)];
        let watched = if killed { &mut polled[..1] } else { &mut polled[..] };
        match rustix::event::poll(watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if !killed && !polled[1].revents().is_empty() {
            killed = true;
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        if !polled[0].revents().is_empty() {
            break;
        }
    }
    // The kernel lets process 1 be waited for only after every other process of its namespace is dead.
    let status = loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            other => break other?,
        }
    };
    match status.and_then(|(_, status)| status.terminating_signal()) {
        Some(signal) => report(control, &Report::Signalled { signal }),
        None => Ok(()),
    }
}

/// Process 1 of the sandbox. Never returns.
fn inner(spec: &SandboxSpec, control: &UnixStream, alive: OwnedFd, builtins: &Builtins) -> ! {
    let result = set_up(spec, &alive).and_then(|()| {
        let _ = report(control, &Report::Started);
        match at("fork", "", system::fork())? {
            None => program(spec, control, builtins),
            Some(pid) => Ok(pid),
        }
    });
    let message = match result {
        Ok(pid) => {
            let _ = system::drop_capabilities();
            reap_until(pid)
        }
        Err(error) => Some(setup_failed(error)),
    };
    if let Some(message) = message {
        let _ = report(control, &message);
    }
    system::exit_now(0)
}

fn set_up(spec: &SandboxSpec, alive: &OwnedFd) -> Setup<()> {
    at("bind to the parent's life", "", system::die_with_parent())?;
    // The outer process may have died before the line above; then its end of the pipe is closed.
    let mut polled = [PollFd::new(alive, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    if at("poll", "", rustix::event::poll(&mut polled, Some(&now)))? > 0 {
        system::exit_now(1);
    }
    // The builder has the same user id: without this it could look into process 1.
    let hidden = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    at("hide process 1", "", hidden)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    at("bring loopback up", "lo", system::loopback_up())?;
    at("set host name", &spec.hostname, rustix::system::sethostname(spec.hostname.as_bytes()))?;
    if let Confinement::Privileged { host_id, .. } = spec.confinement {
        hand_over(spec, host_id)?;
    }
    enter_root(spec)
}

/// Reaps everything that ends, until the program itself has.
fn reap_until(program: Pid) -> Option<Report> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => return ended(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return None,
        }
    }
}

fn ended(status: WaitStatus) -> Option<Report> {
    if let Some(signal) = status.terminating_signal() {
        return Some(Report::Signalled { signal });
    }
    status.exit_status().map(|status| Report::Exited { status })
}

/// The program itself. Never returns.
fn program(spec: &SandboxSpec, control: &UnixStream, builtins: &Builtins) -> ! {
    let result = prepare_program(spec).and_then(|()| match &spec.program {
        Program::Nothing => system::exit_now(0),
        Program::Execute { path, arguments } => execute(spec, path.as_path(), arguments),
        Program::Builtin { name, attributes, outputs } => {
            let message = run_builtin(builtins, name, attributes, outputs);
            if let Err(message) = &message {
                let message = message.chars().take(limits::REPORT_BYTES_MAX / 8).collect();
                let _ = report(control, &Report::BuiltinFailed { message });
            }
            system::exit_now(if message.is_ok() { 0 } else { 1 })
        }
    });
    if let Err(error) = result {
        let _ = report(control, &setup_failed(error));
    }
    system::exit_now(1)
}

/// Everything that turns a copy of process 1 into a process with no rights at all.
fn prepare_program(spec: &SandboxSpec) -> Setup<()> {
    let _ = rustix::process::setsid();
    system::reset_signals();
    let null = at("open", "/dev/null", fs::File::open("/dev/null"))?;
    at("set standard input", "/dev/null", rustix::stdio::dup2_stdin(&null))?;
    drop(null);
    set_limits(&spec.limits);
    system::fixed_addresses();
    at("change folder", "/build", rustix::process::chdir("/build"))?;
    system::drop_bounding_capabilities();
    if let Confinement::Privileged { host_id, nested_user } = spec.confinement {
        at("become the build user", host_id.to_string(), system::become_user(host_id, host_id))?;
        if nested_user {
            // The files of /proc/self belong to root while a process hides itself, and we just left root.
            let shown = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
            at("show process", "", shown)?;
            unshare(STEP_NAMESPACES, UnshareFlags::NEWUSER)?;
            map_user(spec.user, host_id, spec.group, host_id)?;
        }
    }
    at("drop capabilities", "", system::drop_capabilities())?;
    at("set no_new_privs", "", rustix::thread::set_no_new_privs(true))?;
    at("filter system calls", "", super::seccomp::install())
}

fn set_limits(limits: &ResourceLimits) {
    let wanted = [
        (Resource::Core, Some(0)),
        (Resource::Nproc, limits.processes),
        (Resource::Nofile, limits.open_files),
        (Resource::Fsize, limits.file_bytes),
        (Resource::As, limits.memory_bytes),
    ];
    for (resource, value) in wanted {
        let Some(value) = value else { continue };
        // Never above what we were given ourselves: raising a hard limit is not ours to do.
        let hard = rustix::process::getrlimit(resource).maximum;
        let value = Some(hard.map_or(value, |hard| hard.min(value)));
        let _ = rustix::process::setrlimit(resource, Rlimit { current: value, maximum: value });
    }
}

fn execute(spec: &SandboxSpec, path: &Path, arguments: &[super::spec::Bytes]) -> Setup<()> {
    let text = |bytes: &[u8]| -> Setup<CString> {
        let text = CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
        at("pass a text with a NUL byte to", path, text)
    };
    let name = path.file_name().unwrap_or(path.as_os_str());
    let mut list = vec![text(name.as_encoded_bytes())?];
    for argument in arguments {
        list.push(text(&argument.0)?);
    }
    let mut environment = Vec::with_capacity(spec.environment.len());
    for (name, value) in &spec.environment {
        environment.push(text(&[name.0.as_slice(), b"=", value.0.as_slice()].concat())?);
    }
    let program = text(path.as_os_str().as_encoded_bytes())?;
    // Whatever another thread of rednix was starting while this file was written has it open until its own start is over,
    // and the kernel executes no file that is open for writing.
    let started = Instant::now();
    let error = loop {
        let error = system::execute(&program, &list, &environment);
        if error.kind() != io::ErrorKind::ExecutableFileBusy || started.elapsed() > limits::BUSY_WAITED_MAX {
            break error;
        }
        std::thread::sleep(limits::BUSY_PAUSE);
    };
    at(STEP_START, path, Err::<(), _>(error))
}

/// Name of the step whose failure is the derivation's fault, not the machine's.
pub const STEP_START: &str = "start the builder";

fn run_builtin(
    builtins: &Builtins,
    name: &str,
    attributes: &str,
    outputs: &[(String, String)],
) -> Result<(), String> {
    let attributes = serde_json::from_str(attributes)
        .map_err(|error| format!("the attributes of `builtin:{name}` are no JSON: {error}"))?;
    let outputs = outputs.iter().map(|(name, path)| (name.clone(), PathBuf::from(path))).collect();
    builtins.call(name, &attributes, &outputs)
}
