//! Laying out: what parses keeps its tree, and laying it out again changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_syntax::format::format;
use rednix_syntax::printer::{Places, print};
use rednix_syntax::{Interner, Options, parse};

fn tree(source: &[u8]) -> Option<Vec<u8>> {
    let mut interner = Interner::default();
    let read = parse(source, &mut interner, Options { pipe_operators: true });
    read.errors.is_empty().then(|| print(&read.ast, &interner, read.root, Places::default()))
}

fuzz_target!(|source: &[u8]| {
    let Ok(once) = format(source) else { return };
    assert!(tree(source) == tree(once.as_bytes()), "the tree changed:\n{once}");
    let twice = format(once.as_bytes()).expect("what was laid out parses");
    assert_eq!(twice, once);
});
