//! Text to wait for: as it is, or as a regular expression. It compiles patterns and waits for nothing.

use serde::{Deserialize, Serialize};

/// Answers the end of its first match.
pub type Matcher = Box<dyn Fn(&str) -> Option<usize>>;

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
                Ok(Box::new(move |console| console.find(&text).map(|at| at + text.len())))
            }
            Pattern::Regex { regex } => {
                let compiled = regex_lite::RegexBuilder::new(regex)
                    .multi_line(true)
                    .build()
                    .map_err(|error| format!("the regular expression {regex:?} is wrong: {error}"))?;
                if compiled.is_match("") {
                    return Err(format!("the regular expression {regex:?} matches the empty text"));
                }
                Ok(Box::new(move |console| compiled.find(console).map(|found| found.end())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(line("login\n# \n"), Some(8), "lines are matched by ^ and $");
    }
}
