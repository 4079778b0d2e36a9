//! Strings and paths laid out: the text of a string never changes, an indented one moves as a whole.

use super::build::Builder;
use super::concrete::{Piece, TextKind};
use super::document::Document;
use super::tokens::Token;

/// One line of an indented string.
#[derive(Default)]
struct Line {
    /// Spaces at its start, and whether only those stand on it.
    spaces: usize,
    text: String,
    parts: Vec<Document>,
    blank: bool,
}

impl Builder<'_> {
    /// The whole of a string or path, without the comments before its first and after its last token.
    pub(super) fn string(&self, pieces: &[Piece], kind: TextKind) -> Document {
        let verbatim = || Document::Verbatim(self.whole(pieces).to_owned());
        match kind {
            TextKind::Path => verbatim(),
            TextKind::Quoted => self.quoted(pieces).unwrap_or_else(verbatim),
            TextKind::Indented => self.indented(pieces).unwrap_or_else(verbatim),
        }
    }

    fn whole(&self, pieces: &[Piece]) -> &str {
        let start = first(pieces).map_or(0, |token| token.span.start);
        let end = last(pieces).map_or(start, |token| token.span.end);
        &self.source[start as usize..end as usize]
    }

    /// None where an interpolation does not fit on one line.
    fn quoted(&self, pieces: &[Piece]) -> Option<Document> {
        let mut parts = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Token(token) => parts.push(Document::Verbatim(self.slice(token).to_owned())),
                Piece::Interpolation { inner, open, close } => {
                    let inner = self.node(inner);
                    if inner.breaks() || has_comment(open) || !close.before.is_empty() {
                        return None;
                    }
                    parts.extend([Document::text("${"), Document::Wide(vec![inner]), Document::text("}")]);
                }
            }
        }
        Some(Document::Concat(parts))
    }

    /// None where the string begins on the line of its quotes, or has something whose indentation is not plain.
    fn indented(&self, pieces: &[Piece]) -> Option<Document> {
        let open = first(pieces)?;
        if !self.slice(open).ends_with('\n') {
            return None;
        }
        let mut lines = vec![Line { blank: true, ..Line::default() }];
        for piece in &pieces[1..pieces.len() - 1] {
            let line = lines.last_mut()?;
            match piece {
                Piece::Interpolation { open, inner, close } => {
                    line.blank = false;
                    let inner = self.with_comments(open, self.node(inner), close);
                    line.parts.push(Document::Wide(vec![
                        Document::text("${"),
                        Document::Nest(vec![Document::Soft, inner]),
                        Document::Soft,
                        Document::text("}"),
                    ]));
                }
                Piece::Token(token) => {
                    let text = self.slice(token);
                    let escape = text.starts_with("''") || text == "$" || text == "'";
                    if text.contains(['\r', '\t']) || escape && text.contains('\n') {
                        return None;
                    }
                    take_text(&mut lines, text);
                }
            }
        }
        let last = lines.pop()?;
        // What stands before the closing quotes on their line is text, unless it is spaces.
        let closes_alone = last.blank;
        if !closes_alone {
            lines.push(last);
        }
        let strip = lines.iter().filter(|line| !line.blank).map(|line| line.spaces).min().unwrap_or(0);
        if lines.iter().any(|line| line.blank && line.spaces > strip) {
            return None;
        }
        let mut inside = Vec::new();
        for line in lines {
            if line.blank {
                inside.push(Document::Bare);
                continue;
            }
            inside.push(Document::Text(" ".repeat(line.spaces - strip) + &line.text));
            inside.extend(line.parts);
            inside.push(Document::Bare);
        }
        if !closes_alone {
            inside.pop();
        }
        let close = self.slice(super::strings::last(pieces)?).to_owned();
        let mut all = vec![Document::text("''"), Document::Bare, Document::Nest(inside)];
        all.push(Document::text(close));
        Some(Document::Concat(all))
    }
}

/// Adds text to the last line, and begins new ones.
fn take_text(lines: &mut Vec<Line>, text: &str) {
    for (index, part) in text.split('\n').enumerate() {
        if index > 0 {
            lines.push(Line { blank: true, ..Line::default() });
        }
        let line = lines.last_mut().expect("there is always one");
        let mut part = part;
        if line.blank {
            let rest = part.trim_start_matches(' ');
            line.spaces += part.len() - rest.len();
            part = rest;
        }
        if part.is_empty() {
            continue;
        }
        line.blank = false;
        if line.parts.is_empty() {
            line.text.push_str(part);
        } else {
            line.parts.push(Document::text(part));
        }
    }
}

pub(super) fn first(pieces: &[Piece]) -> Option<&Token> {
    match pieces.first()? {
        Piece::Token(token) => Some(token),
        Piece::Interpolation { open, .. } => Some(open),
    }
}

pub(super) fn last(pieces: &[Piece]) -> Option<&Token> {
    match pieces.last()? {
        Piece::Token(token) => Some(token),
        Piece::Interpolation { close, .. } => Some(close),
    }
}

fn has_comment(token: &Token) -> bool {
    token.after.is_some()
}
