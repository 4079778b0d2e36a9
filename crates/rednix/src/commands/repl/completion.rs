//! What the line editor asks: how a name goes on, and whether the input is finished. Prints nothing.

use std::cell::RefCell;
use std::rc::Rc;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::State;
use super::commands::COMMANDS;
use super::input::is_unfinished;

const KEYWORDS: &[&str] = &["assert", "else", "if", "in", "inherit", "let", "rec", "then", "with"];

pub struct Assistant {
    state: Rc<RefCell<State>>,
}

impl Assistant {
    pub fn new(state: Rc<RefCell<State>>) -> Assistant {
        Assistant { state }
    }
}

/// The names and the start of the one at the end of a line: `a.b.c` is `["a", "b"]` and `c`.
fn path_at_end(line: &str) -> (Vec<&str>, &str) {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '\'' | '.');
    let start =
        line.rfind(|c| !part(c)).map_or(0, |at| at + line[at..].chars().next().map_or(1, char::len_utf8));
    let mut names: Vec<&str> = line[start..].split('.').collect();
    let last = names.pop().unwrap_or_default();
    (names, last)
}

/// How the name at the end of a line can go on.
pub fn candidates(state: &mut State, line: &str) -> Vec<String> {
    let (path, start) = path_at_end(line);
    let names: Vec<String> = if path.is_empty() {
        let own = state.variables.keys().cloned();
        let globals = state.evaluator.global_names().into_iter().filter(|name| !name.starts_with("__"));
        own.chain(globals).chain(KEYWORDS.iter().map(|&word| word.to_owned())).collect()
    } else {
        // Only paths of names are computed: they are what the user looks into anyway.
        let Ok(value) = state.evaluate(&path.join(".")) else { return Vec::new() };
        let attributes = state.evaluator.attributes_of(value).unwrap_or_default();
        attributes.into_iter().map(|(name, _)| written(&name)).collect()
    };
    let mut names: Vec<String> = names.into_iter().filter(|name| name.starts_with(start)).collect();
    names.sort();
    names.dedup();
    names
}

/// A name as it has to be written.
pub fn written(name: &str) -> String {
    let mut out = Vec::new();
    rednix_syntax::text::write_identifier(&mut out, name.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let line = &line[..at];
        let (start, names) = match line.strip_prefix(':').filter(|rest| !rest.contains(' ')) {
            Some(command) => {
                let known = COMMANDS.iter().map(|entry| entry.0).filter(|name| name.starts_with(command));
                (1, known.map(str::to_owned).collect())
            }
            None => {
                let names = candidates(&mut self.state.borrow_mut(), line);
                crate::interrupt::forget();
                (line.len() - path_at_end(line).1.len(), names)
            }
        };
        Ok((start, names.into_iter().map(|name| Pair { display: name.clone(), replacement: name }).collect()))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        // An empty line ends what cannot be finished.
        let unfinished = is_unfinished(context.input()) && !context.input().ends_with("\n\n");
        Ok(if unfinished { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}

impl Helper for Assistant {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_at_the_end() {
        assert_eq!(path_at_end("1 + a.b.c"), (vec!["a", "b"], "c"));
        assert_eq!(path_at_end("(x"), (vec![], "x"));
        assert_eq!(path_at_end("é lib."), (vec!["lib"], ""));
        assert_eq!(path_at_end("f "), (vec![], ""));
    }
}
