//! Paths as values: names and directories of them, and strings that are read as paths.

use super::{NAMING, Outcome, coerced, value};
use crate::collect::Tracer;
use crate::context::ContextElement;
use crate::error::{ErrorKind, EvalError, Result};
use crate::memory::slice;
use crate::value::Value;
use crate::vm::Vm;
use rednix_syntax::printer::canonical_path;

pub(super) fn base_name_of(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the first argument passed to builtins.baseNameOf";
    coerced(vm, arguments[0], NAMING, context, [Value::Null; 3], |vm, text, _| {
        let bytes = text.as_bytes().unwrap_or_default();
        let name = base_name(bytes);
        value(Value::string_with_context(&mut vm.heap, name, text.context()))
    })
}

/// What follows the last slash; one slash at the end does not count.
pub(crate) fn base_name(path: &[u8]) -> &[u8] {
    let path = match path {
        [rest @ .., b'/'] if !rest.is_empty() => rest,
        _ => path,
    };
    let start = path.iter().rposition(|&byte| byte == b'/').map_or(0, |index| index + 1);
    &path[start..]
}

pub(super) fn dir_of(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    if let Value::Path(length, start) = arguments[0] {
        let path = slice(start, length);
        let parent = match path.iter().rposition(|&byte| byte == b'/') {
            Some(0) | None => b"/",
            Some(end) => &path[..end],
        };
        return value(Value::path(&mut vm.heap, parent));
    }
    let context = "while evaluating the first argument passed to 'builtins.dirOf'";
    coerced(vm, arguments[0], NAMING, context, [Value::Null; 3], |vm, text, _| {
        let bytes = text.as_bytes().unwrap_or_default();
        let parent = match bytes.iter().rposition(|&byte| byte == b'/') {
            None => b".",
            Some(0) => b"/",
            Some(end) => &bytes[..end],
        };
        value(Value::string_with_context(&mut vm.heap, parent, text.context()))
    })
}

pub(super) fn to_path(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the first argument passed to builtins.toPath";
    coerced(vm, arguments[0], NAMING, context, [Value::Null; 3], |vm, text, _| {
        let path = absolute(vm, text, "while evaluating the first argument passed to builtins.toPath")?;
        value(Value::string_with_context(&mut vm.heap, &path, text.context()))
    })
}

/// The canonical absolute path a string names.
pub(crate) fn absolute(vm: &Vm, text: Value, context: &str) -> Result<Vec<u8>> {
    let bytes = text.as_bytes().unwrap_or_default();
    if bytes.first() != Some(&b'/') {
        let shown = String::from_utf8_lossy(bytes);
        let error = EvalError::evaluation(format!("string '{shown}' doesn't represent an absolute path"));
        return Err(vm.frame_here(error, context));
    }
    Ok(canonical_path(bytes))
}

/// Reads an argument as a path that exists now: what its context names is built first.
pub(crate) fn with_path(
    vm: &mut Vm,
    argument: Value,
    context: &'static str,
    kept: [Value; 3],
    then: fn(&mut Vm, Vec<u8>, &[Value; 3]) -> Result<Outcome>,
) -> Result<Outcome> {
    if let Value::Path(length, start) = argument {
        return then(vm, slice(start, length).to_vec(), &kept);
    }
    if argument.as_bytes().is_some() {
        let path = absolute(vm, argument, context)?;
        let path = vm.realised(argument, path)?;
        return then(vm, path, &kept);
    }
    // Functions are values too: the continuation travels with the coercion in a machine of its own.
    let coerce = crate::vm::coerce::Coerce::new(argument, NAMING, context);
    Ok(Outcome::Run(Box::new(PathThen { coerce: Some(coerce), context, kept, then, done: false })))
}

struct PathThen {
    coerce: Option<crate::vm::coerce::Coerce>,
    context: &'static str,
    kept: [Value; 3],
    then: fn(&mut Vm, Vec<u8>, &[Value; 3]) -> Result<Outcome>,
    done: bool,
}

impl crate::vm::native::Native for PathThen {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.values(&self.kept);
        if let Some(coerce) = &self.coerce {
            coerce.trace(tracer);
        }
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<crate::vm::native::Step> {
        use crate::vm::native::Step;
        if let Some(coerce) = self.coerce.take() {
            return Ok(Step::Run(Box::new(coerce)));
        }
        if std::mem::replace(&mut self.done, true) {
            return Ok(Step::Return(value));
        }
        let path = absolute(vm, value, self.context)?;
        let path = vm.realised(value, path)?;
        Ok(match (self.then)(vm, path, &self.kept)? {
            Outcome::Value(value) => Step::Return(value),
            Outcome::Forced(value) => Step::ReturnForced(value),
            Outcome::Need(thunk) => Step::Force(Value::Thunk(thunk)),
            Outcome::Call(function, arguments) => Step::ReturnCall(function, arguments),
            Outcome::Run(native) => Step::Run(native),
        })
    }
}

impl Vm {
    /// Builds what a string's context names, and puts real output paths in the place of placeholders.
    pub(crate) fn realised(&mut self, text: Value, path: Vec<u8>) -> Result<Vec<u8>> {
        if text.context().is_empty() {
            return Ok(path);
        }
        let mut wanted = Vec::new();
        for &number in text.context() {
            match self.contexts.get(number) {
                ContextElement::Opaque(path) => wanted.push((path.clone(), None)),
                ContextElement::DrvDeep(path) => wanted.push((path.clone(), None)),
                ContextElement::Built { derivation, output } => {
                    wanted.push((derivation.clone(), Some(output.clone())));
                }
            }
        }
        if wanted.iter().all(|(_, output)| output.is_none()) {
            return Ok(path);
        }
        let here = self.here();
        let outputs = self
            .world
            .realise(&wanted)
            .map_err(|error| EvalError::new(ErrorKind::World, error.to_string()).at(here))?;
        let mut path = path;
        let built = wanted.iter().filter_map(|(derivation, output)| Some((derivation, output.as_ref()?)));
        for ((derivation, output), real) in built.zip(outputs) {
            let placeholder = rednix_store::derivation::upstream_placeholder(derivation, output);
            if path.starts_with(placeholder.as_bytes()) {
                path.splice(..placeholder.len(), real.to_string().into_bytes());
            }
        }
        Ok(path)
    }
}
