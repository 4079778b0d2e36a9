//! References to flakes, lock files and registries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_flake::{FlakeRef, LockFile, Registry};

fuzz_target!(|text: &str| {
    if let Ok(reference) = FlakeRef::parse(text, true, true) {
        let attributes = reference.to_attributes();
        assert_eq!(FlakeRef::from_attributes(attributes).expect("its own attributes are right"), reference);
        let _ = reference.canonical();
    }
    if let Ok(lock) = LockFile::parse(text, "flake.lock") {
        let _ = lock.check();
        let written = lock.to_text();
        let again = LockFile::parse(&written, "flake.lock").expect("what is written can be read");
        assert_eq!(again.to_text(), written);
    }
    let _ = Registry::parse(text, "registry.json");
});
