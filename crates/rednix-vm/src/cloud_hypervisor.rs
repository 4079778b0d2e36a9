//! Cloud Hypervisor as a runner: a direct start, or firmware of its own kind; modern virtio over PCI, a serial port, an
//! interface over a socket. It needs KVM.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use serde_json::json;

use crate::control::Control;
use crate::control::http::Interface;
use crate::control::rest::{self, CLOUD_HYPERVISOR};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::kvm_only;
use crate::layer::{Layer, LayerKind};
use crate::limits::SMOKE_TIMEOUT_KVM_ONLY;
use crate::runner::{Command, Config, Program, Reset, Runner, Wiring};
use crate::smoke;
use crate::spec::{Firmware, MachineSpec, Network};
use crate::state::{self, LAYER};

const PROGRAM: &str = "cloud-hypervisor";
const SOCKET: &str = "api.socket";

/// The C program that came with QEMU until 8.0 (Debian 12), with options of its own; elsewhere it is the Rust one.
const OLD_VIRTIOFSD: &str = "/usr/lib/qemu/virtiofsd";
const OLD_CANNOT: &str =
    "shares folders for writing only: install the virtiofsd of today, or share it writable";

/// Where its firmware is put, and under which names: builds of EDK II for it, and its own small firmware.
const FIRMWARE_FOLDERS: [&str; 6] = [
    "/usr/share/cloud-hypervisor",
    "/usr/local/share/cloud-hypervisor",
    "/usr/share/OVMF",
    "/usr/share/edk2/ovmf",
    "/usr/share/ovmf",
    "/usr/share/qemu",
];
const FIRMWARE_NAMES: [&str; 3] = ["CLOUDHV.fd", "CLOUDHV_EFI.fd", "hypervisor-fw"];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloudHypervisor;

impl Runner for CloudHypervisor {
    fn name(&self) -> &'static str {
        CLOUD_HYPERVISOR
    }

    fn find(&self, _: &MachineSpec, config: &Config) -> Result<Program> {
        config.find_program(PROGRAM).map(Program::at).ok_or_else(|| Error::Missing {
            what: format!("`{PROGRAM}`"),
            how: "put the static binary of its releases (github.com/cloud-hypervisor/cloud-hypervisor/releases) on \
                  PATH, or build it (`cargo build --release`); Nix `nix shell nixpkgs#cloud-hypervisor`; or run the \
                  machine with `--vmm microvm`"
                .into(),
        })
    }

    fn limitations(&self) -> &'static [&'static str] {
        &[
            "x86_64 only, by KVM only",
            "no display, USB or audio",
            "network by an interface that is there already",
            "no exit device: a guest ends by powering off, and one that resets is started again",
            "no debugger in its usual builds",
        ]
    }

    fn needs_terminal(&self) -> bool {
        true
    }

    fn needs_kvm(&self) -> bool {
        true
    }

    fn saves_state(&self) -> bool {
        true
    }

    fn reset(&self) -> Reset {
        Reset::Restarts
    }

    fn check(&self, spec: &MachineSpec) -> Result<()> {
        let bios =
            (spec.firmware == Firmware::Bios, "has no BIOS: use `direct`, or `uefi` with its own firmware");
        kvm_only::check(self, spec, &[&[bios][..], &kvm_only::modern(spec)].concat())?;
        let words = [
            ("its layer", spec.persist.as_deref().map(Path::as_os_str)),
            ("its saved state", spec.restore.as_deref().map(Path::as_os_str)),
            ("its network", spec.network.interface().map(OsStr::new)),
        ];
        kvm_only::check_words(self, spec, &[',', '"', '[', ']'], &words)?;
        if self.is_direct(spec) {
            spec.check_direct()?;
        }
        Ok(())
    }

    fn smoke_test(&self, program: &Program, config: &Config) -> Result<Result<(), String>> {
        let (_folder, guest) = smoke::folder(config, &smoke::pvh(kvm_only::ROUNDS, smoke::END_ANY))?;
        let mut command = Process::new(&program.path);
        command.args(["--cpus", "boot=1", "--memory", "size=64M", "--serial", "off", "--console", "off"]);
        command.arg("--kernel").arg(guest);
        smoke::run(program, config, command, 0, SMOKE_TIMEOUT_KVM_ONLY)
    }

    fn command(
        &self,
        program: &Program,
        spec: &MachineSpec,
        config: &Config,
        wiring: &Wiring<'_>,
    ) -> Result<Command> {
        let mut command = Command { program: program.path.clone(), ..Command::default() };
        // Names in the private folder, which is the working folder: whole paths of sockets may be too long.
        command.arguments.extend(["--api-socket".into(), format!("path={SOCKET}").into()]);
        match &spec.restore {
            Some(folder) => restore(&mut command, folder, wiring)?,
            None => describe(self.is_direct(spec), &mut command, spec, config, wiring)?,
        }
        command.arguments.extend(spec.extra_arguments.iter().map(OsString::from));
        Ok(command)
    }

    fn control(&self, _: &Program, scratch: &Path) -> Result<(Box<dyn Control>, Option<OwnedFd>)> {
        let interface = Interface::new(scratch.join(SOCKET));
        Ok((Box::new(rest::CloudHypervisor { interface, scratch: scratch.to_owned() }), None))
    }

    fn exit(&self, status: i32) -> Exit {
        kvm_only::exit(status)
    }
}

fn join(words: &str, path: &Path) -> OsString {
    let mut joined = OsString::from(words);
    joined.push(path);
    joined
}

