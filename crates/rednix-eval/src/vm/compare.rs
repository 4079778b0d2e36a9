//! Equality, order, and why two values differ: walks with stacks of their own.

use super::Vm;
use super::native::{Native, Step};
use crate::collect::Tracer;
use crate::error::{ErrorKind, EvalError, Frame as Trace, Result};
use crate::memory::{Gc, slice};
use crate::source::Range;
use crate::value::{Attrs, Value, entries};
use std::cmp::Ordering;

pub(crate) enum Verdict {
    Known(bool),
    /// Lists or sets that have to be walked.
    Deep,
}

/// Compares two computed values as far as that needs no other value.
#[inline]
pub(crate) fn equal_now(left: Value, right: Value) -> Verdict {
    Verdict::Known(match (left, right) {
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => a as f64 == b,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Null, Value::Null) => true,
        (Value::Path(a, x), Value::Path(b, y)) => slice(x, a) == slice(y, b),
        (Value::List(a, _), Value::List(b, _)) if a != b => false,
        (Value::List(0, _), Value::List(0, _)) => true,
        (Value::List(..), Value::List(..)) | (Value::Attrs(_), Value::Attrs(_)) => return Verdict::Deep,
        (left, right) => match (left.as_bytes(), right.as_bytes()) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        },
    })
}

/// Whether two elements of structures are one value: what C++ Nix tells by comparing pointers.
fn is_same(left: Value, right: Value) -> bool {
    match (left, right) {
        (Value::Lambda(a, x), Value::Lambda(b, y)) => a == b && x == y,
        (Value::Builtin(a), Value::Builtin(b)) => a == b,
        (Value::Partial(a), Value::Partial(b)) => a == b,
        (Value::Attrs(a), Value::Attrs(b)) => a == b,
        (Value::List(a, x), Value::List(b, y)) => a == b && x == y,
        (Value::Thunk(a), Value::Thunk(b)) => a == b,
        _ => false,
    }
}

enum Work {
    Pair(Value, Value),
    List(Gc<Value>, Gc<Value>, u32, u32),
    /// Two sets, before it is known whether they are derivations.
    Sets(Gc<Attrs>, Gc<Attrs>),
    Entries(Gc<Attrs>, Gc<Attrs>, usize),
}

/// Deep equality. Elements are compared in order, and the first difference ends it.
pub(crate) struct Equality {
    work: Vec<Work>,
    negate: bool,
    /// The pair asked for is itself an element: identical functions are equal.
    top: bool,
}

impl Equality {
    pub fn new(left: Value, right: Value, negate: bool) -> Equality {
        Equality { work: vec![Work::Pair(left, right)], negate, top: true }
    }

    /// As between elements of structures.
    pub fn nested(left: Value, right: Value) -> Equality {
        Equality { work: vec![Work::Pair(left, right)], negate: false, top: false }
    }

    /// `None` when done with this item, else what has to be computed before it can be done.
    fn one(&mut self, vm: &mut Vm, item: Work) -> Result<Progress> {
        match item {
            Work::Pair(left, right) => {
                let (left, right) = (left.peek(), right.peek());
                if !std::mem::replace(&mut self.top, false) && is_same(left, right) {
                    // Identical thunks still have to be computed once.
                    return Ok(if left.is_whnf() {
                        Progress::Equal
                    } else {
                        Progress::Wait(Work::Pair(left, right), left)
                    });
                }
                for side in [left, right] {
                    if !side.is_whnf() {
                        return Ok(Progress::Wait(Work::Pair(left, right), side));
                    }
                }
                match (equal_now(left, right), left, right) {
                    (Verdict::Known(equal), ..) => Ok(Progress::known(equal)),
                    (_, Value::List(length, a), Value::List(_, b)) => {
                        self.work.push(Work::List(a, b, length, 0));
                        Ok(Progress::Equal)
                    }
                    (_, Value::Attrs(a), Value::Attrs(b)) => {
                        self.work.push(Work::Sets(a, b));
                        Ok(Progress::Equal)
                    }
                    _ => Ok(Progress::Unequal),
                }
            }
            Work::List(a, b, length, index) => {
                if index < length {
                    self.push(vm, Work::List(a, b, length, index + 1))?;
                    self.work
                        .push(Work::Pair(slice(a, length)[index as usize], slice(b, length)[index as usize]));
                }
                Ok(Progress::Equal)
            }
            Work::Sets(a, b) => match both_derivations(vm, a, b) {
                Err(wait) => Ok(Progress::Wait(Work::Sets(a, b), wait)),
                Ok(Some((left, right))) => {
                    self.work.push(Work::Pair(left, right));
                    Ok(Progress::Equal)
                }
                Ok(None) => {
                    let same = entries(&mut vm.heap, a).len() == entries(&mut vm.heap, b).len();
                    if same {
                        self.work.push(Work::Entries(a, b, 0));
                    }
                    Ok(Progress::known(same))
                }
            },
            Work::Entries(a, b, index) => {
                let (left, right) = (entries(&mut vm.heap, a), entries(&mut vm.heap, b));
                let Some(entry) = left.get(index) else { return Ok(Progress::Equal) };
                if entry.name != right[index].name {
                    return Ok(Progress::Unequal);
                }
                self.push(vm, Work::Entries(a, b, index + 1))?;
                self.work.push(Work::Pair(entry.value.get(), right[index].value.get()));
                Ok(Progress::Equal)
            }
        }
    }

