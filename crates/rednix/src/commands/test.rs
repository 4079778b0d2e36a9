//! `rednix test`: the machine tests of the library, one after another.

use rednix_events::Outcome;
use rednix_vm::{MachineSpec, TestSpec};
use serde_json::{Value, json};

use crate::cli::TestArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::machines;
use crate::project::Project;
use crate::session::Session;

use super::{image, print};

pub fn run(session: &Session, arguments: &TestArgs) -> Result<(), Failure> {
    let project = Project::find(&session.config, &arguments.tree)?;
    let checks = evaluation::json(session, &Target::attribute(&project, "checks"))?;
    let Value::Object(checks) = checks else {
        return Err(Failure::usage("`checks` of the library is no attribute set"));
    };
    if arguments.list {
        session.view.finish();
        return checks.keys().try_for_each(|name| print(&format!("{name}\n")));
    }
    if let Some(unknown) = arguments.names.iter().find(|name| !checks.contains_key(*name)) {
        let known: Vec<&str> = checks.keys().map(String::as_str).collect();
        return Err(Failure::usage(format!("no test is named `{unknown}`; there are: {}", known.join(", "))));
    }
    let chosen =
        checks.into_iter().filter(|(name, _)| arguments.names.is_empty() || arguments.names.contains(name));
    let config = machines::config(session)?;
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let mut tails = String::new();
    for (name, value) in chosen {
        let (vmm, mut spec) = specification(session, &project, arguments, &name, value)?;
        let runner = rednix_vm::by_name(&vmm)?;
        machines::add_loader(session, &project, runner.as_ref(), &mut spec.machine)?;
        let report = rednix_vm::run_test(runner.as_ref(), &spec, &config, session.events())?;
        match report.outcome {
            Outcome::Passed => passed += 1,
            Outcome::Skipped => skipped += 1,
            Outcome::Failed => {
                failed += 1;
                tails.push_str(&format!("the console of {name} ended with:\n"));
                report.console_tail.iter().for_each(|line| tails.push_str(&format!("  | {line}\n")));
                if let Some(log) = report.console_log {
                    tails.push_str(&format!("the whole console is in {}\n", log.display()));
                }
            }
        }
    }
    session.view.finish();
    print(&format!("{passed} passed, {failed} failed, {skipped} skipped\n"))?;
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::failed(format!("{failed} of {} machine tests failed", passed + failed + skipped))
        .details(tails))
}

/// The monitor's name and the test as the machine room takes it, its image built.
fn specification(
    session: &Session,
    project: &Project,
    arguments: &TestArgs,
    name: &str,
    mut value: Value,
) -> Result<(String, TestSpec), Failure> {
    let wrong = |reason: String| Failure::usage(format!("the test `{name}` is wrong: {reason}"));
    let fields = value.as_object_mut().ok_or_else(|| wrong("it is no attribute set".to_owned()))?;
    let Some(Value::String(system)) = fields.remove("system") else {
        return Err(wrong("it has no `system`".to_owned()));
    };
    let folder = image::build(session, project.clone(), &system, arguments.tree.locked)?;
    let machine = fields.entry("machine").or_insert_with(|| json!({}));
    let machine = machine.as_object_mut().ok_or_else(|| wrong("`machine` is no attribute set".to_owned()))?;
    let vmm = machines::take_vmm(machine).map_err(|_| wrong("`machine.vmm` is no name".to_owned()))?;
    machine.insert("name".to_owned(), json!(name));
    machine.insert("image".to_owned(), json!(folder.join("disk.img")));
    fields.insert("name".to_owned(), json!(name));
    let mut spec: TestSpec = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
    if let Some(word) = &arguments.accel {
        spec.machine = MachineSpec {
            acceleration: machines::word("--accel", word, "auto, kvm or tcg")?,
            ..spec.machine
        };
    }
    Ok((vmm, spec))
}
