//! Hashes in all their notations, and names of store paths.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::path::StorePath;

fuzz_target!(|text: &str| {
    if let Ok(path) = StorePath::parse(text) {
        assert_eq!(path.to_string(), text);
    }
    for algorithm in [None, Some(HashAlgorithm::Sha256), Some(HashAlgorithm::Sha512)] {
        let Ok(hash) = Hash::parse_any(text, algorithm) else { continue };
        for again in [hash.to_string(), hash.to_sri(), hash.to_prefixed_hex()] {
            assert_eq!(Hash::parse_any(&again, algorithm).ok().as_ref(), Some(&hash), "{again}");
        }
    }
});
