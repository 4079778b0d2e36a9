//! Firecracker as a runner: a direct start by a configuration file; memory-mapped virtio, a serial port, an interface
//! over a socket. It needs KVM, and reads nothing but raw disks.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command as Process;

use serde_json::{Value, json};

use crate::control::Control;
use crate::control::http::Interface;
use crate::control::rest::{self, FIRECRACKER, FIRECRACKER_MEMORY, FIRECRACKER_STATE};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::kvm_only;
use crate::layer::{Layer, LayerKind};
use crate::limits::SMOKE_TIMEOUT_KVM_ONLY;
use crate::runner::{Command, Config, Program, Reset, Runner, Wiring};
use crate::smoke;
use crate::spec::{Disk, Firmware, MachineSpec, Network};
use crate::state::{self, LAYER};

const PROGRAM: &str = "firecracker";
const SOCKET: &str = "api.socket";
const CONFIGURATION: &str = "machine.json";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Firecracker;

impl Runner for Firecracker {
    fn name(&self) -> &'static str {
        FIRECRACKER
    }

    fn find(&self, _: &MachineSpec, config: &Config) -> Result<Program> {
        config.find_program(PROGRAM).map(Program::at).ok_or_else(|| Error::Missing {
            what: format!("`{PROGRAM}`"),
            how: "put the static binary of its releases (github.com/firecracker-microvm/firecracker/releases) on PATH \
                  under that name, or build it (`cargo build --release`); Arch `pacman -S firecracker`; Nix `nix shell \
                  nixpkgs#firecracker`; or run the machine with `--vmm microvm`"
                .into(),
        })
    }

    fn limitations(&self) -> &'static [&'static str] {
        &[
            "x86_64 only, by KVM only",
            "no firmware: direct start only",
            "raw disks only: a machine with a disk gets a copy that shares blocks where the file system can",
            "no display, USB, audio or shared folders",
            "network by an interface that is there already",
            "no power-off and no exit device: a guest ends by a reset",
        ]
    }

    fn is_direct(&self, _: &MachineSpec) -> bool {
        true
    }

    fn needs_kvm(&self) -> bool {
        true
    }

    fn saves_state(&self) -> bool {
        true
    }

    fn reset(&self) -> Reset {
        Reset::EndsAsOff
    }

    fn has_reset_button(&self) -> bool {
        false
    }

    fn check(&self, spec: &MachineSpec) -> Result<()> {
        let own = [
            (spec.firmware == Firmware::Bios, "has no firmware: use `direct`"),
            (!spec.shares.is_empty(), "shares no folders; use `qemu` or `cloud-hypervisor`"),
            (spec.cpus > 32, "has at most 32 processors"),
        ];
        kvm_only::check(self, spec, &[&own[..], &kvm_only::modern(spec)].concat())?;
        spec.check_direct().map(drop)
    }

    fn smoke_test(&self, program: &Program, config: &Config) -> Result<Result<(), String>> {
        let (folder, guest) = smoke::folder(config, &smoke::pvh(kvm_only::ROUNDS, smoke::END_ANY))?;
        let file = folder.path().join(CONFIGURATION);
        let machine = json!({
            "boot-source": { "kernel_image_path": guest },
            "drives": [],
            "machine-config": { "vcpu_count": 1, "mem_size_mib": 64 },
        });
        std::fs::write(&file, machine.to_string()).map_err(Error::io("write", &file))?;
        let mut command = Process::new(&program.path);
        command.args(["--no-api", "--config-file"]).arg(&file);
        smoke::run(program, config, command, 0, SMOKE_TIMEOUT_KVM_ONLY)
    }

    fn command(
        &self,
        program: &Program,
        spec: &MachineSpec,
        _: &Config,
        wiring: &Wiring<'_>,
    ) -> Result<Command> {
        let mut command = Command { program: program.path.clone(), ..Command::default() };
        command.arguments.extend(["--api-sock".into(), SOCKET.into()]);
        // Its words would else come among the guest's.
        for word in ["--level", "Error", "--log-path", "/dev/stderr"] {
            command.arguments.push(word.into());
        }
        match &spec.restore {
            Some(folder) => restore(&mut command, folder, wiring)?,
            None => {
                let machine = describe(&mut command, spec, wiring)?;
                let text = serde_json::to_vec_pretty(&machine).unwrap_or_default();
                command.files.push((wiring.scratch.join(CONFIGURATION), text));
                command.arguments.extend(["--config-file".into(), CONFIGURATION.into()]);
            }
        }
        command.arguments.extend(spec.extra_arguments.iter().map(OsString::from));
        Ok(command)
    }

    fn control(&self, _: &Program, scratch: &Path) -> Result<(Box<dyn Control>, Option<OwnedFd>)> {
        let interface = Interface::new(scratch.join(SOCKET));
        Ok((Box::new(rest::Firecracker { interface, scratch: scratch.to_owned() }), None))
    }

    fn exit(&self, status: i32) -> Exit {
        kvm_only::exit(status)
    }
}

/// The configuration file.
fn describe(command: &mut Command, spec: &MachineSpec, wiring: &Wiring<'_>) -> Result<Value> {
    let mut drives = Vec::new();
    if spec.disk == Some(Disk::VirtioModern) {
        let file = spec.persist.clone().unwrap_or_else(|| wiring.scratch.join(LAYER));
        // By a relative name, so that a saved state finds it in whichever folder it is restored.
        let path = spec.persist.clone().unwrap_or_else(|| LAYER.into());
        drives.push(json!({
            "drive_id": "disk0",
            "path_on_host": path,
            "is_root_device": false,
            "is_read_only": false,
        }));
        let (image, kept) = (spec.image.clone(), spec.persist.is_some());
        command.layers.push(Layer { kind: LayerKind::Copy, image, file, kept });
    }
    let mut machine = json!({
        "boot-source": { "kernel_image_path": spec.check_direct()?, "initrd_path": spec.image },
        "drives": drives,
        "machine-config": { "vcpu_count": spec.cpus, "mem_size_mib": spec.memory_mib },
    });
    if let Network::Tap { interface, .. } = &spec.network {
        machine["network-interfaces"] = json!([{ "iface_id": "net0", "host_dev_name": interface }]);
    }
    Ok(machine)
}

fn restore(command: &mut Command, folder: &Path, wiring: &Wiring<'_>) -> Result<()> {
    let (state, memory) = (folder.join(FIRECRACKER_STATE), folder.join(FIRECRACKER_MEMORY));
    if !state::look(folder, FIRECRACKER)? {
        return Err(Error::Missing {
            what: format!("a machine saved by Firecracker in `{}`", folder.display()),
            how: "save one there first (Ctrl-A W)".into(),
        });
    }
    let layer = folder.join(LAYER);
    if layer.is_file() {
        let file = wiring.scratch.join(LAYER);
        command.layers.push(Layer { kind: LayerKind::Copy, image: layer, file, kept: false });
    }
    let body = json!({
        "snapshot_path": state,
        "mem_backend": { "backend_type": "File", "backend_path": memory },
        "resume_vm": true,
    });
    command.requests.push(("PUT", "/snapshot/load".into(), body));
    Ok(())
}
