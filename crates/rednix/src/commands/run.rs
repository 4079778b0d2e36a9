//! `rednix run`: a system's image in a virtual machine whose serial console is this terminal.

use std::io::Write;
use std::path::PathBuf;

use rednix_vm::Keyboard;
use rednix_vm::state::check_saving;

use crate::cli::RunArgs;
use crate::failure::Failure;
use crate::machines;
use crate::project::Project;
use crate::session::Session;

use super::{attend, image, print};

pub fn run(session: &Session, arguments: &RunArgs) -> Result<u8, Failure> {
    let project = Project::find(&session.config, &arguments.tree)?;
    let wanted = machines::wanted(session, &project, &arguments.system)?;
    let (vmm, mut spec) = machines::specification(&arguments.system, wanted, PathBuf::new())?;
    machines::apply(&arguments.machine, &mut spec)?;
    let runner = rednix_vm::by_name(arguments.machine.vmm.as_deref().unwrap_or(&vmm))?;
    let save_folder = arguments.machine.snapshot.as_deref().map(machines::whole).transpose()?;
    if let Some(folder) = &save_folder {
        // A state that is there already goes on; else the folder is where one will be saved.
        if check_saving(runner.as_ref(), &spec, folder)? {
            spec.restore = Some(folder.clone());
        }
    }
    let config = machines::config(session)?;
    rednix_vm::check_plan(runner.as_ref(), &spec, &config)?;
    let is_direct = runner.is_direct(&spec) && spec.loader.is_none();
    let (folder, loaders) =
        image::build_to_start(session, project, &arguments.system, arguments.tree.locked, is_direct)?;
    spec.image = folder.join("disk.img");
    spec.loader = spec.loader.or_else(|| loaders.map(|folder| folder.join(runner.loader())));
    if arguments.dry_run {
        let command = rednix_vm::dry_run(runner.as_ref(), &spec, &config, session.events())?;
        session.view.finish();
        return print(&format!("{command}\n")).map(|()| 0);
    }
    // From here on the terminal belongs to the machine.
    session.view.finish();
    let keyboard = Keyboard { save_folder, screenshot_folder: std::env::current_dir()?, several: false };
    let exit = if arguments.push {
        attend::run(session, runner.as_ref(), &spec, &config, &keyboard)?
    } else {
        rednix_vm::run(runner.as_ref(), &spec, &config, session.events(), &keyboard)?
    };
    session.view.finish();
    if exit.code() != 0 {
        let _ = writeln!(std::io::stderr(), "{exit}");
    }
    Ok(u8::try_from(exit.code()).unwrap_or(1))
}
