//! Entries of caches: what is read is written in one form, and that reads as the same. Realisations, too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_cache::NarInfo;
use rednix_cache::realisation::Key;

const KEY: &str = "realisations/sha256:cbd2e08be9361a3bed4b6364310397768927520492fb7928d2b85f2b9ef7d620!out.doi";

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entry) = NarInfo::parse("fuzz", bytes) {
        let again = NarInfo::parse("fuzz", entry.to_text().as_bytes()).expect("what was written can be read");
        assert_eq!(again, entry);
        assert!(!entry.url.starts_with('/') && !entry.url.split('/').any(|part| part == ".."));
        let _ = (entry.fingerprint(), entry.content_proof());
    }
    let key = Key::parse(KEY).expect("it is one");
    if let Ok(found) = key.read(bytes) {
        let again = key.read(key.to_text(&found.path, &found.signatures).as_bytes());
        assert_eq!(again.expect("what was written can be read"), found);
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(key) = Key::parse(text)
    {
        assert_eq!(key.place(), text);
    }
    let _ = rednix_cache::netrc::Netrc::parse(&String::from_utf8_lossy(bytes));
});
