//! A tree that has every token of the source, for laying it out. Built from a source that parses.

use super::tokens::Token;
use crate::limits;
use crate::token::Kind;

#[derive(Debug)]
pub enum Node {
    /// One token: a variable, a number, `<x>`, a URL.
    Token(Token),
    /// A string or path, from its first to its last token.
    Text(Vec<Piece>, TextKind),
    List {
        open: Token,
        items: Vec<Node>,
        close: Token,
    },
    Set {
        rec: Option<Token>,
        open: Token,
        bindings: Vec<Binding>,
        close: Token,
    },
    Let {
        open: Token,
        bindings: Vec<Binding>,
        middle: Token,
        body: Box<Node>,
    },
    Paren {
        open: Token,
        inner: Box<Node>,
        close: Token,
    },
    Lambda {
        parameters: Parameters,
        colon: Token,
        body: Box<Node>,
    },
    Call {
        function: Box<Node>,
        arguments: Vec<Node>,
    },
    Select {
        base: Box<Node>,
        path: Vec<Node>,
        default: Option<(Token, Box<Node>)>,
    },
    Has {
        base: Box<Node>,
        question: Token,
        path: Vec<Node>,
    },
    Unary {
        operator: Token,
        operand: Box<Node>,
    },
    /// Operands on one level, each but the first with the operator before it.
    Chain {
        first: Box<Node>,
        rest: Vec<(Token, Node)>,
    },
    If {
        branches: Vec<Branch>,
        otherwise: Token,
        last: Box<Node>,
    },
    /// `with` and `assert`.
    Prefix {
        word: Token,
        subject: Box<Node>,
        semicolon: Token,
        body: Box<Node>,
    },
    /// `${ … }` as a name.
    Interpolation {
        open: Token,
        inner: Box<Node>,
        close: Token,
    },
}

#[derive(Debug)]
pub struct Branch {
    /// `else`, but for the first.
    pub before: Option<Token>,
    pub word: Token,
    pub condition: Node,
    pub then: Token,
    pub value: Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    Quoted,
    Indented,
    Path,
}

#[derive(Debug)]
pub enum Piece {
    Token(Token),
    Interpolation { open: Token, inner: Box<Node>, close: Token },
}

#[derive(Debug)]
pub enum Binding {
    /// A path, joined by dots; its value.
    Value {
        path: Vec<Node>,
        assign: Token,
        value: Node,
        end: Token,
    },
    Inherit {
        word: Token,
        from: Option<(Token, Node, Token)>,
        names: Vec<Node>,
        end: Token,
    },
}

#[derive(Debug)]
pub struct Parameters {
    pub name: Option<Token>,
    pub at: Option<Token>,
    pub formals: Option<Formals>,
    /// `name @ { }` rather than `{ } @ name`.
    pub name_first: bool,
}

#[derive(Debug)]
pub struct Formals {
    pub open: Token,
    pub formals: Vec<Formal>,
    pub close: Token,
}

#[derive(Debug)]
pub struct Formal {
    /// A name, or `...`.
    pub name: Token,
    pub default: Option<(Token, Node)>,
    pub comma: Option<Token>,
}

#[derive(Debug)]
pub struct File {
    pub root: Node,
    pub end: Token,
}

/// Strength and whether the operator takes more of its own on the right (2), left (1) or neither side (0).
fn infix(kind: Kind) -> Option<(u8, u8)> {
    Some(match kind {
        Kind::PipeInto => (0, 1),
        Kind::PipeFrom => (0, 2),
        Kind::Implies => (2, 2),
        Kind::Or => (3, 1),
        Kind::And => (4, 1),
        Kind::Equal | Kind::NotEqual => (5, 0),
        Kind::Less | Kind::Greater | Kind::LessEqual | Kind::GreaterEqual => (6, 0),
        Kind::Update => (7, 2),
        Kind::Plus | Kind::Minus => (9, 1),
        Kind::Star | Kind::Slash => (10, 1),
        Kind::Concat => (11, 2),
        _ => return None,
    })
}

