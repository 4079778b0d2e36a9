//! Values to JSON, with a stack of its own.

use crate::collect::Tracer;
use crate::context::{ContextElement, unite};
use crate::error::{EvalError, Frame, Result};
use crate::memory::slice;
use crate::source::Range;
use crate::text::json::write_string;
use crate::text::number::format_json;
use crate::value::{Entry, Value};
use crate::vm::Vm;
use crate::vm::native::{Native, Step};

enum Open {
    List(&'static [Value], usize),
    Object(Vec<&'static Entry>, usize),
}

/// Writes one value; the result is a string with the context of all strings in it.
pub(crate) struct ToJson {
    start: Option<Value>,
    out: Vec<u8>,
    context: Vec<u32>,
    open: Vec<Open>,
    /// What is awaited is the result of a `__toString`, which has to be a string.
    text: Option<crate::vm::coerce::Coerce>,
    after_text: bool,
    hops: u32,
    /// Paths are copied to the store, and stand for where they are there.
    copy: bool,
    /// What is not computed yet is an error.
    computed_only: bool,
}

impl ToJson {
    pub fn new(value: Value, copy_to_store: bool) -> ToJson {
        ToJson {
            start: Some(value),
            out: Vec::new(),
            context: Vec::new(),
            open: Vec::new(),
            text: None,
            after_text: false,
            hops: 0,
            copy: copy_to_store,
            computed_only: false,
        }
    }

    /// The same without computing anything inside the value.
    pub fn of_computed(value: Value) -> ToJson {
        ToJson { computed_only: true, ..ToJson::new(value, true) }
    }

    fn string(&mut self, vm: &Vm, bytes: &[u8]) -> Result<()> {
        write_string(&mut self.out, bytes).map_err(|error| {
            EvalError::evaluation(format!("JSON serialization error: {error}")).at(vm.here())
        })
    }

    fn open(&mut self, vm: &Vm, open: Open) -> Result<()> {
        if self.open.len() as u32 + vm.depth >= vm.settings.max_call_depth {
            return Err(vm.overflow());
        }
        self.out.push(if matches!(open, Open::List(..)) { b'[' } else { b'{' });
        self.open.push(open);
        Ok(())
    }

    /// Writes a computed value, or what its start is; a step where that takes more.
    fn take(&mut self, vm: &mut Vm, value: Value) -> Result<Option<Step>> {
        match value {
            Value::Null => self.out.extend_from_slice(b"null"),
            Value::Bool(true) => self.out.extend_from_slice(b"true"),
            Value::Bool(false) => self.out.extend_from_slice(b"false"),
            Value::Int(number) => self.out.extend(number.to_string().bytes()),
            Value::Float(number) => self.out.extend(format_json(number).bytes()),
            Value::String(..) | Value::ContextString(_) => {
                unite(&mut self.context, value.context());
                self.string(vm, value.as_bytes().unwrap_or_default())?;
            }
            Value::Path(length, start) if self.copy => {
                let path = vm.copy_to_store(slice(start, length))?;
                self.string(vm, path.to_string().as_bytes())?;
                let number = vm.contexts.number(ContextElement::Opaque(path));
                unite(&mut self.context, &[number]);
            }
            Value::Path(length, start) => self.string(vm, slice(start, length))?,
            Value::List(length, start) => self.open(vm, Open::List(slice(start, length), 0))?,
            Value::Attrs(set) => {
                self.hops += 1;
                if self.hops > vm.settings.max_call_depth && set.get(vm.symbols.out_path).is_some() {
                    return Err(vm.overflow());
                }
                if let Some(entry) = set.get(vm.symbols.to_string) {
                    self.after_text = true;
                    return Ok(Some(Step::call(entry.value.get(), &[value])));
                }
                if let Some(entry) = set.get(vm.symbols.out_path) {
                    return Ok(Some(Step::Force(entry.value.get())));
                }
                let entries = vm.sorted_entries(set);
                self.open(vm, Open::Object(entries, 0))?;
            }
            other => {
                let kind = vm.type_of(other);
                return Err(EvalError::type_error(format!("cannot convert {kind} to JSON")).at(vm.here()));
            }
        }
        Ok(None)
    }

    /// The next value to write, with what stands before it.
    fn next(&mut self, vm: &Vm) -> Result<Option<Value>> {
        while let Some(open) = self.open.last_mut() {
            let (index, next, name) = match open {
                Open::List(items, index) => {
                    let item = items.get(*index).copied();
                    (index, item, None)
                }
                Open::Object(entries, index) => {
                    let entry = entries.get(*index).copied();
                    (index, entry.map(|entry| entry.value.get()), entry.map(|entry| entry.name))
                }
            };
            let first = *index == 0;
            *index += 1;
            let Some(value) = next else {
                self.out.push(if matches!(open, Open::List(..)) { b']' } else { b'}' });
                self.open.pop();
                continue;
            };
            if !first {
                self.out.push(b',');
            }
            if let Some(name) = name {
                let name = vm.interner.name(name).to_vec();
                self.string(vm, &name)?;
                self.out.push(b':');
            }
            self.hops = 0;
            return Ok(Some(value));
        }
        Ok(None)
    }
}

impl Native for ToJson {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.optional(self.start);
        for open in &self.open {
            match open {
                Open::List(items, _) => tracer.list(items),
                Open::Object(entries, _) => {
                    entries.iter().for_each(|entry| tracer.entries(std::slice::from_ref(*entry)));
                }
            }
        }
        if let Some(coerce) = &self.text {
            coerce.trace(tracer);
        }
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        let mut value = value;
        if let Some(start) = self.start.take() {
            value = start.peek();
            if !value.is_whnf() {
                return Ok(Step::Force(value));
            }
        }
        if std::mem::replace(&mut self.after_text, false) && value.as_bytes().is_none() {
            let context = "while evaluating the result of the `__toString` attribute";
            self.text = Some(crate::vm::coerce::Coerce::new(value, super::NAMING, context));
        }
        if let Some(coerce) = self.text.take() {
            return Ok(Step::Run(Box::new(coerce)));
        }
        loop {
            if let Some(step) = self.take(vm, value)? {
                match step {
                    Step::Force(next) if next.peek().is_whnf() => {
                        value = next.peek();
                        continue;
                    }
                    other => return Ok(other),
                }
            }
            match self.next(vm)?.map(Value::peek) {
                None => {
                    let text = Value::string_with_context(&mut vm.heap, &self.out, &self.context);
                    return Ok(Step::Return(text));
                }
                Some(next) if next.is_whnf() => value = next,
                Some(_) if self.computed_only => {
                    let range = match self.open.last() {
                        Some(Open::Object(entries, index)) => Range::at(entries[index - 1].pos),
                        _ => Range::default(),
                    };
                    return Err(EvalError::type_error("cannot convert a thunk to JSON").at(range));
                }
                Some(next) => return Ok(Step::Force(next)),
            }
        }
    }

    fn recover(&mut self, vm: &mut Vm, mut error: Box<EvalError>) -> Result<Value> {
        for open in self.open.iter().rev().take(50) {
            let (range, message) = match open {
                Open::List(_, index) => {
                    (Range::default(), format!("while evaluating list element at index {}", index - 1))
                }
                Open::Object(entries, index) => {
                    let entry = entries[index - 1];
                    let name = vm.interner.text(entry.name);
                    (Range::at(entry.pos), format!("while evaluating attribute '{name}'"))
                }
            };
            error.frames.push(Frame { range, message });
        }
        Err(error)
    }
}
