//! Interned names: every attribute and variable name of an evaluation is one 32-bit number.
//!
//! Knows nothing of scopes or meaning. Names are bytes, as Nix strings are.

use hashbrown::HashTable;
use rustc_hash::FxHasher;
use std::hash::Hasher;

/// A name. Ordered by age, not alphabetically.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Symbol(pub u32);

/// All names of one evaluation. Never forgets one, so a symbol is valid as long as its interner.
#[derive(Default)]
pub struct Interner {
    names: Vec<Box<[u8]>>,
    table: HashTable<u32>,
}

fn hash_of(name: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(name);
    hasher.finish()
}

impl Interner {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn intern(&mut self, name: &[u8]) -> Symbol {
        let hash = hash_of(name);
        let names = &self.names;
        if let Some(&id) = self.table.find(hash, |&id| &*names[id as usize] == name) {
            return Symbol(id);
        }
        let id = u32::try_from(self.names.len()).expect("more than 2^32 names cannot fit in memory");
        self.names.push(name.into());
        let names = &self.names;
        self.table.insert_unique(hash, id, |&id| hash_of(&names[id as usize]));
        Symbol(id)
    }

    /// The symbol of a name that is already known.
    pub fn find(&self, name: &[u8]) -> Option<Symbol> {
        self.table.find(hash_of(name), |&id| &*self.names[id as usize] == name).map(|&id| Symbol(id))
    }

    pub fn name(&self, symbol: Symbol) -> &[u8] {
        &self.names[symbol.0 as usize]
    }

    /// The name as text; invalid UTF-8 is replaced.
    pub fn text(&self, symbol: Symbol) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.name(symbol))
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_symbol() {
        let mut interner = Interner::new();
        let first = interner.intern(b"a");
        assert_ne!(first, interner.intern(b"b"));
        assert_eq!(first, interner.intern(b"a"));
        assert_eq!(interner.name(first), b"a");
        assert_eq!(interner.find(b"c"), None);
        assert_eq!(interner.len(), 2);
    }
}
