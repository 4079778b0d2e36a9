//! Numeric builtins. Those that are operators too are done by the operators' code.

use super::{Outcome, value};
use crate::error::{EvalError, Result};
use crate::value::Value;
use crate::vm::Vm;
use crate::vm::compare::{LessThan, order_now};
use std::cmp::Ordering;

enum Pair {
    Ints(i64, i64),
    Floats(f64, f64),
}

fn numbers(vm: &mut Vm, arguments: &[Value], what: &str) -> Result<Pair> {
    let float = arguments.iter().any(|value| matches!(value, Value::Float(_)));
    let places = [
        format!("while evaluating the first argument of the {what}"),
        format!("while evaluating the second argument of the {what}"),
    ];
    if !float {
        return Ok(Pair::Ints(
            vm.want_int(arguments[0], &places[0])?,
            vm.want_int(arguments[1], &places[1])?,
        ));
    }
    Ok(Pair::Floats(want_float(vm, arguments[0], &places[0])?, want_float(vm, arguments[1], &places[1])?))
}

fn want_float(vm: &mut Vm, value: Value, context: &str) -> Result<f64> {
    match value {
        Value::Int(value) => Ok(value as f64),
        Value::Float(value) => Ok(value),
        other => {
            let error = vm.expected("a float", other);
            Err(vm.frame_here(error, context))
        }
    }
}

fn integer(vm: &Vm, result: Option<i64>, what: &str, a: i64, operator: char, b: i64) -> Result<Outcome> {
    match result {
        Some(result) => value(Value::Int(result)),
        None => Err(vm.overflowing(what, a, operator, b)),
    }
}

pub(super) fn add(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    match numbers(vm, arguments, "addition")? {
        Pair::Ints(a, b) => integer(vm, a.checked_add(b), "adding", a, '+', b),
        Pair::Floats(a, b) => value(Value::Float(a + b)),
    }
}

pub(super) fn sub(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    match numbers(vm, arguments, "subtraction")? {
        Pair::Ints(a, b) => integer(vm, a.checked_sub(b), "subtracting", a, '-', b),
        Pair::Floats(a, b) => value(Value::Float(a - b)),
    }
}

pub(super) fn mul(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    match numbers(vm, arguments, "multiplication")? {
        Pair::Ints(a, b) => integer(vm, a.checked_mul(b), "multiplying", a, '*', b),
        Pair::Floats(a, b) => value(Value::Float(a * b)),
    }
}

pub(super) fn div(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    match numbers(vm, arguments, "division")? {
        Pair::Ints(_, 0) | Pair::Floats(_, 0.0) => {
            Err(EvalError::evaluation("division by zero").at(vm.here()))
        }
        Pair::Ints(a, b) => integer(vm, a.checked_div(b), "dividing", a, '/', b),
        Pair::Floats(a, b) => value(Value::Float(a / b)),
    }
}

pub(super) fn less_than(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    match order_now(vm, arguments[0], arguments[1])? {
        Some(order) => value(Value::Bool(order == Ordering::Less)),
        None => Ok(Outcome::Run(Box::new(LessThan::new(arguments[0], arguments[1], false)))),
    }
}

fn bits(vm: &mut Vm, arguments: &[Value], name: &str, combine: fn(i64, i64) -> i64) -> Result<Outcome> {
    let first =
        vm.want_int(arguments[0], &format!("while evaluating the first argument passed to builtins.{name}"))?;
    let second = vm
        .want_int(arguments[1], &format!("while evaluating the second argument passed to builtins.{name}"))?;
    value(Value::Int(combine(first, second)))
}

pub(super) fn bit_and(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    bits(vm, arguments, "bitAnd", |a, b| a & b)
}

pub(super) fn bit_or(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    bits(vm, arguments, "bitOr", |a, b| a | b)
}

pub(super) fn bit_xor(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    bits(vm, arguments, "bitXor", |a, b| a ^ b)
}

fn rounded(vm: &mut Vm, argument: Value, name: &str, round: fn(f64) -> f64) -> Result<Outcome> {
    if let Value::Int(_) = argument {
        return value(argument);
    }
    let context = format!("while evaluating the first argument passed to builtins.{name}");
    let number = want_float(vm, argument, &context)?;
    let result = round(number);
    let described = if number.is_nan() {
        "NaN".to_string()
    } else {
        let sign = if number.is_infinite() { "Infinity".into() } else { format!("{number:.6}") };
        if number.is_infinite() && number < 0.0 { "-Infinity".into() } else { sign }
    };
    // 2^63 itself is out of range, -2^63 is not.
    if result.is_finite() && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&result) {
        return value(Value::Int(result as i64));
    }
    let message = format!("NixFloat argument {described} is not in the range of NixInt");
    Err(EvalError::evaluation(message).at(vm.here()))
}

pub(super) fn ceil(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    rounded(vm, arguments[0], "ceil", f64::ceil)
}

pub(super) fn floor(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    rounded(vm, arguments[0], "floor", f64::floor)
}
