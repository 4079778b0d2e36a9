//! `rednix run --push`: a machine at the terminal that `rednix push` can put files into. In between what is typed, requests
//! come over a socket in the user's state folder, one at a time; what is typed for the guest meanwhile waits, and the keys after
//! Ctrl-A do not.
//!
//! A request is one line of JSON, and so is each answer: `{ "say" }` while it works, `{ "done" }` or `{ "error" }` at
//! its end. Whoever may connect can write files in the guest: the folder is its owner's alone.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rednix_vm::testing::{self, Done, Guest, Meanwhile, Place, Problem, Shell, Surroundings, transfer};
use rednix_vm::{Attached, Config, Error, Exit, Keyboard, Machine, MachineSpec, Runner, Turn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::machines;
use crate::session::Session;

/// How long the shell may take to answer that it is there.
const GREETING: Duration = Duration::from_secs(10);
/// For whoever connected to say what for. Nothing else is served meanwhile.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// A package's files.
const PUSH_TIMEOUT: Duration = Duration::from_secs(3600);
/// A request's line, in bytes.
const REQUEST_MAX: u64 = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub version: u32,
    /// What the package is called.
    pub package: String,
    /// Its files on this machine.
    pub root: PathBuf,
    pub user: String,
    pub password: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Say(String),
    Done(String),
    Error(String),
}

/// Where sockets of running machines are.
pub fn folder(session: &Session) -> PathBuf {
    session.config.state.join("machines")
}

/// Runs the machine until it ends.
pub fn run(
    session: &Session,
    runner: &dyn Runner,
    spec: &MachineSpec,
    config: &Config,
    keyboard: &Keyboard,
) -> Result<Exit, Failure> {
    let door = Door::open(&folder(session), &spec.name)?;
    let logs = session.cache_folder("console-logs")?;
    let desk = Desk::default();
    let around = Surroundings {
        config,
        events: session.events(),
        folder: &logs,
        switch: None,
        forbidden: &[],
        run: std::process::id(),
        meanwhile: Some(&desk),
    };
    let place = Place { exchange: true, terminal: true, ..Place::default() };
    let mut guest = Guest::new(&around, runner, Shell::Ion, spec, place);
    guest.start().map_err(failure)?;
    desk.attached.replace(Some(Attached::new(keyboard, session.events())));
    let result = attend(&mut guest, &door.listener, &desk);
    desk.attached.take();
    result.map_err(failure)
}

fn failure(problem: Problem) -> Failure {
    match problem {
        Problem::Machine(error) => machines::failure(&error),
        Problem::Guest(message) | Problem::Missing(message) => Failure::failed(message),
    }
}

/// Where requests come in. The socket goes away with it.
struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What is looked at while the guest is waited for: the keyboard, and whether somebody still wants what they asked for.
#[derive(Default)]
struct Desk<'k> {
    attached: RefCell<Option<Attached<'k>>>,
    client: RefCell<Option<UnixStream>>,
    /// The user has ended the machine.
    left: Cell<bool>,
}

impl Desk<'_> {
    fn client_is_gone(&self) -> bool {
        self.client.borrow().as_ref().is_some_and(|stream| {
            let mut descriptors = [PollFd::new(stream, PollFlags::RDHUP)];
            // An error is no reason to end what goes on.
            poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0)
        })
    }
}

impl Meanwhile for Desk<'_> {
    /// Ends the wait as an interruption does: nothing on the way takes that for the guest's own doing.
    fn look(&self, machine: &mut Machine<'_>) -> Done {
        if let Some(attached) = self.attached.borrow_mut().as_mut()
            && attached.aside(machine)? == Turn::Left
        {
            self.left.set(true);
        }
        if self.left.get() || self.client_is_gone() { Err(Error::Interrupted.into()) } else { Ok(()) }
    }
}

