//! Reading input: lines of a terminal with history, lines of a pipe; what is unfinished goes on in the next line.

use std::io::BufRead;

use rednix_syntax::{Interner, Options};
use rustyline::error::ReadlineError;
use rustyline::{Config, Editor};

use super::completion::Assistant;
use super::{Next, Repl};
use crate::failure::Failure;

/// Lines of history kept in the user's state.
const HISTORY_LINES_MAX: usize = 10_000;

impl Repl<'_> {
    /// A conversation in a terminal.
    pub(super) fn converse(&mut self) -> Result<(), Failure> {
        let config = Config::builder()
            .max_history_size(HISTORY_LINES_MAX)
            .map_err(failed)?
            .auto_add_history(true)
            .build();
        let mut editor = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Assistant::new(self.state.clone())));
        let history = self.session.config.state.join("repl-history");
        // Without a history the conversation is still one.
        let _ = std::fs::create_dir_all(&self.session.config.state);
        let _ = editor.load_history(&history);
        eprintln!("rednix {}; :? tells what can be entered", env!("CARGO_PKG_VERSION"));
        loop {
            match editor.readline("rednix> ") {
                Ok(line) => {
                    if self.step(&line) == Next::Quit {
                        break;
                    }
                }
                // Ctrl-C drops the line.
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(failed(error)),
            }
        }
        let _ = editor.save_history(&history);
        Ok(())
    }

    /// Everything from a pipe, until it ends or `:q`.
    pub(super) fn read_all(&mut self) -> Result<(), Failure> {
        let mut pending = String::new();
        for line in std::io::stdin().lock().lines() {
            pending.push_str(&line?);
            if is_unfinished(&pending) {
                pending.push('\n');
                continue;
            }
            if self.step(&std::mem::take(&mut pending)) == Next::Quit {
                return Ok(());
            }
        }
        self.step(&pending);
        Ok(())
    }
}

fn failed(error: ReadlineError) -> Failure {
    Failure::failed(format!("cannot read from the terminal: {error}"))
}

/// `name = expression` in its two parts; a `;` at the end does not count.
pub fn binding(text: &str) -> Option<(&str, &str)> {
    let length = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '\'')))?;
    let (name, rest) = text.split_at(length);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return None;
    }
    let expression = rest.trim_start().strip_prefix('=').filter(|rest| !rest.starts_with('='))?.trim();
    Some((name, expression.strip_suffix(';').unwrap_or(expression)))
}

/// Whether there are only comments.
pub fn is_nothing(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

/// Whether more lines have to come: the text would parse if it went on.
pub fn is_unfinished(text: &str) -> bool {
    let text = text.trim_end();
    let text = match text.strip_prefix(':') {
        // Commands take the rest of one line, apart from those that take an expression.
        Some(command) => match command.split_once(char::is_whitespace) {
            Some(("a" | "add" | "b" | "p" | "print" | "t" | "doc" | "e", expression)) => expression,
            _ => return false,
        },
        None => binding(text).map_or(text, |(_, expression)| expression),
    };
    if is_nothing(text) {
        return false;
    }
    let parsed = rednix_syntax::parse(text.as_bytes(), &mut Interner::new(), Options::default());
    parsed.errors.first().is_some_and(|error| error.span.start as usize >= text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_told_from_expressions() {
        assert_eq!(binding("x = 1"), Some(("x", "1")));
        assert_eq!(binding("x'y-z=[ 1 ];"), Some(("x'y-z", "[ 1 ]")));
        for expression in ["x == 1", "x", "1 = 2", "{ x = 1; }", "x: y", ""] {
            assert_eq!(binding(expression), None, "{expression}");
        }
    }

    #[test]
    fn what_is_open_goes_on() {
        for text in ["{", "let x = 1;", "x = [ 1", "\"a", "''\n  a", "f (", "1 +", ":p {", "if a then b"] {
            assert!(is_unfinished(text), "{text}");
        }
        for text in ["1", "{ }", "x = 1", ")", ":l file", ":q", "", "x =", "# remark", "# one\n\n# two"] {
            assert!(!is_unfinished(text), "{text}");
        }
    }
}
