//! `rednix cache push`: which paths, and the loop of `--watch`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rednix_build::plan::realised_output;
use rednix_cache::cache::Address;
use rednix_cache::limits::BUSY_REST_MAX;
use rednix_cache::push::{Push, Pushed};
use rednix_cache::transport::{self, Connections};
use rednix_events::Event;
use rednix_store::derivation::DerivationHashes;
use rednix_store::path::StorePath;
use rednix_store::store::{ScratchDir, Store};

use crate::cli::CachePushArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::project::Project;
use crate::session::{Session, Wanted};
use crate::{interrupt, relock, substituting};

use super::print;

/// Between two looks of `--watch`.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// What can be pushed to.
const PLACES: &str = "paths are pushed to file:///FOLDER, http://HOST, https://HOST or s3://BUCKET; into another store they are pulled from there (`rednix cache pull --from local?root=…`)";

pub fn run(session: &Session, arguments: &CachePushArgs) -> Result<(), Failure> {
    if arguments.names.is_empty() && !arguments.all && !arguments.watch {
        return Err(Failure::usage("nothing to push was named")
            .hint("rednix cache push TO NAME…, or --all, or --watch for whatever is built from now on"));
    }
    let store = session.store_to_read()?;
    let seen = store.registered_since(Default::default())?.2;
    let token = arguments.token.as_deref().map(substituting::token).transpose()?;
    let key = arguments.key.as_deref().map(substituting::secret_key).transpose()?;
    let told = |error: &rednix_cache::Error| failed(error, arguments);
    let address = Address::parse(&arguments.to).map_err(|error| substituting::usage(&error))?;
    let http = Arc::new(Connections::new(substituting::http(&session.config, token.as_deref())?));
    let transport = transport::connect(&address, &http).map_err(|error| match error {
        // Another store, which is not there.
        rednix_cache::Error::Store(_) => substituting::usage(&error).hint(PLACES),
        _ => substituting::usage(&error),
    })?;
    let cancelled = interrupt::flag();
    interrupt::handle()?;
    let scratch = Scratch::new(&store)?;
    let push = Push {
        store: &store,
        transport: &*transport,
        key: key.as_ref(),
        events: session.events(),
        cancelled: &cancelled,
        scratch: scratch.path().to_owned(),
        keep_going: arguments.watch,
    };
    let paths = match arguments.all {
        true => store.all_valid_paths()?.into_iter().filter(|path| !path.is_derivation()).collect(),
        false => named(session, arguments, &store)?,
    };
    let mut refused = BTreeSet::new();
    if !paths.is_empty() {
        tell(session, &push.run(&paths).map_err(|error| told(&error))?, &mut refused)?;
    }
    if arguments.watch {
        watch(session, &push, seen, &told, &mut refused)?;
    }
    scratch.close()?;
    if refused.is_empty() {
        return Ok(());
    }
    let details: String = refused.iter().map(|path| format!("{path}\n")).collect();
    Err(Failure::failed(format!("{} paths were not pushed, and everything else was", refused.len()))
        .details(details)
        .hint("why was said when it happened; whoever runs the cache may know more"))
}

/// A folder for archives on their way: beside the store, where there is room for large ones; else where temporary files
/// are.
enum Scratch {
    OfStore(ScratchDir),
    Elsewhere(tempfile::TempDir),
}

impl Scratch {
    fn new(store: &Store) -> Result<Scratch, Failure> {
        if !store.is_read_only() {
            return Ok(Scratch::OfStore(store.scratch_dir("push")?));
        }
        let folder = std::env::temp_dir();
        let made = tempfile::Builder::new().prefix("rednix-push-").tempdir_in(&folder).map_err(|error| {
            Failure::failed(format!("cannot make a folder in `{}`: {error}", folder.display()))
                .hint("`TMPDIR` names another place for archives on their way")
        });
        Ok(Scratch::Elsewhere(made?))
    }

    fn path(&self) -> &Path {
        match self {
            Scratch::OfStore(folder) => folder.path(),
            Scratch::Elsewhere(folder) => folder.path(),
        }
    }

    fn close(self) -> Result<(), Failure> {
        match self {
            Scratch::OfStore(folder) => Ok(folder.close()?),
            Scratch::Elsewhere(folder) => Ok(folder.close()?),
        }
    }
}

/// What went wrong, with what whoever pushes can do: no build goes on without this cache.
fn failed(error: &rednix_cache::Error, arguments: &CachePushArgs) -> Failure {
    use rednix_cache::Error;
    let failure = substituting::told(error);
    match (error, &arguments.token) {
        (Error::Cancelled, _) => Failure::interrupted(),
        (Error::Denied { .. }, Some(file)) => failure.hint(format!(
            "the token in `{}` is not the cache's: it takes the one of its own `rednix cache serve --token FILE`",
            file.display()
        )),
        (Error::Denied { .. }, None) => {
            failure.hint("name the cache's token (`--token FILE`), or put user and password into the netrc file")
        }
        (Error::NoRoute { .. } | Error::TimedOut { .. }, _) => failure.hint(
            "is the cache running, and are address and proxy right? What was pushed is there; `--watch` waits for a cache that is away",
        ),
        _ => failure,
    }
}

