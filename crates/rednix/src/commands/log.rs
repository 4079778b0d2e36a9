//! `rednix log`: what a build printed.

use std::io::{BufRead, BufReader, Read};

use rednix_store::path::StorePath;

use crate::cli::LogArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::project::Project;
use crate::session::Session;

use super::print;

/// Of a line that is longer, so much is told at once.
const PIECE_BYTES_MAX: u64 = 64 << 10;

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
        Some(file) => Some(open(&file)?),
        // Whoever built it may have kept it.
        None => {
            let caches = session.substitute()?;
            derivations.iter().find_map(|d| caches.log(d))
        }
    };
    session.view.finish();
    match log {
        Some(log) => for_people(&mut BufReader::new(log), &mut |text| print(text)),
        None => {
            Err(Failure::failed(format!("there is no log of `{}`{}", arguments.of, because(&derivations)))
                .hint("it was built elsewhere, or not yet; `rednix build` makes one"))
        }
    }
}

/// Tells the log without the lines by which builders talk to the program, as it comes: it may be long.
fn for_people(
    log: &mut impl BufRead,
    tell: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut piece, mut is_start, mut is_shown) = (Vec::new(), true, true);
    loop {
        piece.clear();
        // A line may be as long as the log.
        let read = log.take(PIECE_BYTES_MAX).read_until(b'\n', &mut piece);
        read.map_err(|e| Failure::failed(format!("the log breaks off: {e}")))?;
        if piece.is_empty() {
            return Ok(());
        }
        if is_start {
            is_shown = !piece.starts_with(b"@nix {");
        }
        is_start = piece.ends_with(b"\n");
        if is_shown {
            tell(&String::from_utf8_lossy(&piece))?;
        }
    }
}

fn because(derivations: &[StorePath]) -> String {
    if derivations.is_empty() { ": no derivation is known for it".to_owned() } else { String::new() }
}

fn open(file: &std::path::Path) -> Result<Box<dyn Read + Send>, Failure> {
    let failed =
        |e: std::io::Error| Failure::failed(format!("cannot read the log `{}`: {e}", file.display()));
    let opened = std::fs::File::open(file).and_then(zstd::stream::read::Decoder::new);
    Ok(Box::new(opened.map_err(failed)?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn messages_for_the_program_are_left_out() {
        let long = "x".repeat(super::PIECE_BYTES_MAX as usize + 10);
        let log = format!(
            "one\n@nix {{\"action\":\"setPhase\"}}\n@nix is a word\n@nix {{{long}\n{long}@nix {{\nlast"
        );
        let mut told = String::new();
        super::for_people(&mut log.as_bytes(), &mut |text| {
            told.push_str(text);
            Ok(())
        })
        .unwrap();
        assert_eq!(told, format!("one\n@nix is a word\n{long}@nix {{\nlast"));
    }
}
