//! `rednix lock`: pins what floats. Renewing pins is `update`, which shares everything here.

mod cargo;
pub mod format;
mod import;
pub mod run;
mod source;
mod toolchain;
mod tools;
pub mod tree;

use std::path::Path;

use rednix_events::Event;
use rednix_fetch::{LockSpec, lock_debian};

use crate::cli::LockArgs;
use crate::failure::Failure;
use crate::project::Project;
use crate::session::Session;

pub use run::{Outcome, Renew, Request};

pub fn run(session: &mut Session, arguments: &LockArgs) -> Result<(), Failure> {
    refuse_offline(session)?;
    if arguments.names == ["debian"] {
        let project = Project::find(&session.config, &arguments.tree)?;
        let input = project.root.join("nix/debian.json");
        let output = arguments.output.clone().unwrap_or_else(|| project.root.join("nix/debian.lock.json"));
        debian_into(session, &input, &output)?;
        session.view.finish();
        return super::print(&format!("{}\n", output.display()));
    }
    let request = Request {
        names: &arguments.names,
        tree: &arguments.tree,
        output: arguments.output.as_deref(),
        date: arguments.date.as_deref(),
        renew: Renew::Nothing,
        toolchain: arguments.toolchain.as_deref(),
    };
    let outcome = run::run(session, &request)?;
    session.view.finish();
    super::print(&format!("{}\n", outcome.file.display()))
}

pub fn refuse_offline(session: &Session) -> Result<(), Failure> {
    if session.global.offline {
        return Err(Failure::usage("locking asks servers what they have, so it cannot work offline"));
    }
    Ok(())
}

/// Resolves the roots of `input` and writes the lock to `output`.
pub fn debian_into(session: &Session, input: &Path, output: &Path) -> Result<(), Failure> {
    let failed = |what: &str, path: &Path, e: &dyn std::fmt::Display| {
        Failure::usage(format!("cannot {what} `{}`: {e}", path.display()))
    };
    let text = std::fs::read_to_string(input).map_err(|e| failed("read", input, &e))?;
    let spec: LockSpec = serde_json::from_str(&text).map_err(|e| failed("understand", input, &e))?;
    session.events().emit(Event::Step { what: "resolving the build root's packages".to_owned() });
    let lock = lock_debian(&spec, &session.config.fetch(false), session.events())?;
    write_whole(output, &lock.to_json()).map_err(|e| failed("write", output, &e))?;
    for (name, packages) in &lock.roots {
        let bytes: u64 = packages.iter().map(|p| lock.packages[p].size).sum();
        let message = format!("root {name}: {} packages, {:.0} MB", packages.len(), bytes as f64 / 1e6);
        session.events().emit(Event::Notice { message });
    }
    Ok(())
}

/// A file is there whole or as it was before.
pub fn write_whole(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut scratch = tempfile::NamedTempFile::new_in(folder)?;
    scratch.write_all(text.as_bytes())?;
    use std::os::unix::fs::PermissionsExt;
    scratch.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    scratch.persist(file).map_err(|e| e.error).map(drop)
}
