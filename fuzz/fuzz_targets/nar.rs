//! Archives: there is one archive for each tree, so that what is read is what would be written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_store::nar::Tree;

const BYTES_MAX: u64 = 1 << 20;

fuzz_target!(|archive: &[u8]| {
    let mut rest = archive;
    let Ok(tree) = Tree::read(&mut rest, BYTES_MAX) else { return };
    let written = tree.to_nar().expect("a tree that was read can be written");
    assert_eq!(written, archive[..archive.len() - rest.len()]);
});
