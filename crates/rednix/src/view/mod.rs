//! Views of the event stream: plain lines, a live picture on terminals, JSON lines. The only place of the
//! program that writes to standard error while work goes on.

mod live;
mod plain;
mod text;
mod trace;

pub use text::{count, size};

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use rednix_events::{Event, Events, Sink};

use crate::cli::LogFormat;

/// A view and the way to end it: `finish` must come before anything else is written to the terminal.
pub struct View {
    pub events: Events,
    live: Option<Arc<live::Live>>,
    trace: Option<Arc<trace::Trace>>,
}

impl View {
    /// Chooses by `--log-format`, else by what standard error is.
    pub fn new(format: Option<LogFormat>) -> View {
        let terminal =
            std::io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|t| t != "dumb");
        match format.unwrap_or(if terminal { LogFormat::Live } else { LogFormat::Plain }) {
            LogFormat::Plain => View { events: Arc::new(plain::Plain::default()), live: None, trace: None },
            LogFormat::Json => View { events: Arc::new(Json), live: None, trace: None },
            LogFormat::Live => {
                let live = live::Live::start();
                View { events: live.clone(), live: Some(live), trace: None }
            }
        }
    }

    /// Writes a trace to `file` too, from now on.
    pub fn with_trace(mut self, file: &std::path::Path) -> std::io::Result<View> {
        let trace = Arc::new(trace::Trace::create(file, self.events.clone())?);
        self.events = trace.clone();
        self.trace = Some(trace);
        Ok(self)
    }

    /// Completes the trace, if one is written.
    pub fn finish_trace(&self) -> std::io::Result<()> {
        self.trace.as_ref().map_or(Ok(()), |trace| trace.finish())
    }

    /// Clears the live picture; what was lasting stays.
    pub fn finish(&self) {
        if let Some(live) = &self.live {
            live.finish();
        }
    }
}

/// One JSON object a line, as `Event` serialises.
struct Json;

impl Sink for Json {
    fn emit(&self, event: Event) {
        let mut line = serde_json::to_vec(&event).expect("events hold only text and numbers");
        line.push(b'\n');
        // A closed standard error must not end the build.
        let _ = std::io::stderr().lock().write_all(&line);
    }
}
