//! Turning values into strings: what interpolation, `toString` and derivations do, each a little differently.

use super::Vm;
use super::native::{Native, Step};
use crate::collect::Tracer;
use crate::context::{ContextElement, unite};
use crate::error::{EvalError, Result};
use crate::memory::{Gc, slice};
use crate::value::{Attrs, Value};

#[derive(Clone, Copy, Default)]
pub(crate) struct CoerceOptions {
    /// Numbers, Booleans, null and lists are allowed too.
    pub more: bool,
    /// A path is copied to the store instead of named.
    pub copy_to_store: bool,
}

/// A list being joined.
struct Items {
    start: Gc<Value>,
    length: u32,
    next: u32,
    /// Whether the element before was an empty list, which gets no separator.
    after_empty: bool,
}

/// One value to a string.
pub(crate) struct Coerce {
    value: Value,
    options: CoerceOptions,
    context: &'static str,
    out: Vec<u8>,
    elements: Vec<u32>,
    lists: Vec<Items>,
    started: bool,
    /// Sets that led here by `outPath` or `__toString`; bounded by the call depth.
    hops: u32,
    /// The result is left in `Vm::apart`, for somebody who would only copy it.
    apart: bool,
}

impl Vm {
    /// The result of a [`Coerce::apart`], or of a string that needed no machine.
    pub(crate) fn take_apart(&mut self, value: Value) -> (Vec<u8>, Vec<u32>) {
        match self.apart.take() {
            Some(result) => result,
            None => (value.as_bytes().unwrap_or_default().to_vec(), value.context().to_vec()),
        }
    }
}

impl Coerce {
    /// As [`Coerce::new`], but its result is null and has to be fetched by [`Vm::take_apart`] at once.
    pub fn apart(value: Value, options: CoerceOptions, context: &'static str) -> Coerce {
        Coerce { apart: true, ..Coerce::new(value, options, context) }
    }

    pub fn new(value: Value, options: CoerceOptions, context: &'static str) -> Coerce {
        Coerce {
            value,
            options,
            context,
            out: Vec::new(),
            elements: Vec::new(),
            lists: Vec::new(),
            started: false,
            hops: 0,
            apart: false,
        }
    }

    /// Appends a computed value; another step when that takes more.
    fn take(&mut self, vm: &mut Vm, value: Value) -> Result<Option<Step>> {
        match value {
            Value::String(..) | Value::ContextString(_) => {
                self.out.extend_from_slice(value.as_bytes().unwrap_or_default());
                unite(&mut self.elements, value.context());
            }
            Value::Path(length, start) => {
                if self.options.copy_to_store {
                    let path = vm.copy_to_store(slice(start, length))?;
                    self.out.extend_from_slice(path.to_string().as_bytes());
                    let number = vm.contexts.number(ContextElement::Opaque(path));
                    unite(&mut self.elements, &[number]);
                } else {
                    self.out.extend_from_slice(slice(start, length));
                }
            }
            Value::Attrs(set) => return self.take_set(vm, set).map(Some),
            Value::Bool(true) if self.options.more => self.out.push(b'1'),
            Value::Bool(false) | Value::Null if self.options.more => {}
            Value::Int(number) if self.options.more => self.out.extend(number.to_string().bytes()),
            Value::Float(number) if self.options.more => self.out.extend(format!("{number:.6}").bytes()),
            Value::List(length, start) if self.options.more => {
                if self.lists.len() as u32 + vm.depth > vm.settings.max_call_depth {
                    return Err(vm.overflow());
                }
                self.lists.push(Items { start, length, next: 0, after_empty: false });
            }
            other => return Err(self.cannot(vm, other)),
        }
        Ok(None)
    }

    fn take_set(&mut self, vm: &mut Vm, set: Gc<Attrs>) -> Result<Step> {
        self.hops += 1;
        if self.hops > vm.settings.max_call_depth {
            return Err(vm.overflow());
        }
        if let Some(entry) = set.get(vm.symbols.to_string) {
            return Ok(Step::call(entry.value.get(), &[Value::Attrs(set)]));
        }
        match set.get(vm.symbols.out_path) {
            Some(entry) => Ok(Step::Force(entry.value.get())),
            None => Err(self.cannot(vm, Value::Attrs(set))),
        }
    }

    #[cold]
    fn cannot(&self, vm: &mut Vm, value: Value) -> Box<EvalError> {
        let kind = vm.type_of(value);
        let shown = vm.show(value);
        let error = EvalError::type_error(format!("cannot coerce {kind} to a string: {shown}"));
        vm.frame_here(error, self.context)
    }

    /// The next element of the innermost list, with its separator.
    fn next_item(&mut self) -> Option<Value> {
        while let Some(items) = self.lists.last_mut() {
            if items.next == items.length {
                let empty = items.length == 0;
                self.lists.pop();
                if let Some(outer) = self.lists.last_mut() {
                    outer.after_empty = empty;
                }
                continue;
            }
            if items.next > 0 && !items.after_empty {
                self.out.push(b' ');
            }
            items.after_empty = false;
            items.next += 1;
            return Some(slice(items.start, items.length)[items.next as usize - 1]);
        }
        None
    }
}

impl Native for Coerce {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.value(self.value);
        for items in &self.lists {
            tracer.cells(items.length, items.start);
        }
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        let mut value = value;
        if !self.started {
            self.started = true;
            value = self.value.peek();
            if !value.is_whnf() {
                return Ok(Step::Force(value));
            }
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
            match self.next_item().map(Value::peek) {
                None if self.apart => {
                    vm.apart = Some((std::mem::take(&mut self.out), std::mem::take(&mut self.elements)));
                    return Ok(Step::Return(Value::Null));
                }
                None => {
                    let string = Value::string_with_context(&mut vm.heap, &self.out, &self.elements);
                    return Ok(Step::Return(string));
                }
                Some(next) if next.is_whnf() => value = next,
                Some(next) => return Ok(Step::Force(next)),
            }
        }
    }
}
