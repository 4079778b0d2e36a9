//! `rednix store`: the store itself, path by path. Evaluates nothing; builds only to repair.

mod archive;
pub mod arguments;
mod look;
mod verify;

pub use verify::check;

use std::path::{Path, PathBuf};

use rednix_store::hash::HashAlgorithm;
use rednix_store::path::{ContentMethod, StorePath};
use rednix_store::store::{GcOptions, RootKind, Source, Store};

use self::arguments::{AddArgs, StoreCommand, UnneededArgs};
use super::print;
use crate::failure::Failure;
use crate::session::Session;
use crate::view::size;

pub fn run(session: &Session, command: &StoreCommand) -> Result<(), Failure> {
    match command {
        StoreCommand::Add(arguments) => add(session, arguments),
        StoreCommand::Cat { path } => look::cat(session, path),
        StoreCommand::Ls(arguments) => look::ls(session, arguments),
        StoreCommand::Dump { path } => look::dump(session, path),
        StoreCommand::Restore { what } => archive::restore(session, what),
        StoreCommand::PathInfo(arguments) => look::path_info(session, arguments),
        StoreCommand::Verify(arguments) => verify::run(session, arguments),
        StoreCommand::Optimise => optimise(session),
        StoreCommand::Archive(arguments) => archive::run(session, arguments),
        StoreCommand::Roots => roots(session),
        StoreCommand::Diff(arguments) => super::diff::run(session, arguments),
    }
}

/// A place in the store: a path and what follows it.
struct Place {
    path: StorePath,
    inside: PathBuf,
}

impl Place {
    /// Understands store paths, real paths, and links to either.
    fn find(store: &Store, text: &str) -> Result<Place, Failure> {
        let written = Path::new(text);
        let found =
            Place::of(store, written).or_else(|| Place::of(store, &std::fs::canonicalize(written).ok()?));
        found.ok_or_else(|| {
            Failure::usage(format!("`{text}` is neither a store path nor a link to one"))
                .hint(format!("the store is at `{}`", store.root().display()))
        })
    }

    fn of(store: &Store, path: &Path) -> Option<Place> {
        let found = store.store_path_of(path)?;
        let parts: Vec<_> = path.components().collect();
        let top = parts.iter().position(|part| part.as_os_str() == found.basename())?;
        Some(Place { path: found, inside: parts[top + 1..].iter().collect() })
    }

    /// The same, where the path must be valid.
    fn valid(store: &Store, text: &str) -> Result<Place, Failure> {
        let place = Place::find(store, text)?;
        if store.is_valid(&place.path)? {
            return Ok(place);
        }
        let failure = Failure::failed(format!("`{}` is not in the store", place.path));
        Err(match store.archived(&place.path)? {
            Some(_) => {
                failure.hint(format!("it is archived: `rednix store restore {}` brings it back", place.path))
            }
            None => failure.hint("it may have been collected; build or add it again"),
        })
    }

    /// Relative to the folder of contents.
    fn relative(&self) -> PathBuf {
        Path::new(self.path.basename()).join(&self.inside)
    }
}

/// What collecting or archiving is to take.
pub fn options(arguments: &UnneededArgs) -> GcOptions {
    let now_s = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    let before = |age_s: u64| now_s.saturating_sub(i64::try_from(age_s).unwrap_or(i64::MAX));
    GcOptions {
        keep_derivations: arguments.keep_derivations,
        dry_run: arguments.dry_run,
        registered_before_s: arguments.older_than.map(before),
        ..GcOptions::default()
    }
}

fn add(session: &Session, arguments: &AddArgs) -> Result<(), Failure> {
    let store = session.store()?;
    if let Some(link) = &arguments.out_link {
        can_hold_a_link(link)?;
    }
    let mut last = None;
    for file in &arguments.files {
        if let Err(error) = std::fs::symlink_metadata(file) {
            return Err(Failure::failed(format!("cannot add `{}`: {error}", file.display()))
                .hint("name a file or a folder that can be read"));
        }
        let absolute = std::path::absolute(file)?;
        let own = absolute.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = arguments.name.clone().or(own).ok_or_else(|| {
            Failure::usage(format!("`{}` has no name of its own", file.display()))
                .hint("give one with `--name`")
        })?;
        let method = if arguments.flat { ContentMethod::Flat } else { ContentMethod::Recursive };
        let source =
            Source { name: &name, method, algorithm: HashAlgorithm::Sha256, accept: None, expected: None };
        let added = store.add_from_path(&absolute, source)?.path;
        print(&format!("{added}\n"))?;
        last = Some(added);
    }
    if let (Some(link), Some(path)) = (&arguments.out_link, &last) {
        store.add_indirect_root(link, path)?;
    }
    Ok(store.flush_if_needed()?)
}

/// Said before anything is copied.
fn can_hold_a_link(link: &Path) -> Result<(), Failure> {
    let folder = match link.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if folder.is_dir() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "cannot create the link `{}`: there is no folder `{}`",
        link.display(),
        folder.display()
    ))
    .hint("make the folder, or name another link with `--out-link`"))
}

fn optimise(session: &Session) -> Result<(), Failure> {
    let report = session.store()?.optimise()?;
    session.view.finish();
    eprintln!(
        "linked {} of {} files not linked before; {} freed",
        report.linked,
        report.files,
        size(report.freed_bytes)
    );
    Ok(())
}

fn roots(session: &Session) -> Result<(), Failure> {
    for root in session.store_to_read()?.roots()? {
        let kind = match root.kind {
            RootKind::Permanent => "root",
            RootKind::Indirect => "link",
            RootKind::Temporary => "running",
        };
        print(&format!("{}  {kind}  {}\n", root.path, root.link.display()))?;
    }
    Ok(())
}
