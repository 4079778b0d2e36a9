//! String contexts: which store objects a string refers to. Elements are numbered, strings keep sorted numbers.

use rednix_store::path::StorePath;
use rustc_hash::FxHashMap;

/// One thing a string depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContextElement {
    /// A store object as it is.
    Opaque(StorePath),
    /// A derivation's file with everything it takes to build it.
    DrvDeep(StorePath),
    /// An output of a derivation.
    Built { derivation: StorePath, output: String },
}

#[derive(Default)]
pub(crate) struct Contexts {
    elements: Vec<ContextElement>,
    numbers: FxHashMap<ContextElement, u32>,
}

impl Contexts {
    pub fn number(&mut self, element: ContextElement) -> u32 {
        if let Some(&number) = self.numbers.get(&element) {
            return number;
        }
        let number = self.elements.len() as u32;
        self.elements.push(element.clone());
        self.numbers.insert(element, number);
        number
    }

    pub fn get(&self, number: u32) -> &ContextElement {
        &self.elements[number as usize]
    }
}

/// Adds sorted numbers to sorted numbers.
pub(crate) fn unite(into: &mut Vec<u32>, more: &[u32]) {
    if more.is_empty() {
        return;
    }
    if into.is_empty() {
        into.extend_from_slice(more);
        return;
    }
    if more.len() > 32 {
        into.extend_from_slice(more);
        // Two sorted runs: this sort finds and merges them.
        into.sort();
        into.dedup();
        return;
    }
    for &number in more {
        // Later strings mostly refer to what was made later.
        if into.last().is_some_and(|&last| last < number) {
            into.push(number);
        } else if let Err(place) = into.binary_search(&number) {
            into.insert(place, number);
        }
    }
}

impl ContextElement {
    /// As messages show it.
    pub fn show(&self) -> String {
        match self {
            ContextElement::Opaque(path) => path.to_string(),
            ContextElement::DrvDeep(path) => format!("{path} (deep)"),
            ContextElement::Built { derivation, output } => format!("{derivation}^{output}"),
        }
    }
}

impl ContextElement {
    /// The notation C++ Nix keeps contexts in, which some messages show.
    pub fn encode(&self) -> String {
        match self {
            ContextElement::Opaque(path) => path.basename().to_string(),
            ContextElement::DrvDeep(path) => format!("={}", path.basename()),
            ContextElement::Built { derivation, output } => format!("!{output}!{}", derivation.basename()),
        }
    }
}
