//! The loop over instructions.

use super::{Frame, Vm};
use crate::bytecode::{Arithmetic, Op};
use crate::error::{EvalError, Result};
use crate::memory::Gc;
use crate::value::{Env, Thunk, Value, new_env};

impl Vm {
    /// Runs until the frame that was pushed by the caller is reached; unwinds errors to it.
    pub(crate) fn run(&mut self) -> Result<Value> {
        loop {
            match self.instructions() {
                Ok(value) => return Ok(value),
                Err(error) => self.unwind(error)?,
            }
        }
    }

    fn instructions(&mut self) -> Result<Value> {
        loop {
            let op = self.program.code[self.ip as usize];
            self.ip += 1;
            match op {
                Op::Constant(index) => self.stack.push(self.program.constants[index as usize]),
                Op::Int(value) => self.stack.push(Value::Int(i64::from(value))),
                Op::Local { depth, slot } => {
                    let value = self.env.ancestor(depth).slots()[slot as usize].get();
                    self.stack.push(value.peek());
                }
                Op::LocalForced { depth, slot } => self.local_forced(depth, slot)?,
                Op::Thunk(code) => {
                    self.env.captured.set(true);
                    let thunk = self.heap.alloc_any(Thunk::new(Value::Suspended(code, self.env)));
                    self.stack.push(Value::Thunk(thunk));
                }
                Op::Lambda(id) => {
                    self.env.captured.set(true);
                    self.stack.push(Value::Lambda(id, self.env));
                }
                Op::Force => self.force_top()?,
                Op::Pop => {
                    self.stack.pop();
                }
                Op::Speculate { operator, code } => self.speculate(operator, code),
                Op::NewEnv(slots) => {
                    self.env.captured.set(true);
                    self.env = new_env(&mut self.heap, Some(self.env), slots);
                }
                Op::LeaveEnv => self.env = self.env.ancestor(1),
                Op::SetSlot(slot) => {
                    let value = self.pop();
                    self.env.slots()[slot as usize].set(value);
                }
                Op::Select(name) => self.select(name)?,
                Op::Call(count) => {
                    if self.heap.wants_collection() {
                        self.collect();
                    }
                    self.call_op(count)?;
                }
                Op::CallBuiltin(id) => self.call_builtin_op(id)?,
                Op::Jump(distance) => self.jump(distance),
                Op::JumpIfFalse(distance) => {
                    if !self.pop_bool("while evaluating a branch condition")? {
                        self.jump(distance);
                    }
                }
                Op::Add => self.add()?,
                Op::Subtract => self.subtract()?,
                Op::Less => self.less(false, false)?,
                Op::Equal => self.equal(false)?,
                Op::Return => {
                    if self.heap.wants_collection() {
                        self.collect();
                    }
                    let value = self.pop();
                    self.give(value)?;
                }
                Op::ReturnFree => {
                    if self.heap.wants_collection() {
                        self.collect();
                    }
                    let value = self.pop();
                    self.free_env();
                    self.give(value)?;
                }
                Op::Stop => return Ok(self.pop()),
                other => self.other_instruction(other)?,
            }
        }
    }

    /// The instructions that are run less often.
    #[inline(always)]
    fn other_instruction(&mut self, op: Op) -> Result<()> {
        match op {
            Op::WithForced(site) => self.with_forced(site),
            Op::SelectDynamic => self.select_dynamic(),
            Op::SelectOr(site) => self.select_or(site),
            Op::SelectOrDynamic(distance) => self.select_or_dynamic(distance),
            Op::Has(name) => self.has(name),
            Op::HasDynamic => self.has_dynamic(),
            Op::MakeAttrs(shape) => self.make_attrs(shape),
            Op::MakeAttrsDynamic(site) => self.make_attrs_dynamic(site),
            Op::ApplyOverrides(shape) => self.apply_overrides(shape),
            Op::MakeList(count) => {
                let from = self.stack.len() - count as usize;
                let list = Value::list(&mut self.heap, &self.stack[from..]);
                self.stack.truncate(from);
                self.stack.push(list);
                Ok(())
            }
            Op::AndJump(distance) => {
                self.logical(distance, false, false, "in the left operand of the AND (&&) operator")
            }
            Op::OrJump(distance) => {
                self.logical(distance, true, true, "in the left operand of the OR (||) operator")
            }
            Op::ImpliesJump(distance) => {
                self.logical(distance, false, true, "in the left operand of the IMPL (->) operator")
            }
            Op::CheckBool(place) => self.check_bool(place),
            Op::AssertJump(distance) => {
                if self.pop_bool("in the condition of the assert statement")? {
                    self.jump(distance);
                }
                Ok(())
            }
            Op::AssertFailed(site) => Err(self.assert_failed(site)),
            Op::AssertUnequal(site) => self.assert_unequal(site),
            Op::Not => {
                let value = self.pop_bool("in the argument of the not operator")?;
                self.stack.push(Value::Bool(!value));
                Ok(())
            }
            Op::Negate => self.negate(),
            Op::Multiply => self.multiply(),
            Op::Divide => self.divide(),
            Op::LessEqual => self.less(true, true),
            Op::Greater => self.less(true, false),
            Op::GreaterEqual => self.less(false, true),
            Op::NotEqual => self.equal(true),
            Op::Concat => self.concat(),
            Op::Update => self.update(),
            Op::Coerce => self.coerce_top(),
            Op::CoercePathPart => self.coerce_path_part(),
            Op::ConcatText(count) => self.concat_text(count),
            Op::ConcatPath(count) => self.concat_path(count),
            other => unreachable!("{other:?} is handled by the loop itself"),
        }
    }

    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Value {
        self.stack.pop().expect("the compiler balances the stack")
    }

