//! What the machine room needs to know of this host, and the words of its options.

use rednix_vm::{Config, Stop};
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::interrupt;
use crate::session::Session;

pub fn config(session: &Session) -> Result<Config, Failure> {
    let scratch = session.cache_folder("machines")?;
    let logs = session.cache_folder("console-logs")?;
    let mut config = Config::new(session.config.path.clone(), scratch, logs);
    config.cache_folder = Some(session.cache_folder("acceleration")?);
    config.firmware = session.config.firmware.clone();
    interrupt::token()?;
    config.stop = Stop::new(interrupt::flag());
    Ok(config)
}

/// One of an option's words, as its type spells it.
pub fn word<T: DeserializeOwned>(option: &str, word: &str, allowed: &str) -> Result<T, Failure> {
    serde_json::from_value(serde_json::Value::String(word.to_owned()))
        .map_err(|_| Failure::usage(format!("`{option} {word}`: it takes {allowed}")))
}
