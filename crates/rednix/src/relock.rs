//! What to do when a pinned Debian package is on no mirror any more: lock anew into an untracked file, say so,
//! and try once more. With `--locked` that is refused.

use rednix_events::Event;

use crate::commands::lock;
use crate::failure::Failure;
use crate::project::{LOCAL_DEBIAN_LOCK, Project};
use crate::session::Session;

/// Runs `work`; where it fails because a pin has rotted, once more with a fresh lock.
pub fn building<T>(
    session: &Session,
    mut project: Project,
    locked: bool,
    mut work: impl FnMut(&Project) -> Result<T, Failure>,
) -> Result<T, Failure> {
    session.use_work(&project);
    let failure = match work(&project) {
        Err(failure) if failure.rotten_pin => failure,
        other => return other,
    };
    if locked || session.global.offline {
        return Err(
            failure.hint("the pinned packages are gone; run `rednix lock debian`, or leave out `--locked`")
        );
    }
    session.events().emit(Event::Warning {
        message: format!("{}; locking the build root anew on this machine only", failure.message),
    });
    let output = local_lock(session, &project)?;
    lock::debian_into(session, &project.root.join("nix/debian.json"), &output)?;
    session.events().emit(Event::Notice {
        message: format!("using `{}`; delete it to go back to the pins of the checkout", output.display()),
    });
    project.debian_lock = output;
    work(&project)
}

/// Beside the tracked lock where that folder can be written to, else in the cache.
fn local_lock(session: &Session, project: &Project) -> Result<std::path::PathBuf, Failure> {
    let beside = project.root.join("nix").join(LOCAL_DEBIAN_LOCK);
    match tempfile::NamedTempFile::new_in(project.root.join("nix")) {
        Ok(_) => Ok(beside),
        Err(_) => Ok(session.cache_folder("")?.join(LOCAL_DEBIAN_LOCK)),
    }
}
