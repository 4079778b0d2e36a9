//! `builtins.sort`: a stable merge sort that can wait for its comparisons.

use super::{Outcome, ready, value};
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
        items: list.to_vec(),
        forced: if natural { 0 } else { list.len() },
        buffer: Vec::new(),
        width: 1,
        start: 0,
        left: 0,
        right: 0,
        comparing: false,
    })))
}

/// Runs of `width` items are sorted; pairs of them are merged from `start` on.
struct Sort {
    function: Value,
    /// The function is `lessThan`: values that are computed can be compared at once.
    natural: bool,
    items: Vec<Value>,
    /// How many items are known to be computed, when that is wanted first.
    forced: usize,
    buffer: Vec<Value>,
    width: usize,
    start: usize,
    left: usize,
    right: usize,
    comparing: bool,
}

impl Sort {
    fn middle(&self) -> usize {
        (self.start + self.width).min(self.items.len())
    }

    fn end(&self) -> usize {
        (self.start + 2 * self.width).min(self.items.len())
    }

    fn next_pair(&mut self) {
        self.start += 2 * self.width;
        if self.start >= self.items.len() {
            std::mem::swap(&mut self.items, &mut self.buffer);
            self.buffer.clear();
            self.width *= 2;
            self.start = 0;
        }
        self.left = self.start;
        self.right = self.middle();
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
    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        while self.forced < self.items.len() {
            let item = self.items[self.forced].peek();
            if !item.is_whnf() {
                return Ok(Step::Force(item));
            }
            self.items[self.forced] = item;
            self.forced += 1;
        }
        if self.natural && self.width == 1 && !self.comparing && self.buffer.is_empty() && self.at_once(vm)? {
            return Ok(Step::Return(vm.list(&self.items)));
        }
        if std::mem::replace(&mut self.comparing, false) {
            let context = "while evaluating the return value of the sorting function passed to builtins.sort";
            // The right item goes first only if it is less: that keeps equal items in order.
            if vm.want_bool(value, context)? {
                self.buffer.push(self.items[self.right]);
                self.right += 1;
            } else {
                self.buffer.push(self.items[self.left]);
                self.left += 1;
            }
        } else {
            self.right = self.middle();
        }
        loop {
            if self.width >= self.items.len() {
                return Ok(Step::Return(vm.list(&self.items)));
            }
            let (middle, end) = (self.middle(), self.end());
            if self.left < middle && self.right < end {
                self.comparing = true;
                return Ok(Step::call(self.function, &[self.items[self.right], self.items[self.left]]));
            }
            self.buffer.extend_from_slice(&self.items[self.left..middle.max(self.left)]);
            self.buffer.extend_from_slice(&self.items[self.right..end.max(self.right)]);
            self.next_pair();
        }
    }
}