    #[inline(always)]
    pub(crate) fn top(&self) -> Value {
        self.stack[self.stack.len() - 1]
    }

    #[inline(always)]
    pub(crate) fn set_top(&mut self, value: Value) {
        let last = self.stack.len() - 1;
        self.stack[last] = value;
    }

    #[inline(always)]
    pub(crate) fn jump(&mut self, distance: i32) {
        self.ip = self.ip.wrapping_add_signed(distance);
    }

    #[inline(always)]
    fn local_forced(&mut self, depth: u16, slot: u32) -> Result<()> {
        let cell = &self.env.ancestor(depth).slots()[slot as usize];
        let value = cell.get();
        if value.is_whnf() {
            self.stack.push(value);
            return Ok(());
        }
        let inner = value.peek();
        self.stack.push(inner);
        if inner.is_whnf() {
            cell.set(inner);
            return Ok(());
        }
        self.force_top()
    }

    /// Computes the top of the stack before the next instruction.
    #[inline]
    pub(crate) fn force_top(&mut self) -> Result<()> {
        let Value::Thunk(thunk) = self.top() else { return Ok(()) };
        match thunk.get() {
            Value::Suspended(code, env) => {
                self.stack.pop();
                let frame = Frame::Force { ip: self.ip, env: self.env, thunk };
                self.push_frame(frame)?;
                thunk.set(Value::Blackhole);
                self.ip = code;
                self.env = env;
                Ok(())
            }
            Value::Apply(count, start) => {
                self.stack.pop();
                let frame = Frame::Force { ip: self.ip, env: self.env, thunk };
                self.push_frame(frame)?;
                thunk.set(Value::Blackhole);
                self.enter_waiting_call(count, start)
            }
            value if value.is_whnf() => {
                self.set_top(value);
                Ok(())
            }
            _ => Err(self.cannot_force(thunk)),
        }
    }

    /// Computes a thunk that lies somewhere else, then runs the current instruction again.
    pub(crate) fn force_and_retry(&mut self, thunk: Gc<Thunk>) -> Result<()> {
        let frame = Frame::Retry { ip: self.ip - 1, env: self.env, thunk };
        match thunk.get() {
            Value::Suspended(code, env) => {
                self.push_frame(frame)?;
                thunk.set(Value::Blackhole);
                self.ip = code;
                self.env = env;
                Ok(())
            }
            Value::Apply(count, start) => {
                self.push_frame(frame)?;
                thunk.set(Value::Blackhole);
                self.enter_waiting_call(count, start)
            }
            value if value.is_whnf() => {
                self.ip -= 1;
                Ok(())
            }
            _ => Err(self.cannot_force(thunk)),
        }
    }

    #[inline]
    fn speculate(&mut self, operator: Arithmetic, code: u32) {
        let right = self.pop();
        let left = self.pop();
        if let (Value::Int(left), Value::Int(right)) = (left, right) {
            let result = match operator {
                Arithmetic::Add => left.checked_add(right),
                Arithmetic::Subtract => left.checked_sub(right),
                Arithmetic::Multiply => left.checked_mul(right),
            };
            if let Some(result) = result {
                self.stack.push(Value::Int(result));
                return;
            }
        }
        self.env.captured.set(true);
        let thunk = self.heap.alloc_any(Thunk::new(Value::Suspended(code, self.env)));
        self.stack.push(Value::Thunk(thunk));
    }

    fn with_forced(&mut self, site: u32) -> Result<()> {
        let count = self.program.with_sites[site as usize].scopes.len();
        for index in 0..count {
            let site = &self.program.with_sites[site as usize];
            let (depth, slot) = site.scopes[index];
            let name = site.name;
            let cell = &self.env.ancestor(depth).slots()[slot as usize];
            let value = cell.get().peek();
            match value {
                Value::Thunk(thunk) => return self.force_and_retry(thunk),
                Value::Attrs(set) => {
                    cell.set(value);
                    if let Some(entry) = set.get(name) {
                        self.stack.push(entry.value.get());
                        return self.force_top();
                    }
                }
                other => {
                    let error = self.expected("a set", other);
                    return Err(self
                        .frame_here(error, "while evaluating the first subexpression of a with expression"));
                }
            }
        }
        let name = self.program.with_sites[site as usize].name;
        let message = format!("undefined variable '{}'", self.interner.text(name));
        Err(EvalError::new(crate::error::ErrorKind::UndefinedVariable, message).at(self.here()))
    }

    /// A function returns: nothing but what it made can hold its environment.
    #[inline(always)]
    fn free_env(&mut self) {
        let env: Gc<Env> = self.env;
        if env.captured.get() {
            return;
        }
        if let Some(free) = self.free_envs.get_mut(env.length as usize) {
            free.push(env);
        }
    }
}
