//! The guest's console as text: escape sequences removed, kept for matching, logged and shown raw, sent as events line
//! by line. It does not know what the text means, the loader's menu excepted.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rednix_events::{Activity, Event, Events};

use crate::limits::{
    CONSOLE_LINE_MAX, CONSOLE_LOG_MAX, CONSOLE_POLL, CONSOLE_SHOWN_MAX, CONSOLE_TEXT_MAX, ESCAPE_MAX,
    LOOK_PAUSE, STOP_POLL,
};
use crate::menu::Menu;
use crate::process::{readable, writable};
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
    /// Appends the text of `bytes` to `text`. Line feeds and tabs stay; other control characters, and those that turn the
    /// direction of text around, go.
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
            Ok(characters) => text.extend(characters.chars().filter(|&one| is_plain(one))),
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

/// Whether a character from a guest may be shown to somebody: it neither controls a terminal (C0, DEL, C1) nor makes text
/// look like other text by its direction.
pub(crate) fn is_plain(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    matches!(character, '\n' | '\t') || !(character.is_control() || turns)
}

/// What is looked for on a console: the end of its match in a text, of which everything before the position was given in
/// an earlier look, without a match.
pub type Look<'l> = dyn Fn(&str, usize) -> Option<usize> + 'l;

/// What a wait is for: a text at or after a position, and how far it was looked for in earlier pieces of the wait.
pub struct Wanted<'w> {
    pub from: usize,
    pub look: &'w Look<'w>,
    pub searched: usize,
}

impl<'w> Wanted<'w> {
    pub fn new(from: usize, look: &'w Look<'w>) -> Self {
        Wanted { from, look, searched: from }
    }
}

/// Texts that must not appear, and how far a console was looked through for them.
pub struct Forbidden<'f> {
    pub looks: &'f [&'f Look<'f>],
    pub searched: &'f mut usize,
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

/// A console's bytes in a file, up to a limit.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    /// Bytes that it still takes.
    room: u64,
}

impl Log {
    pub fn new(file: File) -> Self {
        Log { file, room: CONSOLE_LOG_MAX }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.room == 0 {
            return;
        }
        let some = &bytes[..bytes.len().min(usize::try_from(self.room).unwrap_or(usize::MAX))];
        self.room -= some.len() as u64;
        // A full disk must not end the machine; the text in memory is still matched.
        let _ = self.file.write_all(some);
        if self.room == 0 {
            let _ = self.file.write_all(CUT.as_bytes());
        }
    }
}

/// The last line of a log that has no room for more.
const CUT: &str = "\n[rednix: the console said more, which is not kept]\n";

/// Where a console's bytes go as they are.
#[derive(Debug, Default)]
struct Raw {
    log: Option<Log>,
    /// Somebody's screen.
    shown: Option<File>,
}

impl Raw {
    /// False when the screen has just been found to be gone.
    fn write(&mut self, bytes: &[u8]) -> bool {
        if let Some(log) = &mut self.log {
            log.write(bytes);
        }
        // The guest must not stand still for a screen that takes nothing more.
        match self.shown.as_mut().map(|shown| show_all(shown, bytes)) {
            None | Some(Ok(())) => true,
            Some(Err(error)) => {
                self.shown = None;
                !is_gone(&error)
            }
        }
    }
}

