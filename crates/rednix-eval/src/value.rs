//! Values: 16 bytes, copied freely; what they point to lives in the arena.
//!
//! Forcing is the VM's work: nothing here evaluates.

use crate::memory::{Gc, Heap, slice, static_gc};
use crate::source::Pos;
use rednix_syntax::Symbol;
use std::cell::Cell;

/// Number of a lambda in the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(transparent)]
pub(crate) struct LambdaId(pub u32);

/// Number of a builtin function.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(transparent)]
pub(crate) struct BuiltinId(pub u16);

/// Index of an instruction in the program.
pub(crate) type Address = u32;

#[derive(Clone, Copy)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(u32, Gc<u8>),
    ContextString(Gc<ContextString>),
    Path(u32, Gc<u8>),
    List(u32, Gc<Value>),
    Attrs(Gc<Attrs>),
    Lambda(LambdaId, Gc<Env>),
    Builtin(BuiltinId),
    Partial(Gc<Partial>),
    /// A value computed when wanted; once it is, the cell holds it.
    Thunk(Gc<Thunk>),
    // What follows is found in the cells of thunks only.
    /// Code to run in an environment.
    Suspended(Address, Gc<Env>),
    /// A call to make: a function and its arguments, counted together.
    Apply(u32, Gc<Value>),
    /// Being computed right now.
    Blackhole,
    /// Failed before, with the error of that number.
    Failed(u32),
}

const _: () = assert!(std::mem::size_of::<Value>() == 16);

pub(crate) type Thunk = Cell<Value>;

#[derive(Clone, Copy)]
pub(crate) struct ContextString {
    pub length: u32,
    pub context_length: u32,
    pub start: Gc<u8>,
    /// Sorted numbers of context elements.
    pub context: Gc<u32>,
}

impl ContextString {
    pub fn context<'a>(&self) -> &'a [u32] {
        slice(self.context, self.context_length)
    }
}

/// A function with some of its arguments.
#[derive(Clone, Copy)]
pub(crate) struct Partial {
    pub function: Value,
    pub length: u32,
    pub arguments: Gc<Value>,
}

impl Partial {
    pub fn arguments<'a>(&self) -> &'a [Value] {
        slice(self.arguments, self.length)
    }
}

/// Variables of one function call or `let`; followed by its slots.
#[repr(C, align(16))]
pub(crate) struct Env {
    pub up: Cell<Option<Gc<Env>>>,
    pub length: u32,
    /// Something may hold it beyond the call it was made for: it is not used again.
    pub captured: Cell<bool>,
}

impl Gc<Env> {
    #[inline(always)]
    pub fn slots<'a>(self) -> &'a [Cell<Value>] {
        // SAFETY: environments are made by `new_env` alone, with `length` slots.
        unsafe { self.tail(self.length as usize) }
    }

    #[inline(always)]
    pub fn ancestor(self, depth: u16) -> Gc<Env> {
        let mut env = self;
        for _ in 0..depth {
            env = env.up.get().expect("the compiler counted the environments");
        }
        env
    }
}

pub(crate) fn new_env(heap: &mut Heap, up: Option<Gc<Env>>, length: u32) -> Gc<Env> {
    let slots = (0..length as usize).map(|_| Cell::new(Value::Null));
    heap.with_tail(Env { up: Cell::new(up), length, captured: Cell::new(false) }, slots)
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub name: Symbol,
    pub pos: Pos,
    pub value: Cell<Value>,
}

impl Entry {
    pub fn new(name: Symbol, pos: Pos, value: Value) -> Self {
        Entry { name, pos, value: Cell::new(value) }
    }
}

/// An attribute set; followed by its entries, sorted by symbol. A layered one holds only what it changes.
#[repr(C, align(8))]
pub(crate) struct Attrs {
    length: u32,
    pub pos: Pos,
    layer: Option<Gc<Layer>>,
}

pub(crate) struct Layer {
    base: Cell<Gc<Attrs>>,
    depth: u32,
    flat: Cell<Option<Gc<Attrs>>>,
}

impl Layer {
    pub fn base(&self) -> Gc<Attrs> {
        self.base.get()
    }

    pub fn flat(&self) -> Option<Gc<Attrs>> {
        self.flat.get()
    }

    /// Forgets what is below, which the flat set has as well.
    pub fn drop_base(&self, flat: Gc<Attrs>) {
        self.base.set(flat);
    }
}

impl Gc<Attrs> {
    pub fn layer(self) -> Option<Gc<Layer>> {
        self.layer
    }

    #[inline(always)]
    pub fn own<'a>(self) -> &'a [Entry] {
        // SAFETY: sets are made by `new_attrs` and `layer` alone, with `length` entries.
        unsafe { self.tail(self.length as usize) }
    }

