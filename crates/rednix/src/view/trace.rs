//! `--trace FILE`: the event stream as a timeline in the trace-event format, which Perfetto and browsers' tracing
//! pages open. One row per build running at a time, one per transfer, one for evaluation. It shows nothing itself.
//!
//! The file is an array written as things happen; the format allows for its end to be missing, so that the trace of
//! a run that was killed can still be opened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use rednix_events::{Activity, Event, Events, Outcome, Sink};
use serde_json::{Value, json};

/// Groups of rows, which the format calls processes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Program = 1,
    Builds = 2,
    Fetches = 3,
    Machines = 4,
}

impl Group {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Group::Program => ("rednix", "evaluation"),
            Group::Builds => ("builds", "worker"),
            Group::Fetches => ("fetches", "transfer"),
            Group::Machines => ("machines", "machine"),
        }
    }
}

/// Writes all events it sees as a trace and passes them on.
pub struct Trace {
    next: Events,
    started: Instant,
    writer: Mutex<Writer<BufWriter<File>>>,
}

impl Trace {
    pub fn create(file: &Path, next: Events) -> io::Result<Trace> {
        let mut out = BufWriter::new(File::create(file)?);
        out.write_all(b"[")?;
        Ok(Trace { next, started: Instant::now(), writer: Mutex::new(Writer::new(out)) })
    }

    /// Ends what still runs and completes the file.
    pub fn finish(&self) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(|e| e.into_inner());
        writer.end(self.started.elapsed().as_micros() as u64);
        match writer.trouble.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Sink for Trace {
    fn emit(&self, event: Event) {
        {
            let mut writer = self.writer.lock().unwrap_or_else(|e| e.into_inner());
            // Taken under the lock, so that times never go back.
            let now = self.started.elapsed().as_micros() as u64;
            writer.note(&event, now);
        }
        self.next.emit(event);
    }
}

struct Running {
    group: Group,
    row: u64,
    in_phase: bool,
}

struct Writer<W: Write> {
    out: W,
    first: bool,
    ended: bool,
    /// The first trouble; told once, at the end: a full disk must not end a build for the sake of its trace.
    trouble: Option<io::Error>,
    running: HashMap<Activity, Running>,
    taken: BTreeSet<(Group, u64)>,
    named: BTreeMap<Group, u64>,
    evaluations: u64,
    fetched_bytes: u64,
}

impl<W: Write> Writer<W> {
    fn new(out: W) -> Self {
        Writer {
            out,
            first: true,
            ended: false,
            trouble: None,
            running: HashMap::new(),
            taken: BTreeSet::new(),
            named: BTreeMap::new(),
            evaluations: 0,
            fetched_bytes: 0,
        }
    }

    fn note(&mut self, event: &Event, now_us: u64) {
        match event {
            Event::EvalStarted { what } => {
                self.name_rows(Group::Program, 0);
                self.evaluations += 1;
                self.begin(Group::Program, 0, "evaluation", &format!("evaluate {what}"), now_us, json!({}));
            }
            Event::EvalDone { .. } if self.evaluations > 0 => {
                self.evaluations -= 1;
                self.end_slice(Group::Program, 0, now_us, json!({}));
            }
            Event::Plan { builds, fetches, fetch_bytes } => self.instant(
                "plan",
                now_us,
                json!({ "builds": builds, "fetches": fetches, "fetch_bytes": fetch_bytes }),
            ),
            Event::BuildStarted { id, name, derivation } => {
                self.start(*id, Group::Builds, "build", name, now_us, json!({ "derivation": derivation }));
            }
            Event::BuildPhase { id, phase } => self.phase(*id, phase, now_us),
            Event::BuildDone { id, outputs, .. } => self.stop(*id, now_us, json!({ "outputs": outputs })),
            Event::BuildFailed { id, message, .. } => self.stop(*id, now_us, json!({ "failed": message })),
            Event::FetchStarted { id, url, size_bytes } => {
                let arguments = json!({ "url": url, "size_bytes": size_bytes });
                self.start(*id, Group::Fetches, "fetch", super::text::short_url(url), now_us, arguments);
            }
            Event::FetchDone { id, size_bytes, .. } => {
                self.stop(*id, now_us, json!({ "size_bytes": size_bytes }));
                self.fetched_bytes += size_bytes;
                self.write(json!({
                    "name": "fetched", "ph": "C", "ts": now_us, "pid": Group::Fetches as u64, "tid": 0,
                    "args": { "bytes": self.fetched_bytes },
                }));
            }
            Event::FetchFailed { id, message } => self.stop(*id, now_us, json!({ "failed": message })),
            Event::MachineStarted { id, name, command } => {
                self.start(
                    *id,
                    Group::Machines,
                    "machine",
                    name,
                    now_us,
                    json!({ "command": command.join(" ") }),
                );
            }
            Event::MachineDone { id, message, .. } => self.stop(*id, now_us, json!({ "message": message })),
            Event::Step { what } => self.instant(what, now_us, json!({})),
            Event::TestDone { name, outcome, message, .. } => {
                let outcome = match outcome {
                    Outcome::Passed => "passed",
                    Outcome::Failed => "failed",
                    Outcome::Skipped => "skipped",
                };
                self.instant(&format!("test {name} {outcome}"), now_us, json!({ "message": message }));
            }
            Event::Warning { message } => self.instant("warning", now_us, json!({ "message": message })),
            _ => {}
        }
    }

