//! A machine test as data: JSON with camelCase names. It runs nothing.
//!
//! ```text
//! { "name": "probe", "machine": { "name": "probe", "image": "…/disk.img" }, "failOn": ["panicked"],
//!   "steps": [ { "waitFor": "probe>", "timeout": 90 },
//!              { "run": "check", "output": { "regex": "[0-9]+ files" } },
//!              { "send": "poweroff\n" }, { "expectExit": 0 } ] }
//! ```
//!
//! With `machines`, names to machines, in place of `machine` there are several; steps then say which by `on`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::pattern::Pattern;
use super::shell::Shell;
use super::step::Step;
use crate::console::is_plain;
use crate::limits::{STEPS_MAX, TEST_MACHINES_MAX, TEST_TIMEOUT_MAX_S};
use crate::spec::MachineSpec;

/// The monitor whose machines can be on a test's network.
const PRIVATE_NETWORK_VMM: &str = "qemu";

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub struct TestSpec {
    pub name: String,
    /// At least one; in the order of their numbers on the private network.
    pub machines: Vec<TestMachine>,
    pub steps: Vec<Step>,
    /// Text that fails the test whenever it appears on a console.
    pub fail_on: Vec<Pattern>,
    /// For the whole test, in seconds.
    pub timeout: Option<u64>,
    /// Keeps what went over the private network.
    pub capture: bool,
}

/// One machine of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestMachine {
    /// The monitor's name.
    pub vmm: String,
    /// What reads lines at its console.
    pub shell: Shell,
    /// It runs from the beginning; otherwise a step starts it.
    pub start: bool,
    /// It has a card on the test's private network.
    pub private_network: bool,
    pub machine: MachineSpec,
}

impl TestMachine {
    pub fn name(&self) -> &str {
        &self.machine.name
    }

    /// Reads a machine named `name`. `several`: there are others, which it can reach where nothing else is said.
    pub fn read(name: &str, value: Value, several: bool) -> Result<TestMachine, String> {
        let wrong = |reason: String| format!("machine `{name}`: {reason}");
        let Value::Object(mut fields) = value else { return Err(wrong("it is no attribute set".into())) };
        let start = flag(&mut fields, "start", true).map_err(wrong)?;
        let vmm = match fields.remove("vmm") {
            None => "qemu".to_owned(),
            Some(Value::String(vmm)) => vmm,
            Some(_) => return Err(wrong("`vmm` is no name".into())),
        };
        let has_own = fields.contains_key("network");
        // Of the monitors only this one takes a socket for a card.
        let can = vmm == PRIVATE_NETWORK_VMM;
        let private_network =
            flag(&mut fields, "privateNetwork", several && can && !has_own).map_err(wrong)?;
        if private_network && !can {
            return Err(wrong(format!("`privateNetwork` needs the monitor `{PRIVATE_NETWORK_VMM}`")));
        }
        if private_network && has_own {
            return Err(wrong("it has either `network` or `privateNetwork`: Redox uses one card".into()));
        }
        let shell = match fields.remove("shell") {
            None => Shell::default(),
            Some(value) => {
                serde_json::from_value(value).map_err(|_| wrong("`shell` is one of ion, sh, probe".into()))?
            }
        };
        fields.entry("name").or_insert_with(|| Value::String(name.to_owned()));
        let machine: MachineSpec =
            serde_json::from_value(Value::Object(fields)).map_err(|error| wrong(error.to_string()))?;
        Ok(TestMachine { vmm, shell, start, private_network, machine })
    }
}

fn flag(fields: &mut Map<String, Value>, key: &str, default: bool) -> Result<bool, String> {
    match fields.remove(key) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(value)) => Ok(value),
        Some(_) => Err(format!("`{key}` is true or false")),
    }
}

impl TryFrom<Value> for TestSpec {
    type Error = String;

