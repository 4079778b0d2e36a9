//! Attribute sets and lists: making, selecting, merging.

use super::Vm;
use crate::error::{ErrorKind, EvalError, Result};
use crate::limits;
use crate::memory::{Gc, slice};
use crate::source::Range;
use crate::value::{Attrs, Entry, Value, entries, layer, merge, new_attrs, new_attrs_from};
use rednix_syntax::Symbol;

impl Vm {
    #[inline]
    pub(crate) fn select(&mut self, name: Symbol) -> Result<()> {
        let Value::Attrs(set) = self.top() else { return Err(self.no_set(name)) };
        let Some(entry) = set.get(name) else { return Err(self.missing_attribute(set, name)) };
        self.push_entry(entry)
    }

    /// Replaces the top of the stack by an attribute, and computes that.
    #[inline]
    fn push_entry(&mut self, entry: &Entry) -> Result<()> {
        let value = entry.value.get();
        if value.is_whnf() {
            self.set_top(value);
            return Ok(());
        }
        let inner = value.peek();
        self.set_top(inner);
        if inner.is_whnf() {
            entry.value.set(inner);
            return Ok(());
        }
        self.force_top()
    }

    #[cold]
    fn no_set(&mut self, name: Symbol) -> Box<EvalError> {
        let _ = name;
        let value = self.top();
        let error = self.expected("a set", value);
        self.frame_here(error, "while selecting an attribute")
    }

    #[cold]
    pub(crate) fn missing_attribute(&mut self, set: Gc<Attrs>, name: Symbol) -> Box<EvalError> {
        let wanted = self.text_of(name);
        let names: Vec<_> = entries(&mut self.heap, set).iter().map(|entry| entry.name).collect();
        let suggestions = super::explain::nearest(names.into_iter().map(|name| self.text_of(name)), &wanted);
        let message = format!("attribute '{wanted}' missing");
        let mut error = EvalError::new(ErrorKind::MissingAttribute, message).at(self.here());
        error.suggestions = suggestions;
        error
    }

    /// Pops the name of a dynamic attribute.
    fn pop_name(&mut self) -> Result<Symbol> {
        let value = self.pop();
        self.name_from(value, "while evaluating an attribute name")
    }

    pub(crate) fn name_from(&mut self, value: Value, context: &str) -> Result<Symbol> {
        match value {
            Value::String(length, start) => Ok(self.interner.intern(slice(start, length))),
            Value::ContextString(_) => Err(self.context_not_allowed(value)),
            other => {
                let error = self.expected("a string", other);
                Err(self.frame_here(error, context))
            }
        }
    }

    #[cold]
    pub(crate) fn context_not_allowed(&self, value: Value) -> Box<EvalError> {
        let text = String::from_utf8_lossy(value.as_bytes().unwrap_or_default()).into_owned();
        let first = value.context().iter().map(|&number| self.contexts.get(number)).min();
        let path = first.map(crate::context::ContextElement::show).unwrap_or_default();
        let message =
            format!("the string '{text}' is not allowed to refer to a store path (such as '{path}')");
        EvalError::evaluation(message).at(self.here())
    }

    pub(crate) fn select_dynamic(&mut self) -> Result<()> {
        let name = self.pop_name()?;
        self.select(name)
    }

    pub(crate) fn select_or(&mut self, site: u32) -> Result<()> {
        let site = &self.program.select_sites[site as usize];
        let (name, jump) = (site.name, site.jump);
        self.select_or_jump(name, jump)
    }

    pub(crate) fn select_or_dynamic(&mut self, distance: i32) -> Result<()> {
        let name = self.pop_name()?;
        self.select_or_jump(name, distance)
    }

    fn select_or_jump(&mut self, name: Symbol, distance: i32) -> Result<()> {
        if let Value::Attrs(set) = self.top()
            && let Some(entry) = set.get(name)
        {
            return self.push_entry(entry);
        }
        self.pop();
        self.jump(distance);
        Ok(())
    }

    pub(crate) fn has(&mut self, name: Symbol) -> Result<()> {
        let found = matches!(self.pop(), Value::Attrs(set) if set.get(name).is_some());
        self.stack.push(Value::Bool(found));
        Ok(())
    }

    pub(crate) fn has_dynamic(&mut self) -> Result<()> {
        let name = self.pop_name()?;
        self.has(name)
    }

    pub(crate) fn make_attrs(&mut self, shape: u32) -> Result<()> {
        let shape = &self.program.shapes[shape as usize];
        let from = self.stack.len() - shape.names.len();
        let values = &self.stack[from..];
        let made = shape.names.iter().zip(values).map(|(&(name, pos), &value)| Entry::new(name, pos, value));
        let set = new_attrs_from(&mut self.heap, shape.pos, made);
        self.stack.truncate(from);
        self.stack.push(Value::Attrs(set));
        Ok(())
    }

