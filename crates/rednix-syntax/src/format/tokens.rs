//! Tokens with the comments and empty lines around them.

use crate::lexer;
use crate::token::{Kind, Span};

/// A comment, and how it stood in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// With its marks.
    pub text: String,
    /// An empty line comes before it.
    pub blank_before: bool,
    /// Nothing else follows on its line.
    pub ends_line: bool,
}

impl Comment {
    pub fn is_line(&self) -> bool {
        self.text.starts_with('#')
    }
}

#[derive(Clone, Debug)]
pub struct Token {
    pub kind: Kind,
    pub span: Span,
    /// Comments before it that are not the token's before.
    pub before: Vec<Comment>,
    /// A comment behind it on the same line.
    pub after: Option<Comment>,
    /// An empty line comes before it and its comments.
    pub blank_before: bool,
    /// It begins a line (its comments do, where it has any).
    pub newline_before: bool,
    /// An empty line between its last comment and itself.
    pub blank_inside: bool,
}

/// All tokens of a source without errors, the end of the file last.
pub fn read(source: &str, pipes: bool) -> Vec<Token> {
    let (raw, _) = lexer::lex(source.as_bytes(), pipes);
    let mut tokens: Vec<Token> = Vec::with_capacity(raw.len());
    let mut end = 0;
    for token in raw {
        let gap = &source[end..token.span.start as usize];
        let mut read = Gap::read(gap);
        let trailing = read.trailing.take();
        match tokens.last_mut() {
            Some(previous) => previous.after = trailing,
            None => read.comments.splice(..0, trailing).for_each(drop),
        }
        tokens.push(Token {
            kind: token.kind,
            span: token.span,
            blank_before: read.comments.first().map_or(read.blank, |comment| comment.blank_before),
            blank_inside: !read.comments.is_empty() && read.blank,
            before: read.comments,
            after: None,
            newline_before: read.newline,
        });
        end = token.span.end as usize;
    }
    tokens
}

/// What stands between two tokens.
#[derive(Default)]
struct Gap {
    trailing: Option<Comment>,
    comments: Vec<Comment>,
    /// An empty line before what comes next.
    blank: bool,
    newline: bool,
}

impl Gap {
    fn read(text: &str) -> Gap {
        let mut gap = Gap::default();
        let mut rest = text;
        let mut newlines = 0;
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '#' => rest.find(['\n', '\r']).unwrap_or(rest.len()),
                '/' => rest[2..].find("*/").map_or(rest.len(), |at| at + 4),
                other => {
                    newlines += u32::from(other == '\n');
                    gap.newline |= other == '\n';
                    rest = &rest[other.len_utf8()..];
                    continue;
                }
            };
            let (comment, after) = rest.split_at(length);
            let ends_line = after.split('\n').next().is_none_or(|line| line.trim().is_empty())
                && after.contains('\n')
                || comment.starts_with('#');
            let comment =
                Comment { text: comment.trim_end().to_owned(), blank_before: newlines > 1, ends_line };
            let same_line = newlines == 0 && gap.comments.is_empty() && gap.trailing.is_none();
            if same_line && ends_line && !comment.text.contains('\n') {
                gap.trailing = Some(comment);
            } else {
                gap.comments.push(comment);
            }
            newlines = 0;
            rest = after;
        }
        gap.blank = newlines > 1;
        gap
    }
}
