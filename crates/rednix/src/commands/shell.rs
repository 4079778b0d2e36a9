//! `rednix shell`: packages on PATH, in `$SHELL` or for one command.
//!
//! Nothing else of the environment changes; libraries and manuals are not looked for.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use crate::cli::ShellArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::flake::Installable;
use crate::project::Project;
use crate::session::Session;

use super::print;

pub fn run(session: &Session, arguments: &ShellArgs) -> Result<u8, Failure> {
    let project = Project::find(&session.config, &arguments.tree)?;
    let mut targets = Vec::new();
    for name in &arguments.installables {
        targets.push(match Installable::is_named(&project, name) {
            true => Target::flake(name, &arguments.lock_flags),
            false => Target::installable(&project, name),
        });
    }
    let wanted = evaluation::wanted(session, &targets)?;
    let paths = session.build(&wanted)?;
    let store = session.store()?;
    let mut folders: Vec<PathBuf> = Vec::new();
    for path in &paths {
        let root = store.real_path(path);
        folders
            .extend(["bin", "usr/bin"].iter().map(|name| root.join(name)).filter(|folder| folder.is_dir()));
    }
    if folders.is_empty() {
        return Err(Failure::usage(format!("none of {} has programs", arguments.installables.join(", ")))
            .hint("a package's programs are in its `bin` or `usr/bin`"));
    }
    folders.extend(session.config.path.iter().cloned());
    let path = std::env::join_paths(&folders).map_err(|error| Failure::usage(format!("PATH: {error}")))?;
    session.view.finish();
    if arguments.print_env {
        print(&format!("export PATH={}\n", quoted(&path.to_string_lossy())))?;
        return Ok(0);
    }
    let (program, rest) = match arguments.command.split_first() {
        Some((program, rest)) => (program.clone(), rest),
        None => (std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned()), &[][..]),
    };
    // The shell takes this process's place, so that signals and its exit status are its own.
    let error = std::process::Command::new(&program).args(rest).env("PATH", &path).exec();
    Err(Failure::failed(format!("cannot run `{program}`: {error}")))
}

/// One word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
