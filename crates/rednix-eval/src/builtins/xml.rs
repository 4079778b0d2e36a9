//! Values to XML, with a stack of its own.

use crate::collect::Tracer;
use crate::context::unite;
use crate::error::Result;
use crate::memory::slice;
use crate::source::{Origin, Pos};
use crate::text::xml::escape_attribute;
use crate::value::{Entry, Value};
use crate::vm::Vm;
use crate::vm::native::{Native, Step};
use rednix_syntax::text::format_float;
use rustc_hash::FxHashSet;

enum Work {
    Value(Value),
    Attribute(&'static Entry),
    Close(&'static str),
    /// A set that may be a derivation: its `type` is computed, then its paths.
    Set(Value, usize),
}

pub(crate) struct ToXml {
    work: Vec<Work>,
    out: Vec<u8>,
    context: Vec<u32>,
    depth: usize,
    derivations: FxHashSet<Vec<u8>>,
    /// Compute what is not computed; else it is shown as unevaluated.
    strict: bool,
    locations: bool,
}

type Attributes<'a> = &'a [(&'a str, &'a [u8])];

impl ToXml {
    pub fn new(value: Value, strict: bool, locations: bool) -> ToXml {
        let mut xml = ToXml {
            work: vec![Work::Close("expr"), Work::Value(value)],
            out: b"<?xml version='1.0' encoding='utf-8'?>\n".to_vec(),
            context: Vec::new(),
            depth: 0,
            derivations: FxHashSet::default(),
            strict,
            locations,
        };
        xml.open("expr", &[]);
        xml
    }

    fn tag(&mut self, name: &str, attributes: Attributes<'_>, end: &str) {
        self.out.extend(std::iter::repeat_n(b' ', 2 * self.depth));
        self.out.push(b'<');
        self.out.extend(name.bytes());
        for (key, text) in attributes {
            self.out.push(b' ');
            self.out.extend(key.bytes());
            self.out.extend_from_slice(b"=\"");
            escape_attribute(&mut self.out, text);
            self.out.push(b'"');
        }
        self.out.extend(end.bytes());
        self.out.push(b'\n');
    }

    fn open(&mut self, name: &str, attributes: Attributes<'_>) {
        self.tag(name, attributes, ">");
        self.depth += 1;
    }

    fn empty(&mut self, name: &str, attributes: Attributes<'_>) {
        self.tag(name, attributes, " />");
    }

    /// Where a position is, as attributes sorted by name.
    fn place(&self, vm: &Vm, pos: Pos) -> Vec<(&'static str, Vec<u8>)> {
        let Some(place) = vm.sources.place(pos).filter(|_| self.locations) else { return Vec::new() };
        let mut out = vec![
            ("column", place.column.to_string().into_bytes()),
            ("line", place.line.to_string().into_bytes()),
        ];
        if let Origin::File(path) = place.origin {
            out.push(("path", path));
        }
        out
    }

    fn open_with(&mut self, name: &str, mut attributes: Vec<(&'static str, Vec<u8>)>) {
        attributes.sort();
        let borrowed: Vec<_> = attributes.iter().map(|(key, text)| (*key, text.as_slice())).collect();
        self.open(name, &borrowed);
    }

    fn scalar(&mut self, vm: &mut Vm, value: Value) -> Result<()> {
        match value {
            Value::Null => self.empty("null", &[]),
            Value::Bool(flag) => self.empty("bool", &[("value", if flag { b"true" } else { b"false" })]),
            Value::Int(number) => self.empty("int", &[("value", number.to_string().as_bytes())]),
            Value::Float(number) => self.empty("float", &[("value", format_float(number).as_bytes())]),
            Value::String(..) | Value::ContextString(_) => {
                unite(&mut self.context, value.context());
                self.empty("string", &[("value", value.as_bytes().unwrap_or_default())]);
            }
            Value::Path(length, start) => self.empty("path", &[("value", slice(start, length))]),
            Value::List(length, start) => {
                if self.depth as u32 + vm.depth >= vm.settings.max_call_depth {
                    return Err(vm.overflow());
                }
                self.open("list", &[]);
                self.work.push(Work::Close("list"));
                self.work.extend(slice(start, length).iter().rev().map(|&item| Work::Value(item)));
            }
            Value::Attrs(_) => self.work.push(Work::Set(value, 0)),
            Value::Lambda(id, _) => self.function(vm, id, 0),
            Value::Partial(partial) => match partial.function {
                Value::Lambda(id, _) => self.function(vm, id, partial.length as usize),
                _ => self.empty("unevaluated", &[]),
            },
            _ => self.empty("unevaluated", &[]),
        }
        Ok(())
    }

    fn function(&mut self, vm: &mut Vm, id: crate::value::LambdaId, applied: usize) {
        let info = &vm.program.lambdas[id.0 as usize];
        let pos = if applied == 0 { info.range.start } else { info.inner[applied - 1] };
        self.open_with("function", self.place(vm, pos));
        match &info.formals {
            None => {
                let name = vm.interner.name(info.parameters[applied]);
                self.empty("varpat", &[("name", name)]);
            }
            Some(formals) => {
                let mut attributes = Vec::new();
                if formals.ellipsis {
                    attributes.push(("ellipsis", b"1".to_vec()));
                }
                if let Some(&name) = info.parameters.first() {
                    attributes.push(("name", vm.interner.name(name).to_vec()));
                }
                self.open_with("attrspat", attributes);
                let mut names: Vec<_> = formals.formals.iter().map(|f| vm.interner.name(f.name)).collect();
                names.sort_unstable();
                for name in names {
                    self.empty("attr", &[("name", name)]);
                }
                self.close("attrspat");
            }
        }
        self.close("function");
    }

    fn close(&mut self, name: &str) {
        self.depth -= 1;
        self.out.extend(std::iter::repeat_n(b' ', 2 * self.depth));
        self.out.extend(format!("</{name}>\n").bytes());
    }

    /// One stage of a set: `type`, `drvPath` and `outPath` are computed one after the other.
    fn set(&mut self, vm: &mut Vm, value: Value, stage: usize) -> Result<Option<Value>> {
        let Value::Attrs(set) = value else { unreachable!("queued for sets only") };
        let symbols = vm.symbols;
        let names = [symbols.kind, symbols.drv_path, symbols.out_path];
        let found = |name| set.get(name).map(|entry: &Entry| entry.value.get().peek());
        for (next, &name) in names.iter().enumerate().skip(stage) {
            let Some(part) = found(name) else {
                if next == 0 {
                    break;
                }
                continue;
            };
            if !part.is_whnf() && (self.strict || next == 0) {
                self.work.push(Work::Set(value, next));
                return Ok(Some(part));
            }
            if next == 0 && part.as_bytes() != Some(b"derivation") {
                break;
            }
        }
        if self.depth as u32 + vm.depth >= vm.settings.max_call_depth {
            return Err(vm.overflow());
        }
        let entries = vm.sorted_entries(set);
        if found(symbols.kind).and_then(Value::as_bytes) != Some(b"derivation") {
            self.open("attrs", &[]);
            self.work.push(Work::Close("attrs"));
            self.work.extend(entries.into_iter().rev().map(Work::Attribute));
            return Ok(None);
        }
        let text = |name| found(name).and_then(Value::as_bytes).map(<[u8]>::to_vec);
        let drv_path = text(symbols.drv_path);
        let mut attributes = Vec::new();
        attributes.extend(drv_path.clone().map(|path| ("drvPath", path)));
        attributes.extend(text(symbols.out_path).map(|path| ("outPath", path)));
        self.open_with("derivation", attributes);
        self.work.push(Work::Close("derivation"));
        match drv_path {
            Some(path) if !path.is_empty() && self.derivations.insert(path.clone()) => {
                self.work.extend(entries.into_iter().rev().map(Work::Attribute));
            }
            _ => self.empty("repeated", &[]),
        }
        Ok(None)
    }
}

impl Native for ToXml {
    fn trace(&self, tracer: &mut Tracer) {
        for work in &self.work {
            match work {
                Work::Value(value) | Work::Set(value, _) => tracer.value(*value),
                Work::Attribute(entry) => tracer.entries(std::slice::from_ref(*entry)),
                Work::Close(_) => {}
            }
        }
    }

    fn resume(&mut self, vm: &mut Vm, _: Value) -> Result<Step> {
        while let Some(work) = self.work.pop() {
            match work {
                Work::Close(name) => self.close(name),
                Work::Value(value) => {
                    let value = value.peek();
                    if !value.is_whnf() && self.strict {
                        self.work.push(Work::Value(value));
                        return Ok(Step::Force(value));
                    }
                    self.scalar(vm, value)?;
                }
                Work::Attribute(entry) => {
                    let mut attributes = self.place(vm, entry.pos);
                    attributes.push(("name", vm.interner.name(entry.name).to_vec()));
                    self.open_with("attr", attributes);
                    self.work.push(Work::Close("attr"));
                    self.work.push(Work::Value(entry.value.get()));
                }
                Work::Set(value, stage) => {
                    if let Some(wait) = self.set(vm, value, stage)? {
                        return Ok(Step::Force(wait));
                    }
                }
            }
        }
        Ok(Step::Return(Value::string_with_context(&mut vm.heap, &self.out, &self.context)))
    }
}
