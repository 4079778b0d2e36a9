//! The same as `main`, in the file format of Linux's kernels ("bzImage"), for monitors and loaders that take nothing else.
#![no_std]
#![no_main]

extern crate alloc;

#[path = "../bare/mod.rs"]
mod bare;
#[path = "../jump.rs"]
mod jump;
mod live;
mod setup;
mod start;
mod timer;

pub use live::loader_main;
