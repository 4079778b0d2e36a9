//! What a machine, and the steps of a test, need of their monitor: what it cannot do is refused by name before anything
//! starts. Whether the host has what is needed is no matter here.

use crate::error::Result;
use crate::runner::{Reset, Runner};
use crate::spec::{Display, MachineSpec, Network};
use crate::testing::shell::{Question, Shell, Token};
use crate::testing::{Action, TestMachine};

/// Of every monitor: wishes that would come to nothing without a word.
pub(crate) fn check(runner: &dyn Runner, spec: &MachineSpec) -> Result<()> {
    spec.check()?;
    let name = runner.name();
    if spec.persist.is_some() && !runner.has_disk(spec) {
        let why = if runner.is_direct(spec) {
            format!(
                "its image is in memory, as {name} starts it. Give it a disk too (`virtioModern`), or start it by firmware"
            )
        } else {
            "give it one".to_owned()
        };
        return Err(spec.refuse(format!(
            "`persist` keeps what is written to the disk, and this machine has none: {why}"
        )));
    }
    match (runner.reset(), spec.restart) {
        (Reset::EndsAsOff, Some(true)) => Err(spec.refuse(format!(
            "{name} ends when the guest resets: leave `restart` out, or use `qemu` or `cloud-hypervisor`"
        ))),
        (Reset::Restarts, Some(false)) => Err(spec.refuse(format!(
            "{name} starts a guest again that resets: leave `restart` out, or use another monitor"
        ))),
        _ => Ok(()),
    }
}

