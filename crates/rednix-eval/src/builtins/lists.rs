//! Builtins over lists that call nothing.

use super::{ForceItems, Outcome, ready, value};
use crate::collect::Tracer;
use crate::error::{EvalError, Result};
use crate::memory::{slice, subslice};
use crate::value::{Value, apply};
use crate::vm::Vm;
use crate::vm::compare::Equality;
use crate::vm::native::{Native, Step};

pub(super) fn length(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let list = vm.want_list(arguments[0], "while evaluating the first argument passed to builtins.length")?;
    value(Value::Int(list.len() as i64))
}

pub(super) fn head(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let list = vm.want_list(arguments[0], "while evaluating the first argument passed to 'builtins.head'")?;
    match list.first() {
        Some(&first) => Ok(Outcome::Forced(first)),
        None => Err(EvalError::evaluation("'builtins.head' called on an empty list").at(vm.here())),
    }
}

pub(super) fn tail(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_list(arguments[0], "while evaluating the first argument passed to 'builtins.tail'")?;
    let Value::List(length, start) = arguments[0] else { unreachable!("checked above") };
    if length == 0 {
        return Err(EvalError::evaluation("'builtins.tail' called on an empty list").at(vm.here()));
    }
    value(Value::List(length - 1, subslice(start, length, 1)))
}

pub(super) fn elem_at(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let list =
        vm.want_list(arguments[0], "while evaluating the first argument passed to 'builtins.elemAt'")?;
    let index =
        vm.want_int(arguments[1], "while evaluating the second argument passed to 'builtins.elemAt'")?;
    match usize::try_from(index).ok().and_then(|index| list.get(index)) {
        Some(&item) => Ok(Outcome::Forced(item)),
        None => {
            let message =
                format!("'builtins.elemAt' called with index {index} on a list of size {}", list.len());
            Err(EvalError::evaluation(message).at(vm.here()))
        }
    }
}

pub(super) fn map(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let list = vm.want_list(arguments[1], "while evaluating the second argument passed to builtins.map")?;
    if list.is_empty() {
        return value(arguments[1]);
    }
    let function = ready!(arguments[0]);
    vm.want_function(function, "while evaluating the first argument passed to builtins.map")?;
    let mapped: Vec<Value> = list.iter().map(|&item| apply(&mut vm.heap, function, &[item])).collect();
    value(vm.list(&mapped))
}

pub(super) fn gen_list(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let length =
        vm.want_int(arguments[1], "while evaluating the second argument passed to builtins.genList")?;
    let Ok(count) = u32::try_from(length) else {
        return Err(EvalError::evaluation(format!("cannot create list of size {length}")).at(vm.here()));
    };
    if count == 0 {
        return value(vm.list(&[]));
    }
    let function = ready!(arguments[0]);
    vm.want_function(function, "while evaluating the first argument passed to builtins.genList")?;
    let mut items = Vec::with_capacity(count as usize);
    for index in 0..i64::from(count) {
        items.push(apply(&mut vm.heap, function, &[Value::Int(index)]));
    }
    value(vm.list(&items))
}

pub(super) fn concat_lists(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let lists =
        vm.want_list(arguments[0], "while evaluating the first argument passed to builtins.concatLists")?;
    ForceItems::outcome(vm, lists, [arguments[0], Value::Null, Value::Null], |vm, arguments| {
        let Value::List(length, start) = arguments[0] else { unreachable!("checked before") };
        let mut all = Vec::new();
        for item in slice(start, length) {
            let context = "while evaluating a value of the list passed to builtins.concatLists";
            all.extend_from_slice(vm.want_list(item.peek(), context)?);
        }
        value(vm.list(&all))
    })
}

pub(super) fn elem(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let list = vm.want_list(arguments[1], "while evaluating the second argument passed to builtins.elem")?;
    Ok(Outcome::Run(Box::new(Elem { wanted: arguments[0], list, next: 0 })))
}

struct Elem {
    wanted: Value,
    list: &'static [Value],
    next: usize,
}

impl Native for Elem {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.value(self.wanted);
        tracer.list(self.list);
    }

    fn resume(&mut self, _: &mut Vm, value: Value) -> Result<Step> {
        if let Value::Bool(true) = value {
            return Ok(Step::Return(value));
        }
        let wanted = self.wanted.peek();
        while let Some(&item) = self.list.get(self.next) {
            self.next += 1;
            let item = item.peek();
            // Scalars are compared here; anything else takes a walk of its own.
            if wanted.is_whnf()
                && item.is_whnf()
                && let crate::vm::compare::Verdict::Known(false) = crate::vm::compare::equal_now(wanted, item)
            {
                let function =
                    |value| matches!(value, Value::Lambda(..) | Value::Builtin(_) | Value::Partial(_));
                if !(function(wanted) && function(item)) {
                    continue;
                }
            }
            return Ok(Step::Run(Box::new(Equality::nested(wanted, item))));
        }
        Ok(Step::Return(Value::Bool(false)))
    }
}
