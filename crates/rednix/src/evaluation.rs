//! Evaluation for the commands: what the user named becomes an expression, its derivations land in the store,
//! and an error comes back as the user's own lines.

use std::path::Path;
use std::time::Instant;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use rednix_eval::{ErrorKind, EvalError, Evaluator, Origin, SearchEntry, Settings};
use rednix_events::{Event, Events};
use rednix_store::path::StorePath;
use serde_json::Value;

use crate::evalcache::{self, Answer, Question};
use crate::failure::{EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, Failure};
use crate::project::{self, Project};
use crate::session::{Session, Wanted};
use crate::world::StoreWorld;

/// Folders from a file of the library up to the one with `cookbook.nix`.
const LIBRARY_DEPTH: usize = 3;

/// Something to evaluate.
#[derive(Debug, Clone)]
pub struct Target {
    /// As people would name it.
    label: String,
    what: What,
    /// The text is the user's own, so errors may point into it.
    own: bool,
}

#[derive(Debug, Clone)]
enum What {
    Expression(String),
    Derivation(StorePath),
}

impl Target {
    pub fn expression(text: &str) -> Target {
        Target { label: "the expression".to_owned(), what: What::Expression(text.to_owned()), own: true }
    }

    /// An attribute path of the library, with arguments where they follow it in Nix.
    pub fn attribute(project: &Project, attribute: &str) -> Target {
        let text = format!("({}).{attribute}", project.expression());
        Target { label: attribute.to_owned(), what: What::Expression(text), own: false }
    }

    /// The image of a system.
    pub fn image(project: &Project, system: &str) -> Target {
        let text = format!("({}).image", system_expression(project, system));
        Target { label: format!("system {system}"), what: What::Expression(text), own: false }
    }

    /// What a report is asked about: a recipe's package, or else a system's image (`system:NAME` is always one).
    pub fn reported(project: &Project, name: &str) -> Target {
        if name.starts_with(".#") {
            return Target::installable(project, name);
        }
        if let Some(system) = name.strip_prefix("system:") {
            return Target::image(project, system);
        }
        let (library, quoted) = (project.expression(), project::quote(name));
        let text = format!(
            "let l = {library}; n = {quoted}; in if !(l.cookbook.folders ? ${{n}}) && l.systems ? ${{n}} then l.systems.${{n}}.image else l.package n"
        );
        Target { label: name.to_owned(), what: What::Expression(text), own: false }
    }

    /// A part of what a repository of these systems or packages is made of.
    pub fn repository(project: &Project, names: &[String], part: &str) -> Target {
        let list: Vec<String> = names.iter().map(|name| project::quote(name)).collect();
        let text = format!("(({}).repository [ {} ]).{part}", project.expression(), list.join(" "));
        Target { label: format!("repository {}", names.join(" ")), what: What::Expression(text), own: false }
    }

    /// The machine that a system asks for, as JSON; null where it asks for none.
    pub fn machine(project: &Project, system: &str) -> Target {
        let text = format!("({}).machine or null", system_expression(project, system));
        Target { label: format!("machine of {system}"), what: What::Expression(text), own: false }
    }

    fn expression_of((at, target): (usize, &Target)) -> Option<(usize, &str)> {
        match &target.what {
            What::Expression(text) => Some((at, text)),
            What::Derivation(_) => None,
        }
    }

    /// What an answer is remembered by: errors apart, which are not, only the expression counts.
    fn question(&self, expression: &str) -> String {
        format!("{:?} {expression}", self.origin())
    }

    fn origin(&self) -> Origin {
        if self.own { Origin::Text } else { Origin::Internal("the command line") }
    }

    /// `.#attribute`, a derivation's path, or a package's name.
    pub fn installable(project: &Project, name: &str) -> Target {
        if let Some(attribute) = name.strip_prefix(".#") {
            return Target::attribute(project, attribute);
        }
        if name.ends_with(".nix") {
            return Target::image(project, name);
        }
        match StorePath::parse(name) {
            Ok(path) if path.is_derivation() => {
                Target { label: name.to_owned(), what: What::Derivation(path), own: false }
            }
            _ => {
                let text = format!("({}).package {}", project.expression(), project::quote(name));
                Target { label: name.to_owned(), what: What::Expression(text), own: false }
            }
        }
    }
}

/// Whether a system is named by a Nix file that gives it (`./system.nix`), and not by its configuration.
pub fn is_system_file(name: &str) -> bool {
    name.ends_with(".nix") || ["./", "../", "/"].iter().any(|start| name.starts_with(start))
}

