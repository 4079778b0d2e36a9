//! POSIX extended regular expressions as `builtins.match` and `builtins.split` of C++ Nix understand them, that
//! is, as libstdc++'s `std::regex::extended` does: bytes, no back references, no `\w`.
//!
//! Of two alternatives the one with the longer match wins, the left one on a tie; a repetition takes as much as
//! still leads to a match, and its shorter ways are not compared. A group keeps the values of the last time it
//! took part. What this module does not do: recurse, take more than linear time in the subject, or evaluate
//! anything but text.
//!
//! The way of a pattern: `parser` (with `bracket`) → `graph` → `program` → `columns` and `matcher`.

mod bracket;
mod columns;
mod graph;
mod matcher;
mod parser;
mod program;
#[cfg(test)]
mod tests;

use memchr::memmem;
use thiserror::Error;

pub use matcher::Groups;
use matcher::{CacheCell, Matches};
use program::Program;

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegexError {
    /// It is not in the syntax.
    #[error("{reason}, at offset {offset} of the pattern")]
    Invalid { offset: usize, reason: &'static str },
    /// It needs more states than libstdc++ allows.
    #[error("the pattern needs too many states")]
    TooLarge,
    /// It nests too many repetitions of what can be empty.
    #[error("the pattern repeats parts that can be empty in too many ways")]
    TooComplex,
}

impl RegexError {
    /// Is it about size rather than syntax? C++ Nix words the two differently.
    pub fn is_memory_limit(&self) -> bool {
        !matches!(self, RegexError::Invalid { .. })
    }
}

/// A compiled pattern. It learns from the subjects it sees, so keep and reuse it; it can be sent to another
/// thread but not shared.
pub struct Regex {
    program: Program,
    /// The pattern's text, if it is plain text.
    literal: Option<Box<memmem::Finder<'static>>>,
    full_cache: CacheCell,
    find_cache: CacheCell,
}

impl std::fmt::Debug for Regex {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Regex").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Regex {
    pub fn new(pattern: &[u8]) -> Result<Regex, RegexError> {
        let parsed = parser::parse(pattern)?;
        let program = program::compile(&parsed.graph)?;
        let literal = parsed
            .literal
            .filter(|text| !text.is_empty())
            .map(|text| Box::new(memmem::Finder::new(&text).into_owned()));
        Ok(Regex { program, literal, full_cache: CacheCell::default(), find_cache: CacheCell::default() })
    }

    /// Number of groups, without the whole match.
    pub fn group_count(&self) -> usize {
        self.program.slots / 2 - 1
    }

    /// Matches the whole subject. Gives the groups' positions, number 0 being the whole.
    pub fn full_match(&self, subject: &[u8]) -> Option<Groups> {
        match &self.literal {
            Some(finder) => (finder.needle() == subject).then(|| vec![Some(0..subject.len())]),
            None => matcher::full_match(&self.program, &self.full_cache, subject),
        }
    }

    /// All matches from left to right, as `std::regex_iterator` gives them: not overlapping, empty ones included.
    pub fn find_iter_groups<'a>(&'a self, subject: &'a [u8]) -> impl Iterator<Item = Groups> + 'a {
        match &self.literal {
            Some(finder) => {
                let length = finder.needle().len();
                Found::Literal(Box::new(finder.find_iter(subject)), length)
            }
            None => Found::Columns(matcher::find_iter(&self.program, &self.find_cache, subject)),
        }
    }
}

enum Found<'a> {
    Literal(Box<memmem::FindIter<'a, 'a>>, usize),
    Columns(Matches<'a>),
}

impl Iterator for Found<'_> {
    type Item = Groups;

    fn next(&mut self) -> Option<Groups> {
        match self {
            Found::Literal(matches, length) => {
                let begin = matches.next()?;
                Some(vec![Some(begin..begin + *length)])
            }
            Found::Columns(matches) => matches.next(),
        }
    }
}
