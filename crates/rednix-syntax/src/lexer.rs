//! The lexer: all tokens of a source at once, and the errors found on the way.
//!
//! It follows the longest-match rules of Nix's own lexer. It decodes no escapes and knows no grammar.

use std::cell::Cell;

use crate::error::SyntaxError;
use crate::token::{Kind, Span, Token};

/// What text is being read as; a stack of these follows strings, interpolations and paths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Code,
    Text,
    Indented,
    /// Inside a path; `slash` tells whether the last piece ended with one.
    Path {
        slash: bool,
    },
}

pub(crate) struct Lexer<'a> {
    source: &'a [u8],
    position: usize,
    modes: Vec<Mode>,
    tokens: Vec<Token>,
    errors: Vec<SyntaxError>,
    pipes: bool,
    /// The last runs of path and scheme characters that were looked through: many tokens can begin in one run.
    path_run: Cell<(usize, usize)>,
    scheme_run: Cell<(usize, usize)>,
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+')
}

fn is_identifier_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn is_identifier_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'\'' | b'-')
}

fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"%/?:@&=+$,-_.!~*'".contains(&byte)
}

/// Splits `source` into tokens; the last one is always the end of the file.
pub(crate) fn lex(source: &[u8], pipes: bool) -> (Vec<Token>, Vec<SyntaxError>) {
    let mut lexer = Lexer {
        source,
        position: 0,
        modes: vec![Mode::Code],
        tokens: Vec::with_capacity(source.len() / 4 + 1),
        errors: Vec::new(),
        pipes,
        path_run: Cell::default(),
        scheme_run: Cell::default(),
    };
    lexer.run();
    (lexer.tokens, lexer.errors)
}

