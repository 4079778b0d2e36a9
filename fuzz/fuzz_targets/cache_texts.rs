//! Texts around caches: addresses, `nix-cache-info`, netrc, AWS's files, and small files that come packed. What is read is
//! bounded, and passwords and secrets are in no message.
#![no_main]

use std::io::Read;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rednix_cache::aws::Profiles;
use rednix_cache::cache::{Address, parse_info};
use rednix_cache::compression::Compression;
use rednix_cache::netrc::Netrc;
use rednix_cache::transport::{Connections, HttpSettings, S3Settings, connect};

/// More than any input unpacks to honestly, and little enough to be quick.
const UNPACKED_BYTES_MAX: u64 = 4 << 20;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_info("fuzz", bytes);
    let text = String::from_utf8_lossy(bytes);
    let (one, other) = text.split_once("\n\n").unwrap_or((&text, ""));
    let _ = Netrc::parse(&text).authorization("host");
    let profiles = Profiles::parse(one, other);
    if let Ok(address) = Address::parse(one)
        && !address.url.starts_with("local?")
    {
        let s3 = S3Settings { profiles, profile: Some("p".to_owned()), ..S3Settings::default() };
        let connections = Arc::new(Connections::new(HttpSettings { s3, ..HttpSettings::default() }));
        if let Ok(transport) = connect(&address, &connections) {
            assert!(!transport.url("nar/x").contains("X-Amz-Signature"));
        }
    }
    for compression in Compression::ALL {
        if let Ok(decoder) = compression.decoder(bytes, UNPACKED_BYTES_MAX) {
            let mut plain = Vec::new();
            let _ = decoder.take(UNPACKED_BYTES_MAX).read_to_end(&mut plain);
        }
    }
});
