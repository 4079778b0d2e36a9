//! `rednix log`: what a build printed.

use std::io::Read;

use rednix_store::path::StorePath;

use crate::cli::LogArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::project::Project;
use crate::session::Session;

use super::print;

pub fn run(session: &Session, arguments: &LogArgs) -> Result<(), Failure> {
    let store = session.store_to_read()?;
    let mut derivations = Vec::new();
    if let Some(path) = store.store_path_of(std::path::Path::new(&arguments.of)) {
        if path.is_derivation() {
            derivations.push(path);
        } else {
            derivations.extend(store.path_info(&path)?.and_then(|info| info.deriver));
            derivations.extend(store.valid_derivers(&path)?);
        }
    } else {
        let project = Project::find(&session.config, &arguments.tree)?;
        let wanted = evaluation::wanted(session, &[Target::installable(&project, &arguments.of)])?;
        derivations.extend(wanted.into_iter().map(|w| w.derivation));
    }
    let log = match derivations.iter().map(|d| store.log_path(d)).find(|file| file.exists()) {
        Some(file) => Some(read(&file)?),
        // Whoever built it may have kept it.
        None => {
            let caches = session.substitute()?;
            derivations
                .iter()
                .find_map(|d| caches.log(d))
                .map(|log| String::from_utf8_lossy(&log).into_owned())
        }
    };
    session.view.finish();
    match log {
        Some(log) => print(&for_people(&log)),
        None => {
            Err(Failure::failed(format!("there is no log of `{}`{}", arguments.of, because(&derivations)))
                .hint("it was built elsewhere, or not yet; `rednix build` makes one"))
        }
    }
}

/// The log without the lines by which builders talk to the program.
fn for_people(log: &str) -> String {
    log.split_inclusive('\n').filter(|line| !line.starts_with("@nix {")).collect()
}

fn because(derivations: &[StorePath]) -> String {
    if derivations.is_empty() { ": no derivation is known for it".to_owned() } else { String::new() }
}

fn read(file: &std::path::Path) -> Result<String, Failure> {
    let failed =
        |e: std::io::Error| Failure::failed(format!("cannot read the log `{}`: {e}", file.display()));
    let mut bytes = Vec::new();
    zstd::stream::read::Decoder::new(std::fs::File::open(file).map_err(failed)?)
        .and_then(|mut decoder| decoder.read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn messages_for_the_program_are_left_out() {
        let log = "one\n@nix {\"action\":\"setPhase\",\"phase\":\"build\"}\n@nix is a word\nlast";
        assert_eq!(super::for_people(log), "one\n@nix is a word\nlast");
    }
}
