//! The texts of a Debian archive: package indexes, releases, relations, versions and sources lists.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_fetch::apt::{parse_list, parse_sources};
use rednix_fetch::debian::index::{IndexText, Release, Universe, signed_text};
use rednix_fetch::debian::{DebianLock, relation, version};

fuzz_target!(|text: &str| {
    let _ = Release::parse("fuzz", &signed_text(text));
    let _ = relation::parse(text);
    let _ = DebianLock::parse("fuzz", text);
    parse_list(text);
    parse_sources(text);
    if let Some((left, right)) = text.split_once('\n') {
        assert_eq!(version::compare(left, right), version::compare(right, left).reverse());
    }
    let indexes = [IndexText { file: "fuzz".to_owned(), suite: 0, text: text.to_owned() }];
    let _ = Universe::read(&indexes, "amd64");
});
