//! What TOML 1.0 refuses and the reader lets pass: the additions of TOML 1.1, and floats too large for 64 bits.
//! It expects a document that the reader has accepted, and judges nothing else.

use toml_parser::Source;
use toml_parser::decoder::Encoding;
use toml_parser::parser::{Event, EventKind, parse_document};

/// Offset of the first thing that TOML 1.0 refuses, and why.
pub(super) fn first_objection(text: &str) -> Option<(usize, &'static str)> {
    let tokens = Source::new(text).lex().into_vec();
    let mut judge = Judge { text, open: Vec::new(), separator: None, objection: None };
    parse_document(&tokens, &mut |event: Event| judge.see(event), &mut ());
    judge.objection
}

#[derive(PartialEq)]
enum Container {
    Array,
    InlineTable,
}

struct Judge<'a> {
    text: &'a str,
    open: Vec<Container>,
    /// A comma with nothing behind it yet.
    separator: Option<usize>,
    objection: Option<(usize, &'static str)>,
}

impl Judge<'_> {
    fn see(&mut self, event: Event) {
        let offset = event.span().start();
        let in_table = self.open.last() == Some(&Container::InlineTable);
        let raw = &self.text[offset..event.span().end()];
        let objection = match event.kind() {
            EventKind::InlineTableOpen => {
                self.open.push(Container::InlineTable);
                None
            }
            EventKind::ArrayOpen => {
                self.open.push(Container::Array);
                None
            }
            EventKind::InlineTableClose => {
                self.open.pop();
                let separator = self.separator.filter(|_| in_table);
                separator.map(|offset| (offset, "a comma before the end of an inline table"))
            }
            EventKind::ArrayClose => {
                self.open.pop();
                None
            }
            EventKind::Newline | EventKind::Comment if in_table => {
                Some((offset, "an inline table must stay on one line"))
            }
            EventKind::SimpleKey => escapes(raw, event.encoding()).map(|reason| (offset, reason)),
            EventKind::Scalar => {
                let reason = escapes(raw, event.encoding()).or_else(|| plain(raw, event.encoding()));
                reason.map(|reason| (offset, reason))
            }
            _ => None,
        };
        match event.kind() {
            EventKind::ValueSep => self.separator = Some(offset),
            EventKind::Whitespace | EventKind::Newline | EventKind::Comment => {}
            _ => self.separator = None,
        }
        self.objection = self.objection.or(objection);
    }
}

/// Escapes that only TOML 1.1 knows.
fn escapes(raw: &str, encoding: Option<Encoding>) -> Option<&'static str> {
    if !matches!(encoding, Some(Encoding::BasicString | Encoding::MlBasicString)) {
        return None;
    }
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' && matches!(bytes.next(), Some(b'e' | b'x')) {
            return Some("an escape that TOML 1.0 does not have");
        }
    }
    None
}

/// Times without seconds, and floats that are not finite without saying so.
fn plain(raw: &str, encoding: Option<Encoding>) -> Option<&'static str> {
    if encoding.is_some() {
        return None;
    }
    if let Some(colon) = raw.find(':') {
        let has_seconds = raw.as_bytes().get(colon + 3) == Some(&b':');
        return (!has_seconds).then_some("a time without seconds");
    }
    let is_number =
        raw.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-' | b'_'));
    let overflows = is_number && raw.replace('_', "").parse().is_ok_and(f64::is_infinite);
    overflows.then_some("a float that is too large")
}
