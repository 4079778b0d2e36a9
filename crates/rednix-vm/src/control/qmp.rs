//! QEMU's machine protocol (QMP), one JSON object per line. A thread reads the socket; the machine runs whether or not
//! anybody answers. It does not decide what to send.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Control, Request};

use crate::error::{Error, Result};
use crate::limits::{CONTROL_LINE_MAX, CONTROL_TIMEOUT};

#[derive(Default)]
struct State {
    greeted: bool,
    ended: bool,
    shutdown: Option<String>,
    replies: VecDeque<Value>,
}

/// One connected socket. Commands are answered in order.
pub struct Qmp {
    stream: UnixStream,
    shared: Arc<(Mutex<State>, Condvar)>,
    next: u64,
}

impl Qmp {
    /// A pair: ours, and the end the monitor inherits.
    pub fn pair() -> Result<(Qmp, UnixStream)> {
        let fail = |error: std::io::Error| Error::Control(format!("cannot be made: {error}"));
        let (ours, theirs) = UnixStream::pair().map_err(fail)?;
        ours.set_write_timeout(Some(CONTROL_TIMEOUT)).map_err(fail)?;
        let control = Qmp { stream: ours.try_clone().map_err(fail)?, shared: Arc::default(), next: 0 };
        let (shared, mut writer) = (control.shared.clone(), ours.try_clone().map_err(fail)?);
        std::thread::spawn(move || {
            read_all(ours, &mut writer, &shared);
            shared.0.lock().expect("no holder panics").ended = true;
            shared.1.notify_all();
        });
        Ok((control, theirs))
    }

    /// Runs one command and answers what it returns.
    pub fn command(&mut self, name: &str, arguments: Value) -> Result<Value> {
        self.next += 1;
        let id = self.next;
        let mut line = json!({ "execute": name, "arguments": arguments, "id": id }).to_string();
        line.push('\n');
        let deadline = Instant::now() + CONTROL_TIMEOUT;
        let mut state = self.shared.0.lock().expect("no holder panics");
        while !state.greeted && !state.ended && Instant::now() < deadline {
            state = self.shared.1.wait_timeout(state, Duration::from_millis(20)).expect("no holder panics").0;
        }
        if !state.greeted {
            return Err(Error::Control(format!("`{name}`: the monitor does not answer")));
        }
        self.stream
            .write_all(line.as_bytes())
            .map_err(|error| Error::Control(format!("`{name}`: {error}")))?;
        loop {
            if let Some(at) = state.replies.iter().position(|reply| reply["id"] == id) {
                let reply = state.replies.remove(at).unwrap_or_default();
                return match reply.get("error") {
                    Some(error) => Err(Error::Control(format!(
                        "`{name}`: {}",
                        error["desc"].as_str().unwrap_or("refused")
                    ))),
                    None => Ok(reply["return"].clone()),
                };
            }
            if state.ended || Instant::now() >= deadline {
                return Err(Error::Control(format!("`{name}`: no answer")));
            }
            state = self.shared.1.wait_timeout(state, Duration::from_millis(20)).expect("no holder panics").0;
        }
    }
}

impl Control for Qmp {
    fn has_machine(&self) -> bool {
        self.shared.0.lock().expect("no holder panics").greeted
    }

    fn end_reason(&self) -> Option<String> {
        let deadline = Instant::now() + CONTROL_TIMEOUT;
        let mut state = self.shared.0.lock().expect("no holder panics");
        while !state.ended && Instant::now() < deadline {
            state = self.shared.1.wait_timeout(state, Duration::from_millis(20)).expect("no holder panics").0;
        }
        state.shutdown.clone()
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<()> {
        let (name, arguments) = match request {
            Request::Quit => ("quit", json!({})),
            Request::PowerButton => ("system_powerdown", json!({})),
            Request::Reset => ("system_reset", json!({})),
            Request::Pause => ("stop", json!({})),
            Request::Resume => ("cont", json!({})),
            Request::Press(keys) => {
                let keys: Vec<Value> =
                    keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
                ("send-key", json!({ "keys": keys }))
            }
            Request::Screenshot(file) => ("screendump", json!({ "filename": file, "format": "png" })),
            Request::Memory { address, length, file } => {
                ("pmemsave", json!({ "val": address, "size": length, "filename": file }))
            }
            Request::Save(..) => return Err(super::cannot("QEMU", request)),
        };
        self.command(name, arguments).map(|_| ())
    }
}

fn read_all(stream: UnixStream, writer: &mut UnixStream, shared: &(Mutex<State>, Condvar)) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(CONTROL_LINE_MAX as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let Ok(message) = serde_json::from_slice::<Value>(&line) else { continue };
        if message.get("QMP").is_some() {
            // The protocol wants one exchange before anything else.
            if writer.write_all(b"{\"execute\":\"qmp_capabilities\",\"id\":0}\n").is_err() {
                return;
            }
            continue;
        }
        let mut state = shared.0.lock().expect("no holder panics");
        match (message["event"].as_str(), message["id"].as_u64()) {
            (Some("SHUTDOWN"), _) => state.shutdown = message["data"]["reason"].as_str().map(str::to_owned),
            (Some(_), _) => {}
            (None, Some(0)) => state.greeted = true,
            (None, Some(_)) => state.replies.push_back(message),
            (None, None) => {}
        }
        shared.1.notify_all();
    }
}
