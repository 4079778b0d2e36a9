//! The parser: recursive descent with precedence climbing, from tokens to a tree and a list of errors.
//!
//! It resolves no names and reads no files. Nesting is bounded by `limits::TREE_HEIGHT_MAX`; a broken binding
//! is skipped to its `;`, so that one file can give several errors.

use crate::ast::*;
use crate::error::SyntaxError;
use crate::limits;
use crate::symbol::Interner;
use crate::text;
use crate::token::{Kind, Span, Token};

/// An error was recorded; the caller that can go on after it does so.
pub(crate) struct Broken;
pub(crate) type Parsed<T> = Result<T, Broken>;

pub(crate) struct Parser<'a> {
    pub(crate) source: &'a [u8],
    pub(crate) tokens: &'a [Token],
    pub(crate) next: usize,
    pub(crate) ast: Ast,
    pub(crate) interner: &'a mut Interner,
    pub(crate) errors: Vec<SyntaxError>,
    pub(crate) warnings: Vec<Warning>,
    depth: u32,
    /// End of a `f or` that is still the whole of an operand, for the warning about its changing meaning.
    cursed: Option<(ExprId, Span)>,
}

/// Something that parses but should not be written so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// `or` used as an identifier where its meaning will change; the span is the whole expression.
    OrAsIdentifier(Span),
    /// A literal some would not have; nothing is wrong with it unless the user says so.
    Literal(Literal, Span),
}

/// Literals that lints speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literal {
    Url,
    /// A relative path that begins with neither `./` nor `../`.
    ShortPath,
    AbsolutePath,
    HomePath,
}

/// What an attribute path ends at, for names that must be known at parse time.
const ATTRIBUTE_START: &[Kind] = &[Kind::Identifier, Kind::OrKeyword, Kind::Interpolation, Kind::Quote];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Associativity {
    Left,
    Right,
    None,
}

/// Binding strength and associativity of an infix operator.
fn infix(kind: Kind) -> Option<(u8, Associativity, Operator)> {
    use Associativity::*;
    Some(match kind {
        Kind::Implies => (1, Right, Operator::Implies),
        Kind::Or => (2, Left, Operator::Or),
        Kind::And => (3, Left, Operator::And),
        Kind::Equal => (4, None, Operator::Equal),
        Kind::NotEqual => (4, None, Operator::NotEqual),
        Kind::Less => (5, None, Operator::Less),
        Kind::Greater => (5, None, Operator::Greater),
        Kind::LessEqual => (5, None, Operator::LessEqual),
        Kind::GreaterEqual => (5, None, Operator::GreaterEqual),
        Kind::Update => (6, Right, Operator::Update),
        Kind::Plus => (8, Left, Operator::Add),
        Kind::Minus => (8, Left, Operator::Subtract),
        Kind::Star => (9, Left, Operator::Multiply),
        Kind::Slash => (9, Left, Operator::Divide),
        Kind::Concat => (10, Right, Operator::Concat),
        _ => return Option::None,
    })
}

const NOT_STRENGTH: u8 = 7;
const HAS_STRENGTH: u8 = 11;
const NEGATE_STRENGTH: u8 = 12;

impl<'a> Parser<'a> {
    pub(crate) fn new(source: &'a [u8], tokens: &'a [Token], interner: &'a mut Interner) -> Self {
        Parser {
            source,
            tokens,
            next: 0,
            ast: Ast::default(),
            interner,
            errors: Vec::new(),
            warnings: Vec::new(),
            depth: 0,
            cursed: None,
        }
    }

    /// A whole source: one expression and then its end.
    pub(crate) fn file(&mut self) -> ExprId {
        let parsed = self.expr().and_then(|root| {
            self.expect(Kind::EndOfFile, &[Kind::EndOfFile])?;
            Ok(root)
        });
        parsed.unwrap_or_else(|Broken| self.add(Expr::Error, Span::default(), &[]))
    }

    pub(crate) fn kind(&self) -> Kind {
        self.tokens[self.next].kind
    }

    fn kind_at(&self, offset: usize) -> Kind {
        self.tokens.get(self.next + offset).map_or(Kind::EndOfFile, |token| token.kind)
    }

    pub(crate) fn span(&self) -> Span {
        self.tokens[self.next].span
    }

