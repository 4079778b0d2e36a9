//! `rednix test`: machine tests of the library, of files and of flakes, as many at once as memory allows.

mod collect;
mod confine;
mod interactive;

use std::path::{Path, PathBuf};

use rednix_events::Outcome;
use rednix_vm::testing::schedule::{self, Budget};
use rednix_vm::testing::{self, Guest, OnFailure, run_test_by_name};
use rednix_vm::{Config, TestReport, TestSpec};
use serde_json::{Value, json};

use crate::cli::{TestArgs, TestOptions};
use crate::failure::Failure;
use crate::machines;
use crate::project::Project;
use crate::session::Session;

use super::print;

pub use collect::{Found, of_handles};

pub fn run(session: &Session, arguments: &TestArgs) -> Result<(), Failure> {
    let project = Project::find(&session.config, &arguments.tree)?;
    if arguments.list {
        let names = collect::names(session, &project, arguments)?;
        session.view.finish();
        return names.iter().try_for_each(|name| print(&format!("{name}\n")));
    }
    check_places(&arguments.options)?;
    let found = collect::tests(session, &project, arguments)?;
    execute(session, &project, found, &arguments.options)
}

/// Runs tests whose images are built, tells the results, and fails where one did.
pub fn execute(
    session: &Session,
    project: &Project,
    found: Vec<Found>,
    options: &TestOptions,
) -> Result<(), Failure> {
    let mut specs = Vec::new();
    for one in found {
        specs.push(specification(session, project, options, one)?);
    }
    let config = test_config(session, options)?;
    let (reports, interrupted) = run_all(session, &config, &specs, options)?;
    session.view.finish();
    match (tell(&config, &reports, options), interrupted) {
        (told, false) => told,
        (Ok(()), true) => Err(Failure::interrupted()),
        (Err(failure), true) => {
            let details = format!("{}\n{}", failure.message, failure.details.unwrap_or_default());
            Err(Failure::interrupted().details(details))
        }
    }
}

fn test_config(session: &Session, options: &TestOptions) -> Result<Config, Failure> {
    let mut config = machines::config(session)?;
    config.timeout_factor = options.patience.clamp(1, 1000);
    config.log_folder = match &options.results {
        Some(folder) => std::path::absolute(folder)?,
        None => session.cache_folder("test-results")?,
    };
    Ok(config)
}

/// Refuses places for results that cannot be, before anything is built or run for nothing.
fn check_places(options: &TestOptions) -> Result<(), Failure> {
    let refused = |option: &str, file: &Path, why: String| {
        Err(Failure::usage(format!("`{option} {}`: {why}", file.display())).hint("name another place"))
    };
    if let Some(results) = &options.results {
        let whole = machines::whole(results)?;
        if let Some(there) = whole.ancestors().find(|there| there.exists()).filter(|there| !there.is_dir()) {
            return refused("--results", results, format!("`{}` is no folder", there.display()));
        }
    }
    if let Some(junit) = &options.junit {
        let whole = machines::whole(junit)?;
        if whole.is_dir() {
            return refused("--junit", junit, "it is a folder".into());
        }
        if let Some(folder) = whole.parent().filter(|folder| !folder.is_dir()) {
            return refused("--junit", junit, format!("there is no folder `{}`", folder.display()));
        }
    }
    Ok(())
}

/// The test as the machine room takes it, its images and loaders built.
fn specification(
    session: &Session,
    project: &Project,
    options: &TestOptions,
    found: Found,
) -> Result<TestSpec, Failure> {
    let mut spec = planned(session, options, &found.data, &found.images, found.of_flake)?;
    for test_machine in &mut spec.machines {
        let Ok(runner) = rednix_vm::by_name(&test_machine.vmm) else { continue };
        machines::add_loader(session, project, runner.as_ref(), &mut test_machine.machine)?;
    }
    check(&spec)?;
    Ok(spec)
}

/// Refuses a test before anything is built for it.
pub fn check_plan(
    session: &Session,
    options: &TestOptions,
    data: &Value,
    of_flake: bool,
) -> Result<(), Failure> {
    check(&planned(session, options, data, &[], of_flake)?)
}

fn wrong(test: &str, reason: &str) -> Failure {
    Failure::usage(format!("the test `{test}` is wrong: {reason}"))
}

/// Whether there can be such a test, of a name that is good then.
fn check(spec: &TestSpec) -> Result<(), Failure> {
    testing::check(spec).map_err(|error| match error {
        // The test is named already.
        rednix_vm::Error::Test { message, .. } => wrong(&spec.name, &message),
        other => wrong(&spec.name, &other.to_string()),
    })
}

