//! Flakes through the evaluator: what `flake.nix` declares, and the value of a flake whose sources are there.
//!
//! Decides nothing about pins and fetches nothing; see `rednix-flake` and [`crate::World`].

use std::collections::BTreeMap;

use crate::error::EvalError;
use crate::evaluator::{EvalResult, Evaluator, Handle};
use crate::memory::Gc;
use crate::source::{Origin, Pos, Range};
use crate::value::{Attrs, Entry, Value};
use crate::world::FlakeSources;
use rednix_flake::{Attribute, Attributes, Declaration, DeclaredInput, FlakeRef, parse_input_path};
use rednix_syntax::{BindingValue, Expr, ExprId};

/// How deep inputs may be declared inside of one another.
const NESTED_MAX: usize = 64;

impl Evaluator {
    /// The value of a flake.
    pub fn flake(&mut self, sources: &FlakeSources) -> EvalResult<Handle> {
        let (function, arguments) = self.vm().flake_call(sources)?;
        let value = self.vm().call(function, arguments.as_slice())?;
        Ok(self.hold(value))
    }

    /// What the `flake.nix` at this path declares. `shown` names the flake in errors. Nothing in it may have to be
    /// computed, but for its outputs, which are not looked into.
    pub fn flake_declaration(&mut self, file: &[u8], shown: &str) -> EvalResult<Declaration> {
        let text = self.vm().read_file(file)?;
        let folder = file.iter().rposition(|&byte| byte == b'/').map_or(&b"/"[..], |end| &file[..end]);
        let options = rednix_syntax::Options { pipe_operators: self.vm().settings.pipe_operators };
        let parsed = rednix_syntax::parse(&text, &mut self.vm().interner, options);
        let value = self.vm().load(Origin::File(file.to_vec()), text, folder, None)?;
        let path = String::from_utf8_lossy(file).into_owned();
        let Expr::Attributes(top) = parsed.ast.expr(parsed.root) else {
            return Err(EvalError::evaluation(format!("file '{path}' must be an attribute set")));
        };
        // Inputs are known before anything is fetched, so they are literals all the way down.
        for binding in &parsed.ast.attributes(top).bindings {
            let name = self.vm().text_of(binding.name);
            if name != "outputs"
                && let BindingValue::Plain(value) = binding.value
            {
                check_literal(&parsed.ast, value, &name, &path, 0)?;
            }
        }
        let value = self.vm().force(value)?;
        // What is walked over below has to stay while parts of it are computed.
        self.hold(value);
        let set = self.vm().want_attrs(value, "while evaluating a flake")?;
        let mut reader = Reader { evaluator: self, folder: folder.to_vec(), shown };
        reader.declaration(set)
    }
}

/// Whether something is a literal: sets, lists, texts, numbers, names of other things; but no call and no condition.
fn check_literal(
    ast: &rednix_syntax::Ast,
    id: ExprId,
    name: &str,
    file: &str,
    depth: usize,
) -> EvalResult<()> {
    let refuse = || {
        Err(EvalError::evaluation(format!(
            "expected a literal but got a thunk: attribute '{name}' of '{file}' has to be computed\n\n\
             hint: everything in a flake but its outputs is written out, without functions and `let`"
        )))
    };
    match ast.expr(id) {
        Expr::Attributes(attributes) if depth < NESTED_MAX => {
            let attributes = ast.attributes(attributes);
            if !attributes.dynamic.is_empty() {
                return refuse();
            }
            for binding in &attributes.bindings {
                if let BindingValue::Plain(value) = binding.value {
                    check_literal(ast, value, name, file, depth + 1)?;
                }
            }
            Ok(())
        }
        Expr::Integer(_)
        | Expr::Float(_)
        | Expr::Text(_)
        | Expr::Path(_)
        | Expr::List(_)
        | Expr::Lambda(_)
        | Expr::Variable(_) => Ok(()),
        _ => refuse(),
    }
}

struct Reader<'e> {
    evaluator: &'e mut Evaluator,
    folder: Vec<u8>,
    shown: &'e str,
}

