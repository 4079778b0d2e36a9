//! From the tree to a document: what each expression looks like on one line and on several.

use std::cell::RefCell;
use std::collections::HashSet;

use super::concrete::*;
use super::document::Document as D;
use super::tokens::{Comment, Token};
use crate::limits;
use crate::token::Kind;

pub struct Builder<'a> {
    pub(super) source: &'a str,
    /// Where tokens begin whose comments were written before what they are the start of.
    hoisted: RefCell<HashSet<u32>>,
}

impl<'a> Builder<'a> {
    pub fn new(source: &'a str) -> Self {
        Builder { source, hoisted: RefCell::default() }
    }

    pub fn file(&self, file: &File) -> D {
        let mut parts = vec![self.node(&file.root)];
        parts.extend(self.inner_comments(&file.end));
        D::Concat(parts)
    }

    pub(super) fn slice(&self, token: &Token) -> &'a str {
        &self.source[token.span.range()]
    }

    /// A token with the comments around it.
    fn token(&self, token: &Token) -> D {
        self.around(token, D::text(self.slice(token)), token)
    }

    /// Something with the comments before its first and after its last token.
    fn around(&self, first: &Token, inner: D, last: &Token) -> D {
        if first.before.is_empty() && last.after.is_none() {
            return inner;
        }
        let mut parts = self.comments(first);
        parts.push(inner);
        parts.extend(after(last));
        D::Concat(parts)
    }

    /// The comments before a token, if they are not written yet.
    fn comments(&self, token: &Token) -> Vec<D> {
        let mut parts = Vec::new();
        if self.hoisted.borrow().contains(&token.span.start) {
            return parts;
        }
        for (index, comment) in token.before.iter().enumerate() {
            if comment.blank_before && index > 0 {
                parts.push(D::Blank);
            }
            // What names the language of a string stays before it.
            let annotates = matches!(token.kind, Kind::Quote | Kind::IndentedOpen)
                && index + 1 == token.before.len()
                && !comment.ends_line
                && !comment.text.contains('\n');
            if annotates {
                parts.push(D::text(format!("{} ", comment.text)));
            } else {
                parts.push(D::Comment { text: written(comment), own_line: true });
            }
        }
        if token.blank_inside {
            parts.push(D::Blank);
        }
        parts
    }

    /// Comments before a closing token, as the last lines of what it closes.
    fn inner_comments(&self, close: &Token) -> Vec<D> {
        let mut parts = Vec::new();
        for comment in &close.before {
            parts.push(if comment.blank_before { D::Blank } else { D::Hard });
            parts.push(D::Comment { text: written(comment), own_line: true });
        }
        parts
    }

    /// A closing token without the comments before it, which stand inside.
    fn closing(&self, close: &Token) -> D {
        let mut parts = vec![D::text(self.slice(close))];
        parts.extend(after(close));
        D::Concat(parts)
    }

    /// An opening token; a comment behind it goes to the next line.
    fn opening(&self, open: &Token) -> (D, Option<D>) {
        let mut parts = self.comments(open);
        parts.push(D::text(self.slice(open)));
        let comment = open.after.as_ref().map(|c| D::Comment { text: written(c), own_line: true });
        (D::Concat(parts), comment)
    }

    pub(super) fn with_comments(&self, open: &Token, inner: D, close: &Token) -> D {
        let mut parts: Vec<D> =
            open.after.iter().map(|c| D::Comment { text: written(c), own_line: true }).collect();
        parts.push(inner);
        parts.extend(self.inner_comments(close));
        D::Concat(parts)
    }

    pub(super) fn node(&self, node: &Node) -> D {
        self.hoist(lead(node), || limits::with_stack(|| self.node_here(node)))
    }

    /// Writes the comments before something first, so that they do not break what it is laid out as.
    fn hoist(&self, first: &Token, inner: impl FnOnce() -> D) -> D {
        if first.before.is_empty() || self.hoisted.borrow().contains(&first.span.start) {
            return inner();
        }
        let mut parts = self.comments(first);
        self.hoisted.borrow_mut().insert(first.span.start);
        parts.push(inner());
        D::Concat(parts)
    }

    fn node_here(&self, node: &Node) -> D {
        match node {
            Node::Token(token) => self.token(token),
            Node::Text(pieces, kind) => {
                let inner = self.string(pieces, *kind);
                match (super::strings::first(pieces), super::strings::last(pieces)) {
                    (Some(first), Some(last)) => self.around(first, inner, last),
                    _ => inner,
                }
            }
            Node::List { open, items, close } => self.list(open, items, close),
            Node::Set { rec, open, bindings, close } => self.set(rec.as_ref(), open, bindings, close, false),
            Node::Let { open, bindings, middle, body } => self.let_in(open, bindings, middle, body),
            Node::Paren { open, inner, close } => self.paren(open, inner, close),
            Node::Lambda { parameters, colon, body } => self.lambda(parameters, colon, body),
            Node::Call { function, arguments } => self.call(function, arguments).1,
            Node::Select { base, path, default } => {
                // `1.a` would be read as a float, and paths and addresses may hold a dot.
                let is_open = matches!(
                    lead(base).kind,
                    Kind::Integer | Kind::Float | Kind::Path | Kind::HomePath | Kind::Uri
                );
                let dot = if is_open { " ." } else { "." };
                let mut parts = vec![self.node(base), D::text(dot), self.path(path)];
                if let Some((or, value)) = default {
                    parts.extend([D::text(" "), self.token(or), D::text(" "), self.node(value)]);
                }
                D::Concat(parts)
            }
            Node::Has { base, question, path } => D::Concat(vec![
                self.node(base),
                D::text(" "),
                self.token(question),
                D::text(" "),
                self.path(path),
            ]),
            Node::Unary { operator, operand } => {
                // A minus is a character of paths: without the space it would belong to the one that follows.
                let is_apart =
                    operator.kind == Kind::Minus && matches!(lead(operand).kind, Kind::Minus | Kind::Path);
                let gap = if is_apart { D::text(" ") } else { D::Concat(Vec::new()) };
                D::Concat(vec![self.token(operator), gap, self.node(operand)])
            }
            Node::Chain { first, rest } => self.chain(first, rest),
            Node::If { branches, otherwise, last } => self.condition(branches, otherwise, last),
            Node::Prefix { word, subject, semicolon, body } => {
                let head = self.prefix(word, subject, semicolon);
                let end = if word.kind == Kind::Assert { D::Hard } else { D::Line };
                D::Group(vec![head, end, self.node(body)])
            }
            Node::Interpolation { open, inner, close } => D::Concat(vec![
                self.token(open),
                D::Wide(vec![self.node(inner), D::Concat(self.inner_comments(close))]),
                self.closing(close),
            ]),
        }
    }

    fn prefix(&self, word: &Token, subject: &Node, semicolon: &Token) -> D {
        D::Concat(vec![self.token(word), D::text(" "), self.node(subject), self.token(semicolon)])
    }

    fn path(&self, path: &[Node]) -> D {
        let mut parts = Vec::new();
        for (index, name) in path.iter().enumerate() {
            if index > 0 {
                parts.push(D::text("."));
            }
            parts.push(self.node(name));
        }
        D::Concat(parts)
    }

    /// Lines of items, empty lines between them kept.
    fn lines(&self, items: Vec<(bool, D)>, comment: Option<D>, close: &Token, separator: &D) -> Vec<D> {
        let mut parts = Vec::new();
        if let Some(comment) = comment {
            parts.extend([D::Hard, comment]);
        }
        for (index, (blank, item)) in items.into_iter().enumerate() {
            parts.push(if blank && index > 0 { D::Blank } else { separator.clone() });
            parts.push(item);
        }
        parts.extend(self.inner_comments(close));
        parts
    }

    fn list(&self, open: &Token, items: &[Node], close: &Token) -> D {
        let (opening, comment) = self.opening(open);
        if items.is_empty() && comment.is_none() && close.before.is_empty() {
            return D::Concat(vec![opening, D::text(" "), self.closing(close)]);
        }
        let several = items.len() > 1 || items.first().is_some_and(|item| lead(item).newline_before);
        let separator = if several { D::Hard } else { D::Line };
        let items = items.iter().map(|item| (lead(item).blank_before, self.node(item))).collect();
        let inside = self.lines(items, comment, close, &separator);
        D::Group(vec![opening, D::Nest(inside), separator, self.closing(close)])
    }

    fn set(&self, rec: Option<&Token>, open: &Token, bindings: &[Binding], close: &Token, wide: bool) -> D {
        let (opening, comment) = self.opening(open);
        let opening = match rec {
            Some(rec) => D::Concat(vec![self.token(rec), D::text(" "), opening]),
            None => opening,
        };
        if bindings.is_empty() && comment.is_none() && close.before.is_empty() {
            return D::Concat(vec![opening, D::text(" "), self.closing(close)]);
        }
        let expanded = wide
            || bindings.len() > 1
            || bindings.first().is_some_and(|binding| binding_lead(binding).newline_before);
        let separator = if expanded { D::Hard } else { D::Line };
        let inside = self.lines(self.bindings(bindings), comment, close, &separator);
        D::Group(vec![opening, D::Nest(inside), separator, self.closing(close)])
    }

    fn bindings(&self, bindings: &[Binding]) -> Vec<(bool, D)> {
        let laid_out = |b| self.hoist(binding_lead(b), || self.binding(b));
        bindings.iter().map(|b| (binding_lead(b).blank_before, laid_out(b))).collect()
    }

    fn binding(&self, binding: &Binding) -> D {
        match binding {
            Binding::Value { path, assign, value, end } => {
                let value = self.value(assign, value);
                D::Concat(vec![self.path(path), D::text(" "), self.token(assign), value, self.token(end)])
            }
            Binding::Inherit { word, from, names, end } => {
                let mut head = vec![self.token(word)];
                if let Some((open, source, close)) = from {
                    head.extend([D::text(" "), self.token(open), self.node(source), self.token(close)]);
                }
                let mut inside = Vec::new();
                for name in names {
                    inside.extend([D::Line, self.node(name)]);
                }
                inside.push(if names.is_empty() && from.is_none() { D::Line } else { D::Soft });
                inside.push(self.token(end));
                head.push(D::Nest(inside));
                D::Group(head)
            }
        }
    }

    /// What follows a `=`: on the same line where it may begin there, else on lines of its own.
    fn value(&self, assign: &Token, value: &Node) -> D {
        let own_lines = |inner: D| D::Group(vec![D::Nest(vec![D::Line, inner])]);
        if assign.after.is_some() || !lead(value).before.is_empty() {
            return D::Nest(vec![D::Hard, self.node(value)]);
        }
        let same_line = |inner: D| D::Concat(vec![D::text(" "), inner]);
        match value {
            Node::Set { rec, open, bindings, close } => {
                same_line(self.set(rec.as_ref(), open, bindings, close, true))
            }
            Node::Lambda { body, .. } if absorbs(value) && !matches!(**body, Node::Lambda { .. }) => {
                same_line(self.node(value))
            }
            Node::Prefix { word, subject, semicolon, body }
                if word.kind == Kind::With && absorbable(body) && lead(body).before.is_empty() =>
            {
                let head = self.prefix(word, subject, semicolon);
                same_line(D::Concat(vec![head, D::text(" "), self.node(body)]))
            }
            Node::Call { function, arguments } if arguments.last().is_some_and(absorbs) => {
                let (head, whole) = self.call(function, arguments);
                let whole = whole.shared();
                let head = head.unwrap_or_else(|| whole.clone());
                let compact = same_line(whole.clone());
                let wide = D::Nest(vec![D::Hard, whole]);
                D::Choice(Box::new(same_line(head)), Box::new(compact), Box::new(wide))
            }
            Node::Text(..) | Node::List { .. } | Node::Token(_) => same_line(self.node(value)),
            Node::Paren { .. } if absorbs(value) => same_line(self.node(value)),
            _ => own_lines(self.node(value)),
        }
    }

    fn let_in(&self, open: &Token, bindings: &[Binding], middle: &Token, body: &Node) -> D {
        let (opening, comment) = self.opening(open);
        let inside = self.lines(self.bindings(bindings), comment, middle, &D::Hard);
        D::Concat(vec![opening, D::Nest(inside), D::Hard, self.closing(middle), D::Hard, self.node(body)])
    }

    fn paren(&self, open: &Token, inner: &Node, close: &Token) -> D {
        let (opening, comment) = self.opening(open);
        let plain = comment.is_none() && close.before.is_empty() && lead(inner).before.is_empty();
        if plain && absorbs(inner) {
            return D::Concat(vec![opening, self.node(inner), self.closing(close)]);
        }
        let inside = D::Concat(vec![self.node(inner), D::Concat(self.inner_comments(close))]);
        let mut nested = vec![D::Soft];
        nested.extend(comment);
        nested.push(inside);
        D::Group(vec![opening, D::Nest(nested), D::Soft, self.closing(close)])
    }

    fn lambda(&self, parameters: &Parameters, colon: &Token, body: &Node) -> D {
        let colon_text = self.token(colon);
        let Some(formals) = &parameters.formals else {
            let name = parameters.name.as_ref().map_or_else(D::nothing, |name| self.token(name));
            let head = D::Concat(vec![name, colon_text]);
            let follows = absorbs(body) || matches!(body, Node::Lambda { .. });
            let end = if follows && lead(body).before.is_empty() { D::text(" ") } else { D::Line };
            return D::Group(vec![head, end, self.node(body)]);
        };
        let around = |set: D| {
            let mut parts = Vec::new();
            let name = parameters.name.as_ref().map(|name| self.token(name));
            let at = parameters.at.as_ref().map(|at| self.token(at));
            match (name, at, parameters.name_first) {
                (Some(name), Some(at), true) => parts.extend([name, at, set]),
                (Some(name), Some(at), false) => parts.extend([set, at, name]),
                _ => parts.push(set),
            }
            parts.push(colon_text.clone());
            D::Concat(parts)
        };
        let defaults: Vec<Option<D>> = formals
            .formals
            .iter()
            .map(|formal| formal.default.as_ref().map(|(_, default)| self.node(default).shared()))
            .collect();
        let body = self.node(body).shared();
        let flat = D::Group(vec![around(self.formals(formals, &defaults, false))]).shared();
        let expanded = D::Concat(vec![around(self.formals(formals, &defaults, true)), D::Hard, body.clone()]);
        if formals.formals.first().is_some_and(|formal| formal.name.newline_before) || flat.breaks() {
            return expanded;
        }
        let compact = D::Group(vec![flat.clone(), D::Line, body]);
        D::Choice(Box::new(flat), Box::new(compact), Box::new(expanded))
    }

    fn formals(&self, formals: &Formals, defaults: &[Option<D>], expanded: bool) -> D {
        let (opening, comment) = self.opening(&formals.open);
        if formals.formals.is_empty() && comment.is_none() && formals.close.before.is_empty() {
            return D::Concat(vec![opening, D::text(" "), self.closing(&formals.close)]);
        }
        let separator = if expanded { D::Hard } else { D::Line };
        let count = formals.formals.len();
        let mut items = Vec::new();
        for (index, formal) in formals.formals.iter().enumerate() {
            let mut parts = vec![self.comments_and_text(&formal.name)];
            let mut last = &formal.name;
            if let (Some((question, _)), Some(default)) = (&formal.default, &defaults[index]) {
                parts.extend(after(&formal.name));
                parts.extend([D::text(" "), self.token(question), D::text(" "), default.clone()]);
                last = question;
            }
            // Every line ends in a comma, but `...` may have none.
            let ends = index + 1 == count;
            if !(ends && (!expanded || formal.name.kind == Kind::Ellipsis)) {
                parts.push(D::text(","));
            }
            if formal.default.is_none() {
                parts.extend(after(last));
            }
            if let Some(comma) = &formal.comma {
                let before = comma.before.iter();
                parts.extend(before.map(|c| D::Comment { text: written(c), own_line: false }));
                parts.extend(after(comma));
            }
            items.push((formal.name.blank_before, D::Concat(parts)));
        }
        let inside = self.lines(items, comment, &formals.close, &separator);
        D::Concat(vec![opening, D::Nest(inside), separator, self.closing(&formals.close)])
    }

    fn comments_and_text(&self, token: &Token) -> D {
        let mut parts = self.comments(token);
        parts.push(D::text(self.slice(token)));
        D::Concat(parts)
    }

    /// A call up to where its last argument opens, if that may begin at the end of the line; and the whole.
    fn call(&self, function: &Node, arguments: &[Node]) -> (Option<D>, D) {
        let function = self.node(function).shared();
        let laid_out: Vec<D> = arguments.iter().map(|argument| self.node(argument).shared()).collect();
        let nested = laid_out.iter().flat_map(|argument| [D::Line, argument.clone()]).collect();
        let wide = D::Group(vec![function.clone(), D::Nest(nested)]);
        let Some((last, others)) = laid_out.split_last() else { return (None, wide) };
        if !arguments.last().is_some_and(|last| absorbs(last) && lead(last).before.is_empty()) {
            return (None, wide);
        }
        let mut start = vec![function];
        start.extend(others.iter().flat_map(|argument| [D::text(" "), argument.clone()]));
        let start = D::Concat(start).shared();
        let head = D::Concat(vec![start.clone(), D::text(" {")]).shared();
        let compact = D::Concat(vec![start, D::text(" "), last.clone()]);
        (Some(head.clone()), D::Choice(Box::new(head), Box::new(compact), Box::new(wide)))
    }

    fn chain(&self, first: &Node, rest: &[(Token, Node)]) -> D {
        let mut parts = vec![self.node(first)];
        for (operator, operand) in rest {
            parts.extend([D::Line, self.token(operator), D::text(" "), self.node(operand)]);
        }
        D::Group(parts)
    }

    fn condition(&self, branches: &[Branch], otherwise: &Token, last: &Node) -> D {
        let end = || if branches.len() > 1 { D::Hard } else { D::Line };
        let mut parts = Vec::new();
        for branch in branches {
            if let Some(before) = &branch.before {
                parts.extend([end(), self.token(before), D::text(" ")]);
            }
            let condition = D::Nest(vec![D::Line, self.node(&branch.condition)]);
            let head = vec![self.token(&branch.word), condition, D::Line, self.token(&branch.then)];
            parts.extend([D::Group(head), D::Nest(vec![end(), self.node(&branch.value)])]);
        }
        parts.extend([end(), self.token(otherwise), D::Nest(vec![end(), self.node(last)])]);
        D::Group(parts)
    }
}

