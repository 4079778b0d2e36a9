//! kvmtool (`lkvm`) as a runner: a direct start of what looks like a Linux kernel, virtio over PCI, a serial port. It
//! needs KVM.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use crate::control::{Control, Request, cannot};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::kvm_only;
use crate::layer::{Layer, LayerKind};
use crate::limits::{CONTROL_TIMEOUT, SMOKE_TIMEOUT_KVM_ONLY};
use crate::process::{self, Waited};
use crate::runner::{Command, Config, Program, Reset, Runner, Stop, Wiring};
use crate::smoke;
use crate::spec::{Card, Disk, Firmware, MachineSpec, Network};

/// The program has both names.
const PROGRAMS: [&str; 2] = ["lkvm", "kvmtool"];
/// The machine's name for the program's own socket, which lies in the private folder.
const NAME: &str = "machine";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kvmtool;

impl Runner for Kvmtool {
    fn name(&self) -> &'static str {
        "kvmtool"
    }

    fn find(&self, _: &MachineSpec, config: &Config) -> Result<Program> {
        let found = PROGRAMS.iter().find_map(|name| config.find_program(name));
        found.map(Program::at).ok_or_else(|| Error::Missing {
            what: "`lkvm` (kvmtool)".into(),
            how: "build it (`make` in git.kernel.org/pub/scm/linux/kernel/git/will/kvmtool.git) and put `lkvm` on \
                  PATH; Fedora `dnf install kvmtool`; Nix `nix shell nixpkgs#kvmtool`; or run the machine with `--vmm \
                  microvm`"
                .into(),
        })
    }

    fn limitations(&self) -> &'static [&'static str] {
        &[
            "x86_64 only, by KVM only",
            "no firmware: direct start only, as a Linux kernel",
            "no display, USB or audio",
            "no ACPI, no power-off and no exit device: a guest ends by a reset",
            "saves no state",
        ]
    }

    fn is_direct(&self, _: &MachineSpec) -> bool {
        true
    }

    fn loader(&self) -> &'static str {
        "loader.linux"
    }

    fn needs_terminal(&self) -> bool {
        true
    }

    fn needs_kvm(&self) -> bool {
        true
    }

    fn reset(&self) -> Reset {
        Reset::EndsAsOff
    }

    fn has_reset_button(&self) -> bool {
        false
    }

    fn has_power_button(&self) -> bool {
        false
    }

    fn check(&self, spec: &MachineSpec) -> Result<()> {
        let own = [
            (spec.firmware == Firmware::Bios, "has no firmware: use `direct`"),
            (
                !matches!(spec.disk, None | Some(Disk::None | Disk::Virtio | Disk::VirtioModern)),
                "has virtio disks only: `virtio` or `virtioModern`",
            ),
            (
                matches!(&spec.network, Network::User { forwards, .. } if !forwards.is_empty()),
                "forwards no ports; use `qemu`",
            ),
            (matches!(spec.network, Network::Bridge { .. }), "joins no bridge by itself: use `tap`"),
            (
                !matches!(spec.network.card(), None | Some(Card::Virtio | Card::VirtioModern)),
                "has virtio cards only: `virtio` or `virtioModern`",
            ),
            (spec.shares.iter().any(|share| share.read_only), "shares folders for writing only"),
            (spec.restore.is_some(), "restores no state; use `cloud-hypervisor` or `firecracker`"),
            (
                spec.disk == Some(Disk::Virtio) && spec.network.card() == Some(Card::VirtioModern)
                    || spec.disk == Some(Disk::VirtioModern) && spec.network.card() == Some(Card::Virtio),
                "has one kind of virtio for all: give disk and card the same",
            ),
        ];
        kvm_only::check(self, spec, &own)?;
        let disk = self.has_disk(spec).then_some(spec.persist.as_deref().unwrap_or(&spec.image));
        let mut words = vec![
            ("its disk", disk.map(Path::as_os_str)),
            ("its network", spec.network.interface().map(OsStr::new)),
        ];
        words.extend(spec.shares.iter().map(|share| ("a shared folder", Some(share.folder.as_os_str()))));
        kvm_only::check_words(self, spec, &[','], &words)?;
        spec.check_direct().map(drop)
    }

    fn smoke_test(&self, program: &Program, config: &Config) -> Result<Result<(), String>> {
        // What is no Linux kernel is put at this address and started in real mode.
        let (folder, guest) =
            smoke::folder(config, &smoke::real_mode(0x1_0000, kvm_only::ROUNDS, smoke::END_ANY))?;
        let mut command = Process::new(&program.path);
        command.env("HOME", folder.path()).args(["run", "--name", NAME, "--cpus", "1", "--mem", "64M"]);
        command.args(["--console", "serial", "--network", "mode=none", "--kernel"]).arg(guest);
        smoke::run(program, config, command, 0, SMOKE_TIMEOUT_KVM_ONLY)
    }

    fn command(
        &self,
        program: &Program,
        spec: &MachineSpec,
        _: &Config,
        wiring: &Wiring<'_>,
    ) -> Result<Command> {
        let mut command = Command {
            program: program.path.clone(),
            // Where its socket is.
            environment: vec![("HOME".into(), wiring.scratch.into())],
            ..Command::default()
        };
        let arguments = &mut command.arguments;
        for word in ["run", "--name", NAME, "--cpus", &spec.cpus.to_string()] {
            arguments.push(word.into());
        }
        arguments.extend(["--mem".into(), format!("{}M", spec.memory_mib).into()]);
        arguments.extend(["--console".into(), "serial".into()]);
        let legacy = spec.disk == Some(Disk::Virtio) || spec.network.card() == Some(Card::Virtio);
        let transport = if legacy { "pci-legacy" } else { "pci" };
        arguments.extend(["--virtio-transport".into(), transport.into()]);
        arguments.extend(["--kernel".into(), spec.check_direct()?.into()]);
        arguments.extend(["--initrd".into(), OsString::from(&spec.image)]);
        disk(&mut command, spec);
        let network = match &spec.network {
            Network::User { .. } => "mode=user".into(),
            Network::Tap { interface, .. } => format!("mode=tap,tapif={interface}"),
            Network::None | Network::Bridge { .. } => "mode=none".into(),
        };
        command.arguments.extend(["--network".into(), network.into()]);
        for share in &spec.shares {
            let mut words = share.folder.clone().into_os_string();
            words.push(format!(",{}", share.tag));
            command.arguments.extend(["--9p".into(), words]);
        }
        command.arguments.extend(spec.extra_arguments.iter().map(OsString::from));
        Ok(command)
    }

    fn control(&self, program: &Program, scratch: &Path) -> Result<(Box<dyn Control>, Option<OwnedFd>)> {
        Ok((Box::new(OwnProgram { program: program.path.clone(), scratch: scratch.to_owned() }), None))
    }

    fn exit(&self, status: i32) -> Exit {
        kvm_only::exit(status)
    }
}

