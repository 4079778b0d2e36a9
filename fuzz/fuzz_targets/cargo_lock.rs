//! Cargo.lock files and the source lines in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rednix_fetch::cargo_lock::{CargoLock, GitSource};

fuzz_target!(|text: &str| {
    if let Some(source) = GitSource::parse(text) {
        assert!(!source.repository().is_empty());
        assert!(text.contains(source.url) && text.ends_with(source.rev));
    }
    if let Ok(lock) = CargoLock::parse(text) {
        assert!(lock.git.iter().all(|package| package.source.starts_with("git+")));
    }
});
