//! Builtins over attribute sets.

use super::{ForceItems, Outcome, boolean, ready, value};
use crate::bytecode::LambdaInfo;
use crate::collect::Tracer;
use crate::error::{EvalError, Result};
use crate::memory::slice;
use crate::source::Pos;
use crate::value::{Entry, Value, apply, entries, new_attrs};
use crate::vm::Vm;
use crate::vm::native::{Native, Step};
use rednix_syntax::Symbol;
use rustc_hash::FxHashMap;

pub(super) fn attr_names(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let set = vm.want_attrs(arguments[0], "while evaluating the argument passed to builtins.attrNames")?;
    let sorted = vm.sorted_entries(set);
    let names: Vec<Value> = sorted.iter().map(|entry| vm.symbol_string(entry.name)).collect();
    value(vm.list(&names))
}

pub(super) fn attr_values(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let set = vm.want_attrs(arguments[0], "while evaluating the argument passed to builtins.attrValues")?;
    let values: Vec<Value> = vm.sorted_entries(set).iter().map(|entry| entry.value.get().peek()).collect();
    value(vm.list(&values))
}

pub(super) fn get_attr(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let name =
        vm.want_plain_string(arguments[0], "while evaluating the first argument passed to builtins.getAttr")?;
    let set =
        vm.want_attrs(arguments[1], "while evaluating the second argument passed to builtins.getAttr")?;
    let name = vm.interner.intern(name);
    let entry = vm.want_attribute(set, name, "in the attribute set under consideration")?;
    Ok(Outcome::Forced(entry.value.get()))
}

pub(super) fn has_attr(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let name =
        vm.want_plain_string(arguments[0], "while evaluating the first argument passed to builtins.hasAttr")?;
    let set =
        vm.want_attrs(arguments[1], "while evaluating the second argument passed to builtins.hasAttr")?;
    let found = vm.interner.find(name).is_some_and(|name| set.get(name).is_some());
    boolean(found)
}

pub(super) fn unsafe_get_attr_pos(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the first argument passed to builtins.unsafeGetAttrPos";
    let name = vm.want_plain_string(arguments[0], context)?;
    let context = "while evaluating the second argument passed to builtins.unsafeGetAttrPos";
    let set = vm.want_attrs(arguments[1], context)?;
    let pos = vm.interner.find(name).and_then(|name| set.get(name)).map_or(Pos::NONE, |entry| entry.pos);
    value(position(vm, pos))
}

/// A position as a set of file, line and column; null where it is in no file.
pub(crate) fn position(vm: &mut Vm, pos: Pos) -> Value {
    let Some(place) = vm.sources.place(pos) else { return Value::Null };
    let crate::source::Origin::File(path) = place.origin else { return Value::Null };
    let file = vm.string(&path);
    let symbols = vm.symbols;
    vm.attrs(&[
        (symbols.file, file),
        (symbols.line, Value::Int(i64::from(place.line))),
        (symbols.column, Value::Int(i64::from(place.column))),
    ])
}

pub(super) fn remove_attrs(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_attrs(arguments[0], "while evaluating the first argument passed to builtins.removeAttrs")?;
    let names =
        vm.want_list(arguments[1], "while evaluating the second argument passed to builtins.removeAttrs")?;
    ForceItems::outcome(vm, names, [arguments[0], arguments[1], Value::Null], |vm, arguments| {
        let (Value::Attrs(set), Value::List(length, start)) = (arguments[0], arguments[1]) else {
            unreachable!("checked before")
        };
        let context = "while evaluating the values of the second argument passed to builtins.removeAttrs";
        let mut removed = Vec::with_capacity(length as usize);
        for name in slice(start, length) {
            let name = vm.want_plain_string(name.peek(), context)?;
            removed.extend(vm.interner.find(name));
        }
        removed.sort_unstable();
        let all = entries(&mut vm.heap, set);
        let kept: Vec<Entry> =
            all.iter().filter(|entry| removed.binary_search(&entry.name).is_err()).cloned().collect();
        // Always a set of its own: printing tells repeated sets by their identity.
        value(Value::Attrs(new_attrs(&mut vm.heap, Pos::NONE, kept)))
    })
}

pub(super) fn intersect_attrs(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let left =
        vm.want_attrs(arguments[0], "while evaluating the first argument passed to builtins.intersectAttrs")?;
    let right = vm
        .want_attrs(arguments[1], "while evaluating the second argument passed to builtins.intersectAttrs")?;
    let (small, large) = (entries(&mut vm.heap, left), entries(&mut vm.heap, right));
    let common: Vec<Entry> = if small.len() <= large.len() {
        small.iter().filter_map(|entry| right.get(entry.name)).cloned().collect()
    } else {
        large.iter().filter(|entry| left.get(entry.name).is_some()).cloned().collect()
    };
    value(Value::Attrs(new_attrs(&mut vm.heap, Pos::NONE, common)))
}

pub(super) fn cat_attrs(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_plain_string(arguments[0], "while evaluating the first argument passed to builtins.catAttrs")?;
    let list =
        vm.want_list(arguments[1], "while evaluating the second argument passed to builtins.catAttrs")?;
    ForceItems::outcome(vm, list, [arguments[0], arguments[1], Value::Null], |vm, arguments| {
        let Value::List(length, start) = arguments[1] else { unreachable!("checked before") };
        let name = vm.interner.intern(arguments[0].as_bytes().unwrap_or_default());
        let context =
            "while evaluating an element in the list passed as second argument to builtins.catAttrs";
        let mut found = Vec::new();
        for item in slice(start, length) {
            let set = vm.want_attrs(item.peek(), context)?;
            found.extend(set.get(name).map(|entry| entry.value.get().peek()));
        }
        value(vm.list(&found))
    })
}

