//! Compiling functions and calls.

use super::{Compiler, Scope};
use crate::bytecode::{DefaultValue, FormalInfo, FormalsInfo, LambdaInfo, Op};
use crate::limits::ARITY_MAX;
use crate::source::Range;
use crate::value::{BuiltinId, LambdaId, Value};
use rednix_syntax as syntax;
use rednix_syntax::{Expr, ExprId, NameKind, Run, Symbol};

impl Compiler<'_> {
    pub(super) fn lambda(&mut self, id: syntax::LambdaId, name: Option<Symbol>, range: Range) {
        // The number is taken first, so that outer functions come before inner ones.
        let number = LambdaId(self.program.lambdas.len() as u32);
        self.program.lambdas.push(LambdaInfo {
            entry: 0,
            arity: 1,
            slots: 0,
            formals: None,
            argument: None,
            name,
            range,
            parameters: Vec::new(),
            inner: Vec::new(),
        });
        let outer = std::mem::take(&mut self.unit);
        self.level += 1;
        self.unit_depth += 1;
        match &self.ast.lambda(id).formals {
            Some(formals) => self.formals(number, id, formals, name),
            None => self.curried(number, id, name),
        }
        self.level -= 1;
        self.unit_depth -= 1;
        let mut unit = std::mem::replace(&mut self.unit, outer);
        unit.code.push(Op::ReturnFree);
        unit.ranges.push(range);
        self.program.lambdas[number.0 as usize].slots = unit.slots.expect("a function has an environment");
        let entry = self.place(unit);
        self.program.lambdas[number.0 as usize].entry = entry;
        self.emit(Op::Lambda(number), range);
    }

    /// `a: b: body` takes both arguments at once where it is called with both.
    fn curried(&mut self, number: LambdaId, id: syntax::LambdaId, name: Option<Symbol>) {
        let mut names = Vec::new();
        let mut inner = Vec::new();
        let mut lambda = self.ast.lambda(id);
        loop {
            let argument = lambda.argument.expect("a function without formals has an argument");
            names.push((argument, names.len() as u32));
            let Expr::Lambda(next) = self.ast.expr(lambda.body) else { break };
            let next_lambda = self.ast.lambda(next);
            if next_lambda.formals.is_some() || names.len() as u32 >= ARITY_MAX {
                break;
            }
            inner.push(self.range(lambda.body).start);
            lambda = next_lambda;
        }
        let arity = names.len() as u32;
        let info = &mut self.program.lambdas[number.0 as usize];
        info.arity = arity;
        info.inner = inner;
        info.parameters = names.iter().map(|&(name, _)| name).collect();
        self.unit.slots = Some(arity);
        self.scopes.push(Scope::new(self.level, names));
        self.body(lambda.body, name);
        self.scopes.pop();
    }

    /// A function directly inside a named one goes by the same name.
    fn body(&mut self, body: ExprId, name: Option<Symbol>) {
        match self.ast.expr(body) {
            Expr::Lambda(inner) => {
                let range = self.range(body);
                syntax::limits::with_stack(|| self.lambda(inner, name, range));
            }
            _ => self.strict(body),
        }
    }

    fn formals(
        &mut self,
        number: LambdaId,
        id: syntax::LambdaId,
        formals: &syntax::Formals,
        name: Option<Symbol>,
    ) {
        let lambda = self.ast.lambda(id);
        let mut names = Vec::new();
        let argument = lambda.argument.map(|argument| {
            names.push((argument, 0));
            0
        });
        let mut infos = Vec::new();
        for formal in &formals.formals {
            let slot = names.len() as u32;
            names.push((formal.name, slot));
            let pos = self.pos(formal.span.start);
            infos.push((FormalInfo { name: formal.name, slot, default: None, pos }, formal.default));
        }
        infos.sort_by_key(|(info, _)| info.name);
        self.unit.slots = Some(names.len() as u32);
        self.scopes.push(Scope::new(self.level, names));
        let mut compiled = Vec::with_capacity(infos.len());
        for (mut info, default) in infos {
            info.default = default.map(|expr| self.default_value(expr));
            compiled.push(info);
        }
        let info = &mut self.program.lambdas[number.0 as usize];
        info.argument = argument;
        info.parameters = lambda.argument.into_iter().collect();
        info.formals = Some(FormalsInfo { formals: compiled, ellipsis: formals.ellipsis });
        self.body(lambda.body, name);
        self.scopes.pop();
    }

    fn default_value(&mut self, expr: ExprId) -> DefaultValue {
        let constant = match self.ast.expr(expr) {
            Expr::Integer(_) | Expr::Float(_) | Expr::Text(_) | Expr::Path(_) => Some(self.literal(expr)),
            Expr::Variable(name) => match self.find(name) {
                super::Place::Global(value) => Some(value),
                _ => None,
            },
            _ => None,
        };
        match constant {
            Some(value) => DefaultValue::Constant(value),
            None => DefaultValue::Code(self.thunk_unit(expr)),
        }
    }

    /// The set `builtins`, where the expression is that variable and nothing shadows it.
    pub(super) fn builtin_set(&self, expr: ExprId) -> Option<Value> {
        let Expr::Variable(name) = self.ast.expr(expr) else { return None };
        if name != self.globals.names.builtins || self.is_shadowed(name) {
            return None;
        }
        self.globals.values.get(&name).copied()
    }

    /// The builtin an expression certainly stands for.
    fn known_builtin(&self, expr: ExprId) -> Option<BuiltinId> {
        match self.ast.expr(expr) {
            Expr::Variable(name) if !self.is_shadowed(name) => match self.globals.values.get(&name) {
                Some(&Value::Builtin(id)) => Some(id),
                _ => None,
            },
            Expr::Select { base, path, default: None } => {
                self.builtin_set(base)?;
                match self.ast.names(path) {
                    [name] => match name.kind {
                        NameKind::Static(name) => self.globals.functions.get(&name).copied(),
                        NameKind::Dynamic(_) => None,
                    },
                    _ => None,
                }
            }
            _ => None,
        }
    }

    pub(super) fn call(&mut self, function: ExprId, arguments: Run, range: Range) {
        let arguments = self.ast.list(arguments);
        let mut rest = arguments;
        match self.known_builtin(function) {
            Some(builtin) if arguments.len() >= self.arity(builtin) => {
                let own;
                (own, rest) = arguments.split_at(self.arity(builtin));
                self.call_builtin(builtin, own, range);
            }
            _ => self.strict(function),
        }
        if rest.is_empty() {
            return;
        }
        for &argument in rest {
            self.lazy(argument);
        }
        self.emit(Op::Call(rest.len() as u32), range);
    }

    fn arity(&self, builtin: BuiltinId) -> usize {
        usize::from(self.globals.builtins[builtin.0 as usize].arity)
    }

    fn call_builtin(&mut self, builtin: BuiltinId, arguments: &[ExprId], range: Range) {
        if builtin == self.globals.names.seq {
            self.strict(arguments[0]);
            self.emit(Op::Pop, range);
            return self.strict(arguments[1]);
        }
        let strict = self.globals.builtins[builtin.0 as usize].strict;
        for (index, &argument) in arguments.iter().enumerate() {
            if strict & (1 << index) != 0 { self.strict(argument) } else { self.lazy(argument) }
        }
        self.emit(Op::CallBuiltin(builtin), range);
    }
}