fn tell(session: &Session, pushed: &Pushed, refused: &mut BTreeSet<StorePath>) -> Result<(), Failure> {
    session.view.finish();
    let Pushed { paths, present, nar_bytes, file_bytes, realisations, refused: now } = pushed;
    for (path, reason) in now {
        // What is looked at again is told once.
        if refused.insert(path.clone()) {
            session.events().emit(Event::Warning { message: format!("`{path}` is not pushed: {reason}") });
        }
    }
    print(&format!(
        "{paths} paths pushed ({nar_bytes} bytes as {file_bytes}), {present} were there, {realisations} realisations\n"
    ))
}

/// Store paths as they are; everything else is evaluated and built.
fn named(
    session: &Session,
    arguments: &CachePushArgs,
    store: &Store,
) -> Result<BTreeSet<StorePath>, Failure> {
    let mut paths = BTreeSet::new();
    let mut names = Vec::new();
    for name in &arguments.names {
        let real = std::fs::canonicalize(name).unwrap_or_else(|_| name.into());
        match store.store_path_of(Path::new(name)).or_else(|| store.store_path_of(&real)) {
            Some(path) if store.is_valid(&path)? => drop(paths.insert(path)),
            Some(path) => {
                return Err(Failure::usage(format!("`{path}` is not in the store"))
                    .hint("it may have been collected; build it again"));
            }
            None => names.push(name.clone()),
        }
    }
    let mut derivations: BTreeSet<StorePath> = BTreeSet::new();
    if arguments.inputs {
        for info in store.path_infos(&paths)?.into_values() {
            derivations.extend(info.deriver);
        }
    }
    if !names.is_empty() {
        let project = Project::find(&session.config, &arguments.tree)?;
        let (wanted, built) = relock::building(session, project, arguments.tree.locked, |project| {
            let targets: Vec<Target> = names.iter().map(|name| Target::reported(project, name)).collect();
            let wanted: Vec<Wanted> = evaluation::wanted(session, &targets)?;
            let built = session.build(&wanted)?;
            Ok((wanted, built))
        })?;
        paths.extend(built);
        derivations.extend(wanted.into_iter().map(|wanted| wanted.derivation));
    }
    if arguments.inputs {
        paths.extend(inputs(store, &derivations)?);
    }
    Ok(paths)
}

/// The outputs, as far as they are there, of everything below some derivations, and the sources.
fn inputs(store: &Store, derivations: &BTreeSet<StorePath>) -> Result<BTreeSet<StorePath>, Failure> {
    let here = store.valid_among(derivations)?;
    let mut hashes = DerivationHashes::new();
    let mut paths = BTreeSet::new();
    for path in store.closure(&here)?.into_keys() {
        if !path.is_derivation() {
            paths.insert(path);
            continue;
        }
        let derivation = store.read_derivation(&path)?;
        for output in derivation.outputs.keys() {
            let mut load = |path: &StorePath| store.read_derivation(path);
            paths.extend(realised_output(store, &derivation, output, &mut hashes, &mut load)?);
        }
    }
    Ok(paths)
}

/// Pushes what is registered, as it is registered. A cache that is away for a while is waited for.
fn watch(
    session: &Session,
    push: &Push<'_>,
    mut seen: rednix_store::store::Seen,
    told: &dyn Fn(&rednix_cache::Error) -> Failure,
    refused: &mut BTreeSet<StorePath>,
) -> Result<(), Failure> {
    let notice = |message: String| session.events().emit(Event::Notice { message });
    notice("watching the store; Ctrl-C ends".to_owned());
    let mut pause = WATCH_PAUSE;
    while !push.cancelled.load(Ordering::Relaxed) {
        std::thread::sleep(pause.min(WATCH_PAUSE));
        let (paths, realisations, now) = push.store.registered_since(seen)?;
        let mut new: BTreeSet<StorePath> = paths.into_iter().filter(|path| !path.is_derivation()).collect();
        new.extend(realisations.into_iter().map(|realisation| realisation.path));
        // What a collection took meanwhile is nobody's loss; what is there now stays until it is pushed, and no longer.
        push.store.add_temp_roots(&new)?;
        let valid = push.store.valid_among(&new)?;
        if valid.is_empty() {
            push.store.release_temp_roots(&new)?;
            seen = now;
            continue;
        }
        match push.run(&valid) {
            Ok(pushed) => {
                push.store.release_temp_roots(&new)?;
                (seen, pause) = (now, WATCH_PAUSE);
                tell(session, &pushed, refused)?;
            }
            Err(rednix_cache::Error::Cancelled) => break,
            Err(error) if error.is_passing() => {
                let wait = match &error {
                    rednix_cache::Error::Busy { wait, .. } => pause.max(*wait).min(BUSY_REST_MAX),
                    _ => pause,
                };
                notice(format!("{}; trying again in {} s", error.brief(), wait.as_secs().max(1)));
                let until = std::time::Instant::now() + wait;
                while std::time::Instant::now() < until && !push.cancelled.load(Ordering::Relaxed) {
                    std::thread::sleep(WATCH_PAUSE);
                }
                pause = (pause * 2).min(Duration::from_secs(60));
            }
            Err(error) => return Err(told(&error)),
        }
    }
    Ok(())
}