impl Lexer<'_> {
    fn run(&mut self) {
        loop {
            match *self.modes.last().expect("the bottom mode is never popped") {
                Mode::Code => {
                    self.skip_blank();
                    if self.position >= self.source.len() {
                        break;
                    }
                    self.code();
                }
                mode => {
                    if self.position >= self.source.len() && !matches!(mode, Mode::Path { .. }) {
                        break;
                    }
                    match mode {
                        Mode::Text => self.text(),
                        Mode::Indented => self.indented(),
                        Mode::Path { slash } => self.path_rest(slash),
                        Mode::Code => unreachable!("handled above"),
                    }
                }
            }
        }
        let end = self.source.len() as u32;
        self.tokens.push(Token { kind: Kind::EndOfFile, span: Span::new(end, end) });
    }

    fn peek(&self, offset: usize) -> u8 {
        self.source.get(self.position + offset).copied().unwrap_or(0)
    }

    fn at(&self, index: usize) -> Option<u8> {
        self.source.get(index).copied()
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let start = self.position as u32;
        self.position += length;
        self.tokens.push(Token { kind, span: Span::new(start, self.position as u32) });
    }

    fn skip_blank(&mut self) {
        loop {
            match self.at(self.position) {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.position += 1,
                Some(b'#') => {
                    while !matches!(self.at(self.position), None | Some(b'\r' | b'\n')) {
                        self.position += 1;
                    }
                }
                Some(b'/') if self.at(self.position + 1) == Some(b'*') => {
                    let body = &self.source[self.position + 2..];
                    match body.windows(2).position(|pair| pair == b"*/") {
                        Some(length) => self.position += length + 4,
                        None => return,
                    }
                }
                _ => return,
            }
        }
    }

    fn code(&mut self) {
        let byte = self.peek(0);
        if (is_path_byte(byte) || matches!(byte, b'/' | b'~' | b'<'))
            && let Some(()) = self.path_start()
        {
            return;
        }
        if is_identifier_start(byte) {
            return self.identifier();
        }
        if byte.is_ascii_digit() || (byte == b'.' && self.peek(1).is_ascii_digit()) {
            return self.number();
        }
        match byte {
            b'"' => {
                self.push(Kind::Quote, 1);
                self.modes.push(Mode::Text);
            }
            b'\'' if self.peek(1) == b'\'' => self.open_indented(),
            b'{' => {
                self.push(Kind::BraceOpen, 1);
                self.modes.push(Mode::Code);
            }
            b'}' => {
                self.push(Kind::BraceClose, 1);
                if self.modes.len() > 1 {
                    self.modes.pop();
                }
            }
            b'$' if self.peek(1) == b'{' => self.interpolate(),
            _ => self.operator(byte),
        }
    }

    fn interpolate(&mut self) {
        self.push(Kind::Interpolation, 2);
        self.modes.push(Mode::Code);
    }

    fn operator(&mut self, byte: u8) {
        let two = match (byte, self.peek(1)) {
            (b'=', b'=') => Some(Kind::Equal),
            (b'!', b'=') => Some(Kind::NotEqual),
            (b'<', b'=') => Some(Kind::LessEqual),
            (b'>', b'=') => Some(Kind::GreaterEqual),
            (b'&', b'&') => Some(Kind::And),
            (b'|', b'|') => Some(Kind::Or),
            (b'-', b'>') => Some(Kind::Implies),
            (b'/', b'/') => Some(Kind::Update),
            (b'+', b'+') => Some(Kind::Concat),
            (b'<', b'|') => Some(Kind::PipeFrom),
            (b'|', b'>') => Some(Kind::PipeInto),
            _ => None,
        };
        if let Some(kind) = two {
            if matches!(kind, Kind::PipeFrom | Kind::PipeInto) && !self.pipes {
                self.error(
                    2,
                    "experimental Nix feature 'pipe-operators' is disabled; \
                     add '--extra-experimental-features pipe-operators' to enable it",
                );
            }
            return self.push(kind, 2);
        }
        if byte == b'.' && self.peek(1) == b'.' && self.peek(2) == b'.' {
            return self.push(Kind::Ellipsis, 3);
        }
        let kind = match byte {
            b'<' => Kind::Less,
            b'>' => Kind::Greater,
            b'!' => Kind::Not,
            b'+' => Kind::Plus,
            b'-' => Kind::Minus,
            b'*' => Kind::Star,
            b'/' => Kind::Slash,
            b'?' => Kind::Question,
            b':' => Kind::Colon,
            b'@' => Kind::At,
            b';' => Kind::Semicolon,
            b'=' => Kind::Assign,
            b'.' => Kind::Dot,
            b',' => Kind::Comma,
            b'(' => Kind::ParenOpen,
            b')' => Kind::ParenClose,
            b'[' => Kind::BracketOpen,
            b']' => Kind::BracketClose,
            _ => Kind::Invalid,
        };
        self.push(kind, 1);
    }

    fn error(&mut self, length: usize, message: impl Into<String>) {
        let start = self.position as u32;
        self.errors.push(SyntaxError::new(message, Span::new(start, start + length as u32)));
    }

    /// Where the bytes of a kind that begin at `from` end. Each run is looked through once.
    fn run_end(&self, known: &Cell<(usize, usize)>, from: usize, belongs: impl Fn(u8) -> bool) -> usize {
        let (start, end) = known.get();
        if (start..end).contains(&from) {
            return end;
        }
        let mut end = from;
        while self.at(end).is_some_and(&belongs) {
            end += 1;
        }
        known.set((from, end));
        end
    }

    /// Length of a path's `PATH_CHAR* (/ PATH_CHAR+)+ /?` at `from`, zero if there is none.
    fn path_length(&self, from: usize) -> usize {
        let mut end = self.run_end(&self.path_run, from, is_path_byte);
        let mut any = false;
        while self.at(end) == Some(b'/') && self.at(end + 1).is_some_and(is_path_byte) {
            any = true;
            end += 1;
            while self.at(end).is_some_and(is_path_byte) {
                end += 1;
            }
        }
        if !any {
            return 0;
        }
        if self.at(end) == Some(b'/') {
            end += 1;
        }
        end - from
    }

    /// Length of `PATH_CHAR* /` at `from`, zero if there is none.
    fn segment_length(&self, from: usize) -> usize {
        let end = self.run_end(&self.path_run, from, is_path_byte);
        if self.at(end) == Some(b'/') { end + 1 - from } else { 0 }
    }

    /// Any token that begins a path, if one does so here and no longer token does.
    fn path_start(&mut self) -> Option<()> {
        let start = self.position;
        if self.peek(0) == b'<' {
            let length = self.search_path_length()?;
            self.push(Kind::SearchPath, length);
            return Some(());
        }
        let (kind, skip) = if self.peek(0) == b'~' { (Kind::HomePath, 1) } else { (Kind::Path, 0) };
        if skip == 1 && self.peek(1) != b'/' {
            return None;
        }
        let mut length = self.path_length(start + skip);
        if skip == 1 && length > 0 && self.at(start + 1) != Some(b'/') {
            length = 0;
        }
        if length == 0 {
            let segment = self.segment_length(start + skip);
            let next = start + skip + segment;
            if segment == 0 || self.at(next) != Some(b'$') || self.at(next + 1) != Some(b'{') {
                return None;
            }
            length = segment;
        }
        length += skip;
        if is_identifier_start(self.peek(0)) && self.uri_length() > length {
            return None;
        }
        let slash = self.source[start + length - 1] == b'/';
        self.push(kind, length);
        self.modes.push(Mode::Path { slash });
        Some(())
    }

    fn search_path_length(&self) -> Option<usize> {
        let mut end = self.position + 1;
        loop {
            let piece = end;
            while self.at(end).is_some_and(is_path_byte) {
                end += 1;
            }
            if end == piece {
                return None;
            }
            match self.at(end) {
                Some(b'/') => end += 1,
                Some(b'>') => return Some(end + 1 - self.position),
                _ => return None,
            }
        }
    }

    fn uri_length(&self) -> usize {
        let mut end = self.position;
        if !self.at(end).is_some_and(|byte| byte.is_ascii_alphabetic()) {
            return 0;
        }
        let scheme = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        end = self.run_end(&self.scheme_run, end, scheme);
        if self.at(end) != Some(b':') || !self.at(end + 1).is_some_and(is_uri_byte) {
            return 0;
        }
        end += 1;
        while self.at(end).is_some_and(is_uri_byte) {
            end += 1;
        }
        end - self.position
    }

    fn identifier(&mut self) {
        let mut end = self.position;
        while self.at(end).is_some_and(is_identifier_byte) {
            end += 1;
        }
        let length = end - self.position;
        let uri = self.uri_length();
        if uri > length {
            return self.push(Kind::Uri, uri);
        }
        let kind = match &self.source[self.position..end] {
            b"if" => Kind::If,
            b"then" => Kind::Then,
            b"else" => Kind::Else,
            b"assert" => Kind::Assert,
            b"with" => Kind::With,
            b"let" => Kind::Let,
            b"in" => Kind::In,
            b"rec" => Kind::Rec,
            b"inherit" => Kind::Inherit,
            b"or" => Kind::OrKeyword,
            _ => Kind::Identifier,
        };
        self.push(kind, length);
    }

    /// An integer, or a float: `[1-9][0-9]*\.[0-9]*` or `0?\.[0-9]+`, with an exponent only after those.
    fn number(&mut self) {
        let start = self.position;
        let mut digits = start;
        while self.at(digits).is_some_and(|byte| byte.is_ascii_digit()) {
            digits += 1;
        }
        let integer = digits - start;
        let mut end = digits;
        let mut float = false;
        if self.at(digits) == Some(b'.') {
            let mut fraction = digits + 1;
            while self.at(fraction).is_some_and(|byte| byte.is_ascii_digit()) {
                fraction += 1;
            }
            let leading = self.source[start];
            let any_fraction = fraction > digits + 1;
            float = match integer {
                0 => any_fraction,
                1 if leading == b'0' => any_fraction,
                _ => leading != b'0',
            };
            if float {
                end = fraction;
            }
        }
        if !float {
            return self.push(Kind::Integer, integer);
        }
        if matches!(self.at(end), Some(b'e' | b'E')) {
            let mut exponent = end + 1;
            if matches!(self.at(exponent), Some(b'+' | b'-')) {
                exponent += 1;
            }
            let from = exponent;
            while self.at(exponent).is_some_and(|byte| byte.is_ascii_digit()) {
                exponent += 1;
            }
            if exponent > from {
                end = exponent;
            }
        }
        self.push(Kind::Float, end - start);
    }

    fn open_indented(&mut self) {
        let mut end = self.position + 2;
        while self.at(end) == Some(b' ') {
            end += 1;
        }
        let length = if self.at(end) == Some(b'\n') { end + 1 - self.position } else { 2 };
        self.push(Kind::IndentedOpen, length);
        self.modes.push(Mode::Indented);
    }

    fn text(&mut self) {
        match (self.peek(0), self.peek(1)) {
            (b'"', _) => {
                self.push(Kind::Quote, 1);
                self.modes.pop();
                return;
            }
            (b'$', b'{') => return self.interpolate(),
            _ => {}
        }
        let mut end = self.position;
        while let Some(byte) = self.at(end) {
            match (byte, self.at(end + 1)) {
                (b'"', _) | (b'$', Some(b'{')) => break,
                (b'$', Some(b'"')) => {
                    end += 1;
                    break;
                }
                (b'$', Some(b'\\')) => end += 3,
                (b'$' | b'\\', _) => end += 2,
                _ => end += 1,
            }
        }
        if end > self.source.len() {
            // A lone `\`, `$` or `$\` before the end: the text cannot close any more.
            end = self.source.len();
            while end > self.position && matches!(self.source[end - 1], b'\\' | b'$') {
                end -= 1;
            }
            if end > self.position {
                self.push(Kind::StringPart, end - self.position);
            }
            self.position = self.source.len();
            return;
        }
        self.push(Kind::StringPart, end - self.position);
    }

    fn indented(&mut self) {
        let rest = [self.peek(0), self.peek(1), self.peek(2)];
        match rest {
            [b'\'', b'\'', b'$' | b'\''] => return self.push(Kind::IndentedEscape, 3),
            [b'\'', b'\'', b'\\'] if self.at(self.position + 3).is_some() => {
                return self.push(Kind::IndentedEscape, 4);
            }
            [b'\'', b'\'', _] => {
                self.push(Kind::IndentedClose, 2);
                self.modes.pop();
                return;
            }
            [b'$', b'{', _] => return self.interpolate(),
            _ => {}
        }
        let mut end = self.position;
        while let Some(byte) = self.at(end) {
            match (byte, self.at(end + 1)) {
                (b'$', None | Some(b'{' | b'\'')) | (b'\'', None | Some(b'\'' | b'$')) => break,
                (b'$' | b'\'', Some(_)) => end += 2,
                _ => end += 1,
            }
        }
        if end == self.position {
            return self.push(Kind::IndentedEscape, 1);
        }
        self.push(Kind::IndentedPart, end - self.position);
    }

    fn path_rest(&mut self, slash: bool) {
        if self.peek(0) == b'$' && self.peek(1) == b'{' {
            *self.modes.last_mut().expect("in a path") = Mode::Path { slash: false };
            return self.interpolate();
        }
        let mut length = self.path_length(self.position).max(self.segment_length(self.position));
        if length == 0 {
            while is_path_byte(self.peek(length)) {
                length += 1;
            }
        }
        if length > 0 {
            self.push(Kind::StringPart, length);
            let slash = self.source[self.position - 1] == b'/';
            *self.modes.last_mut().expect("in a path") = Mode::Path { slash };
            return;
        }
        if slash {
            self.error(1.min(self.source.len() - self.position), "path has a trailing slash");
        }
        self.push(Kind::PathEnd, 0);
        self.modes.pop();
    }
}
