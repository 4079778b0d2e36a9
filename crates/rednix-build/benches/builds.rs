//! What building costs beside the builders' own work: `cargo bench -p rednix-build`. Prints the best of a few runs;
//! judges nothing.

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rednix_build::sandbox::{Bytes, Confinement, Input, Root, run};
use rednix_store::path::StorePath;
use support::world::{FakeFetch, World, builtins, fetchurl};
use support::{Scratch, control};

fn main() {
    rednix_build::child_main(&builtins());
    let kinds = match support::confinements() {
        Ok(kinds) => kinds,
        Err(reason) => return println!("skipped: {reason}"),
    };
    for kind in kinds {
        let what = format!("a sandbox of 80 layers and 150 inputs, {kind:?}");
        told(&what, best(20, || sandbox(kind, 80, 150)));
        let what = format!("a sandbox of 900 layers and 900 inputs, {kind:?}");
        told(&what, best(3, || sandbox(kind, 900, 900)));
    }
    told("60 builds that write a line, 4 at a time", best(3, small_builds));
    nothing_to_do();
}

fn told(what: &str, time: Duration) {
    println!("{what:100} {time:>12.3?}");
}

fn best(runs: u32, mut run: impl FnMut() -> Duration) -> Duration {
    (0..runs).map(|_| run()).min().expect("there is at least one run")
}

/// Starts one, with nothing to do in it, and waits for its end.
fn sandbox(kind: Confinement, layers: usize, inputs: usize) -> Duration {
    let host = tempfile::tempdir().expect("a temporary folder");
    let folders: Vec<Bytes> = (0..layers.max(inputs))
        .map(|index| {
            let folder = host.path().join(index.to_string());
            std::fs::create_dir(&folder).expect("it can be made");
            Bytes::from(folder)
        })
        .collect();
    let mut scratch = Scratch::new(kind, ":");
    let named = |(index, host): (usize, &Bytes)| Input {
        host: host.clone(),
        name: Bytes::from(format!("i{index}").as_str()),
    };
    scratch.spec.inputs = folders[..inputs].iter().enumerate().map(named).collect();
    let layer = Bytes::from(support::layer());
    scratch.spec.root = Root::Overlay([layer].into_iter().chain(folders[..layers].iter().cloned()).collect());
    let start = Instant::now();
    run(&scratch.spec, &control(), &mut |_| {}).expect("it runs");
    start.elapsed()
}

fn small_builds() -> Duration {
    let mut world = World::new();
    world.config.max_jobs = 4;
    let wanted: Vec<_> = (0..60)
        .map(|index| {
            let text = serde_json::json!({ "text": format!("{index}\n") });
            rednix_build::Wanted::all(&world.write(&world.builtin(&format!("leaf{index}"), "write", text)))
        })
        .collect();
    let start = Instant::now();
    world.builder().build(&wanted).expect("they are built");
    start.elapsed()
}

/// A goal above 150 fetched and unpacked things, which is there already.
fn nothing_to_do() {
    let mut world = World::new();
    let mut files = BTreeMap::new();
    let mut goal = world.script("goal", "echo goal > $out");
    for index in 0..150 {
        let (url, text) = (format!("u:{index}"), index.to_string());
        let source = world.write(&fetchurl(&format!("source{index}"), &url, text.as_bytes()));
        let derivation = world.store.read_derivation(&source).expect("it was written");
        let path: StorePath = derivation.output_path("out").cloned().expect("it is fixed");
        files.insert(url, text.into_bytes());
        let attributes = serde_json::json!({ "src": path.to_string() });
        let unpack = world.builtin(&format!("unpack{index}"), "copy", attributes);
        let unpack = world.write(&unpack.needs_known("src", &source, &path));
        goal = goal.needs(&format!("layer{index}"), &unpack, "out");
    }
    world.fetch = Arc::new(FakeFetch(files));
    world.config.max_jobs = 4;
    let goal = world.write(&goal);
    let build = || {
        let start = Instant::now();
        world.build_path(&goal).expect("it is built");
        start.elapsed()
    };
    told("150 fetches and 151 builds, 4 at a time", build());
    told("the same again, with nothing to do for 301 derivations", best(10, build));
}
