//! Locks a Debian build root from a specification, with this machine's apt sources as mirrors.
//!
//! `cargo run -p rednix-fetch --example lock_debian -- SPEC.json [fetch-into FOLDER]` prints the lock; with
//! `fetch-into` it also fetches every package.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rednix_events::{Event, Events, Sink};
use rednix_fetch::{FetchConfig, Fetcher, LockSpec, apt, lock_debian};

struct Print;

impl Sink for Print {
    fn emit(&self, event: Event) {
        if let Event::Warning { message } | Event::FetchFailed { message, .. } = event {
            eprintln!("warning: {message}");
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(spec) = arguments.first() else {
        eprintln!("usage: lock_debian SPEC.json [fetch-into FOLDER]");
        std::process::exit(2);
    };
    let text = std::fs::read_to_string(spec).expect("the specification can be read");
    let spec: LockSpec = serde_json::from_str(&text).expect("the specification is one");
    let mut config = FetchConfig::new(std::env::temp_dir().join("rednix-fetch-example"));
    config.apt_sources =
        apt::machine_sources(Path::new("/etc/apt"), Path::new("/usr/share/python-apt/templates"));
    let folders = [Path::new("/usr/share/keyrings"), Path::new("/etc/apt/trusted.gpg.d")];
    config.keyrings = apt::default_keyrings(&config.apt_sources, &folders);
    config.ca_bundle = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let events: Events = Arc::new(Print);
    let started = Instant::now();
    let lock = lock_debian(&spec, &config, &events).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        std::process::exit(1);
    });
    eprintln!("locked {} packages in {:.1?}", lock.packages.len(), started.elapsed());
    for (root, names) in &lock.roots {
        let (mut packed, mut installed) = (0, 0);
        for name in names {
            packed += lock.packages[name].size;
            installed += lock.packages[name].installed_size;
        }
        eprintln!(
            "  {root}: {} packages, {:.1} MB, {:.0} MB unpacked",
            names.len(),
            packed as f64 / 1e6,
            installed as f64 / 1e6
        );
    }
    print!("{}", lock.to_json());
    if let [_, command, folder] = arguments.as_slice()
        && command == "fetch-into"
    {
        let started = Instant::now();
        std::fs::create_dir_all(folder).expect("the folder can be created");
        let requests = lock.requests(lock.packages.keys().map(String::as_str)).expect("the lock is sound");
        let results = Fetcher::new(config).fetch_batch(&requests, Path::new(folder), &events);
        let failed: Vec<String> =
            results.iter().filter_map(|result| Some(result.as_ref().err()?.to_string())).collect();
        failed.iter().for_each(|error| eprintln!("error: {error}"));
        eprintln!(
            "fetched {} of {} in {:.1?}",
            results.len() - failed.len(),
            results.len(),
            started.elapsed()
        );
    }
}
