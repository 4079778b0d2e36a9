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
    let stop = Stop::default();
    config.stop = stop.clone();
    let cancel = interrupt::token()?;
    std::thread::spawn(move || {
        let descriptor = cancel.descriptor();
        let mut polled = [rustix::event::PollFd::new(&descriptor, rustix::event::PollFlags::IN)];
        while !cancel.is_cancelled() {
            let _ = rustix::event::poll(&mut polled, None);
        }
        stop.request();
    });
    Ok(config)
}

/// One of an option's words, as its type spells it.
pub fn word<T: DeserializeOwned>(option: &str, word: &str, allowed: &str) -> Result<T, Failure> {
    serde_json::from_value(serde_json::Value::String(word.to_owned()))
        .map_err(|_| Failure::usage(format!("`{option} {word}`: it takes {allowed}")))
}
