//! `rednix eval`: a value, as Nix, JSON or raw text.

use std::io::Read;

use rednix_eval::{Evaluator, Handle, Origin};

use crate::cli::EvalArgs;
use crate::evaluation::{self, explain};
use crate::failure::Failure;
use crate::project::Project;
use crate::session::Session;

use super::print;

pub fn run(session: &Session, arguments: &EvalArgs) -> Result<(), Failure> {
    let (mut evaluator, world) = evaluation::evaluator(session, evaluation::settings())?;
    let result = value(session, &mut evaluator, arguments)?;
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

fn value(session: &Session, evaluator: &mut Evaluator, arguments: &EvalArgs) -> Result<Handle, Failure> {
    let folder = evaluation::working_directory();
    let result = match (&arguments.expr, arguments.file.as_ref().or(arguments.file_option.as_ref())) {
        (Some(expression), _) => evaluator.text(expression.as_bytes(), folder.as_bytes()),
        (None, Some(file)) if file.as_os_str() == "-" => {
            let mut source = Vec::new();
            std::io::stdin().read_to_end(&mut source)?;
            evaluator.source(Origin::StandardInput, &source, folder.as_bytes())
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