impl Door {
    /// A socket of the machine's name, or of that name with a number where another machine has it.
    fn open(folder: &Path, name: &str) -> Result<Self, Failure> {
        let failed = |e: std::io::Error| {
            Failure::failed(format!("cannot make a socket in `{}`: {e}", folder.display()))
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        // One machine at a time looks for a name: a socket between its making and its listening answers nobody.
        let whole = File::open(folder).map_err(failed)?;
        flock(&whole, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        for number in 1..100 {
            let file = if number == 1 { format!("{name}.sock") } else { format!("{name}-{number}.sock") };
            let path = folder.join(file);
            if UnixStream::connect(&path).is_ok() {
                continue;
            }
            // Nobody answers there any more.
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path).map_err(failed)?;
            let door = Door { listener, path };
            door.listener.set_nonblocking(true).map_err(failed)?;
            return Ok(door);
        }
        Err(Failure::failed(format!("a hundred machines named `{name}` run already")))
    }
}

/// Serves the terminal, and takes requests, until the machine ends.
fn attend(guest: &mut Guest<'_>, listener: &UnixListener, desk: &Desk<'_>) -> Result<Exit, Problem> {
    loop {
        // A push may have seen its end.
        if let Some(exit) = guest.exit() {
            return Ok(exit.clone());
        }
        let turn = match desk.attached.borrow_mut().as_mut() {
            Some(attached) if !desk.left.get() => attached.turn(guest.machine()?)?,
            _ => Turn::Left,
        };
        match turn {
            Turn::Goes | Turn::Next => {}
            Turn::Ended(exit) => return Ok(exit),
            Turn::Left => {
                guest.cut(true)?;
                continue;
            }
        }
        if let Ok((stream, _)) = listener.accept() {
            serve(guest, stream, desk)?;
        }
    }
}

/// One request. What goes wrong is told to who asked; only the machine's end ends us.
fn serve(guest: &mut Guest<'_>, stream: UnixStream, desk: &Desk<'_>) -> Result<(), Problem> {
    let copies = stream.set_nonblocking(false).and_then(|()| Ok((stream.try_clone()?, stream.try_clone()?)));
    let Ok((mut out, client)) = copies else { return Ok(()) };
    let _ = stream.set_read_timeout(Some(REQUEST_TIMEOUT));
    // Somebody who does not read must not keep the machine's user from the keys.
    let _ = out.set_write_timeout(Some(REQUEST_TIMEOUT));
    let mut line = String::new();
    let mut limited = std::io::Read::take(BufReader::new(stream), REQUEST_MAX);
    let answer = match limited.read_line(&mut line).map(|_| serde_json::from_str::<Request>(&line)) {
        Ok(Ok(request)) if request.version == 1 => {
            let say = |text: String| tell(&mut out, &Answer::Say(text));
            desk.client.replace(Some(client));
            let pushed = push(guest, &request, say);
            desk.client.take();
            match pushed {
                Ok(text) => Answer::Done(text),
                Err(Problem::Machine(Error::Interrupted)) if guest.config().stop.requested() => {
                    return Err(Problem::Machine(Error::Interrupted));
                }
                Err(Problem::Machine(Error::Interrupted)) if desk.left.get() => {
                    Answer::Error("the machine's user has ended it".into())
                }
                // Nobody is there to be told, or the terminal is gone, which the next turn sees.
                Err(Problem::Machine(Error::Interrupted)) => return Ok(()),
                Err(Problem::Machine(error)) => Answer::Error(error.to_string()),
                Err(Problem::Guest(text) | Problem::Missing(text)) => Answer::Error(text),
            }
        }
        // Somebody who only looks whether the machine runs.
        Ok(_) if line.is_empty() => return Ok(()),
        _ => Answer::Error("the request is not understood; is it another rednix?".into()),
    };
    tell(&mut out, &answer);
    Ok(())
}

fn tell(out: &mut UnixStream, answer: &Answer) {
    if let Ok(mut line) = serde_json::to_string(answer) {
        line.push('\n');
        // Whoever asked may be gone.
        let _ = out.write_all(line.as_bytes());
    }
}

fn push(guest: &mut Guest<'_>, request: &Request, mut say: impl FnMut(String)) -> Result<String, Problem> {
    greet(guest, request)?;
    let deadline = Instant::now() + PUSH_TIMEOUT;
    if !transfer::has_disk(guest, deadline)? {
        say("(over the console, slowly: whoever is logged in cannot read the machine's disk for files)"
            .into());
    }
    let started = Instant::now();
    let pushed = testing::push(guest, &request.root, &mut |path| say(path.to_owned()), deadline)?;
    Ok(format!(
        "{}: {} files sent, {} bytes in {:.1} s; {} were the same",
        request.package,
        pushed.sent,
        pushed.bytes,
        started.elapsed().as_secs_f64(),
        pushed.same
    ))
}

/// Finds a shell at the console, and logs in where a login is asked for.
fn greet(guest: &mut Guest<'_>, request: &Request) -> Result<(), Problem> {
    let tail = guest.console().map_or(Vec::new(), |console| console.tail(1));
    let asks = tail.last().is_some_and(|line| line.ends_with("login: "));
    if asks {
        return guest.login(&request.user, request.password.as_deref(), Instant::now() + 6 * GREETING);
    }
    guest.pass();
    match guest.run("true", Instant::now() + GREETING) {
        Ok(_) => Ok(()),
        Err(Problem::Guest(_)) => Err(Problem::Guest(
            "the machine's console answers no command; leave it at a shell's prompt or at the login".into(),
        )),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_start_at_once_have_doors_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        // What a killed one left.
        drop(UnixListener::bind(folder.path().join("probe.sock")).unwrap());
        for _ in 0..20 {
            let doors: Vec<Door> = std::thread::scope(|scope| {
                let open = || Door::open(folder.path(), "probe").unwrap();
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let mut paths: Vec<_> = doors.iter().map(|door| door.path.clone()).collect();
            paths.sort();
            paths.dedup();
            assert_eq!(paths.len(), 4, "{paths:?}");
            assert!(doors.iter().all(|door| UnixStream::connect(&door.path).is_ok()));
            drop(doors);
            assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        }
    }
}
