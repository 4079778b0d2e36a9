//! Tests of the program as its user meets it: the binary is run, its output and exit status are checked, and
//! after every kind of bad input the store must verify clean.
//!
//! They share one store (`$REDNIX_STORE`, else the user's own), so that nothing is fetched or built twice.

mod bad_input;
mod caches;
mod caches_memory;
mod caches_server;
mod caches_ways;
mod compiler;
mod endings;
mod errors;
mod evaluations;
mod flakes;
mod formatting;
mod front;
mod host_tools;
mod images;
mod language;
mod locking;
mod locking_rust;
mod machine;
mod machine_endings;
mod machine_pushes;
mod machine_refusals;
mod machine_tests;
mod modules;
mod peer;
mod recipes;
mod recipes_changes;
mod recipes_dependencies;
mod recipes_globs;
mod recipes_templates;
mod repl;
mod reports;
mod reproducible;
mod store;
mod support;
mod torture;
mod work;

use libtest_mimic::{Arguments, Trial};

/// What a test says when it could not run: the reason. A test that passes says nothing.
pub type Outcome = Result<Option<String>, String>;

fn main() {
    let given: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    if given.first().is_some_and(|first| first == caches_memory::MEASURED) {
        caches_memory::measured(&given[1..]);
    }
    let arguments = Arguments::from_args();
    let mut tests: Vec<(&'static str, fn() -> Outcome)> = Vec::new();
    tests.extend(bad_input::TESTS);
    tests.extend(locking::TESTS);
    tests.extend(locking_rust::TESTS);
    tests.extend(compiler::TESTS);
    tests.extend(recipes::TESTS);
    tests.extend(modules::TESTS);
    tests.extend(recipes_dependencies::TESTS);
    tests.extend(recipes_globs::TESTS);
    tests.extend(recipes_changes::TESTS);
    tests.extend(recipes_templates::TESTS);
    tests.extend(endings::TESTS);
    tests.extend(evaluations::TESTS);
    tests.extend(peer::TESTS);
    tests.extend(flakes::TESTS);
    tests.extend(language::TESTS);
    tests.extend(front::TESTS);
    tests.extend(errors::TESTS);
    tests.extend(machine_tests::TESTS);
    tests.extend(machine_pushes::TESTS);
    tests.extend(reports::TESTS);
    tests.extend(repl::TESTS);
    tests.extend(formatting::TESTS);
    tests.extend(store::TESTS);
    tests.extend(torture::TESTS);
    tests.extend(work::TESTS);
    tests.extend(caches::TESTS);
    tests.extend(caches_memory::TESTS);
    tests.extend(caches_server::TESTS);
    tests.extend(caches_ways::TESTS);
    tests.extend(reproducible::TESTS);
    tests.extend(host_tools::TESTS);
    tests.extend(images::TESTS);
    tests.extend(machine::TESTS);
    tests.extend(machine_endings::TESTS);
    tests.extend(machine_refusals::TESTS);
    let trials = tests.into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// What is known to be absent beforehand is shown as ignored, never as passed.
fn trial((name, test): (&'static str, fn() -> Outcome)) -> Trial {
    let absent = peer::absent(name)
        .or_else(|| language::TESTS.iter().find(|t| t.0 == name).and_then(|_| language::absent()));
    if let Some(reason) = &absent {
        eprintln!("skipped: {name}: {reason}");
    }
    Trial::test(name, move || match test() {
        Ok(None) => Ok(()),
        Ok(Some(reason)) => {
            eprintln!("skipped: {name}: {reason}");
            Ok(())
        }
        Err(message) => Err(message.into()),
    })
    .with_ignored_flag(absent.is_some())
}
