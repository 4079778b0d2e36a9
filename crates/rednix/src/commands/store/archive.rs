//! `rednix store archive` and `restore`. What is archived is no part of the store until it is restored.

use rednix_store::nar;
use rednix_store::path::StorePath;
use rednix_store::store::{PathInfo, Store};

use super::arguments::ArchiveArgs;
use super::{Place, options};
use crate::commands::print;
use crate::failure::Failure;
use crate::session::Session;
use crate::view::size;

pub fn run(session: &Session, arguments: &ArchiveArgs) -> Result<(), Failure> {
    let store = if arguments.list { session.store_to_read()? } else { session.store()? };
    if arguments.list {
        for (path, bytes) in store.archived_paths()? {
            print(&format!("{path}  {}\n", size(bytes)))?;
        }
        tell_sizes(&store)?;
        return Ok(());
    }
    if !arguments.forget.is_empty() {
        let places = arguments.forget.iter().map(|text| Ok(Place::find(&store, text)?.path));
        let paths: Vec<StorePath> = places.collect::<Result<_, Failure>>()?;
        for path in &paths {
            if store.archived(path)?.is_none() {
                return Err(not_archived(path));
            }
        }
        let count = store.forget_archived(&paths)?;
        eprintln!("deleted {count} paths from the archive");
        tell_sizes(&store)?;
        return Ok(());
    }
    let report = store.archive_unneeded(&options(&arguments.unneeded))?;
    session.view.finish();
    for path in &report.paths {
        print(&format!("{path}\n"))?;
    }
    if arguments.unneeded.dry_run {
        eprintln!("would archive {} store paths, {}", report.paths.len(), size(report.nar_bytes));
        return Ok(());
    }
    eprintln!(
        "archived {} store paths, {} as archives, in {} ({:.1} s); {} freed in the store",
        report.paths.len(),
        size(report.nar_bytes),
        size(report.stored_bytes),
        report.duration_ms as f64 / 1e3,
        size(report.freed_bytes)
    );
    tell_sizes(&store)
}

fn tell_sizes(store: &Store) -> Result<(), Failure> {
    let sizes = store.archive_sizes()?;
    eprintln!(
        "the archive has {} paths, {} as archives, in {}",
        sizes.paths,
        size(sizes.nar_bytes),
        size(sizes.stored_bytes)
    );
    Ok(())
}

/// Either store paths that are archived, or one place to unpack standard input to.
pub fn restore(session: &Session, what: &[String]) -> Result<(), Failure> {
    let store = session.store()?;
    let paths: Vec<Option<StorePath>> =
        what.iter().map(|text| Place::find(&store, text).ok().map(|place| place.path)).collect();
    if let [destination] = what
        && paths[0].is_none()
    {
        return unpack(destination);
    }
    for (text, path) in what.iter().zip(paths) {
        let path = path.ok_or_else(|| Failure::usage(format!("`{text}` is no store path")))?;
        store.restore_archived([&path])?;
        if !store.is_valid(&path)? {
            if let Some(archived) = store.archived(&path)? {
                return Err(incomplete(&store, &archived.info));
            }
            return Err(not_archived(&path));
        }
        print(&format!("{path}\n"))?;
    }
    Ok(store.flush_if_needed()?)
}

fn unpack(destination: &str) -> Result<(), Failure> {
    let failed = |reason: String| {
        Failure::failed(format!("cannot unpack standard input to `{destination}`: {reason}"))
    };
    if std::fs::symlink_metadata(destination).is_ok() {
        return Err(failed("something is there".to_owned()).hint("name a place where nothing is yet"));
    }
    match nar::restore(&mut std::io::BufReader::new(std::io::stdin().lock()), destination) {
        Err(error @ rednix_store::Error::BadNar { .. }) => {
            Err(failed(error.to_string()).hint("`rednix store dump PATH` writes what it takes"))
        }
        other => {
            other?;
            Ok(())
        }
    }
}

fn not_archived(path: &StorePath) -> Failure {
    Failure::failed(format!("`{path}` is not in the archive"))
        .hint("`rednix store archive --list` says what is")
}

/// What is archived refers to something that was deleted since and not archived.
fn incomplete(store: &Store, info: &PathInfo) -> Failure {
    let is_gone = |path: &&StorePath| {
        !store.is_valid(path).unwrap_or(false) && !matches!(store.archived(path), Ok(Some(_)))
    };
    let gone =
        info.references.iter().find(is_gone).map_or("something".to_owned(), |path| format!("`{path}`"));
    Failure::failed(format!("`{}` is archived, but {gone} that it needs was deleted", info.path))
        .hint("build it again; `rednix store archive --forget` deletes what is of no use any more")
}
