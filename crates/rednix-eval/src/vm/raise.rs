//! Errors on their way up: frames are taken off the stack, thunks remember why they failed, `tryEval` catches.

use super::explain::push_trace;
use super::{Frame, Vm};
use crate::error::{Binding, ErrorKind, EvalError, Frame as Trace, Result};
use crate::limits;
use crate::memory::Gc;
use crate::source::Range;
use crate::value::{Address, Thunk, Value};

impl Vm {
    /// Gives the error to the nearest frame that catches it; `Err` when it left the current run.
    pub(crate) fn unwind(&mut self, error: Box<EvalError>) -> Result<()> {
        let mut error = error;
        if error.range.start.is_none() {
            error.range = self.here();
        }
        let mut failure = None;
        // The instruction that the code being left had come to.
        let mut reached = self.ip;
        while let Some(frame) = self.frames.pop() {
            let left = std::mem::replace(&mut reached, frame.returns_to());
            match frame {
                Frame::Stop => {
                    return Err(error);
                }
                Frame::Force { thunk, .. } | Frame::Retry { thunk, .. } | Frame::Update { thunk } => {
                    if self.note_binding(&mut error, left) {
                        failure = None;
                    }
                    let number = *failure.get_or_insert_with(|| {
                        self.failures.push(error.clone());
                        self.failures.len() as u32 - 1
                    });
                    thunk.set(Value::Failed(number));
                }
                Frame::Call { callee, ip, .. } | Frame::Leave { callee, at: ip } => {
                    self.depth -= 1;
                    self.trace_call(&mut error, callee, ip);
                }
                Frame::Native { mut native, height, at } => {
                    self.depth -= 1;
                    self.ip = at;
                    match native.recover(self, error) {
                        Ok(value) => {
                            self.stack.truncate(height as usize);
                            match self.give(value) {
                                Ok(()) => return Ok(()),
                                Err(next) => {
                                    error = next;
                                    failure = None;
                                }
                            }
                        }
                        Err(passed) => error = passed,
                    }
                }
                Frame::Resume { .. } | Frame::Apply { .. } => {}
            }
        }
        Err(error)
    }

    /// Tells which binding's value was being computed, where the code belongs to one.
    fn note_binding(&self, error: &mut EvalError, left: Address) -> bool {
        let Some(code) = self.program.binding_at(left) else { return false };
        if error.bindings.len() >= limits::BINDINGS_MAX {
            return false;
        }
        let (name, frames) = (self.text_of(code.name), error.frames.len());
        error.bindings.push(Binding { name, range: code.range, frames });
        true
    }

    fn trace_call(&self, error: &mut EvalError, callee: crate::value::LambdaId, ip: u32) {
        if error.kind == ErrorKind::StackOverflow && error.frames.len() > 20 {
            return;
        }
        let info = &self.program.lambdas[callee.0 as usize];
        let name = info.name.map(|name| format!("'{}'", self.interner.text(name)));
        let message = format!("while calling {}", name.as_deref().unwrap_or("anonymous lambda"));
        push_trace(error, Trace { range: info.range, message });
        let range = self.range_before(ip);
        if !range.start.is_none() {
            push_trace(error, Trace { range, message: "from call site".into() });
        }
    }
}

impl Frame {
    /// The address behind the instruction that waits for this frame's value; zero where none does.
    fn returns_to(&self) -> Address {
        match *self {
            Frame::Resume { ip, .. } | Frame::Force { ip, .. } | Frame::Call { ip, .. } => ip,
            Frame::Retry { ip, .. } => ip + 1,
            Frame::Leave { at, .. } | Frame::Native { at, .. } => at,
            Frame::Stop | Frame::Update { .. } | Frame::Apply { .. } => 0,
        }
    }

    fn thunk(&self) -> Option<Gc<Thunk>> {
        match *self {
            Frame::Force { thunk, .. } | Frame::Retry { thunk, .. } | Frame::Update { thunk } => Some(thunk),
            _ => None,
        }
    }
}

impl Vm {
    /// Why a thunk that is no code any more cannot be computed.
    #[cold]
    pub(crate) fn cannot_force(&self, thunk: Gc<Thunk>) -> Box<EvalError> {
        match thunk.get() {
            Value::Blackhole => {
                let message = "infinite recursion encountered";
                let mut error = EvalError::new(ErrorKind::InfiniteRecursion, message).at(self.here());
                error.cycle = self.cycle(thunk);
                error
            }
            Value::Failed(number) => self.failures[number as usize].clone(),
            _ => EvalError::evaluation("internal error: a thunk holds no code"),
        }
    }

    /// The places between the first wish for a value and the one that cannot be met.
    fn cycle(&self, wanted: Gc<Thunk>) -> Vec<Range> {
        let mut places = vec![self.here()];
        for frame in self.frames.iter().rev() {
            let own = frame.thunk().is_some_and(|thunk| thunk.address() == wanted.address());
            if own || matches!(frame, Frame::Stop) || places.len() >= limits::CYCLE_PLACES_MAX {
                break;
            }
            let range = self.range_before(frame.returns_to());
            if !range.start.is_none() && places.last() != Some(&range) {
                places.push(range);
            }
        }
        places.reverse();
        places
    }
}
