//! The compiler: from a syntax tree to bytecode, with every variable resolved to a slot.
//!
//! Evaluates nothing and reads no files. It makes no thunk for what is already a value: constants, variables,
//! functions, and small lists of those; and calls builtins it can see with their strict arguments computed.

mod bindings;
mod function;
mod operators;
mod scope;

use crate::bytecode::*;
use crate::error::{ErrorKind, EvalError};
use crate::memory::Heap;
use crate::source::{Pos, Range};
use crate::value::{Address, BuiltinId, Value, new_attrs};
use rednix_syntax::{Ast, Expr, ExprId, Interner, NameKind, Run, Span, Symbol, limits, printer};
use rustc_hash::FxHashMap;
pub(crate) use scope::{Place, Scope};
use scope::{Place as Found, Unit};

/// What every file sees without defining it.
pub(crate) struct Globals {
    pub values: FxHashMap<Symbol, Value>,
    /// Name, arity and strict arguments (one bit each) of each builtin.
    pub builtins: Vec<BuiltinShape>,
    /// The functions of `builtins`, by their names there.
    pub functions: FxHashMap<Symbol, BuiltinId>,
    pub names: Names,
}

pub(crate) struct BuiltinShape {
    pub arity: u8,
    pub strict: u8,
}

/// Names the compiler asks about.
pub(crate) struct Names {
    pub builtins: Symbol,
    pub sub: Symbol,
    pub mul: Symbol,
    pub div: Symbol,
    pub less_than: Symbol,
    pub find_file: Symbol,
    pub nix_path: Symbol,
    pub overrides: Symbol,
    pub file: Symbol,
    pub line: Symbol,
    pub column: Symbol,
    pub seq: BuiltinId,
}

/// Where the source lies, for paths and `__curPos`.
pub(crate) struct Location<'a> {
    /// Position of the source's first byte.
    pub base: u32,
    pub directory: &'a [u8],
    /// Empty where there is none, or where pure evaluation forbids it.
    pub home: Option<&'a [u8]>,
    /// Path of the file, where it is one, and the starts of its lines.
    pub file: Option<&'a [u8]>,
    pub lines: &'a [u32],
}

pub(crate) struct Compiler<'a> {
    ast: &'a Ast,
    interner: &'a Interner,
    program: &'a mut Program,
    heap: &'a mut Heap,
    globals: &'a Globals,
    location: Location<'a>,
    scopes: Vec<Scope>,
    /// Number of environments around the code being compiled.
    level: u32,
    unit: Unit,
    unit_depth: u32,
    errors: Vec<Box<EvalError>>,
}

impl<'a> Compiler<'a> {
    pub fn new(
        ast: &'a Ast,
        interner: &'a Interner,
        program: &'a mut Program,
        heap: &'a mut Heap,
        globals: &'a Globals,
        location: Location<'a>,
    ) -> Self {
        let (scopes, unit, errors) = (Vec::new(), Unit::default(), Vec::new());
        Compiler {
            ast,
            interner,
            program,
            heap,
            globals,
            location,
            scopes,
            level: 0,
            unit,
            unit_depth: 0,
            errors,
        }
    }

    /// Compiles a whole source, to be run in an environment that holds `scope`'s names (or in an empty one).
    pub fn file(mut self, root: ExprId, scope: Option<Scope>) -> Result<Address, Vec<Box<EvalError>>> {
        self.scopes.extend(scope);
        let address = self.thunk_unit(root);
        if self.errors.is_empty() { Ok(address) } else { Err(self.errors) }
    }

    fn pos(&self, offset: u32) -> Pos {
        Pos(self.location.base + offset)
    }

    fn range_of(&self, span: Span) -> Range {
        Range { start: self.pos(span.start), end: self.pos(span.end) }
    }

    fn range(&self, id: ExprId) -> Range {
        let point = self.ast.point(id);
        Range { start: self.pos(point), end: self.pos(self.ast.span(id).end.max(point)) }
    }

    fn emit(&mut self, op: Op, range: Range) -> usize {
        self.unit.code.push(op);
        self.unit.ranges.push(range);
        self.unit.code.len() - 1
    }

    fn here(&self) -> usize {
        self.unit.code.len()
    }

