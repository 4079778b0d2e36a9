//! Calls of functions, builtins and sets with `__functor`.

use super::native::Step;
use super::{Frame, Vm};
use crate::builtins::Outcome;
use crate::bytecode::{DefaultValue, Program};
use crate::error::{EvalError, Result};
use crate::memory::Gc;
use crate::value::{Attrs, BuiltinId, Env, LambdaId, Partial, Thunk, Value, entries, new_env};

impl Vm {
    /// Stack: function, `count` arguments.
    #[inline]
    pub(crate) fn call_op(&mut self, count: u32) -> Result<()> {
        let base = self.stack.len() - count as usize - 1;
        match self.stack[base] {
            Value::Lambda(id, env) => self.call_lambda(id, env, base, count),
            Value::Builtin(id) => self.call_builtin_value(id, base, count),
            Value::Partial(partial) => self.call_partial(partial, base),
            Value::Attrs(set) => self.call_functor(set, base),
            Value::Thunk(thunk) => match thunk.get() {
                value if value.is_whnf() => {
                    self.stack[base] = value;
                    self.call_op(count)
                }
                _ => self.force_and_retry(thunk),
            },
            other => Err(self.not_a_function(other)),
        }
    }

    fn not_a_function(&mut self, value: Value) -> Box<EvalError> {
        let kind = self.type_of(value);
        let shown = self.show(value);
        let message = format!("attempt to call something which is not a function but {kind}: {shown}");
        EvalError::type_error(message).at(self.here())
    }

    #[inline(always)]
    fn environment(&mut self, up: Gc<Env>, slots: u32) -> Gc<Env> {
        if let Some(free) = self.free_envs.get_mut(slots as usize)
            && let Some(env) = free.pop()
        {
            env.up.set(Some(up));
            env.captured.set(false);
            return env;
        }
        new_env(&mut self.heap, Some(up), slots)
    }

    #[inline]
    fn call_lambda(&mut self, id: LambdaId, up: Gc<Env>, base: usize, count: u32) -> Result<()> {
        let info = &self.program.lambdas[id.0 as usize];
        let (arity, slots, entry) = (info.arity, info.slots, info.entry);
        if count < arity {
            return self.make_partial(base);
        }
        let with_formals = info.formals.is_some();
        if with_formals {
            let argument = self.stack[base + 1].peek();
            if let Value::Thunk(thunk) = argument {
                return self.force_and_retry(thunk);
            }
            self.stack[base + 1] = argument;
        }
        self.deeper()?;
        let env = self.environment(up, slots);
        if with_formals {
            if let Err(error) = self.bind_formals(id, env, base) {
                self.depth -= 1;
                return Err(error);
            }
        } else {
            let cells = env.slots();
            for (cell, &value) in cells.iter().zip(&self.stack[base + 1..base + 1 + arity as usize]) {
                cell.set(value);
            }
        }
        if count > arity {
            let rest = self.heap.copy_slice(&self.stack[base + 1 + arity as usize..]);
            self.stack.truncate(base);
            self.push_frame(Frame::Resume { ip: self.ip, env: self.env })?;
            self.push_frame(Frame::Apply { arguments: rest, count: count - arity })?;
            self.push_frame(Frame::Leave { at: self.ip, callee: id })?;
        } else {
            self.stack.truncate(base);
            self.push_frame(Frame::Call { ip: self.ip, env: self.env, callee: id })?;
        }
        self.ip = entry;
        self.env = env;
        Ok(())
    }

    /// A call with exactly the plain arguments a function takes, for the frame on top.
    #[inline]
    pub(crate) fn enter_lambda(&mut self, id: LambdaId, up: Gc<Env>, arguments: &[Value]) -> Result<()> {
        let info = &self.program.lambdas[id.0 as usize];
        let (slots, entry) = (info.slots, info.entry);
        let at = Program::call_stub(arguments.len() as u32) + 1;
        self.ip = at;
        self.deeper()?;
        let env = self.environment(up, slots);
        for (cell, &value) in env.slots().iter().zip(arguments) {
            cell.set(value);
        }
        self.push_frame(Frame::Leave { at, callee: id })?;
        self.ip = entry;
        self.env = env;
        Ok(())
    }

