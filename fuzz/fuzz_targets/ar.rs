//! The outer archive of Debian packages.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use rednix_fetch::archive::ar::ArReader;

fuzz_target!(|archive: &[u8]| {
    let Ok(mut reader) = ArReader::new(archive) else { return };
    while let Ok(Some(member)) = reader.next_member() {
        let mut contents = Vec::new();
        if reader.read_to_end(&mut contents).is_err() {
            return;
        }
        assert!(contents.len() as u64 <= member.size_bytes);
    }
});