fn disk(command: &mut Command, spec: &MachineSpec) {
    if !matches!(spec.disk, Some(Disk::Virtio | Disk::VirtioModern)) {
        return;
    }
    // What is opened for reading only is mapped privately: the guest's writes are there until it ends.
    let words = match &spec.persist {
        None => {
            let mut words = OsString::from(&spec.image);
            words.push(",ro");
            words
        }
        Some(file) => {
            let (image, file) = (spec.image.clone(), file.clone());
            command.layers.push(Layer { kind: LayerKind::Copy, image, file: file.clone(), kept: true });
            file.into()
        }
    };
    command.arguments.extend(["--disk".into(), words]);
}

/// Its own program speaks to the machine.
struct OwnProgram {
    program: PathBuf,
    scratch: PathBuf,
}

impl Control for OwnProgram {
    fn has_machine(&self) -> bool {
        false
    }

    fn end_reason(&self) -> Option<String> {
        None
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<()> {
        let word = match request {
            Request::Quit => "stop",
            Request::Pause => "pause",
            Request::Resume => "resume",
            _ => return Err(cannot("kvmtool", request)),
        };
        let wrong = |reason: String| Error::Control(format!("`lkvm {word}`: {reason}"));
        let mut command = Process::new(&self.program);
        command.env("HOME", &self.scratch).args([word, "--name", NAME]);
        match process::output(&mut command, CONTROL_TIMEOUT, &Stop::default()) {
            Ok((Waited::Ended(0), _)) => Ok(()),
            Ok((Waited::Ended(status), _)) => Err(wrong(format!("status {status}"))),
            Ok(_) => Err(wrong("no answer".into())),
            Err(error) => Err(wrong(error.to_string())),
        }
    }
}
