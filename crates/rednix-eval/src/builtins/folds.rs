//! Builtins over lists that call a function for each element.

use super::{Outcome, ready, value};
use crate::collect::Tracer;
use crate::error::Result;
use crate::source::Pos;
use crate::value::{Entry, Value, new_attrs};
use crate::vm::Vm;
use crate::vm::native::{Native, Step};
use rednix_syntax::Symbol;
use rustc_hash::FxHashMap;

/// What the results of the calls are for.
enum Purpose {
    Filter(Vec<Value>),
    All,
    Any,
    ConcatMap(Vec<Value>),
    Partition(Vec<Value>, Vec<Value>),
    GroupBy(Vec<(Symbol, Vec<Value>)>, FxHashMap<Symbol, usize>),
}

/// Calls a function with each element in turn.
struct Each {
    function: Value,
    list: &'static [Value],
    next: usize,
    purpose: Purpose,
}

impl Each {
    fn outcome(function: Value, list: &'static [Value], purpose: Purpose) -> Result<Outcome> {
        Ok(Outcome::Run(Box::new(Each { function, list, next: 0, purpose })))
    }

    /// Takes the result for the element before; a value ends it.
    fn take(&mut self, vm: &mut Vm, result: Value) -> Result<Option<Value>> {
        let element = self.list[self.next - 1].peek();
        match &mut self.purpose {
            Purpose::Filter(kept) => {
                let context =
                    "while evaluating the return value of the filtering function passed to builtins.filter";
                if vm.want_bool(result, context)? {
                    kept.push(element);
                }
            }
            Purpose::All => {
                let context = "while evaluating the return value of the function passed to builtins.all";
                if !vm.want_bool(result, context)? {
                    return Ok(Some(Value::Bool(false)));
                }
            }
            Purpose::Any => {
                let context = "while evaluating the return value of the function passed to builtins.any";
                if vm.want_bool(result, context)? {
                    return Ok(Some(Value::Bool(true)));
                }
            }
            Purpose::ConcatMap(all) => {
                let context =
                    "while evaluating the return value of the function passed to builtins.concatMap";
                all.extend_from_slice(vm.want_list(result, context)?);
            }
            Purpose::Partition(right, wrong) => {
                let context = "while evaluating the return value of the partition function passed to builtins.partition";
                if vm.want_bool(result, context)? { right.push(element) } else { wrong.push(element) }
            }
            Purpose::GroupBy(groups, places) => {
                let context =
                    "while evaluating the return value of the grouping function passed to builtins.groupBy";
                let name = vm.want_plain_string(result, context)?;
                let name = vm.interner.intern(name);
                let place = *places.entry(name).or_insert_with(|| {
                    groups.push((name, Vec::new()));
                    groups.len() - 1
                });
                groups[place].1.push(element);
            }
        }
        Ok(None)
    }

    fn finish(&mut self, vm: &mut Vm) -> Value {
        match &mut self.purpose {
            Purpose::Filter(kept) => vm.list(kept),
            Purpose::All => Value::Bool(true),
            Purpose::Any => Value::Bool(false),
            Purpose::ConcatMap(all) => vm.list(all),
            Purpose::Partition(right, wrong) => {
                let (right, wrong) = (vm.list(right), vm.list(wrong));
                let symbols = vm.symbols;
                vm.attrs(&[(symbols.right, right), (symbols.wrong, wrong)])
            }
            Purpose::GroupBy(groups, _) => {
                let mut groups = std::mem::take(groups);
                groups.sort_by_key(|(name, _)| *name);
                let entries = groups.iter().map(|(name, items)| {
                    let list = Value::list(&mut vm.heap, items);
                    Entry::new(*name, Pos::NONE, list)
                });
                let entries = entries.collect();
                Value::Attrs(new_attrs(&mut vm.heap, Pos::NONE, entries))
            }
        }
    }
}

impl Native for Each {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.value(self.function);
        tracer.list(self.list);
        match &self.purpose {
            Purpose::Filter(kept) | Purpose::ConcatMap(kept) => tracer.values(kept),
            Purpose::Partition(right, wrong) => {
                tracer.values(right);
                tracer.values(wrong);
            }
            Purpose::GroupBy(groups, _) => groups.iter().for_each(|(_, group)| tracer.values(group)),
            Purpose::All | Purpose::Any => {}
        }
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        if self.next > 0
            && let Some(result) = self.take(vm, value)?
        {
            return Ok(Step::Return(result));
        }
        let Some(&element) = self.list.get(self.next) else {
            return Ok(Step::Return(self.finish(vm)));
        };
        self.next += 1;
        Ok(Step::call(self.function, &[element]))
    }
}

pub(super) fn filter(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let list =
        vm.want_list(arguments[1], "while evaluating the second argument passed to builtins.filter")?;
    if list.is_empty() {
        return value(arguments[1]);
    }
    let function = ready!(arguments[0]);
    vm.want_function(function, "while evaluating the first argument passed to builtins.filter")?;
    Each::outcome(function, list, Purpose::Filter(Vec::new()))
}

pub(super) fn all(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_function(arguments[0], "while evaluating the first argument passed to builtins.all")?;
    let list = vm.want_list(arguments[1], "while evaluating the second argument passed to builtins.all")?;
    Each::outcome(arguments[0], list, Purpose::All)
}

pub(super) fn any(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_function(arguments[0], "while evaluating the first argument passed to builtins.any")?;
    let list = vm.want_list(arguments[1], "while evaluating the second argument passed to builtins.any")?;
    Each::outcome(arguments[0], list, Purpose::Any)
}

pub(super) fn concat_map(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_function(arguments[0], "while evaluating the first argument passed to builtins.concatMap")?;
    let list =
        vm.want_list(arguments[1], "while evaluating the second argument passed to builtins.concatMap")?;
    Each::outcome(arguments[0], list, Purpose::ConcatMap(Vec::new()))
}

pub(super) fn partition(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_function(arguments[0], "while evaluating the first argument passed to builtins.partition")?;
    let list =
        vm.want_list(arguments[1], "while evaluating the second argument passed to builtins.partition")?;
    Each::outcome(arguments[0], list, Purpose::Partition(Vec::new(), Vec::new()))
}

pub(super) fn group_by(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_function(arguments[0], "while evaluating the first argument passed to builtins.groupBy")?;
    let list =
        vm.want_list(arguments[1], "while evaluating the second argument passed to builtins.groupBy")?;
    Each::outcome(arguments[0], list, Purpose::GroupBy(Vec::new(), FxHashMap::default()))
}

pub(super) fn foldl(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_function(arguments[0], "while evaluating the first argument passed to builtins.foldlStrict")?;
    let list =
        vm.want_list(arguments[2], "while evaluating the third argument passed to builtins.foldlStrict")?;
    if list.is_empty() {
        return Ok(Outcome::Forced(arguments[1]));
    }
    Ok(Outcome::Run(Box::new(Fold { function: arguments[0], start: Some(arguments[1]), list, next: 0 })))
}

struct Fold {
    function: Value,
    /// Not computed: only results of calls are.
    start: Option<Value>,
    list: &'static [Value],
    next: usize,
}

impl Native for Fold {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.value(self.function);
        tracer.optional(self.start);
        tracer.list(self.list);
    }

    fn resume(&mut self, _: &mut Vm, value: Value) -> Result<Step> {
        let accumulator = self.start.take().unwrap_or(value);
        let Some(&element) = self.list.get(self.next) else { return Ok(Step::Return(value)) };
        self.next += 1;
        Ok(Step::call(self.function, &[accumulator, element]))
    }
}
