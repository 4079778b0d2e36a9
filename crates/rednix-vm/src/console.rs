//! The guest's console as text: escape sequences removed, kept for matching, logged and shown raw, sent as events line
//! by line. It does not know what the text means, the loader's menu excepted.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rednix_events::{Activity, Event, Events};

use crate::limits::{CONSOLE_LINE_MAX, CONSOLE_POLL, CONSOLE_TEXT_MAX, ESCAPE_MAX, STOP_POLL};
use crate::menu::Menu;
use crate::process::readable;
use crate::runner::Stop;

/// Turns terminal output into plain text, across reads that split anything anywhere.
#[derive(Debug, Default)]
pub struct Plain {
    state: State,
    /// Bytes of an unfinished UTF-8 character.
    partial: Vec<u8>,
    escape_length: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// After `ESC [`, until a byte of 0x40 to 0x7e.
    Control,
    /// After `ESC ]`, `ESC P` and the like, until BEL or `ESC \`.
    Command,
    CommandEscape,
    /// After `ESC (` and the like: one more byte.
    Charset,
}

impl Plain {
    /// Appends the text of `bytes` to `text`. Line feeds and tabs stay, other control characters go.
    pub fn feed(&mut self, bytes: &[u8], text: &mut String) {
        for &byte in bytes {
            self.escape_length = if self.state == State::Text { 0 } else { self.escape_length + 1 };
            if self.escape_length > ESCAPE_MAX {
                self.state = State::Text;
            }
            self.state = match (self.state, byte) {
                (State::Text, 0x1b) => State::Escape,
                (State::Text, _) => {
                    self.text_byte(byte, text);
                    State::Text
                }
                (State::Escape, b'[') => State::Control,
                (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::Command,
                (State::Escape, b'(' | b')' | b'*' | b'+' | b'#' | b'%' | b' ') => State::Charset,
                (State::Escape, 0x1b) => State::Escape,
                (State::Control, 0x40..=0x7e) => State::Text,
                (State::Control, 0x1b) => State::Escape,
                (State::Control, _) => State::Control,
                (State::Command, 0x07) => State::Text,
                (State::Command, 0x1b) => State::CommandEscape,
                (State::Command, _) => State::Command,
                (State::CommandEscape, b'\\') => State::Text,
                (State::CommandEscape, 0x1b) => State::CommandEscape,
                (State::CommandEscape, _) => State::Command,
                (State::Charset | State::Escape, _) => State::Text,
            };
        }
    }

    fn text_byte(&mut self, byte: u8, text: &mut String) {
        if byte.is_ascii() && self.partial.is_empty() {
            if byte == b'\n' || byte == b'\t' || (byte >= 0x20 && byte != 0x7f) {
                text.push(byte.into());
            }
            return;
        }
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(character) => text.push_str(character),
            Err(error) if error.error_len().is_none() => return,
            Err(_) => {
                text.push('\u{fffd}');
                // An ASCII byte after a broken character is text again.
                if byte.is_ascii() {
                    self.partial.clear();
                    return self.text_byte(byte, text);
                }
            }
        }
        self.partial.clear();
    }
}

/// What the reader thread has seen so far.
#[derive(Debug, Default)]
struct Seen {
    /// The last text, at most `CONSOLE_TEXT_MAX` bytes.
    text: String,
    /// Bytes of text dropped from the front.
    dropped: usize,
    ended: bool,
}

/// Where a console's bytes go as they are.
#[derive(Debug, Default)]
struct Raw {
    log: Option<File>,
    /// Somebody's screen.
    shown: Option<File>,
}

impl Raw {
    fn write(&mut self, bytes: &[u8]) {
        // A full disk must not end the machine; the text in memory is still matched.
        if let Some(log) = &mut self.log {
            let _ = log.write_all(bytes);
        }
        // Nor does a screen that is gone: the guest must not stand still for that.
        if self.shown.as_mut().is_some_and(|shown| shown.write_all(bytes).is_err()) {
            self.shown = None;
        }
    }
}

