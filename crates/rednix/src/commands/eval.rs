//! `rednix eval`: a value, as Nix, JSON or raw text.

use std::io::Read;

use rednix_eval::{Evaluator, Handle, Origin, SearchEntry};

use crate::cli::EvalArgs;
use crate::evaluation::{self, explain};
use crate::failure::Failure;
use crate::flake::Installable;
use crate::project::Project;
use crate::session::Session;
use crate::world::{Access, StoreWorld};

use super::print;

pub fn run(session: &Session, arguments: &EvalArgs) -> Result<(), Failure> {
    let (mut evaluator, world, result) = match flake(session, arguments)? {
        Some(installable) => installable.evaluate(session, "")?,
        None => plain(session, arguments)?,
    };
    let result = evaluator.select(result, &arguments.attr, &[]);
    let mut handle = explain(session, &evaluator, result)?;
    if let Some(function) = &arguments.apply {
        let folder = evaluation::working_directory();
        let result = evaluator
            .text(function.as_bytes(), folder.as_bytes())
            .and_then(|function| evaluator.force(function))
            .and_then(|function| evaluator.call(function, &[handle]));
        handle = explain(session, &evaluator, result)?;
    }
    let text = if arguments.json {
        let text = evaluator.to_json(handle);
        explain(session, &evaluator, text)?
    } else if arguments.raw {
        let text = evaluator.to_text(handle);
        explain(session, &evaluator, text)?
    } else {
        let forced = evaluator.force_deep(handle);
        let handle = explain(session, &evaluator, forced)?;
        evaluator.show(handle)
    };
    world.flush()?;
    session.view.finish();
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if !arguments.raw {
        text.push('\n');
    }
    print(&text)
}

/// What is named, where that is an attribute of a flake.
fn flake(session: &Session, arguments: &EvalArgs) -> Result<Option<Installable>, Failure> {
    let Some(text) = arguments.file.as_ref().and_then(|file| file.to_str()).filter(|text| text.contains('#'))
    else {
        return Ok(None);
    };
    let project = Project::find(&session.config, &arguments.tree)?;
    if !Installable::is_named(&project, text) {
        return Ok(None);
    }
    Installable::parse(text, &arguments.lock_flags).map(Some)
}

fn plain(session: &Session, arguments: &EvalArgs) -> Result<(Evaluator, StoreWorld, Handle), Failure> {
    let mut settings = evaluation::settings();
    settings.pure = arguments.pure_eval;
    let entries = arguments.include.iter().map(|entry| SearchEntry::parse(entry));
    settings.search_path = entries.chain(settings.search_path).collect();
    let access = match (arguments.pure_eval, arguments.restrict_eval) {
        (true, _) => Access::Pure,
        (false, true) => Access::Restricted,
        (false, false) => Access::All,
    };
    let (mut evaluator, world) = evaluation::evaluator_with(session, settings, access)?;
    world.outside().refresh.set(arguments.lock_flags.refresh);
    let result = value(session, &mut evaluator, arguments)?;
    Ok((evaluator, world, result))
}

fn value(session: &Session, evaluator: &mut Evaluator, arguments: &EvalArgs) -> Result<Handle, Failure> {
    let folder = evaluation::working_directory();
    let result = match (&arguments.expr, arguments.file.as_ref().or(arguments.file_option.as_ref())) {
        (Some(expression), _) => evaluator.text(expression.as_bytes(), folder.as_bytes()),
        (None, Some(file)) if file.as_os_str() == "-" => {
            let mut source = Vec::new();
            std::io::stdin().read_to_end(&mut source)?;
            evaluator.source(Origin::StandardInput, &source, folder.as_bytes())
        }
        (None, Some(file)) if file.to_string_lossy().starts_with(".#") => {
            let project = Project::find(&session.config, &arguments.tree)?;
            let attribute = &file.to_string_lossy()[2..];
            let library = evaluator.text(project.expression().as_bytes(), folder.as_bytes());
            library.and_then(|library| evaluator.select(library, attribute, &[]))
        }
        (None, Some(file)) => {
            use std::os::unix::ffi::OsStrExt;
            let absolute = std::path::absolute(file)?;
            evaluator.file(absolute.as_os_str().as_bytes())
        }
        (None, None) => {
            let project = Project::find(&session.config, &arguments.tree)?;
            evaluator.text(project.expression().as_bytes(), folder.as_bytes())
        }
    };
    explain(session, evaluator, result)
}
