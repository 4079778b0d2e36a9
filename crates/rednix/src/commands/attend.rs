//! `rednix run --push`: a machine whose console goes through this program, so that `rednix push` can use it too. The
//! terminal is the machine's as ever, Ctrl-A X ends it; in between, requests come over a socket in the user's state
//! folder, one at a time.
//!
//! A request is one line of JSON, and so is each answer: `{ "say" }` while it works, `{ "done" }` or `{ "error" }` at
//! its end. Whoever may connect can write files in the guest: the folder is its owner's alone.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_vm::testing::{Guest, Problem, Shell, Surroundings, transfer};
use rednix_vm::{Config, Exit, MachineSpec, Runner};
use serde::{Deserialize, Serialize};

use super::terminal::{Follow, PREFIX, Raw, typed};
use crate::failure::Failure;
use crate::session::Session;

/// How long the shell may take to answer that it is there.
const GREETING: Duration = Duration::from_secs(10);
/// One file through the console.
const FILE_TIMEOUT: Duration = Duration::from_secs(600);
/// A request's line, in bytes.
const REQUEST_MAX: u64 = 64 << 10;
/// Paths whose hashes are asked for in one command.
const PATHS_AT_ONCE: usize = 12;

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
) -> Result<Exit, Failure> {
    let (listener, socket) = listen(&folder(session), &spec.name)?;
    let spec = MachineSpec { restart: Some(true), ..spec.clone() };
    let logs = session.cache_folder("console-logs")?;
    let around = Surroundings {
        config,
        events: session.events(),
        folder: &logs,
        switch: None,
        forbidden: &[],
        run: std::process::id(),
    };
    let mut guest = Guest::new(&around, runner, Shell::Ion, &spec, None);
    guest.start().map_err(failure)?;
    let raw = Raw::enter();
    let result = attend(&mut guest, &listener);
    drop(raw);
    let _ = std::fs::remove_file(&socket);
    let exit = result.map_err(failure)?;
    Ok(exit)
}

fn failure(problem: Problem) -> Failure {
    match problem {
        Problem::Machine(rednix_vm::Error::Interrupted) => Failure::interrupted(),
        Problem::Machine(error) => error.into(),
        Problem::Guest(message) | Problem::Missing(message) => Failure::failed(message),
    }
}

/// A socket of the machine's name, or of that name with a number where another machine has it.
fn listen(folder: &Path, name: &str) -> Result<(UnixListener, PathBuf), Failure> {
    let failed =
        |e: std::io::Error| Failure::failed(format!("cannot make a socket in `{}`: {e}", folder.display()));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    for number in 1..100 {
        let file = if number == 1 { format!("{name}.sock") } else { format!("{name}-{number}.sock") };
        let path = folder.join(file);
        if UnixStream::connect(&path).is_ok() {
            continue;
        }
        // Nobody answers there any more.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        return Ok((listener, path));
    }
    Err(Failure::failed(format!("a hundred machines named `{name}` run already")))
}

/// Passes keys and output, and takes requests, until the machine ends.
fn attend(guest: &mut Guest<'_>, listener: &UnixListener) -> Result<Exit, Problem> {
    let mut shown = Follow::new(guest.logs.last().map(|log| log.as_path()));
    let (mut after_prefix, mut has_input) = (false, true);
    loop {
        shown.print();
        if let Ok((stream, _)) = listener.accept() {
            serve(guest, stream, &mut shown)?;
        }
        let mut keys = [0; 256];
        let count = if has_input { typed(&mut keys) } else { None };
        if !has_input {
            std::thread::sleep(Duration::from_millis(20));
        }
        has_input &= count != Some(0);
        let mut text = Vec::new();
        for &key in &keys[..count.unwrap_or(0)] {
            match (after_prefix, key) {
                (true, b'x' | b'X') => guest.cut(true)?,
                (false, PREFIX) => after_prefix = true,
                (_, key) => {
                    after_prefix = false;
                    text.push(key);
                }
            }
        }
        if let Some(exit) = guest.ended(Instant::now())? {
            shown.print();
            return Ok(exit);
        }
        if !text.is_empty() {
            guest.send(&String::from_utf8_lossy(&text))?;
        }
    }
}

