//! Errors of an evaluation for people: the user's own line first, then what led there, then what was perhaps meant.
//! What nix-instantiate's front writes is elsewhere (`commands/nix_instantiate/report.rs`).

use std::path::Path;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use rednix_eval::{ErrorKind, EvalError, Evaluator, Origin, Range};

use crate::failure::{EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, Failure};
use crate::session::Session;

/// Folders from a file of the library up to the one with `cookbook.nix`.
const LIBRARY_DEPTH: usize = 3;
/// Steps told without `--show-trace`; of longer ways the innermost and the outermost.
const STEPS_SHOWN: usize = 8;
/// Characters of the user's text in one line of a cycle.
const TEXT_SHOWN: usize = 60;

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
    let explained = Explained { evaluator, all: session.global.show_trace };
    let (message, hint) = parted(&error.message);
    let mut hints: Vec<String> = hint.into_iter().collect();
    let mut details = explained.own_line(error);
    match error.suggestions.as_slice() {
        [] => {}
        names if error.message.contains("without required argument") => {
            hints.push(format!("`{}` was given, which is close to it", names.join("`, `")));
        }
        names if error.more.is_empty() => hints.push(meant(names)),
        names => details.push_str(&format!("  {}\n", meant(names))),
    }
    details.push_str(&explained.cycle(&error.cycle));
    let (steps, folded) = explained.steps(error);
    details.push_str(&steps);
    for other in &error.more {
        details.push_str(&explained.further(other));
    }
    if folded > 0 {
        let steps = crate::view::count(folded, "step");
        hints.push(format!("{steps} left out; `--show-trace` shows all"));
    }
    let status = match error.kind {
        ErrorKind::Interrupted => EXIT_INTERRUPTED,
        // The input was right; the machine could not follow.
        ErrorKind::World if message.starts_with("no space left") => EXIT_FAILED,
        _ => EXIT_USAGE,
    };
    Failure {
        status,
        details: Some(details).filter(|d| !d.is_empty()),
        hint: Some(hints.join("; ")).filter(|h| !h.is_empty()),
        ..Failure::failed(message)
    }
}

/// What a message says, and what it says to do.
fn parted(message: &str) -> (String, Option<String>) {
    match message.split_once("\n\nhint: ") {
        Some((message, hint)) => (message.to_owned(), Some(hint.trim_end().to_owned())),
        None => (message.to_owned(), None),
    }
}

fn meant(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("did you mean {}?", names.join(" or "))
}

/// The name a frame adds to the path of attributes that led there.
fn path_step(message: &str) -> Option<String> {
    let name =
        message.strip_prefix("while evaluating the attribute '").and_then(|rest| rest.strip_suffix('\''));
    let index = message.strip_prefix("while evaluating list element at index ");
    name.map(str::to_owned).or_else(|| index.map(|index| format!("[{index}]")))
}

/// Lines about what led to an error, innermost first.
#[derive(Default)]
struct Steps {
    lines: Vec<String>,
    /// An attribute path under construction, its innermost name first, and where that name stands.
    names: Vec<String>,
    place: String,
    folded: u64,
}

impl Steps {
    fn line(&mut self, line: String) {
        self.end_path();
        self.lines.push(line);
    }

    fn path(&mut self, name: String, place: String) {
        if self.place.is_empty() {
            self.place = place;
        }
        self.names.push(name);
    }

    /// Writes the path that was gathered, in place of a line about its innermost name alone.
    fn end_path(&mut self) {
        let names = std::mem::take(&mut self.names);
        let place = std::mem::take(&mut self.place);
        let Some(innermost) = names.first() else { return };
        let mut path = String::new();
        for name in names.iter().rev() {
            if !path.is_empty() && !name.starts_with('[') {
                path.push('.');
            }
            path.push_str(name);
        }
        let at = if place.is_empty() { String::new() } else { format!(" at {place}") };
        if self.lines.last() == Some(&format!("  in `{innermost}`{at}\n")) {
            self.lines.pop();
        }
        self.lines.push(format!("  in `{path}`{at}\n"));
    }

    /// Each line once, and of a long way its two ends.
    fn shorten(&mut self) {
        let before = self.lines.len();
        let mut seen = std::collections::HashSet::new();
        self.lines.retain(|line| seen.insert(line.clone()));
        if self.lines.len() > STEPS_SHOWN {
            let (half, left_out) = (STEPS_SHOWN / 2, self.lines.len() - STEPS_SHOWN);
            self.lines.splice(half..half + left_out, ["  …\n".to_owned()]);
            self.folded += 1;
        }
        self.folded += (before - self.lines.len()) as u64;
    }
}

struct Explained<'a> {
    evaluator: &'a Evaluator,
    /// Tell everything, the library's steps too.
    all: bool,
}

