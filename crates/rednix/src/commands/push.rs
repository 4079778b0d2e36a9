//! `rednix push`: a rebuilt package into a running machine, without a new image. It builds, and asks the program that
//! runs the machine (`rednix run --push`) to put the files in.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rednix_events::Event;

use super::attend::{self, Answer, Request};
use super::print;
use crate::cli::PushArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
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
    for line in BufReader::new(stream).lines() {
        match serde_json::from_str(&line?)? {
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