/// What becomes of a console beside its text in memory.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    pub log: Option<File>,
    pub shown: Option<File>,
    /// The loader's menu is answered by typing here; none: menus are counted.
    pub keyboard: Option<File>,
}

/// A console being read by its own thread.
#[derive(Clone, Debug)]
pub struct Transcript {
    shared: Arc<(Mutex<Seen>, Condvar)>,
    raw: Arc<Mutex<Raw>>,
    menus: Arc<AtomicUsize>,
}

/// How a wait for text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The position just after the match, for the next wait.
    At(usize),
    /// The index of the forbidden pattern that appeared.
    Forbidden(usize),
    Ended,
    TimedOut,
    Stopped,
}

impl Transcript {
    /// Reads `source` to its end in a new thread; every line is an event, where somebody wants them.
    pub(crate) fn start(
        mut source: File,
        ways: Ways,
        events: Option<(Events, Activity)>,
    ) -> (Self, std::thread::JoinHandle<()>) {
        let Ways { log, shown, mut keyboard } = ways;
        let raw = Arc::new(Mutex::new(Raw { log, shown }));
        let transcript = Transcript { shared: Arc::default(), raw: raw.clone(), menus: Arc::default() };
        let (shared, menus) = (transcript.shared.clone(), transcript.menus.clone());
        let thread = std::thread::spawn(move || {
            let mut plain = Plain::default();
            let mut menu = Menu::default();
            let mut line = String::new();
            let mut buffer = [0; 16 << 10];
            loop {
                let count = match source.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        let _ = readable(source.as_fd(), CONSOLE_POLL);
                        continue;
                    }
                    Err(_) => break,
                };
                raw.lock().expect("no holder panics").write(&buffer[..count]);
                match (menu.feed(&buffer[..count]), &mut keyboard) {
                    (0, _) => {}
                    (_, Some(keyboard)) => drop(keyboard.write_all(b"\r")),
                    (count, None) => drop(menus.fetch_add(count, Ordering::Relaxed)),
                }
                let mut text = String::new();
                plain.feed(&buffer[..count], &mut text);
                if let Some((events, id)) = &events {
                    emit_lines(&text, &mut line, events, *id);
                }
                let mut seen = shared.0.lock().expect("no holder panics");
                seen.text.push_str(&text);
                trim(&mut seen);
                shared.1.notify_all();
            }
            if let Some((events, id)) = events.filter(|_| !line.is_empty()) {
                events.emit(Event::MachineOutput { id, line });
            }
            shared.0.lock().expect("no holder panics").ended = true;
            shared.1.notify_all();
        });
        (transcript, thread)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.shared.0.lock().expect("no holder panics")
    }

    /// Shows what the log has, and from then on everything that comes.
    pub fn show(&self, log: &Path, mut screen: File) {
        // Nothing comes between the log's end and the rest: whoever reads the console waits for us.
        let mut raw = self.raw.lock().expect("no holder panics");
        let before = std::fs::read(log).unwrap_or_default();
        raw.shown = screen.write_all(&before).is_ok().then_some(screen);
    }

    pub fn hide(&self) {
        self.raw.lock().expect("no holder panics").shown = None;
    }

    /// Menus of the loader that nobody has answered; they count as answered then.
    pub(crate) fn take_menus(&self) -> usize {
        self.menus.swap(0, Ordering::Relaxed)
    }

    /// Waits until everything was read, or as long as that; a screen that takes nothing must not keep us from ending.
    pub(crate) fn finish(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut seen = self.lock();
        while !seen.ended && Instant::now() < deadline {
            seen = self.shared.1.wait_timeout(seen, STOP_POLL).expect("no holder panics").0;
        }
    }

    /// Waits until `wanted` finds something at or after `from`. `wanted` and `forbidden` answer the end of their
    /// match in the text given to them. Forbidden text is looked for from `forbidden_from` on.
    pub fn wait(
        &self,
        from: usize,
        wanted: &dyn Fn(&str) -> Option<usize>,
        forbidden: &[&dyn Fn(&str) -> Option<usize>],
        deadline: Instant,
        stop: &Stop,
    ) -> Found {
        let mut seen = self.lock();
        let mut searched = None;
        loop {
            let end = seen.dropped + seen.text.len();
            // Only look again when there is something new.
            if searched != Some(end) {
                searched = Some(end);
                let start = from.saturating_sub(seen.dropped).min(seen.text.len());
                let text = &seen.text[start..];
                let bad = forbidden.iter().position(|pattern| pattern(&seen.text).is_some());
                if let Some(index) = bad {
                    return Found::Forbidden(index);
                }
                if let Some(length) = wanted(text) {
                    return Found::At(seen.dropped + start + length);
                }
            }
            let now = Instant::now();
            match (seen.ended, now >= deadline, stop.requested()) {
                (true, _, _) => return Found::Ended,
                (_, true, _) => return Found::TimedOut,
                (_, _, true) => return Found::Stopped,
                _ => {}
            }
            let pause = deadline.saturating_duration_since(now).min(STOP_POLL).max(Duration::from_millis(1));
            seen = self.shared.1.wait_timeout(seen, pause).expect("no holder panics").0;
        }
    }

    /// The last `lines` lines.
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let seen = self.lock();
        let all: Vec<&str> = seen.text.lines().collect();
        all[all.len().saturating_sub(lines)..].iter().map(|&line| line.to_owned()).collect()
    }
}