    /// Makes the jump at `from` land on the next instruction.
    fn land(&mut self, from: usize) {
        let distance = (self.here() - from - 1) as i32;
        match &mut self.unit.code[from] {
            Op::Jump(jump)
            | Op::JumpIfFalse(jump)
            | Op::AndJump(jump)
            | Op::OrJump(jump)
            | Op::ImpliesJump(jump)
            | Op::AssertJump(jump)
            | Op::SelectOrDynamic(jump) => *jump = distance,
            Op::SelectOr(site) => self.program.select_sites[*site as usize].jump = distance,
            other => unreachable!("{other:?} is no jump"),
        }
    }

    fn constant(&mut self, value: Value, range: Range) {
        if let Value::Int(number) = value
            && let Ok(small) = i32::try_from(number)
        {
            self.emit(Op::Int(small), range);
            return;
        }
        self.program.constants.push(value);
        let index = self.program.constants.len() as u32 - 1;
        self.emit(Op::Constant(index), range);
    }

    /// Code of its own for an expression; the address where it begins.
    fn thunk_unit(&mut self, expr: ExprId) -> Address {
        self.own_unit(|compiler| {
            compiler.strict(expr);
            let range = compiler.range(expr);
            compiler.emit(Op::Return, range);
        })
    }

    /// The same for the value of a binding, whose name errors will speak of.
    fn binding_unit(&mut self, expr: ExprId, name: Symbol, range: Range) -> Address {
        let start = self.thunk_unit(expr);
        let end = self.program.code.len() as Address;
        self.program.named.push(NamedCode { start, end, name, range });
        start
    }

    fn own_unit(&mut self, body: impl FnOnce(&mut Self)) -> Address {
        let outer = std::mem::take(&mut self.unit);
        self.unit_depth += 1;
        body(self);
        self.unit_depth -= 1;
        let inner = std::mem::replace(&mut self.unit, outer);
        self.place(inner)
    }

    fn place(&mut self, unit: Unit) -> Address {
        let address = self.program.code.len() as Address;
        self.program.code.extend(unit.code);
        self.program.ranges.extend(unit.ranges);
        address
    }

    fn fail(&mut self, kind: ErrorKind, message: String, range: Range) {
        self.errors.push(EvalError::new(kind, message).at(range));
    }

    /// Code that leaves the expression's computed value on the stack.
    fn strict(&mut self, id: ExprId) {
        limits::with_stack(|| self.strict_here(id));
    }

    fn strict_here(&mut self, id: ExprId) {
        let range = self.range(id);
        match self.ast.expr(id) {
            Expr::Error => self.fail(ErrorKind::Syntax, "syntax error".into(), range),
            Expr::Integer(_) | Expr::Float(_) | Expr::Text(_) | Expr::Path(_) | Expr::HomePath(_) => {
                let value = self.literal(id);
                self.constant(value, range);
            }
            Expr::CurrentPosition => {
                let value = self.current_position(id);
                self.constant(value, range);
            }
            Expr::SearchPath(run) => self.search_path(run, range),
            Expr::Variable(name) => self.variable(name, range),
            Expr::Select { base, path, default } => self.select(base, path, default, range),
            Expr::HasAttribute { base, path } => self.has_attribute(base, path, range),
            Expr::Attributes(set) => self.attribute_set(set, range),
            Expr::List(items) => {
                let items = self.ast.list(items);
                for &item in items {
                    self.lazy(item);
                }
                self.emit(Op::MakeList(items.len() as u32), range);
            }
            Expr::Lambda(lambda) => self.lambda(lambda, None, range),
            Expr::Call { function, arguments } => self.call(function, arguments, range),
            Expr::Let { bindings, body } => self.let_in(bindings, body),
            Expr::With { scope, body } => self.with(scope, body),
            Expr::If { condition, then, otherwise } => {
                self.strict(condition);
                let to_else = self.emit(Op::JumpIfFalse(0), self.range(condition));
                self.strict(then);
                let to_end = self.emit(Op::Jump(0), range);
                self.land(to_else);
                self.strict(otherwise);
                self.land(to_end);
            }
            Expr::Assert { condition, body } => self.assert(condition, body, range),
            Expr::Not(operand) => {
                self.strict(operand);
                self.emit(Op::Not, self.range(operand));
            }
            Expr::Negate(operand) => self.negate(operand, range),
            Expr::Binary { operator, left, right } => self.binary(operator, left, right, range),
            Expr::Interpolated { parts, text } => self.interpolated(parts, text, range),
        }
    }

