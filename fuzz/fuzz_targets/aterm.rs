//! Derivations: what is read is written back, and that reads as the same derivation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_store::derivation::Derivation;

fuzz_target!(|text: &[u8]| {
    let Ok(derivation) = Derivation::parse("fuzz", text) else { return };
    let written = derivation.to_aterm();
    let again = Derivation::parse("fuzz", &written).expect("what was written is read");
    assert_eq!(again.to_aterm(), written);
    let _ = derivation.check_outputs();
    let _ = derivation.store_path();
});