pub(super) fn function_args(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let no_arguments = |vm: &mut Vm| value(Value::Attrs(new_attrs(&mut vm.heap, Pos::NONE, Vec::new())));
    match arguments[0] {
        Value::Lambda(id, _) => {
            let LambdaInfo { formals: Some(formals), .. } = &vm.program.lambdas[id.0 as usize] else {
                return no_arguments(vm);
            };
            let formals = formals.formals.iter();
            let entries =
                formals.map(|f| Entry::new(f.name, f.pos, Value::Bool(f.default.is_some()))).collect();
            value(Value::Attrs(new_attrs(&mut vm.heap, Pos::NONE, entries)))
        }
        Value::Builtin(_) | Value::Partial(_) => no_arguments(vm),
        _ => Err(EvalError::type_error("'functionArgs' requires a function").at(vm.here())),
    }
}

pub(super) fn map_attrs(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let set =
        vm.want_attrs(arguments[1], "while evaluating the second argument passed to builtins.mapAttrs")?;
    let function = arguments[0];
    let mut mapped = Vec::new();
    for entry in entries(&mut vm.heap, set) {
        let name = vm.symbol_string(entry.name);
        let made = apply(&mut vm.heap, function, &[name, entry.value.get().peek()]);
        mapped.push(Entry::new(entry.name, entry.pos, made));
    }
    value(Value::Attrs(new_attrs(&mut vm.heap, Pos::NONE, mapped)))
}

pub(super) fn zip_attrs_with(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let list =
        vm.want_list(arguments[1], "while evaluating the second argument passed to builtins.zipAttrsWith")?;
    let function = ready!(arguments[0]);
    vm.want_function(function, "while evaluating the first argument passed to builtins.zipAttrsWith")?;
    ForceItems::outcome(vm, list, [function, arguments[1], Value::Null], |vm, arguments| {
        let Value::List(length, start) = arguments[1] else { unreachable!("checked before") };
        let mut groups: Vec<(Symbol, Vec<Value>)> = Vec::new();
        let mut places: FxHashMap<Symbol, usize> = FxHashMap::default();
        for item in slice(start, length) {
            let context =
                "while evaluating a value of the list passed as second argument to builtins.zipAttrsWith";
            let set = vm.want_attrs(item.peek(), context)?;
            for entry in entries(&mut vm.heap, set) {
                let place = *places.entry(entry.name).or_insert_with(|| {
                    groups.push((entry.name, Vec::new()));
                    groups.len() - 1
                });
                groups[place].1.push(entry.value.get().peek());
            }
        }
        groups.sort_by_key(|(name, _)| *name);
        let mut made = Vec::with_capacity(groups.len());
        for (name, values) in groups {
            let list = vm.list(&values);
            let text = vm.symbol_string(name);
            made.push(Entry::new(name, Pos::NONE, apply(&mut vm.heap, arguments[0], &[text, list])));
        }
        value(Value::Attrs(new_attrs(&mut vm.heap, Pos::NONE, made)))
    })
}

pub(super) fn list_to_attrs(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let list = vm.want_list(arguments[0], "while evaluating the argument passed to builtins.listToAttrs")?;
    Ok(Outcome::Run(Box::new(ListToAttrs { list, next: 0, made: Vec::new(), seen: FxHashMap::default() })))
}

struct ListToAttrs {
    list: &'static [Value],
    next: usize,
    made: Vec<Entry>,
    seen: FxHashMap<Symbol, ()>,
}

impl Native for ListToAttrs {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.list(self.list);
        for entry in &self.made {
            tracer.value(entry.value.get());
        }
    }

    fn resume(&mut self, vm: &mut Vm, _: Value) -> Result<Step> {
        while let Some(item) = self.list.get(self.next) {
            let item = item.peek();
            if !item.is_whnf() {
                return Ok(Step::Force(item));
            }
            let set = vm
                .want_attrs(item, "while evaluating an element of the list passed to builtins.listToAttrs")?;
            let symbols = vm.symbols;
            let context = "in a {name=...; value=...;} pair";
            let name = vm.want_attribute(set, symbols.name, context)?.value.get().peek();
            if !name.is_whnf() {
                return Ok(Step::Force(name));
            }
            let context = "while evaluating the `name` attribute of an element of the list passed to builtins.listToAttrs";
            let name = vm.want_plain_string(name, context)?;
            let name = vm.interner.intern(name);
            // Of several pairs with one name, the first counts.
            if self.seen.insert(name, ()).is_none() {
                let found = vm.want_attribute(set, symbols.value, "in a {name=...; value=...;} pair")?;
                self.made.push(Entry::new(name, found.pos, found.value.get().peek()));
            }
            self.next += 1;
        }
        self.made.sort_by_key(|entry| entry.name);
        let made = std::mem::take(&mut self.made);
        Ok(Step::Return(Value::Attrs(new_attrs(&mut vm.heap, Pos::NONE, made))))
    }
}
