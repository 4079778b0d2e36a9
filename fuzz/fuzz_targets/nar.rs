//! Archives: what is read is written in the one canonical form, and that reads as the same tree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_store::nar::Tree;

const BYTES_MAX: u64 = 1 << 20;

fuzz_target!(|archive: &[u8]| {
    let Ok(tree) = Tree::read(&mut &*archive, BYTES_MAX) else { return };
    let written = tree.to_nar().expect("a tree that was read can be written");
    let again = Tree::read(&mut written.as_slice(), BYTES_MAX).expect("what was written can be read");
    assert_eq!(again.to_nar().expect("a tree that was read can be written"), written);
});
