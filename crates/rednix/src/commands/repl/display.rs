//! Values as the repl shows them: computed to a depth, derivations by their paths, errors inside as errors.

use rednix_eval::{EvalError, Evaluator, Handle, Type};

use super::completion::written;

/// Columns a set or list may take in one line.
const WIDTH: usize = 80;
/// Nesting shown by `:p`.
pub const DEPTH_MAX: usize = 200;

/// A value and what is in it to a depth; below that `{ ... }`.
pub fn show(evaluator: &mut Evaluator, value: Handle, depth: usize) -> Result<String, Box<EvalError>> {
    let value = evaluator.force(value)?;
    Ok(computed(evaluator, value, depth.min(DEPTH_MAX), 0))
}

fn computed(evaluator: &mut Evaluator, value: Handle, depth: usize, indent: usize) -> String {
    match evaluator.type_of(value) {
        Some(Type::List) => {
            let items = evaluator.items_of(value).unwrap_or_default();
            if depth == 0 && !items.is_empty() {
                return "[ ... ]".to_owned();
            }
            let items = items.into_iter().map(|item| inner(evaluator, item, depth - 1, indent + 2)).collect();
            brackets("[", items, "]", indent)
        }
        Some(Type::Attributes) => {
            if let Some(path) = derivation(evaluator, value) {
                return format!("«derivation {path}»");
            }
            let attributes = evaluator.attributes_of(value).unwrap_or_default();
            if depth == 0 && !attributes.is_empty() {
                return "{ ... }".to_owned();
            }
            let attributes = attributes
                .into_iter()
                .map(|(name, value)| {
                    format!("{} = {};", written(&name), inner(evaluator, value, depth - 1, indent + 2))
                })
                .collect();
            brackets("{", attributes, "}", indent)
        }
        _ => String::from_utf8_lossy(&scalar(evaluator, value)).into_owned(),
    }
}

fn scalar(evaluator: &mut Evaluator, value: Handle) -> Vec<u8> {
    match evaluator.type_of(value) {
        // With their places.
        Some(Type::Function) => evaluator.show_short(value).into_bytes(),
        _ => evaluator.show(value),
    }
}

fn inner(evaluator: &mut Evaluator, value: Handle, depth: usize, indent: usize) -> String {
    match evaluator.force(value) {
        Ok(value) => computed(evaluator, value, depth, indent),
        Err(error) => format!("«error: {}»", error.message.lines().next().unwrap_or_default()),
    }
}

/// The path of a set that is a derivation.
fn derivation(evaluator: &mut Evaluator, set: Handle) -> Option<String> {
    let mut text = |name| {
        let value = evaluator.attribute_of(set, name)?;
        let value = evaluator.force(value).ok()?;
        evaluator.string_of(value)
    };
    if text("type")? != b"derivation" {
        return None;
    }
    Some(String::from_utf8_lossy(&text("drvPath")?).into_owned())
}

fn brackets(open: &str, items: Vec<String>, close: &str, indent: usize) -> String {
    if items.is_empty() {
        return format!("{open} {close}");
    }
    let length: usize = items.iter().map(|item| item.chars().count() + 1).sum();
    if indent + length + 3 <= WIDTH && !items.iter().any(|item| item.contains('\n')) {
        return format!("{open} {} {close}", items.join(" "));
    }
    let margin = " ".repeat(indent + 2);
    let lines: String = items.iter().map(|item| format!("{margin}{item}\n")).collect();
    format!("{open}\n{lines}{}{close}", " ".repeat(indent))
}
