//! Builtins over string contexts.

use super::{COPYING, Outcome, boolean, coerced, value};
use crate::collect::Tracer;
use crate::context::{ContextElement, unite};
use crate::error::{EvalError, Result};
use crate::source::{Pos, Range};
use crate::value::{Entry, Value, entries, new_attrs};
use crate::vm::Vm;
use crate::vm::native::{Native, Step};
use rednix_store::path::StorePath;
use std::collections::BTreeMap;

/// The string with other context.
fn with_context(vm: &mut Vm, text: Value, context: &[u32]) -> Value {
    let (length, start) = match text {
        Value::String(length, start) => (length, start),
        Value::ContextString(string) => (string.length, string.start),
        _ => unreachable!("contexts are given to strings"),
    };
    Value::string_at(&mut vm.heap, start, length, context)
}

pub(super) fn discard_context(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the argument passed to builtins.unsafeDiscardStringContext";
    coerced(vm, arguments[0], COPYING, context, [Value::Null; 3], |vm, text, _| {
        value(with_context(vm, text, &[]))
    })
}

pub(super) fn has_context(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_string(arguments[0], "while evaluating the argument passed to builtins.hasContext")?;
    boolean(!arguments[0].context().is_empty())
}

pub(super) fn discard_output_dependency(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the argument passed to builtins.unsafeDiscardOutputDependency";
    coerced(vm, arguments[0], COPYING, context, [Value::Null; 3], |vm, text, _| {
        let mut context = Vec::new();
        for &number in text.context() {
            let number = match vm.contexts.get(number) {
                ContextElement::DrvDeep(path) => {
                    let element = ContextElement::Opaque(path.clone());
                    vm.contexts.number(element)
                }
                _ => number,
            };
            unite(&mut context, &[number]);
        }
        value(with_context(vm, text, &context))
    })
}

pub(super) fn add_drv_output_dependencies(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the argument passed to builtins.addDrvOutputDependencies";
    coerced(vm, arguments[0], COPYING, context, [Value::Null; 3], |vm, text, _| {
        let &[number] = text.context() else {
            let shown = String::from_utf8_lossy(text.as_bytes().unwrap_or_default()).into_owned();
            let count = text.context().len();
            let message =
                format!("context of string '{shown}' must have exactly one element, but has {count}");
            return Err(EvalError::evaluation(message).at(vm.here()));
        };
        let message = match vm.contexts.get(number) {
            ContextElement::DrvDeep(_) => return value(text),
            ContextElement::Opaque(path) if path.is_derivation() => {
                let element = ContextElement::DrvDeep(path.clone());
                let number = vm.contexts.number(element);
                return value(with_context(vm, text, &[number]));
            }
            ContextElement::Opaque(path) => format!("path '{path}' is not a derivation"),
            ContextElement::Built { output, .. } => format!(
                "`addDrvOutputDependencies` can only act on derivations, not on a derivation output such as '{output}'"
            ),
        };
        Err(EvalError::evaluation(message).at(vm.here()))
    })
}

#[derive(Default)]
struct Info {
    path: bool,
    all_outputs: bool,
    outputs: Vec<String>,
}

pub(super) fn get_context(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_string(arguments[0], "while evaluating the argument passed to builtins.getContext")?;
    let mut infos: BTreeMap<StorePath, Info> = BTreeMap::new();
    for &number in arguments[0].context() {
        match vm.contexts.get(number) {
            ContextElement::Opaque(path) => infos.entry(path.clone()).or_default().path = true,
            ContextElement::DrvDeep(path) => infos.entry(path.clone()).or_default().all_outputs = true,
            ContextElement::Built { derivation, output } => {
                infos.entry(derivation.clone()).or_default().outputs.push(output.clone());
            }
        }
    }
    let mut made = Vec::new();
    let symbols = vm.symbols;
    for (path, mut info) in infos {
        let mut pairs = Vec::new();
        if info.path {
            pairs.push((symbols.path, Value::Bool(true)));
        }
        if info.all_outputs {
            pairs.push((symbols.all_outputs, Value::Bool(true)));
        }
        if !info.outputs.is_empty() {
            info.outputs.sort();
            let names: Vec<Value> = info.outputs.iter().map(|name| vm.string(name.as_bytes())).collect();
            pairs.push((symbols.outputs, vm.list(&names)));
        }
        let name = vm.interner.intern(path.to_string().as_bytes());
        made.push(Entry::new(name, Pos::NONE, vm.attrs(&pairs)));
    }
    made.sort_by_key(|entry| entry.name);
    value(Value::Attrs(new_attrs(&mut vm.heap, Pos::NONE, made)))
}

