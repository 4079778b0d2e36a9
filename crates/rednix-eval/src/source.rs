//! Sources and positions: a position is one number over all sources of an evaluation.

use std::cell::OnceCell;

/// A byte of some source, or nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Pos(pub(crate) u32);

impl Pos {
    pub const NONE: Pos = Pos(0);

    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Two bytes of one source, the second not included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Range {
    pub start: Pos,
    pub end: Pos,
}

impl Range {
    pub fn at(pos: Pos) -> Range {
        Range { start: pos, end: pos }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File(Vec<u8>),
    /// Text given to the evaluator; shown as `«string»`.
    Text,
    /// Standard input; shown as `«stdin»`.
    StandardInput,
    /// A source that is part of rednix; errors never point into it.
    Internal(&'static str),
}

impl Origin {
    pub fn show(&self) -> String {
        match self {
            Origin::File(path) => String::from_utf8_lossy(path).into_owned(),
            Origin::Text => "«string»".into(),
            Origin::StandardInput => "«stdin»".into(),
            Origin::Internal(name) => format!("«nix-internal»/{name}"),
        }
    }
}

pub(crate) struct Source {
    pub origin: Origin,
    pub text: Vec<u8>,
    base: u32,
    lines: OnceCell<Vec<u32>>,
}

/// Line and column count from one, columns in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub origin: Origin,
    pub line: u32,
    pub column: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.origin.show(), self.line, self.column)
    }
}

#[derive(Default)]
pub(crate) struct SourceMap {
    sources: Vec<Source>,
}

impl SourceMap {
    /// Adds a source; the position of its byte `n` is the returned base plus `n`. None when positions run out.
    pub fn add(&mut self, origin: Origin, text: Vec<u8>) -> Option<u32> {
        let base = self.sources.last().map_or(1, |last| u64::from(last.base) + last.text.len() as u64 + 1);
        let end = base + text.len() as u64;
        if end >= u64::from(u32::MAX) {
            return None;
        }
        self.sources.push(Source { origin, text, base: base as u32, lines: OnceCell::new() });
        Some(base as u32)
    }

    pub fn last_text(&self) -> &[u8] {
        self.sources.last().map_or(&[], |source| &source.text)
    }

    pub fn source(&self, pos: Pos) -> Option<&Source> {
        if pos.is_none() {
            return None;
        }
        let index = self.sources.partition_point(|source| source.base <= pos.0);
        index.checked_sub(1).map(|index| &self.sources[index])
    }

    pub fn place(&self, pos: Pos) -> Option<Place> {
        let source = self.source(pos)?;
        let offset = pos.0 - source.base;
        let lines = source.lines.get_or_init(|| {
            let newlines = source.text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            std::iter::once(0).chain(newlines.map(|(index, _)| index as u32 + 1)).collect()
        });
        let line = lines.partition_point(|&start| start <= offset);
        Some(Place { origin: source.origin.clone(), line: line as u32, column: offset - lines[line - 1] + 1 })
    }
}

impl SourceMap {
    /// The line of a position with its neighbours, numbered, and a mark below it, as C++ Nix lays them out.
    pub fn code_lines(&self, pos: Pos) -> Option<Vec<String>> {
        let place = self.place(pos)?;
        let source = self.source(pos)?;
        if matches!(source.origin, Origin::Internal(_)) {
            return None;
        }
        let text = String::from_utf8_lossy(&source.text);
        let line = place.line as usize;
        let all: Vec<&str> = text.split('\n').collect();
        let mut shown = Vec::new();
        for number in line.saturating_sub(1).max(1)..=line + 1 {
            let Some(content) = all.get(number - 1) else { break };
            shown.push(format!(" {number:>5}| {}", content.trim_end_matches('\r')));
            if number == line {
                shown.push(format!("      |{}^", " ".repeat(place.column as usize)));
            }
        }
        Some(shown)
    }
}

impl Source {
    /// Offset of a position in this source's text.
    pub fn offset(&self, pos: Pos) -> usize {
        (pos.0 - self.base) as usize
    }
}