/// Why no run of this step could do what it says; words.
pub(crate) fn check_step(
    runner: &dyn Runner,
    machine: &TestMachine,
    action: &Action,
) -> std::result::Result<(), String> {
    let (spec, name) = (&machine.machine, runner.name());
    match action {
        Action::Run(run) | Action::RunUntil(run) => {
            Question::new(machine.shell, Token::new(0, 0), &run.command).map(drop)
        }
        Action::WaitForPort(port) => match &spec.network {
            Network::User { forwards, .. } if forwards.iter().any(|forward| forward.guest == *port) => Ok(()),
            _ => Err(format!(
                "nothing leads to port {port}: give the machine `network.user.forwards = [ {{ host = 0; guest = {port}; }} ]`"
            )),
        },
        Action::CopyIn { .. } | Action::CopyOut { .. } if machine.shell == Shell::Probe => {
            Err("the probe's console copies no files; `run` its `sum` or `cat`".into())
        }
        Action::CopyIn { from, .. } if !from.is_file() => {
            Err(format!("there is no file `{}`", from.display()))
        }
        Action::CopyOut { same: Some(same), .. } if !same.is_file() => {
            Err(format!("there is no file `{}` to compare with", same.display()))
        }
        Action::Screenshot(wanted) => {
            if spec.display == Display::None {
                return Err("the machine has no screen: give it `display = \"headless\"`".into());
            }
            let files = [&wanted.reference, &wanted.font].into_iter().flatten();
            match files.into_iter().find(|file| !file.is_file()) {
                Some(file) => Err(format!("there is no file `{}`", file.display())),
                None => Ok(()),
            }
        }
        Action::Press(_) | Action::Type(_) if !runner.has_keyboard(spec) => Err(format!(
            "a machine of {name} like this one has no keyboard: `send` types at its console; on boards of other \
             architectures `usb = true` gives it one"
        )),
        Action::Type(text) => text.chars().try_for_each(|one| crate::testing::keyboard::keys(one).map(drop)),
        Action::Reboot(_) if spec.restart == Some(true) => {
            Err("with `restart = true` its monitor does not end when it resets: leave `restart` out".into())
        }
        Action::Reboot(None) if !runner.has_reset_button() => Err(format!(
            "{name} has no reset button: give the command that resets it in the guest, `reboot = \"…\"`"
        )),
        Action::Reboot(Some(_)) if runner.reset() == Reset::Restarts => Err(format!(
            "{name} does not tell when a guest resets itself: `reboot = true`, or `send` the command and wait for text"
        )),
        Action::Shutdown(None) if !runner.has_power_button() => Err(format!(
            "{name} has no power button: give the command that ends it in the guest, `shutdown = \"…\"`"
        )),
        Action::ExpectExit(status) if *status != 0 && !runner.has_exit_device(spec) => Err(format!(
            "no guest of this machine ends {name} with status {status}: there is no exit device, only 0"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod unit_tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::runner::{NAMES, by_name};
    use crate::testing::Step;

    fn machine(folder: &std::path::Path, vmm: &str, change: &Value) -> TestMachine {
        let mut value = json!({
            "vmm": vmm, "shell": "sh", "firmware": if vmm == "qemu" { "bios" } else { "direct" },
            "image": folder.join("disk.img"), "loader": folder.join("disk.img"),
        });
        for (key, field) in change.as_object().unwrap() {
            value[key] = field.clone();
        }
        TestMachine::read("box", value, false).unwrap()
    }

    fn scene() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("disk.img"), "x").unwrap();
        folder
    }

    /// The monitors that refuse such a machine, and that each says why, by its name.
    #[track_caller]
    fn refused(change: Value, by: &[&str], reason: &str) {
        let folder = scene();
        for name in NAMES {
            let machine = machine(folder.path(), name, &change);
            let result = by_name(name).unwrap().check(&machine.machine);
            let text = result.map_or_else(|error| error.to_string(), |()| String::new());
            assert_eq!(!text.is_empty(), by.contains(&name), "{name}: {text:?}");
            assert!(
                text.is_empty() || (text.contains(reason) && text.contains("machine `box`")),
                "{name}: {text}"
            );
        }
    }

    #[test]
    fn wishes_that_would_come_to_nothing_are_refused() {
        let without_disk = ["microvm", "cloud-hypervisor", "firecracker", "kvmtool"];
        refused(json!({ "persist": "/layer" }), &without_disk, "this machine has none");
        refused(json!({ "persist": "/layer", "disk": "none" }), &NAMES, "this machine has none");
        refused(json!({ "persist": "/layer", "disk": "virtioModern" }), &[], "");
        refused(json!({ "restart": true }), &["firecracker", "kvmtool"], "ends when the guest resets");
        refused(json!({ "restart": false }), &["cloud-hypervisor"], "starts a guest again");
        let share = json!({ "shares": [{ "folder": "/tmp", "tag": "t" }] });
        refused(share, &["microvm", "firecracker"], "shares no folders");
    }

    #[test]
    fn steps_that_no_run_could_do_are_refused() {
        let folder = scene();
        let file = folder.path().join("disk.img");
        let kvm_only = ["cloud-hypervisor", "firecracker", "kvmtool"];
        let no_keyboard = ["microvm", "cloud-hypervisor", "firecracker", "kvmtool"];
        let cases: [(Value, Value, &[&str], &str); 20] = [
            (json!({ "run": "a\nb" }), json!({}), &NAMES, "one line"),
            (json!({ "waitForPort": 22 }), json!({}), &NAMES, "nothing leads to port 22"),
            (
                json!({ "waitForPort": 22 }),
                json!({ "network": { "user": { "forwards": [{ "host": 0, "guest": 22 }] } } }),
                &[],
                "",
            ),
            (
                json!({ "copyIn": { "from": file, "to": "/x" } }),
                json!({ "shell": "probe" }),
                &NAMES,
                "copies no files",
            ),
            (json!({ "copyIn": { "from": "/no/such", "to": "/x" } }), json!({}), &NAMES, "there is no file"),
            (
                json!({ "copyOut": { "from": "/x", "same": "/no/such" } }),
                json!({}),
                &NAMES,
                "to compare with",
            ),
            (json!({ "copyIn": { "from": file, "to": "/x" } }), json!({}), &[], ""),
            (json!({ "screenshot": "x" }), json!({}), &NAMES, "headless"),
            (json!({ "screenshot": "x" }), json!({ "display": "headless" }), &[], ""),
            (
                json!({ "screenshot": { "name": "x", "font": "/no/such" } }),
                json!({ "display": "headless" }),
                &NAMES,
                "there is no file",
            ),
            (json!({ "press": ["a"] }), json!({}), &no_keyboard, "no keyboard"),
            (json!({ "type": "a" }), json!({}), &no_keyboard, "no keyboard"),
            (json!({ "type": "é" }), json!({}), &NAMES, ""),
            (json!({ "reboot": true }), json!({}), &["firecracker", "kvmtool"], "no reset button"),
            (json!({ "reboot": "reboot" }), json!({}), &["cloud-hypervisor"], "does not tell"),
            (json!({ "reboot": true }), json!({ "restart": true }), &NAMES, "`restart`"),
            (json!({ "shutdown": true }), json!({}), &["kvmtool"], "no power button"),
            (json!({ "expectExit": 51 }), json!({}), &kvm_only, "no exit device"),
            (json!({ "expectExit": 51 }), json!({ "exitDevice": false }), &NAMES, "no exit device"),
            (json!({ "expectExit": 0 }), json!({}), &[], ""),
        ];
        for (step, change, by, reason) in cases {
            let step = Step::read(step).unwrap();
            for name in NAMES {
                let machine = machine(folder.path(), name, &change);
                let result = check_step(by_name(name).unwrap().as_ref(), &machine, &step.action);
                let text = result.err().unwrap_or_default();
                assert_eq!(!text.is_empty(), by.contains(&name), "{name}: {}: {text:?}", step.action);
                assert!(text.is_empty() || text.contains(reason), "{name}: {}: {text:?}", step.action);
            }
        }
    }
}
