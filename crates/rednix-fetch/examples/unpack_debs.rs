//! Unpacks every `.deb` of a folder, to see how long it takes: `unpack_debs FROM TO [THREADS]`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, threads @ ..] = arguments.as_slice() else {
        eprintln!("usage: unpack_debs FROM TO [THREADS]");
        std::process::exit(2);
    };
    let threads = threads.first().and_then(|count| count.parse().ok()).unwrap_or(2);
    let entries = std::fs::read_dir(from).expect("the folder can be read");
    let mut packages: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    packages
        .sort_by_key(|path| std::cmp::Reverse(path.metadata().map(|metadata| metadata.len()).unwrap_or(0)));
    std::fs::create_dir_all(to).expect("the output folder can be created");
    let (next, started) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(package) = packages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let output = Path::new(to).join(package.file_stem().unwrap_or_default());
                    let attributes = serde_json::json!({ "formatVersion": 1, "src": package });
                    if let Err(error) = rednix_fetch::unpack_deb(&attributes, &output) {
                        eprintln!("error: {error}");
                    }
                }
            });
        }
    });
    eprintln!("{} packages in {:.1?} with {threads} threads", packages.len(), started.elapsed());
}
