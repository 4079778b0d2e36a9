//! Errors on their way up: frames are taken off the stack, thunks remember why they failed, `tryEval` catches.

use super::explain::push_trace;
use super::{Frame, Vm};
use crate::error::{ErrorKind, EvalError, Frame as Trace, Result};
use crate::value::Value;

impl Vm {
    /// Gives the error to the nearest frame that catches it; `Err` when it left the current run.
    pub(crate) fn unwind(&mut self, error: Box<EvalError>) -> Result<()> {
        let mut error = error;
        if error.range.start.is_none() {
            error.range = self.here();
        }
        let mut failure = None;
        while let Some(frame) = self.frames.pop() {
            match frame {
                Frame::Stop => {
                    return Err(error);
                }
                Frame::Force { thunk, .. } | Frame::Retry { thunk, .. } | Frame::Update { thunk } => {
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
