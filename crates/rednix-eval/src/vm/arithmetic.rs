//! Numbers: `+ - * /`, negation and order.

use super::Vm;
use super::coerce::{Coerce, CoerceOptions};
use super::compare::{LessThan, order_now};
use crate::error::{EvalError, Result};
use crate::value::Value;
use std::cmp::Ordering;

impl Vm {
    #[inline]
    pub(crate) fn add(&mut self) -> Result<()> {
        let right = self.pop();
        let left = self.pop();
        let sum = match (left, right) {
            (Value::Int(a), Value::Int(b)) => match a.checked_add(b) {
                Some(sum) => Value::Int(sum),
                None => return Err(self.overflowing("adding", a, '+', b)),
            },
            (Value::Float(a), Value::Float(b)) => Value::Float(a + b),
            (Value::Int(a), Value::Float(b)) => Value::Float(a as f64 + b),
            (Value::Float(a), Value::Int(b)) => Value::Float(a + b as f64),
            (Value::String(..) | Value::ContextString(_), Value::String(..) | Value::ContextString(_)) => {
                self.join(left, right)
            }
            (Value::Int(_), other) => return Err(self.cannot_add(other, "an integer")),
            (Value::Float(_), other) => return Err(self.cannot_add(other, "a float")),
            _ => return self.add_coerced(left, right),
        };
        self.stack.push(sum);
        Ok(())
    }

    #[cold]
    fn cannot_add(&mut self, other: Value, to: &str) -> Box<EvalError> {
        let message = format!("cannot add {} to {to}", self.type_of(other));
        EvalError::evaluation(message).at(self.here())
    }

    #[cold]
    pub(crate) fn overflowing(&self, what: &str, a: i64, operator: char, b: i64) -> Box<EvalError> {
        EvalError::evaluation(format!("integer overflow in {what} {a} {operator} {b}")).at(self.here())
    }

    /// Strings, paths, and sets that stand for them. A path on the left makes a path.
    fn add_coerced(&mut self, left: Value, right: Value) -> Result<()> {
        let first_is_path = matches!(left, Value::Path(..));
        let copy = left.as_bytes().is_some();
        let options = CoerceOptions { copy_to_store: copy, ..CoerceOptions::default() };
        self.begin(Box::new(crate::vm::strings::AddCoerced::new(
            Coerce::new(left, options, "while evaluating a path segment"),
            Coerce::new(right, options, "while evaluating a path segment"),
            first_is_path,
        )))
    }

    /// Two numbers as integers, or both as floats.
    fn numbers(&mut self, what: &str) -> Result<(Numbers, Value, Value)> {
        let right = self.pop();
        let left = self.pop();
        let numbers = match (left, right) {
            (Value::Int(a), Value::Int(b)) => Numbers::Ints(a, b),
            (Value::Float(a), Value::Float(b)) => Numbers::Floats(a, b),
            (Value::Int(a), Value::Float(b)) => Numbers::Floats(a as f64, b),
            (Value::Float(a), Value::Int(b)) => Numbers::Floats(a, b as f64),
            _ => return Err(self.no_number(left, right, what)),
        };
        Ok((numbers, left, right))
    }

    #[cold]
    fn no_number(&mut self, left: Value, right: Value, what: &str) -> Box<EvalError> {
        let float = matches!(left, Value::Float(_)) || matches!(right, Value::Float(_));
        let wanted = if float { "a float" } else { "an integer" };
        let left_fits = matches!(left, Value::Int(_) | Value::Float(_));
        let (wrong, place) = if left_fits { (right, "second") } else { (left, "first") };
        let error = self.expected(wanted, wrong);
        self.frame_here(error, &format!("while evaluating the {place} argument of the {what}"))
    }

    #[inline]
    pub(crate) fn subtract(&mut self) -> Result<()> {
        let result = match self.numbers("subtraction")?.0 {
            Numbers::Ints(a, b) => match a.checked_sub(b) {
                Some(result) => Value::Int(result),
                None => return Err(self.overflowing("subtracting", a, '-', b)),
            },
            Numbers::Floats(a, b) => Value::Float(a - b),
        };
        self.stack.push(result);
        Ok(())
    }

    pub(crate) fn negate(&mut self) -> Result<()> {
        let value = self.pop();
        self.stack.push(Value::Int(0));
        self.stack.push(value);
        self.subtract()
    }

    pub(crate) fn multiply(&mut self) -> Result<()> {
        let result = match self.numbers("multiplication")?.0 {
            Numbers::Ints(a, b) => match a.checked_mul(b) {
                Some(result) => Value::Int(result),
                None => return Err(self.overflowing("multiplying", a, '*', b)),
            },
            Numbers::Floats(a, b) => Value::Float(a * b),
        };
        self.stack.push(result);
        Ok(())
    }

    pub(crate) fn divide(&mut self) -> Result<()> {
        let numbers = self.numbers("division")?.0;
        let zero = match numbers {
            Numbers::Ints(_, b) => b == 0,
            Numbers::Floats(_, b) => b == 0.0,
        };
        if zero {
            return Err(EvalError::evaluation("division by zero").at(self.here()));
        }
        let result = match numbers {
            Numbers::Ints(a, b) => match a.checked_div(b) {
                Some(result) => Value::Int(result),
                None => return Err(self.overflowing("dividing", a, '/', b)),
            },
            Numbers::Floats(a, b) => Value::Float(a / b),
        };
        self.stack.push(result);
        Ok(())
    }

    /// `<`, and the other three by swapping the operands and negating the result.
    #[inline]
    pub(crate) fn less(&mut self, swap: bool, negate: bool) -> Result<()> {
        let right = self.pop();
        let left = self.pop();
        let (left, right) = if swap { (right, left) } else { (left, right) };
        let less = match (left, right) {
            (Value::Int(a), Value::Int(b)) => a < b,
            _ => match order_now(self, left, right)? {
                Some(order) => order == Ordering::Less,
                None => return self.begin(Box::new(LessThan::new(left, right, negate))),
            },
        };
        self.stack.push(Value::Bool(less != negate));
        Ok(())
    }
}

pub(crate) enum Numbers {
    Ints(i64, i64),
    Floats(f64, f64),
}
