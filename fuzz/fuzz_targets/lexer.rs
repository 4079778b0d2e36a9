//! Tokens of Nix sources: they lie in order within the source, and what is between them is space or remark.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_syntax::{Options, tokens};

fuzz_target!(|source: &[u8]| {
    for pipe_operators in [false, true] {
        let (spans, errors) = tokens(source, Options { pipe_operators });
        let mut end = 0;
        for span in &spans {
            assert!(end <= span.start && span.start <= span.end && span.end as usize <= source.len());
            end = span.end;
        }
        assert!(spans.last().is_some_and(|last| last.start == last.end), "the end is a token of its own");
        assert!(errors.iter().all(|error| error.span.end as usize <= source.len()));
    }
});
