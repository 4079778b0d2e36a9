//! The public face of the evaluator: sources in, values by handle, results and errors as data.
//!
//! A handle is a number; values themselves never leave the crate, so none outlives the evaluator.

use crate::builtins::json::ToJson;
use crate::builtins::xml::ToXml;
use crate::error::{ErrorKind, EvalError};
use crate::settings::Settings;
use crate::source::{Origin, Place, Pos, Range};
use crate::value::{Entry, Value, new_attrs};
use crate::vm::Vm;
use crate::vm::deep::DeepForce;
use crate::world::World;
use rednix_store::path::StorePath;
use rednix_syntax::{Symbol, printer};

/// A value of one evaluator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(u32);

pub type EvalResult<T> = Result<T, Box<EvalError>>;

/// What a value is, once computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Null,
    Bool,
    Int,
    Float,
    String,
    Path,
    List,
    Attributes,
    Function,
}

/// A derivation found in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDerivation {
    /// Attribute path from the value asked for.
    pub path: String,
    pub name: String,
    pub derivation: StorePath,
    pub output: String,
}

/// A piece of source an error points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    pub place: Place,
    /// The whole source, lossily decoded, and the byte range in it.
    pub text: String,
    pub start: usize,
    pub end: usize,
}

/// What a function is, for telling about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionPlace {
    Lambda(Range),
    Builtin(&'static str),
}

pub struct Evaluator {
    vm: Vm,
}

impl Evaluator {
    pub fn new(world: Box<dyn World>, settings: Settings) -> Evaluator {
        Evaluator { vm: Vm::new(world, settings) }
    }

    pub(crate) fn vm(&mut self) -> &mut Vm {
        &mut self.vm
    }

    pub(crate) fn hold(&mut self, value: Value) -> Handle {
        self.vm.handles.push(value);
        Handle(self.vm.handles.len() as u32 - 1)
    }

    fn value(&self, handle: Handle) -> Value {
        self.vm.handles[handle.0 as usize].peek()
    }

    /// The world, to ask it for what it has gathered.
    pub fn world(&mut self) -> &mut dyn World {
        &mut *self.vm.world
    }

    pub fn settings(&self) -> &Settings {
        &self.vm.settings
    }

    /// Bytes the evaluation has been given for values so far, those collected since included.
    pub fn allocated_bytes(&self) -> usize {
        self.vm.heap.allocated
    }

    /// A file's value (of a directory: its `default.nix`), not yet computed.
    pub fn file(&mut self, path: &[u8]) -> EvalResult<Handle> {
        let path = printer::canonical_path(path);
        let value = self.vm.file_value(&path)?;
        Ok(self.hold(value))
    }

    /// The value of an expression; relative paths in it are below `directory`.
    pub fn text(&mut self, source: &[u8], directory: &[u8]) -> EvalResult<Handle> {
        self.source(Origin::Text, source, directory)
    }

    /// As [`Evaluator::text`], with an origin of the caller's choice (standard input, say).
    pub fn source(&mut self, origin: Origin, source: &[u8], directory: &[u8]) -> EvalResult<Handle> {
        let value = self.vm.load(origin, source.to_vec(), directory, None)?;
        Ok(self.hold(value))
    }

    /// As [`Evaluator::text`], where the attributes of a computed set are variables too.
    pub fn text_in(&mut self, source: &[u8], directory: &[u8], scope: Handle) -> EvalResult<Handle> {
        let Value::Attrs(set) = self.value(scope) else {
            return Err(EvalError::type_error("variables can only come from a set"));
        };
        let value = self.vm.load(Origin::Text, source.to_vec(), directory, Some(set))?;
        Ok(self.hold(value))
    }

