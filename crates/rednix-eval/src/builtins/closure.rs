//! `builtins.genericClosure`: breadth first, each key once.

use super::Outcome;
use crate::collect::Tracer;
use crate::error::Result;
use crate::memory::Gc;
use crate::value::{Attrs, Value};
use crate::vm::Vm;
use crate::vm::compare::{LessThan, order_now};
use crate::vm::native::{Native, Step};
use rustc_hash::FxHashSet;
use std::cmp::Ordering;
use std::collections::VecDeque;

pub(super) fn generic_closure(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the first argument passed to builtins.genericClosure";
    let set = vm.want_attrs(arguments[0], context)?;
    let symbols = vm.symbols;
    let context = "in the attrset passed as argument to builtins.genericClosure";
    let start = vm.want_attribute(set, symbols.start_set, context)?.value.get();
    Ok(Outcome::Run(Box::new(Closure {
        set,
        state: State::Start(start),
        operator: Value::Null,
        queue: VecDeque::new(),
        keys: Vec::new(),
        simple: Some(Simple::Nothing),
        done: Vec::new(),
    })))
}

enum State {
    Start(Value),
    Operator(&'static [Value]),
    /// Takes the next element.
    Next,
    /// Its set, then its key are computed.
    Element,
    Key(Value),
    /// Looking for the key's place between these indices; waiting for `probe < key`, or for `key < probe`.
    Search {
        element: Value,
        key: Value,
        low: usize,
        high: usize,
        probe: usize,
        second: bool,
    },
    /// The operator's result.
    Operated,
}

struct Closure {
    set: Gc<Attrs>,
    state: State,
    operator: Value,
    queue: VecDeque<Value>,
    /// Keys seen: sorted, or where all are of one simple type in the order they came, beside a set of them.
    keys: Vec<Value>,
    simple: Option<Simple>,
    done: Vec<Value>,
}

/// Keys that can be told apart by hashing.
enum Simple {
    Nothing,
    Integers(FxHashSet<i64>),
    Strings(FxHashSet<&'static [u8]>),
}

impl Simple {
    /// Whether a key is new; nothing where it is of another type than those before.
    fn insert(&mut self, key: Value) -> Option<bool> {
        if let Simple::Nothing = self {
            *self = match key {
                Value::Int(_) => Simple::Integers(FxHashSet::default()),
                Value::String(..) | Value::ContextString(_) => Simple::Strings(FxHashSet::default()),
                _ => return None,
            };
        }
        match (self, key) {
            (Simple::Integers(seen), Value::Int(number)) => Some(seen.insert(number)),
            (Simple::Strings(seen), key) => key.as_bytes().map(|bytes| seen.insert(bytes)),
            _ => None,
        }
    }
}

impl Closure {
    /// Looks a key up, and calls the operator where it is new.
    fn look_up(&mut self, vm: &mut Vm, element: Value, key: Value) -> Result<Step> {
        match self.simple.as_mut().map(|simple| simple.insert(key)) {
            Some(Some(true)) => {
                self.keys.push(key);
                return Ok(self.operate(element));
            }
            Some(Some(false)) => return Ok(self.again()),
            Some(None) => {
                // Another type: from here on by comparing, which may well be an error.
                self.simple = None;
                let mut keys = std::mem::take(&mut self.keys);
                keys.sort_by(|a, b| match (a, b) {
                    (Value::Int(a), Value::Int(b)) => a.cmp(b),
                    _ => a.as_bytes().cmp(&b.as_bytes()),
                });
                self.keys = keys;
            }
            None => {}
        }
        let high = self.keys.len();
        self.search(vm, element, key, 0, high)
    }

    fn operate(&mut self, element: Value) -> Step {
        self.done.push(element);
        self.state = State::Operated;
        Step::call(self.operator, &[element])
    }

    fn search(&mut self, vm: &mut Vm, element: Value, key: Value, low: usize, high: usize) -> Result<Step> {
        let (mut low, mut high) = (low, high);
        while low < high {
            let probe = low + (high - low) / 2;
            match order_now(vm, key, self.keys[probe])? {
                Some(Ordering::Greater) => low = probe + 1,
                Some(Ordering::Less) => high = probe,
                Some(Ordering::Equal) => return Ok(self.again()),
                None => {
                    self.state = State::Search { element, key, low, high, probe, second: false };
                    return Ok(Step::Run(Box::new(LessThan::new(self.keys[probe], key, false))));
                }
            }
        }
        self.keys.insert(low, key);
        Ok(self.operate(element))
    }

    fn again(&mut self) -> Step {
        self.state = State::Next;
        Step::Force(Value::Null)
    }
}

impl Native for Closure {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.attrs(self.set);
        tracer.value(self.operator);
        for &value in self.queue.iter().chain(&self.keys).chain(&self.done) {
            tracer.value(value);
        }
        match &self.state {
            State::Start(value) | State::Key(value) => tracer.value(*value),
            State::Operator(list) => tracer.list(list),
            State::Search { element, key, .. } => tracer.values(&[*element, *key]),
            State::Next | State::Element | State::Operated => {}
        }
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        match std::mem::replace(&mut self.state, State::Next) {
            State::Start(start) => {
                let start = start.peek();
                if !start.is_whnf() {
                    self.state = State::Start(start);
                    return Ok(Step::Force(start));
                }
                let context =
                    "while evaluating the 'startSet' attribute passed as argument to builtins.genericClosure";
                let list = vm.want_list(start, context)?;
                if list.is_empty() {
                    return Ok(Step::Return(start));
                }
                let operator = vm.symbols.operator;
                let context = "in the attrset passed as argument to builtins.genericClosure";
                let operator = vm.want_attribute(self.set, operator, context)?.value.get();
                self.state = State::Operator(list);
                Ok(Step::Force(operator))
            }
            State::Operator(list) => {
                let context =
                    "while evaluating the 'operator' attribute passed as argument to builtins.genericClosure";
                vm.want_function(value, context)?;
                self.operator = value;
                self.queue.extend(list);
                Ok(self.again())
            }
            State::Next => {
                let Some(element) = self.queue.pop_front() else {
                    return Ok(Step::Return(vm.list(&self.done)));
                };
                self.state = State::Element;
                Ok(Step::Force(element))
            }
            State::Element => {
                let context = "while evaluating one of the elements generated by (or initially passed to) builtins.genericClosure";
                let set = vm.want_attrs(value, context)?;
                let symbols = vm.symbols;
                let context =
                    "in one of the attrsets generated by (or initially passed to) builtins.genericClosure";
                let key = vm.want_attribute(set, symbols.key, context)?.value.get();
                self.state = State::Key(value);
                Ok(Step::Force(key))
            }
            State::Key(element) => self.look_up(vm, element, value),
            State::Search { element, key, low, high, probe, second } => {
                let less = matches!(value, Value::Bool(true));
                match (second, less) {
                    (false, true) => self.search(vm, element, key, probe + 1, high),
                    (false, false) => {
                        self.state = State::Search { element, key, low, high, probe, second: true };
                        Ok(Step::Run(Box::new(LessThan::new(key, self.keys[probe], false))))
                    }
                    (true, true) => self.search(vm, element, key, low, probe),
                    (true, false) => Ok(self.again()),
                }
            }
            State::Operated => {
                let context =
                    "while evaluating the return value of the `operator` passed to builtins.genericClosure";
                let more = vm.want_list(value, context)?;
                self.queue.extend(more);
                Ok(self.again())
            }
        }
    }
}
