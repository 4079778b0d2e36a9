//! Sources laid out anew, in the style of the official formatter (RFC 166). Comments stay, and so does the tree.
//!
//! Differences from the official one are told in docs/formatting.md. Nothing is evaluated or written.

mod build;
mod concrete;
mod document;
mod layout;
mod strings;
mod tokens;

use crate::{Interner, Options, SyntaxError, parse};

/// The source laid out anew, or what is wrong with it.
pub fn format(source: &[u8]) -> Result<String, Vec<SyntaxError>> {
    let options = Options { pipe_operators: true };
    let parsed = parse(source, &mut Interner::new(), options);
    if !parsed.errors.is_empty() {
        return Err(parsed.errors);
    }
    let text = std::str::from_utf8(source).map_err(|error| {
        let at = error.valid_up_to() as u32;
        vec![SyntaxError::new(
            "this is not UTF-8, which is needed to lay it out",
            crate::Span::new(at, at + 1),
        )]
    })?;
    let tokens = tokens::read(text, options.pipe_operators);
    let file = concrete::Reader::new(&tokens).file();
    let document = build::Builder::new(text).file(&file);
    Ok(layout::print(&document))
}
