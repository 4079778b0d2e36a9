//! ELF files; the first bytes of the header are filled in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_image::elf::needed_by_bytes;
use rednix_image::limits::{ELF_NAME_LENGTH_MAX, ELF_NEEDED_MAX};

fuzz_target!(|input: &[u8]| {
    let Some((&choice, input)) = input.split_first() else { return };
    let mut file = input.to_vec();
    if choice < 0xf0 && file.len() >= 7 {
        // Class and byte order: each combination in turn.
        file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 1 + (choice & 1), 1 + (choice >> 1 & 1), 1]);
    }
    let names = needed_by_bytes(&file);
    assert!(names.len() <= ELF_NEEDED_MAX);
    for name in names {
        assert!(!name.is_empty() && name.len() <= ELF_NAME_LENGTH_MAX && !name.contains('/') && name != "..");
    }
});