/// Writes everything, also where somebody else has made the terminal one that does not wait.
fn show_all(screen: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match screen.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                writable(screen.as_fd(), CONSOLE_POLL)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether nobody is at the other end any more. Other errors, such as a full disk, may pass.
fn is_gone(error: &io::Error) -> bool {
    let gone = [rustix::io::Errno::PIPE, rustix::io::Errno::IO].map(rustix::io::Errno::raw_os_error);
    error.raw_os_error().is_some_and(|number| gone.contains(&number))
}

/// What becomes of a console beside its text in memory.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    pub log: Option<Log>,
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
    screen_gone: Arc<AtomicBool>,
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
        let transcript = Transcript {
            shared: Arc::default(),
            raw: raw.clone(),
            menus: Arc::default(),
            screen_gone: Arc::default(),
        };
        let (shared, menus) = (transcript.shared.clone(), transcript.menus.clone());
        let screen_gone = transcript.screen_gone.clone();
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
                if !raw.lock().expect("no holder panics").write(&buffer[..count]) {
                    screen_gone.store(true, Ordering::Relaxed);
                }
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

    /// Shows the end of what the log has, and from then on everything that comes.
    pub fn show(&self, log: &Path, mut screen: File) {
        // Nothing comes between the log's end and the rest: whoever reads the console waits for us.
        let mut raw = self.raw.lock().expect("no holder panics");
        let before = end_of(log, CONSOLE_SHOWN_MAX).unwrap_or_default();
        raw.shown = show_all(&mut screen, &before).is_ok().then_some(screen);
    }

    /// Nobody is at the other end of the screen any more.
    pub(crate) fn screen_is_gone(&self) -> bool {
        self.screen_gone.load(Ordering::Relaxed)
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

    /// Waits until what is wanted is there. Forbidden texts are looked for on the whole console, in
    /// what no earlier wait has looked through.
    pub fn wait(
        &self,
        wanted: &mut Wanted<'_>,
        forbidden: Forbidden<'_>,
        deadline: Instant,
        stop: &Stop,
    ) -> Found {
        let mut seen = self.lock();
        let mut looked = None;
        let mut last = None;
        loop {
            // Of a console that floods us larger pieces are taken, each of which costs a little of the last one again.
            if let Some(early) = last.and_then(|last: Instant| LOOK_PAUSE.checked_sub(last.elapsed())) {
                drop(seen);
                std::thread::sleep(early);
                seen = self.lock();
            }
            let end = seen.dropped + seen.text.len();
            // Only look again when there is something new, and only at that: the reader waits meanwhile.
            if looked.replace(end) != Some(end) {
                let known = forbidden.searched.saturating_sub(seen.dropped).min(seen.text.len());
                let bad = forbidden.looks.iter().position(|look| look(&seen.text, known).is_some());
                if let Some(index) = bad {
                    return Found::Forbidden(index);
                }
                *forbidden.searched = end;
                let start = wanted.from.saturating_sub(seen.dropped).min(seen.text.len());
                let known = wanted.searched.saturating_sub(seen.dropped + start).min(seen.text.len() - start);
                wanted.searched = end;
                last = Some(Instant::now());
                if let Some(length) = (wanted.look)(&seen.text[start..], known) {
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

/// At most so many bytes of a file's end.
fn end_of(file: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
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
        let cases: [(&[u8], &str); 12] = [
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
            ("a\u{9b}31mb\u{85}c".as_bytes(), "a31mbc"),
            ("\u{202e}cod\u{2066}.exe\u{200f}".as_bytes(), "cod.exe"),
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

    /// Pieces come as long as somebody waits; each byte is looked at once, and a little again.
    #[test]
    fn a_flood_is_searched_once() {
        use std::cell::Cell;
        const TOTAL: usize = 2 << 20;
        let (ours, theirs) = rustix::pipe::pipe().unwrap();
        let (transcript, thread) = Transcript::start(ours.into(), Ways::default(), None);
        let writer = std::thread::spawn(move || {
            let mut theirs = File::from(theirs);
            (0..TOTAL / 4096).for_each(|_| theirs.write_all(&[b'x'; 4096]).unwrap());
            theirs.write_all(b"end").unwrap();
        });
        let looked = [Cell::new(0), Cell::new(0)];
        let count = |which: usize, text: &str, known: usize| {
            looked[which].set(looked[which].get() + text.len() - known)
        };
        let bad = |text: &str, known: usize| {
            count(0, text, known);
            None
        };
        let good = |text: &str, known: usize| {
            count(1, text, known);
            let start = known.saturating_sub(3);
            text[start..].find("end").map(|at| start + at + 3)
        };
        let mut searched = 0;
        for _ in 0..2 {
            let forbidden = Forbidden { looks: &[&bad], searched: &mut searched };
            let deadline = Instant::now() + Duration::from_secs(60);
            assert_eq!(
                transcript.wait(&mut Wanted::new(0, &good), forbidden, deadline, &Stop::default()),
                Found::At(TOTAL + 3)
            );
        }
        writer.join().unwrap();
        thread.join().unwrap();
        assert_eq!(
            looked[0].get(),
            TOTAL + 3,
            "what must not appear is not looked for again in the second wait"
        );
        assert_eq!(looked[1].get(), 2 * (TOTAL + 3));
    }

    #[test]
    fn a_log_ends_with_a_line_that_says_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut log = Log { file: file.reopen().unwrap(), room: 10 };
        [&b"12345"[..], b"6789abc", b"never"].iter().for_each(|bytes| log.write(bytes));
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), format!("123456789a{CUT}"));
        assert_eq!(end_of(file.path(), 4).unwrap(), b"pt]\n");
    }

    #[test]
    fn a_screen_that_nobody_sees_is_told() {
        let (ours, theirs) = rustix::pipe::pipe().unwrap();
        let mut raw = Raw { log: None, shown: Some(File::from(theirs)) };
        assert!(raw.write(b"seen"));
        drop(ours);
        assert!(!raw.write(b"unseen") && raw.shown.is_none());
        assert!(raw.write(b"after"), "it is told once");
    }

    proptest! {
        #[test]
        fn nothing_that_controls_a_terminal_is_left(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC*[\u{80}-\u{9f}\u{202a}-\u{202e}\u{1b}\r]{0,40}.*") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                prop_assert!(plain(bytes).chars().all(is_plain), "{bytes:?}");
            }
        }

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