impl Explained<'_> {
    /// Whether a place is one the user wants to see.
    fn shows(&self, range: Range) -> bool {
        self.evaluator.place(range.start).is_some_and(|place| self.all || !is_library(&place.origin))
    }

    /// The line where it happened; if that is the library's, the innermost of the user's own.
    fn own_line(&self, error: &EvalError) -> String {
        let frames = error.frames.iter().map(|frame| frame.range);
        let bindings = error.bindings.iter().map(|binding| binding.range);
        let mut places = std::iter::once(error.range).chain(frames).chain(bindings);
        let place = places.find(|&range| self.shows(range));
        let snippet = place.and_then(|range| self.evaluator.snippet(range));
        snippet.map_or_else(String::new, |snippet| excerpt(&snippet))
    }

    /// Values that wait for each other, each with the text that asks for the next.
    fn cycle(&self, places: &[Range]) -> String {
        let own: Vec<Range> = places.iter().copied().filter(|&range| self.shows(range)).collect();
        if own.is_empty() {
            return String::new();
        }
        let mut out = String::from("  the cycle:\n");
        for range in own {
            let Some(snippet) = self.evaluator.snippet(range) else { continue };
            let text: String = snippet.text[snippet.start..snippet.end].chars().take(TEXT_SHOWN).collect();
            let text = text.lines().next().unwrap_or_default().trim_end();
            out.push_str(&format!("    `{text}` at {}\n", shown(&snippet.place)));
        }
        out
    }

    /// Bindings and calls on the way, innermost first, and how many were left out.
    fn steps(&self, error: &EvalError) -> (String, u64) {
        let mut steps = Steps::default();
        let mut bindings = error.bindings.iter().peekable();
        for (index, frame) in error.frames.iter().enumerate() {
            while let Some(binding) = bindings.next_if(|binding| binding.frames <= index) {
                self.binding(binding, &mut steps);
            }
            self.frame(frame, &mut steps);
        }
        for binding in bindings {
            self.binding(binding, &mut steps);
        }
        steps.end_path();
        if !self.all {
            steps.shorten();
        }
        (steps.lines.concat(), steps.folded)
    }

    fn frame(&self, frame: &rednix_eval::Frame, steps: &mut Steps) {
        let place = self.evaluator.place(frame.range.start);
        let library = place.as_ref().is_some_and(|place| is_library(&place.origin));
        let own = is_evaluators_own(&frame.message);
        if let Some(step) = path_step(&frame.message) {
            let place = place.filter(|_| self.all || !library);
            return steps.path(step, place.as_ref().map(shown).unwrap_or_default());
        }
        match place {
            // Frames without a place are the evaluator's too, or what `addErrorContext` says.
            None if !self.all && own => steps.folded += 1,
            Some(_) if library && !self.all && own => steps.folded += 1,
            Some(place) if self.all || !library => {
                steps.line(format!("  {} at {}\n", frame.message, shown(&place)));
            }
            _ => steps.line(format!("  {}\n", frame.message)),
        }
    }

    fn binding(&self, binding: &rednix_eval::Binding, steps: &mut Steps) {
        match self.evaluator.place(binding.range.start) {
            Some(place) if self.all || !is_library(&place.origin) => {
                steps.line(format!("  in `{}` at {}\n", binding.name, shown(&place)));
            }
            _ => steps.folded += 1,
        }
    }

    /// Another error of the same source.
    fn further(&self, error: &EvalError) -> String {
        let (message, hint) = parted(&error.message);
        let title = console::style("error").red().bold().for_stderr();
        let mut out = format!("\n{title}: {}\n{}", message.trim_end(), self.own_line(error));
        if !error.suggestions.is_empty() {
            out.push_str(&format!("  {}\n", meant(&error.suggestions)));
        }
        if let Some(hint) = hint {
            out.push_str(&format!("  {hint}\n"));
        }
        out
    }
}

/// What the evaluator says of every call, as opposed to what `addErrorContext` was given.
fn is_evaluators_own(message: &str) -> bool {
    ["while calling", "from call site", "while evaluating", "while selecting", "whose name"]
        .iter()
        .any(|s| message.starts_with(s))
}

/// Whether a place lies in rednix's own Nix files, in the store, or in an expression the program made.
fn is_library(origin: &Origin) -> bool {
    use std::os::unix::ffi::OsStrExt;
    match origin {
        Origin::Internal(_) => true,
        Origin::File(path) => {
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            path.starts_with(rednix_store::path::STORE_DIR)
                || path
                    .ancestors()
                    .skip(1)
                    .take(LIBRARY_DEPTH)
                    .any(|folder| folder.join("cookbook.nix").exists())
        }
        Origin::Text | Origin::StandardInput => false,
    }
}

/// A place; a file below the working folder without that.
fn shown(place: &rednix_eval::Place) -> String {
    format!("{}:{}:{}", shown_origin(&place.origin), place.line, place.column)
}

fn shown_origin(origin: &Origin) -> String {
    let text = origin.show();
    let folder = format!("{}/", crate::evaluation::working_directory());
    text.strip_prefix(&folder).map(str::to_owned).unwrap_or(text)
}

/// The lines around a place, with the place underlined. The title line is ours to write, so it is cut off.
fn excerpt(snippet: &rednix_eval::Snippet) -> String {
    let end =
        if snippet.end > snippet.start { snippet.end } else { next_character(&snippet.text, snippet.start) };
    // The line where it begins says enough.
    let line = snippet.text[snippet.start..end].find('\n').filter(|&length| length > 0);
    let end = line.map_or(end, |length| snippet.start + length);
    let origin = shown_origin(&snippet.place.origin);
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
