//! What to do about QEMU's own words when it started no machine. It knows the commonest ones.

use crate::spec::{Display, MachineSpec};

pub fn hint(spec: &MachineSpec, said: &str) -> Option<String> {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if let Some(audio) = &spec.audio {
        let output = &audio.output;
        if said.lines().any(|line| line.contains("-audiodev") || line.contains("nknown audio driver")) {
            return Some(format!(
                "this QEMU has no sound output `{output}`; `qemu-system-x86_64 -audiodev help` lists those it has, and \
                 `--audio hda` without an output is silent"
            ));
        }
        if said.contains("Could not init") && said.contains("audio driver") {
            return Some(format!(
                "the sound output `{output}` does not work here: is its server running, for this user? `--audio hda` \
                 without an output is silent"
            ));
        }
    }
    let window = match spec.display {
        Display::Gtk => Some("gtk"),
        Display::Sdl => Some("sdl"),
        _ => None,
    };
    if let Some(kind) = window {
        if has(&["gtk initialization failed", "Could not initialize SDL", "cannot open display"]) {
            return Some(
                "there is no display to open a window on (neither DISPLAY nor WAYLAND_DISPLAY leads to one): \
                 `--graphics=vnc` shows the screen over the network, `--graphics=headless` keeps it for screenshots"
                    .into(),
            );
        }
        if has(&["is not available", "does not accept value"]) {
            return Some(format!(
                "this QEMU opens no windows of the kind `{kind}` (Debian has them in qemu-system-gui): use another one, or \
                 `--graphics=vnc`"
            ));
        }
    }
    has(&["Address already in use", "Could not set up host forwarding rule"]).then(|| {
        "a port of the host that the machine wants was taken meanwhile: start it again, or choose another one \
         (`--forward`, `--graphics=vnc=PORT`, `--gdb=PORT`)"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Audio, Forward, Network};

    #[test]
    fn words_of_qemu_lead_to_a_way_out() {
        let spec = MachineSpec::new("x", "x".into());
        let sound = MachineSpec {
            audio: Some(Audio { card: Default::default(), output: "foo".into() }),
            ..spec.clone()
        };
        let window = |display| MachineSpec { display, ..spec.clone() };
        let forwards = vec![Forward { host: 1, guest: 2 }];
        let net = MachineSpec { network: Network::User { forwards, card: None }, ..spec.clone() };
        let cases = [
            (
                &sound,
                "qemu: -audiodev foo,id=x: Parameter 'driver' does not accept value 'foo'",
                "output `foo`",
            ),
            (&sound, "audio: Could not init `foo' audio driver", "server running"),
            (&window(Display::Gtk), "gtk initialization failed", "--graphics=vnc"),
            (
                &window(Display::Sdl),
                "Could not initialize SDL(x11 not available) - exiting",
                "--graphics=headless",
            ),
            (&window(Display::Gtk), "Display 'gtk' is not available, please recompile", "kind `gtk`"),
            (&net, "Could not set up host forwarding rule 'tcp:127.0.0.1:1-:2'", "--forward"),
            (&spec, "Failed to find an available port: Address already in use", "--gdb=PORT"),
        ];
        for (spec, said, expected) in cases {
            let hint = hint(spec, said).unwrap_or_default();
            assert!(hint.contains(expected), "{said:?}: {hint:?} has no {expected:?}");
        }
        assert_eq!(hint(&sound, "qemu: no such device"), None);
    }
}
