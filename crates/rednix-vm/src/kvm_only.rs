//! What is the same for the monitors that run by KVM only and have nothing but virtio, a serial port and a way to ask
//! them: what they refuse, how their smoke test is tuned, what their exit status means.

use crate::ability;
use crate::error::Result;
use crate::exit::{Exit, ExitKind};
use crate::runner::Runner;
use crate::spec::{Architecture, Card, Disk, Display, MachineSpec, Network};

/// Of the smoke test: enough to see that kernel mode runs; whether it runs fast decides nothing where there is no other
/// way.
pub(crate) const ROUNDS: u32 = 1000;

/// Something a machine may ask for: whether it does, and why that is refused.
pub(crate) type Refusal = (bool, &'static str);

/// Refuses the first thing the machine asks for that none of these monitors has, or that is in `own`.
pub(crate) fn check(runner: &dyn Runner, spec: &MachineSpec, own: &[Refusal]) -> Result<()> {
    ability::check(runner, spec)?;
    let common = [
        (spec.architecture != Architecture::X86_64, "runs x86_64 machines only"),
        (spec.display != Display::None, "has no display; use `qemu`"),
        (spec.usb == Some(true) || spec.audio.is_some(), "has neither USB nor audio; use `qemu`"),
        (spec.gdb.is_some(), "has no debugger in its usual builds; use `qemu`"),
    ];
    match common.iter().chain(own).find(|(is_asked, _)| *is_asked) {
        Some((_, reason)) => Err(spec.refuse(format!("{} {reason}", runner.name()))),
        None => Ok(()),
    }
}

/// Of monitors that know the modern kind of virtio alone, join an interface that is there, and save disks with states.
pub(crate) fn modern(spec: &MachineSpec) -> [Refusal; 4] {
    [
        (
            !matches!(spec.disk, None | Some(Disk::None | Disk::VirtioModern)),
            "has only one kind of disk: `virtioModern`",
        ),
        (
            matches!(spec.network, Network::User { .. } | Network::Bridge { .. }),
            "makes no network of its own: make an interface (`ip tuntap add`), and use `tap`",
        ),
        (
            !matches!(spec.network.card(), None | Some(Card::VirtioModern)),
            "has only one kind of card: `virtioModern`",
        ),
        (
            spec.restore.is_some() && spec.persist.is_some(),
            "takes a restored machine's disk from its state: `persist` cannot be given with `restore`",
        ),
    ]
}

/// Words that take part of a list of options, in which these characters separate or group.
pub(crate) fn check_words(
    runner: &dyn Runner,
    spec: &MachineSpec,
    special: &[char],
    words: &[(&str, Option<&std::ffi::OsStr>)],
) -> Result<()> {
    let bad = words.iter().find_map(|(what, word)| {
        let word = word.as_ref()?.to_string_lossy();
        word.contains(special).then_some((what, word))
    });
    match bad {
        Some((what, word)) => Err(spec.refuse(format!(
            "{} takes no name with {} for {what}, which is `{word}`: give it another one, or use `qemu`",
            runner.name(),
            special.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ")
        ))),
        None => Ok(()),
    }
}

/// A guest that powers off, or resets where that is the only end, makes them exit with 0.
pub(crate) fn exit(status: i32) -> Exit {
    match status {
        ..0 => Exit { kind: ExitKind::Killed(-status), status: 128 - status },
        0 => Exit { kind: ExitKind::PoweredOff, status },
        _ => Exit { kind: ExitKind::Failed, status },
    }
}