    /// Begins an activity on the lowest free row of its group.
    fn start(
        &mut self,
        id: Activity,
        group: Group,
        category: &str,
        name: &str,
        now_us: u64,
        arguments: Value,
    ) {
        let row = (1..).find(|row| !self.taken.contains(&(group, *row))).expect("rows are many");
        if self.running.contains_key(&id) {
            return;
        }
        self.taken.insert((group, row));
        self.name_rows(group, row);
        self.running.insert(id, Running { group, row, in_phase: false });
        self.begin(group, row, category, name, now_us, arguments);
    }

    fn phase(&mut self, id: Activity, phase: &str, now_us: u64) {
        let Some(running) = self.running.get_mut(&id) else { return };
        let (group, row) = (running.group, running.row);
        if std::mem::replace(&mut running.in_phase, true) {
            self.end_slice(group, row, now_us, json!({}));
        }
        self.begin(group, row, "phase", phase, now_us, json!({}));
    }

    fn stop(&mut self, id: Activity, now_us: u64, arguments: Value) {
        let Some(running) = self.running.remove(&id) else { return };
        self.taken.remove(&(running.group, running.row));
        if running.in_phase {
            self.end_slice(running.group, running.row, now_us, json!({}));
        }
        self.end_slice(running.group, running.row, now_us, arguments);
    }

    fn begin(&mut self, group: Group, row: u64, category: &str, name: &str, now_us: u64, arguments: Value) {
        self.write(json!({
            "name": name, "cat": category, "ph": "B", "ts": now_us, "pid": group as u64, "tid": row, "args": arguments,
        }));
    }

    fn end_slice(&mut self, group: Group, row: u64, now_us: u64, arguments: Value) {
        self.write(json!({ "ph": "E", "ts": now_us, "pid": group as u64, "tid": row, "args": arguments }));
    }

    fn instant(&mut self, name: &str, now_us: u64, arguments: Value) {
        self.name_rows(Group::Program, 0);
        self.write(json!({
            "name": name, "ph": "i", "s": "p", "ts": now_us, "pid": Group::Program as u64, "tid": 0, "args": arguments,
        }));
    }

    /// Says once what a row is called.
    fn name_rows(&mut self, group: Group, row: u64) {
        let (process, thread) = group.names();
        let named = self.named.get(&group).copied();
        if named.is_none() {
            self.write(json!({ "name": "process_name", "ph": "M", "pid": group as u64, "tid": 0, "args": { "name": process } }));
        }
        if named.is_some_and(|highest| row <= highest) {
            return;
        }
        self.named.insert(group, row);
        let name = if row == 0 { thread.to_owned() } else { format!("{thread} {row}") };
        self.write(json!({ "name": "thread_name", "ph": "M", "pid": group as u64, "tid": row, "args": { "name": name } }));
    }

    fn write(&mut self, value: Value) {
        if self.ended || self.trouble.is_some() {
            return;
        }
        let comma: &[u8] = if std::mem::take(&mut self.first) { b"\n" } else { b",\n" };
        let text = value.to_string();
        let written = self.out.write_all(comma).and_then(|()| self.out.write_all(text.as_bytes()));
        self.trouble = written.err();
    }