fn after(token: &Token) -> Option<D> {
    token.after.as_ref().map(|comment| D::Comment { text: written(comment), own_line: false })
}

/// A comment as it is written: short block comments become line comments, long ones are indented evenly.
fn written(comment: &Comment) -> String {
    let text = &comment.text;
    if comment.is_line() {
        return text.clone();
    }
    if !text.contains('\n') {
        let inner = text.trim_start_matches("/*").trim_end_matches("*/").trim();
        let plain = !text.starts_with("/**") || text == "/**/";
        return if plain { format!("# {inner}").trim_end().to_owned() } else { text.clone() };
    }
    let mut lines = text.lines();
    let mut out = lines.next().unwrap_or_default().trim_end().to_owned();
    let rest: Vec<&str> = lines.collect();
    let closes = rest.last().is_some_and(|line| line.trim() == "*/");
    let body = if closes { &rest[..rest.len() - 1] } else { &rest[..] };
    let filled = || body.iter().filter(|line| !line.trim().is_empty());
    let starred = filled().all(|line| line.trim_start().starts_with('*')) && filled().next().is_some();
    let strip = filled().map(|line| line.len() - line.trim_start_matches(' ').len()).min().unwrap_or(0);
    let margin = if starred { " " } else { "  " };
    for line in body {
        let line = line.get(strip..).unwrap_or_default().trim_end();
        out.push('\n');
        if !line.is_empty() {
            out.push_str(&format!("{margin}{line}"));
        }
    }
    if closes {
        out.push_str(if starred { "\n */" } else { "\n*/" });
    }
    out
}

