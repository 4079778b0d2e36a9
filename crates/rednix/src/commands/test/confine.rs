//! What a machine test of a flake may have of this machine, where the user has not said that it is trusted: files of the
//! store to read, which the flake's own tree is in, and nothing else. It knows nothing of tests that the user wrote.
//!
//! A monitor runs with all rights of the user, so what it is told decides what a guest, or the monitor itself, does here.

use std::path::{Path, PathBuf};

use rednix_vm::TestSpec;
use rednix_vm::spec::{Display, Network};
use rednix_vm::testing::{Action, TestMachine};

use crate::failure::Failure;

/// Refuses a test that wants more.
pub fn check(spec: &TestSpec, store: &Path) -> Result<(), Failure> {
    let refused = |what: String| {
        Err(Failure::usage(format!("the test `{}` of a flake: {what}", spec.name)).hint(
            "a flake's test gets files of the store to read, and nothing else of this machine; if you know this one, say `--trust-machines`",
        ))
    };
    let store = store.join("nix/store");
    let store = store.canonicalize().unwrap_or(store);
    for machine in &spec.machines {
        if let Some((attribute, reason)) = reach(machine, &store) {
            return refused(format!("machine `{}`: `{attribute}` {reason}", machine.name()));
        }
    }
    for (number, step) in spec.steps.iter().enumerate() {
        let named = match &step.action {
            Action::CopyIn { from, .. } => vec![("copyIn.from", Some(from))],
            Action::CopyOut { same, .. } => vec![("copyOut.same", same.as_ref())],
            Action::Screenshot(look) => {
                vec![
                    ("screenshot.reference", look.reference.as_ref()),
                    ("screenshot.font", look.font.as_ref()),
                ]
            }
            _ => Vec::new(),
        };
        for (attribute, file) in named {
            if let Some(reason) = file.and_then(|file| outside(file, &store)) {
                let machine = spec.machine_of(step).map_or("", |at| spec.machines[at].name());
                return refused(format!("step {}, machine `{machine}`: `{attribute}` {reason}", number + 1));
            }
        }
    }
    Ok(())
}

