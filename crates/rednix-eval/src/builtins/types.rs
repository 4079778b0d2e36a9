//! Builtins that tell types apart.

use super::{Outcome, boolean, value};
use crate::error::Result;
use crate::memory::name_gc;
use crate::value::Value;
use crate::vm::Vm;

pub(super) fn type_of(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let name: &'static str = match arguments[0] {
        Value::Int(_) => "int",
        Value::Bool(_) => "bool",
        Value::String(..) | Value::ContextString(_) => "string",
        Value::Path(..) => "path",
        Value::Null => "null",
        Value::Attrs(_) => "set",
        Value::List(..) => "list",
        Value::Float(_) => "float",
        _ => "lambda",
    };
    value(Value::String(name.len() as u32, name_gc(name.as_bytes())))
}

pub(super) fn is_attrs(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    boolean(matches!(arguments[0], Value::Attrs(_)))
}

pub(super) fn is_bool(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    boolean(matches!(arguments[0], Value::Bool(_)))
}

pub(super) fn is_float(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    boolean(matches!(arguments[0], Value::Float(_)))
}

pub(super) fn is_function(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    boolean(matches!(arguments[0], Value::Lambda(..) | Value::Builtin(_) | Value::Partial(_)))
}

pub(super) fn is_int(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    boolean(matches!(arguments[0], Value::Int(_)))
}

pub(super) fn is_list(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    boolean(matches!(arguments[0], Value::List(..)))
}

pub(super) fn is_null(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    boolean(matches!(arguments[0], Value::Null))
}

pub(super) fn is_path(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    boolean(matches!(arguments[0], Value::Path(..)))
}

pub(super) fn is_string(_: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    boolean(arguments[0].as_bytes().is_some())
}
