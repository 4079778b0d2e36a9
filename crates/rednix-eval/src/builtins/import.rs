//! `import`, `scopedImport`, and how source texts become values.

use super::Outcome;
use super::paths::with_path;
use crate::compiler::{Compiler, Location, Scope};
use crate::error::{ErrorKind, EvalError, Result};
use crate::memory::Gc;
use crate::settings::Lint;
use crate::source::{Origin, Pos, Range};
use crate::value::{Attrs, Env, Thunk, Value, entries, new_env};
use crate::vm::Vm;
use crate::world::FileKind;
use rednix_syntax::{Literal, Options, Span, SyntaxError, Warning, parse};

/// What `<nix/fetchurl.nix>` stands for: a path of its own that no file system has.
pub(super) const FETCHURL: &[u8] = "/«nix-internal»/fetchurl.nix".as_bytes();

pub(super) fn import(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the path passed to 'builtins.import'";
    with_path(vm, arguments[0], context, [Value::Null; 3], |vm, path, _| {
        let file = vm.file_value(&path)?;
        Ok(Outcome::Forced(file))
    })
}

pub(super) fn scoped_import(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_attrs(arguments[0], "while evaluating the first argument passed to builtins.scopedImport")?;
    let context = "while evaluating the path passed to 'builtins.scopedImport'";
    with_path(vm, arguments[1], context, [arguments[0]; 3], |vm, path, kept| {
        let Value::Attrs(scope) = kept[0] else { unreachable!("checked before") };
        let path = vm.resolve_source(&path)?;
        let text = vm.read_file(&path)?;
        let directory = parent(&path);
        let loaded = vm.load(Origin::File(path), text, &directory, Some(scope))?;
        Ok(Outcome::Forced(loaded))
    })
}

fn parent(path: &[u8]) -> Vec<u8> {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) | None => b"/".to_vec(),
        Some(end) => path[..end].to_vec(),
    }
}

impl Vm {
    /// The file a path to be imported means: links followed, `default.nix` of a directory.
    pub(crate) fn resolve_source(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        if let Some(known) = self.resolved.get(path) {
            return Ok(known.clone());
        }
        let mut file = self.follow(path)?;
        if self.file_kind(&file)? == Some(FileKind::Directory) {
            file = self.follow(&[&file, b"/default.nix".as_slice()].concat())?;
        }
        self.resolved.insert(path.to_vec(), file.clone());
        Ok(file)
    }

    /// What a file evaluates to: one thunk per file.
    pub(crate) fn file_value(&mut self, path: &[u8]) -> Result<Value> {
        if path == FETCHURL {
            let source = include_bytes!("fetchurl.nix").to_vec();
            return self.load(Origin::Internal("fetchurl.nix"), source, b"/", None);
        }
        let file = self.resolve_source(path)?;
        if let Some(&known) = self.files.get(&file) {
            return Ok(known);
        }
        let text = self.read_file(&file)?;
        let directory = parent(&file);
        let loaded = self.load(Origin::File(file.clone()), text, &directory, None)?;
        self.files.insert(file, loaded);
        Ok(loaded)
    }

    /// Parses and compiles a source; the value is a thunk for it.
    pub(crate) fn load(
        &mut self,
        origin: Origin,
        text: Vec<u8>,
        directory: &[u8],
        scope: Option<Gc<Attrs>>,
    ) -> Result<Value> {
        let options = Options { pipe_operators: self.settings.pipe_operators };
        let parsed = parse(&text, &mut self.interner, options);
        let Some(base) = self.sources.add(origin.clone(), text) else {
            return Err(EvalError::evaluation("sources are larger than 4 GiB together").at(self.here()));
        };
        if parsed.errors.is_empty() {
            self.warn_about(&parsed.warnings, base)?;
        }
        let lines = line_starts(self.sources.last_text());
        let home = if self.settings.pure { None } else { self.settings.home.clone() };
        let file = match &origin {
            Origin::File(path) => Some(path.as_slice()),
            _ => None,
        };
        let location =
            Location { base, directory, home: home.as_deref().map(str::as_bytes), file, lines: &lines };
        let (env, names) = self.scope_of(scope);
        let globals = self.globals.clone();
        let compiler =
            Compiler::new(&parsed.ast, &self.interner, &mut self.program, &mut self.heap, &globals, location);
        let compiled = compiler.file(parsed.root, names);
        if !parsed.errors.is_empty() {
            return Err(self.syntax_errors(&parsed.errors, compiled.err().unwrap_or_default(), base));
        }
        match compiled {
            Ok(address) => Ok(Value::Thunk(self.heap.alloc_any(Thunk::new(Value::Suspended(address, env))))),
            Err(errors) => Err(together(errors)),
        }
    }

    /// Everything wrong with a source's syntax, and variables that are undefined however that is put right.
    fn syntax_errors(&self, errors: &[SyntaxError], names: Vec<Box<EvalError>>, base: u32) -> Box<EvalError> {
        let mut all: Vec<_> = errors.iter().map(|error| self.syntax_error(error, base)).collect();
        let text = self.sources.last_text();
        let undefined: Vec<_> =
            names.into_iter().filter(|error| error.kind == ErrorKind::UndefinedVariable).collect();
        for error in &undefined {
            let word = &text[(error.range.start.0 - base) as usize..(error.range.end.0 - base) as usize];
            // A binding that did not parse may be the one that defines the name: then the text has it once more.
            let uses = undefined.iter().filter(|other| other.message == error.message).count();
            if times_as_word(text, word) == uses {
                all.push(error.clone());
            }
        }
        together(all)
    }

