//! Prints a tree the way `nix-instantiate --parse` does: every operation in parentheses, names sorted.
//!
//! Uses an explicit stack, so depth is bounded by memory alone.

use crate::ast::*;
use crate::symbol::Interner;
use crate::text;

/// What relative and home paths are printed against.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// Absolute path of the directory the source lies in.
    pub base: &'a [u8],
    /// Absolute path of the home directory.
    pub home: &'a [u8],
}

impl Default for Places<'_> {
    fn default() -> Self {
        Places { base: b"/", home: b"/" }
    }
}

enum Work {
    Expr(ExprId),
    Bindings(AttributesId),
    Names(Run, usize),
    Text(&'static str),
    Owned(Vec<u8>),
}

struct Printer<'a> {
    ast: &'a Ast,
    interner: &'a Interner,
    places: Places<'a>,
    out: Vec<u8>,
    work: Vec<Work>,
}

/// The tree below `root` in the format of `--parse`, without a final newline.
pub fn print(ast: &Ast, interner: &Interner, root: ExprId, places: Places<'_>) -> Vec<u8> {
    let mut printer = Printer { ast, interner, places, out: Vec::new(), work: vec![Work::Expr(root)] };
    printer.run();
    printer.out
}

/// An attribute path as messages show it.
pub fn show_path(ast: &Ast, interner: &Interner, path: &[Name]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, name) in path.iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        match name.kind {
            NameKind::Static(symbol) => text::write_identifier(&mut out, interner.name(symbol)),
            NameKind::Dynamic(expr) => {
                out.extend(b"\"${");
                out.extend(print(ast, interner, expr, Places::default()));
                out.extend(b"}\"");
            }
        }
    }
    out
}

