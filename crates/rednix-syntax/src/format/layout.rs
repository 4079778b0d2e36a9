//! Choosing line ends: a document to text of a limited width. Indentation does not count to the width.

use super::document::Document;
use crate::limits;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Flat,
    Broken,
}

struct Printer<'a> {
    out: String,
    /// Characters on the current line, its indentation and that of the line itself.
    column: usize,
    line_indent: usize,
    /// Nothing stands on the current line yet.
    fresh: bool,
    /// A comment ended the line.
    pending: bool,
    work: Vec<(usize, Mode, &'a Document)>,
}

/// The text of a document, ending in one line end.
pub fn print(document: &Document) -> String {
    let mut printer = Printer {
        out: String::new(),
        column: 0,
        line_indent: 0,
        fresh: true,
        pending: false,
        work: vec![(0, Mode::Broken, document)],
    };
    while let Some((indent, mode, document)) = printer.work.pop() {
        printer.step(indent, mode, document);
    }
    let mut out = printer.out;
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

impl<'a> Printer<'a> {
    fn step(&mut self, indent: usize, mode: Mode, document: &'a Document) {
        match document {
            Document::Text(text) => self.text(indent, text),
            Document::Verbatim(text) => {
                self.text(indent, text);
                if let Some(end) = text.rfind('\n') {
                    self.column = text[end + 1..].chars().count();
                    self.line_indent = 0;
                    self.fresh = false;
                }
            }
            Document::Line if mode == Mode::Flat && !self.pending => {
                if !self.fresh {
                    self.text(indent, " ");
                }
            }
            Document::Soft if mode == Mode::Flat && !self.pending => {}
            Document::Line | Document::Soft | Document::Hard => self.end_line(),
            Document::Blank => {
                self.end_line();
                if !self.out.is_empty() && !self.out.ends_with("\n\n") {
                    self.out.push('\n');
                }
            }
            Document::Bare => {
                self.out.push('\n');
                (self.fresh, self.pending) = (true, false);
            }
            Document::Comment { text, own_line } => self.comment(indent, text, *own_line),
            Document::Shared(shared) => self.work.push((indent, mode, &shared.1)),
            Document::Concat(parts) => self.push(indent, mode, parts),
            Document::Nest(parts) => self.push(indent + 2, mode, parts),
            Document::Wide(parts) => {
                let mode = if parts.iter().any(Document::breaks) { Mode::Broken } else { Mode::Flat };
                self.push(indent, mode, parts);
            }
            Document::Group(parts) => {
                let flat = mode == Mode::Flat
                    || !parts.iter().any(Document::breaks) && self.fits(parts.iter().collect(), indent, true);
                self.push(indent, if flat { Mode::Flat } else { Mode::Broken }, parts);
            }
            Document::Choice(head, compact, wide) => {
                let compact_fits =
                    mode == Mode::Flat || !head.breaks() && self.fits(vec![head], indent, false);
                self.work.push((indent, mode, if compact_fits { compact } else { wide }));
            }
        }
    }

    fn push(&mut self, indent: usize, mode: Mode, parts: &'a [Document]) {
        self.work.extend(parts.iter().rev().map(|part| (indent, mode, part)));
    }

    fn end_line(&mut self) {
        if !self.fresh {
            let end = self.out.trim_end_matches(' ').len();
            self.out.truncate(end);
            self.out.push('\n');
        }
        (self.fresh, self.pending) = (true, false);
    }

    fn text(&mut self, indent: usize, text: &str) {
        if self.pending {
            self.end_line();
        }
        if text.is_empty() {
            return;
        }
        if self.fresh {
            self.out.push_str(&" ".repeat(indent));
            (self.column, self.line_indent, self.fresh) = (indent, indent, false);
        }
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn comment(&mut self, indent: usize, text: &str, own_line: bool) {
        if own_line || self.pending {
            self.end_line();
        } else if !self.fresh && !self.out.ends_with(' ') {
            self.text(indent, " ");
        }
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.out.push('\n');
                self.fresh = true;
            }
            if !line.trim().is_empty() {
                self.text(indent, line.trim_end());
            }
        }
        self.fresh = false;
        self.pending = true;
    }

    /// Whether parts fit on the line, with what follows up to the next place where the line may end.
    fn fits(&self, parts: Vec<&'a Document>, indent: usize, with_rest: bool) -> bool {
        let (column, start) =
            if self.fresh || self.pending { (indent, indent) } else { (self.column, self.line_indent) };
        let mut left = (limits::LINE_WIDTH + start).saturating_sub(column) as isize;
        let mut work: Vec<(Mode, &Document)> =
            parts.into_iter().rev().map(|part| (Mode::Flat, part)).collect();
        let mut rest = self.work.iter().rev();
        loop {
            let (mode, document) = match work.pop() {
                Some(next) => next,
                None if !with_rest => return left >= 0,
                None => match rest.next() {
                    Some((_, mode, document)) => (*mode, *document),
                    None => return left >= 0,
                },
            };
            match document {
                Document::Text(text) => left -= text.chars().count() as isize,
                Document::Verbatim(text) => {
                    left -= text.split('\n').next().map_or(0, |line| line.chars().count()) as isize;
                    if text.contains('\n') {
                        return left >= 0;
                    }
                }
                Document::Line if mode == Mode::Flat => left -= 1,
                Document::Soft if mode == Mode::Flat => {}
                // A comment may go over the limit.
                Document::Line
                | Document::Soft
                | Document::Hard
                | Document::Blank
                | Document::Bare
                | Document::Comment { .. } => return left >= 0,
                // What follows is taken to break where it may.
                Document::Concat(parts)
                | Document::Nest(parts)
                | Document::Group(parts)
                | Document::Wide(parts) => {
                    work.extend(parts.iter().rev().map(|part| (mode, part)));
                }
                Document::Shared(shared) => work.push((mode, &shared.1)),
                Document::Choice(_, compact, _) => work.push((mode, compact)),
            }
            if left < 0 {
                return false;
            }
        }
    }
}
