//! Answers of a monitor's interface, cut anywhere: nothing that is complete changes with what follows it. Resolutions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_vm::control::http::parse;
use rednix_vm::spec::Resolution;

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    for cut in 0..bytes.len().min(256) {
        if let Ok(Some(answer)) = parse(&bytes[..cut]) {
            assert_eq!(whole.as_ref().expect("it was complete before"), &Some(answer));
            break;
        }
    }
    if let Ok(size) = String::from_utf8_lossy(bytes).parse::<Resolution>() {
        assert_eq!(size.to_string().parse(), Ok(size));
    }
});
