//! Deb822 paragraphs, as in `Packages`, `Release` and apt's `.sources` files.
//!
//! Splits text into fields; gives no field a meaning.

use crate::limits;

/// One paragraph; its fields borrow from the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paragraph<'a> {
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Paragraph<'a> {
    /// The field's value with continuation lines as written (each after its newline), outer blanks removed.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The words of a list field such as `Suites`.
    pub fn words(&self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.get(name).unwrap_or_default().split_whitespace()
    }

    /// The value's lines, for fields that hold a list with one item per line.
    pub fn lines(&self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.get(name).unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty())
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// A line that is no field, continuation or comment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is neither a field nor a continuation: `{text}`")]
pub struct BadLine {
    pub line: usize,
    pub text: String,
}

/// Walks the paragraphs of a text without copying it.
#[derive(Debug)]
pub struct Paragraphs<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Paragraphs<'a> {
    pub fn new(text: &'a str) -> Self {
        Paragraphs { rest: text, line: 0 }
    }

    fn take_line(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        Some(line)
    }

    fn bad(&self, line: &str) -> BadLine {
        BadLine { line: self.line, text: line.chars().take(limits::EXCERPT_CHARACTERS_MAX).collect() }
    }
}

/// End of `part` within `whole`; both come from the same text.
fn end_offset(whole: &str, part: &str) -> usize {
    part.as_ptr() as usize + part.len() - whole.as_ptr() as usize
}

impl<'a> Iterator for Paragraphs<'a> {
    type Item = Result<Paragraph<'a>, BadLine>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut paragraph = Paragraph::default();
        // The last field's value grows over its continuation lines, so it is cut from this text by offsets.
        let mut base = self.rest;
        let mut open: Option<(&'a str, usize)> = None;
        loop {
            let before = self.rest;
            let line = self.take_line();
            let trimmed = line.map(|line| line.trim_end_matches('\r'));
            match trimmed {
                Some(line) if line.starts_with('#') => continue,
                Some(line) if line.starts_with([' ', '\t']) && !line.trim().is_empty() => {
                    let Some((name, start)) = open else { return Some(Err(self.bad(line))) };
                    let value = &base[start..end_offset(base, line)];
                    match paragraph.fields.last_mut() {
                        Some(last) if last.0 == name => last.1 = value,
                        _ => return Some(Err(self.bad(line))),
                    }
                }
                Some(line) if !line.trim().is_empty() => {
                    let Some((name, value)) = line.split_once(':') else { return Some(Err(self.bad(line))) };
                    if name.is_empty()
                        || name.contains([' ', '\t'])
                        || paragraph.fields.len() >= limits::CONTROL_FIELDS_MAX
                    {
                        return Some(Err(self.bad(line)));
                    }
                    base = before;
                    open = Some((name, name.len() + 1));
                    paragraph.fields.push((name, value));
                }
                Some(_) if paragraph.is_empty() => base = self.rest,
                None if paragraph.is_empty() => return None,
                _ => return Some(Ok(paragraph)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paragraphs_and_continuations() {
        let text = "\n# comment\nPackage: a\nDescription: one\n two\n .\n# in between\n three\nSize: 3\n\n\nPackage: b\nX:\n y\n";
        let paragraphs: Vec<_> = Paragraphs::new(text).map(Result::unwrap).collect();
        assert_eq!(paragraphs.len(), 2);
        assert_eq!(paragraphs[0].get("package"), Some("a"));
        assert_eq!(paragraphs[0].get("Size"), Some("3"));
        assert!(paragraphs[0].get("Description").unwrap().starts_with("one\n two\n .\n"));
        assert_eq!(paragraphs[1].lines("X").collect::<Vec<_>>(), ["y"]);
        assert_eq!(paragraphs[1].get("Y"), None);
    }

    #[test]
    fn bad_lines_are_named() {
        for (text, line) in [("a: b\nnothing here\n", 2), (" orphan\n", 1), (": x\n", 1), ("a b: c\n", 1)] {
            let error = Paragraphs::new(text).find_map(Result::err).unwrap();
            assert_eq!(error.line, line, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "[ -~\\n\\t]{0,200}") {
            let mut parser = Paragraphs::new(&text);
            for _ in 0..=text.len() + 1 {
                if parser.next().is_none() {
                    return Ok(());
                }
            }
            prop_assert!(false, "did not end");
        }

        #[test]
        fn what_is_written_is_read(fields in proptest::collection::vec(("[A-Za-z][A-Za-z0-9-]{0,9}", "[!-~]{1,9}"), 1..9)) {
            let text: String = fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            let paragraphs: Vec<_> = Paragraphs::new(&text).map(Result::unwrap).collect();
            prop_assert_eq!(paragraphs.len(), 1);
            let read: Vec<_> = paragraphs[0].fields.iter().map(|(n, v)| (n.to_string(), v.trim().to_string())).collect();
            prop_assert_eq!(read, fields);
        }
    }
}