    fn try_from(value: Value) -> Result<TestSpec, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Fields {
            name: String,
            machine: Option<Value>,
            machines: Option<Map<String, Value>>,
            steps: Vec<Value>,
            #[serde(default)]
            fail_on: Vec<Pattern>,
            timeout: Option<u64>,
            #[serde(default)]
            capture: bool,
        }
        let fields: Fields = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let machines = match (fields.machine, fields.machines) {
            (Some(machine), None) => {
                let name = machine["name"].as_str().unwrap_or(&fields.name).to_owned();
                vec![TestMachine::read(&name, machine, false)?]
            }
            (None, Some(machines)) => {
                let several = machines.len() > 1;
                let read = |(name, value): (String, Value)| TestMachine::read(&name, value, several);
                machines.into_iter().map(read).collect::<Result<_, _>>()?
            }
            _ => return Err("a test has either `machine` or `machines`".into()),
        };
        let mut steps = Vec::new();
        for (index, value) in fields.steps.into_iter().enumerate() {
            let at = value["position"].as_str().map_or(String::new(), |at| format!(" at {at}"));
            steps.push(Step::read(value).map_err(|error| format!("step {}{at}: {error}", index + 1))?);
        }
        let spec = TestSpec {
            name: fields.name,
            machines,
            steps,
            fail_on: fields.fail_on,
            timeout: fields.timeout,
            capture: fields.capture,
        };
        spec.check()?;
        Ok(spec)
    }
}

impl TestSpec {
    /// Refuses what cannot be run, before anything starts.
    fn check(&self) -> Result<(), String> {
        let is_good = |one: char| one != '/' && is_plain(one) && !one.is_control();
        let is_name = |name: &str| !name.is_empty() && name.chars().all(is_good) && !name.starts_with('.');
        if !is_name(&self.name) {
            return Err("the name is no file name".into());
        }
        if self.timeout.is_some_and(|seconds| seconds == 0 || seconds > TEST_TIMEOUT_MAX_S) {
            return Err(format!("`timeout` is 1 to {TEST_TIMEOUT_MAX_S} seconds"));
        }
        if self.machines.is_empty() || self.machines.len() > TEST_MACHINES_MAX {
            return Err(format!("there must be 1 to {TEST_MACHINES_MAX} machines"));
        }
        if let Some(bad) = self.machines.iter().find(|machine| !is_name(machine.name())) {
            return Err(format!("{:?} is no name for a machine", bad.name()));
        }
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            return Err(format!("there must be 1 to {STEPS_MAX} steps"));
        }
        for (index, step) in self.steps.iter().enumerate() {
            let compiled = step.action.pattern().map(Pattern::compile).transpose().map(|_| ());
            let result = compiled.and_then(|()| self.machine_of(step).map(|_| ()));
            result.map_err(|message| format!("{}: {message}", place(index, step)))?;
        }
        for pattern in &self.fail_on {
            pattern.compile().map(drop).map_err(|message| format!("`failOn`: {message}"))?;
        }
        Ok(())
    }

    /// The number of the machine that a step is about.
    pub fn machine_of(&self, step: &Step) -> Result<usize, String> {
        let names = || self.machines.iter().map(TestMachine::name).collect::<Vec<_>>().join(", ");
        match &step.on {
            None if self.machines.len() == 1 => Ok(0),
            None => Err(format!("it has to say which machine it is about: `on` is one of {}", names())),
            Some(name) => (self.machines.iter().position(|machine| machine.name() == name))
                .ok_or_else(|| format!("there is no machine `{name}`; there are: {}", names())),
        }
    }

    /// Whether files are copied to this machine or from it, other than at a console that takes none.
    pub fn copies(&self, machine: usize) -> bool {
        let copying =
            |step: &Step| step.action.copies() && self.machine_of(step).is_ok_and(|number| number == machine);
        self.machines[machine].shell != Shell::Probe && self.steps.iter().any(copying)
    }

    /// Whether this machine's disk has to outlive one process of its monitor.
    pub fn keeps_disk(&self, machine: usize) -> bool {
        let on_it = |step: &&Step| self.machine_of(step).is_ok_and(|number| number == machine);
        let keeping = self.steps.iter().filter(on_it).filter(|step| step.action.keeps_disk());
        // The first start of a machine that waits for it is no reason.
        keeping.count() > usize::from(!self.machines[machine].start)
    }
}

