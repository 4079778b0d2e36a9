//! Making errors: types and values as messages name them, and what was perhaps meant.

use super::Vm;
use crate::error::{EvalError, Frame as Trace};
use crate::value::Value;

/// Frames kept with one error; deep recursion would otherwise drown the message.
const TRACE_MAX: usize = 200;

impl Vm {
    /// A type as messages name it, with its article.
    pub(crate) fn type_of(&self, value: Value) -> String {
        match value.peek() {
            Value::Null => "null".into(),
            Value::Bool(_) => "a Boolean".into(),
            Value::Int(_) => "an integer".into(),
            Value::Float(_) => "a float".into(),
            Value::String(..) => "a string".into(),
            Value::ContextString(_) => "a string with context".into(),
            Value::Path(..) => "a path".into(),
            Value::List(..) => "a list".into(),
            Value::Attrs(_) => "a set".into(),
            Value::Lambda(..) => "a function".into(),
            Value::Builtin(id) => format!("the built-in function '{}'", builtin_name(id)),
            Value::Partial(partial) => match partial.function {
                Value::Builtin(id) => {
                    format!("the partially applied built-in function '{}'", builtin_name(id))
                }
                _ => "a function".into(),
            },
            _ => "a thunk".into(),
        }
    }

    /// `expected WHAT but found …`.
    #[cold]
    pub(crate) fn expected(&mut self, what: &str, value: Value) -> Box<EvalError> {
        let kind = self.type_of(value);
        let shown = self.show(value);
        EvalError::type_error(format!("expected {what} but found {kind}: {shown}")).at(self.here())
    }

    /// Adds where the current instruction is to the error's trace.
    #[cold]
    pub(crate) fn frame_here(&self, error: Box<EvalError>, message: &str) -> Box<EvalError> {
        let range = self.here();
        let mut error = error.at(range);
        push_trace(&mut error, Trace { range, message: message.into() });
        error
    }
}

pub(crate) fn push_trace(error: &mut EvalError, frame: Trace) {
    if error.frames.len() < TRACE_MAX {
        error.frames.push(frame);
    }
}

pub(crate) fn builtin_name(id: crate::value::BuiltinId) -> &'static str {
    crate::builtins::TABLE[id.0 as usize].name.trim_start_matches("__")
}

/// Up to a few names that are close to the one asked for, the closest first.
pub(crate) fn nearest(candidates: impl Iterator<Item = String>, wanted: &str) -> Vec<String> {
    let mut ranked: Vec<_> = candidates
        .map(|candidate| (distance(&candidate, wanted), candidate))
        .filter(|(distance, _)| *distance <= 2)
        .collect();
    ranked.sort();
    ranked.truncate(5);
    ranked.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Edits (insert, delete, replace, swap of neighbours) between two names; names are cut at 64 bytes.
fn distance(left: &str, right: &str) -> usize {
    let left = &left.as_bytes()[..left.len().min(64)];
    let right = &right.as_bytes()[..right.len().min(64)];
    if left.len().abs_diff(right.len()) > 2 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = vec![0; right.len() + 1];
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut next = vec![i + 1; right.len() + 1];
        for (j, b) in right.iter().enumerate() {
            next[j + 1] = (row[j] + usize::from(a != b)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                next[j + 1] = next[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[right.len()]
}
