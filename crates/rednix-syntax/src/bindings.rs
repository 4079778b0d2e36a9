//! Parsing of bindings: nested attribute paths are merged here, and a name defined twice is reported.

use crate::ast::*;
use crate::error::SyntaxError;
use crate::parser::{Broken, Parsed, Parser};
use crate::printer;
use crate::symbol::Symbol;
use crate::token::{Kind, Span};
use rustc_hash::FxHashMap;

/// Sets with more bindings than this get an index of their names while they are built.
const INDEX_FROM: usize = 16;

/// Names of one set under construction.
#[derive(Default)]
pub(crate) struct Index {
    positions: FxHashMap<Symbol, usize>,
}

impl Index {
    fn find(&mut self, bindings: &[Binding], name: Symbol) -> Option<usize> {
        if bindings.len() <= INDEX_FROM {
            return bindings.iter().position(|binding| binding.name == name);
        }
        for (position, binding) in bindings.iter().enumerate().skip(self.positions.len()) {
            self.positions.insert(binding.name, position);
        }
        self.positions.get(&name).copied()
    }
}

impl Parser<'_> {
    /// Bindings up to and with `close`, and the height of what they hold.
    pub(crate) fn bindings(&mut self, close: Kind, expected: &[Kind]) -> Parsed<(AttributesId, u32)> {
        let set = self.ast.add_attributes(Attributes::default());
        let mut indices = FxHashMap::default();
        let mut below = 0;
        loop {
            let result = match self.kind() {
                kind if kind == close => {
                    self.bump();
                    return Ok((set, below));
                }
                Kind::Inherit => self.inherit(set, &mut indices),
                Kind::Identifier | Kind::OrKeyword | Kind::Quote | Kind::Interpolation => {
                    self.binding(set, &mut indices)
                }
                _ => Err(self.unexpected(expected)),
            };
            match result {
                Ok(height) => below = below.max(height),
                Err(Broken) => self.skip_binding(close)?,
            }
        }
    }

    /// After an error: to the `;` that ends this binding, or to the end of the set.
    fn skip_binding(&mut self, close: Kind) -> Parsed<()> {
        let mut open = 0u32;
        loop {
            match self.kind() {
                Kind::EndOfFile => return Err(Broken),
                kind if open == 0 && kind == close => return Ok(()),
                Kind::BraceOpen | Kind::ParenOpen | Kind::BracketOpen | Kind::Interpolation => open += 1,
                Kind::BraceClose | Kind::ParenClose | Kind::BracketClose => {
                    if open == 0 {
                        return Err(Broken);
                    }
                    open -= 1;
                }
                Kind::Semicolon if open == 0 => {
                    self.bump();
                    return Ok(());
                }
                _ => {}
            }
            self.bump();
        }
    }

    fn binding(&mut self, set: AttributesId, indices: &mut FxHashMap<AttributesId, Index>) -> Parsed<u32> {
        let start = self.span();
        let (path, mut below) = self.attribute_path()?;
        let end = self.tokens[self.next - 1].span;
        // What could continue a function's formals was ruled out before, so only these two can follow.
        self.expect(Kind::Assign, &[Kind::Dot, Kind::Assign])?;
        let value = self.expr()?;
        below = below.max(self.ast.height(value));
        let missing_end = self.expect(Kind::Semicolon, &[Kind::Semicolon]);
        let names = self.ast.names(path).to_vec();
        let height = below + names.len() as u32;
        if height > crate::limits::TREE_HEIGHT_MAX {
            self.too_deep(start.to(end));
            return missing_end.map(|_| 0);
        }
        self.define(set, indices, &names, start.to(end), value);
        missing_end?;
        Ok(height)
    }

    fn inherit(&mut self, set: AttributesId, indices: &mut FxHashMap<AttributesId, Index>) -> Parsed<u32> {
        self.bump();
        let mut value = BindingValue::Inherited;
        let mut below = 0;
        if self.kind() == Kind::ParenOpen {
            self.bump();
            let source = self.expr()?;
            self.expect(Kind::ParenClose, &[Kind::ParenClose])?;
            below = self.ast.height(source);
            let sources = &mut self.ast.attributes[set.0 as usize].inherit_sources;
            sources.push(source);
            value = BindingValue::InheritedFrom(sources.len() as u32 - 1);
        }
        loop {
            match self.kind() {
                Kind::Semicolon => {
                    self.bump();
                    return Ok(below);
                }
                Kind::Identifier | Kind::OrKeyword | Kind::Quote | Kind::Interpolation => {
                    let name = self.attribute_name()?;
                    let NameKind::Static(symbol) = name.kind else {
                        self.error(SyntaxError::new("dynamic attributes not allowed in inherit", name.span));
                        continue;
                    };
                    let index = indices.entry(set).or_default();
                    let bindings = &mut self.ast.attributes[set.0 as usize].bindings;
                    if let Some(previous) = index.find(bindings, symbol) {
                        let previous = bindings[previous].span;
                        self.duplicate(&[name], name.span, previous);
                        continue;
                    }
                    bindings.push(Binding { name: symbol, span: name.span, value });
                }
                _ => return Err(self.unexpected(&[])),
            }
        }
    }

    fn duplicate(&mut self, path: &[Name], span: Span, previous: Span) {
        let shown = printer::show_path(&self.ast, self.interner, path);
        let message = format!("attribute '{}' already defined at ", String::from_utf8_lossy(&shown));
        self.error(SyntaxError::with_other(message, span, previous));
    }

    /// Adds `path = value`, making or entering the sets on the way.
    fn define(
        &mut self,
        set: AttributesId,
        indices: &mut FxHashMap<AttributesId, Index>,
        path: &[Name],
        span: Span,
        value: ExprId,
    ) {
        let mut set = set;
        for (depth, name) in path[..path.len() - 1].iter().enumerate() {
            let NameKind::Static(symbol) = name.kind else {
                let NameKind::Dynamic(name) = name.kind else { unreachable!("a name is static or dynamic") };
                let (nested, expr) = self.nested_set(span, value);
                self.ast.attributes[set.0 as usize].dynamic.push(DynamicBinding { name, value: expr, span });
                set = nested;
                continue;
            };
            let index = indices.entry(set).or_default();
            match index.find(&self.ast.attributes[set.0 as usize].bindings, symbol) {
                Some(position) => {
                    let binding = self.ast.attributes[set.0 as usize].bindings[position];
                    match self.set_of(binding.value) {
                        Some(nested) => set = nested,
                        None => return self.duplicate(&path[..=depth], span, binding.span),
                    }
                }
                None => {
                    let (nested, expr) = self.nested_set(span, value);
                    let value = BindingValue::Plain(expr);
                    self.ast.attributes[set.0 as usize].bindings.push(Binding { name: symbol, span, value });
                    set = nested;
                }
            }
        }
        match path[path.len() - 1].kind {
            NameKind::Dynamic(name) => {
                self.ast.attributes[set.0 as usize].dynamic.push(DynamicBinding { name, value, span });
            }
            NameKind::Static(name) => {
                let binding = Binding { name, span, value: BindingValue::Plain(value) };
                let mut shown = path.to_vec();
                self.insert(set, indices, &mut shown, binding);
            }
        }
    }

    fn nested_set(&mut self, span: Span, value: ExprId) -> (AttributesId, ExprId) {
        let nested = self.ast.add_attributes(Attributes { span, ..Attributes::default() });
        let expr = self.add(Expr::Attributes(nested), span, &[value]);
        (nested, expr)
    }

    fn set_of(&self, value: BindingValue) -> Option<AttributesId> {
        match value {
            BindingValue::Plain(expr) => match self.ast.expr(expr) {
                Expr::Attributes(id) => Some(id),
                _ => None,
            },
            _ => None,
        }
    }

    /// Adds one binding; where both the old and the new value are set literals they become one.
    fn insert(
        &mut self,
        set: AttributesId,
        indices: &mut FxHashMap<AttributesId, Index>,
        path: &mut Vec<Name>,
        binding: Binding,
    ) {
        let index = indices.entry(set).or_default();
        let Some(position) = index.find(&self.ast.attributes[set.0 as usize].bindings, binding.name) else {
            self.ast.attributes[set.0 as usize].bindings.push(binding);
            return;
        };
        let previous = self.ast.attributes[set.0 as usize].bindings[position];
        let (Some(into), Some(from)) = (self.set_of(previous.value), self.set_of(binding.value)) else {
            return self.duplicate(path, binding.span, previous.span);
        };
        let from = std::mem::take(&mut self.ast.attributes[from.0 as usize]);
        let offset = self.ast.attributes[into.0 as usize].inherit_sources.len() as u32;
        for mut inner in from.bindings {
            if let BindingValue::InheritedFrom(source) = &mut inner.value {
                *source += offset;
            }
            path.push(Name { kind: NameKind::Static(inner.name), span: inner.span });
            // Merging goes as deep as the literals do, which `TREE_HEIGHT_MAX` bounds.
            crate::limits::with_stack(|| self.insert(into, indices, path, inner));
            path.pop();
        }
        let target = &mut self.ast.attributes[into.0 as usize];
        target.dynamic.extend(from.dynamic);
        target.inherit_sources.extend(from.inherit_sources);
    }
}
