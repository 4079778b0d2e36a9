//! Scopes while compiling: where each name's value will be found at run time.

use super::Compiler;
use crate::bytecode::{Op, WithSite};
use crate::error::{ErrorKind, EvalError};
use crate::source::Range;
use crate::value::Value;
use crate::vm::explain::nearest;
use rednix_syntax::Symbol;
use rustc_hash::FxHashMap;

/// Scopes with more names than this are searched through a map.
const MAP_FROM: usize = 12;

/// Names that one environment (or a part of it) holds, or the set of a `with`.
pub(crate) struct Scope {
    level: u32,
    names: Names,
    /// Slots from here on have no value yet, for code of the unit that fills them.
    pub(super) ready_until: u32,
    /// How deep that unit is nested.
    pub(super) unit: u32,
}

enum Names {
    List(Vec<(Symbol, u32)>),
    Map(FxHashMap<Symbol, u32>),
    With(u32),
}

impl Scope {
    /// Of equal names the last one counts.
    pub fn new(level: u32, names: Vec<(Symbol, u32)>) -> Scope {
        let names =
            if names.len() > MAP_FROM { Names::Map(names.into_iter().collect()) } else { Names::List(names) };
        Scope { level, names, ready_until: u32::MAX, unit: 0 }
    }

    pub fn with(level: u32, slot: u32) -> Scope {
        Scope { level, names: Names::With(slot), ready_until: u32::MAX, unit: 0 }
    }

    fn slot(&self, name: Symbol) -> Option<u32> {
        match &self.names {
            Names::List(list) => list.iter().rev().find(|entry| entry.0 == name).map(|entry| entry.1),
            Names::Map(map) => map.get(&name).copied(),
            Names::With(_) => None,
        }
    }
}

/// Where a name was found.
pub(crate) enum Place {
    Local {
        depth: u16,
        slot: u32,
        ready: bool,
    },
    Global(Value),
    /// The enclosing `with`s, innermost first.
    With(Vec<(u16, u32)>),
    Nowhere,
}

/// Code that is run from its start to a `Return`.
#[derive(Default)]
pub(super) struct Unit {
    pub code: Vec<Op>,
    pub ranges: Vec<Range>,
    /// Slots of the environment this unit itself fills, where it has one.
    pub slots: Option<u32>,
}

/// Slots opened for a `let` or the like; to be closed again.
pub(super) struct Opened {
    pub first: u32,
    /// Where a new environment was made for them, and how many slots the one before had.
    own: Option<(usize, Option<u32>)>,
}

impl Compiler<'_> {
    pub(super) fn find(&self, name: Symbol) -> Place {
        for scope in self.scopes.iter().rev() {
            if let Some(slot) = scope.slot(name) {
                let depth = self.depth(scope);
                // Code of an inner unit runs only after all slots are filled.
                let ready = slot < scope.ready_until || self.unit_depth > scope.unit;
                return Place::Local { depth, slot, ready };
            }
        }
        if let Some(&value) = self.globals.values.get(&name) {
            return Place::Global(value);
        }
        let withs: Vec<_> = self
            .scopes
            .iter()
            .rev()
            .filter_map(|scope| match scope.names {
                Names::With(slot) => Some((self.depth(scope), slot)),
                _ => None,
            })
            .collect();
        if withs.is_empty() { Place::Nowhere } else { Place::With(withs) }
    }

    /// Every name that code here could use.
    fn visible(&self) -> Vec<String> {
        let mut names: Vec<Symbol> = self.globals.values.keys().copied().collect();
        for scope in &self.scopes {
            match &scope.names {
                Names::List(list) => names.extend(list.iter().map(|entry| entry.0)),
                Names::Map(map) => names.extend(map.keys()),
                Names::With(_) => {}
            }
        }
        names.sort_unstable();
        names.dedup();
        let texts = names.into_iter().map(|name| self.interner.text(name).to_string());
        texts.filter(|name| !name.starts_with("__")).collect()
    }

    pub(super) fn is_shadowed(&self, name: Symbol) -> bool {
        self.scopes.iter().any(|scope| scope.slot(name).is_some())
    }

    fn depth(&self, scope: &Scope) -> u16 {
        // The height of a tree, and with it the number of nested environments, is limited to less than this.
        u16::try_from(self.level - scope.level).expect("nesting is limited")
    }

    /// The value of a variable, computed.
    pub(super) fn variable(&mut self, name: Symbol, range: Range) {
        match self.find(name) {
            Place::Local { depth, slot, .. } => {
                self.emit(Op::LocalForced { depth, slot }, range);
            }
            Place::Global(value) => {
                self.constant(value, range);
                if !value.is_whnf() {
                    self.emit(Op::Force, range);
                }
            }
            Place::With(scopes) => {
                self.program.with_sites.push(WithSite { name, scopes });
                let site = self.program.with_sites.len() as u32 - 1;
                self.emit(Op::WithForced(site), range);
            }
            Place::Nowhere => {
                let text = self.interner.text(name);
                let mut error =
                    EvalError::new(ErrorKind::UndefinedVariable, format!("undefined variable '{text}'"))
                        .at(range);
                error.suggestions = nearest(self.visible().into_iter(), &text);
                self.errors.push(error);
            }
        }
    }

    /// A variable as it stands in its slot; only for those that are ready.
    pub(super) fn ready_variable(&mut self, name: Symbol, range: Range) {
        match self.find(name) {
            Place::Local { depth, slot, .. } => {
                self.emit(Op::Local { depth, slot }, range);
            }
            Place::Global(value) => self.constant(value, range),
            _ => unreachable!("only found variables are ready"),
        }
    }

    /// Makes room for variables: in the environment this unit has already, or in a new one.
    pub(super) fn open(&mut self, count: u32, range: Range) -> Opened {
        if let Some(slots) = &mut self.unit.slots
            && count <= crate::limits::MERGED_SLOTS_MAX
        {
            let first = *slots;
            *slots += count;
            return Opened { first, own: None };
        }
        let at = self.emit(Op::NewEnv(0), range);
        let before = self.unit.slots.replace(count);
        self.level += 1;
        Opened { first: 0, own: Some((at, before)) }
    }

    pub(super) fn close(&mut self, opened: Opened, range: Range) {
        let Some((at, before)) = opened.own else { return };
        let slots = self.unit.slots.expect("the environment being closed is open");
        self.unit.code[at] = Op::NewEnv(slots);
        self.unit.slots = before;
        self.level -= 1;
        self.emit(Op::LeaveEnv, range);
    }
}
