//! JSON as `builtins.fromJSON` and `builtins.toJSON` of C++ Nix read and write it: RFC 8259, strictly.
//! The parser reports what it meets to a visitor, so that it knows no values; it does not recurse.

mod lexer;
mod parser;
#[cfg(test)]
mod tests;
mod tree;
mod write;

use thiserror::Error;

pub use parser::{JsonVisitor, parse};
pub use tree::parse_tree;
pub use write::write_string;

/// Why a text is not read, or a string not written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JsonError {
    /// Lines and columns count bytes from 1; the column is that of the last byte read.
    #[error("[json.exception.parse_error.101] parse error at line {line}, column {column}: {reason}")]
    Syntax { line: usize, column: usize, reason: String },
    #[error("[json.exception.out_of_range.406] number overflow parsing '{number}'")]
    FloatRange { number: String },
    #[error("unsigned json number {number} outside of Nix integer range")]
    IntegerRange { number: u64 },
    #[error("JSON nests more than {limit} lists and objects")]
    Depth { limit: usize },
    #[error("[json.exception.type_error.316] invalid UTF-8 byte at index {index}: 0x{byte:02X}")]
    NotUtf8 { index: usize, byte: u8 },
    #[error("[json.exception.type_error.316] incomplete UTF-8 string; last byte: 0x{byte:02X}")]
    IncompleteUtf8 { byte: u8 },
}