const NOT_STRENGTH: u8 = 8;
const HAS_STRENGTH: u8 = 12;
const NEGATE_STRENGTH: u8 = 13;

pub struct Reader<'a> {
    tokens: &'a [Token],
    next: usize,
}

impl<'a> Reader<'a> {
    pub fn new(tokens: &'a [Token]) -> Self {
        Reader { tokens, next: 0 }
    }

    pub fn file(mut self) -> File {
        let root = self.expr();
        File { root, end: self.bump() }
    }

    fn kind(&self) -> Kind {
        self.tokens[self.next].kind
    }

    fn kind_at(&self, offset: usize) -> Kind {
        self.tokens.get(self.next + offset).map_or(Kind::EndOfFile, |token| token.kind)
    }

    fn bump(&mut self) -> Token {
        let token = self.tokens[self.next].clone();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    fn expr(&mut self) -> Node {
        limits::with_stack(|| self.expr_here())
    }

    fn expr_here(&mut self) -> Node {
        match self.kind() {
            Kind::Identifier if matches!(self.kind_at(1), Kind::Colon | Kind::At) => self.lambda(),
            Kind::BraceOpen if self.at_formals() => self.lambda(),
            Kind::Assert | Kind::With => {
                let word = self.bump();
                let subject = Box::new(self.expr());
                let semicolon = self.bump();
                Node::Prefix { word, subject, semicolon, body: Box::new(self.expr()) }
            }
            Kind::Let if self.kind_at(1) != Kind::BraceOpen => {
                let open = self.bump();
                let (bindings, middle) = self.bindings(Kind::In);
                Node::Let { open, bindings, middle, body: Box::new(self.expr()) }
            }
            Kind::If => self.condition(),
            _ => self.operation(0),
        }
    }

    fn condition(&mut self) -> Node {
        let mut branches = Vec::new();
        let mut before = None;
        loop {
            let word = self.bump();
            let condition = self.expr();
            let then = self.bump();
            let value = self.expr();
            branches.push(Branch { before: before.take(), word, condition, then, value });
            let otherwise = self.bump();
            if self.kind() != Kind::If {
                return Node::If { branches, otherwise, last: Box::new(self.expr()) };
            }
            before = Some(otherwise);
        }
    }

    /// Whether the `{` here begins a function's formals.
    fn at_formals(&self) -> bool {
        match (self.kind_at(1), self.kind_at(2)) {
            (Kind::BraceClose, next) => matches!(next, Kind::Colon | Kind::At),
            (Kind::Ellipsis, _) => true,
            (Kind::Identifier, next) => match next {
                Kind::Comma | Kind::Question => true,
                Kind::BraceClose => matches!(self.kind_at(3), Kind::Colon | Kind::At),
                _ => false,
            },
            _ => false,
        }
    }

    fn lambda(&mut self) -> Node {
        let mut parameters = Parameters { name: None, at: None, formals: None, name_first: false };
        if self.kind() == Kind::Identifier {
            parameters.name = Some(self.bump());
            parameters.name_first = true;
            if self.kind() == Kind::At {
                parameters.at = Some(self.bump());
                parameters.formals = Some(self.formals());
            }
        } else {
            parameters.formals = Some(self.formals());
            if self.kind() == Kind::At {
                parameters.at = Some(self.bump());
                parameters.name = Some(self.bump());
            }
        }
        let colon = self.bump();
        Node::Lambda { parameters, colon, body: Box::new(self.expr()) }
    }

    fn formals(&mut self) -> Formals {
        let open = self.bump();
        let mut formals = Vec::new();
        while self.kind() != Kind::BraceClose {
            let name = self.bump();
            let default = (self.kind() == Kind::Question).then(|| (self.bump(), self.expr()));
            let comma = (self.kind() == Kind::Comma).then(|| self.bump());
            formals.push(Formal { name, default, comma });
        }
        Formals { open, formals, close: self.bump() }
    }

    fn operation(&mut self, least: u8) -> Node {
        limits::with_stack(|| self.operation_here(least))
    }

    fn operation_here(&mut self, least: u8) -> Node {
        let mut left = match self.kind() {
            Kind::Not => {
                Node::Unary { operator: self.bump(), operand: Box::new(self.operation(NOT_STRENGTH)) }
            }
            Kind::Minus => {
                Node::Unary { operator: self.bump(), operand: Box::new(self.operation(NEGATE_STRENGTH)) }
            }
            Kind::Assert | Kind::With | Kind::If | Kind::Let | Kind::BraceOpen | Kind::Identifier => {
                self.loose()
            }
            _ => self.call(),
        };
        let mut level = u8::MAX;
        loop {
            if self.kind() == Kind::Question && least <= HAS_STRENGTH {
                let question = self.bump();
                left = Node::Has { base: Box::new(left), question, path: self.path() };
                continue;
            }
            let Some((strength, side)) = infix(self.kind()).filter(|(strength, _)| *strength >= least) else {
                return left;
            };
            let operator = self.bump();
            let right = self.operation(if side == 2 { strength } else { strength + 1 });
            let same = level == strength;
            left = match left {
                Node::Chain { first, mut rest } if same => {
                    rest.push((operator, right));
                    Node::Chain { first, rest }
                }
                other => flattened(other, operator, right, strength),
            };
            level = strength;
        }
    }

    /// What may stand on the right of an operator without parentheses: functions, `let`, `if` and the like too.
    fn loose(&mut self) -> Node {
        let keyword = matches!(self.kind(), Kind::Assert | Kind::With | Kind::If)
            || self.kind() == Kind::Let && self.kind_at(1) != Kind::BraceOpen
            || self.kind() == Kind::Identifier && matches!(self.kind_at(1), Kind::Colon | Kind::At)
            || self.kind() == Kind::BraceOpen && self.at_formals();
        if keyword { self.expr() } else { self.call() }
    }

    fn at_operand(&self) -> bool {
        match self.kind() {
            Kind::Identifier
            | Kind::Integer
            | Kind::Float
            | Kind::Quote
            | Kind::IndentedOpen
            | Kind::Path
            | Kind::HomePath
            | Kind::SearchPath
            | Kind::Uri
            | Kind::ParenOpen
            | Kind::BracketOpen
            | Kind::BraceOpen
            | Kind::Rec => true,
            Kind::Let => self.kind_at(1) == Kind::BraceOpen,
            _ => false,
        }
    }

    fn call(&mut self) -> Node {
        let function = self.selection();
        let mut arguments = Vec::new();
        while self.at_operand() {
            arguments.push(self.selection());
        }
        if arguments.is_empty() { function } else { Node::Call { function: Box::new(function), arguments } }
    }

    fn selection(&mut self) -> Node {
        limits::with_stack(|| {
            let base = self.simple();
            match self.kind() {
                Kind::Dot => {
                    let dot = self.bump();
                    let mut path = self.path();
                    // A comment at the first dot goes before the name.
                    if let Some(first) = path.first_mut().and_then(first_token) {
                        first.before.splice(..0, dot.before.into_iter().chain(dot.after));
                    }
                    let default =
                        (self.kind() == Kind::OrKeyword).then(|| (self.bump(), Box::new(self.selection())));
                    Node::Select { base: Box::new(base), path, default }
                }
                Kind::OrKeyword => {
                    let or = Node::Token(self.bump());
                    Node::Call { function: Box::new(base), arguments: vec![or] }
                }
                _ => base,
            }
        })
    }

    fn path(&mut self) -> Vec<Node> {
        let mut names = vec![self.name()];
        while self.kind() == Kind::Dot {
            let dot = self.bump();
            let mut name = self.name();
            if let Some(first) = first_token(&mut name) {
                first.before.splice(..0, dot.before.into_iter().chain(dot.after));
            }
            names.push(name);
        }
        names
    }

    fn name(&mut self) -> Node {
        match self.kind() {
            Kind::Quote => self.text(Kind::Quote, TextKind::Quoted),
            Kind::Interpolation => {
                let open = self.bump();
                let inner = Box::new(self.expr());
                Node::Interpolation { open, inner, close: self.bump() }
            }
            _ => Node::Token(self.bump()),
        }
    }

    fn simple(&mut self) -> Node {
        match self.kind() {
            Kind::Quote => self.text(Kind::Quote, TextKind::Quoted),
            Kind::IndentedOpen => self.text(Kind::IndentedClose, TextKind::Indented),
            Kind::Path | Kind::HomePath => self.text(Kind::PathEnd, TextKind::Path),
            Kind::ParenOpen => {
                let open = self.bump();
                let inner = Box::new(self.expr());
                Node::Paren { open, inner, close: self.bump() }
            }
            Kind::BracketOpen => {
                let open = self.bump();
                let mut items = Vec::new();
                while self.kind() != Kind::BracketClose {
                    items.push(self.selection());
                }
                Node::List { open, items, close: self.bump() }
            }
            Kind::Rec | Kind::Let => {
                let rec = Some(self.bump());
                let open = self.bump();
                let (bindings, close) = self.bindings(Kind::BraceClose);
                Node::Set { rec, open, bindings, close }
            }
            Kind::BraceOpen => {
                let open = self.bump();
                let (bindings, close) = self.bindings(Kind::BraceClose);
                Node::Set { rec: None, open, bindings, close }
            }
            _ => Node::Token(self.bump()),
        }
    }

    fn text(&mut self, close: Kind, kind: TextKind) -> Node {
        let mut pieces = vec![Piece::Token(self.bump())];
        loop {
            match self.kind() {
                Kind::Interpolation => {
                    let open = self.bump();
                    let inner = Box::new(self.expr());
                    pieces.push(Piece::Interpolation { open, inner, close: self.bump() });
                }
                other => {
                    pieces.push(Piece::Token(self.bump()));
                    if other == close {
                        return Node::Text(pieces, kind);
                    }
                }
            }
        }
    }

    fn bindings(&mut self, close: Kind) -> (Vec<Binding>, Token) {
        let mut bindings = Vec::new();
        while self.kind() != close {
            if self.kind() == Kind::Inherit {
                let word = self.bump();
                let from = (self.kind() == Kind::ParenOpen).then(|| (self.bump(), self.expr(), self.bump()));
                let mut names = Vec::new();
                while self.kind() != Kind::Semicolon {
                    names.push(self.name());
                }
                bindings.push(Binding::Inherit { word, from, names, end: self.bump() });
            } else {
                let path = self.path();
                let assign = self.bump();
                let value = self.expr();
                bindings.push(Binding::Value { path, assign, value, end: self.bump() });
            }
        }
        (bindings, self.bump())
    }
}

/// A right-hand chain of the same operator joins the one it is in.
fn flattened(left: Node, operator: Token, right: Node, strength: u8) -> Node {
    let mut rest = Vec::new();
    match right {
        Node::Chain { first, rest: more }
            if more.first().is_some_and(|(next, _)| {
                infix(next.kind).is_some_and(|(s, side)| s == strength && side == 2)
            }) =>
        {
            rest.push((operator, *first));
            rest.extend(more);
        }
        other => rest.push((operator, other)),
    }
    Node::Chain { first: Box::new(left), rest }
}

/// The token a node begins with.
pub fn first_token(node: &mut Node) -> Option<&mut Token> {
    match node {
        Node::Token(token) => Some(token),
        Node::Text(pieces, _) => pieces.first_mut().map(|piece| match piece {
            Piece::Token(token) => token,
            Piece::Interpolation { open, .. } => open,
        }),
        Node::Interpolation { open, .. } => Some(open),
        _ => None,
    }
}
