//! `rednix cache`: this store as a binary cache, and what goes to others.

mod pull;
mod push;
mod serve;

use std::io::Read;

use rednix_cache::SecretKey;

use crate::cli::CacheCommand;
use crate::failure::Failure;
use crate::session::Session;
use crate::substituting;

use super::print;

pub fn run(session: &Session, command: &CacheCommand) -> Result<(), Failure> {
    match command {
        CacheCommand::Serve(arguments) => serve::run(session, arguments),
        CacheCommand::Pull(arguments) => pull::run(session, arguments),
        CacheCommand::Push(arguments) => push::run(session, arguments),
        CacheCommand::Keygen { name } => keygen(session, name),
    }
}

/// A new key; nothing of it is kept here.
fn keygen(session: &Session, name: &str) -> Result<(), Failure> {
    let is_name = |c: char| !c.is_whitespace() && !c.is_control() && c != ':';
    if name.is_empty() || !name.chars().all(is_name) {
        let message = format!("`{}` is no name for a key", name.escape_debug());
        return Err(Failure::usage(message).hint("NAME is one word without a `:`, such as `team-1`"));
    }
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut seed))
        .map_err(|error| Failure::failed(format!("cannot read random bytes from `/dev/urandom`: {error}")))?;
    let key = SecretKey::from_seed(name, seed).map_err(|error| substituting::usage(&error))?;
    session.view.finish();
    print(&format!("{}\n", key.to_text()))?;
    eprintln!("the public key, for `trusted-public-keys`: {}", key.public());
    Ok(())
}
