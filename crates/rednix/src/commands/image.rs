//! `rednix image`: a system's disk image, as a store path or copied to a file.

use std::path::{Path, PathBuf};

use rednix_events::Event;

use crate::cli::ImageArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::machines;
use crate::project::Project;
use crate::relock;
use crate::session::Session;

use super::{print, rebuild};

pub fn run(session: &Session, arguments: &ImageArgs) -> Result<(), Failure> {
    let project = Project::find(&session.config, &arguments.tree)?;
    if arguments.rebuild {
        return relock::building(session, project, arguments.tree.locked, |project| {
            let wanted = evaluation::wanted(session, &[Target::image(project, &arguments.system)])?;
            rebuild::run(session, &wanted, true, arguments.keep)
        });
    }
    let folder = build(session, project, &arguments.system, arguments.tree.locked)?;
    session.view.finish();
    match &arguments.output {
        None => print(&format!("{}\n", folder.display())),
        Some(file) => {
            copy_sparse(&folder.join("disk.img"), file).map_err(|e| {
                Failure::failed(format!("cannot write the image to `{}`: {e}", file.display()))
            })?;
            print(&format!("{}\n", file.display()))
        }
    }
}

/// Builds a system's image, keeps it from collection, and gives its folder on this machine.
pub fn build(session: &Session, project: Project, system: &str, locked: bool) -> Result<PathBuf, Failure> {
    build_to_start(session, project, system, locked, false).map(|(folder, _)| folder)
}

/// As [`build`]; where the machine starts directly, with the folder of the loaders, in the same evaluation: what
/// an evaluation read is checked once for both.
pub fn build_to_start(
    session: &Session,
    project: Project,
    system: &str,
    locked: bool,
    is_direct: bool,
) -> Result<(PathBuf, Option<PathBuf>), Failure> {
    let paths = relock::building(session, project, locked, |project| {
        let mut targets = vec![Target::image(project, system)];
        targets.extend(is_direct.then(|| machines::loader(project)));
        let wanted = evaluation::wanted(session, &targets)?;
        let paths = session.build(&wanted)?;
        session.remember(project, &wanted[..1])?;
        Ok(paths)
    })?;
    let store = session.store()?;
    store.add_root(&format!("system-{}", system.replace('/', "-")), &paths[0])?;
    let loaders = match paths.get(1) {
        Some(path) if is_direct => Some(machines::loaders(&store, path)?),
        _ => None,
    };
    let folder = store.real_path(&paths[0]);
    tell_warnings(session, &folder)?;
    Ok((folder, loaders))
}

/// What the image's builder had to say, also when the image was there already: it is about the image, not the build.
fn tell_warnings(session: &Session, folder: &Path) -> Result<(), Failure> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        #[serde(default)]
        warnings: Vec<String>,
    }
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(folder.join("manifest.json"))?)?;
    for message in manifest.warnings {
        session.events().emit(Event::Warning { message });
    }
    Ok(())
}

/// Copies without writing the holes: an image is mostly empty.
fn copy_sparse(from: &Path, to: &Path) -> std::io::Result<()> {
    use rustix::fs::{SeekFrom, seek};
    use std::io::{Read, Seek, Write};
    let mut source = std::fs::File::open(from)?;
    let mut target = std::fs::File::create(to)?;
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut at = 0;
    while at < size {
        let Ok(data) = seek(&source, SeekFrom::Data(at)) else { break };
        let hole = seek(&source, SeekFrom::Hole(data))?;
        source.seek(std::io::SeekFrom::Start(data))?;
        target.seek(std::io::SeekFrom::Start(data))?;
        std::io::copy(&mut (&mut source).take(hole - data), &mut target)?;
        at = hole;
    }
    target.flush()
}
