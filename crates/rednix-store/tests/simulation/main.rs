//! Thousands of seeded histories of one store: processes that add, use, collect, archive and flush, interleaved step
//! by step, killed or cut off from power between any two steps. The steps' order is the store's own code
//! (`store::protocol`); the world below it is [`world`], where what was not flushed may be lost.
//!
//! `REDNIX_SIMULATIONS` is the number of histories, `REDNIX_SIMULATION_SEED` runs a single one and tells it.

mod actors;
mod world;

use std::rc::Rc;

use actors::Executor;
use world::{Fault, World};

/// One history; what went wrong, if anything did.
fn simulate(seed: u64, fault: Option<Fault>) -> Result<(), String> {
    let world = Rc::new(World::new(seed, fault));
    let result = Executor::new(world.clone()).run();
    result.map_err(|message| format!("seed {seed}: {message}\n{}", world.tell()))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn any_history_keeps_the_promises() {
    if let Some(seed) = number("REDNIX_SIMULATION_SEED") {
        simulate(seed, None).unwrap();
        return;
    }
    let count = number("REDNIX_SIMULATIONS").unwrap_or(20_000);
    for seed in 0..count {
        if let Err(message) = simulate(seed, None) {
            panic!("{message}");
        }
    }
}

/// A simulator that sees nothing proves nothing: each wrong order or lying step must be noticed.
#[test]
fn every_fault_is_noticed() {
    for fault in Fault::ALL {
        // Some need several rare things at once.
        let found = (0..200_000).find_map(|seed| simulate(seed, Some(fault)).err());
        assert!(found.is_some(), "{fault:?} was never noticed");
    }
}

/// The same seed is the same history.
#[test]
fn histories_can_be_repeated() {
    for seed in 0..50 {
        let tell = |_: ()| {
            let world = Rc::new(World::new(seed, None));
            Executor::new(world.clone()).run().unwrap();
            world.tell()
        };
        assert_eq!(tell(()), tell(()));
    }
}