/// The token a node begins with.
fn lead(node: &Node) -> &Token {
    let mut node = node;
    loop {
        node = match node {
            Node::Token(token) => return token,
            Node::Text(pieces, _) => return super::strings::first(pieces).expect("a string has its quotes"),
            Node::List { open, .. } | Node::Paren { open, .. } | Node::Let { open, .. } => return open,
            Node::Set { rec, open, .. } => return rec.as_ref().unwrap_or(open),
            Node::Interpolation { open, .. } => return open,
            Node::Lambda { parameters, colon, .. } => {
                let name = parameters.name.as_ref().filter(|_| parameters.name_first);
                let formals = parameters.formals.as_ref().map(|formals| &formals.open);
                return name.or(formals).unwrap_or(colon);
            }
            Node::Unary { operator, .. } => return operator,
            Node::If { branches, .. } => return &branches[0].word,
            Node::Prefix { word, .. } => return word,
            Node::Call { function: inner, .. }
            | Node::Select { base: inner, .. }
            | Node::Has { base: inner, .. }
            | Node::Chain { first: inner, .. } => inner,
        };
    }
}

fn binding_lead(binding: &Binding) -> &Token {
    match binding {
        Binding::Value { path, .. } => lead(&path[0]),
        Binding::Inherit { word, .. } => word,
    }
}

/// Sets, lists and indented strings: they may begin at the end of a line.
fn absorbable(node: &Node) -> bool {
    match node {
        Node::Set { bindings, .. } => !bindings.is_empty(),
        Node::List { items, .. } => !items.is_empty(),
        Node::Text(_, kind) => *kind == TextKind::Indented,
        _ => false,
    }
}

/// The same for what ends in one of those: functions, calls and parentheses around them.
fn absorbs(node: &Node) -> bool {
    limits::with_stack(|| match node {
        Node::Lambda { parameters, body, .. } => {
            parameters.formals.is_none() && lead(body).before.is_empty() && absorbs(body)
        }
        Node::Paren { .. } => true,
        other => absorbable(other),
    })
}
