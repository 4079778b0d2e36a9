//! The commands of the repl: what begins with a colon.

use std::path::PathBuf;
use std::process::Command;

use rednix_eval::{FunctionPlace, Handle, Type};

use super::display::DEPTH_MAX;
use super::{Next, Repl};
use crate::evaluation;
use crate::failure::Failure;
use crate::session::Wanted;

/// Name, arguments and purpose.
pub const COMMANDS: &[(&str, &str, &str)] = &[
    ("a", "EXPRESSION", "make the attributes of a set variables (also :add)"),
    ("b", "EXPRESSION", "build a derivation, and print where its outputs are"),
    ("doc", "EXPRESSION", "tell what a function is for"),
    ("e", "EXPRESSION", "open the file that a function, path or derivation comes from in $EDITOR"),
    ("l", "FILE", "make the attributes of a file variables (also :load)"),
    ("p", "EXPRESSION", "print a value with everything in it (also :print)"),
    ("q", "", "leave (also :quit, Ctrl-D)"),
    ("r", "", "read all loaded files again (also :reload)"),
    ("t", "EXPRESSION", "print a value's type"),
    ("?", "", "print this (also :help)"),
];

impl Repl<'_> {
    pub(super) fn command(&mut self, text: &str) -> Result<Next, Failure> {
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let known = COMMANDS.iter().find(|entry| entry.0 == name);
        if rest.is_empty() && known.is_some_and(|entry| !entry.1.is_empty()) {
            let what = known.map_or("", |entry| entry.1);
            return Err(Failure::usage(format!("`:{name}` needs an argument: `:{name} {what}`")));
        }
        match name {
            "a" | "add" => return self.add(rest),
            "l" | "load" => return self.load(&PathBuf::from(rest)),
            "r" | "reload" => return self.reload(),
            "q" | "quit" => return Ok(Next::Quit),
            "b" => self.build(rest)?,
            "p" | "print" => {
                let value = self.evaluate(rest)?;
                self.show(value, DEPTH_MAX)?;
            }
            "t" => {
                let value = self.evaluate(rest)?;
                super::super::print(&format!("{}\n", self.kind(value)))?;
            }
            "doc" => self.document(rest)?,
            "e" | "edit" => self.edit(rest)?,
            "?" | "help" => super::super::print(&help())?,
            _ => {
                return Err(
                    Failure::usage(format!("there is no command `:{name}`")).hint("`:?` lists the commands")
                );
            }
        }
        Ok(Next::On)
    }

    fn kind(&self, value: Handle) -> &'static str {
        match self.state.borrow().evaluator.type_of(value) {
            Some(Type::Null) => "null",
            Some(Type::Bool) => "a Boolean",
            Some(Type::Int) => "an integer",
            Some(Type::Float) => "a float",
            Some(Type::String) => "a string",
            Some(Type::Path) => "a path",
            Some(Type::List) => "a list",
            Some(Type::Attributes) => "a set",
            Some(Type::Function) => "a function",
            None => "not computed",
        }
    }

    fn reload(&mut self) -> Result<Next, Failure> {
        // What was read stays in an evaluator, so files are read again by a new one.
        let fresh = Repl::new(self.session)?;
        let loaded = std::mem::take(&mut self.loaded);
        self.state.swap(&fresh.state);
        self.world = fresh.world;
        for file in &loaded {
            let result = self.load(file);
            self.tell(result);
        }
        Ok(Next::On)
    }

    fn build(&self, expression: &str) -> Result<(), Failure> {
        let value = self.evaluate(expression)?;
        let found = self.state.borrow_mut().evaluator.derivations(value, &[]);
        let found = self.explain(found)?;
        self.world.flush()?;
        let wanted: Vec<Wanted> =
            found.into_iter().map(|f| Wanted { derivation: f.derivation, output: f.output }).collect();
        if wanted.is_empty() {
            return Err(Failure::usage("there is no derivation in this value"));
        }
        let paths = self.session.build(&wanted)?;
        self.session.view.finish();
        let lines: String = paths.iter().map(|path| format!("{path}\n")).collect();
        super::super::print(&lines)
    }

    fn document(&self, expression: &str) -> Result<(), Failure> {
        let value = self.evaluate(expression)?;
        let place = self.state.borrow().evaluator.function_of(value);
        let text = match place {
            Some(FunctionPlace::Builtin(name)) => match rednix_eval::documentation(name) {
                Some((arguments, purpose)) => format!("builtins.{name} {arguments}\n\n{purpose}\n"),
                None => format!("builtins.{name}\n"),
            },
            Some(FunctionPlace::Lambda(range)) => {
                let snippet = self.state.borrow().evaluator.snippet(range);
                let Some(snippet) = snippet else { return Err(undocumented()) };
                let comment = comment_before(&snippet.text[..snippet.start]).ok_or_else(undocumented)?;
                format!("function at {}\n\n{comment}\n", snippet.place)
            }
            None => return Err(Failure::usage(format!("this is {}, not a function", self.kind(value)))),
        };
        super::super::print(&text)
    }

    fn edit(&mut self, expression: &str) -> Result<(), Failure> {
        let value = self.evaluate(expression)?;
        let (file, line) = self.source_of(value)?;
        let editor =
            std::env::var("EDITOR").or_else(|_| std::env::var("VISUAL")).unwrap_or_else(|_| "vi".into());
        let mut words = editor.split_whitespace();
        let program = words.next().unwrap_or("vi");
        let status = Command::new(program)
            .args(words)
            .arg(format!("+{line}"))
            .arg(&file)
            .status()
            .map_err(|e| Failure::failed(format!("cannot start `{program}`: {e}")).hint("set EDITOR"))?;
        if !status.success() {
            return Err(Failure::failed(format!("`{program}` ended with {status}")));
        }
        self.reload().map(drop)
    }

    /// The file and line a value comes from.
    fn source_of(&self, value: Handle) -> Result<(PathBuf, u32), Failure> {
        let mut state = self.state.borrow_mut();
        if let Some(path) = state.evaluator.path_of(value) {
            return Ok((PathBuf::from(String::from_utf8_lossy(&path).into_owned()), 1));
        }
        if let Some(FunctionPlace::Lambda(range)) = state.evaluator.function_of(value)
            && let Some(place) = state.evaluator.place(range.start)
            && let rednix_eval::Origin::File(path) = &place.origin
        {
            return Ok((PathBuf::from(String::from_utf8_lossy(path).into_owned()), place.line));
        }
        // As C++ Nix: `meta.position` is FILE:LINE.
        let position = state.evaluator.select(value, "meta.position", &[]).ok();
        let position = position.and_then(|position| state.evaluator.string_of(position));
        let position = position.map(|text| String::from_utf8_lossy(&text).into_owned());
        if let Some((file, line)) = position.as_deref().and_then(|text| text.rsplit_once(':')) {
            return Ok((PathBuf::from(file), line.parse().unwrap_or(1)));
        }
        Err(Failure::usage("this value does not say which file it comes from"))
    }
}

