//! Builtins about evaluation itself: errors, order, traces.

use super::{Outcome, value};
use crate::collect::Tracer;
use crate::error::{ErrorKind, EvalError, Frame, Result};
use crate::value::Value;
use crate::vm::Vm;
use crate::vm::coerce::{Coerce, CoerceOptions};
use crate::vm::deep::DeepForce;
use crate::vm::native::{Native, Step};

pub(super) fn identity(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    value(arguments[0])
}

/// Coerces a message, then does something with it.
struct WithMessage {
    coerce: Option<Coerce>,
    then: fn(&mut Vm, String) -> Result<Step>,
}

impl Native for WithMessage {
    fn trace(&self, tracer: &mut Tracer) {
        if let Some(coerce) = &self.coerce {
            coerce.trace(tracer);
        }
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        match self.coerce.take() {
            Some(coerce) => Ok(Step::Run(Box::new(coerce))),
            None => {
                let text = String::from_utf8_lossy(value.as_bytes().unwrap_or_default()).into_owned();
                (self.then)(vm, text)
            }
        }
    }
}

fn with_message(
    message: Value,
    context: &'static str,
    then: fn(&mut Vm, String) -> Result<Step>,
) -> Result<Outcome> {
    let coerce = Some(Coerce::new(message, CoerceOptions::default(), context));
    Ok(Outcome::Run(Box::new(WithMessage { coerce, then })))
}

pub(super) fn abort(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    with_message(arguments[0], "while evaluating the error message passed to builtins.abort", |_, text| {
        let message = format!("evaluation aborted with the following error message: '{text}'");
        Err(EvalError::new(ErrorKind::Abort, message))
    })
}

pub(super) fn throw(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    with_message(arguments[0], "while evaluating the error message passed to builtin.throw", |_, text| {
        Err(EvalError::new(ErrorKind::Throw, text))
    })
}

pub(super) fn seq(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    Ok(Outcome::Forced(arguments[1]))
}

pub(super) fn deep_seq(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    Ok(Outcome::Run(Box::new(DeepSeq { first: Some(arguments[0]), second: arguments[1] })))
}

struct DeepSeq {
    first: Option<Value>,
    second: Value,
}

impl Native for DeepSeq {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.optional(self.first);
        tracer.value(self.second);
    }

    fn resume(&mut self, _: &mut Vm, _: Value) -> Result<Step> {
        match self.first.take() {
            Some(first) => Ok(Step::Run(Box::new(DeepForce::new(first)))),
            None => Ok(Step::ReturnForced(self.second)),
        }
    }
}

pub(super) fn trace(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let shown = match arguments[0].as_bytes() {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => vm.show(arguments[0]),
    };
    vm.world.message(&format!("trace: {shown}"));
    Ok(Outcome::Forced(arguments[1]))
}

pub(super) fn trace_verbose(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    if vm.settings.trace_verbose { trace(vm, arguments) } else { Ok(Outcome::Forced(arguments[1])) }
}

pub(super) fn warn(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the first argument; the message passed to builtins.warn";
    let text = vm.want_string(arguments[0], context)?;
    let text = String::from_utf8_lossy(text).into_owned();
    vm.world.message(&format!("evaluation warning: {text}"));
    Ok(Outcome::Forced(arguments[1]))
}

pub(super) fn add_error_context(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    Ok(Outcome::Run(Box::new(AddContext { message: arguments[0], value: Some(arguments[1]) })))
}

struct AddContext {
    message: Value,
    value: Option<Value>,
}

impl Native for AddContext {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.value(self.message);
        tracer.optional(self.value);
    }

    fn resume(&mut self, _: &mut Vm, value: Value) -> Result<Step> {
        match self.value.take() {
            Some(wanted) => Ok(Step::Force(wanted)),
            None => Ok(Step::Return(value)),
        }
    }

    fn recover(&mut self, vm: &mut Vm, mut error: Box<EvalError>) -> Result<Value> {
        // A message that was not computed before cannot be computed now, in the middle of an error.
        let message = match self.message.peek().as_bytes() {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => return self.compute_later(vm, error),
        };
        error.frames.push(Frame { range: vm.here(), message });
        Err(error)
    }
}

impl AddContext {
    /// Computes the message in a run of its own; that nests one host frame for each failing context only.
    fn compute_later(&mut self, vm: &mut Vm, mut error: Box<EvalError>) -> Result<Value> {
        let options = CoerceOptions::default();
        let context = "while evaluating the error message passed to builtins.addErrorContext";
        if vm.context_runs >= crate::limits::CONTEXT_RUNS_MAX {
            return Err(error);
        }
        vm.context_runs += 1;
        let range = vm.here();
        let result = vm.run_native(Box::new(Coerce::new(self.message, options, context)));
        vm.context_runs -= 1;
        if let Ok(value) = result {
            let message = String::from_utf8_lossy(value.as_bytes().unwrap_or_default()).into_owned();
            error.frames.push(Frame { range, message });
        }
        Err(error)
    }
}

pub(super) fn try_eval(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    Ok(Outcome::Run(Box::new(Try { value: Some(arguments[0]) })))
}

struct Try {
    value: Option<Value>,
}

fn tried(vm: &mut Vm, success: bool, value: Value) -> Value {
    let symbols = vm.symbols;
    vm.attrs(&[(symbols.success, Value::Bool(success)), (symbols.value, value)])
}

impl Native for Try {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.optional(self.value);
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        match self.value.take() {
            Some(wanted) => Ok(Step::Force(wanted)),
            None => Ok(Step::Return(tried(vm, true, value))),
        }
    }

    fn recover(&mut self, vm: &mut Vm, error: Box<EvalError>) -> Result<Value> {
        if !error.is_catchable() {
            return Err(error);
        }
        Ok(tried(vm, false, Value::Bool(false)))
    }
}

/// Once per evaluation: `builtins.currentTime` keeps it.
pub(super) fn current_time(vm: &mut Vm, _: &[Value]) -> Result<Outcome> {
    value(vm.world.current_time().map_or(Value::Null, Value::Int))
}
