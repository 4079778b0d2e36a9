//! The program: reads the command line, runs one command, and tells what went wrong.

mod builtins;
mod cli;
mod commands;
mod config;
mod evalcache;
mod evaluation;
mod explaining;
mod failure;
mod fetching;
mod flake;
mod interrupt;
mod machines;
mod memory;
mod nix_conf;
mod outside;
mod overriding;
mod project;
mod relock;
mod report;
mod serve;
mod session;
mod substituting;
mod view;
mod working;
mod world;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use failure::{EXIT_USAGE, Failure};
use session::Session;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    memory::give_large_blocks_back();
    // Sandboxes and confined builders are this program again, by a hidden first argument.
    rednix_build::child_main(&builtins::registry());

    let cli = match Cli::try_parse_from(arguments()) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let mut session = match Session::new(&cli.global) {
        Ok(session) => session,
        Err(failure) => return tell(&failure),
    };
    let mut result = run(&mut session, cli.command);
    session.view.finish();
    if let Err(error) = session.view.finish_trace() {
        result = result.and(Err(Failure::failed(format!("cannot write the trace: {error}"))));
    }
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => tell(&failure),
    }
}

/// The command line; under the name `nix-instantiate` the program is that command. What follows that command is its
/// own: `--store` there is not ours.
fn arguments() -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let name = arguments.first().map(std::path::Path::new).and_then(|p| p.file_name());
    if name.is_some_and(|n| n == "nix-instantiate") {
        arguments.insert(1, "nix-instantiate".into());
    }
    if let Some(command) = arguments.iter().position(|a| a == "nix-instantiate").filter(|&at| at > 0) {
        arguments.insert(command + 1, "--".into());
    }
    arguments
}

fn run(session: &mut Session, command: Command) -> Result<u8, Failure> {
    if let Some(tree) = command.tree() {
        session.config.override_more(&tree.overrides)?;
        if !matches!(command, Command::Lock(_) | Command::Update(_)) {
            commands::lock::tree::prepare(session, tree)?;
        }
    }
    match command {
        Command::Run(arguments) => return commands::run::run(session, &arguments),
        Command::Build(arguments) => commands::build::run(session, &arguments),
        Command::Test(arguments) => commands::test::run(session, &arguments),
        Command::Cargo { command } => return commands::cargo::run(session, &command),
        Command::Push(arguments) => commands::push::run(session, &arguments),
        Command::Image(arguments) => commands::image::run(session, &arguments),
        Command::Repo(arguments) => commands::repo::run(session, &arguments),
        Command::Lock(arguments) => commands::lock::run(session, &arguments),
        Command::Update(arguments) => commands::update::run(session, &arguments),
        Command::Tree(arguments) => return commands::tree::run(session, &arguments.command),
        Command::Eval(arguments) => commands::eval::run(session, &arguments),
        Command::Flake(arguments) => commands::flake::run(session, &arguments.command),
        Command::Shell(arguments) => return commands::shell::run(session, &arguments),
        Command::Fmt(arguments) => commands::fmt::run(&arguments),
        Command::Repl(arguments) => commands::repl::run(session, &arguments),
        Command::Log(arguments) => commands::log::run(session, &arguments),
        Command::Work(arguments) => commands::work::run(session, &arguments),
        Command::Why(arguments) => commands::why::run(session, &arguments),
        Command::WhyRebuild(arguments) => commands::why_rebuild::run(session, &arguments),
        Command::Diff(arguments) => commands::diff::run(session, &arguments),
        Command::Cache(arguments) => commands::cache::run(session, &arguments.command),
        Command::Gc(arguments) => commands::gc::run(session, &arguments),
        Command::Doctor => commands::doctor::run(session),
        Command::Store(arguments) => commands::store::run(session, &arguments.command),
        Command::Verify(arguments) => commands::verify::run(session, &arguments),
        Command::NixInstantiate { arguments } => commands::nix_instantiate::run(session, &arguments),
    }
    .map(|()| 0)
}

/// Writes an error the way all are written: what, where, then what to do. A terminal that is gone takes nothing, and that
/// changes nothing of the status.
fn tell(failure: &Failure) -> ExitCode {
    use console::style;
    use std::io::Write;
    let mut text = String::new();
    if let Some(whole) = &failure.whole {
        text.push_str(whole);
        text.push('\n');
    } else {
        let error = style("error").red().bold().for_stderr();
        text.push_str(&format!("{error}: {}\n", failure.message.trim_end()));
        if let Some(details) = &failure.details {
            text.push_str(&format!("{}\n", details.trim_end()));
        }
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("\n{}: {hint}\n", style("hint").cyan().bold().for_stderr()));
        }
    }
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    ExitCode::from(failure.status)
}
