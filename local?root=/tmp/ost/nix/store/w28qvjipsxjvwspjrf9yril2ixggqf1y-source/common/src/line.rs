//! Editing of one line typed at a terminal: what each byte changes and what is to be echoed. Keeps no history and sends
//! nothing itself.

use alloc::string::String;
use alloc::vec::Vec;

use crate::limits::LINE_BYTES_MAX;

/// What a typed byte did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Bytes for the terminal, maybe none.
    Echo(&'static [u8]),
    /// This byte itself goes to the terminal.
    EchoByte(u8),
    /// So many characters are to be erased.
    Erase(usize),
    /// The line is done.
    Line(String),
    /// The line was given up.
    Interrupted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    AfterReturn,
    Escape,
    Sequence,
}

/// Rubs out the character before the cursor.
pub const ERASE: &[u8] = b"\x08 \x08";

#[derive(Default)]
pub struct LineEditor {
    line: Vec<u8>,
    state: State,
}

impl LineEditor {
    pub fn feed(&mut self, byte: u8) -> Typed {
        const BELL: &[u8] = b"\x07";
        let state = core::mem::take(&mut self.state);
        match (state, byte) {
            // Sequences of arrow and function keys have no meaning here and end with a letter or a tilde.
            (State::Escape, b'[' | b'O') => self.state = State::Sequence,
            (State::Sequence, byte) if !(0x40..=0x7e).contains(&byte) => self.state = State::Sequence,
            (State::Escape | State::Sequence, _) => {}
            (State::AfterReturn, b'\n') => {}
            (_, b'\r' | b'\n') => {
                if byte == b'\r' {
                    self.state = State::AfterReturn;
                }
                return Typed::Line(String::from_utf8_lossy(&core::mem::take(&mut self.line)).into_owned());
            }
            (_, 0x1b) => self.state = State::Escape,
            (_, 0x08 | 0x7f) => {
                return if self.line.pop().is_some() { Typed::Erase(1) } else { Typed::Echo(BELL) };
            }
            (_, 0x15) => return Typed::Erase(core::mem::take(&mut self.line).len()),
            (_, 0x03) => {
                self.line.clear();
                return Typed::Interrupted;
            }
            (_, b' '..=b'~') if self.line.len() < LINE_BYTES_MAX => {
                self.line.push(byte);
                return Typed::EchoByte(byte);
            }
            (_, b' '..=b'~') => return Typed::Echo(BELL),
            _ => {}
        }
        Typed::Echo(b"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_screen_shows_what_the_line_will_be(bytes in prop::collection::vec(prop_oneof![b' '..=b'~', Just(0x7f), Just(0x15), Just(0x1b), any::<u8>()], 0..80)) {
            let mut editor = LineEditor::default();
            let mut shown = Vec::new();
            for byte in bytes {
                match editor.feed(byte) {
                    Typed::EchoByte(byte) => shown.push(byte),
                    Typed::Erase(count) => {
                        prop_assert!(count <= shown.len());
                        shown.truncate(shown.len() - count);
                    }
                    Typed::Line(line) => {
                        prop_assert_eq!(line.as_bytes(), &shown[..]);
                        shown.clear();
                    }
                    Typed::Interrupted => shown.clear(),
                    Typed::Echo(_) => {}
                }
            }
        }
    }

    /// Lines that bytes give, and what a terminal shows.
    fn typed(bytes: &[u8]) -> (Vec<String>, String) {
        let mut editor = LineEditor::default();
        let (mut lines, mut screen) = (Vec::new(), Vec::new());
        for &byte in bytes {
            match editor.feed(byte) {
                Typed::Echo(bytes) => screen.extend_from_slice(bytes),
                Typed::EchoByte(byte) => screen.push(byte),
                Typed::Erase(count) => screen.truncate(screen.len() - count),
                Typed::Line(line) => lines.push(line),
                Typed::Interrupted => screen.clear(),
            }
        }
        (lines, String::from_utf8_lossy(&screen).into_owned())
    }

    #[test]
    fn lines_from_bytes() {
        let cases: &[(&[u8], &[&str], &str)] = &[
            (b"ls\r", &["ls"], "ls"),
            (b"a\r\nb\n\nc", &["a", "b", ""], "abc"),
            (b"lx\x7fs\x08s\r", &["ls"], "ls"),
            (b"\x7f", &[], "\x07"),
            (b"abc\x15d\r", &["d"], "d"),
            (b"abc\x03d\r", &["d"], "d"),
            (b"a\x1b[Ab\x1b[1;5~c\x1bOPd\r", &["abcd"], "abcd"),
            (b"a\x01\xff\tb\r", &["ab"], "ab"),
        ];
        for (bytes, lines, screen) in cases {
            assert_eq!(
                typed(bytes),
                (lines.iter().map(|line| String::from(*line)).collect(), String::from(*screen)),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn lines_are_bounded() {
        let mut bytes = std::vec![b'x'; LINE_BYTES_MAX + 10];
        bytes.push(b'\n');
        assert_eq!(typed(&bytes).0[0].len(), LINE_BYTES_MAX);
    }
}
