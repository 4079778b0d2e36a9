//! `builtins.sort`: a stable merge sort that can wait for its comparisons.

use super::{Outcome, ready, value};
use crate::collect::Tracer;
use crate::error::Result;
use crate::value::Value;
use crate::vm::Vm;
use crate::vm::compare::order_now;
use crate::vm::native::{Native, Step};
use std::cmp::Ordering;

pub(super) fn sort(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let list = vm.want_list(arguments[1], "while evaluating the second argument passed to builtins.sort")?;
    if list.is_empty() {
        return value(arguments[1]);
    }
    let function = ready!(arguments[0]);
    vm.want_function(function, "while evaluating the first argument passed to builtins.sort")?;
    let natural = matches!(function, Value::Builtin(id) if super::TABLE[id.0 as usize].name == "__lessThan");
    Ok(Outcome::Run(Box::new(Sort {
        function,
        natural,
        items: list.iter().map(|item| item.peek()).collect(),
        forced: if natural { 0 } else { list.len() },
        runs: Vec::new(),
        state: State::Start,
    })))
}

/// Runs that are there already are found first, so that sorted lists take one comparison for each item; then runs
/// are merged, the shorter ones first.
struct Sort {
    function: Value,
    /// The function is `lessThan`: values that are computed can be compared at once.
    natural: bool,
    items: Vec<Value>,
    /// How many items are known to be computed, when that is wanted first.
    forced: usize,
    /// Lengths of finished runs, from the start of the list.
    runs: Vec<usize>,
    state: State,
}

enum State {
    Start,
    /// Item `next` is being compared with the one before; the run began at `start`.
    Run {
        start: usize,
        next: usize,
        descending: Option<bool>,
    },
    /// The two runs on top are being merged: `left` was copied, `right` and `to` are places in the list.
    Merge {
        left: Vec<Value>,
        taken: usize,
        right: usize,
        end: usize,
        to: usize,
    },
}

impl Sort {
    /// The places of a question: whether the first item is less than the second.
    fn ask(&self, first: Value, second: Value) -> Step {
        Step::call(self.function, &[first, second])
    }

    /// Begins the next run, or the next merge; nothing when all is one run.
    fn go_on(&mut self) -> Option<Step> {
        loop {
            let sorted: usize = self.runs.iter().sum();
            let rest = self.items.len() - sorted;
            let [.., below, top] = self.runs[..] else {
                if rest == 0 {
                    return None;
                }
                if let Some(step) = self.begin_run(sorted) {
                    return Some(step);
                }
                continue;
            };
            if rest == 0 || top >= below / 2 {
                return Some(self.begin_merge(sorted, below, top));
            }
            if let Some(step) = self.begin_run(sorted) {
                return Some(step);
            }
        }
    }

    /// A single item is a run without asking.
    fn begin_run(&mut self, start: usize) -> Option<Step> {
        if start + 1 == self.items.len() {
            self.runs.push(1);
            return None;
        }
        self.state = State::Run { start, next: start + 1, descending: None };
        Some(self.ask(self.items[start + 1], self.items[start]))
    }

    fn begin_merge(&mut self, sorted: usize, below: usize, top: usize) -> Step {
        let start = sorted - below - top;
        let left = self.items[start..start + below].to_vec();
        let step = self.ask(self.items[start + below], left[0]);
        self.state = State::Merge { left, taken: 0, right: start + below, end: sorted, to: start };
        step
    }

    /// Takes an answer; the next question of the same run or merge, if it has one.
    fn answer(&mut self, less: bool) -> Option<Step> {
        match std::mem::replace(&mut self.state, State::Start) {
            State::Start => None,
            State::Run { start, next, descending } => {
                // Only a strictly descending run may be turned round: equal items keep their order.
                let known = *descending.as_ref().unwrap_or(&less);
                let belongs = less == known;
                let next = next + usize::from(belongs);
                if belongs && next < self.items.len() {
                    self.state = State::Run { start, next, descending: Some(known) };
                    return Some(self.ask(self.items[next], self.items[next - 1]));
                }
                if known {
                    self.items[start..next].reverse();
                }
                self.runs.push(next - start);
                None
            }
            State::Merge { left, mut taken, mut right, end, mut to } => {
                // The right item goes first only if it is less: that keeps equal items in order.
                if less {
                    self.items[to] = self.items[right];
                    right += 1;
                } else {
                    self.items[to] = left[taken];
                    taken += 1;
                }
                to += 1;
                if taken < left.len() && right < end {
                    let step = self.ask(self.items[right], left[taken]);
                    self.state = State::Merge { left, taken, right, end, to };
                    return Some(step);
                }
                self.items[to..to + left.len() - taken].copy_from_slice(&left[taken..]);
                let top = self.runs.pop().unwrap_or_default();
                if let Some(below) = self.runs.last_mut() {
                    *below += top;
                }
                None
            }
        }
    }

    /// All items computed and of one simple type: sorted without asking anyone.
    fn at_once(&mut self, vm: &mut Vm) -> Result<bool> {
        let ints = self.items.iter().all(|item| matches!(item, Value::Int(_)));
        let strings = self.items.iter().all(|item| item.as_bytes().is_some());
        if !ints && !strings {
            return Ok(false);
        }
        let mut failed = None;
        self.items.sort_by(|a, b| match order_now(vm, *a, *b) {
            Ok(order) => order.unwrap_or(Ordering::Equal),
            Err(error) => {
                failed = Some(error);
                Ordering::Equal
            }
        });
        failed.map_or(Ok(true), Err)
    }
}

impl Native for Sort {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.value(self.function);
        tracer.values(&self.items);
        if let State::Merge { left, .. } = &self.state {
            tracer.values(left);
        }
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        while self.forced < self.items.len() {
            let item = self.items[self.forced].peek();
            if !item.is_whnf() {
                return Ok(Step::Force(item));
            }
            self.items[self.forced] = item;
            self.forced += 1;
        }
        let step = match self.state {
            State::Start => {
                if self.natural && self.at_once(vm)? {
                    return Ok(Step::Return(vm.list(&self.items)));
                }
                None
            }
            _ => {
                let context =
                    "while evaluating the return value of the sorting function passed to builtins.sort";
                let less = vm.want_bool(value, context)?;
                self.answer(less)
            }
        };
        match step.or_else(|| self.go_on()) {
            Some(step) => Ok(step),
            None => Ok(Step::Return(vm.list(&self.items))),
        }
    }
}