    /// The entry of a name, whatever the layers.
    #[inline]
    pub fn get<'a>(self, name: Symbol) -> Option<&'a Entry> {
        let mut set = self;
        loop {
            if let Some(layer) = set.layer {
                if let Some(flat) = layer.flat.get() {
                    return find(flat.own(), name);
                }
                if let Some(entry) = find(set.own(), name) {
                    return Some(entry);
                }
                set = layer.base();
                continue;
            }
            return find(set.own(), name);
        }
    }

    pub fn depth(self) -> u32 {
        self.layer.map_or(0, |layer| layer.depth)
    }

    /// A layered set that was flattened before, as that.
    fn flattened(self) -> Gc<Attrs> {
        self.layer.and_then(|layer| layer.flat.get()).unwrap_or(self)
    }

    /// Number of entries of the topmost layer alone: cheap, and enough to judge how large a set is.
    pub fn own_length(self) -> u32 {
        self.length
    }
}

#[inline]
fn find(entries: &[Entry], name: Symbol) -> Option<&Entry> {
    if entries.len() <= 8 {
        return entries.iter().find(|entry| entry.name == name);
    }
    entries.binary_search_by_key(&name, |entry| entry.name).ok().map(|index| &entries[index])
}

/// All entries, sorted by symbol. A layered set is flattened once.
pub(crate) fn entries<'a>(heap: &mut Heap, set: Gc<Attrs>) -> &'a [Entry] {
    let Some(layer) = set.layer else { return set.own() };
    if let Some(flat) = layer.flat.get() {
        return flat.own();
    }
    let mut layers = vec![set.own()];
    let mut base = layer.base();
    while let Some(below) = base.layer {
        if let Some(flat) = below.flat.get() {
            base = flat;
            break;
        }
        layers.push(base.own());
        base = below.base();
    }
    // From the top down, for upper layers are the smaller ones.
    let mut upper: Option<Vec<Entry>> = None;
    for below in &layers[1..] {
        upper = Some(merge(below, upper.as_deref().unwrap_or(layers[0])));
    }
    let flat = merged(heap, set.pos, base.own(), upper.as_deref().unwrap_or(layers[0]));
    layer.flat.set(Some(flat));
    flat.own()
}

/// Both sorted runs in one; of equal names `top`'s stays.
pub(crate) fn merge(base: &[Entry], top: &[Entry]) -> Vec<Entry> {
    Merging::new(base, top).collect()
}

/// Two sorted runs on their way into one, whose length is counted before.
struct Merging<'a> {
    base: &'a [Entry],
    top: &'a [Entry],
    length: usize,
}

impl<'a> Merging<'a> {
    fn new(base: &'a [Entry], top: &'a [Entry]) -> Self {
        let (small, large) = if base.len() < top.len() { (base, top) } else { (top, base) };
        // A few names are looked up among many; else both runs are walked.
        let common = if small.len() * 16 < large.len() {
            small.iter().filter(|entry| find(large, entry.name).is_some()).count()
        } else {
            let mut rest = large.iter().peekable();
            let mut common = 0;
            for entry in small {
                while rest.next_if(|other| other.name < entry.name).is_some() {}
                common += usize::from(rest.next_if(|other| other.name == entry.name).is_some());
            }
            common
        };
        Merging { base, top, length: base.len() + top.len() - common }
    }
}

impl Iterator for Merging<'_> {
    type Item = Entry;

    #[inline]
    fn next(&mut self) -> Option<Entry> {
        let taken = match (self.base.split_first(), self.top.split_first()) {
            (Some((left, rest)), Some((right, _))) if left.name < right.name => {
                self.base = rest;
                left
            }
            (base, Some((right, rest))) => {
                if let Some((left, others)) = base
                    && left.name == right.name
                {
                    self.base = others;
                }
                self.top = rest;
                right
            }
            (Some((left, rest)), None) => {
                self.base = rest;
                left
            }
            (None, None) => return None,
        };
        self.length -= 1;
        Some(taken.clone())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.length, Some(self.length))
    }
}

impl ExactSizeIterator for Merging<'_> {}

/// A flat set of entries that are already sorted, each name once.
pub(crate) fn new_attrs(heap: &mut Heap, pos: Pos, entries: Vec<Entry>) -> Gc<Attrs> {
    debug_assert!(entries.windows(2).all(|pair| pair[0].name < pair[1].name));
    new_attrs_from(heap, pos, entries.into_iter())
}

pub(crate) fn new_attrs_from(
    heap: &mut Heap,
    pos: Pos,
    entries: impl ExactSizeIterator<Item = Entry>,
) -> Gc<Attrs> {
    let header = Attrs { length: entries.len() as u32, pos, layer: None };
    heap.with_tail(header, entries)
}