fn undocumented() -> Failure {
    Failure::usage("this function has no comment that begins with `/**` before it")
}

/// The `/** … */` right before a binding's function.
fn comment_before(text: &str) -> Option<String> {
    let mut rest = text.trim_end();
    if let Some(binding) = rest.strip_suffix('=') {
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '\'' | '.' | '"');
        rest = binding.trim_end().trim_end_matches(name).trim_end();
    }
    let body = rest.strip_suffix("*/")?;
    let start = body.rfind("/**")?;
    let lines: Vec<&str> = body[start + 3..].trim().lines().map(str::trim).collect();
    Some(lines.join("\n"))
}

fn help() -> String {
    let mut out = String::from("An expression prints its value; NAME = EXPRESSION defines a variable.\n\n");
    for (name, arguments, purpose) in COMMANDS {
        out.push_str(&format!("  :{:<16} {purpose}\n", format!("{name} {arguments}")));
    }
    out.push_str(&format!("\nPaths are below {}.\n", evaluation::working_directory()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_of_functions_are_found() {
        assert_eq!(
            comment_before("{\n  /** Adds.\n      Twice. */\n  add = ").as_deref(),
            Some("Adds.\nTwice.")
        );
        assert_eq!(comment_before("{ /* no */ add = "), None);
        assert_eq!(comment_before("x = "), None);
    }
}