    /// Names that every expression sees.
    pub fn global_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.vm.globals.values.keys().map(|&name| self.vm.text_of(name)).collect();
        names.sort();
        names
    }

    /// Where a computed function begins, and the name of a builtin.
    pub fn function_of(&self, handle: Handle) -> Option<FunctionPlace> {
        let function = match self.value(handle) {
            Value::Partial(partial) => partial.function,
            other => other,
        };
        match function {
            Value::Lambda(id, _) => Some(FunctionPlace::Lambda(self.vm.program.lambdas[id.0 as usize].range)),
            Value::Builtin(id) => Some(FunctionPlace::Builtin(crate::vm::explain::builtin_name(id))),
            _ => None,
        }
    }

    /// Looks a `<name>` up in the search path.
    pub fn find_file(&mut self, name: &str) -> EvalResult<Vec<u8>> {
        let source = format!("builtins.findFile builtins.nixPath {}", quoted(name.as_bytes()));
        let found = self.text(source.as_bytes(), b"/")?;
        let found = self.force(found)?;
        Ok(self.path_of(found).unwrap_or_default())
    }

    pub fn string(&mut self, text: &[u8]) -> Handle {
        let value = self.vm.string(text);
        self.hold(value)
    }

    pub fn bool(&mut self, value: bool) -> Handle {
        self.hold(Value::Bool(value))
    }

    pub fn int(&mut self, value: i64) -> Handle {
        self.hold(Value::Int(value))
    }

    pub fn null(&mut self) -> Handle {
        self.hold(Value::Null)
    }

    pub fn path(&mut self, path: &[u8]) -> Handle {
        let value = Value::path(&mut self.vm.heap, &printer::canonical_path(path));
        self.hold(value)
    }

    pub fn list(&mut self, items: &[Handle]) -> Handle {
        let items: Vec<Value> = items.iter().map(|&item| self.value(item)).collect();
        let value = self.vm.list(&items);
        self.hold(value)
    }

    pub fn attributes(&mut self, pairs: &[(String, Handle)]) -> Handle {
        let value = self.make_set(pairs);
        self.hold(value)
    }

    fn make_set(&mut self, pairs: &[(String, Handle)]) -> Value {
        let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
        for (name, handle) in pairs {
            let name = self.vm.interner.intern(name.as_bytes());
            let value = self.value(*handle);
            match entries.binary_search_by_key(&name, |entry| entry.name) {
                Ok(index) => entries[index].value.set(value),
                Err(index) => entries.insert(index, Entry::new(name, Pos::NONE, value)),
            }
        }
        Value::Attrs(new_attrs(&mut self.vm.heap, Pos::NONE, entries))
    }

    /// Computes a value to its outermost constructor.
    pub fn force(&mut self, handle: Handle) -> EvalResult<Handle> {
        let value = self.value(handle);
        let value = self.vm.force(value)?;
        Ok(self.hold(value))
    }

    /// Computes a value and everything inside it.
    pub fn force_deep(&mut self, handle: Handle) -> EvalResult<Handle> {
        let value = self.value(handle);
        let value = self.vm.run_native(Box::new(DeepForce::new(value)))?;
        Ok(self.hold(value))
    }

    pub fn call(&mut self, function: Handle, arguments: &[Handle]) -> EvalResult<Handle> {
        let mut value = self.value(function);
        for chunk in arguments.chunks(3) {
            let arguments: Vec<Value> = chunk.iter().map(|&argument| self.value(argument)).collect();
            value = self.vm.call(value, &arguments)?;
        }
        Ok(self.hold(value))
    }

    /// Calls a function whose arguments are attributes, with those of `arguments` it asks for; other values stay
    /// as they are.
    pub fn auto_call(&mut self, handle: Handle, arguments: &[(String, Handle)]) -> EvalResult<Handle> {
        let mut value = self.value(handle);
        value = self.vm.force(value)?;
        for _ in 0..self.vm.settings.max_call_depth {
            let Value::Attrs(set) = value else { break };
            let Some(functor) = set.get(self.vm.symbols.functor) else { break };
            value = self.vm.call(functor.value.get(), &[value])?;
        }
        let Value::Lambda(id, _) = value else { return Ok(self.hold(value)) };
        let Some(formals) = &self.vm.program.lambdas[id.0 as usize].formals else {
            return Ok(self.hold(value));
        };
        let wanted: Vec<_> = formals
            .formals
            .iter()
            .map(|formal| (formal.name, formal.default.is_some(), formal.pos))
            .collect();
        let ellipsis = formals.ellipsis;
        let mut passed = Vec::new();
        for (name, argument) in arguments {
            let symbol = self.vm.interner.intern(name.as_bytes());
            if ellipsis || wanted.iter().any(|formal| formal.0 == symbol) {
                passed.push((name.clone(), *argument));
            }
        }
        for (name, has_default, pos) in wanted {
            let name = self.vm.text_of(name);
            if !has_default && !passed.iter().any(|(given, _)| *given == name) {
                return Err(missing_argument(&name, pos));
            }
        }
        let set = self.make_set(&passed);
        let result = self.vm.call(value, &[set])?;
        Ok(self.hold(result))
    }

    /// Walks an attribute path as `-A` does: sets by name, lists by index, functions called on the way.
    pub fn select(
        &mut self,
        handle: Handle,
        path: &str,
        arguments: &[(String, Handle)],
    ) -> EvalResult<Handle> {
        let found = self.select_plain(handle, path, arguments)?;
        let called = self.auto_call(found, arguments)?;
        self.force(called)
    }

    /// The same without calling what the path ends at.
    pub fn select_plain(
        &mut self,
        handle: Handle,
        path: &str,
        arguments: &[(String, Handle)],
    ) -> EvalResult<Handle> {
        let mut current = handle;
        for piece in split_path(path)? {
            let called = self.auto_call(current, arguments)?;
            let value = self.value(called);
            let next = match piece.parse::<usize>() {
                Ok(index) if matches!(value, Value::List(..)) => self.item(value, index, path)?,
                _ => self.attribute(value, &piece, path)?,
            };
            current = self.hold(next);
        }
        self.force(current)
    }

    fn item(&mut self, value: Value, index: usize, path: &str) -> EvalResult<Value> {
        let items = self.vm.want_list(value, "")?;
        items.get(index).copied().ok_or_else(|| {
            let message = format!("list index {index} in selection path '{path}' is out of range");
            EvalError::evaluation(message)
        })
    }

    fn attribute(&mut self, value: Value, name: &str, path: &str) -> EvalResult<Value> {
        let Value::Attrs(set) = value else {
            let kind = self.vm.type_of(value);
            let message = format!(
                "the expression selected by the selection path '{path}' should be a set but is {kind}"
            );
            return Err(EvalError::type_error(message));
        };
        if name.is_empty() {
            return Err(EvalError::evaluation(format!("empty attribute name in selection path '{path}'")));
        }
        let symbol = self.vm.interner.intern(name.as_bytes());
        match set.get(symbol) {
            Some(entry) => Ok(entry.value.get()),
            None => {
                let mut error = self.vm.missing_attribute(set, symbol);
                error.message = format!("attribute '{name}' in selection path '{path}' not found");
                error.range = Range::default();
                Err(error)
            }
        }
    }

    pub fn type_of(&self, handle: Handle) -> Option<Type> {
        Some(match self.value(handle) {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Float(_) => Type::Float,
            Value::String(..) | Value::ContextString(_) => Type::String,
            Value::Path(..) => Type::Path,
            Value::List(..) => Type::List,
            Value::Attrs(_) => Type::Attributes,
            Value::Lambda(..) | Value::Builtin(_) | Value::Partial(_) => Type::Function,
            _ => return None,
        })
    }

    /// Bytes of a computed string.
    pub fn string_of(&self, handle: Handle) -> Option<Vec<u8>> {
        self.value(handle).as_bytes().map(<[u8]>::to_vec)
    }

    /// What a computed string refers to.
    pub fn context_of(&self, handle: Handle) -> Vec<crate::context::ContextElement> {
        self.value(handle).context().iter().map(|&number| self.vm.contexts.get(number).clone()).collect()
    }

    pub fn bool_of(&self, handle: Handle) -> Option<bool> {
        match self.value(handle) {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub fn int_of(&self, handle: Handle) -> Option<i64> {
        match self.value(handle) {
            Value::Int(value) => Some(value),
            _ => None,
        }
    }

    pub fn path_of(&self, handle: Handle) -> Option<Vec<u8>> {
        match self.value(handle) {
            Value::Path(length, start) => Some(crate::memory::slice(start, length).to_vec()),
            _ => None,
        }
    }

    /// Elements of a computed list, not computed themselves.
    pub fn items_of(&mut self, handle: Handle) -> Option<Vec<Handle>> {
        let Value::List(length, start) = self.value(handle) else { return None };
        let items = crate::memory::slice(start, length);
        Some(items.iter().map(|&item| self.hold(item)).collect())
    }

    /// Attributes of a computed set in alphabetical order, not computed themselves.
    pub fn attributes_of(&mut self, handle: Handle) -> Option<Vec<(String, Handle)>> {
        let Value::Attrs(set) = self.value(handle) else { return None };
        let entries = self.vm.sorted_entries(set);
        Some(
            entries.iter().map(|entry| (self.vm.text_of(entry.name), self.hold(entry.value.get()))).collect(),
        )
    }

    pub fn attribute_of(&mut self, handle: Handle, name: &str) -> Option<Handle> {
        let Value::Attrs(set) = self.value(handle) else { return None };
        let value = set.get(self.vm.interner.find(name.as_bytes())?)?.value.get();
        Some(self.hold(value))
    }

    /// As `nix-instantiate --eval` prints it: thunks as `<CODE>`.
    pub fn show(&mut self, handle: Handle) -> Vec<u8> {
        let value = self.value(handle);
        self.vm.show_whole(value)
    }

    /// As messages show it: cut short, functions with their places.
    pub fn show_short(&mut self, handle: Handle) -> String {
        let value = self.value(handle);
        self.vm.show(value)
    }

    /// As JSON; computes everything, and copies paths to the store.
    pub fn to_json(&mut self, handle: Handle) -> EvalResult<Vec<u8>> {
        let value = self.value(handle);
        let text = self.vm.run_native(Box::new(ToJson::new(value, true)))?;
        Ok(text.as_bytes().unwrap_or_default().to_vec())
    }

    /// The same where all of it is computed already; a thunk in it is an error.
    pub fn to_json_as_it_is(&mut self, handle: Handle) -> EvalResult<Vec<u8>> {
        let value = self.value(handle);
        let text = self.vm.run_native(Box::new(ToJson::of_computed(value)))?;
        Ok(text.as_bytes().unwrap_or_default().to_vec())
    }

    /// As XML. What is not computed is shown as unevaluated, unless `strict`.
    pub fn to_xml(&mut self, handle: Handle, strict: bool, locations: bool) -> EvalResult<Vec<u8>> {
        let value = self.value(handle);
        let text = self.vm.run_native(Box::new(ToXml::new(value, strict, locations)))?;
        Ok(text.as_bytes().unwrap_or_default().to_vec())
    }

    /// A value as a string, as interpolation would make it.
    pub fn to_text(&mut self, handle: Handle) -> EvalResult<Vec<u8>> {
        self.to_text_for(handle, "")
    }

    /// The same, saying in errors what the string was for.
    pub fn to_text_for(&mut self, handle: Handle, context: &'static str) -> EvalResult<Vec<u8>> {
        let value = self.value(handle);
        let coerce = crate::vm::coerce::Coerce::new(value, crate::builtins::COPYING, context);
        let text = self.vm.run_native(Box::new(coerce))?;
        Ok(text.as_bytes().unwrap_or_default().to_vec())
    }

    /// Derivations in a value, as `nix-instantiate` collects them: the value itself, or those in sets and lists
    /// in it, where sets below the first say `recurseForDerivations`.
    pub fn derivations(
        &mut self,
        handle: Handle,
        arguments: &[(String, Handle)],
    ) -> EvalResult<Vec<FoundDerivation>> {
        let mut found = Vec::new();
        let mut seen = rustc_hash::FxHashSet::default();
        let mut pending = vec![(handle, String::new(), true)];
        while let Some((handle, path, top)) = pending.pop() {
            let handle = self.auto_call(handle, arguments)?;
            match self.value(handle) {
                Value::Attrs(set) => {
                    if self.is_derivation(set)? {
                        if seen.insert(set.address()) {
                            found.push(self.derivation(set, path)?);
                        }
                        continue;
                    }
                    if !top && !self.recurses(set)? {
                        continue;
                    }
                    if !top && !seen.insert(set.address()) {
                        continue;
                    }
                    let mut children = Vec::new();
                    for entry in self.vm.sorted_entries(set) {
                        let name = self.vm.text_of(entry.name);
                        let child = if path.is_empty() { name } else { format!("{path}.{name}") };
                        let value = self.hold(entry.value.get());
                        children.push((value, child, false));
                    }
                    pending.extend(children.into_iter().rev());
                }
                Value::List(length, start) => {
                    let items = crate::memory::slice(start, length);
                    for (index, &item) in items.iter().enumerate().rev() {
                        let child =
                            if path.is_empty() { index.to_string() } else { format!("{path}.{index}") };
                        let value = self.hold(item);
                        pending.push((value, child, false));
                    }
                }
                value if top => {
                    let kind = self.vm.type_of(value);
                    let shown = self.vm.show(value);
                    let message = format!(
                        "expression does not evaluate to a derivation (or a set or list of those)\n\nhint: it is {kind}: {shown}"
                    );
                    return Err(EvalError::type_error(message));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn is_derivation(&mut self, set: crate::memory::Gc<crate::value::Attrs>) -> EvalResult<bool> {
        let Some(kind) = set.get(self.vm.symbols.kind) else { return Ok(false) };
        let kind = self.vm.force(kind.value.get())?;
        Ok(kind.as_bytes() == Some(b"derivation"))
    }

    fn recurses(&mut self, set: crate::memory::Gc<crate::value::Attrs>) -> EvalResult<bool> {
        let Some(flag) = set.get(self.vm.symbols.recurse_for_derivations) else { return Ok(false) };
        let flag = self.vm.force(flag.value.get())?;
        let context = "while evaluating the attribute `recurseForDerivations`";
        self.vm.want_bool(flag, context)
    }

    fn derivation(
        &mut self,
        set: crate::memory::Gc<crate::value::Attrs>,
        path: String,
    ) -> EvalResult<FoundDerivation> {
        let symbols = self.vm.symbols;
        let mut text = |name: Symbol, required: bool| -> EvalResult<String> {
            let Some(entry) = set.get(name) else {
                if required {
                    return Err(self.vm.missing_attribute(set, name));
                }
                return Ok(String::new());
            };
            let value = self.vm.force(entry.value.get())?;
            let bytes = self.vm.want_string(value, "while evaluating an attribute of a derivation")?;
            Ok(String::from_utf8_lossy(bytes).into_owned())
        };
        let name = text(symbols.name, false)?;
        let drv_path = text(symbols.drv_path, true)?;
        let output = text(symbols.output_name, false)?;
        let derivation = StorePath::parse(&drv_path).map_err(|error| {
            EvalError::new(ErrorKind::World, format!("derivation '{name}' has a bad `drvPath`: {error}"))
        })?;
        let output = if output.is_empty() { "out".into() } else { output };
        Ok(FoundDerivation { path, name, derivation, output })
    }

    /// Parses without evaluating: the tree as `--parse` prints it.
    pub fn parse(&mut self, origin: Origin, source: &[u8], directory: &[u8]) -> EvalResult<Vec<u8>> {
        // Loading checks variables too, as C++ Nix does when it parses.
        self.vm.load(origin, source.to_vec(), directory, None)?;
        let options = rednix_syntax::Options { pipe_operators: self.vm.settings.pipe_operators };
        let parsed = rednix_syntax::parse(source, &mut self.vm.interner, options);
        let home = self.vm.settings.home.clone().unwrap_or_default();
        let places = printer::Places { base: directory, home: home.as_bytes() };
        Ok(printer::print(&parsed.ast, &self.vm.interner, parsed.root, places))
    }

    /// Where a position is.
    pub fn place(&self, pos: Pos) -> Option<Place> {
        self.vm.sources.place(pos)
    }

    /// The line of a position and its neighbours, as C++ Nix lays them out under a message.
    pub fn code_lines(&self, pos: Pos) -> Option<Vec<String>> {
        self.vm.sources.code_lines(pos)
    }

    /// The source around a range, for showing it.
    pub fn snippet(&self, range: Range) -> Option<Snippet> {
        let place = self.vm.sources.place(range.start)?;
        let source = self.vm.sources.source(range.start)?;
        let start = source.offset(range.start).min(source.text.len());
        let end = if range.end > range.start { source.offset(range.end) } else { start };
        let before = String::from_utf8_lossy(&source.text[..start]);
        let inside = String::from_utf8_lossy(&source.text[start..end.clamp(start, source.text.len())]);
        let text = String::from_utf8_lossy(&source.text).into_owned();
        Some(Snippet { place, text, start: before.len(), end: before.len() + inside.len() })
    }
}

#[cold]
fn missing_argument(name: &str, pos: Pos) -> Box<EvalError> {
    let message = format!(
        "cannot evaluate a function that has an argument without a value ('{name}')\n\
         Nix attempted to evaluate a function as a top level expression; in\n\
         this case it must have its arguments supplied either by default\n\
         values, or passed explicitly with '--arg' or '--argstr'. See\n\
         https://nix.dev/manual/nix/stable/language/syntax.html#functions."
    );
    EvalError::evaluation(message).at(Range::at(pos))
}

fn quoted(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    rednix_syntax::text::write_string(&mut out, bytes);
    String::from_utf8_lossy(&out).into_owned()
}

/// `a."b.c".d` in pieces.
fn split_path(path: &str) -> EvalResult<Vec<String>> {
    let mut pieces = Vec::new();
    let mut current = String::new();
    let mut chars = path.chars();
    while let Some(next) = chars.next() {
        match next {
            '.' => pieces.push(std::mem::take(&mut current)),
            '"' => loop {
                match chars.next() {
                    Some('"') => break,
                    Some(other) => current.push(other),
                    None => {
                        let message = format!("missing closing quote in selection path '{path}'");
                        return Err(EvalError::evaluation(message));
                    }
                }
            },
            other => current.push(other),
        }
    }
    if !current.is_empty() {
        pieces.push(current);
    }
    Ok(pieces)
}