    /// Gives each formal its attribute or its default.
    fn bind_formals(&mut self, id: LambdaId, env: Gc<Env>, base: usize) -> Result<()> {
        let argument = self.stack[base + 1];
        let Value::Attrs(set) = argument else {
            let range = self.program.lambdas[id.0 as usize].range;
            let mut error = self.expected("a set", argument);
            error.range = range;
            return Err(error);
        };
        let given = entries(&mut self.heap, set);
        let info = &self.program.lambdas[id.0 as usize];
        let formals = info.formals.as_ref().expect("called for functions with formals only");
        let slots = env.slots();
        if let Some(slot) = info.argument {
            slots[slot as usize].set(argument);
        }
        let mut used = 0;
        let mut cursor = 0;
        let wide = given.len() > 4 * formals.formals.len().max(4);
        for formal in &formals.formals {
            let entry = if wide {
                let found = given[cursor..].binary_search_by_key(&formal.name, |entry| entry.name);
                found.ok().map(|offset| &given[cursor + offset])
            } else {
                while cursor < given.len() && given[cursor].name < formal.name {
                    cursor += 1;
                }
                given.get(cursor).filter(|entry| entry.name == formal.name)
            };
            let value = match (entry, formal.default) {
                (Some(entry), _) => {
                    used += 1;
                    entry.value.get().peek()
                }
                (None, Some(DefaultValue::Constant(value))) => value,
                (None, Some(DefaultValue::Code(code))) => {
                    env.captured.set(true);
                    Value::Thunk(self.heap.alloc_any(Thunk::new(Value::Suspended(code, env))))
                }
                (None, None) => return Err(self.missing_argument(id, formal.name, set)),
            };
            slots[formal.slot as usize].set(value);
        }
        if used != given.len() && !formals.ellipsis {
            return Err(self.unexpected_argument(id, set));
        }
        Ok(())
    }

    #[cold]
    fn missing_argument(
        &mut self,
        id: LambdaId,
        name: rednix_syntax::Symbol,
        set: Gc<Attrs>,
    ) -> Box<EvalError> {
        let given = self.sorted_by_symbol(set);
        let info = &self.program.lambdas[id.0 as usize];
        let message = format!(
            "function '{}' called without required argument '{}'",
            self.lambda_name(id),
            self.interner.text(name)
        );
        // What was given under a name that is no argument's may be this one.
        let formals = info.formals.as_ref().expect("called for functions with formals only");
        let unknown = given.into_iter().filter(|&given| !formals.formals.iter().any(|f| f.name == given));
        let wanted = self.text_of(name);
        let suggestions = super::explain::nearest(unknown.map(|name| self.text_of(name)), &wanted);
        let mut error = EvalError::type_error(message).at(info.range);
        error.suggestions = suggestions;
        self.frame_here(error, "from call site")
    }

    #[cold]
    fn unexpected_argument(&mut self, id: LambdaId, set: Gc<Attrs>) -> Box<EvalError> {
        let given = self.sorted_by_symbol(set);
        let info = &self.program.lambdas[id.0 as usize];
        let formals = info.formals.as_ref().expect("called for functions with formals only");
        let known = |name| formals.formals.iter().any(|formal| formal.name == name);
        let name = given.into_iter().find(|&name| !known(name)).expect("some argument was not used");
        let candidates = formals.formals.iter().map(|formal| self.text_of(formal.name));
        let suggestions = super::explain::nearest(candidates, &self.text_of(name));
        let message = format!(
            "function '{}' called with unexpected argument '{}'",
            self.lambda_name(id),
            self.interner.text(name)
        );
        let mut error = EvalError::type_error(message).at(info.range);
        error.suggestions = suggestions;
        self.frame_here(error, "from call site")
    }

    fn sorted_by_symbol(&mut self, set: Gc<Attrs>) -> Vec<rednix_syntax::Symbol> {
        entries(&mut self.heap, set).iter().map(|entry| entry.name).collect()
    }

    pub(crate) fn lambda_name(&self, id: LambdaId) -> String {
        let name = self.program.lambdas[id.0 as usize].name;
        name.map_or_else(|| "anonymous lambda".into(), |name| self.text_of(name))
    }

    /// Keeps a function with too few arguments for later.
    fn make_partial(&mut self, base: usize) -> Result<()> {
        let length = (self.stack.len() - base - 1) as u32;
        let arguments = self.heap.copy_slice(&self.stack[base + 1..]);
        let partial = Partial { function: self.stack[base], length, arguments };
        let value = Value::Partial(self.heap.alloc(partial));
        self.stack.truncate(base);
        self.stack.push(value);
        Ok(())
    }

    fn call_partial(&mut self, partial: Gc<Partial>, base: usize) -> Result<()> {
        self.stack[base] = partial.function;
        self.stack.splice(base + 1..base + 1, partial.arguments().iter().copied());
        let count = (self.stack.len() - base - 1) as u32;
        self.call_op_no_retry(count)
    }

    /// A call whose stack is no longer what the instruction expects: waiting for a value must not run the
    /// instruction again, so the rest is put behind a frame.
    fn call_op_no_retry(&mut self, count: u32) -> Result<()> {
        let base = self.stack.len() - count as usize - 1;
        let ready = match self.stack[base] {
            Value::Lambda(id, _) => {
                let info = &self.program.lambdas[id.0 as usize];
                info.formals.is_none() || count < info.arity
            }
            Value::Builtin(id) => {
                let shape = &self.globals.builtins[id.0 as usize];
                count < u32::from(shape.arity)
            }
            _ => false,
        };
        if ready {
            return self.call_op(count);
        }
        // Through the call stubs, where the stack is again what the instruction expects.
        self.push_frame(Frame::Resume { ip: self.ip, env: self.env })?;
        let function = self.stack[base];
        let all = self.stack[base + 1..].to_vec();
        self.stack.truncate(base);
        let (now, later) = all.split_at(all.len().min(4));
        if !later.is_empty() {
            let arguments = self.heap.copy_slice(later);
            self.push_frame(Frame::Apply { arguments, count: later.len() as u32 })?;
        }
        self.enter_call(function, now)
    }