    fn previous_end(&self) -> u32 {
        if self.next == 0 { 0 } else { self.tokens[self.next - 1].span.end }
    }

    pub(crate) fn bump(&mut self) -> Token {
        let token = self.tokens[self.next];
        if token.kind != Kind::EndOfFile {
            self.next += 1;
        }
        token
    }

    pub(crate) fn expect(&mut self, kind: Kind, expected: &[Kind]) -> Parsed<Token> {
        if self.kind() == kind { Ok(self.bump()) } else { Err(self.unexpected(expected)) }
    }

    /// Records that the next token does not fit; up to four expected kinds are named.
    pub(crate) fn unexpected(&mut self, expected: &[Kind]) -> Broken {
        let mut message = format!("syntax error, unexpected {}", self.kind().describe());
        if !expected.is_empty() && expected.len() < 5 {
            message.push_str(", expecting ");
            let names: Vec<_> = expected.iter().map(|kind| kind.describe()).collect();
            message.push_str(&names.join(" or "));
        }
        let span = self.span();
        self.error(SyntaxError::new(message, span))
    }

    pub(crate) fn error(&mut self, error: SyntaxError) -> Broken {
        if self.errors.len() < limits::ERRORS_MAX {
            self.errors.push(error);
        }
        Broken
    }

    pub(crate) fn add(&mut self, expr: Expr, span: Span, children: &[ExprId]) -> ExprId {
        let below = children.iter().map(|&child| self.ast.height(child)).max().unwrap_or(0);
        if below >= limits::TREE_HEIGHT_MAX {
            self.too_deep(span);
            return self.ast.add(Expr::Error, span, 1);
        }
        self.ast.add(expr, span, below + 1)
    }

    pub(crate) fn too_deep(&mut self, span: Span) -> Broken {
        let message = format!("expression is nested more than {} levels deep", limits::TREE_HEIGHT_MAX);
        self.error(SyntaxError::new(message, span))
    }

    /// One level deeper in the recursion, with a bound and enough host stack.
    pub(crate) fn deeper<T>(&mut self, step: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= limits::TREE_HEIGHT_MAX {
            let span = self.span();
            return Err(self.too_deep(span));
        }
        self.depth += 1;
        let result = limits::with_stack(|| step(self));
        self.depth -= 1;
        result
    }

    pub(crate) fn expr(&mut self) -> Parsed<ExprId> {
        self.deeper(Self::expr_here)
    }

    fn expr_here(&mut self) -> Parsed<ExprId> {
        let start = self.span();
        match self.kind() {
            Kind::Identifier if self.kind_at(1) == Kind::Colon => {
                let name = self.bump().span;
                self.bump();
                let argument = self.symbol(name);
                let body = self.expr()?;
                self.lambda(start, Some(argument), None, body)
            }
            Kind::Identifier if self.kind_at(1) == Kind::At => {
                let name = self.bump().span;
                self.bump();
                let argument = self.symbol(name);
                if self.kind() != Kind::BraceOpen {
                    return Err(self.unexpected(&[Kind::BraceOpen]));
                }
                let formals = self.formals()?;
                self.check_formals(&formals, Some((argument, start)));
                self.expect(Kind::Colon, &[Kind::Colon])?;
                let body = self.expr()?;
                self.lambda(start, Some(argument), Some(formals), body)
            }
            Kind::BraceOpen if self.at_formals() => self.lambda_with_formals(start),
            Kind::Assert => {
                self.bump();
                let condition = self.expr()?;
                self.expect(Kind::Semicolon, &[Kind::Semicolon])?;
                let body = self.expr()?;
                Ok(self.finish(Expr::Assert { condition, body }, start, &[condition, body]))
            }
            Kind::With => {
                self.bump();
                let scope = self.expr()?;
                self.expect(Kind::Semicolon, &[Kind::Semicolon])?;
                let body = self.expr()?;
                Ok(self.finish(Expr::With { scope, body }, start, &[scope, body]))
            }
            Kind::Let if self.kind_at(1) != Kind::BraceOpen => {
                self.bump();
                let (bindings, height) = self.bindings(Kind::In, &[Kind::In, Kind::Inherit])?;
                if !self.ast.attributes(bindings).dynamic.is_empty() {
                    self.error(SyntaxError::new("dynamic attributes not allowed in let", start));
                }
                let body = self.expr()?;
                let id = self.finish(Expr::Let { bindings, body }, start, &[body]);
                self.raise_height(id, height);
                Ok(id)
            }
            Kind::If => {
                self.bump();
                let condition = self.expr()?;
                self.expect(Kind::Then, &[Kind::Then])?;
                let then = self.expr()?;
                self.expect(Kind::Else, &[Kind::Else])?;
                let otherwise = self.expr()?;
                let children = [condition, then, otherwise];
                Ok(self.finish(Expr::If { condition, then, otherwise }, start, &children))
            }
            _ => self.pipeline(),
        }
    }

