//! Booleans, equality and assertions.

use super::Vm;
use super::compare::{Equality, Verdict, equal_now};
use crate::bytecode::BoolPlace;
use crate::error::{ErrorKind, EvalError, Result};
use crate::value::Value;

impl Vm {
    #[inline(always)]
    pub(crate) fn pop_bool(&mut self, context: &str) -> Result<bool> {
        match self.pop() {
            Value::Bool(value) => Ok(value),
            other => Err(self.no_bool(other, context)),
        }
    }

    #[cold]
    fn no_bool(&mut self, value: Value, context: &str) -> Box<EvalError> {
        let error = self.expected("a Boolean", value);
        self.frame_here(error, context)
    }

    /// An operand equal to `decides` settles the result.
    pub(crate) fn logical(
        &mut self,
        distance: i32,
        decides: bool,
        result: bool,
        context: &str,
    ) -> Result<()> {
        if self.pop_bool(context)? == decides {
            self.stack.push(Value::Bool(result));
            self.jump(distance);
        }
        Ok(())
    }

    pub(crate) fn check_bool(&mut self, place: BoolPlace) -> Result<()> {
        if let Value::Bool(_) = self.top() {
            return Ok(());
        }
        let context = match place {
            BoolPlace::And => "in the right operand of the AND (&&) operator",
            BoolPlace::Or => "in the right operand of the OR (||) operator",
            BoolPlace::Implies => "in the right operand of the IMPL (->) operator",
        };
        let value = self.top();
        Err(self.no_bool(value, context))
    }

    pub(crate) fn equal(&mut self, negate: bool) -> Result<()> {
        let right = self.pop();
        let left = self.pop();
        match equal_now(left, right) {
            Verdict::Known(equal) => {
                self.stack.push(Value::Bool(equal != negate));
                Ok(())
            }
            Verdict::Deep => self.begin(Box::new(Equality::new(left, right, negate))),
        }
    }

    pub(crate) fn assert_failed(&self, site: u32) -> Box<EvalError> {
        let site = &self.program.assert_sites[site as usize];
        let message = format!("assertion '{}' failed", site.condition);
        EvalError::new(ErrorKind::Assertion, message).at(site.range)
    }

    /// Pops the sides of a failed `assert a == b`, and says where they differ.
    pub(crate) fn assert_unequal(&mut self, site: u32) -> Result<()> {
        let right = self.pop();
        let left = self.pop();
        let range = self.program.assert_sites[site as usize].range;
        let condition = self.program.assert_sites[site as usize].condition.clone();
        self.begin(Box::new(super::compare::Difference::new(left, right, range, condition)))?;
        Ok(())
    }
}
