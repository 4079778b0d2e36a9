//! The picture on a terminal: what runs now, redrawn in place a few times a second, above which lasting lines
//! scroll by. Drawing happens on one thread of its own; emitting an event only notes it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use console::{Term, style, truncate_str};
use rednix_events::{Activity, Event, Sink};

use super::text;

const REDRAW_EVERY: Duration = Duration::from_millis(100);
/// Activities shown at once; the rest are counted.
const SHOWN_MAX: usize = 8;

pub struct Live {
    state: Mutex<State>,
    ended: AtomicBool,
    drawer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<Activity, Running>,
    /// Lines to leave above the picture.
    lasting: Vec<String>,
    built: u64,
    builds_planned: u64,
    fetched: u64,
    fetched_bytes: u64,
    fetches_planned: u64,
    evaluating: Option<(String, Instant)>,
}

struct Running {
    kind: Kind,
    name: String,
    since: Instant,
    last_line: String,
}

enum Kind {
    Fetch { done: u64, total: Option<u64> },
    Build,
    Machine,
}

impl Live {
    pub fn start() -> Arc<Live> {
        let live = Arc::new(Live {
            state: Mutex::new(State::default()),
            ended: AtomicBool::new(false),
            drawer: Mutex::new(None),
        });
        let drawn = live.clone();
        let drawer = std::thread::spawn(move || drawn.draw_until_ended());
        *live.drawer.lock().unwrap_or_else(|e| e.into_inner()) = Some(drawer);
        live
    }

    /// Draws the last lasting lines, clears the picture and stops the thread.
    pub fn finish(&self) {
        self.ended.store(true, Ordering::SeqCst);
        let drawer = self.drawer.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(drawer) = drawer {
            drawer.thread().unpark();
            let _ = drawer.join();
        }
    }

    fn draw_until_ended(&self) {
        let term = Term::stderr();
        let mut drawn = 0;
        loop {
            let ended = self.ended.load(Ordering::SeqCst);
            let (lasting, picture) = {
                let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
                let width = usize::from(term.size().1);
                let picture = if ended { vec![] } else { state.picture(width) };
                (std::mem::take(&mut state.lasting), picture)
            };
            if drawn > 0 || !lasting.is_empty() || !picture.is_empty() {
                // The terminal may go away; the work goes on.
                let _ = term.clear_last_lines(drawn);
                for line in lasting.iter().chain(&picture) {
                    let _ = term.write_line(line);
                }
                drawn = picture.len();
            }
            if ended {
                return;
            }
            std::thread::park_timeout(REDRAW_EVERY);
        }
    }
}

impl Sink for Live {
    fn emit(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        state.note(event);
        // While a machine has the terminal nobody draws, and the cursor may be anywhere in a line of the guest's.
        if self.ended.load(Ordering::SeqCst) {
            for line in state.lasting.drain(..) {
                let _ = writeln!(std::io::stderr(), "\r\n{line}");
            }
        }
    }
}

impl State {
    fn note(&mut self, event: Event) {
        if let Some(line) = text::lasting(&event) {
            self.lasting.push(decorate(&event, line));
        }
        let start = |kind, name| Running { kind, name, since: Instant::now(), last_line: String::new() };
        match event {
            Event::EvalStarted { what } => self.evaluating = Some((what, Instant::now())),
            Event::EvalDone { .. } => self.evaluating = None,
            Event::Plan { builds, fetches, .. } => {
                self.builds_planned = self.built + builds;
                self.fetches_planned = self.fetched + fetches;
            }
            Event::FetchStarted { id, url, size_bytes } => {
                let kind = Kind::Fetch { done: 0, total: size_bytes };
                self.running.insert(id, start(kind, text::short_url(&url).to_owned()));
            }
            Event::FetchProgress { id, done_bytes } => {
                if let Some(Running { kind: Kind::Fetch { done, .. }, .. }) = self.running.get_mut(&id) {
                    *done = done_bytes;
                }
            }
            Event::FetchDone { id, size_bytes, .. } => {
                self.running.remove(&id);
                self.fetched += 1;
                self.fetched_bytes += size_bytes;
            }
            Event::FetchFailed { id, .. } => {
                self.running.remove(&id);
            }
            Event::BuildStarted { id, name, .. } => {
                self.running.insert(id, start(Kind::Build, name));
            }
            Event::MachineStarted { id, name, .. } => {
                self.running.insert(id, start(Kind::Machine, name));
            }
            Event::BuildLog { id, line } | Event::MachineOutput { id, line } => {
                if let Some(running) = self.running.get_mut(&id) {
                    running.last_line = line;
                }
            }
            Event::BuildDone { id, duration_ms, .. } => {
                self.built += 1;
                if let Some(done) = self.running.remove(&id)
                    && !done.name.starts_with("deb-")
                {
                    let mark = style("✓").green();
                    self.lasting.push(format!("{mark} {} ({})", done.name, text::duration(duration_ms)));
                }
            }
            Event::BuildFailed { id, message, log_tail } => {
                let name = self.running.remove(&id).map(|r| r.name).unwrap_or_default();
                self.lasting.push(format!("{} build of {name} failed: {message}", style("✗").red()));
                self.lasting.extend(log_tail.iter().map(|line| format!("  {} {line}", style("|").dim())));
            }
            Event::MachineDone { id, .. } => {
                self.running.remove(&id);
            }
            _ => {}
        }
    }

    /// The lines of the picture, each cut to the terminal's width.
    fn picture(&self, width: usize) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((what, since)) = &self.evaluating {
            // A short evaluation leaves the terminal quiet.
            if since.elapsed() > Duration::from_millis(300) {
                lines.push(format!("evaluating {what} {}", elapsed(*since)));
            }
        }
        for running in self.running.values().take(SHOWN_MAX) {
            lines.push(running.line());
        }
        if self.running.len() > SHOWN_MAX {
            lines.push(format!("  … and {} more", self.running.len() - SHOWN_MAX));
        }
        if !self.running.is_empty() {
            let mut parts = Vec::new();
            if self.builds_planned > 0 {
                parts.push(format!("{}/{} built", self.built, self.builds_planned));
            }
            if self.fetches_planned > 0 {
                parts.push(format!(
                    "{}/{} fetched, {}",
                    self.fetched,
                    self.fetches_planned,
                    text::size(self.fetched_bytes)
                ));
            }
            if !parts.is_empty() {
                lines.push(style(parts.join(" · ")).bold().to_string());
            }
        }
        lines.iter().map(|line| truncate_str(line, width.saturating_sub(1), "…").into_owned()).collect()
    }
}

impl Running {
    fn line(&self) -> String {
        let time = elapsed(self.since);
        match &self.kind {
            Kind::Fetch { done, total } => {
                let size = match total {
                    Some(total) => format!("{} of {}", text::size(*done), text::size(*total)),
                    None => text::size(*done),
                };
                format!("  {} {} {size} {}", style("↓").cyan(), self.name, style(time).dim())
            }
            Kind::Build => {
                let line = console::strip_ansi_codes(&self.last_line);
                format!("  {} {} {} {}", style("▸").yellow(), self.name, style(time).dim(), style(line).dim())
            }
            Kind::Machine => format!("  {} {} {}", style("▣").magenta(), self.name, style(time).dim()),
        }
    }
}

fn elapsed(since: Instant) -> String {
    text::duration(since.elapsed().as_millis() as u64)
}

fn decorate(event: &Event, line: String) -> String {
    match event {
        Event::Warning { .. } => style(line).yellow().to_string(),
        _ => line,
    }
}