    fn push(&mut self, vm: &Vm, item: Work) -> Result<()> {
        if self.work.len() as u32 + vm.depth > vm.settings.max_call_depth {
            return Err(vm.overflow());
        }
        self.work.push(item);
        Ok(())
    }
}

enum Progress {
    Equal,
    Unequal,
    Wait(Work, Value),
}

impl Progress {
    fn known(equal: bool) -> Progress {
        if equal { Progress::Equal } else { Progress::Unequal }
    }
}

/// The output paths to compare where both sets are derivations; `Err` with what has to be computed first.
fn both_derivations(
    vm: &mut Vm,
    left: Gc<Attrs>,
    right: Gc<Attrs>,
) -> std::result::Result<Option<(Value, Value)>, Value> {
    for set in [left, right] {
        let Some(entry) = set.get(vm.symbols.kind) else { return Ok(None) };
        let kind = entry.value.get().peek();
        if !kind.is_whnf() {
            return Err(kind);
        }
        if kind.as_bytes() != Some(b"derivation") {
            return Ok(None);
        }
    }
    let (a, b) = (left.get(vm.symbols.out_path), right.get(vm.symbols.out_path));
    Ok(a.zip(b).map(|(a, b)| (a.value.get(), b.value.get())))
}

impl Native for Equality {
    fn trace(&self, tracer: &mut Tracer) {
        for item in &self.work {
            match *item {
                Work::Pair(left, right) => tracer.values(&[left, right]),
                Work::List(left, right, length, _) => {
                    tracer.cells(length, left);
                    tracer.cells(length, right);
                }
                Work::Sets(left, right) | Work::Entries(left, right, _) => {
                    tracer.attrs(left);
                    tracer.attrs(right);
                }
            }
        }
    }

    fn resume(&mut self, vm: &mut Vm, _: Value) -> Result<Step> {
        while let Some(item) = self.work.pop() {
            match self.one(vm, item)? {
                Progress::Equal => {}
                Progress::Unequal => return Ok(Step::Return(Value::Bool(self.negate))),
                Progress::Wait(item, value) => {
                    self.work.push(item);
                    self.top &= self.work.len() == 1 && matches!(self.work[0], Work::Pair(..));
                    return Ok(Step::Force(value));
                }
            }
        }
        Ok(Step::Return(Value::Bool(!self.negate)))
    }
}

/// Orders two computed values; `None` for lists, which need a walk.
pub(crate) fn order_now(vm: &mut Vm, left: Value, right: Value) -> Result<Option<Ordering>> {
    let floats = |a: f64, b: f64| if a < b { Ordering::Less } else { Ordering::Greater };
    Ok(Some(match (left, right) {
        (Value::Int(a), Value::Int(b)) => a.cmp(&b),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(&b).unwrap_or_else(|| floats(a, b)),
        (Value::Int(a), Value::Float(b)) => (a as f64).partial_cmp(&b).unwrap_or_else(|| floats(a as f64, b)),
        (Value::Float(a), Value::Int(b)) => a.partial_cmp(&(b as f64)).unwrap_or_else(|| floats(a, b as f64)),
        (Value::Path(a, x), Value::Path(b, y)) => slice(x, a).cmp(slice(y, b)),
        (Value::List(a, x), Value::List(b, y)) => {
            for (&left, &right) in slice(x, a).iter().zip(slice(y, b)) {
                let (left, right) = (left.peek(), right.peek());
                if !left.is_whnf() || !right.is_whnf() || !is_scalar(left) || !is_scalar(right) {
                    return Ok(None);
                }
                if let Verdict::Known(true) = equal_now(left, right) {
                    continue;
                }
                return order_now(vm, left, right);
            }
            a.cmp(&b)
        }
        (left, right) => match (left.as_bytes(), right.as_bytes()) {
            (Some(a), Some(b)) => a.cmp(b),
            _ => return Err(incomparable(vm, left, right)),
        },
    }))
}

/// Compared without looking into it, and not itself a list.
fn is_scalar(value: Value) -> bool {
    matches!(value, Value::Int(_) | Value::Float(_) | Value::Path(..)) || value.as_bytes().is_some()
}

