//! Builtins that wait: state machines that are given the values they asked for.

use super::{Frame, Vm};
use crate::bytecode::{Program, stub};
use crate::collect::Tracer;
use crate::error::{ErrorKind, EvalError, Result};
use crate::limits;
use crate::memory::Gc;
use crate::value::Value;

/// Up to three arguments of a call.
#[derive(Clone, Copy)]
pub(crate) struct Arguments {
    values: [Value; 3],
    count: u8,
}

impl Arguments {
    pub fn new(arguments: &[Value]) -> Arguments {
        let mut values = [Value::Null; 3];
        values[..arguments.len()].copy_from_slice(arguments);
        Arguments { values, count: arguments.len() as u8 }
    }

    pub fn as_slice(&self) -> &[Value] {
        &self.values[..usize::from(self.count)]
    }
}

/// What a state machine wants next.
pub(crate) enum Step {
    /// It is done.
    Return(Value),
    /// To be resumed with this value computed.
    Force(Value),
    /// To be resumed with the result of a call.
    Call(Value, Arguments),
    /// To be resumed with the result of another machine.
    Run(Box<dyn Native>),
    /// Its result is this value, computed.
    ReturnForced(Value),
    /// Its result is that of this call.
    ReturnCall(Value, Arguments),
}

impl Step {
    pub fn call(function: Value, arguments: &[Value]) -> Step {
        Step::Call(function, Arguments::new(arguments))
    }
}

/// A builtin as a state machine. First resumed with null.
pub(crate) trait Native {
    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step>;

    /// Tells of every pointer it holds: what is not told of may be overwritten.
    fn trace(&self, tracer: &mut Tracer);

    /// Called when what it waits for failed: a value goes on, an error is passed on (perhaps with a frame more).
    fn recover(&mut self, vm: &mut Vm, error: Box<EvalError>) -> Result<Value> {
        let _ = vm;
        Err(error)
    }
}

pub(crate) struct ForceOne {
    pub value: Option<Value>,
}

impl Native for ForceOne {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.optional(self.value);
    }

    fn resume(&mut self, _: &mut Vm, value: Value) -> Result<Step> {
        match self.value.take() {
            Some(wanted) => Ok(Step::Force(wanted)),
            None => Ok(Step::Return(value)),
        }
    }
}

pub(crate) struct CallOne {
    function: Value,
    arguments: Option<Arguments>,
}

impl CallOne {
    pub fn new(function: Value, arguments: &[Value]) -> CallOne {
        CallOne { function, arguments: Some(Arguments::new(arguments)) }
    }
}

impl Native for CallOne {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.value(self.function);
        if let Some(arguments) = &self.arguments {
            tracer.values(arguments.as_slice());
        }
    }

    fn resume(&mut self, _: &mut Vm, value: Value) -> Result<Step> {
        match self.arguments.take() {
            Some(arguments) => Ok(Step::Call(self.function, arguments)),
            None => Ok(Step::Return(value)),
        }
    }
}

impl Vm {
    pub(crate) fn overflow(&self) -> Box<EvalError> {
        EvalError::new(ErrorKind::StackOverflow, "stack overflow; max-call-depth exceeded").at(self.here())
    }

    #[inline]
    pub(crate) fn deeper(&mut self) -> Result<()> {
        if self.depth >= self.settings.max_call_depth {
            return Err(self.overflow());
        }
        self.depth += 1;
        self.calls_until_look -= 1;
        if self.calls_until_look == 0 {
            self.look_up()?;
        }
        Ok(())
    }

