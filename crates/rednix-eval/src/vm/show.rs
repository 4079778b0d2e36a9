//! Values as text: cut short for messages, whole for `nix-instantiate --eval`. Computes nothing.

use super::Vm;
use crate::limits;
use crate::memory::slice;
use crate::value::{LambdaId, Value};
use rednix_syntax::text;
use rustc_hash::FxHashSet;

/// How much is shown, and how functions and thunks look.
#[derive(Clone, Copy)]
pub(crate) struct ShowOptions {
    pub depth: usize,
    pub attributes: usize,
    pub items: usize,
    pub string_bytes: usize,
    /// `<LAMBDA>`, `<CODE>`: what `nix-instantiate --eval` prints.
    pub ambiguous: bool,
}

const MESSAGE: ShowOptions = ShowOptions {
    depth: limits::SHOWN_DEPTH,
    attributes: limits::SHOWN_ATTRIBUTES,
    items: limits::SHOWN_ITEMS,
    string_bytes: limits::SHOWN_STRING_BYTES,
    ambiguous: false,
};

const WHOLE: ShowOptions = ShowOptions {
    depth: usize::MAX,
    attributes: usize::MAX,
    items: usize::MAX,
    string_bytes: usize::MAX,
    ambiguous: true,
};

enum Work {
    Value(Value, usize),
    Text(&'static str),
    Name(rednix_syntax::Symbol),
    /// Counts what was printed, and cuts when it is enough: remaining entries, and what comes after them.
    Attributes(Vec<(rednix_syntax::Symbol, Value)>, usize, usize),
    Items(&'static [Value], usize, usize),
}

impl Vm {
    /// A value as messages show it.
    pub(crate) fn show(&mut self, value: Value) -> String {
        String::from_utf8_lossy(&self.show_with(value, MESSAGE)).into_owned()
    }

    /// A value as `nix-instantiate --eval` prints it.
    pub(crate) fn show_whole(&mut self, value: Value) -> Vec<u8> {
        self.show_with(value, WHOLE)
    }

    pub(crate) fn show_with(&mut self, value: Value, options: ShowOptions) -> Vec<u8> {
        let mut out = Vec::new();
        let mut seen = FxHashSet::default();
        let mut work = vec![Work::Value(value, 0)];
        let (mut attributes, mut items) = (0, 0);
        while let Some(item) = work.pop() {
            match item {
                Work::Text(text) => out.extend_from_slice(text.as_bytes()),
                Work::Name(name) => {
                    // Every use of an attribute's name counts as one attribute printed.
                    text::write_identifier(&mut out, self.interner.name(name));
                    out.extend_from_slice(b" = ");
                }
                Work::Value(value, depth) => {
                    self.show_one(value, depth, options, &mut out, &mut seen, &mut work)
                }
                Work::Attributes(entries, index, depth) => {
                    attributes += usize::from(index > 0);
                    if index == entries.len() {
                        out.extend_from_slice(b"}");
                        continue;
                    }
                    if attributes >= options.attributes {
                        elided(&mut out, entries.len() - index, "attribute");
                        out.extend_from_slice(b" }");
                        continue;
                    }
                    let (name, value) = entries[index];
                    work.push(Work::Attributes(entries, index + 1, depth));
                    work.push(Work::Text("; "));
                    work.push(Work::Value(value, depth + 1));
                    work.push(Work::Name(name));
                }
                Work::Items(list, index, depth) => {
                    items += usize::from(index > 0);
                    if index == list.len() {
                        out.extend_from_slice(b"]");
                        continue;
                    }
                    if items >= options.items {
                        elided(&mut out, list.len() - index, "item");
                        out.extend_from_slice(b" ]");
                        continue;
                    }
                    work.push(Work::Items(list, index + 1, depth));
                    work.push(Work::Text(" "));
                    work.push(Work::Value(list[index], depth + 1));
                }
            }
        }
        out
    }

    fn show_one(
        &mut self,
        value: Value,
        depth: usize,
        options: ShowOptions,
        out: &mut Vec<u8>,
        seen: &mut FxHashSet<usize>,
        work: &mut Vec<Work>,
    ) {
        // A list is seen again where its thunk is; the same elements elsewhere are another list.
        let cell = match value {
            Value::Thunk(thunk) => Some(thunk.address()),
            _ => None,
        };
        let value = value.peek();
        match value {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
            Value::Int(value) => out.extend(value.to_string().bytes()),
            Value::Float(value) => out.extend(text::format_float(value).bytes()),
            Value::String(..) | Value::ContextString(_) => {
                let bytes = value.as_bytes().unwrap_or_default();
                if bytes.len() > options.string_bytes {
                    text::write_string(out, &bytes[..options.string_bytes]);
                    out.push(b' ');
                    elided(out, bytes.len() - options.string_bytes, "byte");
                } else {
                    text::write_string(out, bytes);
                }
            }
            Value::Path(length, start) => out.extend_from_slice(slice(start, length)),
            Value::Attrs(set) => {
                let entries = self.sorted_entries(set);
                if (!options.ambiguous || !entries.is_empty()) && !seen.insert(set.address()) {
                    return out.extend_from_slice("«repeated»".as_bytes());
                }
                if depth >= options.depth {
                    return out.extend_from_slice(b"{ ... }");
                }
                out.extend_from_slice(b"{ ");
                let mut pairs: Vec<_> = entries.iter().map(|entry| (entry.name, entry.value.get())).collect();
                if options.attributes != usize::MAX {
                    let kind = self.interner.find(b"_type");
                    let important = [Some(self.symbols.kind), kind];
                    pairs.sort_by_key(|&(name, _)| !important.contains(&Some(name)));
                }
                work.push(Work::Attributes(pairs, 0, depth));
            }
            Value::List(length, start) => {
                if length > 0 && !seen.insert(cell.unwrap_or_else(|| start.address())) {
                    return out.extend_from_slice("«repeated»".as_bytes());
                }
                if depth >= options.depth {
                    return out.extend_from_slice(b"[ ... ]");
                }
                out.extend_from_slice(b"[ ");
                work.push(Work::Items(slice(start, length), 0, depth));
            }
            other if options.ambiguous => out.extend_from_slice(match other {
                Value::Lambda(..) => "<LAMBDA>".as_bytes(),
                Value::Builtin(_) => b"<PRIMOP>",
                Value::Partial(partial) => match partial.function {
                    Value::Builtin(_) => b"<PRIMOP-APP>",
                    _ => b"<LAMBDA>",
                },
                _ if is_blackhole(other) => "«potential infinite recursion»".as_bytes(),
                _ => b"<CODE>",
            }),
            Value::Lambda(id, _) => self.show_lambda(id, 0, out),
            Value::Builtin(id) => {
                out.extend(format!("«primop {}»", super::explain::builtin_name(id)).bytes());
            }
            Value::Partial(partial) => match partial.function {
                Value::Lambda(id, _) => self.show_lambda(id, partial.length as usize, out),
                Value::Builtin(id) => {
                    let name = super::explain::builtin_name(id);
                    out.extend(format!("«partially applied primop {name}»").bytes());
                }
                _ => out.extend_from_slice("«lambda»".as_bytes()),
            },
            other if is_blackhole(other) => {
                out.extend_from_slice("«potential infinite recursion»".as_bytes())
            }
            _ => out.extend_from_slice("«thunk»".as_bytes()),
        }
    }

    /// A function that was given `applied` of its arguments.
    fn show_lambda(&self, id: LambdaId, applied: usize, out: &mut Vec<u8>) {
        let info = &self.program.lambdas[id.0 as usize];
        out.extend_from_slice("«lambda".as_bytes());
        if let Some(name) = info.name {
            out.push(b' ');
            out.extend_from_slice(self.interner.name(name));
        }
        let pos = if applied == 0 { info.range.start } else { info.inner[applied - 1] };
        if let Some(place) = self.sources.place(pos) {
            out.extend(format!(" @ {place}").bytes());
        }
        out.extend_from_slice("»".as_bytes());
    }
}

fn is_blackhole(value: Value) -> bool {
    matches!(value, Value::Thunk(thunk) if matches!(thunk.get(), Value::Blackhole))
}

fn elided(out: &mut Vec<u8>, count: usize, what: &str) {
    let plural = if count == 1 { "" } else { "s" };
    out.extend(format!("«{count} {what}{plural} elided»").bytes());
}
