//! What a command can fail with: a message, perhaps the user's own lines, what to do, and the exit status.
//! Does not print.

use std::fmt;

use crate::machines;

/// Exit statuses of the contract.
pub const EXIT_FAILED: u8 = 1;
pub const EXIT_USAGE: u8 = 2;
pub const EXIT_INTERRUPTED: u8 = 130;

/// An expected failure. Panics are for bugs only.
#[derive(Debug)]
pub struct Failure {
    pub status: u8,
    pub message: String,
    /// Already laid out: excerpts of the user's files, a log's tail. Printed between message and hint.
    pub details: Option<String>,
    /// What to do next; one sentence or a command.
    pub hint: Option<String>,
    /// A pinned Debian package is on no mirror any more: a fresh lock would help.
    pub rotten_pin: bool,
    /// All that is to be written, where another program's form is kept to.
    pub whole: Option<String>,
}

impl Failure {
    /// The build or test failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Failure {
            status: EXIT_FAILED,
            message: message.into(),
            details: None,
            hint: None,
            rotten_pin: false,
            whole: None,
        }
    }

    /// The input or the call is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { status: EXIT_USAGE, ..Failure::failed(message) }
    }

    pub fn interrupted() -> Self {
        Failure { status: EXIT_INTERRUPTED, ..Failure::failed("interrupted") }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Any typed error of a room is a failed command whose text is the error's chain. A machine's error is what it is
/// wherever it comes through: wrong usage, an interruption, or a failure.
impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        match (&error as &(dyn std::error::Error + 'static)).downcast_ref() {
            Some(error) => machines::failure(error),
            None => Failure::failed(chain(&error)),
        }
    }
}

/// An error and its causes in one line, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_fails_with_has_one_status_everywhere() {
        let specification =
            rednix_vm::Error::Specification { machine: "x".to_owned(), message: "too small".to_owned() };
        let missing = rednix_vm::Error::Missing { what: "a thing".to_owned(), how: "get it".to_owned() };
        let unknown = rednix_vm::by_name("xen").err().expect("there is none");
        let cases = [
            (specification, EXIT_USAGE, "too small"),
            (unknown, EXIT_USAGE, "`qemu`"),
            (rednix_vm::Error::Interrupted, EXIT_INTERRUPTED, "interrupted"),
            (missing, EXIT_FAILED, "get it"),
        ];
        for (error, status, text) in cases {
            let failure = Failure::from(error);
            assert_eq!(failure.status, status, "{failure}");
            assert!(failure.message.contains(text), "{failure}");
        }
    }
}