    #[cold]
    fn look_up(&mut self) -> Result<()> {
        self.calls_until_look = limits::INTERRUPT_EVERY;
        let interrupted = &self.settings.interrupted;
        if interrupted.as_ref().is_some_and(|flag| flag.load(std::sync::atomic::Ordering::Relaxed)) {
            return Err(EvalError::new(ErrorKind::Interrupted, "interrupted by the user"));
        }
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn push_frame(&mut self, frame: Frame) -> Result<()> {
        if self.frames.len() >= limits::FRAMES_MAX {
            return Err(self.too_many_frames());
        }
        self.frames.push(frame);
        Ok(())
    }

    #[cold]
    fn too_many_frames(&self) -> Box<EvalError> {
        let message = "stack overflow (possible infinite recursion)";
        EvalError::new(ErrorKind::StackOverflow, message).at(self.here())
    }

    /// Begins a machine; its result, if it has one at once.
    pub(crate) fn start_native(&mut self, native: Box<dyn Native>) -> Result<Option<Value>> {
        self.deeper()?;
        let at = self.ip;
        self.drive(native, Value::Null, at)
    }

    /// Gives a machine its value and does what it asks for, until it is done or has to wait.
    pub(crate) fn drive(
        &mut self,
        mut native: Box<dyn Native>,
        mut value: Value,
        at: u32,
    ) -> Result<Option<Value>> {
        loop {
            let step = match native.resume(self, value) {
                Ok(step) => step,
                Err(error) => {
                    self.depth -= 1;
                    self.ip = at;
                    return Err(error);
                }
            };
            let height = self.stack.len() as u32;
            match step {
                Step::Return(result) => {
                    self.depth -= 1;
                    return Ok(Some(result));
                }
                Step::Force(wanted) => {
                    let wanted = wanted.peek();
                    if wanted.is_whnf() {
                        value = wanted;
                        continue;
                    }
                    self.push_frame(Frame::Native { native, height, at })?;
                    self.ip = at;
                    self.enter_thunk(wanted)?;
                    return Ok(None);
                }
                Step::Call(function, arguments) => {
                    self.push_frame(Frame::Native { native, height, at })?;
                    self.enter_call(function, arguments.as_slice())?;
                    return Ok(None);
                }
                Step::Run(inner) => {
                    self.push_frame(Frame::Native { native, height, at })?;
                    self.ip = at;
                    self.deeper()?;
                    native = inner;
                    value = Value::Null;
                }
                Step::ReturnForced(wanted) => {
                    self.depth -= 1;
                    self.ip = at;
                    let wanted = wanted.peek();
                    if wanted.is_whnf() {
                        return Ok(Some(wanted));
                    }
                    self.enter_thunk(wanted)?;
                    return Ok(None);
                }
                Step::ReturnCall(function, arguments) => {
                    self.depth -= 1;
                    self.enter_call(function, arguments.as_slice())?;
                    return Ok(None);
                }
            }
        }
    }

    /// Sets the machine up to compute a thunk and give its value to the frame on top.
    pub(crate) fn enter_thunk(&mut self, value: Value) -> Result<()> {
        let Value::Thunk(thunk) = value else {
            return Err(EvalError::evaluation("internal error: a value that is no thunk was to be forced"));
        };
        match thunk.get() {
            Value::Suspended(address, env) => {
                self.push_frame(Frame::Update { thunk })?;
                thunk.set(Value::Blackhole);
                self.ip = address;
                self.env = env;
                Ok(())
            }
            Value::Apply(count, start) => {
                self.push_frame(Frame::Update { thunk })?;
                thunk.set(Value::Blackhole);
                self.enter_waiting_call(count, start)
            }
            _ => Err(self.cannot_force(thunk)),
        }
    }

    /// Sets the machine up to call a function and give the result to the frame on top.
    #[inline]
    pub(crate) fn enter_call(&mut self, function: Value, arguments: &[Value]) -> Result<()> {
        if let Value::Lambda(id, up) = function
            && self.program.lambdas[id.0 as usize].takes_plainly(arguments.len())
        {
            return self.enter_lambda(id, up, arguments);
        }
        self.stack.push(function);
        self.stack.extend_from_slice(arguments);
        self.ip = Program::call_stub(arguments.len() as u32);
        Ok(())
    }

    /// Makes the call that a thunk waited with. Only that thunk held it, so its place can be used again.
    #[inline]
    pub(crate) fn enter_waiting_call(&mut self, count: u32, start: Gc<Value>) -> Result<()> {
        let call = crate::memory::slice(start, count);
        let mut kept = [Value::Null; 3];
        let kept = &mut kept[..call.len()];
        kept.copy_from_slice(call);
        self.heap.call_made(start, count);
        self.enter_call(kept[0], &kept[1..])
    }

    /// Runs a machine in place of the current instruction: its result is pushed.
    pub(crate) fn begin(&mut self, native: Box<dyn Native>) -> Result<()> {
        self.push_frame(Frame::Resume { ip: self.ip, env: self.env })?;
        match self.start_native(native)? {
            Some(value) => self.give(value),
            None => Ok(()),
        }
    }

    /// Hands a computed value to the frame on top.
    #[inline]
    pub(crate) fn give(&mut self, mut value: Value) -> Result<()> {
        loop {
            match self.frames.pop() {
                Some(Frame::Force { ip, env, thunk }) => {
                    thunk.set(value);
                    return self.resume_at(ip, env, value);
                }
                Some(Frame::Call { ip, env, .. }) => {
                    self.depth -= 1;
                    return self.resume_at(ip, env, value);
                }
                Some(Frame::Resume { ip, env }) => return self.resume_at(ip, env, value),
                Some(Frame::Retry { ip, env, thunk }) => {
                    thunk.set(value);
                    self.ip = ip;
                    self.env = env;
                    return Ok(());
                }
                Some(Frame::Update { thunk }) => thunk.set(value),
                Some(Frame::Leave { .. }) => self.depth -= 1,
                Some(Frame::Native { native, at, .. }) => match self.drive(native, value, at)? {
                    Some(result) => value = result,
                    None => return Ok(()),
                },
                Some(Frame::Apply { arguments, count }) => {
                    let arguments = crate::memory::slice(arguments, count);
                    let (now, later) = arguments.split_at(arguments.len().min(4));
                    if !later.is_empty() {
                        let count = later.len() as u32;
                        let arguments = self.heap.copy_slice(later);
                        self.push_frame(Frame::Apply { arguments, count })?;
                    }
                    return self.enter_call(value, now);
                }
                Some(Frame::Stop) | None => {
                    self.stack.push(value);
                    self.ip = stub::STOP;
                    return Ok(());
                }
            }
        }
    }

    #[inline(always)]
    fn resume_at(&mut self, ip: u32, env: Gc<crate::value::Env>, value: Value) -> Result<()> {
        self.ip = ip;
        self.env = env;
        self.stack.push(value);
        Ok(())
    }
}
