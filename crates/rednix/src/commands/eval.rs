//! `rednix eval`: a value, as Nix, JSON or raw text.

use std::io::Read;
use std::path::PathBuf;

use rednix_eval::{EvalResult, Evaluator, Origin};

use crate::cli::EvalArgs;
use crate::evalcache::{self, Answer, Question};
use crate::evaluation;
use crate::failure::Failure;
use crate::project::Project;
use crate::session::Session;

use super::print;

pub fn run(session: &Session, arguments: &EvalArgs) -> Result<(), Failure> {
    let settings = evaluation::settings();
    let source = source(session, arguments)?;
    let texts =
        [format!("{source:?}"), arguments.attr.clone(), format!("{} {}", arguments.json, arguments.raw)];
    let question = Question { kind: "value", texts: &texts, settings: &settings };
    let all_frames = session.global.show_trace;
    let answers = evalcache::answer(session, &question, 1, |evaluator, _| {
        let text = value(evaluator, &source, arguments);
        let text = text.map_err(|error| evaluation::failure_at(all_frames, evaluator, &error))?;
        Ok(Answer { text: String::from_utf8_lossy(&text).into_owned(), derivations: Vec::new() })
    })?;
    session.view.finish();
    let mut text = answers.into_iter().next().unwrap_or_default();
    if !arguments.raw {
        text.push('\n');
    }
    print(&text)
}

/// Where the value comes from.
#[derive(Debug)]
enum Source {
    Text(Vec<u8>),
    StandardInput(Vec<u8>),
    File(PathBuf),
}

fn source(session: &Session, arguments: &EvalArgs) -> Result<Source, Failure> {
    Ok(match (&arguments.expr, &arguments.file) {
        (Some(expression), _) => Source::Text(expression.clone().into_bytes()),
        (None, Some(file)) if file.as_os_str() == "-" => {
            let mut source = Vec::new();
            std::io::stdin().read_to_end(&mut source)?;
            Source::StandardInput(source)
        }
        (None, Some(file)) => Source::File(std::path::absolute(file)?),
        (None, None) => {
            Source::Text(Project::find(&session.config, &arguments.tree)?.expression().into_bytes())
        }
    })
}

fn value(evaluator: &mut Evaluator, source: &Source, arguments: &EvalArgs) -> EvalResult<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let folder = evaluation::working_directory();
    let whole = match source {
        Source::Text(text) => evaluator.text(text, folder.as_bytes()),
        Source::StandardInput(text) => evaluator.source(Origin::StandardInput, text, folder.as_bytes()),
        Source::File(file) => evaluator.file(file.as_os_str().as_bytes()),
    }?;
    let handle = evaluator.select(whole, &arguments.attr, &[])?;
    if arguments.json {
        return evaluator.to_json(handle);
    }
    if arguments.raw {
        return evaluator.to_text(handle);
    }
    let handle = evaluator.force_deep(handle)?;
    Ok(evaluator.show(handle))
}