    fn end(&mut self, now_us: u64) {
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            self.stop(id, now_us, json!({ "ended": "with the program" }));
        }
        for _ in 0..std::mem::take(&mut self.evaluations) {
            self.end_slice(Group::Program, 0, now_us, json!({}));
        }
        if !self.ended && self.trouble.is_none() {
            self.trouble = self.out.write_all(b"\n]\n").and_then(|()| self.out.flush()).err();
        }
        self.ended = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The trace of these events, one microsecond apart.
    fn trace(events: &[Event]) -> Vec<Value> {
        let mut writer = Writer::new(b"[".to_vec());
        events.iter().enumerate().for_each(|(at, event)| writer.note(event, at as u64));
        writer.end(events.len() as u64);
        assert!(writer.trouble.is_none());
        serde_json::from_slice(&writer.out).expect("a trace is JSON")
    }

    /// Slices by row, as `name@row from to`; panics where one is not properly inside another.
    fn slices(trace: &[Value]) -> Vec<String> {
        let mut open: BTreeMap<(u64, u64), Vec<(String, u64)>> = BTreeMap::new();
        let (mut slices, mut last) = (Vec::new(), 0);
        for entry in trace {
            let row = (entry["pid"].as_u64().unwrap(), entry["tid"].as_u64().unwrap());
            let Some(time) = entry["ts"].as_u64() else { continue };
            assert!(time >= last, "time goes on");
            last = time;
            match entry["ph"].as_str().unwrap() {
                "B" => open.entry(row).or_default().push((entry["name"].as_str().unwrap().to_owned(), time)),
                "E" => {
                    let (name, from) = open.get_mut(&row).and_then(Vec::pop).expect("what ends has begun");
                    slices.push(format!("{name}@{}.{} {from} {time}", row.0, row.1));
                }
                _ => {}
            }
        }
        assert!(open.values().all(Vec::is_empty), "all that begins ends");
        slices
    }

    fn started(id: u64, name: &str) -> Event {
        Event::BuildStarted { id: Activity(id), name: name.to_owned(), derivation: String::new() }
    }

    fn done(id: u64) -> Event {
        Event::BuildDone { id: Activity(id), duration_ms: 0, outputs: vec![] }
    }

    fn phase(id: u64, phase: &str) -> Event {
        Event::BuildPhase { id: Activity(id), phase: phase.to_owned() }
    }

    #[test]
    fn builds_get_rows_and_give_them_back() {
        let events = [
            Event::EvalStarted { what: "s".to_owned() },
            Event::EvalDone { what: "s".to_owned(), duration_ms: 1 },
            started(1, "a"),
            phase(1, "run"),
            started(2, "b"),
            phase(1, "keep"),
            done(1),
            started(3, "c"),
            done(2),
        ];
        let expected =
            ["evaluate s@1.0 0 1", "run@2.1 3 5", "keep@2.1 5 6", "a@2.1 2 6", "b@2.2 4 8", "c@2.1 7 9"];
        assert_eq!(slices(&trace(&events)), expected);
    }

    #[test]
    fn rows_have_names() {
        let trace = trace(&[started(1, "a"), started(2, "b"), done(1), started(3, "c")]);
        let names: Vec<&str> =
            trace.iter().filter(|e| e["ph"] == "M").map(|e| e["args"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["builds", "worker 1", "worker 2"]);
    }

    proptest! {
        /// Whatever happens in whatever order, the trace is JSON and its slices are properly nested.
        #[test]
        fn any_stream_gives_a_trace(steps in prop::collection::vec((0..8_u8, 0..5_u64), 0..60)) {
            let events: Vec<Event> = steps
                .into_iter()
                .map(|(kind, id)| match kind {
                    0 => started(id, "build \"x\""),
                    1 => done(id),
                    2 => phase(id, "p"),
                    3 => Event::FetchStarted { id: Activity(100 + id), url: "https://h/f".to_owned(), size_bytes: None },
                    4 => Event::FetchDone { id: Activity(100 + id), size_bytes: 1, duration_ms: 1 },
                    5 => Event::EvalStarted { what: "w".to_owned() },
                    6 => Event::EvalDone { what: "w".to_owned(), duration_ms: 1 },
                    _ => Event::BuildFailed { id: Activity(id), message: "m".to_owned(), log_tail: vec![] },
                })
                .collect();
            slices(&trace(&events));
        }
    }
}
