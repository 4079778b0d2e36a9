//! TOML documents: read or refused, with a place inside the document.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_eval::text::toml::{TomlError, parse};

fuzz_target!(|text: &str| {
    if let Err(TomlError::Syntax { line, column, .. }) = parse(text) {
        let lines = text.bytes().filter(|&byte| byte == b'\n').count() + 1;
        assert!((1..=lines).contains(&line) && (1..=text.len() + 1).contains(&column));
    }
});