    /// Adds a node that reaches from `start` to the last token taken.
    pub(crate) fn finish(&mut self, expr: Expr, start: Span, children: &[ExprId]) -> ExprId {
        let span = Span::new(start.start, self.previous_end().max(start.end));
        self.add(expr, span, children)
    }

    pub(crate) fn raise_height(&mut self, id: ExprId, below: u32) {
        if below + 1 > self.ast.height(id) {
            if below >= limits::TREE_HEIGHT_MAX {
                let span = self.ast.span(id);
                self.too_deep(span);
            }
            self.ast.set_height(id, (below + 1).min(limits::TREE_HEIGHT_MAX));
        }
    }

    fn lambda(
        &mut self,
        start: Span,
        argument: Option<crate::Symbol>,
        formals: Option<Formals>,
        body: ExprId,
    ) -> Parsed<ExprId> {
        let mut below = self.ast.height(body);
        for formal in formals.iter().flat_map(|formals| &formals.formals) {
            below = below.max(formal.default.map_or(0, |default| self.ast.height(default)));
        }
        let lambda = self.ast.add_lambda(Lambda { argument, formals, body });
        let id = self.finish(Expr::Lambda(lambda), start, &[body]);
        self.raise_height(id, below);
        Ok(id)
    }

    /// Whether the `{` here opens a function's formals rather than an attribute set.
    fn at_formals(&self) -> bool {
        matches!(
            (self.kind_at(1), self.kind_at(2)),
            (Kind::Ellipsis, _)
                | (Kind::BraceClose, Kind::Colon | Kind::At)
                | (Kind::Identifier, Kind::Comma | Kind::Question | Kind::BraceClose)
        )
    }

    fn lambda_with_formals(&mut self, start: Span) -> Parsed<ExprId> {
        let formals = self.formals()?;
        let mut argument = None;
        if self.kind() == Kind::At {
            self.bump();
            let name = self.expect(Kind::Identifier, &[Kind::Identifier])?.span;
            argument = Some(self.symbol(name));
        }
        self.check_formals(&formals, argument.map(|argument| (argument, start)));
        let expected: &[Kind] = if argument.is_some() { &[Kind::Colon] } else { &[Kind::Colon, Kind::At] };
        self.expect(Kind::Colon, expected)?;
        let body = self.expr()?;
        self.lambda(start, argument, Some(formals), body)
    }

    fn formals(&mut self) -> Parsed<Formals> {
        self.bump();
        let mut formals = Formals { formals: Vec::new(), ellipsis: false };
        loop {
            match self.kind() {
                Kind::Ellipsis => {
                    self.bump();
                    formals.ellipsis = true;
                    self.expect(Kind::BraceClose, &[Kind::BraceClose])?;
                    return Ok(formals);
                }
                Kind::BraceClose => {
                    self.bump();
                    return Ok(formals);
                }
                Kind::Identifier => {
                    let span = self.bump().span;
                    let name = self.symbol(span);
                    let mut default = None;
                    if self.kind() == Kind::Question {
                        self.bump();
                        default = Some(self.expr()?);
                    }
                    formals.formals.push(Formal { name, span, default });
                }
                _ => return Err(self.unexpected(&[Kind::Identifier, Kind::Ellipsis, Kind::BraceClose])),
            }
            match self.kind() {
                Kind::Comma => {
                    self.bump();
                }
                Kind::BraceClose => {}
                _ => return Err(self.unexpected(&[Kind::BraceClose, Kind::Comma])),
            }
        }
    }