/// A configuration's name, a Nix file, or `.#attribute` → an expression for the system.
fn system_expression(project: &Project, name: &str) -> String {
    let library = project.expression();
    if let Some(attribute) = name.strip_prefix(".#") {
        return format!("({library}).{attribute}");
    }
    if is_system_file(name) {
        let file = project::quote(&Path::new(&working_directory()).join(name).to_string_lossy());
        return format!("({library}).systemOf {file}");
    }
    format!("({library}).system {}", project::quote(name))
}

/// An evaluator over the session's store, and the world to flush afterwards.
pub fn evaluator(session: &Session, settings: Settings) -> Result<(Evaluator, StoreWorld), Failure> {
    let world = StoreWorld::new(session.store()?, session.events().clone()).names_only(settings.read_only);
    Ok((Evaluator::new(Box::new(world.clone()), settings), world))
}

/// Settings as the environment has them.
pub fn settings() -> Settings {
    let search_path = std::env::var("NIX_PATH").unwrap_or_default();
    Settings {
        search_path: search_path.split(':').filter(|e| !e.is_empty()).map(SearchEntry::parse).collect(),
        working_directory: Some(working_directory()),
        home: std::env::var("HOME").ok(),
        interrupted: Some(crate::interrupt::flag()),
        ..Settings::default()
    }
}

pub fn working_directory() -> String {
    std::env::current_dir().map(|d| d.to_string_lossy().into_owned()).unwrap_or_else(|_| "/".to_owned())
}

/// The derivations of all targets, written to the store.
pub fn wanted(session: &Session, targets: &[Target]) -> Result<Vec<Wanted>, Failure> {
    let settings = settings();
    let expressions: Vec<(usize, &str)> =
        targets.iter().enumerate().filter_map(Target::expression_of).collect();
    let texts: Vec<String> = expressions.iter().map(|(at, text)| targets[*at].question(text)).collect();
    let (all_frames, events) = (session.global.show_trace, session.events().clone());
    let question = Question { kind: "derivations", texts: &texts, settings: &settings };
    let answers = evalcache::answer(session, &question, expressions.len(), |evaluator, part| {
        let (at, expression) = expressions[part];
        let target = &targets[at];
        timed(&events, &target.label, || {
            let found = evaluator
                .source(target.origin(), expression.as_bytes(), working_directory().as_bytes())
                .and_then(|handle| evaluator.force(handle))
                .and_then(|handle| evaluator.derivations(handle, &[]));
            let found = found.map_err(|error| failure_at(all_frames, evaluator, &error))?;
            if found.is_empty() {
                return Err(Failure::usage(format!("`{}` is nothing that can be built", target.label)));
            }
            let lines: Vec<String> = found.iter().map(|f| format!("{}!{}", f.derivation, f.output)).collect();
            let derivations = found.into_iter().map(|f| f.derivation).collect();
            Ok(Answer { text: lines.join("\n"), derivations })
        })
    })?;
    let mut answers = answers.into_iter();
    let mut all = Vec::new();
    for target in targets {
        match &target.what {
            What::Derivation(path) => {
                let outputs = session.store()?.read_derivation(path)?.outputs.into_keys();
                all.extend(outputs.map(|output| Wanted { derivation: path.clone(), output }));
            }
            What::Expression(_) => {
                for line in answers.next().unwrap_or_default().lines() {
                    let (path, output) = line.split_once('!').unwrap_or((line, "out"));
                    all.push(Wanted { derivation: StorePath::parse(path)?, output: output.to_owned() });
                }
            }
        }
    }
    Ok(all)
}

/// A target's value as JSON.
pub fn json(session: &Session, target: &Target) -> Result<Value, Failure> {
    let What::Expression(expression) = &target.what else {
        return Err(Failure::usage(format!("`{}` has no value", target.label)));
    };
    let settings = settings();
    let (all_frames, events) = (session.global.show_trace, session.events().clone());
    let texts = [target.question(expression)];
    let question = Question { kind: "json", texts: &texts, settings: &settings };
    let answers = evalcache::answer(session, &question, 1, |evaluator, _| {
        let text = timed(&events, &target.label, || {
            evaluator
                .source(target.origin(), expression.as_bytes(), working_directory().as_bytes())
                .and_then(|handle| evaluator.to_json(handle))
                .map_err(|error| failure_at(all_frames, evaluator, &error))
        })?;
        Ok(Answer { text: String::from_utf8_lossy(&text).into_owned(), derivations: Vec::new() })
    })?;
    let text = answers.into_iter().next().unwrap_or_default();
    serde_json::from_str(&text).map_err(|e| Failure::failed(format!("`{}` gives no JSON: {e}", target.label)))
}

