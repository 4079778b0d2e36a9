//! Text to wait for: as it is, or as a regular expression. It compiles patterns and waits for nothing.

use serde::{Deserialize, Serialize};

use crate::console::Look;
use crate::limits::PATTERN_OVERLAP;

/// Answers the end of its first match in a text of which the beginning, up to a position, was looked through before.
pub type Matcher = Box<Look<'static>>;

/// The nearest beginning of a character at or before a position.
pub fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default()
}

/// Plain text, or a regular expression over the console's text.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Pattern {
    Text(String),
    Regex { regex: String },
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pattern::Text(text) => write!(f, "{text:?}"),
            Pattern::Regex { regex } => write!(f, "/{regex}/"),
        }
    }
}

impl Pattern {
    /// A function that answers the end of the first match.
    pub fn compile(&self) -> Result<Matcher, String> {
        match self {
            Pattern::Text(text) if text.is_empty() => Err("an empty text matches everything".into()),
            Pattern::Text(text) => {
                let text = text.clone();
                Ok(Box::new(move |console, known| {
                    let start = boundary(console, known.saturating_sub(text.len()));
                    console[start..].find(&text).map(|at| start + at + text.len())
                }))
            }
            Pattern::Regex { regex } => {
                let compiled = regex_lite::RegexBuilder::new(regex)
                    .multi_line(true)
                    .build()
                    .map_err(|error| format!("the regular expression {regex:?} is wrong: {error}"))?;
                if compiled.is_match("") {
                    return Err(format!("the regular expression {regex:?} matches the empty text"));
                }
                Ok(Box::new(move |console, known| {
                    // Within the whole text, so that the beginnings of lines are where they are.
                    let start = boundary(console, known.saturating_sub(PATTERN_OVERLAP));
                    compiled.find_at(console, start).map(|found| found.end())
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_that_always_match_are_refused() {
        for pattern in [
            Pattern::Text(String::new()),
            Pattern::Regex { regex: "a*".into() },
            Pattern::Regex { regex: "(".into() },
        ] {
            assert!(pattern.compile().is_err(), "{pattern}");
        }
        let line = Pattern::Regex { regex: "^# $".into() }.compile().unwrap();
        assert_eq!(line("login\n# \n", 0), Some(8), "lines are matched by ^ and $");
    }

    proptest! {
        /// What is found does not depend on the pieces it came in.
        #[test]
        fn pieces_are_searched_as_the_whole(
            text in "[abé\n]{0,60}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            pattern in prop_oneof![
                "[abé]{1,4}".prop_map(Pattern::Text),
                prop::sample::select(vec!["^a+b", "b$", "é.*a", "a\n+b", "\\ba"])
                    .prop_map(|regex| Pattern::Regex { regex: regex.into() }),
            ],
        ) {
            let look = pattern.compile().unwrap();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| boundary(&text, cut.index(text.len() + 1))).collect();
            ends.sort_unstable();
            ends.push(text.len());
            let mut known = 0;
            for end in ends {
                let found = look(&text[..end], known);
                prop_assert_eq!(found.is_some(), look(&text[..end], 0).is_some());
                if found.is_some() {
                    break;
                }
                known = end;
            }
        }
    }
}
