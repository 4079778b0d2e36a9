//! Errors of an evaluation: a kind, a message worded as C++ Nix words it, a place, and what led there.

use crate::source::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// `throw`, and a `<x>` that was not found. `tryEval` catches it.
    Throw,
    /// A failed `assert`. `tryEval` catches it.
    Assertion,
    Abort,
    Type,
    MissingAttribute,
    UndefinedVariable,
    InfiniteRecursion,
    StackOverflow,
    Syntax,
    /// The world refused: a file is missing, a store path cannot be made.
    World,
    /// Any other wrong use of the language or its builtins.
    Evaluation,
    /// The user asked to stop.
    Interrupted,
}

/// One step on the way to an error, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub range: Range,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    pub kind: ErrorKind,
    pub message: String,
    pub range: Range,
    pub frames: Vec<Frame>,
    /// Names that were perhaps meant.
    pub suggestions: Vec<String>,
    /// Bindings that were being computed, innermost first.
    pub bindings: Vec<Binding>,
    /// Of an infinite recursion: the places that wait for each other, in the order they were reached.
    pub cycle: Vec<Range>,
    /// Further errors of the same source that do not depend on this one.
    pub more: Vec<EvalError>,
}

/// A named value that was being computed when an error came: an attribute or a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub name: String,
    /// The name where it is defined.
    pub range: Range,
    /// Number of frames that lie inside of it.
    pub frames: usize,
}

pub(crate) type Result<T> = std::result::Result<T, Box<EvalError>>;

impl EvalError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Box<EvalError> {
        Box::new(EvalError {
            kind,
            message: message.into(),
            range: Range::default(),
            frames: Vec::new(),
            suggestions: Vec::new(),
            bindings: Vec::new(),
            cycle: Vec::new(),
            more: Vec::new(),
        })
    }

    pub(crate) fn evaluation(message: impl Into<String>) -> Box<EvalError> {
        EvalError::new(ErrorKind::Evaluation, message)
    }

    pub(crate) fn type_error(message: impl Into<String>) -> Box<EvalError> {
        EvalError::new(ErrorKind::Type, message)
    }

    pub(crate) fn at(mut self: Box<Self>, range: Range) -> Box<Self> {
        if self.range.start.is_none() {
            self.range = range;
        }
        self
    }

    pub(crate) fn is_catchable(&self) -> bool {
        matches!(self.kind, ErrorKind::Throw | ErrorKind::Assertion)
    }
}
