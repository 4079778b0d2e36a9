//! Compiling `let`, attribute sets and `inherit`.

use super::{Compiler, Scope};
use crate::bytecode::{DynamicSite, Op, Shape};
use crate::source::Range;
use rednix_syntax::{Attributes, AttributesId, BindingValue, Expr, ExprId, Symbol};

/// How the sources of `inherit (source) …` are reached, by number.
enum Source {
    /// Evaluated anew for each name: cheap, because it is a variable or has one name only.
    Inline(ExprId),
    Slot {
        level: u32,
        slot: u32,
    },
}

impl Compiler<'_> {
    pub(super) fn let_in(&mut self, id: AttributesId, body: ExprId) {
        let set = self.ast.attributes(id);
        let range = self.range(body);
        let shared = self.shared_sources(set);
        let opened = self.open(set.bindings.len() as u32 + shared, range);
        self.recursive_scope(set, opened.first, false, range);
        self.strict(body);
        self.scopes.pop();
        self.close(opened, range);
    }

    /// Number of inherit sources that need a slot.
    fn shared_sources(&self, set: &Attributes) -> u32 {
        (0..set.inherit_sources.len()).filter(|&number| self.is_shared(set, number)).count() as u32
    }

    fn is_shared(&self, set: &Attributes, number: usize) -> bool {
        let value = BindingValue::InheritedFrom(number as u32);
        !matches!(self.ast.expr(set.inherit_sources[number]), Expr::Variable(_))
            && set.bindings.iter().filter(|binding| binding.value == value).nth(1).is_some()
    }

    /// Fills slots from `first` on with the bindings, and leaves their scope open.
    fn recursive_scope(&mut self, set: &Attributes, first: u32, always_thunk: bool, range: Range) {
        let slots = set.bindings.iter().enumerate();
        let names = slots.map(|(index, binding)| (binding.name, first + index as u32)).collect();
        let mut scope = Scope::new(self.level, names);
        scope.ready_until = first;
        scope.unit = self.unit_depth;
        self.scopes.push(scope);
        let sources = self.sources(set, first + set.bindings.len() as u32, range);
        for (index, binding) in set.bindings.iter().enumerate() {
            let slot = first + index as u32;
            let place = self.range_of(binding.span);
            match binding.value {
                BindingValue::Plain(expr) if always_thunk => {
                    let address = self.binding_unit(expr, binding.name, place);
                    self.emit(Op::Thunk(address), place);
                }
                BindingValue::Plain(expr) => self.lazy_named(expr, Some((binding.name, place))),
                BindingValue::Inherited => {
                    let scope = self.scopes.pop().expect("pushed above");
                    self.ready_or_thunk_variable(binding.name, place);
                    self.scopes.push(scope);
                }
                BindingValue::InheritedFrom(number) => {
                    self.inherited_from(&sources[number as usize], binding.name, place);
                }
            }
            self.emit(Op::SetSlot(slot), place);
            self.scopes.last_mut().expect("pushed above").ready_until = slot + 1;
        }
        self.scopes.last_mut().expect("pushed above").ready_until = u32::MAX;
    }

    fn sources(&mut self, set: &Attributes, first: u32, range: Range) -> Vec<Source> {
        let mut slot = first;
        let mut sources = Vec::with_capacity(set.inherit_sources.len());
        for (number, &expr) in set.inherit_sources.iter().enumerate() {
            if !self.is_shared(set, number) {
                sources.push(Source::Inline(expr));
                continue;
            }
            self.lazy(expr);
            self.emit(Op::SetSlot(slot), range);
            sources.push(Source::Slot { level: self.level, slot });
            slot += 1;
        }
        sources
    }

    fn inherited_from(&mut self, source: &Source, name: Symbol, place: Range) {
        let address = self.own_unit(|compiler| {
            match *source {
                Source::Inline(expr) => compiler.strict(expr),
                Source::Slot { level, slot } => {
                    let depth = (compiler.level - level) as u16;
                    compiler.emit(Op::LocalForced { depth, slot }, place);
                }
            }
            compiler.emit(Op::Select(name), place);
            compiler.emit(Op::Return, place);
        });
        self.emit(Op::Thunk(address), place);
    }

    pub(super) fn attribute_set(&mut self, id: AttributesId, range: Range) {
        let set = self.ast.attributes(id);
        let pos = self.pos(set.span.start);
        let mut order: Vec<usize> = (0..set.bindings.len()).collect();
        order.sort_by_key(|&index| set.bindings[index].name);
        let names = order.iter().map(|&index| {
            let binding = &set.bindings[index];
            (binding.name, self.pos(binding.span.start))
        });
        let names: Vec<_> = names.collect();
        let shared = self.shared_sources(set);
        if set.recursive {
            let overridden = set.bindings.iter().position(|b| b.name == self.globals.names.overrides);
            let opened = self.open(set.bindings.len() as u32 + shared, range);
            self.recursive_scope(set, opened.first, overridden.is_some(), range);
            let slots: Vec<_> = order.iter().map(|&index| opened.first + index as u32).collect();
            for &slot in &slots {
                self.emit(Op::Local { depth: 0, slot }, range);
            }
            let shape = self.shape(Shape { names, pos, slots });
            self.emit(Op::MakeAttrs(shape), range);
            if let Some(index) = overridden {
                self.emit(Op::LocalForced { depth: 0, slot: opened.first + index as u32 }, range);
                self.emit(Op::ApplyOverrides(shape), range);
            }
            self.dynamic(set, range);
            self.scopes.pop();
            self.close(opened, range);
            return;
        }
        let opened = (shared > 0).then(|| self.open(shared, range));
        let first = opened.as_ref().map_or(0, |opened| opened.first);
        let sources = self.sources(set, first, range);
        for &index in &order {
            let binding = &set.bindings[index];
            let place = self.range_of(binding.span);
            match binding.value {
                BindingValue::Plain(expr) => self.lazy_named(expr, Some((binding.name, place))),
                BindingValue::Inherited => self.ready_or_thunk_variable(binding.name, place),
                BindingValue::InheritedFrom(number) => {
                    self.inherited_from(&sources[number as usize], binding.name, place);
                }
            }
        }
        let shape = self.shape(Shape { names, pos, slots: Vec::new() });
        self.emit(Op::MakeAttrs(shape), range);
        self.dynamic(set, range);
        if let Some(opened) = opened {
            self.close(opened, range);
        }
    }

    fn shape(&mut self, shape: Shape) -> u32 {
        self.program.shapes.push(shape);
        self.program.shapes.len() as u32 - 1
    }

    /// Adds the bindings whose names are computed to the set on the stack.
    fn dynamic(&mut self, set: &Attributes, range: Range) {
        if set.dynamic.is_empty() {
            return;
        }
        for dynamic in &set.dynamic {
            self.strict(dynamic.name);
            self.lazy(dynamic.value);
        }
        let positions = set.dynamic.iter().map(|dynamic| self.pos(dynamic.span.start)).collect();
        self.program.dynamic_sites.push(DynamicSite { positions });
        let site = self.program.dynamic_sites.len() as u32 - 1;
        self.emit(Op::MakeAttrsDynamic(site), range);
    }
}
