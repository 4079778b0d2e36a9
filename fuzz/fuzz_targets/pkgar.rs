//! Heads of package archives, and tables of entries as a holder of the key could sign them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_image::pkgar::{KeyFile, PublicKey, parse_entries, parse_head};

fuzz_target!(|input: &[u8]| {
    if let Some(key) = input.get(64..96) {
        let key = PublicKey(key.try_into().expect("32 bytes"));
        let _ = parse_head(input, key);
    }
    if let Ok(entries) = parse_entries(input) {
        for entry in entries {
            assert!(!entry.path.starts_with('/') && entry.path.split('/').all(|name| !matches!(name, "" | "." | "..")));
            assert!(entry.offset.checked_add(entry.size).is_some());
        }
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = PublicKey::from_toml(text);
        let _ = KeyFile::from_toml(text);
    }
});
