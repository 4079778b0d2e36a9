//! A plain tree of data, as read from JSON or TOML. It is not a value of the language: no thunks, no contexts.

/// Data of a JSON or TOML document. Strings and keys are bytes, as in the language.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(Vec<u8>),
    List(Vec<Tree>),
    /// Keys are unique; their order is not told.
    Table(Vec<(Vec<u8>, Tree)>),
    /// A TOML date, time or both, in RFC 3339 form.
    Timestamp(String),
}
