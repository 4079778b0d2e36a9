//! An evaluator of the Nix language with the semantics of C++ Nix 2.34.
//!
//! A source goes through `rednix-syntax` to a tree, through [`compiler`](crate) to bytecode with every variable
//! resolved, and runs on a machine with explicit stacks. The world (files, environment, store) enters by the trait
//! [`World`]; this crate itself does no I/O and prints nothing. Memory is collected between two instructions (`collect`);
//! `unsafe` is in `memory` and `value` alone.

// Errors are large and rare: results carry them boxed, and so does everything they are kept in.
#![allow(clippy::vec_box)]

mod builtins;
mod bytecode;
mod collect;
mod compiler;
mod context;
mod error;
mod evaluator;
mod flake;
pub mod limits;
#[allow(unsafe_code)]
mod memory;
mod memory_world;
mod settings;
mod source;
pub mod text;
#[allow(unsafe_code)]
mod value;
mod vm;
mod world;

pub use builtins::documentation::documentation;
pub use builtins::{NIX_VERSION, hash_mismatch};
pub use context::ContextElement;
pub use error::{Binding, ErrorKind, EvalError, Frame};
pub use evaluator::{EvalResult, Evaluator, FoundDerivation, FunctionPlace, Handle, Snippet, Type};
pub use memory_world::MemoryWorld;
pub use settings::{Lint, Lints, SearchEntry, Settings};
pub use source::{Origin, Place, Pos, Range};
pub use world::{
    AddPath, FetchedTree, FileKind, FileRequest, FlakeSources, FlakeTree, World, WorldError, WorldResult,
};
