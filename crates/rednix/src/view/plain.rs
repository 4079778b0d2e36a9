//! Lines for logs and pipes: one when something begins that takes long, one when it ends. Builders' own
//! output is not shown; the tail of a failed one is.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Mutex;

use rednix_events::{Activity, Event, Sink};

use super::text;

#[derive(Default)]
pub struct Plain {
    names: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: HashMap<Activity, String>,
    fetched: u64,
    fetched_bytes: u64,
    fetching: u64,
}

impl Sink for Plain {
    fn emit(&self, event: Event) {
        let lines = self.names.lock().unwrap_or_else(|e| e.into_inner()).lines(&event);
        if lines.is_empty() {
            return;
        }
        let mut error = std::io::stderr().lock();
        for line in lines {
            // A closed standard error must not end the build.
            let _ = writeln!(error, "{line}");
        }
    }
}

impl State {
    fn lines(&mut self, event: &Event) -> Vec<String> {
        if let Some(line) = text::lasting(event) {
            return vec![line];
        }
        match event {
            Event::FetchStarted { id, url, .. } => {
                self.fetching += 1;
                self.names.insert(*id, text::short_url(url).to_owned());
                vec![]
            }
            Event::FetchDone { id, size_bytes, .. } => {
                self.names.remove(id);
                self.fetching = self.fetching.saturating_sub(1);
                self.fetched += 1;
                self.fetched_bytes += size_bytes;
                // Hundreds of small files are told in steps, not one by one.
                if self.fetching == 0 || self.fetched.is_multiple_of(25) {
                    let files = text::count(self.fetched, "file");
                    vec![format!("fetched {files}, {}", text::size(self.fetched_bytes))]
                } else {
                    vec![]
                }
            }
            Event::BuildStarted { id, name, .. } => {
                self.names.insert(*id, name.clone());
                vec![]
            }
            Event::BuildDone { id, duration_ms, .. } => {
                let name = self.names.remove(id).unwrap_or_default();
                // Unpacking a package takes moments; there are a hundred of them.
                if name.starts_with("deb-") {
                    vec![]
                } else {
                    vec![format!("built {name} ({})", text::duration(*duration_ms))]
                }
            }
            Event::BuildFailed { id, message, log_tail } => {
                let name = self.names.remove(id).unwrap_or_default();
                let mut lines = vec![format!("build of {name} failed: {message}")];
                lines.extend(log_tail.iter().map(|line| format!("  | {line}")));
                lines
            }
            Event::MachineStarted { name, .. } => vec![format!("starting machine {name}")],
            _ => vec![],
        }
    }
}