/// Resolves `.`, `..` and double slashes of an absolute path without touching a file system.
pub fn canonical_path(path: &[u8]) -> Vec<u8> {
    let mut pieces: Vec<&[u8]> = Vec::new();
    for piece in path.split(|&byte| byte == b'/') {
        match piece {
            b"" | b"." => {}
            b".." => {
                pieces.pop();
            }
            other => pieces.push(other),
        }
    }
    let mut out = Vec::with_capacity(path.len());
    for piece in pieces {
        out.push(b'/');
        out.extend(piece);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// The absolute path a literal stands for. A final slash (before an interpolation) is kept.
pub fn resolve_path(literal: &[u8], base: &[u8]) -> Vec<u8> {
    let mut path = if literal.first() == Some(&b'/') {
        canonical_path(literal)
    } else {
        canonical_path(&[base, b"/", literal].concat())
    };
    if literal.len() > 1 && literal.last() == Some(&b'/') {
        path.push(b'/');
    }
    path
}

fn symbol_of(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => " + ",
        Operator::Concat => " ++ ",
        Operator::Update => " // ",
        Operator::And => " && ",
        Operator::Or => " || ",
        Operator::Implies => " -> ",
        Operator::Equal => " == ",
        Operator::NotEqual => " != ",
        Operator::Subtract => "(__sub ",
        Operator::Multiply => "(__mul ",
        Operator::Divide => "(__div ",
        Operator::Less | Operator::Greater => "(__lessThan ",
        Operator::LessEqual | Operator::GreaterEqual => "(! (__lessThan ",
    }
}

impl Printer<'_> {
    fn run(&mut self) {
        while let Some(work) = self.work.pop() {
            match work {
                Work::Text(text) => self.out.extend(text.as_bytes()),
                Work::Owned(bytes) => self.out.extend(bytes),
                Work::Expr(id) => self.expr(id),
                Work::Bindings(id) => self.bindings(id),
                Work::Names(run, from) => self.names(run, from),
            }
        }
    }

    /// Queues pieces so that they are printed in the order given.
    fn queue(&mut self, pieces: impl IntoIterator<Item = Work>) {
        let from = self.work.len();
        self.work.extend(pieces);
        self.work[from..].reverse();
    }

    fn identifier(&self, symbol: crate::Symbol) -> Work {
        let mut out = Vec::new();
        text::write_identifier(&mut out, self.interner.name(symbol));
        Work::Owned(out)
    }

    fn expr(&mut self, id: ExprId) {
        use Work::{Expr as E, Text as T};
        match self.ast.expr(id) {
            Expr::Error => self.out.extend(b"<error>"),
            Expr::Integer(value) => self.out.extend(value.to_string().bytes()),
            Expr::Float(value) => self.out.extend(text::format_float(value).bytes()),
            Expr::Text(run) => text::write_string(&mut self.out, self.ast.bytes(run)),
            Expr::Path(run) => self.out.extend(resolve_path(self.ast.bytes(run), self.places.base)),
            Expr::HomePath(run) => {
                self.out.extend(self.places.home);
                self.out.extend(self.ast.bytes(run));
            }
            Expr::SearchPath(run) => {
                self.out.extend(b"(__findFile __nixPath ");
                text::write_string(&mut self.out, self.ast.bytes(run));
                self.out.push(b')');
            }
            Expr::Variable(name) => text::write_identifier(&mut self.out, self.interner.name(name)),
            Expr::CurrentPosition => self.out.extend(b"__curPos"),
            Expr::Select { base, path, default } => {
                let mut pieces = vec![T("("), E(base), T(")."), Work::Names(path, 0)];
                if let Some(default) = default {
                    pieces.extend([T(" or ("), E(default), T(")")]);
                }
                self.queue(pieces);
            }
            Expr::HasAttribute { base, path } => {
                self.queue([T("(("), E(base), T(") ? "), Work::Names(path, 0), T(")")]);
            }
            Expr::Attributes(set) => {
                let open = if self.ast.attributes(set).recursive { "rec { " } else { "{ " };
                self.queue([T(open), Work::Bindings(set), T("}")]);
            }
            Expr::List(items) => {
                let mut pieces = vec![T("[ ")];
                for &item in self.ast.list(items) {
                    pieces.extend([T("("), E(item), T(") ")]);
                }
                pieces.push(T("]"));
                self.queue(pieces);
            }
            Expr::Lambda(lambda) => self.lambda(lambda),
            Expr::Call { function, arguments } => {
                let mut pieces = vec![T("("), E(function)];
                for &argument in self.ast.list(arguments) {
                    pieces.extend([T(" "), E(argument)]);
                }
                pieces.push(T(")"));
                self.queue(pieces);
            }
            Expr::Let { bindings, body } => {
                self.queue([T("(let "), Work::Bindings(bindings), T("in "), E(body), T(")")]);
            }
            Expr::With { scope, body } => {
                self.queue([T("(with "), E(scope), T("; "), E(body), T(")")]);
            }
            Expr::If { condition, then, otherwise } => {
                let pieces =
                    [T("(if "), E(condition), T(" then "), E(then), T(" else "), E(otherwise), T(")")];
                self.queue(pieces);
            }
            Expr::Assert { condition, body } => {
                self.queue([T("assert "), E(condition), T("; "), E(body)]);
            }
            Expr::Not(operand) => self.queue([T("(! "), E(operand), T(")")]),
            Expr::Negate(operand) => self.queue([T("(__sub 0 "), E(operand), T(")")]),
            Expr::Binary { operator, left, right } => self.binary(operator, left, right),
            Expr::Interpolated { parts, .. } => {
                let mut pieces = vec![T("(")];
                for (index, part) in self.ast.parts(parts).iter().enumerate() {
                    if index > 0 {
                        pieces.push(T(" + "));
                    }
                    pieces.push(E(part.expr));
                }
                pieces.push(T(")"));
                self.queue(pieces);
            }
        }
    }

    fn binary(&mut self, operator: Operator, left: ExprId, right: ExprId) {
        use Work::{Expr as E, Text as T};
        let symbol = T(symbol_of(operator));
        match operator {
            Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Less => {
                self.queue([symbol, E(left), T(" "), E(right), T(")")]);
            }
            Operator::Greater => self.queue([symbol, E(right), T(" "), E(left), T(")")]),
            Operator::LessEqual => self.queue([symbol, E(right), T(" "), E(left), T("))")]),
            Operator::GreaterEqual => self.queue([symbol, E(left), T(" "), E(right), T("))")]),
            _ => self.queue([T("("), E(left), symbol, E(right), T(")")]),
        }
    }

    fn lambda(&mut self, id: LambdaId) {
        use Work::{Expr as E, Text as T};
        let lambda = self.ast.lambda(id);
        let mut pieces = vec![T("(")];
        if let Some(formals) = &lambda.formals {
            pieces.push(T("{ "));
            let mut sorted: Vec<_> = formals.formals.iter().collect();
            sorted.sort_by_key(|formal| self.interner.name(formal.name));
            for (index, formal) in sorted.iter().enumerate() {
                if index > 0 {
                    pieces.push(T(", "));
                }
                pieces.push(self.identifier(formal.name));
                if let Some(default) = formal.default {
                    pieces.extend([T(" ? "), E(default)]);
                }
            }
            if formals.ellipsis {
                pieces.push(T(if sorted.is_empty() { "..." } else { ", ..." }));
            }
            pieces.push(T(" }"));
            if lambda.argument.is_some() {
                pieces.push(T(" @ "));
            }
        }
        if let Some(argument) = lambda.argument {
            pieces.push(self.identifier(argument));
        }
        pieces.extend([T(": "), E(lambda.body), T(")")]);
        self.queue(pieces);
    }

    fn bindings(&mut self, id: AttributesId) {
        use Work::{Expr as E, Text as T};
        let set = self.ast.attributes(id);
        let mut sorted: Vec<_> = set.bindings.iter().collect();
        sorted.sort_by_key(|binding| self.interner.name(binding.name));
        let mut pieces = Vec::new();
        let inherited: Vec<_> = sorted.iter().filter(|b| b.value == BindingValue::Inherited).collect();
        if !inherited.is_empty() {
            pieces.push(T("inherit"));
            for binding in inherited {
                pieces.extend([T(" "), self.identifier(binding.name)]);
            }
            pieces.push(T("; "));
        }
        for (number, &source) in set.inherit_sources.iter().enumerate() {
            let from = BindingValue::InheritedFrom(number as u32);
            if sorted.iter().all(|binding| binding.value != from) {
                continue;
            }
            pieces.extend([T("inherit ("), E(source), T(")")]);
            for binding in sorted.iter().filter(|binding| binding.value == from) {
                pieces.extend([T(" "), self.identifier(binding.name)]);
            }
            pieces.push(T("; "));
        }
        for binding in &sorted {
            if let BindingValue::Plain(value) = binding.value {
                pieces.extend([self.identifier(binding.name), T(" = "), E(value), T("; ")]);
            }
        }
        for dynamic in &set.dynamic {
            pieces.extend([T("\"${"), E(dynamic.name), T("}\" = "), E(dynamic.value), T("; ")]);
        }
        self.queue(pieces);
    }

    fn names(&mut self, run: Run, from: usize) {
        let names = self.ast.names(run);
        let Some(name) = names.get(from) else { return };
        let mut pieces = Vec::new();
        if from > 0 {
            pieces.push(Work::Text("."));
        }
        match name.kind {
            NameKind::Static(symbol) => pieces.push(self.identifier(symbol)),
            NameKind::Dynamic(expr) => {
                pieces.extend([Work::Text("\"${"), Work::Expr(expr), Work::Text("}\"")]);
            }
        }
        if from + 1 < names.len() {
            pieces.push(Work::Names(run, from + 1));
        }
        self.queue(pieces);
    }
}
