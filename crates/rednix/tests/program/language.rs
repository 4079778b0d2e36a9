//! The language tests of C++ Nix 2.34.8, where somebody has them: `$REDNIX_LANGUAGE_SUITE` is their folder. They are not
//! ours and are not kept here; `language/LEVEL.txt` names those that may fail, and why. Those lists can only get shorter.

use std::path::PathBuf;
use std::process::Command;

use crate::Outcome;
use crate::support::{checkout, rednix, scratch};

pub const TESTS: [(&str, fn() -> Outcome); 2] =
    [("language_suite_output", output), ("language_suite_messages", messages)];

/// Why the tests cannot run here.
pub fn absent() -> Option<String> {
    match (suite(), runner()) {
        (None, _) => Some("no language tests of C++ Nix (REDNIX_LANGUAGE_SUITE)".to_owned()),
        (_, None) => {
            Some("the script that runs them is not beside the checkout (REDNIX_CONFORMANCE)".to_owned())
        }
        _ => None,
    }
}

fn suite() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("REDNIX_LANGUAGE_SUITE")?);
    Some(folder).filter(|folder| folder.join("lib.nix").is_file())
}

fn runner() -> Option<PathBuf> {
    let folder = std::env::var_os("REDNIX_CONFORMANCE")
        .map_or_else(|| checkout().join("../shared/conformance"), PathBuf::from);
    Some(folder.join("lang.sh")).filter(|script| script.is_file())
}

/// Exit statuses and values.
fn output() -> Outcome {
    compare("out")
}

/// The same, and what errors say.
fn messages() -> Outcome {
    compare("msg")
}

fn compare(level: &str) -> Outcome {
    let (Some(suite), Some(runner)) = (suite(), runner()) else { return Ok(absent()) };
    let known = checkout().join("crates/rednix/tests/program/language").join(format!("{level}.txt"));
    let store = scratch();
    let output = Command::new(runner)
        .args(["-l", level, "-x"])
        .args([&known, &suite])
        .arg(rednix())
        .arg("nix-instantiate")
        .env("REDNIX_STORE", store.path())
        .output()
        .map_err(|error| format!("cannot start the script: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let cases = text.lines().filter(|line| line.starts_with("pass ") || line.starts_with("fail ")).count();
    if cases < 300 {
        return Err(format!("only {cases} cases ran\n{text}{}", String::from_utf8_lossy(&output.stderr)));
    }
    if output.status.success() {
        return Ok(None);
    }
    let told = text.lines().filter(|line| !line.starts_with("pass ") && !line.starts_with("skip "));
    Err(told.collect::<Vec<_>>().join("\n"))
}