/// One request. What goes wrong is told to who asked; only the machine's end ends us.
fn serve(guest: &mut Guest<'_>, stream: UnixStream, shown: &mut Follow) -> Result<(), Problem> {
    let mut out = match stream.set_nonblocking(false).and_then(|()| stream.try_clone()) {
        Ok(out) => out,
        Err(_) => return Ok(()),
    };
    let _ = stream.set_read_timeout(Some(GREETING));
    let mut line = String::new();
    let mut limited = std::io::Read::take(BufReader::new(stream), REQUEST_MAX);
    let answer = match limited.read_line(&mut line).map(|_| serde_json::from_str::<Request>(&line)) {
        Ok(Ok(request)) if request.version == 1 => {
            let say = |text: String| tell(&mut out, &Answer::Say(text));
            match push(guest, &request, say) {
                Ok(text) => Answer::Done(text),
                Err(Problem::Machine(rednix_vm::Error::Interrupted)) => {
                    return Err(Problem::Machine(rednix_vm::Error::Interrupted));
                }
                Err(Problem::Machine(error)) => Answer::Error(error.to_string()),
                Err(Problem::Guest(text) | Problem::Missing(text)) => Answer::Error(text),
            }
        }
        // Somebody who only looks whether the machine runs.
        Ok(_) if line.is_empty() => return Ok(()),
        _ => Answer::Error("the request is not understood; is it another rednix?".into()),
    };
    shown.print();
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

/// What a package has at one place.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    Link(String),
    File { source: PathBuf, hash: String, executable: bool },
}

/// The package's files by their place in the guest, folders before what is in them.
fn entries(root: &Path) -> std::io::Result<BTreeMap<String, Entry>> {
    let mut all = BTreeMap::new();
    let mut pending = vec![(root.to_path_buf(), String::new())];
    while let Some((folder, place)) = pending.pop() {
        for item in std::fs::read_dir(&folder)? {
            let item = item?;
            let place = format!("{place}/{}", item.file_name().to_string_lossy());
            let kind = item.file_type()?;
            let entry = if kind.is_dir() {
                pending.push((item.path(), place.clone()));
                Entry::Folder
            } else if kind.is_symlink() {
                Entry::Link(std::fs::read_link(item.path())?.to_string_lossy().into_owned())
            } else {
                let hash = Hash::of(HashAlgorithm::Sha256, &std::fs::read(item.path())?).to_hex();
                let executable = item.metadata()?.permissions().mode() & 0o111 != 0;
                Entry::File { source: item.path(), hash, executable }
            };
            all.insert(place, entry);
        }
    }
    Ok(all)
}

fn push(guest: &mut Guest<'_>, request: &Request, mut say: impl FnMut(String)) -> Result<String, Problem> {
    let entries = entries(&request.root)
        .map_err(|e| Problem::Guest(format!("cannot read `{}`: {e}", request.root.display())))?;
    greet(guest, request)?;
    let paths: Vec<&String> = entries
        .iter()
        .filter(|(_, entry)| matches!(entry, Entry::File { .. }))
        .map(|(path, _)| path)
        .collect();
    let known = hashes(guest, &paths)?;
    let deadline = || Instant::now() + FILE_TIMEOUT;
    let (mut sent, mut same) = (0, 0);
    for (path, entry) in &entries {
        let word = transfer::word(guest.shell, path)?;
        match entry {
            Entry::Folder => succeed(guest, &format!("test -d {word} || mkdir {word}"))?,
            Entry::Link(target) => {
                let target = transfer::word(guest.shell, target)?;
                // A folder of the system may be a link to where the package has it, and stays.
                succeed(guest, &format!("test -d {word} || ln -sf {target} {word}"))?;
            }
            Entry::File { hash, .. } if known.get(path) == Some(hash) => same += 1,
            Entry::File { source, executable, .. } => {
                say(path.clone());
                let new = transfer::word(guest.shell, &format!("{path}.pushed"))?;
                // It compares what came through.
                transfer::copy_in(guest, source, &format!("{path}.pushed"), deadline())?;
                let mode = if *executable { "755" } else { "644" };
                succeed(guest, &format!("chmod {mode} {new}"))?;
                succeed(guest, &format!("mv {new} {word}"))?;
                sent += 1;
            }
        }
    }
    Ok(format!("{}: {sent} files sent, {same} were the same", request.package))
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

/// The hashes of those files that are there.
fn hashes(guest: &mut Guest<'_>, paths: &[&String]) -> Result<BTreeMap<String, String>, Problem> {
    let mut known = BTreeMap::new();
    for some in paths.chunks(PATHS_AT_ONCE) {
        let mut command = String::from("sha256sum");
        for path in some {
            command.push(' ');
            command.push_str(&transfer::word(guest.shell, path)?);
        }
        // What is not there is no failure: it is sent.
        let answer = guest.run(&command, Instant::now() + FILE_TIMEOUT)?;
        for line in answer.output.lines() {
            if let Some((hash, path)) = line.split_once(' ').filter(|(hash, _)| hash.len() == 64) {
                known.insert(path.trim_start_matches([' ', '*']).to_owned(), hash.to_owned());
            }
        }
    }
    Ok(known)
}

fn succeed(guest: &mut Guest<'_>, command: &str) -> Result<(), Problem> {
    let answer = guest.run(command, Instant::now() + FILE_TIMEOUT)?;
    match answer.status {
        0 => Ok(()),
        status => {
            Err(Problem::Guest(format!("`{command}` ended with status {status}: {}", answer.output.trim())))
        }
    }
}