fn timed<T>(events: &Events, what: &str, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let started = Instant::now();
    events.emit(Event::EvalStarted { what: what.to_owned() });
    let result = work();
    let duration_ms = started.elapsed().as_millis() as u64;
    events.emit(Event::EvalDone { what: what.to_owned(), duration_ms });
    result
}

/// Any value with the evaluator's own error.
pub fn explain<T>(
    session: &Session,
    evaluator: &Evaluator,
    result: Result<T, Box<EvalError>>,
) -> Result<T, Failure> {
    result.map_err(|error| failure(session, evaluator, &error))
}

/// The error at the place it happened, then what led there. What lies inside the library is left out without
/// `--show-trace`, apart from what the library itself says about the user's files.
pub fn failure(session: &Session, evaluator: &Evaluator, error: &EvalError) -> Failure {
    failure_at(session.global.show_trace, evaluator, error)
}

/// The same where there is no session; `all` frames or only those outside of the library.
pub fn failure_at(all: bool, evaluator: &Evaluator, error: &EvalError) -> Failure {
    let mut details = String::new();
    let place = evaluator.place(error.range.start);
    if let Some(snippet) = evaluator.snippet(error.range)
        && (all || place.is_some_and(|p| !is_library(&p.origin)))
    {
        details.push_str(&excerpt(&snippet));
    }
    let mut folded = 0;
    for frame in &error.frames {
        let place = evaluator.place(frame.range.start);
        let library = place.as_ref().is_some_and(|p| is_library(&p.origin));
        match place {
            // Frames without a place are the evaluator's too, or what `addErrorContext` says.
            None if !all && is_evaluators_own(&frame.message) => folded += 1,
            Some(_) if library && !all && is_evaluators_own(&frame.message) => folded += 1,
            Some(place) if all || !library => details.push_str(&format!("  {} at {place}\n", frame.message)),
            _ => details.push_str(&format!("  {}\n", frame.message)),
        }
    }
    let (message, hint) = match error.message.split_once("\n\nhint: ") {
        Some((message, hint)) => (message.to_owned(), Some(hint.trim_end().to_owned())),
        None => (error.message.clone(), None),
    };
    let mut hints: Vec<String> = hint.into_iter().collect();
    if !error.suggestions.is_empty() {
        hints.push(format!("did you mean {}?", error.suggestions.join(", ")));
    }
    if folded > 0 {
        let steps = crate::view::count(folded, "step");
        hints.push(format!("{steps} inside the library left out; `--show-trace` shows all"));
    }
    let status = match error.kind {
        ErrorKind::Interrupted => EXIT_INTERRUPTED,
        // The input was right; the machine could not follow.
        ErrorKind::World if message.starts_with("no space left") => EXIT_FAILED,
        _ => EXIT_USAGE,
    };
    Failure {
        status,
        message,
        details: Some(details).filter(|d| !d.is_empty()),
        hint: Some(hints.join("; ")).filter(|h| !h.is_empty()),
        rotten_pin: false,
    }
}

/// What the evaluator says of every call, as opposed to what `addErrorContext` was given.
fn is_evaluators_own(message: &str) -> bool {
    ["while calling", "from call site", "while evaluating", "while selecting", "whose name"]
        .iter()
        .any(|s| message.starts_with(s))
}

/// Whether a place lies in rednix's own Nix files, or in an expression the program made.
fn is_library(origin: &Origin) -> bool {
    use std::os::unix::ffi::OsStrExt;
    match origin {
        Origin::Internal(_) => true,
        Origin::File(path) => {
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            path.ancestors().skip(1).take(LIBRARY_DEPTH).any(|folder| folder.join("cookbook.nix").exists())
        }
        Origin::Text | Origin::StandardInput => false,
    }
}

/// The lines around a place, with the place underlined. The title line is ours to write, so it is cut off.
fn excerpt(snippet: &rednix_eval::Snippet) -> String {
    let end =
        if snippet.end > snippet.start { snippet.end } else { next_character(&snippet.text, snippet.start) };
    let origin = snippet.place.origin.show();
    let source = Snippet::source(snippet.text.as_str())
        .path(origin.as_str())
        .annotation(AnnotationKind::Primary.span(snippet.start..end));
    let group = Level::ERROR.primary_title("x").element(source);
    let renderer = if console::colors_enabled_stderr() { Renderer::styled() } else { Renderer::plain() };
    let rendered = renderer.render(&[group]);
    let rest = rendered.split_once('\n').map_or("", |(_, rest)| rest);
    format!("{rest}\n")
}

fn next_character(text: &str, start: usize) -> usize {
    let length = text[start..].chars().next().map_or(0, char::len_utf8);
    (start + length).min(text.len())
}
