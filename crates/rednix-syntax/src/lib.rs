//! The syntax of the Nix language, as C++ Nix 2.34 reads it: from bytes to a tree and a list of errors.
//!
//! Does no I/O, resolves no names and evaluates nothing.

mod ast;
mod bindings;
mod error;
pub mod format;
mod lexer;
pub mod limits;
mod parser;
pub mod printer;
mod strings;
mod symbol;
pub mod text;
mod token;

pub use ast::*;
pub use error::SyntaxError;
pub use parser::{Literal, Warning};
pub use symbol::{Interner, Symbol};
pub use token::Span;

/// Which of the language's optional parts are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The experimental `|>` and `<|`.
    pub pipe_operators: bool,
}

/// A tree, and what was wrong with its source. With errors the tree has [`Expr::Error`] nodes in it.
#[derive(Debug)]
pub struct Parse {
    pub ast: Ast,
    pub root: ExprId,
    /// In source order; the first is the one C++ Nix reports.
    pub errors: Vec<SyntaxError>,
    pub warnings: Vec<Warning>,
}

/// Parses one whole source.
pub fn parse(source: &[u8], interner: &mut Interner, options: Options) -> Parse {
    if source.len() > limits::SOURCE_BYTES_MAX {
        let mut ast = Ast::default();
        let root = ast.add(Expr::Error, Span::default(), 1);
        let message = format!("source is larger than {} bytes", limits::SOURCE_BYTES_MAX);
        let errors = vec![SyntaxError::new(message, Span::default())];
        return Parse { ast, root, errors, warnings: Vec::new() };
    }
    let (tokens, lexer_errors) = lexer::lex(source, options.pipe_operators);
    let mut parser = parser::Parser::new(source, &tokens, interner);
    let root = parser.file();
    let mut errors = lexer_errors;
    errors.append(&mut parser.errors);
    errors.sort_by_key(|error| error.span.start);
    errors.truncate(limits::ERRORS_MAX);
    Parse { ast: parser.ast, root, errors, warnings: parser.warnings }
}

/// Where the tokens of a source are, the end of the source last; and what the lexer finds wrong.
pub fn tokens(source: &[u8], options: Options) -> (Vec<Span>, Vec<SyntaxError>) {
    let (tokens, errors) = lexer::lex(source, options.pipe_operators);
    (tokens.into_iter().map(|token| token.span).collect(), errors)
}
