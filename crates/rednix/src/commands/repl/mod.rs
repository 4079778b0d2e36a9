//! `rednix repl`: expressions, bindings and commands, from a terminal with line editing or from a pipe.

mod commands;
mod completion;
mod display;
mod input;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::rc::Rc;

use rednix_eval::{EvalError, Evaluator, Handle, Type};

use crate::cli::ReplArgs;
use crate::evaluation;
use crate::failure::Failure;
use crate::interrupt;
use crate::session::Session;
use crate::world::StoreWorld;

/// How deep a value is shown that was not asked for with `:p`.
const SHOWN_DEPTH: usize = 1;

/// What the user has entered so far. Completion reads it too.
pub struct State {
    pub evaluator: Evaluator,
    pub variables: BTreeMap<String, Handle>,
    /// The variables as a set; None after a change.
    scope: Option<Handle>,
}

impl State {
    fn scope(&mut self) -> Handle {
        if let Some(scope) = self.scope {
            return scope;
        }
        let pairs: Vec<_> = self.variables.iter().map(|(name, value)| (name.clone(), *value)).collect();
        let scope = self.evaluator.attributes(&pairs);
        *self.scope.insert(scope)
    }

    pub fn define(&mut self, name: &str, value: Handle) {
        self.variables.insert(name.to_owned(), value);
        self.scope = None;
    }

    /// An expression among the variables, not yet computed.
    pub fn parse(&mut self, text: &str) -> Result<Handle, Box<EvalError>> {
        let scope = self.scope();
        let folder = evaluation::working_directory();
        self.evaluator.text_in(text.as_bytes(), folder.as_bytes(), scope)
    }

    pub fn evaluate(&mut self, text: &str) -> Result<Handle, Box<EvalError>> {
        let value = self.parse(text)?;
        self.evaluator.force(value)
    }
}

/// One run of the command.
pub struct Repl<'a> {
    session: &'a Session,
    state: Rc<RefCell<State>>,
    world: StoreWorld,
    /// Files whose attributes are variables, for `:r`.
    loaded: Vec<PathBuf>,
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
pub enum Next {
    On,
    Quit,
}

pub fn run(session: &Session, arguments: &ReplArgs) -> Result<(), Failure> {
    interrupt::handle()?;
    let mut repl = Repl::new(session)?;
    for file in &arguments.files {
        let loaded = repl.load(file);
        repl.tell(loaded);
    }
    if let Some(expression) = &arguments.expr {
        let added = repl.add(expression);
        repl.tell(added);
    }
    session.view.finish();
    if std::io::stdin().is_terminal() { repl.converse() } else { repl.read_all() }
}

impl<'a> Repl<'a> {
    fn new(session: &'a Session) -> Result<Repl<'a>, Failure> {
        let (evaluator, world) = evaluation::evaluator(session, evaluation::settings())?;
        let state = State { evaluator, variables: BTreeMap::new(), scope: None };
        Ok(Repl { session, state: Rc::new(RefCell::new(state)), world, loaded: Vec::new() })
    }

    /// Runs one whole input, and tells what went wrong with it.
    fn step(&mut self, text: &str) -> Next {
        let result = self.take(text.trim());
        // Ctrl-C ended the evaluation; the next one begins anew.
        interrupt::forget();
        self.tell(result)
    }

    fn tell(&self, result: Result<Next, Failure>) -> Next {
        result.unwrap_or_else(|failure| {
            crate::tell(&failure);
            Next::On
        })
    }

    fn take(&mut self, text: &str) -> Result<Next, Failure> {
        if input::is_nothing(text) {
            return Ok(Next::On);
        }
        if let Some(command) = text.strip_prefix(':') {
            return self.command(command);
        }
        if let Some((name, expression)) = input::binding(text) {
            let value = self.state.borrow_mut().parse(expression);
            let value = self.explain(value)?;
            self.state.borrow_mut().define(name, value);
            return Ok(Next::On);
        }
        let value = self.evaluate(text)?;
        self.show(value, SHOWN_DEPTH)?;
        Ok(Next::On)
    }

    fn evaluate(&self, text: &str) -> Result<Handle, Failure> {
        let value = self.state.borrow_mut().evaluate(text);
        self.explain(value)
    }

    fn show(&self, value: Handle, depth: usize) -> Result<(), Failure> {
        let shown = display::show(&mut self.state.borrow_mut().evaluator, value, depth);
        let shown = self.explain(shown)?;
        self.session.view.finish();
        super::print(&format!("{shown}\n"))
    }

    fn explain<T>(&self, result: Result<T, Box<EvalError>>) -> Result<T, Failure> {
        result.map_err(|error| evaluation::failure(self.session, &self.state.borrow().evaluator, &error))
    }

    /// Makes the attributes of an expression variables.
    fn add(&mut self, expression: &str) -> Result<Next, Failure> {
        let value = self.evaluate(expression)?;
        self.add_value(value)
    }

    fn add_value(&mut self, value: Handle) -> Result<Next, Failure> {
        let mut state = self.state.borrow_mut();
        let found = state.evaluator.auto_call(value, &[]);
        drop(state);
        let value = self.explain(found)?;
        state = self.state.borrow_mut();
        if state.evaluator.type_of(value) != Some(Type::Attributes) {
            return Err(Failure::usage("only the attributes of a set can become variables"));
        }
        let attributes = state.evaluator.attributes_of(value).unwrap_or_default();
        let count = attributes.len() as u64;
        for (name, value) in attributes {
            state.define(&name, value);
        }
        drop(state);
        eprintln!("{} added", crate::view::count(count, "variable"));
        Ok(Next::On)
    }

    /// Makes the attributes of a file variables, now and on `:r`.
    fn load(&mut self, file: &std::path::Path) -> Result<Next, Failure> {
        use std::os::unix::ffi::OsStrExt;
        let path = std::path::absolute(file)?;
        let value = {
            let mut state = self.state.borrow_mut();
            let file = state.evaluator.file(path.as_os_str().as_bytes());
            file.and_then(|file| state.evaluator.force(file))
        };
        if !self.loaded.contains(&path) {
            self.loaded.push(path);
        }
        let value = self.explain(value)?;
        self.add_value(value)
    }
}
