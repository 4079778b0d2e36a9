//! The one error type of the crate: each variant says what failed at which cache, on what object, and what to do. It
//! prints nothing.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::decoders::TooMuchMemory;
use crate::limits::{QUOTED_BYTES_MAX, REASON_BYTES_MAX};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(
        "`{url}` is not the address of a cache: {reason}\n\nhint: http://HOST, https://HOST, s3://BUCKET and file:///FOLDER are"
    )]
    BadAddress { url: String, reason: String },

    /// Not "absent": nothing may be concluded about the path.
    #[error(
        "the cache refuses `{url}` (HTTP {status})\n\nhint: put the user and password (or token) for this host into the netrc file (`netrc-file`)"
    )]
    Denied { url: String, status: u16 },

    /// As `Denied`, by storage that has no netrc.
    #[error(
        "the bucket refuses `{url}`: {reason}\n\nhint: check the credentials (AWS_ACCESS_KEY_ID, or `profile=` and ~/.aws/credentials) and what they may do; where listing is not allowed, absent files are refused, too"
    )]
    Refused { url: String, reason: String },

    #[error("the cache fails at `{url}` (HTTP {status})\n\nhint: try again later, or ask whoever runs it")]
    Server { url: String, status: u16 },

    #[error(
        "the cache has too much to do for `{url}` (HTTP {status}) and asks for {} s\n\nhint: try again then; `rednix cache push --watch` does so by itself", wait.as_secs()
    )]
    Busy { url: String, status: u16, wait: Duration },

    #[error("the cache took longer than {limit_s} s {phase} at `{url}`\n\nhint: is it reachable from here?")]
    TimedOut { url: String, phase: &'static str, limit_s: u64 },

    #[error("cannot reach `{url}`: {reason}\n\nhint: check the address and the proxy")]
    NoRoute { url: String, reason: String },

    #[error(
        "the answer to `{url}` is not understood: {reason}\n\nhint: is it the address of a Nix binary cache?"
    )]
    Protocol { url: String, reason: String },

    #[error(
        "`{what}` is larger than {limit} bytes\n\nhint: nothing of this kind is that large; is it the address of a Nix binary cache?"
    )]
    TooLarge { what: String, limit: u64 },

    #[error(
        "`{url}` breaks off after {got} of {wanted} bytes\n\nhint: try again; what was transferred was not kept"
    )]
    Truncated { url: String, got: u64, wanted: u64 },

    #[error(
        "the cache has an entry for `{path}` and not its archive `{url}`\n\nhint: whoever runs the cache should push the path again"
    )]
    Missing { url: String, path: String },

    #[error(
        "`{url}` is damaged: {reason}\n\nhint: the file at the cache is bad; whoever runs it should remove it and push the path again"
    )]
    Corrupt { url: String, reason: String },

    /// Of one archive; where only others take the memory at the moment, it is waited for.
    #[error(
        "`{url}` is not unpacked: {too_much}\n\nhint: whoever runs the cache should push the path again, compressed with a smaller window (xz -8, zstd -19)"
    )]
    Memory { url: String, too_much: TooMuchMemory },

    #[error(
        "the cache's entry for `{what}` is malformed: {reason}\n\nhint: whoever runs the cache should push the path again"
    )]
    Malformed { what: String, reason: String },

    #[error(
        "`{path}` is not signed by a key that is trusted here (its signatures: {found})\n\nhint: if you trust this cache, add its public key to `trusted-public-keys`"
    )]
    Untrusted { path: String, found: String },

    #[error(
        "`{url}` has other contents than its entry promises for `{path}`: wanted {wanted}, found {found}\n\nhint: do not use this cache until whoever runs it has looked into it"
    )]
    WrongHash { url: String, path: String, wanted: String, found: String },

    #[error(
        "`{url}` unpacks to {found} bytes in place of the {wanted} promised for `{path}`\n\nhint: whoever runs the cache should push the path again"
    )]
    WrongSize { url: String, path: String, wanted: u64, found: String },

    #[error(
        "the cache's entry for `{path}` refers to `{reference}`, which {reason}\n\nhint: whoever runs the cache should push `{path}` with everything it refers to"
    )]
    UnexpectedReference { path: String, reference: String, reason: &'static str },

    #[error(
        "`{what}` is no key: {reason}\n\nhint: `rednix cache keygen NAME` makes one; NAME:BASE64 is what it looks like"
    )]
    BadKey { what: String, reason: String },

    #[error("the cache `{url}` takes nothing\n\nhint: {reason}")]
    NotWritable { url: String, reason: String },

    /// What was sent is the trouble, not whom it was sent to.
    #[error(
        "the cache does not take `{url}`: {reason}\n\nhint: the reason is the cache's own; what was pushed before is there, and the next push goes on from it"
    )]
    NotTaken { url: String, reason: String },

    #[error("cannot {operation} `{}`: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },

    #[error(
        "the cache `{url}` is left alone for a while\n\nhint: it failed a moment ago; is it reachable from here?"
    )]
    Resting { url: String },

    #[error("no cache has `{path}` any more\n\nhint: the build goes on without it")]
    Gone { path: String },

    #[error(
        "`{path}` could not be had from a cache: {reason}\n\nhint: it is built instead where that is possible"
    )]
    NotHad { path: String, reason: String },

    /// Of paths asked for by name, which nothing else can make.
    #[error(
        "no cache has `{path}`; asked: {asked}\n\nhint: is it the right path, and was it pushed there with everything it refers to?"
    )]
    Nowhere { path: String, asked: String },

    #[error("`{path}` could not be pulled: {reason}; asked: {asked}")]
    NotPulled { path: String, reason: String, asked: String },

    #[error("interrupted")]
    Cancelled,

    #[error(transparent)]
    Store(#[from] rednix_store::Error),
}

