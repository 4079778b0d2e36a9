//! The virtual machine: one loop over instructions, an operand stack and a stack of frames.
//!
//! Nothing here or in the builtins recurses on the host's stack over values: whatever has to wait for another
//! value puts a frame on the explicit stack. Files, environment and store are reached through the world alone.

mod arithmetic;
mod attributes;
mod call;
pub(crate) mod coerce;
pub(crate) mod compare;
mod condition;
pub(crate) mod deep;
mod dispatch;
pub(crate) mod explain;
pub(crate) mod native;
mod raise;
pub(crate) mod show;
mod strings;
pub(crate) mod symbols;

use crate::bytecode::Program;
use crate::compiler::Globals;
use crate::context::Contexts;
use crate::error::{EvalError, Result};
use crate::limits;
use crate::memory::{Gc, Heap};
use crate::settings::Settings;
use crate::source::{Range, SourceMap};
use crate::value::{Address, Env, LambdaId, Thunk, Value, new_env};
use crate::world::World;
use native::Native;
use rednix_store::derivation::DerivationHashes;
use rednix_store::path::{PathHashing, StorePath};
use rednix_syntax::Interner;
use rustc_hash::FxHashMap;
use std::collections::HashMap;
use std::rc::Rc;
use symbols::Symbols;

/// What is to be done with a value once it is there.
pub(crate) enum Frame {
    /// The run that was started from outside ends.
    Stop,
    /// Push it and go on.
    Resume { ip: Address, env: Gc<Env> },
    /// It is a thunk's: keep it there, push it and go on.
    Force { ip: Address, env: Gc<Env>, thunk: Gc<Thunk> },
    /// It is a thunk's: keep it there and run the instruction at `ip` again.
    Retry { ip: Address, env: Gc<Env>, thunk: Gc<Thunk> },
    /// It is a thunk's: keep it there and give it to the frame below.
    Update { thunk: Gc<Thunk> },
    /// It is a call's: push it and go on.
    Call { ip: Address, env: Gc<Env>, callee: LambdaId },
    /// It is a call's: give it to the frame below.
    Leave { at: Address, callee: LambdaId },
    /// It is a function: call it with the rest of the arguments.
    Apply { arguments: Gc<Value>, count: u32 },
    /// A builtin written as a state machine goes on with it.
    Native { native: Box<dyn Native>, height: u32, at: Address },
}

pub(crate) struct Vm {
    pub heap: Heap,
    pub program: Program,
    pub interner: Interner,
    pub symbols: Symbols,
    pub sources: SourceMap,
    pub contexts: Contexts,
    pub globals: Rc<Globals>,
    pub settings: Settings,
    pub world: Box<dyn World>,
    pub stack: Vec<Value>,
    pub(crate) frames: Vec<Frame>,
    pub ip: Address,
    pub env: Gc<Env>,
    /// Nested calls right now.
    pub depth: u32,
    pub(crate) calls_until_look: u32,
    /// Errors that thunks failed with.
    pub(crate) failures: Vec<Box<EvalError>>,
    /// Environments of each size that may be used again.
    pub(crate) free_envs: Vec<Vec<Gc<Env>>>,
    pub root: Gc<Env>,
    /// What the evaluator's user holds.
    pub handles: Vec<Value>,
    /// Runs of the loop inside of each other; values are collected in the outermost alone.
    pub(crate) runs: u32,
    /// With `collect_always`: chances to let pass.
    pub(crate) skipped_collections: u32,
    /// What files evaluate to, by resolved path.
    pub files: FxHashMap<Vec<u8>, Value>,
    /// Which file a path to be imported means.
    pub resolved: FxHashMap<Vec<u8>, Vec<u8>>,
    pub derivation_hashes: DerivationHashes,
    pub(crate) made_derivations: HashMap<StorePath, crate::builtins::Made, PathHashing>,
    /// Bytes and context that a coercion leaves for its caller.
    pub(crate) apart: Option<(Vec<u8>, Vec<u32>)>,
    pub copied: FxHashMap<Vec<u8>, StorePath>,
    /// Where entries of the search path lie that are addresses.
    pub fetched_entries: FxHashMap<String, Option<std::path::PathBuf>>,
    pub regexes: crate::builtins::RegexCache,
    /// Runs nested in the handling of errors right now.
    pub context_runs: u32,
    pub warned_once: rustc_hash::FxHashSet<&'static str>,
}

