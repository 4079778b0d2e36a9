//! Parsing of string and path literals: pieces, interpolations, indentation.

use crate::ast::*;
use crate::error::SyntaxError;
use crate::parser::{Literal, Parsed, Parser, Warning};
use crate::text::{self, IndentedPiece};
use crate::token::{Kind, Span};

impl Parser<'_> {
    pub(crate) fn string(&mut self) -> Parsed<ExprId> {
        let start = self.bump().span;
        let mut parts = Vec::new();
        loop {
            match self.kind() {
                Kind::StringPart => {
                    let span = self.bump().span;
                    let bytes = text::unescape(&self.source[span.range()]);
                    self.check_no_null(&bytes, span);
                    parts.push(self.text_part(&bytes, span));
                }
                Kind::Interpolation => {
                    let part = self.interpolation()?;
                    parts.push(part);
                }
                Kind::Quote => break,
                _ => {
                    let more = parts.len() > 1
                        || parts
                            .first()
                            .is_some_and(|part| !matches!(self.ast.expr(part.expr), Expr::Text(_)));
                    // After an interpolation another piece could follow; after plain text only the end.
                    let expected: &[Kind] = if more {
                        &[Kind::StringPart, Kind::Interpolation, Kind::Quote]
                    } else {
                        &[Kind::Quote]
                    };
                    return Err(self.unexpected(expected));
                }
            }
        }
        self.bump();
        if parts.is_empty() {
            let run = self.ast.add_bytes(b"");
            return Ok(self.finish(Expr::Text(run), start, &[]));
        }
        if let [only] = parts[..]
            && let Expr::Text(run) = self.ast.expr(only.expr)
            && self.ast.span(only.expr).start == start.end
            && only.start == start.end
        {
            return Ok(self.finish(Expr::Text(run), start, &[]));
        }
        Ok(self.interpolated(start, &parts, true))
    }

    fn interpolated(&mut self, start: Span, parts: &[Part], text: bool) -> ExprId {
        let children: Vec<_> = parts.iter().map(|part| part.expr).collect();
        let parts = self.ast.add_parts(parts);
        self.finish(Expr::Interpolated { parts, text }, start, &children)
    }

    fn text_part(&mut self, bytes: &[u8], span: Span) -> Part {
        let run = self.ast.add_bytes(bytes);
        Part { expr: self.add(Expr::Text(run), span, &[]), start: span.start }
    }

    fn interpolation(&mut self) -> Parsed<Part> {
        let start = self.bump().span.start;
        let expr = self.expr()?;
        self.expect(Kind::BraceClose, &[Kind::BraceClose])?;
        Ok(Part { expr, start })
    }

    fn check_no_null(&mut self, bytes: &[u8], span: Span) {
        if bytes.contains(&0) {
            let shown = String::from_utf8_lossy(bytes).replace('\0', "␀");
            let message = format!(
                "input string '{shown}' cannot be represented as Nix string because it contains null bytes"
            );
            self.error(SyntaxError::new(message, span));
        }
    }

    pub(crate) fn indented_string(&mut self) -> Parsed<ExprId> {
        let start = self.bump().span;
        let mut pieces = Vec::new();
        let mut starts = Vec::new();
        loop {
            let span = self.span();
            match self.kind() {
                Kind::IndentedPart => {
                    self.bump();
                    let bytes = &self.source[span.range()];
                    self.check_no_null(bytes, span);
                    pieces.push(IndentedPiece::Text(bytes.to_vec()));
                }
                Kind::IndentedEscape => {
                    self.bump();
                    let bytes = text::unescape_indented(&self.source[span.range()]);
                    self.check_no_null(&bytes, span);
                    pieces.push(IndentedPiece::Escape(bytes));
                }
                Kind::Interpolation => {
                    let part = self.interpolation()?;
                    pieces.push(IndentedPiece::Expr(part.expr));
                }
                Kind::IndentedClose => break,
                _ => {
                    return Err(self.unexpected(&[
                        Kind::IndentedPart,
                        Kind::Interpolation,
                        Kind::IndentedClose,
                    ]));
                }
            }
            starts.push(span);
        }
        self.bump();
        let mut parts = Vec::new();
        for (index, bytes) in text::strip_indentation(&pieces) {
            match &pieces[index] {
                IndentedPiece::Expr(expr) => parts.push(Part { expr: *expr, start: starts[index].start }),
                _ if bytes.is_empty() => {}
                _ => parts.push(self.text_part(&bytes, starts[index])),
            }
        }
        match parts[..] {
            [] => {
                let run = self.ast.add_bytes(b"");
                Ok(self.finish(Expr::Text(run), start, &[]))
            }
            [Part { expr, .. }] if matches!(self.ast.expr(expr), Expr::Text(_)) => Ok(expr),
            _ => Ok(self.interpolated(start, &parts, true)),
        }
    }

    pub(crate) fn path(&mut self) -> Parsed<ExprId> {
        let token = self.bump();
        let start = token.span;
        let literal = &self.source[start.range()];
        let lint = match literal {
            [b'~', ..] => Some(Literal::HomePath),
            [b'/', ..] => Some(Literal::AbsolutePath),
            [b'.', b'/', ..] | [b'.', b'.', b'/', ..] => None,
            _ => Some(Literal::ShortPath),
        };
        self.warnings.extend(lint.map(|literal| Warning::Literal(literal, start)));
        let first = if token.kind == Kind::HomePath {
            let run = self.ast.add_bytes(&literal[1..]);
            self.add(Expr::HomePath(run), start, &[])
        } else {
            let run = self.ast.add_bytes(literal);
            self.add(Expr::Path(run), start, &[])
        };
        let mut parts = vec![Part { expr: first, start: start.start }];
        loop {
            match self.kind() {
                Kind::StringPart => {
                    let span = self.bump().span;
                    let bytes = &self.source[span.range()];
                    parts.push(self.text_part(bytes, span));
                }
                Kind::Interpolation => {
                    let part = self.interpolation()?;
                    parts.push(part);
                }
                _ => break,
            }
        }
        self.expect(Kind::PathEnd, &[])?;
        if parts.len() == 1 {
            return Ok(first);
        }
        Ok(self.interpolated(start, &parts, false))
    }
}
