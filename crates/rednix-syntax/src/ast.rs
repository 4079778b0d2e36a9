//! The syntax tree: nodes in one arena, referring to each other by index.
//!
//! A tree holds no source text beyond decoded literals, and no resolved paths: what a relative path means
//! is for whoever knows where the file lies.

use crate::symbol::Symbol;
use crate::token::Span;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExprId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttributesId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LambdaId(pub u32);

/// A run of entries in one of the tree's pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub start: u32,
    pub length: u32,
}

impl Run {
    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..(self.start + self.length) as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Concat,
    Update,
    And,
    Or,
    Implies,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expr {
    /// Something that did not parse; the errors say what.
    Error,
    Integer(i64),
    Float(f64),
    Text(Run),
    /// A path as written; one that continues with an interpolation keeps its final slash.
    Path(Run),
    /// What follows the `~` of a path below the home directory.
    HomePath(Run),
    /// What stands between `<` and `>`.
    SearchPath(Run),
    Variable(Symbol),
    CurrentPosition,
    Select {
        base: ExprId,
        path: Run,
        default: Option<ExprId>,
    },
    HasAttribute {
        base: ExprId,
        path: Run,
    },
    Attributes(AttributesId),
    List(Run),
    Lambda(LambdaId),
    Call {
        function: ExprId,
        arguments: Run,
    },
    Let {
        bindings: AttributesId,
        body: ExprId,
    },
    With {
        scope: ExprId,
        body: ExprId,
    },
    If {
        condition: ExprId,
        then: ExprId,
        otherwise: ExprId,
    },
    Assert {
        condition: ExprId,
        body: ExprId,
    },
    Not(ExprId),
    Negate(ExprId),
    Binary {
        operator: Operator,
        left: ExprId,
        right: ExprId,
    },
    /// A string or path with interpolations; `text` is false for paths.
    Interpolated {
        parts: Run,
        text: bool,
    },
}

/// One step of an attribute path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Name {
    pub kind: NameKind,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NameKind {
    Static(Symbol),
    Dynamic(ExprId),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BindingValue {
    Plain(ExprId),
    /// `inherit x`: the variable of that name outside of the set.
    Inherited,
    /// `inherit (e) x`: from the inherit source of that number.
    InheritedFrom(u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Binding {
    pub name: Symbol,
    pub span: Span,
    pub value: BindingValue,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DynamicBinding {
    pub name: ExprId,
    pub value: ExprId,
    pub span: Span,
}

/// The bindings of an attribute set or a `let`, nested paths already merged, each name once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes {
    pub recursive: bool,
    pub bindings: Vec<Binding>,
    pub dynamic: Vec<DynamicBinding>,
    pub inherit_sources: Vec<ExprId>,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Formal {
    pub name: Symbol,
    pub span: Span,
    pub default: Option<ExprId>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Formals {
    /// In source order.
    pub formals: Vec<Formal>,
    pub ellipsis: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Lambda {
    pub argument: Option<Symbol>,
    pub formals: Option<Formals>,
    pub body: ExprId,
}

/// A piece of an interpolated string, with the place where it starts (the `${` of an interpolation).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    pub expr: ExprId,
    pub start: u32,
}

/// An arena of nodes and the pools they refer to.
#[derive(Clone, Debug, Default)]
pub struct Ast {
    exprs: Vec<Expr>,
    spans: Vec<Span>,
    /// Where errors point: the operator of a binary expression, else the start of the node.
    points: Vec<u32>,
    heights: Vec<u32>,
    lists: Vec<ExprId>,
    names: Vec<Name>,
    parts: Vec<Part>,
    bytes: Vec<u8>,
    pub attributes: Vec<Attributes>,
    pub lambdas: Vec<Lambda>,
}

impl Ast {
    pub fn expr(&self, id: ExprId) -> Expr {
        self.exprs[id.0 as usize]
    }

    pub fn span(&self, id: ExprId) -> Span {
        self.spans[id.0 as usize]
    }

    pub fn point(&self, id: ExprId) -> u32 {
        self.points[id.0 as usize]
    }

    /// The longest way from a node down to a leaf, in nodes.
    pub fn height(&self, id: ExprId) -> u32 {
        self.heights[id.0 as usize]
    }

    pub fn list(&self, run: Run) -> &[ExprId] {
        &self.lists[run.range()]
    }

    pub fn names(&self, run: Run) -> &[Name] {
        &self.names[run.range()]
    }

    pub fn parts(&self, run: Run) -> &[Part] {
        &self.parts[run.range()]
    }

    pub fn bytes(&self, run: Run) -> &[u8] {
        &self.bytes[run.range()]
    }

    pub fn attributes(&self, id: AttributesId) -> &Attributes {
        &self.attributes[id.0 as usize]
    }

    pub fn lambda(&self, id: LambdaId) -> &Lambda {
        &self.lambdas[id.0 as usize]
    }

    pub fn len(&self) -> usize {
        self.exprs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.exprs.is_empty()
    }

    pub(crate) fn add(&mut self, expr: Expr, span: Span, height: u32) -> ExprId {
        let id = ExprId(self.exprs.len() as u32);
        self.exprs.push(expr);
        self.spans.push(span);
        self.points.push(span.start);
        self.heights.push(height);
        id
    }

    pub(crate) fn set_point(&mut self, id: ExprId, point: u32) {
        self.points[id.0 as usize] = point;
    }

    pub(crate) fn set_height(&mut self, id: ExprId, height: u32) {
        self.heights[id.0 as usize] = height;
    }

    pub(crate) fn add_list(&mut self, items: &[ExprId]) -> Run {
        push_run(&mut self.lists, items)
    }

    pub(crate) fn add_names(&mut self, items: &[Name]) -> Run {
        push_run(&mut self.names, items)
    }

    pub(crate) fn add_parts(&mut self, items: &[Part]) -> Run {
        push_run(&mut self.parts, items)
    }

    pub(crate) fn add_bytes(&mut self, bytes: &[u8]) -> Run {
        push_run(&mut self.bytes, bytes)
    }

    pub(crate) fn add_attributes(&mut self, attributes: Attributes) -> AttributesId {
        self.attributes.push(attributes);
        AttributesId(self.attributes.len() as u32 - 1)
    }

    pub(crate) fn add_lambda(&mut self, lambda: Lambda) -> LambdaId {
        self.lambdas.push(lambda);
        LambdaId(self.lambdas.len() as u32 - 1)
    }
}

fn push_run<T: Copy>(pool: &mut Vec<T>, items: &[T]) -> Run {
    let start = pool.len() as u32;
    pool.extend_from_slice(items);
    Run { start, length: items.len() as u32 }
}
