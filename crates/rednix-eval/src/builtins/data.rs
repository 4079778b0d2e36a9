//! JSON, TOML and XML in and out.

use super::json::ToJson;
use super::xml::ToXml;
use super::{Outcome, value};
use crate::error::{EvalError, Result};
use crate::source::Pos;
use crate::text::json::{JsonError, JsonVisitor, parse};
use crate::text::tree::Tree;
use crate::value::{Entry, Value, new_attrs};
use crate::vm::Vm;
use rednix_syntax::Symbol;

pub(super) fn to_json(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    Ok(Outcome::Run(Box::new(ToJson::new(arguments[0], true))))
}

pub(super) fn to_xml(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    Ok(Outcome::Run(Box::new(ToXml::new(arguments[0], true, false))))
}

/// Builds values out of what a parser reports.
struct Builder<'a> {
    vm: &'a mut Vm,
    stack: Vec<Container>,
    done: Option<Value>,
    /// The first string with a null byte in it.
    null_byte: Option<Vec<u8>>,
}

enum Container {
    List(Vec<Value>),
    Object(Vec<(Symbol, Value)>, Option<Symbol>),
}

impl Builder<'_> {
    fn add(&mut self, value: Value) {
        match self.stack.last_mut() {
            None => self.done = Some(value),
            Some(Container::List(items)) => items.push(value),
            Some(Container::Object(members, key)) => {
                members.extend(key.take().map(|key| (key, value)));
            }
        }
    }

    fn check(&mut self, bytes: &[u8]) {
        if self.null_byte.is_none() && bytes.contains(&0) {
            self.null_byte = Some(bytes.to_vec());
        }
    }
}

/// A set of pairs; of equal names the last counts.
fn object(vm: &mut Vm, mut members: Vec<(Symbol, Value)>) -> Value {
    members.sort_by_key(|(name, _)| *name);
    let mut entries: Vec<Entry> = Vec::with_capacity(members.len());
    for (name, value) in members {
        match entries.last_mut() {
            Some(last) if last.name == name => last.value.set(value),
            _ => entries.push(Entry::new(name, Pos::NONE, value)),
        }
    }
    Value::Attrs(new_attrs(&mut vm.heap, Pos::NONE, entries))
}

impl JsonVisitor for Builder<'_> {
    fn null(&mut self) {
        self.add(Value::Null);
    }

    fn bool(&mut self, value: bool) {
        self.add(Value::Bool(value));
    }

    fn int(&mut self, value: i64) {
        self.add(Value::Int(value));
    }

    fn float(&mut self, value: f64) {
        self.add(Value::Float(value));
    }

    fn string(&mut self, value: Vec<u8>) {
        self.check(&value);
        let value = self.vm.string(&value);
        self.add(value);
    }

    fn begin_list(&mut self) {
        self.stack.push(Container::List(Vec::new()));
    }

    fn end_list(&mut self) {
        if let Some(Container::List(items)) = self.stack.pop() {
            let list = self.vm.list(&items);
            self.add(list);
        }
    }

    fn begin_object(&mut self) {
        self.stack.push(Container::Object(Vec::new(), None));
    }

    fn key(&mut self, name: Vec<u8>) {
        self.check(&name);
        let name = self.vm.interner.intern(&name);
        if let Some(Container::Object(_, key)) = self.stack.last_mut() {
            *key = Some(name);
        }
    }

    fn end_object(&mut self) {
        if let Some(Container::Object(members, _)) = self.stack.pop() {
            let object = object(self.vm, members);
            self.add(object);
        }
    }
}

fn null_byte(bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(bytes).replace('\0', "␀");
    format!("input string '{shown}' cannot be represented as Nix string because it contains null bytes")
}

pub(super) fn from_json(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let text = vm
        .want_plain_string(arguments[0], "while evaluating the first argument passed to builtins.fromJSON")?;
    let mut builder = Builder { vm, stack: Vec::new(), done: None, null_byte: None };
    let parsed = parse(text, &mut builder);
    let (done, null) = (builder.done, builder.null_byte);
    if let Some(bytes) = null {
        return Err(EvalError::evaluation(null_byte(&bytes)).at(vm.here()));
    }
    match (parsed, done) {
        (Ok(()), Some(done)) => value(done),
        (Err(error @ JsonError::IntegerRange { .. }), _) => {
            Err(EvalError::evaluation(error.to_string()).at(vm.here()))
        }
        (Err(error), _) => {
            let error = EvalError::evaluation(error.to_string()).at(vm.here());
            Err(vm.frame_here(error, "while decoding a JSON string"))
        }
        (Ok(()), None) => Err(EvalError::evaluation("JSON text holds no value").at(vm.here())),
    }
}

pub(super) fn from_toml(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let text =
        vm.want_plain_string(arguments[0], "while evaluating the argument passed to builtins.fromTOML")?;
    let failed =
        |vm: &Vm, why: String| EvalError::evaluation(format!("while parsing TOML: {why}")).at(vm.here());
    let text = std::str::from_utf8(text).map_err(|error| failed(vm, error.to_string()))?;
    let tree = crate::text::toml::parse(text).map_err(|error| {
        let why = error.to_string();
        let too_large = why.contains("value was too large") || why.contains("as i128");
        // C++ Nix words this one error of its reader so.
        let known = "[error] toml::parse_dec_integer: too large integer: current max digits = 2^63";
        failed(vm, if too_large { known.into() } else { why })
    })?;
    match from_tree(vm, tree) {
        Ok(made) => value(made),
        Err(why) => Err(failed(vm, why)),
    }
}

/// Fractions of seconds are shown in milli-, micro- or nanoseconds.
fn padded_fraction(text: &str) -> String {
    let Some(dot) = text.find('.') else { return text.to_owned() };
    let digits = text[dot + 1..].bytes().take_while(u8::is_ascii_digit).count();
    let (head, tail) = text.split_at(dot + 1 + digits);
    let missing = (3 - digits % 3) % 3;
    format!("{head}{}{tail}", &"00"[..missing])
}

/// Recursion is bounded by the depth limit of the parser that made the tree.
fn from_tree(vm: &mut Vm, tree: Tree) -> std::result::Result<Value, String> {
    Ok(match tree {
        Tree::Null => Value::Null,
        Tree::Bool(flag) => Value::Bool(flag),
        Tree::Int(number) => Value::Int(number),
        Tree::Float(number) => Value::Float(number),
        Tree::String(bytes) if bytes.contains(&0) => return Err(format!("error: {}", null_byte(&bytes))),
        Tree::String(bytes) => vm.string(&bytes),
        Tree::List(items) => {
            let items = items
                .into_iter()
                .map(|item| from_tree(vm, item))
                .collect::<std::result::Result<Vec<_>, _>>()?;
            vm.list(&items)
        }
        Tree::Table(members) => {
            let mut made = Vec::with_capacity(members.len());
            for (name, member) in members {
                if name.contains(&0) {
                    return Err(format!("error: {}", null_byte(&name)));
                }
                let member = from_tree(vm, member)?;
                made.push((vm.interner.intern(&name), member));
            }
            object(vm, made)
        }
        Tree::Timestamp(text) if vm.settings.toml_timestamps => {
            let text = padded_fraction(&text);
            let (kind, text) = (vm.string(b"timestamp"), vm.string(text.as_bytes()));
            let kind_name = vm.interner.intern(b"_type");
            let symbols = vm.symbols;
            vm.attrs(&[(kind_name, kind), (symbols.value, text)])
        }
        Tree::Timestamp(_) => return Err("Dates and times are not supported".into()),
    })
}