    /// Code that leaves the expression's value or a thunk for it on the stack, computing nothing.
    fn lazy(&mut self, id: ExprId) {
        self.lazy_named(id, None);
    }

    /// The same for the value of a binding: its name, and where that stands.
    fn lazy_named(&mut self, id: ExprId, name: Option<(Symbol, Range)>) {
        let range = self.range(id);
        if self.is_ready(id) {
            match self.ast.expr(id) {
                Expr::Variable(name) => self.ready_variable(name, range),
                Expr::Lambda(lambda) => self.lambda(lambda, name.map(|(name, _)| name), range),
                _ => self.strict(id),
            }
            return;
        }
        if self.speculate(id) {
            return;
        }
        let address = limits::with_stack(|| match name {
            Some((name, place)) => self.binding_unit(id, name, place),
            None => self.thunk_unit(id),
        });
        self.emit(Op::Thunk(address), range);
    }

    /// Whether the value can be made without evaluating anything.
    fn is_ready(&self, id: ExprId) -> bool {
        match self.ast.expr(id) {
            Expr::Integer(_) | Expr::Float(_) | Expr::Text(_) | Expr::Lambda(_) => true,
            Expr::Path(_) | Expr::HomePath(_) | Expr::CurrentPosition => true,
            Expr::Variable(name) => match self.find(name) {
                Found::Local { ready, .. } => ready,
                Found::Global(_) => true,
                Found::With(_) | Found::Nowhere => false,
            },
            Expr::List(items) => {
                let items = self.ast.list(items);
                items.len() <= crate::limits::READY_ITEMS_MAX
                    && items.iter().all(|&item| {
                        !matches!(self.ast.expr(item), Expr::List(run) if run.length > 0)
                            && self.is_ready(item)
                    })
            }
            Expr::Attributes(set) => {
                let set = self.ast.attributes(set);
                set.bindings.is_empty() && set.dynamic.is_empty()
            }
            _ => false,
        }
    }

    fn literal(&mut self, id: ExprId) -> Value {
        match self.ast.expr(id) {
            Expr::Integer(value) => Value::Int(value),
            Expr::Float(value) => Value::Float(value),
            Expr::Text(run) => Value::string(self.heap, self.ast.bytes(run)),
            Expr::Path(run) => {
                let path = printer::resolve_path(self.ast.bytes(run), self.location.directory);
                Value::path(self.heap, &path)
            }
            Expr::HomePath(run) => match self.location.home {
                Some(home) => Value::path(self.heap, &[home, self.ast.bytes(run)].concat()),
                None => {
                    let shown = String::from_utf8_lossy(self.ast.bytes(run)).into_owned();
                    let message = format!("the path '~{shown}' can not be resolved in pure mode");
                    self.fail(ErrorKind::Evaluation, message, self.range(id));
                    Value::Null
                }
            },
            other => unreachable!("{other:?} is no literal"),
        }
    }

    fn current_position(&mut self, id: ExprId) -> Value {
        let offset = self.ast.span(id).start;
        let Some(file) = self.location.file else { return Value::Null };
        let line = self.location.lines.partition_point(|&start| start <= offset);
        let column = offset - self.location.lines[line - 1] + 1;
        let names = &self.globals.names;
        let file = Value::string(self.heap, file);
        let mut entries = vec![
            crate::value::Entry::new(names.file, Pos::NONE, file),
            crate::value::Entry::new(names.line, Pos::NONE, Value::Int(line as i64)),
            crate::value::Entry::new(names.column, Pos::NONE, Value::Int(i64::from(column))),
        ];
        entries.sort_by_key(|entry| entry.name);
        Value::Attrs(new_attrs(self.heap, Pos::NONE, entries))
    }

    fn search_path(&mut self, run: Run, range: Range) {
        self.variable(self.globals.names.find_file, range);
        self.ready_or_thunk_variable(self.globals.names.nix_path, range);
        let value = Value::string(self.heap, self.ast.bytes(run));
        self.constant(value, range);
        self.emit(Op::Call(2), range);
    }

