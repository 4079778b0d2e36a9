//! Computing a value and everything inside it.

use super::Vm;
use super::native::{Native, Step};
use crate::collect::Tracer;
use crate::error::{EvalError, Frame as Trace, Result};
use crate::memory::{Gc, slice};
use crate::source::Range;
use crate::value::{Entry, Value, entries};
use rustc_hash::FxHashSet;

enum Open<'a> {
    List(&'a [Value], usize),
    Set(&'a [Entry], usize),
}

/// Forces depth first; sharing and cycles are seen once.
pub(crate) struct DeepForce {
    root: Option<Value>,
    result: Value,
    open: Vec<Open<'static>>,
    seen: FxHashSet<(usize, u32)>,
}

impl DeepForce {
    pub fn new(root: Value) -> DeepForce {
        DeepForce { root: Some(root), result: Value::Null, open: Vec::new(), seen: FxHashSet::default() }
    }

    /// Opens a computed value's children.
    fn enter(&mut self, vm: &mut Vm, value: Value) -> Result<()> {
        let open = match value {
            Value::List(length, start) if length > 0 && self.unseen(start, length) => {
                Open::List(slice(start, length), 0)
            }
            Value::Attrs(set) if self.unseen(set, u32::MAX) => Open::Set(entries(&mut vm.heap, set), 0),
            _ => return Ok(()),
        };
        if self.open.len() as u32 + vm.depth > vm.settings.max_call_depth {
            return Err(vm.overflow());
        }
        self.open.push(open);
        Ok(())
    }

    fn unseen<T>(&mut self, start: Gc<T>, length: u32) -> bool {
        self.seen.insert((start.address(), length))
    }

    fn next(&mut self) -> Option<Value> {
        while let Some(open) = self.open.last_mut() {
            let next = match open {
                Open::List(items, index) => items.get(*index).copied().inspect(|_| *index += 1),
                Open::Set(entries, index) => {
                    entries.get(*index).map(|entry| entry.value.get()).inspect(|_| *index += 1)
                }
            };
            match next {
                Some(value) => return Some(value),
                None => self.open.pop(),
            };
        }
        None
    }
}

impl Native for DeepForce {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.optional(self.root);
        tracer.value(self.result);
        for open in &self.open {
            match open {
                Open::List(items, _) => tracer.list(items),
                Open::Set(entries, _) => tracer.entries(entries),
            }
        }
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        let mut value = value;
        if let Some(root) = self.root.take() {
            self.result = root;
            value = root.peek();
            if !value.is_whnf() {
                return Ok(Step::Force(value));
            }
        }
        loop {
            self.enter(vm, value)?;
            match self.next().map(Value::peek) {
                None => return Ok(Step::ReturnForced(self.result)),
                Some(next) if next.is_whnf() => value = next,
                Some(next) => return Ok(Step::Force(next)),
            }
        }
    }

    fn recover(&mut self, vm: &mut Vm, mut error: Box<EvalError>) -> Result<Value> {
        for open in self.open.iter().rev() {
            let frame = match open {
                Open::List(_, index) => Trace {
                    range: Range::default(),
                    message: format!("while evaluating list element at index {}", index - 1),
                },
                Open::Set(entries, index) => {
                    let entry = &entries[index - 1];
                    let message =
                        format!("while evaluating the attribute '{}'", vm.interner.text(entry.name));
                    Trace { range: Range::at(entry.pos), message }
                }
            };
            super::explain::push_trace(&mut error, frame);
        }
        Err(error)
    }
}
