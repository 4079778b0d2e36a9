//! One file per command. Each takes its arguments and a session, and prints only its results.

mod attend;
pub mod build;
pub mod cache;
pub mod cargo;
pub mod diff;
pub mod doctor;
pub mod eval;
pub mod flake;
pub mod fmt;
pub mod gc;
pub mod image;
pub mod lock;
pub mod log;
pub mod nix_instantiate;
pub mod push;
pub mod rebuild;
pub mod repl;
pub mod repo;
pub mod run;
pub mod shell;
pub mod store;
mod subject;
pub mod test;
pub mod tree;
pub mod update;
pub mod verify;
pub mod why;
pub mod why_rebuild;
pub mod work;

use std::io::Write;

use crate::failure::Failure;

/// Writes results to standard output. A reader that went away ends the program quietly.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// The same for what need not be UTF-8.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| Failure::failed(format!("cannot write to standard output: {e}"))),
    }
}