/// The first attribute that reaches further, and how.
fn reach(machine: &TestMachine, store: &Path) -> Option<(&'static str, String)> {
    let spec = &machine.machine;
    if !spec.extra_arguments.is_empty() {
        return Some(("extraArguments", "can have the monitor do anything".into()));
    }
    if let Some(interface) = spec.network.interface() {
        return Some(("network", format!("is the host's own `{interface}`")));
    }
    // Whoever is on this machine can connect there, and a port that is chosen may be waited for by somebody.
    if let Some(gdb) = spec.gdb {
        return Some(("gdb", format!("is port {} of this machine", gdb.port)));
    }
    if let Network::User { forwards, .. } = &spec.network
        && let Some(forward) = forwards.iter().find(|forward| forward.host != 0)
    {
        let port = forward.host;
        return Some((
            "network",
            format!("forwards port {port} of this machine (`host = 0` takes a free one)"),
        ));
    }
    match spec.display {
        Display::None | Display::Headless => {}
        Display::Vnc { port } => return Some(("display", format!("is port {port} of this machine"))),
        Display::Gtk | Display::Sdl => {
            return Some(("display", "is a window on this machine's screen".into()));
        }
    }
    // Such a word goes to the monitor as it is, and some of its outputs are files.
    if let Some(audio) = spec.audio.as_ref().filter(|audio| audio.output != "none") {
        return Some(("audio.output", format!("is the host's own `{}`", audio.output)));
    }
    if let Some(file) = &spec.persist {
        return Some(("persist", format!("is `{}`, which would be written", file.display())));
    }
    // A saved state can name files of its own.
    if let Some(folder) = &spec.restore {
        return Some(("restore", format!("is the saved state `{}`", folder.display())));
    }
    if let Some(share) = spec.shares.iter().find(|share| !share.read_only) {
        return Some(("shares", format!("has `{}`, which would be written", share.folder.display())));
    }
    let files: [(&'static str, Option<&PathBuf>); 2] =
        [("image", Some(&spec.image).filter(|_| !spec.is_planned())), ("loader", spec.loader.as_ref())];
    let shares = spec.shares.iter().map(|share| ("shares", Some(&share.folder)));
    files.into_iter().chain(shares).find_map(|(attribute, file)| Some((attribute, outside(file?, store)?)))
}

/// How a path leads out of the store, links followed.
fn outside(path: &Path, store: &Path) -> Option<String> {
    match path.canonicalize() {
        Ok(whole) if whole.starts_with(store) && whole != store => None,
        Ok(whole) if whole == path => Some(format!("is `{}`, outside the store", path.display())),
        Ok(whole) => {
            Some(format!("is `{}`, which leads to `{}`, outside the store", path.display(), whole.display()))
        }
        // What is not there now may be something else later.
        Err(error) => Some(format!("is `{}`, which cannot be looked at: {error}", path.display())),
    }
}

#[cfg(test)]
mod unit_tests {
    use serde_json::{Value, json};

    use super::*;

    /// A store with a tree and an image in it, and a folder of the user beside it.
    fn scene() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("nix/store/tree");
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::create_dir_all(folder.path().join("home")).unwrap();
        for file in ["nix/store/tree/disk.img", "nix/store/tree/file", "home/secret"] {
            std::fs::write(folder.path().join(file), "x").unwrap();
        }
        std::os::unix::fs::symlink(folder.path().join("home/secret"), tree.join("link")).unwrap();
        std::os::unix::fs::symlink("file", tree.join("inside")).unwrap();
        folder
    }

    fn message(folder: &Path, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let at = |path: &str| json!(folder.join(path));
        let mut machine = json!({ "image": at("nix/store/tree/disk.img"), "shell": "sh" });
        let mut step = json!({ "send": "x" });
        change(&mut machine, &mut step);
        let test = json!({ "name": "t", "machines": { "box": machine }, "steps": [step] });
        let spec: TestSpec = serde_json::from_value(test).unwrap();
        match check(&spec, folder) {
            Ok(()) => String::new(),
            Err(failure) => {
                assert!(failure.status == 2 && failure.hint.unwrap().contains("--trust-machines"));
                failure.message
            }
        }
    }

    #[test]
    fn what_reaches_this_machine_is_refused() {
        let folder = scene();
        let place = folder.path();
        let at = |path: &str| json!(place.join(path));
        let share =
            |path: &str, read_only: bool| json!([{ "folder": at(path), "tag": "t", "readOnly": read_only }]);
        let machines: Vec<(&str, Value, &str)> = vec![
            ("extraArguments", json!(["-D", "/x"]), "machine `box`: `extraArguments` can have"),
            (
                "network",
                json!({ "tap": { "interface": "tap0,script=/x" } }),
                "machine `box`: `network` is the host's",
            ),
            ("network", json!({ "bridge": { "name": "br0" } }), "`network` is the host's own `br0`"),
            (
                "network",
                json!({ "user": { "forwards": [{ "host": 8080, "guest": 80 }] } }),
                "`network` forwards port 8080 of this machine",
            ),
            ("network", json!({ "user": { "forwards": [{ "host": 0, "guest": 80 }] } }), ""),
            ("gdb", json!({ "port": 1234 }), "`gdb` is port 1234"),
            ("display", json!({ "vnc": { "port": 5900 } }), "`display` is port 5900"),
            ("display", json!("gtk"), "`display` is a window"),
            ("display", json!("headless"), ""),
            ("audio", json!({ "output": "wav,path=/x" }), "`audio.output` is the host's own"),
            ("persist", at("home/layer"), "`persist` is"),
            ("persist", at("nix/store/tree/layer"), "`persist` is"),
            ("restore", at("nix/store/tree"), "`restore` is"),
            ("shares", share("home", true), "`shares` is"),
            ("shares", share("nix/store/tree", false), "which would be written"),
            ("shares", share("nix/store", true), "outside the store"),
            ("shares", share("nix/store/tree", true), ""),
            ("image", at("home/secret"), "`image` is"),
            ("image", at("nix/store/tree/link"), "which leads to"),
            ("loader", at("home/secret"), "`loader` is"),
            ("loader", at("nix/store/tree/../../../home/secret"), "`loader` is"),
            ("loader", at("nix/store/tree/inside"), ""),
            ("network", json!({ "user": { "forwards": [] } }), ""),
        ];
        for (attribute, value, expected) in machines {
            let text = message(place, |machine, _| machine[attribute] = value.clone());
            assert_eq!(
                (text.is_empty(), text.contains(expected)),
                (expected.is_empty(), true),
                "{value}: {text}"
            );
        }
        let steps: Vec<(Value, &str)> = vec![
            (
                json!({ "copyIn": { "from": at("home/secret"), "to": "/x" } }),
                "step 1, machine `box`: `copyIn.from`",
            ),
            (json!({ "copyIn": { "from": at("nix/store/tree/link"), "to": "/x" } }), "which leads to"),
            (json!({ "copyIn": { "from": at("nix/store/tree/absent"), "to": "/x" } }), "cannot be looked at"),
            (json!({ "copyIn": { "from": at("nix/store/tree/file"), "to": "/x" } }), ""),
            (json!({ "copyOut": { "from": "/x", "same": at("home/secret") } }), "`copyOut.same`"),
            (
                json!({ "screenshot": { "name": "x", "reference": at("home/secret") } }),
                "`screenshot.reference`",
            ),
            (
                json!({ "screenshot": { "name": "x", "text": "x", "font": at("home/secret") } }),
                "`screenshot.font`",
            ),
        ];
        for (value, expected) in steps {
            let text = message(place, |_, step| *step = value.clone());
            assert_eq!(
                (text.is_empty(), text.contains(expected)),
                (expected.is_empty(), true),
                "{value}: {text}"
            );
        }
    }
}
