//! Numbers: every float is written so that it reads back, and every literal is read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_eval::text::number::{format_f, format_g, format_json, parse_float, parse_int};

fuzz_target!(|input: &[u8]| {
    parse_int(input);
    parse_float(input);
    let Some(bytes) = input.first_chunk() else { return };
    let value = f64::from_le_bytes(*bytes);
    format_f(value);
    format_g(value);
    let text = format_json(value);
    if value.is_finite() {
        assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()), "{text}");
    }
});
