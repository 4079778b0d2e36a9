//! What can be wrong with a reference, a lock file or a flake.

/// Messages are worded as C++ Nix words them where it has the same error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlakeError {
    /// The text is no address. What is no address may still be a path.
    #[error("{0}")]
    BadUrl(String),
    /// An address or set of attributes that names no source rednix knows.
    #[error("{0}")]
    Input(String),
    /// The lock file cannot be read, or contradicts itself.
    #[error("{0}")]
    Lock(String),
    /// `flake.nix` says something a flake cannot say, or inputs do not fit together.
    #[error("{0}")]
    Flake(String),
    /// What was fetched is not what was locked.
    #[error("{0}")]
    Mismatch(String),
    /// Fetching or evaluating failed; already worded for the user.
    #[error("{0}")]
    Outside(String),
}

impl FlakeError {
    /// The same error with what was being done around it.
    pub fn context(self, doing: impl std::fmt::Display) -> FlakeError {
        let with = |message: String| match message.split_once("\n\nhint: ") {
            Some((message, hint)) => format!("{message}\n  {doing}\n\nhint: {hint}"),
            None => format!("{message}\n  {doing}"),
        };
        match self {
            FlakeError::BadUrl(m) => FlakeError::BadUrl(with(m)),
            FlakeError::Input(m) => FlakeError::Input(with(m)),
            FlakeError::Lock(m) => FlakeError::Lock(with(m)),
            FlakeError::Flake(m) => FlakeError::Flake(with(m)),
            FlakeError::Mismatch(m) => FlakeError::Mismatch(with(m)),
            FlakeError::Outside(m) => FlakeError::Outside(with(m)),
        }
    }
}