    /// `{ __functor = self: argument: …; } argument`.
    fn call_functor(&mut self, set: Gc<Attrs>, base: usize) -> Result<()> {
        let Some(entry) = set.get(self.symbols.functor) else {
            return Err(self.not_a_function(Value::Attrs(set)));
        };
        self.stack.insert(base, entry.value.get().peek());
        let count = (self.stack.len() - base - 1) as u32;
        self.call_op_no_retry(count)
    }

    fn call_builtin_value(&mut self, id: BuiltinId, base: usize, count: u32) -> Result<()> {
        let shape = &self.globals.builtins[id.0 as usize];
        let (arity, strict) = (u32::from(shape.arity), shape.strict);
        if count < arity {
            return self.make_partial(base);
        }
        for index in 0..arity {
            if strict & (1 << index) == 0 {
                continue;
            }
            let place = base + 1 + index as usize;
            let value = self.stack[place].peek();
            if let Value::Thunk(thunk) = value {
                return self.force_and_retry(thunk);
            }
            self.stack[place] = value;
        }
        let mut arguments = [Value::Null; 4];
        let from = base + 1;
        arguments[..arity as usize].copy_from_slice(&self.stack[from..from + arity as usize]);
        let outcome = self.invoke(id, &arguments[..arity as usize])?;
        if let Outcome::Need(thunk) = outcome {
            return self.force_and_retry(thunk);
        }
        if count > arity {
            let rest = self.heap.copy_slice(&self.stack[from + arity as usize..]);
            self.stack.truncate(base);
            self.push_frame(Frame::Resume { ip: self.ip, env: self.env })?;
            self.push_frame(Frame::Apply { arguments: rest, count: count - arity })?;
            return self.finish_outcome(outcome);
        }
        self.stack.truncate(base);
        self.finish(outcome)
    }

    /// Stack: all arguments, the strict ones computed.
    pub(crate) fn call_builtin_op(&mut self, id: BuiltinId) -> Result<()> {
        let arity = usize::from(self.globals.builtins[id.0 as usize].arity);
        let base = self.stack.len() - arity;
        let mut arguments = [Value::Null; 4];
        arguments[..arity].copy_from_slice(&self.stack[base..]);
        let outcome = self.invoke(id, &arguments[..arity])?;
        if let Outcome::Need(thunk) = outcome {
            return self.force_and_retry(thunk);
        }
        self.stack.truncate(base);
        self.finish(outcome)
    }

    #[inline]
    fn invoke(&mut self, id: BuiltinId, arguments: &[Value]) -> Result<Outcome> {
        let function = crate::builtins::TABLE[id.0 as usize].function;
        match function(self, arguments) {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                let name = crate::builtins::TABLE[id.0 as usize].name.trim_start_matches("__");
                Err(self.frame_here(error, &format!("while calling the '{name}' builtin")))
            }
        }
    }

    /// Carries an outcome out in place of the current instruction.
    #[inline]
    fn finish(&mut self, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Value(value) => {
                self.stack.push(value);
                Ok(())
            }
            Outcome::Forced(value) => {
                self.stack.push(value.peek());
                self.force_top()
            }
            other => {
                self.push_frame(Frame::Resume { ip: self.ip, env: self.env })?;
                self.finish_outcome(other)
            }
        }
    }

    /// Carries an outcome out for the frame on top.
    fn finish_outcome(&mut self, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Value(value) => self.give(value),
            Outcome::Forced(value) => {
                let value = value.peek();
                if value.is_whnf() { self.give(value) } else { self.enter_thunk(value) }
            }
            Outcome::Call(function, arguments) => self.enter_call(function, arguments.as_slice()),
            Outcome::Run(native) => match self.start_native(native)? {
                Some(value) => self.give(value),
                None => Ok(()),
            },
            Outcome::Need(_) => unreachable!("needs are met before"),
        }
    }
}

impl From<Step> for Outcome {
    fn from(step: Step) -> Outcome {
        match step {
            Step::Return(value) => Outcome::Value(value),
            Step::ReturnForced(value) | Step::Force(value) => Outcome::Forced(value),
            Step::ReturnCall(function, arguments) | Step::Call(function, arguments) => {
                Outcome::Call(function, arguments)
            }
            Step::Run(native) => Outcome::Run(native),
        }
    }
}
