//! The end of the path: the embedded image boots in a virtual machine and answers.

use crate::Outcome;
use crate::support::{call, run};

pub const TESTS: [(&str, fn() -> Outcome); 2] =
    [("probe_boots_and_checks_every_file", probe_boots), ("doctor_tells_what_is_there", doctor)];

fn probe_boots() -> Outcome {
    let result = run(&mut call(&["test"]));
    if let Some(line) = result.stderr.lines().find(|line| line.contains("skipped: ")) {
        return Ok(Some(line.trim().to_owned()));
    }
    result.expect(0, &["test probe: passed"])?;
    Ok(None)
}

fn doctor() -> Outcome {
    let result = run(&mut call(&["doctor"]));
    for what in ["user namespaces", "QEMU", "git", "store"] {
        if !result.stdout.contains(what) {
            return Err(format!("doctor says nothing of {what}:\n{}", result.stdout));
        }
    }
    Ok(None)
}
