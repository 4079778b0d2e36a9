//! Written overrides and addresses: what is read can be written and read again, and comparing settles at once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_fetch::{Replacement, overrides};

fuzz_target!(|text: &str| {
    if let Ok(replacement) = Replacement::parse(text) {
        assert_eq!(Replacement::parse(&replacement.to_string()).as_ref(), Ok(&replacement));
        let pinned = Replacement::parse_pinned(&replacement.pinned());
        assert!(pinned.is_none_or(|pinned| pinned == replacement));
    }
    let once = overrides::normalise(text);
    assert_eq!(overrides::normalise(&once), once);
});
