//! Tests of the program as its user meets it: the binary is run, its output and exit status are checked, and
//! after every kind of bad input the store must verify clean.
//!
//! They share one store (`$REDNIX_STORE`, else the user's own), so that nothing is fetched or built twice.

mod bad_input;
mod machine;
mod peer;
mod recipes;
mod reproducible;
mod support;

use libtest_mimic::{Arguments, Trial};

/// What a test says when it could not run: the reason. A test that passes says nothing.
pub type Outcome = Result<Option<String>, String>;

fn main() {
    let arguments = Arguments::from_args();
    let mut tests: Vec<(&'static str, fn() -> Outcome)> = Vec::new();
    tests.extend(bad_input::TESTS);
    tests.extend(recipes::TESTS);
    tests.extend(peer::TESTS);
    tests.extend(reproducible::TESTS);
    tests.extend(machine::TESTS);
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            Trial::test(name, move || match test() {
                Ok(None) => Ok(()),
                Ok(Some(reason)) => {
                    eprintln!("skipped: {name}: {reason}");
                    Ok(())
                }
                Err(message) => Err(message.into()),
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
