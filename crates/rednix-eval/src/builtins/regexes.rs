//! `builtins.match` and `builtins.split`.

use super::{Outcome, value};
use crate::error::{EvalError, Result};
use crate::memory::subslice;
use crate::text::regex::{Regex, RegexError};
use crate::value::Value;
use crate::vm::Vm;
use rustc_hash::FxHashMap;
use std::ops::Range;
use std::rc::Rc;

/// Compiled patterns.
#[derive(Default)]
pub(crate) struct RegexCache {
    known: FxHashMap<Vec<u8>, Rc<Regex>>,
}

fn compiled(vm: &mut Vm, pattern: &[u8]) -> Result<Rc<Regex>> {
    if let Some(regex) = vm.regexes.known.get(pattern) {
        return Ok(regex.clone());
    }
    match Regex::new(pattern) {
        Ok(regex) => {
            let regex = Rc::new(regex);
            if vm.regexes.known.len() >= crate::limits::REGEXES_MAX {
                vm.regexes.known.clear();
            }
            vm.regexes.known.insert(pattern.to_vec(), regex.clone());
            Ok(regex)
        }
        Err(error) => {
            let shown = String::from_utf8_lossy(pattern);
            let what = if RegexError::is_memory_limit(&error) {
                "memory limit exceeded by regular expression"
            } else {
                "invalid regular expression"
            };
            Err(EvalError::evaluation(format!("{what} '{shown}'")).at(vm.here()))
        }
    }
}

/// A part of the subject, without its context.
fn part(subject: Value, range: Range<usize>) -> Value {
    let (length, start) = match subject {
        Value::String(length, start) => (length, start),
        Value::ContextString(string) => (string.length, string.start),
        _ => unreachable!("the subject is a string"),
    };
    Value::String(range.len() as u32, subslice(start, length, range.start as u32))
}

fn groups(vm: &mut Vm, subject: Value, groups: &[Option<Range<usize>>]) -> Value {
    let items: Vec<Value> =
        groups.iter().map(|group| group.clone().map_or(Value::Null, |range| part(subject, range))).collect();
    vm.list(&items)
}

pub(super) fn matches(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let pattern =
        vm.want_plain_string(arguments[0], "while evaluating the first argument passed to builtins.match")?;
    let regex = compiled(vm, pattern)?;
    let subject =
        vm.want_string(arguments[1], "while evaluating the second argument passed to builtins.match")?;
    match regex.full_match(subject) {
        Some(found) => value(groups(vm, arguments[1], &found[1..])),
        None => value(Value::Null),
    }
}

pub(super) fn split(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let pattern =
        vm.want_plain_string(arguments[0], "while evaluating the first argument passed to builtins.split")?;
    let regex = compiled(vm, pattern)?;
    let subject =
        vm.want_string(arguments[1], "while evaluating the second argument passed to builtins.split")?;
    let mut parts = Vec::new();
    let mut end = 0;
    for found in regex.find_iter_groups(subject) {
        let whole = found[0].clone().expect("a match has a place");
        parts.push(part(arguments[1], end..whole.start));
        parts.push(groups(vm, arguments[1], &found[1..]));
        end = whole.end;
    }
    if parts.is_empty() {
        return value(vm.list(&[arguments[1]]));
    }
    parts.push(part(arguments[1], end..subject.len()));
    value(vm.list(&parts))
}