/// The test as the library gives it, for this machine. Without images it is one that is not built yet.
fn planned(
    session: &Session,
    options: &TestOptions,
    data: &Value,
    images: &[PathBuf],
    of_flake: bool,
) -> Result<TestSpec, Failure> {
    let mut data = data.clone();
    let name: String = data["name"].as_str().unwrap_or_default().escape_debug().collect();
    let wrong = |reason: &str| wrong(&name, reason);
    if let Some(steps) = data["steps"].as_array_mut() {
        steps.iter_mut().for_each(|step| step_in_store(&session.config.store, step));
    }
    let machines = data["machines"].as_object_mut().ok_or_else(|| wrong("`machines` is no set"))?;
    for (number, (_, machine)) in machines.iter_mut().enumerate() {
        machine_in_store(&session.config.store, machine);
        let fields = machine.as_object_mut().ok_or_else(|| wrong("a machine is no set"))?;
        let image = images.get(number).map(|image| image.join("disk.img")).unwrap_or_default();
        fields.insert("image".to_owned(), json!(image));
    }
    let mut spec: TestSpec = serde_json::from_value(data).map_err(|error| wrong(&error.to_string()))?;
    for test_machine in &mut spec.machines {
        // The monitor works in a folder of its own.
        let machine = &mut test_machine.machine;
        machine.persist = machine.persist.as_deref().map(machines::whole).transpose()?;
        machine.restore = machine.restore.as_deref().map(machines::whole).transpose()?;
        machine.loader = machine.loader.as_deref().map(machines::whole).transpose()?;
        for share in &mut machine.shares {
            share.folder = machines::whole(&share.folder)?;
        }
        if let Some(word) = &options.accel {
            machine.acceleration = machines::word("--accel", word, "auto, kvm or tcg")?;
        }
    }
    if of_flake && !options.trust_machines {
        confine::check(&spec, &session.config.store)?;
    }
    Ok(spec)
}

/// Files of flakes are in the store, which lies somewhere else on this machine than its paths say.
fn in_store(root: &Path, value: &mut Value) {
    if let Some(path) = value.as_str().filter(|path| path.starts_with("/nix/store/")) {
        *value = json!(root.join(path.trim_start_matches('/')));
    }
}

fn step_in_store(root: &Path, step: &mut Value) {
    for (action, field) in
        [("copyIn", "from"), ("copyOut", "same"), ("screenshot", "reference"), ("screenshot", "font")]
    {
        if let Some(value) = step.get_mut(action).and_then(|action| action.get_mut(field)) {
            in_store(root, value);
        }
    }
}

fn machine_in_store(root: &Path, machine: &mut Value) {
    for field in ["loader", "restore", "persist"] {
        if let Some(value) = machine.get_mut(field) {
            in_store(root, value);
        }
    }
    for share in machine.get_mut("shares").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(value) = share.get_mut("folder") {
            in_store(root, value);
        }
    }
}

/// A report of each test, and whether somebody ended them before they had all run.
fn run_all(
    session: &Session,
    config: &Config,
    specs: &[TestSpec],
    options: &TestOptions,
) -> Result<(Vec<TestReport>, bool), Failure> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = if options.interactive { 1 } else { session.global.jobs.unwrap_or(cores) };
    let budget = Budget { jobs, memory_mib: options.memory_budget.unwrap_or_else(free_memory_mib) };
    let needs: Vec<u64> = specs.iter().map(schedule::memory_of).collect();
    if options.interactive {
        // The terminal will belong to a machine.
        session.view.finish();
    }
    let failure = std::sync::Mutex::new(None);
    let events = session.events().clone();
    let results = schedule::run_all(&needs, budget, |number| {
        let open =
            |guests: &mut [Guest<'_>], at, message: &str| interactive::open(guests, at, message, &events);
        let look: Option<OnFailure<'_>> = if options.interactive { Some(&open) } else { None };
        match run_test_by_name(&specs[number], config, &events, look) {
            Ok(report) => Some(report),
            Err(error) => {
                *failure.lock().expect("no holder panics") = Some(error);
                None
            }
        }
    });
    let interrupted = match failure.into_inner().expect("no holder panics") {
        Some(rednix_vm::Error::Interrupted) => true,
        Some(error) => return Err(error.into()),
        None => false,
    };
    let unfinished = |spec: &TestSpec| TestReport {
        outcome: Outcome::Skipped,
        message: "interrupted".to_owned(),
        ..TestReport::new(&spec.name)
    };
    let reports =
        results.into_iter().zip(specs).map(|(report, spec)| report.unwrap_or_else(|| unfinished(spec)));
    Ok((reports.collect(), interrupted))
}

/// Four fifths of the memory that the kernel calls available.
fn free_memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    kib / 1024 * 4 / 5
}

fn tell(config: &Config, reports: &[TestReport], options: &TestOptions) -> Result<(), Failure> {
    let (passed, failed, skipped) = testing::counts(reports);
    if options.json {
        print(&format!("{:#}\n", testing::to_json(reports)))?;
    } else {
        for report in reports {
            for reason in &report.skipped_steps {
                print(&format!("{}: skipped {reason}\n", report.name))?;
            }
        }
        print(&format!("{passed} passed, {failed} failed, {skipped} skipped\n"))?;
        if reports.iter().any(|report| !report.files.is_empty()) {
            print(&format!("consoles and screenshots are in {}\n", config.log_folder.display()))?;
        }
    }
    // Last, so that what it did not take has been told.
    if let Some(file) = &options.junit {
        std::fs::write(file, testing::to_junit("rednix test", reports))
            .map_err(|e| Failure::failed(format!("cannot write the results to `{}`: {e}", file.display())))?;
    }
    if failed == 0 {
        return Ok(());
    }
    let mut tails = String::new();
    for report in reports.iter().filter(|report| report.outcome == Outcome::Failed) {
        tails.push_str(&format!("{}: {}\n", report.name, report.message));
        if !report.console_tail.is_empty() {
            tails.push_str("  its console ended with:\n");
            report.console_tail.iter().for_each(|line| tails.push_str(&format!("  | {line}\n")));
        }
        if let Some(log) = &report.console_log {
            tails.push_str(&format!("  the whole console is in {}\n", log.display()));
        }
    }
    Err(Failure::failed(format!("{failed} of {} machine tests failed", reports.len())).details(tails))
}
