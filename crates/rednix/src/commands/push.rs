//! `rednix push`: a rebuilt package into a running machine, without a new image. It builds, and asks the program that
//! runs the machine (`rednix run --push`) to put the files in.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rednix_events::Event;

use super::attend::{self, Answer, Request};
use super::print;
use crate::cli::PushArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::interrupt;
use crate::project::Project;
use crate::relock;
use crate::session::Session;

pub fn run(session: &Session, arguments: &PushArgs) -> Result<(), Failure> {
    // Before anything is built: without a machine there is no use in it.
    let socket = find(&attend::folder(session), arguments.machine.as_deref())?;
    let project = Project::find(&session.config, &arguments.tree)?;
    let paths = relock::building(session, project, arguments.tree.locked, |project| {
        let wanted = evaluation::wanted(session, &[Target::installable(project, &arguments.package)])?;
        session.build(&wanted)
    })?;
    let (user, password) = match arguments.login.split_once(':') {
        Some((user, password)) => (user, Some(password.to_owned())),
        None => (arguments.login.as_str(), None),
    };
    let request = Request {
        version: 1,
        package: arguments.package.clone(),
        root: session.store()?.real_path(&paths[0]),
        user: user.to_owned(),
        password,
    };
    let mut line = serde_json::to_string(&request)?;
    line.push('\n');
    let mut stream = UnixStream::connect(&socket)
        .map_err(|e| Failure::failed(format!("cannot reach the machine by `{}`: {e}", socket.display())))?;
    stream
        .write_all(line.as_bytes())
        .map_err(|e| Failure::failed(format!("the machine does not listen: {e}")))?;
    // From here on the machine's program works, and it ends a push whose asker is gone.
    interrupt::handle()?;
    stream.set_read_timeout(Some(INTERRUPT_POLL))?;
    let mut lines = BufReader::new(stream);
    while let Some(answer) = next(&mut lines)? {
        match answer {
            Answer::Say(text) => session.events().emit(Event::Step { what: text }),
            Answer::Done(text) => {
                session.view.finish();
                return print(&format!("{text}\n"));
            }
            Answer::Error(text) => return Err(Failure::failed(text)),
        }
    }
    Err(Failure::failed("the machine ended before the package was in it"))
}

/// How often a wait for an answer looks whether somebody has interrupted it.
const INTERRUPT_POLL: Duration = Duration::from_millis(100);

/// The next answer; none where no more come.
fn next(lines: &mut BufReader<UnixStream>) -> Result<Option<Answer>, Failure> {
    let mut line = Vec::new();
    loop {
        if interrupt::flag().load(Ordering::SeqCst) {
            return Err(Failure::interrupted());
        }
        match lines.read_until(b'\n', &mut line) {
            Ok(_) if line.is_empty() => return Ok(None),
            Ok(_) => return Ok(Some(serde_json::from_slice(&line)?)),
            // What has come of the line stays in it.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(Failure::failed(format!("the machine does not answer: {error}"))),
        }
    }
}

/// The socket of the machine of that name, or of the only one.
fn find(folder: &Path, name: Option<&str>) -> Result<PathBuf, Failure> {
    let items = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut running: Vec<(String, PathBuf)> = items
        .filter_map(|item| {
            let name = item.file_name().to_string_lossy().strip_suffix(".sock")?.to_owned();
            UnixStream::connect(item.path()).ok().map(|_| (name, item.path()))
        })
        .collect();
    running.sort();
    let names = || running.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let chosen = match (name, running.as_slice()) {
        (_, []) => {
            return Err(Failure::usage("no machine runs that takes packages")
                .hint("start one by `rednix run --push SYSTEM` in another terminal"));
        }
        (None, [(_, path)]) => path,
        (None, _) => {
            return Err(Failure::usage(format!("several machines run: {}", names()))
                .hint("say which by `--machine NAME`"));
        }
        (Some(name), _) => match running.iter().find(|(known, _)| known == name) {
            Some((_, path)) => path,
            None => return Err(Failure::usage(format!("no machine `{name}` runs; there are: {}", names()))),
        },
    };
    Ok(chosen.clone())
}