fn describe(
    is_direct: bool,
    command: &mut Command,
    spec: &MachineSpec,
    config: &Config,
    wiring: &Wiring<'_>,
) -> Result<()> {
    let arguments = &mut command.arguments;
    // Shared folders are served from the guest's own memory.
    let shared = if spec.shares.is_empty() { "" } else { ",shared=on" };
    for word in [
        "--cpus",
        &format!("boot={}", spec.cpus),
        "--memory",
        &format!("size={}M{shared}", spec.memory_mib),
        "--serial",
        "tty",
        "--console",
        "off",
    ] {
        arguments.push(word.into());
    }
    if is_direct {
        arguments.extend(["--kernel".into(), spec.check_direct()?.into()]);
        arguments.extend(["--initramfs".into(), OsString::from(&spec.image)]);
    } else {
        arguments.extend(["--firmware".into(), firmware(config)?.into()]);
    }
    if CloudHypervisor.has_disk(spec) {
        // By a relative name, so that a saved state finds it in whichever folder it is restored.
        let (file, name) = match &spec.persist {
            Some(file) => (file.clone(), file.clone().into_os_string()),
            None => (wiring.scratch.join(LAYER), LAYER.into()),
        };
        let mut disk = OsString::from("path=");
        disk.push(name);
        disk.push(",image_type=qcow2,backing_files=on");
        arguments.extend(["--disk".into(), disk]);
        let (image, kept) = (spec.image.clone(), spec.persist.is_some());
        command.layers.push(Layer { kind: LayerKind::Qcow2, image, file, kept });
    }
    if let Network::Tap { interface, .. } = &spec.network {
        command.arguments.extend(["--net".into(), format!("tap={interface}").into()]);
    }
    shares(command, spec, config, wiring)
}

/// A server for each shared folder, and the device that speaks to it.
fn shares(command: &mut Command, spec: &MachineSpec, config: &Config, wiring: &Wiring<'_>) -> Result<()> {
    if spec.shares.is_empty() {
        return Ok(());
    }
    let server = virtiofsd(config)?;
    command.arguments.push("--fs".into());
    for (number, share) in spec.shares.iter().enumerate() {
        let socket = format!("share-{number}.socket");
        let mut helper = Command { program: server.clone(), ..Command::default() };
        helper.arguments.push(join("--socket-path=", Path::new(&socket)));
        if server == Path::new(OLD_VIRTIOFSD) {
            if share.read_only {
                return Err(
                    spec.refuse(format!("`{OLD_VIRTIOFSD}`, QEMU's own of before 2023, {OLD_CANNOT}"))
                );
            }
            for words in [join("source=", &share.folder), "cache=auto".into(), "sandbox=namespace".into()] {
                helper.arguments.extend(["-o".into(), words]);
            }
        } else {
            helper.arguments.extend([join("--shared-dir=", &share.folder), "--cache=auto".into()]);
            helper.arguments.push("--sandbox=namespace".into());
            if share.read_only {
                helper.arguments.push("--readonly".into());
            }
        }
        command.helpers.push((helper, wiring.scratch.join(&socket)));
        command.arguments.push(format!("tag={},socket={socket}", share.tag).into());
    }
    Ok(())
}

fn virtiofsd(config: &Config) -> Result<PathBuf> {
    const PLACES: [&str; 4] = [
        "/usr/libexec/virtiofsd",
        "/usr/lib/virtiofsd",
        OLD_VIRTIOFSD,
        "/run/current-system/sw/bin/virtiofsd",
    ];
    let elsewhere = || PLACES.iter().map(PathBuf::from).find(|path| path.is_file());
    config.find_program("virtiofsd").or_else(elsewhere).ok_or_else(|| Error::Missing {
        what: "`virtiofsd`, which serves shared folders,".into(),
        how:
            "install it: Debian 13, Ubuntu `apt-get install virtiofsd`; Fedora `dnf install virtiofsd`; Arch \
              `pacman -S virtiofsd`; Nix `nix shell nixpkgs#virtiofsd`"
                .into(),
    })
}

fn firmware(config: &Config) -> Result<PathBuf> {
    let named = config.firmware.as_ref().filter(|path| {
        path.file_name().is_some_and(|name| FIRMWARE_NAMES.iter().any(|known| name == *known))
    });
    let found = || {
        let all = FIRMWARE_FOLDERS
            .iter()
            .flat_map(|folder| FIRMWARE_NAMES.iter().map(|name| Path::new(folder).join(name)));
        all.into_iter().find(|path| path.is_file())
    };
    named.cloned().filter(|path| path.is_file()).or_else(found).ok_or_else(|| Error::Missing {
        what: "firmware for Cloud Hypervisor".into(),
        how: "put `CLOUDHV.fd` (github.com/cloud-hypervisor/edk2/releases) into /usr/share/cloud-hypervisor, or name it \
              as `firmware` in the configuration; or start without firmware: `--firmware direct`"
            .into(),
    })
}

fn restore(command: &mut Command, folder: &Path, wiring: &Wiring<'_>) -> Result<()> {
    if !state::look(folder, CLOUD_HYPERVISOR)? {
        return Err(Error::Missing {
            what: format!("a machine saved by Cloud Hypervisor in `{}`", folder.display()),
            how: "save one there first (Ctrl-A W)".into(),
        });
    }
    command.arguments.extend(["--restore".into(), join("source_url=file://", folder)]);
    let layer = folder.join(LAYER);
    if layer.is_file() {
        command.copies.push((layer, wiring.scratch.join(LAYER)));
    }
    command.requests.push(("PUT", "/api/v1/vm.resume".into(), json!(null)));
    Ok(())
}