/// A flat set of both sorted runs; of equal names `top`'s stays.
fn merged(heap: &mut Heap, pos: Pos, base: &[Entry], top: &[Entry]) -> Gc<Attrs> {
    let merging = Merging::new(base, top);
    let length = merging.len() as u32;
    heap.with_tail(Attrs { length, pos, layer: None }, merging)
}

/// `base // top`. A base that is large beside what is added is not copied; a layer that is not, is merged with
/// what is added, so that sizes grow downwards and their number stays the logarithm of the whole.
pub(crate) fn layer(heap: &mut Heap, base: Gc<Attrs>, top: &[Entry]) -> Gc<Attrs> {
    let pos = base.pos;
    let mut base = base.flattened();
    let mut both: Option<Vec<Entry>> = None;
    loop {
        let added = both.as_deref().unwrap_or(top);
        let small = base.own().len() <= (2 * added.len()).max(crate::limits::LAYER_BASE_MIN);
        let Some(below) = base.layer else {
            if small {
                return merged(heap, pos, base.own(), added);
            }
            break;
        };
        if !small && below.depth < crate::limits::LAYERS_MAX {
            break;
        }
        both = Some(merge(base.own(), added));
        base = below.base().flattened();
    }
    let added = both.as_deref().unwrap_or(top);
    let layer =
        heap.alloc_any(Layer { base: Cell::new(base), depth: base.depth() + 1, flat: Cell::new(None) });
    let header = Attrs { length: added.len() as u32, pos, layer: Some(layer) };
    heap.with_tail(header, added.iter().cloned())
}

/// A thunk for `function arguments`, which are two at most.
pub(crate) fn apply(heap: &mut Heap, function: Value, arguments: &[Value]) -> Value {
    let start = match *arguments {
        [one] => heap.waiting_call([function, one]),
        [one, two] => heap.waiting_call([function, one, two]),
        _ => unreachable!("calls that wait have one or two arguments"),
    };
    Value::Thunk(heap.alloc_any(Thunk::new(Value::Apply(arguments.len() as u32 + 1, start))))
}

static EMPTY_BYTE: u8 = 0;

impl Value {
    /// The value behind a thunk that was computed, else itself.
    #[inline(always)]
    pub fn peek(self) -> Value {
        if let Value::Thunk(thunk) = self {
            let inner = thunk.get();
            if inner.is_whnf() {
                return inner;
            }
        }
        self
    }

    /// Whether this can be looked at: neither a thunk nor what stands in one before it is computed.
    #[inline(always)]
    pub fn is_whnf(self) -> bool {
        !matches!(
            self,
            Value::Thunk(_) | Value::Suspended(..) | Value::Apply(..) | Value::Blackhole | Value::Failed(_)
        )
    }

    pub fn empty_string() -> Value {
        Value::String(0, static_gc(&EMPTY_BYTE))
    }

    pub fn string(heap: &mut Heap, bytes: &[u8]) -> Value {
        if bytes.is_empty() {
            return Value::empty_string();
        }
        Value::String(length(bytes.len()), heap.copy_slice(bytes))
    }

    pub fn path(heap: &mut Heap, bytes: &[u8]) -> Value {
        Value::Path(length(bytes.len()), heap.copy_slice(bytes))
    }

    pub fn list(heap: &mut Heap, items: &[Value]) -> Value {
        Value::List(length(items.len()), heap.copy_slice(items))
    }

    /// A string with the context elements of those numbers, sorted, each once.
    pub fn string_with_context(heap: &mut Heap, bytes: &[u8], context: &[u32]) -> Value {
        if context.is_empty() {
            return Value::string(heap, bytes);
        }
        let start = heap.copy_slice(bytes);
        Value::string_at(heap, start, length(bytes.len()), context)
    }

    pub fn string_at(heap: &mut Heap, start: Gc<u8>, length: u32, context: &[u32]) -> Value {
        if context.is_empty() {
            return Value::String(length, start);
        }
        let context_start = heap.copy_slice(context);
        Value::ContextString(heap.alloc(ContextString {
            length,
            context_length: context.len() as u32,
            start,
            context: context_start,
        }))
    }

    /// Bytes of a string, with or without context.
    #[inline]
    pub fn as_bytes<'a>(self) -> Option<&'a [u8]> {
        match self {
            Value::String(length, start) => Some(slice(start, length)),
            Value::ContextString(string) => Some(slice(string.start, string.length)),
            _ => None,
        }
    }

    pub fn context<'a>(self) -> &'a [u32] {
        match self {
            Value::ContextString(string) => string.context(),
            _ => &[],
        }
    }
}

/// A length as values keep it. Longer ones cannot be made: the memory for them is refused before.
pub(crate) fn length(length: usize) -> u32 {
    u32::try_from(length).expect("strings and lists are shorter than 2^32")
}
