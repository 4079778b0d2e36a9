//! Entries of the evaluation cache: what is read is written back, and that reads as the same entry. The fuzzer gives
//! the text; its hash, which it would not find by itself, is put before it here.
#![no_main]

#[path = "../../crates/rednix/src/evalcache/entry.rs"]
mod entry;
#[allow(dead_code)]
#[path = "../../crates/rednix/src/evalcache/reads.rs"]
mod reads;

use libfuzzer_sys::fuzz_target;
use rednix_store::hash::Hash;

fuzz_target!(|text: &[u8]| {
    let _ = entry::Entry::parse(text);
    let mut whole = Hash::sha256(text).to_nix32().into_bytes();
    whole.push(b'\n');
    whole.extend_from_slice(text);
    let Some(read) = entry::Entry::parse(&whole) else { return };
    let written = read.write().expect("an entry can be written");
    let again = entry::Entry::parse(&written).expect("what was written is read");
    assert_eq!((&again.reads, &again.valid), (&read.reads, &read.valid));
    assert_eq!((&again.messages, &again.results), (&read.messages, &read.results));
    assert_eq!(again.write().expect("an entry can be written"), written);
});
