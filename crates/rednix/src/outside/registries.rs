//! The registries of this user: rednix's own file, then those C++ Nix would read. None is fetched.

use std::cell::OnceCell;
use std::path::PathBuf;

use rednix_events::{Event, Events};
use rednix_flake::Registry;

pub struct Files {
    /// rednix's own file comes first.
    files: Vec<PathBuf>,
    read: OnceCell<Vec<Registry>>,
}

impl Files {
    pub fn new(files: Vec<PathBuf>) -> Files {
        Files { files, read: OnceCell::new() }
    }

    pub fn all(&self, events: &Events) -> Vec<Registry> {
        let read = |file: &PathBuf| {
            let text = std::fs::read_to_string(file).ok()?;
            match Registry::parse(&text, &file.display().to_string()) {
                Ok(registry) => Some(registry),
                Err(error) => {
                    events.emit(Event::Notice { message: format!("warning: {error}") });
                    None
                }
            }
        };
        self.read
            .get_or_init(|| self.files.iter().map(|file| read(file).unwrap_or_default()).collect())
            .clone()
    }

    /// What flakes of others may be resolved by: only what the user told rednix.
    pub fn limited(&self, events: &Events) -> Vec<Registry> {
        self.all(events).into_iter().take(1).collect()
    }
}
