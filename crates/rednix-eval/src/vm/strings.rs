//! Joining strings and paths.

use super::Vm;
use super::coerce::{Coerce, CoerceOptions};
use super::native::{Native, Step};
use crate::collect::Tracer;
use crate::context::unite;
use crate::error::{EvalError, Result};
use crate::limits;
use crate::memory::slice;
use crate::value::Value;
use rednix_syntax::printer::canonical_path;

impl Vm {
    /// Two strings in one.
    #[inline]
    pub(crate) fn join(&mut self, left: Value, right: Value) -> Value {
        let (a, b) = (left.as_bytes().unwrap_or_default(), right.as_bytes().unwrap_or_default());
        if left.context().is_empty() && right.context().is_empty() {
            if a.is_empty() {
                return right;
            }
            if b.is_empty() {
                return left;
            }
        }
        let start = match left {
            Value::String(_, start) => start,
            Value::ContextString(string) => string.start,
            _ => self.heap.copy_slice(a),
        };
        let joined = self.heap.concat((start, a.len() as u32), b, limits::GROW_BYTES_MIN);
        let length = crate::value::length(a.len() + b.len());
        if left.context().is_empty() && right.context().is_empty() {
            return Value::String(length, joined);
        }
        let mut context = left.context().to_vec();
        unite(&mut context, right.context());
        Value::string_at(&mut self.heap, joined, length, &context)
    }

    pub(crate) fn concat_text(&mut self, count: u32) -> Result<()> {
        let from = self.stack.len() - count as usize;
        let parts = &self.stack[from..];
        let total: usize = parts.iter().map(|part| part.as_bytes().map_or(0, <[u8]>::len)).sum();
        self.length(total)?;
        let mut context = Vec::new();
        for part in parts {
            unite(&mut context, part.context());
        }
        let value = if total == 0 && context.is_empty() {
            Value::empty_string()
        } else {
            let pieces = parts.iter().map(|part| part.as_bytes().unwrap_or_default());
            let start = self.heap.join(total, pieces);
            Value::string_at(&mut self.heap, start, crate::value::length(total), &context)
        };
        self.stack.truncate(from);
        self.stack.push(value);
        Ok(())
    }

    pub(crate) fn concat_path(&mut self, count: u32) -> Result<()> {
        let from = self.stack.len() - count as usize;
        let mut bytes = Vec::new();
        for part in &self.stack[from..] {
            match *part {
                Value::Path(length, start) => bytes.extend_from_slice(slice(start, length)),
                part if part.context().is_empty() => {
                    bytes.extend_from_slice(part.as_bytes().unwrap_or_default());
                }
                _ => return Err(self.context_in_path()),
            }
        }
        let value = Value::path(&mut self.heap, &canonical_path(&bytes));
        self.stack.truncate(from);
        self.stack.push(value);
        Ok(())
    }

    #[cold]
    fn context_in_path(&self) -> Box<EvalError> {
        EvalError::evaluation("a string that refers to a store path cannot be appended to a path")
            .at(self.here())
    }

    /// The top of the stack as a string, copying a path to the store.
    pub(crate) fn coerce_top(&mut self) -> Result<()> {
        if self.top().as_bytes().is_some() {
            return Ok(());
        }
        let value = self.pop();
        let options = CoerceOptions { copy_to_store: true, ..CoerceOptions::default() };
        self.begin(Box::new(Coerce::new(value, options, "while evaluating a path segment")))
    }

    pub(crate) fn coerce_path_part(&mut self) -> Result<()> {
        if self.top().as_bytes().is_some() {
            return Ok(());
        }
        let value = self.pop();
        self.begin(Box::new(Coerce::new(value, CoerceOptions::default(), "while evaluating a path segment")))
    }
}

/// `+` where at least one side is no plain string.
pub(crate) struct AddCoerced {
    left: Option<Coerce>,
    right: Option<Coerce>,
    first: Option<Value>,
    path: bool,
}

impl AddCoerced {
    pub fn new(left: Coerce, right: Coerce, path: bool) -> AddCoerced {
        AddCoerced { left: Some(left), right: Some(right), first: None, path }
    }
}

impl Native for AddCoerced {
    fn trace(&self, tracer: &mut Tracer) {
        for coerce in self.left.iter().chain(&self.right) {
            coerce.trace(tracer);
        }
        tracer.optional(self.first);
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        if let Some(left) = self.left.take() {
            return Ok(Step::Run(Box::new(left)));
        }
        if let Some(right) = self.right.take() {
            self.first = Some(value);
            return Ok(Step::Run(Box::new(right)));
        }
        let joined = vm.join(self.first.expect("the left side came first"), value);
        if !self.path {
            return Ok(Step::Return(joined));
        }
        if !joined.context().is_empty() {
            return Err(vm.context_in_path());
        }
        let path = canonical_path(joined.as_bytes().unwrap_or_default());
        Ok(Step::Return(Value::path(&mut vm.heap, &path)))
    }
}