    /// Stack: set, then name and value of each dynamic binding.
    pub(crate) fn make_attrs_dynamic(&mut self, site: u32) -> Result<()> {
        let count = self.program.dynamic_sites[site as usize].positions.len();
        let from = self.stack.len() - 2 * count - 1;
        let Value::Attrs(set) = self.stack[from] else { unreachable!("the set was just made") };
        let mut all: Vec<Entry> = entries(&mut self.heap, set).to_vec();
        for index in 0..count {
            let pos = self.program.dynamic_sites[site as usize].positions[index];
            let name = self.stack[from + 1 + 2 * index];
            let value = self.stack[from + 2 + 2 * index];
            if let Value::Null = name {
                continue;
            }
            let symbol = self.name_from(name, "while evaluating the name of a dynamic attribute").map_err(
                |mut error| {
                    error.range = Range::at(pos);
                    error
                },
            )?;
            match all.binary_search_by_key(&symbol, |entry| entry.name) {
                Ok(index) => {
                    let place = self.sources.place(all[index].pos);
                    let place = place.map_or_else(|| "«none»:0".into(), |place| place.to_string());
                    let name = self.text_of(symbol);
                    let message = format!("dynamic attribute '{name}' already defined at {place}");
                    return Err(EvalError::evaluation(message).at(Range::at(pos)));
                }
                Err(index) => all.insert(index, Entry::new(symbol, pos, value)),
            }
        }
        let made = new_attrs(&mut self.heap, set.pos, all);
        self.stack.truncate(from);
        self.stack.push(Value::Attrs(made));
        Ok(())
    }

    /// Stack: set, overrides. What is overridden changes for the other attributes too.
    pub(crate) fn apply_overrides(&mut self, shape: u32) -> Result<()> {
        let overrides = self.pop();
        let Value::Attrs(overrides) = overrides else {
            let error = self.expected("a set", overrides);
            return Err(self.frame_here(error, "while evaluating the `__overrides` attribute"));
        };
        let Value::Attrs(set) = self.pop() else { unreachable!("the set was just made") };
        let top = entries(&mut self.heap, overrides);
        let shape = &self.program.shapes[shape as usize];
        for entry in top {
            if let Ok(index) = shape.names.binary_search_by_key(&entry.name, |&(name, _)| name) {
                self.env.slots()[shape.slots[index] as usize].set(entry.value.get());
            }
        }
        let base = entries(&mut self.heap, set);
        let made = new_attrs(&mut self.heap, set.pos, merge(base, top));
        self.stack.push(Value::Attrs(made));
        Ok(())
    }

    pub(crate) fn update(&mut self) -> Result<()> {
        let right = self.pop();
        let left = self.pop();
        // The right side is looked at first, as C++ Nix does.
        let Value::Attrs(top) = right else {
            let error = self.expected("a set", right);
            return Err(self.frame_here(error, "in the right operand of the update (//) operator"));
        };
        let Value::Attrs(base) = left else {
            let error = self.expected("a set", left);
            return Err(self.frame_here(error, "in the left operand of the update (//) operator"));
        };
        let merged = self.merge_sets(base, top);
        self.stack.push(Value::Attrs(merged));
        Ok(())
    }

    pub(crate) fn merge_sets(&mut self, base: Gc<Attrs>, top: Gc<Attrs>) -> Gc<Attrs> {
        let added = entries(&mut self.heap, top);
        if added.is_empty() {
            return base;
        }
        if base.own_length() == 0 && base.depth() == 0 {
            return top;
        }
        layer(&mut self.heap, base, added)
    }

    pub(crate) fn concat(&mut self) -> Result<()> {
        let right = self.pop();
        let left = self.pop();
        let mut lists = [(0, None); 2];
        for (place, value) in lists.iter_mut().zip([left, right]) {
            let Value::List(length, start) = value else {
                let error = self.expected("a list", value);
                return Err(self.frame_here(error, "while evaluating one of the elements to concatenate"));
            };
            *place = (length, Some(start));
        }
        let [(n, Some(x)), (m, Some(y))] = lists else { unreachable!("both are set") };
        let value = match (n, m) {
            (_, 0) => left,
            (0, _) => right,
            _ => {
                let start = self.heap.concat((x, n), slice(y, m), limits::GROW_ITEMS_MIN);
                Value::List(self.length(n as usize + m as usize)?, start)
            }
        };
        self.stack.push(value);
        Ok(())
    }

    pub(crate) fn length(&self, length: usize) -> Result<u32> {
        u32::try_from(length).map_err(|_| {
            let message =
                format!("a string or list of {length} elements is longer than {}", limits::LENGTH_MAX);
            EvalError::evaluation(message).at(self.here())
        })
    }
}
