//! The grammar of JSON over its tokens, with an explicit stack.

use super::super::limits::JSON_DEPTH_MAX;
use super::JsonError;
use super::lexer::{LexError, Lexer, Token, control_advice};

/// Told what a JSON text holds, in its order. Keys may repeat; the last one counts.
pub trait JsonVisitor {
    fn null(&mut self);
    fn bool(&mut self, value: bool);
    fn int(&mut self, value: i64);
    fn float(&mut self, value: f64);
    fn string(&mut self, value: Vec<u8>);
    fn begin_list(&mut self);
    fn end_list(&mut self);
    fn begin_object(&mut self);
    /// The key of the value that follows.
    fn key(&mut self, key: Vec<u8>);
    fn end_object(&mut self);
}

/// Reads one JSON text. The visitor has seen a part of it when there is an error.
pub fn parse(text: &[u8], visitor: &mut impl JsonVisitor) -> Result<(), JsonError> {
    parse_within(text, visitor, JSON_DEPTH_MAX)
}

/// The same with another limit of depth.
pub(super) fn parse_within(
    text: &[u8],
    visitor: &mut impl JsonVisitor,
    depth_max: usize,
) -> Result<(), JsonError> {
    let mut parser = Parser { lexer: Lexer::new(text), visitor, open: Vec::new(), depth_max };
    let first = parser.token("value")?;
    if first == Token::End && parser.lexer.offset == 1 {
        return Err(parser.fail("attempting to parse an empty input; check that your input string or stream contains the expected JSON".to_owned()));
    }
    parser.value(first)?;
    while let Some(&container) = parser.open.last() {
        match container {
            Container::List => parser.after_element()?,
            Container::Object => parser.after_member()?,
        }
    }
    match parser.token("value")? {
        Token::End => Ok(()),
        token => Err(parser.unexpected("value", &token, Token::End.name())),
    }
}

#[derive(Clone, Copy)]
enum Container {
    List,
    Object,
}

struct Parser<'a, V> {
    lexer: Lexer<'a>,
    visitor: &'a mut V,
    open: Vec<Container>,
    depth_max: usize,
}

impl<V: JsonVisitor> Parser<'_, V> {
    fn fail(&self, reason: String) -> JsonError {
        let (line, column) = self.lexer.position();
        JsonError::Syntax { line, column, reason }
    }

    fn unexpected(&self, place: &str, token: &Token, expected: &str) -> JsonError {
        self.fail(format!(
            "syntax error while parsing {place} - unexpected {}; expected {expected}",
            token.name()
        ))
    }

    fn token(&mut self, place: &str) -> Result<Token, JsonError> {
        let reason = match self.lexer.next() {
            Ok(token) => return Ok(token),
            Err(LexError::Other(error)) => return Err(error),
            Err(LexError::Token(reason)) => reason.to_owned(),
            Err(LexError::Control(byte)) => control_advice(byte),
        };
        Err(self.fail(format!(
            "syntax error while parsing {place} - {reason}; last read: '{}'",
            self.lexer.token_text()
        )))
    }

    /// A value from its first token on: all of a plain one; of a container, up to its first plain value.
    fn value(&mut self, first: Token) -> Result<(), JsonError> {
        let mut token = first;
        loop {
            match token {
                Token::Null => self.visitor.null(),
                Token::Bool(value) => self.visitor.bool(value),
                Token::Int(value) => self.visitor.int(value),
                Token::Float(value) => self.visitor.float(value),
                Token::String(value) => self.visitor.string(value),
                Token::BeginList => {
                    self.open(Container::List)?;
                    token = self.token("value")?;
                    if token != Token::EndList {
                        continue;
                    }
                    self.close();
                }
                Token::BeginObject => {
                    self.open(Container::Object)?;
                    token = self.token("object key")?;
                    if token != Token::EndObject {
                        token = self.member(token)?;
                        continue;
                    }
                    self.close();
                }
                token => return Err(self.unexpected("value", &token, "'[', '{', or a literal")),
            }
            return Ok(());
        }
    }

    fn open(&mut self, container: Container) -> Result<(), JsonError> {
        if self.open.len() >= self.depth_max {
            return Err(JsonError::Depth { limit: self.depth_max });
        }
        self.open.push(container);
        match container {
            Container::List => self.visitor.begin_list(),
            Container::Object => self.visitor.begin_object(),
        }
        Ok(())
    }

    fn close(&mut self) {
        match self.open.pop() {
            Some(Container::List) => self.visitor.end_list(),
            Some(Container::Object) => self.visitor.end_object(),
            None => unreachable!("only an open container is closed"),
        }
    }

    /// Key and colon; gives the first token of the value.
    fn member(&mut self, key: Token) -> Result<Token, JsonError> {
        let Token::String(key) = key else {
            return Err(self.unexpected("object key", &key, "string literal"));
        };
        self.visitor.key(key);
        match self.token("object separator")? {
            Token::Colon => self.token("value"),
            token => Err(self.unexpected("object separator", &token, Token::Colon.name())),
        }
    }

    fn after_element(&mut self) -> Result<(), JsonError> {
        match self.token("array")? {
            Token::Comma => {
                let token = self.token("value")?;
                self.value(token)
            }
            Token::EndList => {
                self.close();
                Ok(())
            }
            token => Err(self.unexpected("array", &token, Token::EndList.name())),
        }
    }

    fn after_member(&mut self) -> Result<(), JsonError> {
        match self.token("object")? {
            Token::Comma => {
                let key = self.token("object key")?;
                let token = self.member(key)?;
                self.value(token)
            }
            Token::EndObject => {
                self.close();
                Ok(())
            }
            token => Err(self.unexpected("object", &token, Token::EndObject.name())),
        }
    }
}