impl Vm {
    pub fn new(world: Box<dyn World>, settings: Settings) -> Vm {
        let mut heap = Heap::new();
        if settings.collect_always {
            heap.collect_at = 0;
        }
        let mut interner = Interner::new();
        let symbols = Symbols::new(&mut interner);
        let root = new_env(&mut heap, None, 0);
        let globals = Rc::new(crate::builtins::globals(&mut heap, &mut interner, &symbols));
        let mut vm = Vm {
            heap,
            program: Program::new(),
            interner,
            symbols,
            sources: SourceMap::default(),
            contexts: Contexts::default(),
            globals,
            settings,
            world,
            stack: Vec::with_capacity(1024),
            frames: Vec::with_capacity(1024),
            ip: 0,
            env: root,
            depth: 0,
            calls_until_look: limits::INTERRUPT_EVERY,
            failures: Vec::new(),
            free_envs: (0..16).map(|_| Vec::new()).collect(),
            root,
            handles: Vec::new(),
            runs: 0,
            skipped_collections: 0,
            files: FxHashMap::default(),
            resolved: FxHashMap::default(),
            derivation_hashes: DerivationHashes::new(),
            made_derivations: HashMap::default(),
            apart: None,
            copied: FxHashMap::default(),
            fetched_entries: FxHashMap::default(),
            regexes: Default::default(),
            context_runs: 0,
            warned_once: Default::default(),
        };
        crate::builtins::finish_globals(&mut vm);
        vm
    }

    /// Computes a value, from outside of any run.
    pub fn force(&mut self, value: Value) -> Result<Value> {
        let value = value.peek();
        if value.is_whnf() {
            return Ok(value);
        }
        self.run_native(Box::new(native::ForceOne { value: Some(value) }))
    }

    /// Calls a function from outside of any run.
    pub fn call(&mut self, function: Value, arguments: &[Value]) -> Result<Value> {
        self.run_native(Box::new(native::CallOne::new(function, arguments)))
    }

    /// Runs a state machine to its end, from outside of any run.
    pub fn run_native(&mut self, native: Box<dyn Native>) -> Result<Value> {
        let saved = (self.ip, self.env, self.depth);
        self.frames.push(Frame::Stop);
        self.runs += 1;
        let result = match self.start_native(native) {
            Ok(Some(value)) => {
                self.frames.pop();
                Ok(value)
            }
            Ok(None) => self.run(),
            Err(error) => match self.unwind(error) {
                Ok(()) => self.run(),
                Err(error) => Err(error),
            },
        };
        self.runs -= 1;
        (self.ip, self.env, self.depth) = saved;
        result
    }

    /// Where the instruction that is being run came from.
    pub fn here(&self) -> Range {
        self.range_before(self.ip)
    }

    pub(crate) fn range_before(&self, ip: Address) -> Range {
        let index = (ip as usize).saturating_sub(1);
        self.program.ranges.get(index).copied().unwrap_or_default()
    }

    pub fn text_of(&self, symbol: rednix_syntax::Symbol) -> String {
        self.interner.text(symbol).into_owned()
    }

    pub fn string(&mut self, bytes: &[u8]) -> Value {
        Value::string(&mut self.heap, bytes)
    }

    pub fn list(&mut self, items: &[Value]) -> Value {
        Value::list(&mut self.heap, items)
    }

    /// The name of a symbol as a string value, without copying it.
    pub fn symbol_string(&self, symbol: rednix_syntax::Symbol) -> Value {
        let name = self.interner.name(symbol);
        Value::String(name.len() as u32, crate::memory::name_gc(name))
    }

    /// A set of a few named values.
    pub fn attrs(&mut self, pairs: &[(rednix_syntax::Symbol, Value)]) -> Value {
        let mut entries: Vec<_> = pairs
            .iter()
            .map(|&(name, value)| crate::value::Entry::new(name, crate::source::Pos::NONE, value))
            .collect();
        entries.sort_by_key(|entry| entry.name);
        Value::Attrs(crate::value::new_attrs(&mut self.heap, crate::source::Pos::NONE, entries))
    }

    /// Entries of a set in the alphabetical order of their names.
    pub fn sorted_entries<'a>(&mut self, set: Gc<crate::value::Attrs>) -> Vec<&'a crate::value::Entry> {
        let mut entries: Vec<_> = crate::value::entries(&mut self.heap, set).iter().collect();
        entries.sort_by(|a, b| self.interner.name(a.name).cmp(self.interner.name(b.name)));
        entries
    }
}