    fn ready_or_thunk_variable(&mut self, name: Symbol, range: Range) {
        match self.find(name) {
            Found::Local { ready: true, .. } | Found::Global(_) => self.ready_variable(name, range),
            _ => {
                let address = self.own_unit(|compiler| {
                    compiler.variable(name, range);
                    compiler.emit(Op::Return, range);
                });
                self.emit(Op::Thunk(address), range);
            }
        }
    }

    fn select(&mut self, base: ExprId, path: Run, default: Option<ExprId>, range: Range) {
        let names = self.ast.names(path);
        if let (Some(value), [name]) = (self.builtin_set(base), names) {
            // `builtins.x` is known while compiling, unless `builtins` was defined anew.
            if let (NameKind::Static(name), Value::Attrs(set)) = (name.kind, value)
                && let Some(entry) = set.get(name)
            {
                let value = entry.value.get();
                self.constant(value, range);
                if !value.is_whnf() {
                    self.emit(Op::Force, range);
                }
                return;
            }
        }
        self.strict(base);
        let Some(default) = default else {
            for name in names {
                match name.kind {
                    NameKind::Static(symbol) => self.emit(Op::Select(symbol), range),
                    NameKind::Dynamic(expr) => {
                        self.strict(expr);
                        self.emit(Op::SelectDynamic, range)
                    }
                };
            }
            return;
        };
        let missing = self.select_or(names, range);
        let to_end = self.emit(Op::Jump(0), range);
        for jump in missing {
            self.land(jump);
        }
        self.strict(default);
        self.land(to_end);
    }

    /// Selects along a path; the jumps taken when something on it is not there.
    fn select_or(&mut self, names: &[rednix_syntax::Name], range: Range) -> Vec<usize> {
        let mut missing = Vec::with_capacity(names.len());
        for name in names {
            missing.push(match name.kind {
                NameKind::Static(name) => {
                    self.program.select_sites.push(SelectSite { name, jump: 0 });
                    let site = self.program.select_sites.len() as u32 - 1;
                    self.emit(Op::SelectOr(site), range)
                }
                NameKind::Dynamic(expr) => {
                    self.strict(expr);
                    self.emit(Op::SelectOrDynamic(0), range)
                }
            });
        }
        missing
    }

    fn has_attribute(&mut self, base: ExprId, path: Run, range: Range) {
        self.strict(base);
        let names = self.ast.names(path);
        let (last, before) = names.split_last().expect("an attribute path has a name");
        let missing = self.select_or(before, range);
        match last.kind {
            NameKind::Static(name) => self.emit(Op::Has(name), range),
            NameKind::Dynamic(expr) => {
                self.strict(expr);
                self.emit(Op::HasDynamic, range)
            }
        };
        if missing.is_empty() {
            return;
        }
        let to_end = self.emit(Op::Jump(0), range);
        for jump in missing {
            self.land(jump);
        }
        self.constant(Value::Bool(false), range);
        self.land(to_end);
    }

    fn with(&mut self, scope: ExprId, body: ExprId) {
        let range = self.range(scope);
        let opened = self.open(1, range);
        self.lazy(scope);
        self.emit(Op::SetSlot(opened.first), range);
        self.scopes.push(Scope::with(self.level, opened.first));
        self.strict(body);
        self.scopes.pop();
        self.close(opened, range);
    }

    fn assert(&mut self, condition: ExprId, body: ExprId, range: Range) {
        self.strict(condition);
        let passed = self.emit(Op::AssertJump(0), self.range(condition));
        let places =
            printer::Places { base: self.location.directory, home: self.location.home.unwrap_or(b"~") };
        let text = printer::print(self.ast, self.interner, condition, places);
        let condition_text = String::from_utf8_lossy(&text).into_owned();
        self.program.assert_sites.push(AssertSite { condition: condition_text, range });
        let site = self.program.assert_sites.len() as u32 - 1;
        if let Expr::Binary { operator: rednix_syntax::Operator::Equal, left, right } =
            self.ast.expr(condition)
        {
            self.strict(left);
            self.strict(right);
            self.emit(Op::AssertUnequal(site), self.range(condition));
        }
        self.emit(Op::AssertFailed(site), range);
        self.land(passed);
        self.strict(body);
    }
}