/// A step's number, and where it was written.
pub fn place(index: usize, step: &Step) -> String {
    let at = step.position.as_ref().map_or(String::new(), |at| format!(" at {at}"));
    format!("step {}{at}", index + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<TestSpec, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn one_machine_needs_no_name_and_has_no_network() {
        let test =
            read(json!({ "name": "t", "machine": { "image": "/i", "vmm": "microvm", "shell": "probe" },
            "steps": [{ "waitFor": "x" }] }))
            .unwrap();
        let machine = &test.machines[0];
        assert_eq!((machine.name(), machine.vmm.as_str(), machine.shell), ("t", "microvm", Shell::Probe));
        assert!(!machine.private_network && machine.start && !test.keeps_disk(0));
    }

    #[test]
    fn several_machines_reach_each_other() {
        let test = read(json!({ "name": "t", "machines": {
            "a": { "image": "/i" }, "b": { "image": "/i", "network": "none" }, "c": { "image": "/i", "start": false } },
            "steps": [{ "on": "b", "waitFor": "x" }, { "on": "c", "start": true }, { "on": "a", "powerCut": true }] }))
        .unwrap();
        let private: Vec<bool> = test.machines.iter().map(|machine| machine.private_network).collect();
        assert_eq!(private, [true, false, true]);
        assert_eq!(test.machine_of(&test.steps[0]), Ok(1));
        assert_eq!([0, 1, 2].map(|number| test.keeps_disk(number)), [true, false, false]);
    }

    #[test]
    fn wrong_tests_say_where() {
        let one = |steps: Value| json!({ "name": "t", "machine": { "image": "/i" }, "steps": steps });
        let cases = [
            (one(json!([])), "1 to"),
            (
                json!({ "name": "t", "machine": { "image": "/i" }, "steps": [{ "send": "x" }], "timeout": 0 }),
                "`timeout` is 1 to",
            ),
            (
                json!({ "name": "t", "machine": { "image": "/i" }, "steps": [{ "send": "x" }], "timeout": i64::MAX }),
                "`timeout` is 1 to",
            ),
            (
                json!({ "name": "t\u{1b}[2J", "machine": { "image": "/i" }, "steps": [{ "send": "x" }] }),
                "no file name",
            ),
            (
                json!({ "name": "t", "machines": { "a\u{202e}": { "image": "/i" } }, "steps": [{ "send": "x" }] }),
                "is no name for a machine",
            ),
            (one(json!([{ "expect": "x" }, { "expect": "" }])), "step 2: an empty text"),
            (
                one(json!([{ "expect": { "regex": "(" }, "position": "t.nix:7" }])),
                "step 1 at t.nix:7: the regular expression",
            ),
            (one(json!([{ "sned": "x", "position": "t.nix:9" }])), "step 1 at t.nix:9: unknown field `sned`"),
            (one(json!([{ "on": "b", "send": "x" }])), "no machine `b`; there are: t"),
            (json!({ "name": "t", "steps": [] }), "either `machine` or `machines`"),
            (
                json!({ "name": "../x", "machine": { "image": "/i" }, "steps": [{ "send": "x" }] }),
                "no file name",
            ),
            (
                json!({ "name": "t", "machines": { "a": { "image": "/i" }, "b": { "image": "/i" } }, "steps": [{ "send": "x" }] }),
                "step 1: it has to say which machine",
            ),
            (
                json!({ "name": "t", "machine": { "image": "/i", "memroy": 1 }, "steps": [{ "send": "x" }] }),
                "machine `t`: unknown field `memroy`",
            ),
            (
                json!({ "name": "t", "machine": { "image": "/i", "shell": "fish" }, "steps": [{ "send": "x" }] }),
                "one of ion, sh, probe",
            ),
            (
                json!({ "name": "t", "machine": { "image": "/i", "vmm": "microvm", "privateNetwork": true }, "steps": [{ "send": "x" }] }),
                "needs the monitor `qemu`",
            ),
        ];
        for (value, expected) in cases {
            let message = read(value).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}
