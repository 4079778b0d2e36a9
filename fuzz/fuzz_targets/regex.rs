//! Regular expressions: pattern and subject, parted by the first zero byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_eval::text::regex::Regex;

fuzz_target!(|input: &[u8]| {
    let Some(zero) = input.iter().position(|&byte| byte == 0) else { return };
    let (pattern, subject) = (&input[..zero], &input[zero + 1..]);
    let Ok(regex) = Regex::new(pattern) else { return };
    if let Some(groups) = regex.full_match(subject) {
        assert_eq!(groups[0], Some(0..subject.len()));
    }
    let mut end = 0;
    for groups in regex.find_iter_groups(subject) {
        let whole = groups[0].clone().expect("a match has a whole");
        assert!(end <= whole.start && whole.end <= subject.len());
        for group in groups.iter().flatten() {
            assert!(whole.start <= group.start && group.start <= group.end && group.end <= whole.end);
        }
        end = whole.end;
    }
});
