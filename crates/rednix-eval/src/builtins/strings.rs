//! Builtins over strings.

use super::{COPYING, ForceItems, Outcome, coerced, value};
use crate::collect::Tracer;
use crate::context::unite;
use crate::error::{EvalError, Result};
use crate::memory::{slice, subslice};
use crate::text::version;
use crate::value::Value;
use crate::vm::Vm;
use crate::vm::coerce::{Coerce, CoerceOptions};
use crate::vm::native::{Native, Step};
use std::cmp::Ordering;

pub(super) fn to_string(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    if arguments[0].as_bytes().is_some() {
        return value(arguments[0]);
    }
    let options = CoerceOptions { more: true, copy_to_store: false };
    let context = "while evaluating the first argument passed to builtins.toString";
    Ok(Outcome::Run(Box::new(Coerce::new(arguments[0], options, context))))
}

pub(super) fn string_length(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the argument passed to builtins.stringLength";
    coerced(vm, arguments[0], COPYING, context, [Value::Null; 3], |_, text, _| {
        value(Value::Int(text.as_bytes().map_or(0, <[u8]>::len) as i64))
    })
}

pub(super) fn substring(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the first argument (the start offset) passed to builtins.substring";
    let start = vm.want_int(arguments[0], context)?;
    if start < 0 {
        return Err(EvalError::evaluation("negative start position in 'substring'").at(vm.here()));
    }
    let context = "while evaluating the second argument (the substring length) passed to builtins.substring";
    vm.want_int(arguments[1], context)?;
    let context = "while evaluating the third argument (the string) passed to builtins.substring";
    let kept = [arguments[0], arguments[1], Value::Null];
    coerced(vm, arguments[2], COPYING, context, kept, |vm, text, kept| {
        let (Value::Int(start), Value::Int(length)) = (kept[0], kept[1]) else {
            unreachable!("checked before")
        };
        let bytes = text.as_bytes().unwrap_or_default();
        let start = usize::try_from(start).map_or(bytes.len(), |start| start.min(bytes.len()));
        // A negative length means all the rest.
        let rest = bytes.len() - start;
        let length = usize::try_from(length).map_or(rest, |length| length.min(rest));
        value(part(vm, text, start, length))
    })
}

/// A part of a string: shares its bytes and has its context.
fn part(vm: &mut Vm, text: Value, start: usize, length: usize) -> Value {
    let (whole, gc) = match text {
        Value::String(whole, gc) => (whole, gc),
        Value::ContextString(string) => (string.length, string.start),
        _ => unreachable!("parts are taken of strings"),
    };
    let gc = subslice(gc, whole, start as u32);
    Value::string_at(&mut vm.heap, gc, length as u32, text.context())
}

pub(super) fn concat_strings_sep(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context =
        "while evaluating the first argument (the separator string) passed to builtins.concatStringsSep";
    vm.want_string(arguments[0], context)?;
    let context = "while evaluating the second argument (the list of strings to concat) passed to builtins.concatStringsSep";
    let list = vm.want_list(arguments[1], context)?;
    Ok(Outcome::Run(Box::new(Join {
        separator: arguments[0],
        list,
        next: 0,
        waiting: false,
        out: Vec::new(),
        context: arguments[0].context().to_vec(),
    })))
}

struct Join {
    separator: Value,
    list: &'static [Value],
    next: usize,
    waiting: bool,
    out: Vec<u8>,
    context: Vec<u32>,
}

impl Native for Join {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.value(self.separator);
        tracer.list(self.list);
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        let mut ready = std::mem::replace(&mut self.waiting, false).then_some(value);
        loop {
            if let Some(text) = ready.take() {
                if self.next > 1 {
                    self.out.extend_from_slice(self.separator.as_bytes().unwrap_or_default());
                }
                self.out.extend_from_slice(text.as_bytes().unwrap_or_default());
                unite(&mut self.context, text.context());
            }
            let Some(&item) = self.list.get(self.next) else {
                vm.length(self.out.len())?;
                return Ok(Step::Return(Value::string_with_context(&mut vm.heap, &self.out, &self.context)));
            };
            self.next += 1;
            let item = item.peek();
            if item.as_bytes().is_some() {
                ready = Some(item);
                continue;
            }
            self.waiting = true;
            let context = "while evaluating one element of the list of strings to concat passed to builtins.concatStringsSep";
            return Ok(Step::Run(Box::new(Coerce::new(item, COPYING, context))));
        }
    }
}

