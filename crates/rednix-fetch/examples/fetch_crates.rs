//! Fetches every registry crate of a `Cargo.lock` in one batch: `fetch_crates Cargo.lock CARGO_HOME FOLDER [--vendor]`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rednix_events::{Event, Events, Sink};
use rednix_fetch::{FetchConfig, FetchRequest, Fetcher};
use rednix_store::hash::{Hash, HashAlgorithm};

struct Print;

impl Sink for Print {
    fn emit(&self, event: Event) {
        eprintln!("{event:?}");
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [lock, home, folder, options @ ..] = arguments.as_slice() else {
        eprintln!("usage: fetch_crates Cargo.lock CARGO_HOME FOLDER [--vendor]");
        std::process::exit(2);
    };
    let text = std::fs::read_to_string(lock).expect("the lock can be read");
    let lock: toml::Table = text.parse().expect("the lock is TOML");
    let folder = Path::new(folder);
    std::fs::create_dir_all(folder).expect("the folder can be created");
    let mut config = FetchConfig::new(folder.join("cache"));
    config.cargo_home = Some(home.into());
    let field = |package: &toml::Value, name: &str| package.get(name)?.as_str().map(str::to_owned);
    let mut crates = Vec::new();
    for package in lock["package"].as_array().expect("the lock has packages") {
        let (Some(name), Some(version)) = (field(package, "name"), field(package, "version")) else {
            continue;
        };
        if let Some(checksum) = field(package, "checksum") {
            crates.push((name, version, checksum));
        }
    }
    let requests: Vec<FetchRequest> = crates
        .iter()
        .map(|(name, version, checksum)| FetchRequest {
            urls: vec![format!("crate:{name}/{version}")],
            file_name: format!("{name}-{version}.crate"),
            hash: Hash::parse_any(checksum, Some(HashAlgorithm::Sha256)).ok(),
            size_bytes: None,
        })
        .collect();
    let events: Events = Arc::new(Print);
    let started = Instant::now();
    let results = Fetcher::new(config).fetch_batch(&requests, folder, &events);
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        eprintln!("error: {error}");
    }
    let arrived = results.iter().filter(|result| result.is_ok()).count();
    eprintln!("{arrived} of {} crates in {:.1?}", results.len(), started.elapsed());
    if options.first().is_some_and(|option| option == "--vendor") {
        let started = Instant::now();
        let crates: Vec<serde_json::Value> = crates
            .iter()
            .map(|(name, version, checksum)| {
                let src = folder.join(format!("{name}-{version}.crate"));
                serde_json::json!({ "name": name, "version": version, "checksum": checksum, "src": src })
            })
            .collect();
        let attributes = serde_json::json!({ "formatVersion": 1, "crates": crates });
        rednix_fetch::vendor(&attributes, &folder.join("vendor")).expect("the crates can be vendored");
        eprintln!("vendored in {:.1?}", started.elapsed());
    }
}
