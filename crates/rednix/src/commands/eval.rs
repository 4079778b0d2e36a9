//! `rednix eval`: a value, as Nix, JSON or raw text.

use std::io::Read;
use std::path::PathBuf;

use rednix_eval::{EvalResult, Evaluator, Handle, Origin, SearchEntry, Settings};

use crate::cli::EvalArgs;
use crate::evalcache::{self, Answer, Question};
use crate::evaluation::{self, explain, failure_at};
use crate::failure::Failure;
use crate::flake::Installable;
use crate::project::Project;
use crate::session::Session;
use crate::world::Access;

use super::print;

pub fn run(session: &Session, arguments: &EvalArgs) -> Result<(), Failure> {
    let mut text = match flake(session, arguments)? {
        Some(installable) => {
            let (mut evaluator, world, whole) = installable.evaluate(session, "")?;
            let text = shown(&mut evaluator, whole, arguments);
            let text = explain(session, &evaluator, text)?;
            world.flush()?;
            text
        }
        None => plain(session, arguments)?,
    };
    session.view.finish();
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

/// Where the value comes from.
#[derive(Debug)]
enum Source {
    Text(Vec<u8>),
    StandardInput(Vec<u8>),
    File(PathBuf),
    /// An attribute of what a text gives.
    Attribute(Vec<u8>, String),
}

fn source(session: &Session, arguments: &EvalArgs) -> Result<Source, Failure> {
    let library = || -> Result<Vec<u8>, Failure> {
        Ok(Project::find(&session.config, &arguments.tree)?.expression().into_bytes())
    };
    Ok(match (&arguments.expr, arguments.file.as_ref().or(arguments.file_option.as_ref())) {
        (Some(expression), _) => Source::Text(expression.clone().into_bytes()),
        (None, Some(file)) if file.as_os_str() == "-" => {
            let mut source = Vec::new();
            std::io::stdin().read_to_end(&mut source)?;
            Source::StandardInput(source)
        }
        (None, Some(file)) => match file.to_str().and_then(|text| text.strip_prefix(".#")) {
            Some(attribute) => Source::Attribute(library()?, attribute.to_owned()),
            None => Source::File(std::path::absolute(file)?),
        },
        (None, None) => Source::Text(library()?),
    })
}

/// A value of no flake: remembered, unless it may read only some files or has to ask sources again.
fn plain(session: &Session, arguments: &EvalArgs) -> Result<String, Failure> {
    let mut settings: Settings = evaluation::settings();
    settings.pure = arguments.pure_eval;
    let entries = arguments.include.iter().map(|entry| SearchEntry::parse(entry));
    settings.search_path = entries.chain(settings.search_path).collect();
    let source = source(session, arguments)?;
    let evaluate = |evaluator: &mut Evaluator| -> EvalResult<String> {
        let whole = value(evaluator, &source)?;
        shown(evaluator, whole, arguments)
    };
    if arguments.restrict_eval || arguments.lock_flags.refresh {
        let access = match (arguments.pure_eval, arguments.restrict_eval) {
            (true, _) => Access::Pure,
            (false, true) => Access::Restricted,
            (false, false) => Access::All,
        };
        let (mut evaluator, world) = evaluation::evaluator_with(session, settings, access)?;
        world.outside().refresh.set(arguments.lock_flags.refresh);
        let text = evaluate(&mut evaluator);
        let text = explain(session, &evaluator, text)?;
        world.flush()?;
        return Ok(text);
    }
    let texts = [
        format!("{source:?}"),
        arguments.attr.clone(),
        format!("{} {} {:?}", arguments.json, arguments.raw, arguments.apply),
    ];
    let question = Question { kind: "value", texts: &texts, settings: &settings };
    let all_frames = session.global.show_trace;
    let answers = evalcache::answer(session, &question, 1, |evaluator, _| {
        let text = evaluate(evaluator).map_err(|error| failure_at(all_frames, evaluator, &error))?;
        Ok(Answer { text, derivations: Vec::new() })
    })?;
    Ok(answers.into_iter().next().unwrap_or_default())
}

fn value(evaluator: &mut Evaluator, source: &Source) -> EvalResult<Handle> {
    use std::os::unix::ffi::OsStrExt;
    let folder = evaluation::working_directory();
    match source {
        Source::Text(text) => evaluator.text(text, folder.as_bytes()),
        Source::StandardInput(text) => evaluator.source(Origin::StandardInput, text, folder.as_bytes()),
        Source::File(file) => evaluator.file(file.as_os_str().as_bytes()),
        Source::Attribute(text, attribute) => {
            let whole = evaluator.text(text, folder.as_bytes())?;
            evaluator.select(whole, attribute, &[])
        }
    }
}

/// The part that is wanted, in the form that is wanted.
fn shown(evaluator: &mut Evaluator, whole: Handle, arguments: &EvalArgs) -> EvalResult<String> {
    let mut handle = evaluator.select(whole, &arguments.attr, &[])?;
    if let Some(function) = &arguments.apply {
        let folder = evaluation::working_directory();
        let function = evaluator.text(function.as_bytes(), folder.as_bytes())?;
        let function = evaluator.force(function)?;
        handle = evaluator.call(function, &[handle])?;
    }
    let text = if arguments.json {
        evaluator.to_json(handle)?
    } else if arguments.raw {
        evaluator.to_text(handle)?
    } else {
        let handle = evaluator.force_deep(handle)?;
        evaluator.show(handle)
    };
    Ok(String::from_utf8_lossy(&text).into_owned())
}