pub(super) fn replace_strings(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let from =
        vm.want_list(arguments[0], "while evaluating the first argument passed to builtins.replaceStrings")?;
    let to =
        vm.want_list(arguments[1], "while evaluating the second argument passed to builtins.replaceStrings")?;
    if from.len() != to.len() {
        let message = "'from' and 'to' arguments passed to builtins.replaceStrings have different lengths";
        return Err(EvalError::evaluation(message).at(vm.here()));
    }
    let context = "while evaluating the third argument passed to builtins.replaceStrings";
    vm.want_string(arguments[2], context)?;
    let kept = [arguments[0], arguments[1], arguments[2]];
    ForceItems::outcome(vm, from, kept, |vm, kept| {
        let Value::List(length, start) = kept[0] else { unreachable!("checked before") };
        let context = "while evaluating one of the strings to replace passed to builtins.replaceStrings";
        let mut patterns = Vec::with_capacity(length as usize);
        for pattern in slice(start, length) {
            patterns.push(vm.want_string(pattern.peek(), context)?);
        }
        let Value::List(_, to) = kept[1] else { unreachable!("checked before") };
        Ok(Outcome::Run(Box::new(Replace {
            first: first_bytes(&patterns),
            patterns,
            replacements: slice(to, length),
            text: kept[2].as_bytes().unwrap_or_default(),
            position: 0,
            out: Vec::new(),
            context: kept[2].context().to_vec(),
            waiting: None,
        })))
    })
}

/// Which bytes a pattern can begin with; empty patterns match everywhere.
fn first_bytes(patterns: &[&[u8]]) -> [bool; 256] {
    let mut first = [false; 256];
    for pattern in patterns {
        match pattern.first() {
            Some(&byte) => first[usize::from(byte)] = true,
            None => first = [true; 256],
        }
    }
    first
}

/// Replacements are computed only when they are used.
struct Replace {
    first: [bool; 256],
    patterns: Vec<&'static [u8]>,
    replacements: &'static [Value],
    text: &'static [u8],
    position: usize,
    out: Vec<u8>,
    context: Vec<u32>,
    /// The pattern whose replacement is being computed.
    waiting: Option<usize>,
}

impl Replace {
    fn find(&self) -> Option<usize> {
        let rest = &self.text[self.position..];
        self.patterns.iter().position(|pattern| rest.starts_with(pattern))
    }
}

impl Native for Replace {
    fn trace(&self, tracer: &mut Tracer) {
        for pattern in &self.patterns {
            tracer.bytes(pattern);
        }
        tracer.list(self.replacements);
        tracer.bytes(self.text);
    }

    fn resume(&mut self, vm: &mut Vm, _: Value) -> Result<Step> {
        while self.position <= self.text.len() {
            let found = match self.waiting.take() {
                Some(found) => Some(found),
                None => {
                    while self.position < self.text.len()
                        && !self.first[usize::from(self.text[self.position])]
                    {
                        self.out.push(self.text[self.position]);
                        self.position += 1;
                    }
                    self.find()
                }
            };
            let Some(index) = found else {
                self.out.extend(self.text.get(self.position));
                self.position += 1;
                continue;
            };
            let replacement = self.replacements[index].peek();
            if !replacement.is_whnf() {
                self.waiting = Some(index);
                return Ok(Step::Force(replacement));
            }
            let context = "while evaluating one of the replacement strings passed to builtins.replaceStrings";
            self.out.extend_from_slice(vm.want_string(replacement, context)?);
            unite(&mut self.context, replacement.context());
            let length = self.patterns[index].len();
            if length == 0 {
                self.out.extend(self.text.get(self.position));
                self.position += 1;
            } else {
                self.position += length;
            }
        }
        vm.length(self.out.len())?;
        Ok(Step::Return(Value::string_with_context(&mut vm.heap, &self.out, &self.context)))
    }
}

pub(super) fn compare_versions(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the first argument passed to builtins.compareVersions";
    let left = vm.want_plain_string(arguments[0], context)?;
    let context = "while evaluating the second argument passed to builtins.compareVersions";
    let right = vm.want_plain_string(arguments[1], context)?;
    value(Value::Int(match version::compare(left, right) {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }))
}

pub(super) fn split_version(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the first argument passed to builtins.splitVersion";
    let text = vm.want_plain_string(arguments[0], context)?;
    let parts: Vec<Value> = version::split(text).into_iter().map(|part| vm.string(part)).collect();
    value(vm.list(&parts))
}

pub(super) fn parse_drv_name(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the first argument passed to builtins.parseDrvName";
    let text = vm.want_plain_string(arguments[0], context)?;
    let (name, version) = version::parse_drv_name(text);
    let (name, version) = (vm.string(name), vm.string(version));
    let symbols = vm.symbols;
    value(vm.attrs(&[(symbols.name, name), (symbols.version, version)]))
}