    fn check_formals(&mut self, formals: &Formals, argument: Option<(crate::Symbol, Span)>) {
        let mut sorted: Vec<_> = formals.formals.iter().map(|f| (f.name, f.span.start, f.span)).collect();
        sorted.sort_by_key(|&(name, start, _)| (name, start));
        let duplicate =
            sorted.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| (pair[1].0, pair[1].2));
        let duplicate = duplicate.or_else(|| {
            let (argument, start) = argument?;
            sorted.iter().any(|formal| formal.0 == argument).then_some((argument, start))
        });
        if let Some((name, span)) = duplicate {
            let text = self.interner.text(name);
            let message = format!("duplicate formal function argument '{text}'");
            self.error(SyntaxError::new(message, span));
        }
    }

    fn pipeline(&mut self) -> Parsed<ExprId> {
        let start = self.span();
        let mut left = self.operation(0)?;
        if self.kind() == Kind::PipeFrom {
            let point = self.bump().span.start;
            let right = self.deeper(Self::pipe_from_rest)?;
            return Ok(self.call(start, left, right, point));
        }
        while self.kind() == Kind::PipeInto {
            let point = self.bump().span.start;
            let function = self.operation(0)?;
            left = self.call(start, function, left, point);
        }
        Ok(left)
    }

    fn pipe_from_rest(&mut self) -> Parsed<ExprId> {
        let start = self.span();
        let left = self.operation(0)?;
        if self.kind() != Kind::PipeFrom {
            return Ok(left);
        }
        let point = self.bump().span.start;
        let right = self.deeper(Self::pipe_from_rest)?;
        Ok(self.call(start, left, right, point))
    }

    /// `function argument`; further arguments of one call are kept in one node.
    fn call(&mut self, start: Span, function: ExprId, argument: ExprId, point: u32) -> ExprId {
        let (function, arguments) = match self.ast.expr(function) {
            Expr::Call { function, arguments } => {
                let mut all = self.ast.list(arguments).to_vec();
                all.push(argument);
                (function, all)
            }
            _ => (function, vec![argument]),
        };
        let run = self.ast.add_list(&arguments);
        let mut children = arguments;
        children.push(function);
        let id = self.finish(Expr::Call { function, arguments: run }, start, &children);
        self.ast.set_point(id, point);
        id
    }

    /// Operators at least as strong as `minimum`.
    fn operation(&mut self, minimum: u8) -> Parsed<ExprId> {
        self.deeper(|parser| parser.operation_here(minimum))
    }

    fn operation_here(&mut self, minimum: u8) -> Parsed<ExprId> {
        let start = self.span();
        let mut left = match self.kind() {
            Kind::Not => {
                self.bump();
                let operand = self.operation(NOT_STRENGTH)?;
                self.finish(Expr::Not(operand), start, &[operand])
            }
            Kind::Minus => {
                self.bump();
                let operand = self.operation(NEGATE_STRENGTH)?;
                self.finish(Expr::Negate(operand), start, &[operand])
            }
            _ => self.application()?,
        };
        // After an operator without associativity, one of the same strength cannot follow.
        let mut closed = None;
        loop {
            if self.kind() == Kind::Question && HAS_STRENGTH >= minimum {
                if closed == Some(HAS_STRENGTH) {
                    return Err(self.unexpected(&[]));
                }
                let point = self.bump().span.start;
                let (path, below) = self.attribute_path()?;
                left = self.finish(Expr::HasAttribute { base: left, path }, start, &[left]);
                self.ast.set_point(left, point);
                self.raise_height(left, below);
                closed = Some(HAS_STRENGTH);
                continue;
            }
            let Some((strength, associativity, operator)) = infix(self.kind()) else { return Ok(left) };
            if strength < minimum {
                return Ok(left);
            }
            if associativity == Associativity::None && closed == Some(strength) {
                return Err(self.unexpected(&[]));
            }
            let point = self.bump().span.start;
            let right = self.operation(strength + u8::from(associativity != Associativity::Right))?;
            left = self.finish(Expr::Binary { operator, left, right }, start, &[left, right]);
            self.ast.set_point(left, point);
            closed = Some(strength);
        }
    }

    fn at_operand(&self) -> bool {
        match self.kind() {
            Kind::Let => self.kind_at(1) == Kind::BraceOpen,
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
            | Kind::Rec
            | Kind::BraceOpen
            | Kind::BracketOpen => true,
            _ => false,
        }
    }

    fn application(&mut self) -> Parsed<ExprId> {
        let start = self.span();
        let function = self.selection()?;
        self.cursed = None;
        if !self.at_operand() {
            return Ok(function);
        }
        let (head, mut arguments) = match self.ast.expr(function) {
            // A parenthesised call is extended, as C++ Nix does; only spans tell the difference.
            Expr::Call { function: head, arguments } => (head, self.ast.list(arguments).to_vec()),
            _ => (function, Vec::new()),
        };
        while self.at_operand() {
            let argument = self.selection()?;
            self.warn_if_cursed(argument);
            arguments.push(argument);
        }
        let run = self.ast.add_list(&arguments);
        let point = self.ast.point(function);
        let mut children = arguments;
        children.push(head);
        let id = self.finish(Expr::Call { function: head, arguments: run }, start, &children);
        if head != function {
            self.ast.set_point(id, point);
        }
        Ok(id)
    }

    fn warn_if_cursed(&mut self, expr: ExprId) {
        if let Some((cursed, span)) = self.cursed.take()
            && cursed == expr
        {
            self.warnings.push(Warning::OrAsIdentifier(span));
        }
    }

    fn selection(&mut self) -> Parsed<ExprId> {
        let start = self.span();
        self.cursed = None;
        let base = self.simple()?;
        self.cursed = None;
        match self.kind() {
            Kind::Dot => {
                self.bump();
                let (path, below) = self.attribute_path()?;
                let mut default = None;
                if self.kind() == Kind::OrKeyword {
                    self.bump();
                    let expr = self.deeper(Self::selection)?;
                    self.warn_if_cursed(expr);
                    default = Some(expr);
                }
                let children = [base, default.unwrap_or(base)];
                let id = self.finish(Expr::Select { base, path, default }, start, &children);
                self.raise_height(id, below);
                Ok(id)
            }
            Kind::OrKeyword => {
                let span = self.bump().span;
                let name = self.interner.intern(b"or");
                let argument = self.add(Expr::Variable(name), span, &[]);
                self.ast.set_point(argument, start.start);
                let run = self.ast.add_list(&[argument]);
                let id = self.finish(Expr::Call { function: base, arguments: run }, start, &[base, argument]);
                self.cursed = Some((id, self.ast.span(id)));
                Ok(id)
            }
            _ => Ok(base),
        }
    }

    fn simple(&mut self) -> Parsed<ExprId> {
        let start = self.span();
        match self.kind() {
            Kind::Identifier => {
                let span = self.bump().span;
                if &self.source[span.range()] == b"__curPos" {
                    return Ok(self.add(Expr::CurrentPosition, span, &[]));
                }
                let name = self.symbol(span);
                Ok(self.add(Expr::Variable(name), span, &[]))
            }
            Kind::Integer => Ok(self.integer()),
            Kind::Float => Ok(self.float()),
            Kind::Quote => self.string(),
            Kind::IndentedOpen => self.indented_string(),
            Kind::Path | Kind::HomePath => self.path(),
            Kind::SearchPath => {
                let span = self.bump().span;
                let run = self.ast.add_bytes(&self.source[span.start as usize + 1..span.end as usize - 1]);
                Ok(self.add(Expr::SearchPath(run), span, &[]))
            }
            Kind::Uri => {
                let span = self.bump().span;
                let run = self.ast.add_bytes(&self.source[span.range()]);
                self.warnings.push(Warning::Literal(Literal::Url, span));
                Ok(self.add(Expr::Text(run), span, &[]))
            }
            Kind::ParenOpen => {
                self.bump();
                let inner = self.expr()?;
                self.expect(Kind::ParenClose, &[Kind::ParenClose])?;
                Ok(inner)
            }
            Kind::BracketOpen => self.list(),
            Kind::BraceOpen => {
                self.bump();
                let (bindings, below) = self.bindings(Kind::BraceClose, &[Kind::Inherit])?;
                Ok(self.attribute_set(bindings, below, start))
            }
            Kind::Rec => {
                self.bump();
                self.expect(Kind::BraceOpen, &[Kind::BraceOpen])?;
                let (bindings, below) =
                    self.bindings(Kind::BraceClose, &[Kind::Inherit, Kind::BraceClose])?;
                self.ast.attributes[bindings.0 as usize].recursive = true;
                Ok(self.attribute_set(bindings, below, start))
            }
            Kind::Let if self.kind_at(1) == Kind::BraceOpen => self.legacy_let(),
            _ => Err(self.unexpected(&[])),
        }
    }

    fn attribute_set(&mut self, bindings: AttributesId, below: u32, start: Span) -> ExprId {
        let id = self.finish(Expr::Attributes(bindings), start, &[]);
        self.ast.attributes[bindings.0 as usize].span = self.ast.span(id);
        self.raise_height(id, below);
        id
    }

    /// `let { …; body = …; }` means `(rec { … }).body`.
    fn legacy_let(&mut self) -> Parsed<ExprId> {
        let start = self.bump().span;
        self.bump();
        let (bindings, below) = self.bindings(Kind::BraceClose, &[Kind::Inherit, Kind::BraceClose])?;
        self.ast.attributes[bindings.0 as usize].recursive = true;
        let base = self.attribute_set(bindings, below, start);
        let body = self.interner.intern(b"body");
        let path = self.ast.add_names(&[Name { kind: NameKind::Static(body), span: start }]);
        Ok(self.finish(Expr::Select { base, path, default: None }, start, &[base]))
    }

    fn list(&mut self) -> Parsed<ExprId> {
        let start = self.bump().span;
        let mut items = Vec::new();
        while self.at_operand() {
            let item = self.deeper(Self::selection)?;
            self.warn_if_cursed(item);
            items.push(item);
        }
        self.expect(Kind::BracketClose, &[])?;
        let run = self.ast.add_list(&items);
        Ok(self.finish(Expr::List(run), start, &items))
    }

    /// `a.b."c".${d}`, and the height of what it holds.
    pub(crate) fn attribute_path(&mut self) -> Parsed<(Run, u32)> {
        let mut names = Vec::new();
        let mut below = 0;
        loop {
            let name = self.attribute_name()?;
            if let NameKind::Dynamic(expr) = name.kind {
                below = below.max(self.ast.height(expr));
            }
            names.push(name);
            if self.kind() != Kind::Dot {
                break;
            }
            self.bump();
        }
        Ok((self.ast.add_names(&names), below))
    }

    pub(crate) fn attribute_name(&mut self) -> Parsed<Name> {
        let start = self.span();
        match self.kind() {
            Kind::Identifier | Kind::OrKeyword => {
                let span = self.bump().span;
                Ok(Name { kind: NameKind::Static(self.symbol(span)), span })
            }
            Kind::Quote => {
                let expr = self.deeper(Self::string)?;
                Ok(self.name_of(expr, start))
            }
            Kind::Interpolation => {
                self.bump();
                let expr = self.expr()?;
                self.expect(Kind::BraceClose, &[Kind::BraceClose])?;
                Ok(self.name_of(expr, start))
            }
            _ => Err(self.unexpected(ATTRIBUTE_START)),
        }
    }

    /// A name given by a plain string is static, however it was written.
    fn name_of(&mut self, expr: ExprId, start: Span) -> Name {
        let span = Span::new(start.start, self.previous_end());
        let kind = match self.ast.expr(expr) {
            Expr::Text(run) => NameKind::Static(self.interner.intern(self.ast.bytes(run))),
            _ => NameKind::Dynamic(expr),
        };
        Name { kind, span }
    }

    pub(crate) fn symbol(&mut self, span: Span) -> crate::Symbol {
        self.interner.intern(&self.source[span.range()])
    }

    fn integer(&mut self) -> ExprId {
        let span = self.bump().span;
        let digits = std::str::from_utf8(&self.source[span.range()]).expect("digits are ASCII");
        match digits.parse() {
            Ok(value) => self.add(Expr::Integer(value), span, &[]),
            Err(_) => {
                self.error(SyntaxError::new(format!("invalid integer '{digits}'"), span));
                self.add(Expr::Error, span, &[])
            }
        }
    }

    fn float(&mut self) -> ExprId {
        let span = self.bump().span;
        let digits = std::str::from_utf8(&self.source[span.range()]).expect("a float is ASCII");
        match text::parse_float(digits) {
            Some(value) => self.add(Expr::Float(value), span, &[]),
            None => {
                self.error(SyntaxError::new(format!("invalid float '{digits}'"), span));
                self.add(Expr::Error, span, &[])
            }
        }
    }
}