/// Text from elsewhere for a message: what would act on a terminal is escaped, and of a long one only the beginning told.
pub fn quoted(text: &str) -> String {
    shortened(text, QUOTED_BYTES_MAX)
}

fn shortened(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        if shown.len() >= limit {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_debug());
        } else {
            shown.push(character);
        }
    }
    shown
}

impl Error {
    /// An entry that is not understood, for a reason that may quote it.
    pub fn malformed(what: impl Into<String>, reason: &str) -> Error {
        Error::Malformed { what: what.into(), reason: shortened(reason, REASON_BYTES_MAX) }
    }

    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::Io { operation, path: path.into(), source }
    }

    /// Whether the same question may be answered in a moment.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Error::Server { .. }
                | Error::Busy { .. }
                | Error::TimedOut { .. }
                | Error::NoRoute { .. }
                | Error::Truncated { .. }
        )
    }

    /// Whether it is about what was to be sent, so that other paths may well be taken.
    pub fn is_about_one_path(&self) -> bool {
        match self {
            Error::NotTaken { .. } | Error::TooLarge { .. } => true,
            // Too large, or there is no room for this one.
            Error::NotWritable { reason, .. } => {
                ["HTTP 413", "HTTP 507"].iter().any(|no| reason.starts_with(no))
            }
            // Damaged, or gone.
            Error::Store(error) => {
                matches!(
                    error,
                    rednix_store::Error::HashMismatch { .. } | rednix_store::Error::Unstorable { .. }
                ) || error.is_not_found()
            }
            _ => false,
        }
    }

    /// Whether the cache as a whole is of no use at the moment, whatever is asked.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Error::Server { .. }
                | Error::Busy { .. }
                | Error::TimedOut { .. }
                | Error::NoRoute { .. }
                | Error::Denied { .. }
                | Error::Refused { .. }
        )
    }

    /// The first line: what happened, without what to do.
    pub fn brief(&self) -> String {
        self.to_string().lines().next().unwrap_or_default().to_owned()
    }
}