#[cold]
fn incomparable(vm: &mut Vm, left: Value, right: Value) -> Box<EvalError> {
    let (a, b) = (vm.type_of(left), vm.type_of(right));
    let (x, y) = (vm.show(left), vm.show(right));
    let same = std::mem::discriminant(&left) == std::mem::discriminant(&right);
    EvalError::evaluation(if same {
        format!("cannot compare {a} with {b}; values of that type are incomparable (values are {x} and {y})")
    } else {
        format!("cannot compare {a} with {b}; values are {x} and {y}")
    })
    .at(vm.here())
}

/// `left < right` for values that may be lists.
pub(crate) struct LessThan {
    left: Value,
    right: Value,
    /// Element being compared, where both are lists.
    index: u32,
    waiting: Waiting,
    negate: bool,
}

enum Waiting {
    Nothing,
    Equality,
}

impl LessThan {
    pub fn new(left: Value, right: Value, negate: bool) -> LessThan {
        LessThan { left, right, index: 0, waiting: Waiting::Nothing, negate }
    }
}

impl Native for LessThan {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.values(&[self.left, self.right]);
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        if let Waiting::Equality = std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            let (Value::List(a, x), Value::List(b, y)) = (self.left, self.right) else {
                unreachable!("equality is asked for elements of lists only")
            };
            if let Value::Bool(true) = value {
                self.index += 1;
            } else {
                self.left = slice(x, a)[self.index as usize];
                self.right = slice(y, b)[self.index as usize];
                self.index = 0;
            }
        }
        for side in [&mut self.left, &mut self.right] {
            *side = side.peek();
            if !side.is_whnf() {
                return Ok(Step::Force(*side));
            }
        }
        if let Some(order) = order_now(vm, self.left, self.right)? {
            return Ok(Step::Return(Value::Bool((order == Ordering::Less) != self.negate)));
        }
        let (Value::List(a, x), Value::List(b, y)) = (self.left, self.right) else {
            unreachable!("everything but lists has an order or an error")
        };
        if self.index >= b {
            return Ok(Step::Return(Value::Bool(self.negate)));
        }
        if self.index >= a {
            return Ok(Step::Return(Value::Bool(!self.negate)));
        }
        self.waiting = Waiting::Equality;
        let pair = (slice(x, a)[self.index as usize], slice(y, b)[self.index as usize]);
        Ok(Step::Run(Box::new(Equality::nested(pair.0, pair.1))))
    }
}

/// Finds the first difference of two values that are known to differ, and raises it.
pub(crate) struct Difference {
    left: Value,
    right: Value,
    range: Range,
    condition: String,
    path: Vec<Trace>,
    walk: Vec<Walk>,
}

/// Children still to be compared.
enum Walk {
    List(Gc<Value>, Gc<Value>, u32, u32),
    Entries(Gc<Attrs>, Gc<Attrs>, usize),
}

impl Difference {
    pub fn new(left: Value, right: Value, range: Range, condition: String) -> Difference {
        Difference { left, right, range, condition, path: Vec::new(), walk: Vec::new() }
    }

    fn raise(&self, message: String) -> Box<EvalError> {
        let mut error = EvalError::new(ErrorKind::Assertion, message).at(self.range);
        error.frames.extend(self.path.iter().rev().cloned());
        let message = format!("while evaluating the condition of the assertion '{}'", self.condition);
        error.frames.push(Trace { range: self.range, message });
        error
    }

    /// The message for two computed values that differ in themselves, or nothing.
    fn compare(&mut self, vm: &mut Vm) -> Option<String> {
        let (left, right) = (self.left, self.right);
        let number = |value| matches!(value, Value::Int(_) | Value::Float(_));
        let same_type = std::mem::discriminant(&left) == std::mem::discriminant(&right)
            || (left.as_bytes().is_some() && right.as_bytes().is_some())
            || (is_function(left) && is_function(right));
        if let Verdict::Known(true) = equal_now(left, right) {
            return None;
        }
        let (a, b) = (vm.show(left), vm.show(right));
        let (x, y) = (vm.type_of(left), vm.type_of(right));
        if number(left) && number(right) && !matches!((left, right), (Value::Int(_), Value::Int(_))) {
            return Some(format!("{x} with value '{a}' is not equal to {y} with value '{b}'"));
        }
        if let (Value::Int(_), Value::Int(_)) = (left, right) {
            return Some(format!("{x} with value '{a}' is not equal to {y} with value '{b}'"));
        }
        if !same_type {
            return Some(format!("{x} of value '{a}' is not equal to {y} of value '{b}'"));
        }
        match (left, right) {
            (Value::Bool(_), _) => Some(format!("boolean '{a}' is not equal to boolean '{b}'")),
            (Value::Path(..), _) => Some(format!("path '{a}' is not equal to path '{b}'")),
            (Value::List(n, _), Value::List(m, _)) if n != m => Some(format!(
                "list of size '{n}' is not equal to list of size '{m}', left hand side is '{a}', right hand side is '{b}'"
            )),
            (Value::List(..) | Value::Attrs(_), _) => None,
            (left, _) if is_function(left) => Some(
                "distinct functions and immediate comparisons of identical functions compare as unequal"
                    .into(),
            ),
            _ => Some(format!("string '{a}' is not equal to string '{b}'")),
        }
    }
}

