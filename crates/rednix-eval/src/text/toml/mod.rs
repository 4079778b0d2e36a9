//! TOML 1.0 as `builtins.fromTOML` reads it, by way of the `toml` crate. Dates stay text, which the caller refuses
//! or wraps.

mod strictness;
#[cfg(test)]
mod tests;

use thiserror::Error;
use toml::Value;

use super::limits::TREE_DEPTH_MAX;
use super::tree::Tree;

/// Why a document is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TomlError {
    /// Lines and columns count from 1.
    #[error("{reason}, at line {line}, column {column}")]
    Syntax { line: usize, column: usize, reason: String },
    #[error("tables and arrays nest deeper than {limit}")]
    Depth { limit: usize },
}

impl TomlError {
    fn at(text: &str, offset: usize, reason: String) -> TomlError {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_begin = memchr::memrchr(b'\n', before).map_or(0, |index| index + 1);
        TomlError::Syntax {
            line: memchr::memchr_iter(b'\n', before).count() + 1,
            column: before.len() - line_begin + 1,
            reason,
        }
    }
}

/// Reads a document. Keys are sorted.
pub fn parse(text: &str) -> Result<Tree, TomlError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let offset = error.span().map_or(0, |span| span.start);
        TomlError::at(text, offset, error.message().to_owned())
    })?;
    if let Some((offset, reason)) = strictness::first_objection(text) {
        return Err(TomlError::at(text, offset, reason.to_owned()));
    }
    convert(Value::Table(table), 0)
}

/// Recursion is bounded by the limit of depth.
fn convert(value: Value, depth: usize) -> Result<Tree, TomlError> {
    if depth > TREE_DEPTH_MAX {
        return Err(TomlError::Depth { limit: TREE_DEPTH_MAX });
    }
    Ok(match value {
        Value::String(text) => Tree::String(text.into_bytes()),
        Value::Integer(value) => Tree::Int(value),
        Value::Float(value) => Tree::Float(value),
        Value::Boolean(value) => Tree::Bool(value),
        Value::Datetime(value) => Tree::Timestamp(value.to_string()),
        Value::Array(values) => {
            let elements = values.into_iter().map(|value| convert(value, depth + 1));
            Tree::List(elements.collect::<Result<_, _>>()?)
        }
        Value::Table(table) => {
            let mut members = table
                .into_iter()
                .map(|(key, value)| Ok((key.into_bytes(), convert(value, depth + 1)?)))
                .collect::<Result<Vec<_>, TomlError>>()?;
            members.sort_unstable_by(|left, right| left.0.cmp(&right.0));
            Tree::Table(members)
        }
    })
}
