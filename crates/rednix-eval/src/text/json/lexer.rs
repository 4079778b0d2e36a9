//! The tokens of JSON. It knows nothing of their order.

use super::JsonError;
use super::write::first_wrong_byte;

#[derive(Debug, PartialEq)]
pub(super) enum Token {
    BeginList,
    EndList,
    BeginObject,
    EndObject,
    Colon,
    Comma,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(Vec<u8>),
    End,
}

impl Token {
    /// How error messages call it.
    pub fn name(&self) -> &'static str {
        match self {
            Token::BeginList => "'['",
            Token::EndList => "']'",
            Token::BeginObject => "'{'",
            Token::EndObject => "'}'",
            Token::Colon => "':'",
            Token::Comma => "','",
            Token::Null => "null literal",
            Token::Bool(true) => "true literal",
            Token::Bool(false) => "false literal",
            Token::Int(_) | Token::Float(_) => "number literal",
            Token::String(_) => "string literal",
            Token::End => "end of input",
        }
    }
}

/// A token that cannot be, or a number that does not fit.
pub(super) enum LexError {
    Token(&'static str),
    /// A control character that stands in a string as it is.
    Control(u8),
    Other(JsonError),
}

const CONTROL_NAMES: [&str; 32] = [
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR", "SO", "SI",
    "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS",
    "US",
];

/// What to write instead of a control character.
pub(super) fn control_advice(byte: u8) -> String {
    let short = match byte {
        8 => " or \\b",
        9 => " or \\t",
        10 => " or \\n",
        12 => " or \\f",
        13 => " or \\r",
        _ => "",
    };
    let name = CONTROL_NAMES[usize::from(byte)];
    format!("invalid string: control character U+{byte:04X} ({name}) must be escaped to \\u{byte:04X}{short}")
}

pub(super) struct Lexer<'a> {
    text: &'a [u8],
    /// Behind the last byte read; one more than the length once the end was met.
    pub offset: usize,
    /// Where the last string or number begins; messages show what was read since.
    begin: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a [u8]) -> Lexer<'a> {
        let offset = if text.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        Lexer { text, offset, begin: offset }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.offset).copied()
    }

    pub fn next(&mut self) -> Result<Token, LexError> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.offset += 1;
        }
        let Some(byte) = self.peek() else {
            self.offset = self.text.len() + 1;
            return Ok(Token::End);
        };
        self.offset += 1;
        match byte {
            b'[' => Ok(Token::BeginList),
            b']' => Ok(Token::EndList),
            b'{' => Ok(Token::BeginObject),
            b'}' => Ok(Token::EndObject),
            b':' => Ok(Token::Colon),
            b',' => Ok(Token::Comma),
            b'n' => self.literal(b"ull", Token::Null),
            b't' => self.literal(b"rue", Token::Bool(true)),
            b'f' => self.literal(b"alse", Token::Bool(false)),
            b'"' => {
                self.begin = self.offset - 1;
                self.string()
            }
            b'-' | b'0'..=b'9' => {
                self.begin = self.offset - 1;
                self.number(byte)
            }
            _ => Err(LexError::Token("invalid literal")),
        }
    }

    /// What was read of the current token, control characters made visible.
    pub fn token_text(&self) -> String {
        let read = &self.text[self.begin..self.offset.min(self.text.len())];
        let mut shown = String::new();
        for piece in read.utf8_chunks() {
            for character in piece.valid().chars() {
                match character {
                    '\0'..='\x1f' => shown.push_str(&format!("<U+{:04X}>", character as u32)),
                    _ => shown.push(character),
                }
            }
            if !piece.invalid().is_empty() {
                shown.push(char::REPLACEMENT_CHARACTER);
            }
        }
        shown
    }

    /// Line and column of the last byte read.
    pub fn position(&self) -> (usize, usize) {
        let read = &self.text[..self.offset.min(self.text.len())];
        let line = memchr::memchr_iter(b'\n', read).count();
        let line_begin = memchr::memrchr(b'\n', read).map_or(0, |index| index + 1);
        (line + 1, self.offset - line_begin)
    }

    fn literal(&mut self, rest: &[u8], token: Token) -> Result<Token, LexError> {
        for &expected in rest {
            let found = self.peek();
            self.offset += 1;
            if found != Some(expected) {
                return Err(LexError::Token("invalid literal"));
            }
        }
        Ok(token)
    }

    fn digits(&mut self) -> bool {
        let begin = self.offset;
        while let Some(b'0'..=b'9') = self.peek() {
            self.offset += 1;
        }
        self.offset > begin
    }

    /// Reads the byte that should not have come, so that messages show it.
    fn unexpected(&mut self, reason: &'static str) -> LexError {
        self.offset += 1;
        LexError::Token(reason)
    }

    fn number(&mut self, first: u8) -> Result<Token, LexError> {
        if first == b'-' && !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.unexpected("invalid number; expected digit after '-'"));
        }
        let leading = if first == b'-' { self.begin + 1 } else { self.begin };
        self.offset = leading + 1;
        if self.text[leading] != b'0' {
            self.digits();
        }
        let mut whole = true;
        if self.peek() == Some(b'.') {
            whole = false;
            self.offset += 1;
            if !self.digits() {
                return Err(self.unexpected("invalid number; expected digit after '.'"));
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            whole = false;
            self.offset += 1;
            let signed = matches!(self.peek(), Some(b'+' | b'-'));
            self.offset += usize::from(signed);
            if !self.digits() {
                return Err(self.unexpected(if signed {
                    "invalid number; expected digit after exponent sign"
                } else {
                    "invalid number; expected '+', '-', or digit after exponent"
                }));
            }
        }
        let text = std::str::from_utf8(&self.text[self.begin..self.offset]).expect("digits are ASCII");
        self.value(text, whole)
    }

    /// Whole numbers are integers if they fit in 64 bits, with or without sign; everything else is a float.
    fn value(&self, text: &str, whole: bool) -> Result<Token, LexError> {
        if whole {
            if let Ok(value) = text.parse() {
                return Ok(Token::Int(value));
            }
            if let Ok(number) = text.parse::<u64>() {
                return Err(LexError::Other(JsonError::IntegerRange { number }));
            }
        }
        let value: f64 = text.parse().expect("the grammar of JSON numbers is a part of Rust's");
        if value.is_infinite() {
            return Err(LexError::Other(JsonError::FloatRange { number: text.to_owned() }));
        }
        Ok(Token::Float(value))
    }

    fn string(&mut self) -> Result<Token, LexError> {
        let mut value = Vec::new();
        loop {
            let rest = &self.text[self.offset..];
            let plain =
                rest.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
            if let Err(error) = std::str::from_utf8(&rest[..plain]) {
                self.offset += first_wrong_byte(rest, error).unwrap_or(plain) + 1;
                return Err(LexError::Token("invalid string: ill-formed UTF-8 byte"));
            }
            value.extend_from_slice(&rest[..plain]);
            self.offset += plain + 1;
            match rest.get(plain) {
                None => return Err(LexError::Token("invalid string: missing closing quote")),
                Some(b'"') => return Ok(Token::String(value)),
                Some(b'\\') => self.escape(&mut value)?,
                Some(&control) => return Err(LexError::Control(control)),
            }
        }
    }

    fn escape(&mut self, value: &mut Vec<u8>) -> Result<(), LexError> {
        let byte = self.peek();
        self.offset += 1;
        value.push(match byte {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let character = self.unicode_escape()?;
                value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(LexError::Token("invalid string: forbidden character after backslash")),
        });
        Ok(())
    }

    fn four_digits(&mut self) -> Result<u32, LexError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| (byte as char).to_digit(16));
            self.offset += 1;
            match digit {
                Some(digit) => code = code * 16 + digit,
                None => {
                    return Err(LexError::Token("invalid string: '\\u' must be followed by 4 hex digits"));
                }
            }
        }
        Ok(code)
    }

    /// The character of a `\u` escape, or of the pair of them that a surrogate begins.
    fn unicode_escape(&mut self) -> Result<char, LexError> {
        let first = self.four_digits()?;
        let code = match first {
            0xD800..=0xDBFF => {
                const UNPAIRED: LexError = LexError::Token(
                    "invalid string: surrogate U+D800..U+DBFF must be followed by U+DC00..U+DFFF",
                );
                for expected in *b"\\u" {
                    let found = self.peek();
                    self.offset += 1;
                    if found != Some(expected) {
                        return Err(UNPAIRED);
                    }
                }
                match self.four_digits()? {
                    second @ 0xDC00..=0xDFFF => 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00),
                    _ => return Err(UNPAIRED),
                }
            }
            _ => first,
        };
        char::from_u32(code)
            .ok_or(LexError::Token("invalid string: surrogate U+DC00..U+DFFF must follow U+D800..U+DBFF"))
    }
}
