//! In-process measurements of the rooms that move bytes: NAR hashing, unpacking a package, writing an image.
//! Prints one line each: best and median of several runs, and the throughput; no pass or fail.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

const RUNS: usize = 5;

fn main() {
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    nar_hashing(scratch.path());
    unpacking(scratch.path());
    image_writing(scratch.path());
}

/// Runs `work` several times and prints how long it took; `bytes` gives the throughput.
fn measure(name: &str, bytes: u64, mut work: impl FnMut(usize)) {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|run| {
            let started = Instant::now();
            work(run);
            started.elapsed()
        })
        .collect();
    times.sort();
    let best = times[0].as_secs_f64();
    let rate = if best > 0.0 { bytes as f64 / best / 1e6 } else { 0.0 };
    println!(
        "{name:<44} best {:>8.1} ms  median {:>8.1} ms  {rate:>8.0} MB/s",
        best * 1e3,
        times[RUNS / 2].as_secs_f64() * 1e3
    );
}

fn nar_hashing(scratch: &Path) {
    let file = scratch.join("big");
    let bytes: Vec<u8> = (0..256u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&file, &bytes).expect("the file can be written");
    let hash = || {
        rednix_store::nar::hash_path(&file, rednix_store::hash::HashAlgorithm::Sha256)
            .expect("it can be hashed")
    };
    measure("NAR hash of one 256 MiB file", bytes.len() as u64, |_| {
        std::hint::black_box(hash());
    });

    let tree = scratch.join("tree");
    let files = 4000;
    for number in 0..files {
        let folder = tree.join(format!("{}", number % 40));
        std::fs::create_dir_all(&folder).expect("folders can be made");
        std::fs::write(folder.join(number.to_string()), &bytes[number * 100..number * 100 + 4096])
            .expect("files can be written");
    }
    let hash = || {
        rednix_store::nar::hash_path(&tree, rednix_store::hash::HashAlgorithm::Sha256)
            .expect("it can be hashed")
    };
    measure("NAR hash of 4000 files of 4 KiB", files as u64 * 4096, |_| {
        std::hint::black_box(hash());
    });
    if let Some(nix) = peer("nix") {
        for (name, path) in [("one 256 MiB file", &file), ("4000 files of 4 KiB", &tree)] {
            let size = if path == &file { bytes.len() as u64 } else { files as u64 * 4096 };
            measure(&format!("  the peer, {name} (whole program)"), size, |_| {
                let status = Command::new(&nix)
                    .args(["--extra-experimental-features", "nix-command", "hash", "path"])
                    .arg(path)
                    .output();
                assert!(status.is_ok_and(|o| o.status.success()), "the peer hashes");
            });
        }
    }
}

/// The largest .deb of the store, if a build root was fetched.
fn unpacking(scratch: &Path) {
    let Some(deb) = largest_deb() else {
        println!("skipped: unpacking: no .deb is in the store (run `make run` first)");
        return;
    };
    let size = deb.metadata().map(|m| m.len()).unwrap_or(0);
    let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.split_once('-').map_or(name.as_str(), |(_, n)| n).to_owned();
    let attributes = json!({ "formatVersion": 1, "src": deb });
    measure(&format!("unpacking {name}"), size, |run| {
        rednix_fetch::unpack_deb(&attributes, &scratch.join(format!("deb-{run}")))
            .expect("the package unpacks");
    });
    if let Some(dpkg) = program("dpkg-deb") {
        measure("  dpkg-deb -x", size, |run| {
            let status =
                Command::new(&dpkg).arg("-x").arg(&deb).arg(scratch.join(format!("dpkg-{run}"))).status();
            assert!(status.is_ok_and(|s| s.success()), "dpkg-deb unpacks");
        });
    }
}

fn image_writing(scratch: &Path) {
    let stage = scratch.join("stage");
    std::fs::create_dir_all(stage.join("usr/share/data")).expect("folders can be made");
    let block: Vec<u8> = (0..1u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    for number in 0..256 {
        let mut bytes = block.clone();
        bytes[..4].copy_from_slice(&(number as u32).to_le_bytes());
        std::fs::write(stage.join(format!("usr/share/data/{number}")), bytes).expect("files can be written");
    }
    let attributes = json!({
        "formatVersion": 1,
        "name": "bench-image",
        "config": { "general": { "filesystem_size": 1024 } },
        "packages": [{ "name": "data", "path": stage }],
        "loaders": { "uefi": null, "bios": null },
        "initfs": null,
    });
    measure("writing a 1 GiB image with 256 MiB of files", 256 << 20, |run| {
        rednix_image::builtin::image(&attributes, &scratch.join(format!("image-{run}")))
            .expect("the image can be written");
    });
}

fn largest_deb() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("REDNIX_BENCH_STORE")?).join("nix/store");
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let debs = entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "deb"));
    debs.max_by_key(|p| p.metadata().map(|m| m.len()).unwrap_or(0))
}

fn peer(name: &str) -> Option<PathBuf> {
    match std::env::var_os("REDNIX_PEER") {
        Some(folder) => Some(PathBuf::from(folder).join(name)).filter(|p| p.exists()),
        None => program(name),
    }
}

fn program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|p| p.is_file())
}
