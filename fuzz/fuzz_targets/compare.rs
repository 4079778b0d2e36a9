//! Two versions of a file: a place is found exactly where they differ, whatever the files pretend to be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_build::compare::locate;

fuzz_target!(|input: (Vec<u8>, usize, u8)| {
    let (first, at, change) = input;
    assert_eq!(locate(&first, &first), None);
    if first.is_empty() || change == 0 {
        return;
    }
    let at = at % first.len();
    let mut second = first.clone();
    second[at] ^= change;
    assert_eq!(locate(&first, &second).expect("they differ").file_offset, at as u64);
});
