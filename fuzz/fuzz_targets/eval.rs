//! Evaluation, to the depths of the value, in a world in memory. What does not end is interrupted.
#![no_main]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rednix_eval::{Evaluator, MemoryWorld, Settings};

const TIME_MAX: Duration = Duration::from_millis(500);

fn evaluate(source: &[u8], interrupted: Arc<AtomicBool>) {
    let world = MemoryWorld::new()
        .file("/d/default.nix", "{ a = 1; f = { x, y ? x }: [ x y ]; }")
        .file("/d/data.json", "{ \"k\": [ 1, null ] }");
    let settings = Settings {
        read_only: true,
        pipe_operators: true,
        max_call_depth: 500,
        collect_always: source.len() % 2 == 1,
        interrupted: Some(interrupted),
        ..Settings::default()
    };
    let mut evaluator = Evaluator::new(Box::new(world), settings);
    let Ok(value) = evaluator.text(source, b"/") else { return };
    if let Ok(value) = evaluator.force_deep(value) {
        evaluator.show(value);
        let _ = evaluator.to_json(value);
        let _ = evaluator.to_xml(value, true, true);
    }
}

fuzz_target!(|source: &[u8]| {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    let watch = std::thread::spawn(move || {
        std::thread::park_timeout(TIME_MAX);
        flag.store(true, Ordering::Relaxed);
    });
    evaluate(source, interrupted);
    watch.thread().unpark();
    watch.join().expect("the watch does not panic");
});
