//! Errors as nix-instantiate writes them: what led there outermost first, each with its lines, the message last.
//! rednix's own commands tell errors in `evaluation`.

use std::collections::HashSet;

use rednix_eval::{ErrorKind, EvalError, Evaluator, Range};

use crate::failure::{EXIT_FAILED, EXIT_INTERRUPTED, Failure};

/// Frames told without `--show-trace`; one with a place counts twice.
const FRAMES_SHOWN: usize = 3;
/// Repeated frames up to this number are told again rather than counted.
const REPEATED_SHOWN: usize = 5;

pub fn failure(evaluator: &Evaluator, error: &EvalError, show_trace: bool) -> Failure {
    let status = if error.kind == ErrorKind::Interrupted { EXIT_INTERRUPTED } else { EXIT_FAILED };
    let mut failure = Failure { status, ..Failure::failed(&error.message) };
    failure.whole = Some(text(evaluator, error, show_trace));
    failure
}

/// A message alone: wrong use of the command line.
pub fn plain(failure: Failure) -> Failure {
    if failure.whole.is_some() {
        return failure;
    }
    let mut whole = indent(failure.message.trim_end());
    if let Some(hint) = &failure.hint {
        whole.push_str(&format!("\n{hint}"));
    }
    Failure { status: EXIT_FAILED, whole: Some(whole), ..failure }
}

fn text(evaluator: &Evaluator, error: &EvalError, show_trace: bool) -> String {
    let mut out = String::new();
    if !error.frames.is_empty() {
        frames(evaluator, error, show_trace, &mut out);
        out.push_str("\nerror: ");
    }
    out.push_str(error.message.split("\n\nhint: ").next().unwrap_or_default());
    out.push('\n');
    place(evaluator, error.range, "", &mut out);
    // Variables and missing arguments have no suggestions there.
    let suggests = error.kind != ErrorKind::UndefinedVariable && !error.message.contains("without required");
    if suggests && !error.suggestions.is_empty() {
        out.push_str(&format!("Did you mean {}?\n", alternatives(&error.suggestions)));
    }
    indent(out.trim_end_matches(['\n', ' ']))
}

fn frames(evaluator: &Evaluator, error: &EvalError, show_trace: bool, out: &mut String) {
    let mut seen: HashSet<(Range, &str)> = HashSet::new();
    let mut skipped = Vec::new();
    let (mut count, mut truncated) = (0, false);
    for frame in error.frames.iter().rev().filter(|frame| !frame.message.is_empty()) {
        truncated |= !show_trace && count > FRAMES_SHOWN;
        if truncated && !is_always_shown(&frame.message) {
            continue;
        }
        if !seen.insert((frame.range, &frame.message)) {
            skipped.push(frame);
            continue;
        }
        repeated(evaluator, &mut skipped, &mut count, out);
        count += 1 + usize::from(one(evaluator, frame, out));
    }
    repeated(evaluator, &mut skipped, &mut count, out);
    if truncated {
        out.push_str("\n(stack trace truncated; use '--show-trace' to show the full, detailed trace)\n");
    }
}

fn repeated(
    evaluator: &Evaluator,
    skipped: &mut Vec<&rednix_eval::Frame>,
    count: &mut usize,
    out: &mut String,
) {
    if skipped.len() > REPEATED_SHOWN {
        out.push_str(&format!("\n({} duplicate frames omitted)\n", skipped.len()));
        skipped.clear();
    }
    for frame in skipped.drain(..) {
        *count += usize::from(one(evaluator, frame, out));
    }
}

/// What `addErrorContext` was given, as opposed to what the evaluator says of its own steps.
fn is_always_shown(message: &str) -> bool {
    !["while calling", "from call site", "while evaluating", "while selecting", "in the ", "whose name"]
        .iter()
        .any(|start| message.starts_with(start))
}

/// One frame; whether it has a place.
fn one(evaluator: &Evaluator, frame: &rednix_eval::Frame, out: &mut String) -> bool {
    out.push_str(&format!("\n… {}\n", frame.message));
    place(evaluator, frame.range, "  ", out)
}

fn place(evaluator: &Evaluator, range: Range, indent: &str, out: &mut String) -> bool {
    let Some(place) = evaluator.place(range.start) else { return false };
    out.push_str(&format!("{indent}at {place}:"));
    for line in evaluator.code_lines(range.start).unwrap_or_default() {
        out.push_str(&format!("\n{line}"));
    }
    out.push('\n');
    true
}

fn alternatives(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("one of {} or {last}", first.join(", ")),
    }
}

/// `error: ` before the first line, as many spaces before the others, nothing at the end of any.
fn indent(text: &str) -> String {
    let mut lines = text.split('\n');
    let first = format!("error: {}", lines.next().unwrap_or_default());
    let mut out = first.trim_end().to_owned();
    for line in lines {
        out.push('\n');
        out.push_str(format!("       {line}").trim_end());
    }
    out
}