    /// The environment that holds a scope's names, and the compiler's view of it.
    fn scope_of(&mut self, scope: Option<Gc<Attrs>>) -> (Gc<Env>, Option<Scope>) {
        let Some(set) = scope else { return (self.root, None) };
        let entries = entries(&mut self.heap, set);
        let env = new_env(&mut self.heap, Some(self.root), entries.len() as u32);
        let mut names = Vec::with_capacity(entries.len());
        for (slot, entry) in entries.iter().enumerate() {
            env.slots()[slot].set(entry.value.get());
            names.push((entry.name, slot as u32));
        }
        (env, Some(Scope::new(0, names)))
    }

    fn syntax_error(&self, error: &SyntaxError, base: u32) -> Box<EvalError> {
        let range = |span: Span| Range { start: Pos(base + span.start), end: Pos(base + span.end) };
        let mut message = error.message.clone();
        if let Some(other) = error.other {
            let place = self.sources.place(range(other).start);
            message.push_str(&place.map_or_else(String::new, |place| place.to_string()));
        }
        EvalError::new(ErrorKind::Syntax, message).at(range(error.span))
    }

    fn warn_about(&mut self, warnings: &[Warning], base: u32) -> Result<()> {
        for warning in warnings {
            let span = match warning {
                Warning::OrAsIdentifier(span) => span,
                Warning::Literal(literal, span) => {
                    self.lint(*literal, *span, base)?;
                    continue;
                }
            };
            let Some(place) = self.sources.place(Pos(base + span.start)) else { continue };
            let text = self.sources.last_text()[span.range()].to_vec();
            let text = String::from_utf8_lossy(&text).into_owned();
            self.world.message(&format!(
                "warning: at {place}: `or` is used as a name here, which will come to mean something else; \
                 parentheses keep its meaning: ({text})"
            ));
        }
        Ok(())
    }

    /// What the settings want of a literal: nothing, a warning, or an error.
    fn lint(&mut self, literal: Literal, span: Span, base: u32) -> Result<()> {
        let lints = self.settings.lints;
        let lint = match literal {
            Literal::Url => lints.urls,
            Literal::ShortPath => lints.short_paths,
            Literal::AbsolutePath | Literal::HomePath => lints.absolute_paths,
        };
        if lint == Lint::Ignore {
            return Ok(());
        }
        let range = Range { start: Pos(base + span.start), end: Pos(base + span.end) };
        let text = String::from_utf8_lossy(&self.sources.last_text()[span.range()]).into_owned();
        let message = lint_message(literal, &text, lint);
        if lint == Lint::Fatal {
            return Err(EvalError::new(ErrorKind::Syntax, message).at(range));
        }
        let mut warning = format!("warning: {message}");
        if let (Some(place), Some(lines)) =
            (self.sources.place(range.start), self.sources.code_lines(range.start))
        {
            warning.push_str(&format!("\n         at {place}:"));
            for line in lines {
                warning.push_str(format!("\n         {line}").trim_end());
            }
        }
        self.world.message(&warning);
        Ok(())
    }
}

/// The first error with the others beside it.
fn together(errors: Vec<Box<EvalError>>) -> Box<EvalError> {
    let mut errors = errors.into_iter();
    let mut first = errors.next().expect("failing has a reason");
    first.more = errors.map(|error| *error).take(rednix_syntax::limits::ERRORS_MAX).collect();
    first
}

/// How often a name stands in a text by itself.
fn times_as_word(text: &[u8], word: &[u8]) -> usize {
    let part = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || b"_-'".contains(b));
    let starts = memchr::memmem::find_iter(text, word);
    starts.filter(|&at| !part(text[..at].last()) && !part(text.get(at + word.len()))).count()
}

/// A lint as C++ Nix words it.
fn lint_message(literal: Literal, text: &str, lint: Lint) -> String {
    let advice = "Consider replacing path literal";
    match literal {
        Literal::Url => {
            let judgement = if lint == Lint::Fatal { "disallowed" } else { "discouraged" };
            format!(
                "URL literals are {judgement}. Consider using a string literal \"{text}\" instead (lint-url-literals)"
            )
        }
        Literal::ShortPath => format!(
            "relative path literal '{text}' should be prefixed with '.' for clarity: './{text}' (lint-short-path-literals)"
        ),
        Literal::AbsolutePath => format!(
            "absolute path literals are not portable. {advice} '{text}' by a string, relative path, or parameter (lint-absolute-path-literals)"
        ),
        Literal::HomePath => format!(
            "home path literals are not portable. {advice} '{text}' by a string, relative path, or parameter (lint-absolute-path-literals)"
        ),
    }
}

fn line_starts(text: &[u8]) -> Vec<u32> {
    let newlines = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    std::iter::once(0).chain(newlines.map(|(index, _)| index as u32 + 1)).collect()
}