impl Reader<'_> {
    fn declaration(&mut self, set: Gc<Attrs>) -> EvalResult<Declaration> {
        let mut declaration = Declaration::default();
        let mut has_outputs = false;
        for entry in self.evaluator.vm().sorted_entries(set) {
            let name = self.evaluator.vm().text_of(entry.name);
            let place = Range::at(entry.pos);
            match name.as_str() {
                "description" => declaration.description = Some(self.text(entry)?),
                "inputs" => (declaration.inputs, declaration.own) = self.inputs(entry, true, 0)?,
                "outputs" => {
                    has_outputs = true;
                    let value = self.evaluator.vm().force(entry.value.get())?;
                    if !matches!(value, Value::Lambda(..) | Value::Builtin(_) | Value::Partial(_)) {
                        return Err(self.expected("a function", value, entry.pos));
                    }
                    self.add_formals(value, &mut declaration.inputs)?;
                }
                // Settings of a flake are not taken: they would be the flake's author's, not the user's.
                "nixConfig" => {
                    let value = self.evaluator.vm().force(entry.value.get())?;
                    self.evaluator.vm().want_attrs(value, "while evaluating `nixConfig`")?;
                }
                _ => {
                    let at = self.place(entry.pos);
                    let message =
                        format!("flake '{}' has an unsupported attribute '{name}', at {at}", self.shown);
                    return Err(EvalError::evaluation(message).at(place));
                }
            }
        }
        if !has_outputs {
            return Err(EvalError::evaluation(format!("flake '{}' lacks attribute 'outputs'", self.shown)));
        }
        Ok(declaration)
    }

    /// Arguments of the outputs' function are inputs too, by their names alone.
    fn add_formals(&mut self, value: Value, inputs: &mut BTreeMap<String, DeclaredInput>) -> EvalResult<()> {
        let Value::Lambda(id, _) = value else { return Ok(()) };
        let vm = self.evaluator.vm();
        let Some(formals) = &vm.program.lambdas[id.0 as usize].formals else { return Ok(()) };
        let names: Vec<_> = formals.formals.iter().map(|formal| formal.name).collect();
        for name in names {
            let name = vm.text_of(name);
            if name != "self" && !inputs.contains_key(&name) {
                let reference =
                    FlakeRef::indirect(&name).map_err(|e| EvalError::evaluation(e.to_string()))?;
                let input = DeclaredInput { reference: Some(reference), ..DeclaredInput::default() };
                inputs.insert(name, input);
            }
        }
        Ok(())
    }

    fn inputs(
        &mut self,
        entry: &Entry,
        allow_self: bool,
        depth: usize,
    ) -> EvalResult<(BTreeMap<String, DeclaredInput>, Attributes)> {
        let set = self.set(entry)?;
        let (mut inputs, mut own) = (BTreeMap::new(), Attributes::default());
        for entry in self.evaluator.vm().sorted_entries(set) {
            let name = self.evaluator.vm().text_of(entry.name);
            if name != "self" {
                let input = self.input(entry, depth).map_err(|mut error| {
                    let message = format!("while evaluating flake attribute '{name}'");
                    error.frames.push(crate::error::Frame { range: Range::at(entry.pos), message });
                    error
                })?;
                inputs.insert(name, input);
                continue;
            }
            if !allow_self {
                let message = format!("'self' input attribute not allowed at {}", self.place(entry.pos));
                return Err(EvalError::evaluation(message).at(Range::at(entry.pos)));
            }
            let set = self.set(entry)?;
            for entry in self.evaluator.vm().sorted_entries(set) {
                let name = self.evaluator.vm().text_of(entry.name);
                let value = self.attribute(&name, entry)?;
                own.0.insert(name, value);
            }
        }
        Ok((inputs, own))
    }

    fn input(&mut self, entry: &Entry, depth: usize) -> EvalResult<DeclaredInput> {
        if depth > NESTED_MAX {
            return Err(EvalError::evaluation("flake inputs are nested too deep").at(Range::at(entry.pos)));
        }
        let set = self.set(entry)?;
        let mut input = DeclaredInput::default();
        let mut attributes = Attributes::default();
        let mut url = None;
        for entry in self.evaluator.vm().sorted_entries(set) {
            let name = self.evaluator.vm().text_of(entry.name);
            match name.as_str() {
                "url" => {
                    let text = self.url(entry)?;
                    attributes.set("url", text.as_str());
                    url = Some(text);
                }
                "flake" => {
                    let value = self.evaluator.vm().force(entry.value.get())?;
                    match value {
                        Value::Bool(flag) => input.is_flake = flag,
                        other => return Err(self.expected("a Boolean", other, entry.pos)),
                    }
                }
                "inputs" => input.overrides = self.inputs(entry, false, depth + 1)?.0,
                "follows" => {
                    let text = self.text(entry)?;
                    let path = parse_input_path(&text);
                    input.follows = Some(path.map_err(|error| flake_error(&error, entry.pos))?);
                }
                _ => {
                    let value = self.attribute(&name, entry)?;
                    attributes.0.insert(name, value);
                }
            }
        }
        if attributes.has("type") {
            let reference = FlakeRef::from_attributes(attributes);
            input.reference = Some(reference.map_err(|error| flake_error(&error, entry.pos))?);
        } else {
            attributes.remove("url");
            if let Some(name) = attributes.0.keys().next() {
                let at = self.place(entry.pos);
                let message = format!("unexpected flake input attribute '{name}', at {at}");
                return Err(EvalError::evaluation(message).at(Range::at(entry.pos)));
            }
            if let Some(url) = url {
                let reference = FlakeRef::parse(&url, input.is_flake, true);
                input.reference = Some(reference.map_err(|error| flake_error(&error, entry.pos))?);
            }
        }
        if input.reference.is_some() && input.follows.is_some() {
            let at = self.place(entry.pos);
            let message = format!("flake input has both a flake reference and a follows attribute, at {at}");
            return Err(EvalError::evaluation(message).at(Range::at(entry.pos)));
        }
        Ok(input)
    }

    /// An input's address; a path is one in the flake's own source.
    fn url(&mut self, entry: &Entry) -> EvalResult<String> {
        let value = self.evaluator.vm().force(entry.value.get())?;
        if let Value::Path(length, start) = value {
            let path = crate::memory::slice(start, length);
            let relative = relative_path(&self.folder, path);
            return Ok(format!("path:{relative}"));
        }
        match value.as_bytes() {
            Some(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            None => {
                let kind = self.evaluator.vm().type_of(value).to_string();
                let message =
                    format!("expected a string or a path but got {kind} at {}", self.place(entry.pos));
                Err(EvalError::evaluation(message).at(Range::at(entry.pos)))
            }
        }
    }

    fn attribute(&mut self, name: &str, entry: &Entry) -> EvalResult<Attribute> {
        let value = self.evaluator.vm().force(entry.value.get())?;
        let message = match value {
            Value::Bool(flag) => return Ok(Attribute::Flag(flag)),
            Value::Int(number) => match u64::try_from(number) {
                Ok(number) => return Ok(Attribute::Number(number)),
                Err(_) => format!("negative value given for flake input attribute {name}: {number}"),
            },
            other => match other.as_bytes() {
                Some(bytes) => return Ok(Attribute::Text(String::from_utf8_lossy(bytes).into_owned())),
                None => format!(
                    "flake input attribute '{name}' is {} while a string, Boolean, or integer is expected",
                    self.evaluator.vm().type_of(other)
                ),
            },
        };
        Err(EvalError::type_error(message).at(Range::at(entry.pos)))
    }

    fn text(&mut self, entry: &Entry) -> EvalResult<String> {
        let value = self.evaluator.vm().force(entry.value.get())?;
        match value.as_bytes() {
            Some(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            None => Err(self.expected("a string", value, entry.pos)),
        }
    }

    fn set(&mut self, entry: &Entry) -> EvalResult<Gc<Attrs>> {
        match self.evaluator.vm().force(entry.value.get())? {
            Value::Attrs(set) => Ok(set),
            other => Err(self.expected("a set", other, entry.pos)),
        }
    }

    fn expected(&mut self, what: &str, got: Value, pos: Pos) -> Box<EvalError> {
        let got = self.evaluator.vm().type_of(got).to_string();
        let message = format!("expected {what} but got {got} at {}", self.place(pos));
        EvalError::type_error(message).at(Range::at(pos))
    }

    fn place(&mut self, pos: Pos) -> String {
        self.evaluator.place(pos).map_or_else(|| "«none»".to_owned(), |place| place.to_string())
    }
}

fn flake_error(error: &rednix_flake::FlakeError, pos: Pos) -> Box<EvalError> {
    EvalError::evaluation(error.to_string()).at(Range::at(pos))
}

/// The way from a folder to a path, by names alone.
fn relative_path(folder: &[u8], path: &[u8]) -> String {
    let pieces = |path: &[u8]| -> Vec<String> {
        let pieces = path.split(|&byte| byte == b'/').filter(|piece| !piece.is_empty());
        pieces.map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
    };
    let (from, to) = (pieces(folder), pieces(path));
    let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - same);
    let way: Vec<String> = up.chain(to[same..].iter().cloned()).collect();
    if way.is_empty() { ".".to_owned() } else { way.join("/") }
}
