//! `rednix run`: a system's image in a virtual machine whose serial console is this terminal.

use crate::cli::{MachineArgs, RunArgs};
use crate::failure::Failure;
use crate::machines;
use crate::project::Project;
use crate::session::Session;

use super::{attend, image, print};

pub fn run(session: &Session, arguments: &RunArgs) -> Result<u8, Failure> {
    let project = Project::find(&session.config, &arguments.tree)?;
    let wanted = machines::wanted(session, &project, &arguments.system)?;
    let folder = image::build(session, project.clone(), &arguments.system, arguments.tree.locked)?;
    let (vmm, mut spec) = machines::specification(&arguments.system, wanted, folder.join("disk.img"))?;
    apply(&arguments.machine, &mut spec)?;
    let config = machines::config(session)?;
    let runner = rednix_vm::by_name(arguments.machine.vmm.as_deref().unwrap_or(&vmm))?;
    machines::add_loader(session, &project, runner.as_ref(), &mut spec)?;
    if arguments.dry_run {
        let command = rednix_vm::dry_run(runner.as_ref(), &spec, &config, session.events())?;
        session.view.finish();
        return print(&format!("{command}\n")).map(|()| 0);
    }
    // From here on the terminal belongs to the machine.
    session.view.finish();
    let exit = if arguments.push {
        attend::run(session, runner.as_ref(), &spec, &config)?
    } else {
        rednix_vm::run(runner.as_ref(), &spec, &config, session.events())?
    };
    session.view.finish();
    if exit.code() != 0 {
        eprintln!("{exit}");
    }
    Ok(u8::try_from(exit.code()).unwrap_or(1))
}

/// Overwrites what the command line names.
pub fn apply(arguments: &MachineArgs, spec: &mut rednix_vm::MachineSpec) -> Result<(), Failure> {
    if let Some(memory) = arguments.memory {
        spec.memory_mib = memory;
    }
    if let Some(cpus) = arguments.cpus {
        spec.cpus = cpus;
    }
    if let Some(word) = &arguments.accel {
        spec.acceleration = machines::word("--accel", word, "auto, kvm or tcg")?;
    }
    if let Some(word) = &arguments.disk {
        spec.disk =
            Some(machines::word("--disk", word, "none, virtio, virtioModern, nvme, ahci, ide or usb")?);
    }
    if let Some(word) = &arguments.firmware {
        spec.firmware = machines::word("--firmware", word, "uefi, bios or direct")?;
    }
    Ok(())
}