pub(super) fn append_context(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_string(arguments[0], "while evaluating the first argument passed to builtins.appendContext")?;
    let set =
        vm.want_attrs(arguments[1], "while evaluating the second argument passed to builtins.appendContext")?;
    let entries = entries(&mut vm.heap, set);
    Ok(Outcome::Run(Box::new(Append {
        text: arguments[0],
        entries,
        next: 0,
        context: arguments[0].context().to_vec(),
    })))
}

struct Append {
    text: Value,
    entries: &'static [Entry],
    next: usize,
    context: Vec<u32>,
}

impl Append {
    /// One path of the context; something to compute first, or its elements.
    fn one(&mut self, vm: &mut Vm, entry: &Entry) -> Result<Option<Value>> {
        let name = vm.text_of(entry.name);
        let place = Range::at(entry.pos);
        let Ok(path) = StorePath::parse(&name) else {
            let message = format!("context key '{name}' is not a store path");
            return Err(EvalError::evaluation(message).at(place));
        };
        let info = entry.value.get().peek();
        if !info.is_whnf() {
            return Ok(Some(info));
        }
        let info = vm.want_attrs(info, "while evaluating the value of a string context")?;
        let symbols = vm.symbols;
        let mut found = Vec::new();
        for (attribute, context) in [
            (symbols.path, "while evaluating the `path` attribute of a string context"),
            (symbols.all_outputs, "while evaluating the `allOutputs` attribute of a string context"),
        ] {
            let Some(entry) = info.get(attribute) else { continue };
            let flag = entry.value.get().peek();
            if !flag.is_whnf() {
                return Ok(Some(flag));
            }
            if !vm.want_bool(flag, context)? {
                continue;
            }
            if attribute == symbols.path {
                found.push(ContextElement::Opaque(path.clone()));
                continue;
            }
            if !path.is_derivation() {
                let message = format!(
                    "tried to add all-outputs context of {name}, which is not a derivation, to a string"
                );
                return Err(EvalError::evaluation(message).at(place));
            }
            found.push(ContextElement::DrvDeep(path.clone()));
        }
        if let Some(outputs) = info.get(symbols.outputs) {
            let outputs = outputs.value.get().peek();
            if !outputs.is_whnf() {
                return Ok(Some(outputs));
            }
            let context = "while evaluating the `outputs` attribute of a string context";
            let outputs = vm.want_list(outputs, context)?;
            if !outputs.is_empty() && !path.is_derivation() {
                let message = format!(
                    "tried to add derivation output context of {name}, which is not a derivation, to a string"
                );
                return Err(EvalError::evaluation(message).at(place));
            }
            for output in outputs {
                let output = output.peek();
                if !output.is_whnf() {
                    return Ok(Some(output));
                }
                let context = "while evaluating an output name within a string context";
                let output = String::from_utf8_lossy(vm.want_plain_string(output, context)?).into_owned();
                found.push(ContextElement::Built { derivation: path.clone(), output });
            }
        }
        for element in found {
            let number = vm.contexts.number(element);
            unite(&mut self.context, &[number]);
        }
        Ok(None)
    }
}

impl Native for Append {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.value(self.text);
        tracer.entries(self.entries);
    }

    fn resume(&mut self, vm: &mut Vm, _: Value) -> Result<Step> {
        while let Some(entry) = self.entries.get(self.next) {
            if let Some(wait) = self.one(vm, entry)? {
                return Ok(Step::Force(wait));
            }
            self.next += 1;
        }
        Ok(Step::Return(with_context(vm, self.text, &self.context)))
    }
}