fn is_function(value: Value) -> bool {
    matches!(value, Value::Lambda(..) | Value::Builtin(_) | Value::Partial(_))
}

impl Native for Difference {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.values(&[self.left, self.right]);
        for walk in &self.walk {
            match *walk {
                Walk::List(left, right, length, _) => {
                    tracer.cells(length, left);
                    tracer.cells(length, right);
                }
                Walk::Entries(left, right, _) => {
                    tracer.attrs(left);
                    tracer.attrs(right);
                }
            }
        }
    }

    fn resume(&mut self, vm: &mut Vm, _: Value) -> Result<Step> {
        loop {
            for side in [&mut self.left, &mut self.right] {
                *side = side.peek();
                if !side.is_whnf() {
                    return Ok(Step::Force(*side));
                }
            }
            let skip = !self.walk.is_empty() && is_same(self.left, self.right);
            if !skip {
                if let Some(message) = self.compare(vm) {
                    return Err(self.raise(message));
                }
                match (self.left, self.right) {
                    (Value::List(length, a), Value::List(_, b)) => {
                        self.walk.push(Walk::List(a, b, length, 0));
                        self.path.push(Trace { range: self.range, message: String::new() });
                    }
                    (Value::Attrs(a), Value::Attrs(b)) => match both_derivations(vm, a, b) {
                        Err(wait) => return Ok(Step::Force(wait)),
                        Ok(Some((left, right))) => {
                            let message = "while comparing a derivation by its 'outPath' attribute".into();
                            self.path.push(Trace { range: self.range, message });
                            (self.left, self.right) = (left, right);
                            continue;
                        }
                        Ok(None) => {
                            if entries(&mut vm.heap, a).len() != entries(&mut vm.heap, b).len() {
                                let (x, y) = (vm.show(Value::Attrs(a)), vm.show(Value::Attrs(b)));
                                return Err(self.raise(format!(
                                    "attribute names of attribute set '{x}' differs from attribute set '{y}'"
                                )));
                            }
                            self.walk.push(Walk::Entries(a, b, 0));
                            self.path.push(Trace { range: self.range, message: String::new() });
                        }
                    },
                    _ => {}
                }
            }
            if !self.advance(vm)? {
                // Equal after all (two floats that are not numbers, say): the plain message follows.
                return Ok(Step::Return(Value::Null));
            }
        }
    }
}

impl Difference {
    /// Moves on to the next pair of children.
    fn advance(&mut self, vm: &mut Vm) -> Result<bool> {
        while let Some(top) = self.walk.last_mut() {
            let message;
            match top {
                Walk::List(a, b, length, index) if *index < *length => {
                    self.left = slice(*a, *length)[*index as usize];
                    self.right = slice(*b, *length)[*index as usize];
                    message = format!("while comparing list element {index}");
                    *index += 1;
                }
                Walk::Entries(a, b, index) => {
                    let (left, right) = (entries(&mut vm.heap, *a), entries(&mut vm.heap, *b));
                    let Some(entry) = left.get(*index) else {
                        self.walk.pop();
                        self.path.pop();
                        continue;
                    };
                    let other = &right[*index];
                    if entry.name != other.name {
                        let (a, b) = (*a, *b);
                        return Err(self.other_name(vm, a, b, entry.name, other.name));
                    }
                    self.left = entry.value.get();
                    self.right = other.value.get();
                    message = format!("while comparing attribute '{}'", vm.interner.text(entry.name));
                    *index += 1;
                }
                Walk::List(..) => {
                    self.walk.pop();
                    self.path.pop();
                    continue;
                }
            }
            if let Some(last) = self.path.last_mut() {
                last.message = message;
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn other_name(
        &self,
        vm: &mut Vm,
        left: Gc<Attrs>,
        right: Gc<Attrs>,
        a: rednix_syntax::Symbol,
        b: rednix_syntax::Symbol,
    ) -> Box<EvalError> {
        let (x, y) = (vm.show(Value::Attrs(left)), vm.show(Value::Attrs(right)));
        self.raise(if right.get(a).is_none() {
            format!("attribute name '{}' is contained in '{x}', but not in '{y}'", vm.interner.text(a))
        } else {
            format!("attribute name '{}' is missing in '{x}', but is contained in '{y}'", vm.interner.text(b))
        })
    }
}
