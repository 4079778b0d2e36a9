//! How fast hashing, adding and registering are: `cargo bench -p rednix-store`. Prints the best of a few runs; judges
//! nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rednix_store::derivation::{Derivation, Output};
use rednix_store::hash::HashAlgorithm;
use rednix_store::nar;
use rednix_store::path::StorePath;
use rednix_store::rewrite::Rewrites;
use rednix_store::scan;
use rednix_store::store::*;

fn best(runs: u32, mut run: impl FnMut() -> Duration) -> Duration {
    (0..runs).map(|_| run()).min().expect("there is at least one run")
}

fn timed<T>(run: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    std::hint::black_box(run());
    start.elapsed()
}

fn rate(what: &str, bytes: u64, time: Duration) {
    let mib_per_s = bytes as f64 / f64::from(1 << 20) / time.as_secs_f64();
    println!("{what:50} {time:>12.3?} {mib_per_s:>9.0} MiB/s");
}

fn each(what: &str, count: usize, time: Duration) {
    println!("{what:50} {time:>12.3?} {:>9.1?} each", time / count as u32);
}

fn fresh() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    (folder, store)
}

fn large_file(folder: &Path) {
    let file = folder.join("large");
    let mut state = 1u32;
    let bytes: Vec<u8> = (0..256 << 20)
        .map(|_| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 24) as u8
        })
        .collect();
    std::fs::write(&file, &bytes).unwrap();
    let size = bytes.len() as u64;
    rate(
        "hash a NAR of one large file",
        size,
        best(3, || timed(|| nar::hash_path(&file, HashAlgorithm::Sha256))),
    );
    let candidates: Vec<StorePath> =
        (0..200).map(|seed| StorePath::from_parts(&[seed; 20], "x").unwrap()).collect();
    let scanned = best(3, || timed(|| scan::scan_path(&file, &candidates)));
    rate("hash and scan it for 200 references", size, scanned);
    let (_root, store) = fresh();
    let (hash, nar_size) = nar::hash_path(&file, HashAlgorithm::Sha256).unwrap();
    let path = StorePath::from_parts(&[9; 20], "large").unwrap();
    let copied = timed(|| {
        store.import_tree(&file, &path, ImportMode::Copy, &Rewrites::new(), Some((hash, nar_size))).unwrap()
    });
    rate("copy it into the store", size, copied);
}

fn many_files(folder: &Path) {
    let tree = folder.join("tree");
    let count = 10_000;
    for index in 0..count {
        let file = tree.join(format!("d{}/f{index}", index % 100));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("{index}").repeat(500)).unwrap();
    }
    each(
        "hash a NAR of 10,000 files",
        count,
        best(3, || timed(|| nar::hash_path(&tree, HashAlgorithm::Sha256))),
    );
    let (_root, store) = fresh();
    each("add them", count, timed(|| store.add_from_path(&tree, Source::tree("tree")).unwrap()));
    each("add them again", count, timed(|| store.add_from_path(&tree, Source::tree("tree")).unwrap()));
    let verified = timed(|| store.verify(VerifyOptions::default()).unwrap());
    each("verify them", count, verified);
}

fn derivations() {
    let count = 4000;
    let derivations: Vec<Derivation> = (0..count)
        .map(|index| {
            let mut derivation = Derivation::new(&format!("package-{index}"), "x86_64-linux", "/bin/sh");
            derivation.outputs.insert("out".into(), Output::Deferred);
            derivation.environment.insert(b"text".to_vec(), vec![b'x'; 1500]);
            derivation.fill_output_paths(&mut |_| unreachable!("it has no inputs")).unwrap();
            derivation
        })
        .collect();
    let (root, store) = fresh();
    each("write 4,000 derivations", count, timed(|| store.write_derivations(&derivations).unwrap()));
    let again = best(3, || timed(|| store.write_derivations(&derivations).unwrap()));
    each("write them again", count, again);
    let paths: BTreeSet<StorePath> = store.all_valid_paths().unwrap();
    each("look them up", count, best(3, || timed(|| store.path_infos(&paths).unwrap())));
    drop(store);
    let open = best(20, || timed(|| Store::open(root.path(), OpenOptions::default()).unwrap()));
    each("open the store", 1, open);
    let store = Store::open(root.path(), OpenOptions::default()).unwrap();
    each("collect them", count, timed(|| store.gc(&GcOptions::default()).unwrap()));
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    // First: ext4 is slow to create files where many were deleted in the last minute.
    derivations();
    large_file(folder.path());
    many_files(folder.path());
}