fn emit_lines(text: &str, line: &mut String, events: &Events, id: Activity) {
    for piece in text.split_inclusive('\n') {
        if line.len() < CONSOLE_LINE_MAX {
            line.push_str(piece.trim_end_matches('\n'));
        }
        if piece.ends_with('\n') {
            events.emit(Event::MachineOutput { id, line: std::mem::take(line) });
        }
    }
}

fn trim(seen: &mut Seen) {
    if seen.text.len() > CONSOLE_TEXT_MAX {
        let mut cut = seen.text.len() - CONSOLE_TEXT_MAX / 2;
        while !seen.text.is_char_boundary(cut) {
            cut += 1;
        }
        seen.text.drain(..cut);
        seen.dropped += cut;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(bytes: &[u8]) -> String {
        let mut text = String::new();
        Plain::default().feed(bytes, &mut text);
        text
    }

    #[test]
    fn escapes_and_controls_go() {
        let cases: [(&[u8], &str); 10] = [
            (b"plain\r\n", "plain\n"),
            (b"\x1b[2J\x1b[01;01H\x1b[0m\x1b[35mBdsDxe\x1b[0m: loading", "BdsDxe: loading"),
            (b"\x1b]0;title\x07text", "text"),
            (b"\x1b]0;title\x1b\\text", "text"),
            (b"\x1b(Bline\x1b=x", "linex"),
            (b"a\x08b\x00c\x7f", "abc"),
            ("é✓".as_bytes(), "é✓"),
            (b"\xff\xfeok", "\u{fffd}\u{fffd}ok"),
            (b"\xc3x", "\u{fffd}x"),
            (b"\x1b[?2004h# \x1b[K", "# "),
        ];
        for (bytes, expected) in cases {
            assert_eq!(plain(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn an_endless_escape_does_not_swallow_the_console() {
        let mut bytes = b"\x1b]".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 1000));
        bytes.extend_from_slice(b"END");
        assert!(plain(&bytes).ends_with("END"));
    }

    proptest! {
        #[test]
        fn where_reads_split_does_not_matter(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select("\x1b[]()\\\x07Hm;é".as_bytes().to_vec())], 0..300), cut: prop::sample::Index) {
            let cut = cut.index(bytes.len() + 1);
            let mut text = String::new();
            let mut reader = Plain::default();
            reader.feed(&bytes[..cut], &mut text);
            reader.feed(&bytes[cut..], &mut text);
            prop_assert_eq!(text, plain(&bytes));
        }
    }
}
