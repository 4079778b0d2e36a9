//! Errors of the syntax room: a message, as C++ Nix words it where we know that, and a place.

use crate::token::Span;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    pub message: String,
    pub span: Span,
    /// A second place the message speaks of: its text comes before the place's rendering
    /// (`attribute 'x' already defined at FILE:1:3`).
    pub other: Option<Span>,
}

impl SyntaxError {
    pub fn new(message: impl Into<String>, span: Span) -> Self {
        SyntaxError { message: message.into(), span, other: None }
    }

    /// An error that ends with the place of an earlier definition.
    pub fn with_other(message: impl Into<String>, span: Span, other: Span) -> Self {
        SyntaxError { message: message.into(), span, other: Some(other) }
    }
}
