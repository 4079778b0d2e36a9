//! What a builder prints: kept whole and compressed in a file, passed on line by line as events, and its
//! last lines remembered for the error. It knows nothing of builds.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rednix_events::{Activity, Event, Events};

use crate::limits;

/// Compression that costs next to nothing beside a compiler.
const LEVEL: i32 = 3;

/// How C++ Nix's builders begin a line that is for the program and not for people.
const MESSAGE_PREFIX: &str = "@nix ";

/// The phase a line announces (`@nix {"action":"setPhase","phase":"build"}`), if it does.
fn announced_phase(line: &str) -> Option<String> {
    let message: serde_json::Value = serde_json::from_str(line.strip_prefix(MESSAGE_PREFIX)?).ok()?;
    (message["action"] == "setPhase").then(|| message["phase"].as_str().map(str::to_owned))?
}

/// Collects one builder's output.
pub struct BuildLog {
    id: Activity,
    events: Events,
    /// Where the file belongs in the end; written under another name until then.
    path: PathBuf,
    making: PathBuf,
    file: Option<zstd::stream::write::Encoder<'static, fs::File>>,
    /// A full disk must not end a build for the sake of its log; the first trouble is told at the end.
    trouble: Option<io::Error>,
    written: u64,
    line: Vec<u8>,
    tail: VecDeque<String>,
}

impl BuildLog {
    /// Nothing is written before there is something to write.
    pub fn new(id: Activity, events: Events, path: PathBuf) -> Self {
        let mut making = path.clone().into_os_string();
        making.push(format!(".{}-{}", std::process::id(), id.0));
        BuildLog {
            id,
            events,
            path,
            making: making.into(),
            file: None,
            trouble: None,
            written: 0,
            line: Vec::new(),
            tail: VecDeque::new(),
        }
    }

    /// Takes the next piece of output.
    pub fn push(&mut self, bytes: &[u8]) {
        self.keep(bytes);
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                _ => self.line.push(byte),
            }
            if self.line.len() >= limits::LOG_LINE_BYTES_MAX {
                self.end_line();
            }
        }
    }

    /// The build this is the log of.
    pub fn id(&self) -> Activity {
        self.id
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.trouble.is_some() || self.written >= limits::LOG_BYTES_MAX {
            return;
        }
        self.written += bytes.len() as u64;
        if let Err(error) = self.open().and_then(|file| file.write_all(bytes)) {
            self.trouble = Some(error);
        }
    }

    fn open(&mut self) -> io::Result<&mut zstd::stream::write::Encoder<'static, fs::File>> {
        if self.file.is_none() {
            let folder = self.making.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(folder)?;
            self.file = Some(zstd::stream::write::Encoder::new(fs::File::create(&self.making)?, LEVEL)?);
        }
        Ok(self.file.as_mut().expect("opened above"))
    }

    fn end_line(&mut self) {
        // A carriage return at the end belongs to the line break; earlier ones are progress bars.
        while self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        if let Some(phase) = announced_phase(&line) {
            self.events.emit(Event::BuildPhase { id: self.id, phase });
            return;
        }
        if self.tail.len() == limits::LOG_TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        self.events.emit(Event::BuildLog { id: self.id, line });
    }

    /// Completes the file and gives it its name. Returns the last lines and, where something was printed
    /// and could be kept, the file.
    pub fn finish(mut self) -> (Vec<String>, Option<PathBuf>) {
        if !self.line.is_empty() {
            self.end_line();
        }
        let Some(file) = self.file.take() else { return (self.tail.into(), None) };
        let finished = file.finish().and_then(|_| fs::rename(&self.making, &self.path));
        if let Some(error) = self.trouble.take().or(finished.err()) {
            let message = format!("cannot keep the whole log `{}`: {error}", self.path.display());
            self.events.emit(Event::Warning { message });
            let _ = fs::remove_file(&self.making);
            return (self.tail.into(), None);
        }
        (self.tail.into(), Some(self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn log(pieces: &[&[u8]]) -> (Vec<Event>, Vec<String>, Option<Vec<u8>>) {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Arc::new(rednix_events::Recorder::default());
        let path = folder.path().join("ab/log.zst");
        let mut log = BuildLog::new(Activity(1), recorder.clone(), path);
        pieces.iter().for_each(|piece| log.push(piece));
        let (tail, file) = log.finish();
        let kept = file.map(|path| zstd::decode_all(fs::File::open(path).unwrap()).unwrap());
        let left = fs::read_dir(folder.path().join("ab")).map(|list| list.count()).unwrap_or(0);
        assert_eq!(left, usize::from(kept.is_some()));
        (recorder.events(), tail, kept)
    }

    #[test]
    fn lines_arrive_whole_whatever_the_pieces() {
        let (events, tail, kept) = log(&[b"one\ntw", b"o\r\n\xff", b"three"]);
        let line = |line: &str| Event::BuildLog { id: Activity(1), line: line.to_owned() };
        assert_eq!(events, [line("one"), line("two"), line("\u{fffd}three")]);
        assert_eq!(tail, ["one", "two", "\u{fffd}three"]);
        assert_eq!(kept.unwrap(), b"one\ntwo\r\n\xffthree");
    }

    #[test]
    fn silence_leaves_no_file() {
        assert_eq!(log(&[]), (vec![], vec![], None));
    }

    #[test]
    fn the_tail_is_bounded_and_long_lines_are_cut() {
        let many: Vec<u8> = (0..100).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        let (_, tail, _) = log(&[&many]);
        assert_eq!((tail.len(), tail[0].as_str()), (limits::LOG_TAIL_LINES, "75"));
        let long = vec![b'x'; limits::LOG_LINE_BYTES_MAX * 2 + 1];
        assert_eq!(log(&[&long]).1.len(), 3);
    }

    proptest::proptest! {
        #[test]
        fn everything_printed_is_kept(pieces: Vec<Vec<u8>>) {
            let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let whole = pieces.concat();
            let (_, _, kept) = log(&slices);
            proptest::prop_assert_eq!(kept.unwrap_or_default(), whole);
        }
    }
}
