//! What a cache was found not to have, remembered for a while, also between runs. A lost or torn file costs questions
//! and nothing else.
//!
//! The file: a line `rednix-absent 1`, then `<seconds since 1970> <place>` per answer; 0 where it was found later.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::limits::{ABSENT_ENTRIES_MAX, ABSENT_FOR};

const HEADER: &str = "rednix-absent 1\n";
/// One entry's length at most, with room to spare.
const ENTRY_BYTES_MAX: usize = 512;

/// Places a cache has nothing at.
#[derive(Default)]
pub struct Absent {
    state: Mutex<State>,
    path: Option<PathBuf>,
}

#[derive(Default)]
struct State {
    known: HashMap<String, u64>,
    loaded: bool,
    file: Option<File>,
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

impl Absent {
    /// With a file where the answers should outlive the process.
    pub fn new(path: Option<PathBuf>) -> Absent {
        Absent { state: Mutex::default(), path }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut state.loaded, true)
            && let Some(path) = &self.path
        {
            state.load(path);
        }
        state
    }

    pub fn contains(&self, place: &str) -> bool {
        let now = now_s();
        // A clock that was set back must not make an answer immortal.
        self.state().known.get(place).is_some_and(|&at| at <= now && now - at < ABSENT_FOR.as_secs())
    }

    /// Where it was found after all: older lines of the file count no more.
    pub fn remove(&self, place: &str) {
        let mut state = self.state();
        if state.known.remove(place).is_some()
            && let Some(file) = &mut state.file
        {
            let _ = file.write_all(format!("0 {place}\n").as_bytes());
        }
    }

    pub fn insert(&self, place: &str) {
        if place.len() > ENTRY_BYTES_MAX / 2 || place.contains(['\n', ' ']) {
            return;
        }
        let (mut state, now) = (self.state(), now_s());
        if state.known.len() < ABSENT_ENTRIES_MAX {
            state.known.insert(place.to_owned(), now);
        }
        if let Some(file) = &mut state.file {
            // One write, so that lines of two processes do not mix.
            let _ = file.write_all(format!("{now} {place}\n").as_bytes());
        }
    }
}

impl State {
    fn load(&mut self, path: &PathBuf) {
        if let Some(folder) = path.parent() {
            let _ = std::fs::create_dir_all(folder);
        }
        let open = || OpenOptions::new().read(true).append(true).create(true).open(path).ok();
        let Some(mut file) = open() else { return };
        let mut text = String::new();
        let limit = (ABSENT_ENTRIES_MAX * ENTRY_BYTES_MAX) as u64;
        let read = (&mut file).take(limit).read_to_string(&mut text).is_ok();
        let now = now_s();
        let fresh = text.strip_prefix(HEADER).filter(|_| read).into_iter().flat_map(str::lines);
        for line in fresh.filter(|_| text.len() < limit as usize / 4) {
            let Some((at, place)) = line.split_once(' ') else { continue };
            let Ok(at) = at.parse::<u64>() else { continue };
            if at <= now && now - at < ABSENT_FOR.as_secs() {
                self.known.insert(place.to_owned(), at);
            } else {
                self.known.remove(place);
            }
        }
        // Mostly stale, of another version, or new: begun anew with what still counts.
        if text.lines().count() > 2 * self.known.len() + 1000 || !text.starts_with(HEADER) {
            let mut text = HEADER.to_owned();
            for (place, at) in &self.known {
                text.push_str(&format!("{at} {place}\n"));
            }
            if std::fs::write(path, text).is_err() {
                return;
            }
        }
        self.file = Some(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_outlive_the_process_and_not_their_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        Absent::new(Some(path.clone())).insert("x.narinfo");
        let again = Absent::new(Some(path.clone()));
        assert!(again.contains("x.narinfo") && !again.contains("y.narinfo"));

        let old = now_s() - ABSENT_FOR.as_secs() - 1;
        let late = now_s() + 10_000;
        std::fs::write(&path, format!("{HEADER}{old} old\n{late} late\nnonsense\n{} new\n", now_s()))
            .unwrap();
        let again = Absent::new(Some(path.clone()));
        assert!(again.contains("new") && !again.contains("old") && !again.contains("late"));
        std::fs::write(&path, b"rednix-absent 2\n\xff").unwrap();
        let again = Absent::new(Some(path.clone()));
        assert!(!again.contains("new"));
        again.insert("new");
        let again = Absent::new(Some(path.clone()));
        assert!(again.contains("new"));
        again.remove("new");
        assert!(!again.contains("new") && !Absent::new(Some(path)).contains("new"));
    }
}
