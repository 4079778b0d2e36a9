//! Versions and names: two of them, parted by the first zero byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_eval::text::version::{compare, parse_drv_name, split};

fuzz_target!(|input: &[u8]| {
    let zero = input.iter().position(|&byte| byte == 0).unwrap_or(input.len());
    let (left, right) = input.split_at(zero);
    assert_eq!(compare(left, right), compare(right, left).reverse());
    assert!(split(left).iter().all(|part| !part.is_empty()));
    let (name, version) = parse_drv_name(left);
    assert!(name.len() + version.len() <= left.len());
});
