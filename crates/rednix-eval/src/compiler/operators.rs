//! Compiling operators and interpolations.

use super::{Compiler, Place};
use crate::bytecode::{Arithmetic, BoolPlace, Op};
use crate::source::Range;
use crate::value::Value;
use rednix_syntax::{Expr, ExprId, Operator, Run, Symbol};

impl Compiler<'_> {
    pub(super) fn binary(&mut self, operator: Operator, left: ExprId, right: ExprId, range: Range) {
        let names = &self.globals.names;
        // These operators are calls of functions that may have been defined anew.
        let (shadow, swap, negate) = match operator {
            Operator::Subtract => (names.sub, false, false),
            Operator::Multiply => (names.mul, false, false),
            Operator::Divide => (names.div, false, false),
            Operator::Less => (names.less_than, false, false),
            Operator::Greater => (names.less_than, true, false),
            Operator::LessEqual => (names.less_than, true, true),
            Operator::GreaterEqual => (names.less_than, false, true),
            _ => return self.own_operator(operator, left, right, range),
        };
        if self.is_shadowed(shadow) {
            return self.shadowed(shadow, if swap { (right, left) } else { (left, right) }, negate, range);
        }
        self.strict(left);
        self.strict(right);
        let op = match operator {
            Operator::Subtract => Op::Subtract,
            Operator::Multiply => Op::Multiply,
            Operator::Divide => Op::Divide,
            Operator::Less => Op::Less,
            Operator::Greater => Op::Greater,
            Operator::LessEqual => Op::LessEqual,
            _ => Op::GreaterEqual,
        };
        self.emit(op, range);
    }

    fn shadowed(&mut self, name: Symbol, operands: (ExprId, ExprId), negate: bool, range: Range) {
        self.variable(name, range);
        self.lazy(operands.0);
        self.lazy(operands.1);
        self.emit(Op::Call(2), range);
        if negate {
            self.emit(Op::Not, range);
        }
    }

    fn own_operator(&mut self, operator: Operator, left: ExprId, right: ExprId, range: Range) {
        self.strict(left);
        let logical = match operator {
            Operator::And => Some((Op::AndJump(0), BoolPlace::And)),
            Operator::Or => Some((Op::OrJump(0), BoolPlace::Or)),
            Operator::Implies => Some((Op::ImpliesJump(0), BoolPlace::Implies)),
            _ => None,
        };
        if let Some((jump, place)) = logical {
            let end = self.emit(jump, range);
            self.strict(right);
            self.emit(Op::CheckBool(place), range);
            self.land(end);
            return;
        }
        self.strict(right);
        let op = match operator {
            Operator::Add => Op::Add,
            Operator::Concat => Op::Concat,
            Operator::Update => Op::Update,
            Operator::Equal => Op::Equal,
            _ => Op::NotEqual,
        };
        self.emit(op, range);
    }

    pub(super) fn negate(&mut self, operand: ExprId, range: Range) {
        let sub = self.globals.names.sub;
        if self.is_shadowed(sub) {
            self.variable(sub, range);
            self.constant(Value::Int(0), range);
            self.lazy(operand);
            self.emit(Op::Call(2), range);
            return;
        }
        self.strict(operand);
        self.emit(Op::Negate, range);
    }

    /// Whether an operand of cheap arithmetic is there without computing anything.
    fn is_atom(&self, expr: ExprId) -> bool {
        match self.ast.expr(expr) {
            Expr::Integer(_) => true,
            Expr::Variable(name) => matches!(self.find(name), Place::Local { ready: true, .. }),
            _ => false,
        }
    }

    /// `n - 1` as an argument: done at once where both are computed integers, else a thunk.
    pub(super) fn speculate(&mut self, id: ExprId) -> bool {
        let Expr::Binary { operator, left, right } = self.ast.expr(id) else { return false };
        let names = &self.globals.names;
        let (operator, shadow) = match operator {
            Operator::Add => (Arithmetic::Add, None),
            Operator::Subtract => (Arithmetic::Subtract, Some(names.sub)),
            Operator::Multiply => (Arithmetic::Multiply, Some(names.mul)),
            _ => return false,
        };
        if shadow.is_some_and(|name| self.is_shadowed(name)) || !self.is_atom(left) || !self.is_atom(right) {
            return false;
        }
        let range = self.range(id);
        let code = self.thunk_unit(id);
        self.lazy(left);
        self.lazy(right);
        self.emit(Op::Speculate { operator, code }, range);
        true
    }

    pub(super) fn interpolated(&mut self, parts: Run, text: bool, range: Range) {
        let parts = self.ast.parts(parts);
        for (index, part) in parts.iter().enumerate() {
            self.strict(part.expr);
            if matches!(self.ast.expr(part.expr), Expr::Text(_)) || (!text && index == 0) {
                continue;
            }
            let place = Range { start: self.pos(part.start), end: self.range(part.expr).end };
            self.emit(if text { Op::Coerce } else { Op::CoercePathPart }, place);
        }
        let count = parts.len() as u32;
        if !text {
            self.emit(Op::ConcatPath(count), range);
        } else if count > 1 {
            self.emit(Op::ConcatText(count), range);
        }
    }
}
