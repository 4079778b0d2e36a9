//! `rednix store verify`: whether contents are what was registered; with `--repair`, making right what is not.

use std::collections::BTreeSet;

use rednix_store::path::StorePath;
use rednix_store::store::{OpenOptions, Store, VerifyOptions};

use super::arguments::StoreVerifyArgs;
use crate::failure::Failure;
use crate::session::{Session, Wanted};

pub fn run(session: &Session, arguments: &StoreVerifyArgs) -> Result<(), Failure> {
    if arguments.repair {
        return repair(session);
    }
    check(session, !arguments.no_contents)
}

/// Fails where anything is wrong.
pub fn check(session: &Session, check_contents: bool) -> Result<(), Failure> {
    let store = session.store_to_read()?;
    let report = store.verify(VerifyOptions { check_contents, ..VerifyOptions::default() })?;
    session.view.finish();
    if report.is_clean() {
        return Ok(());
    }
    let details: String = report.problems.iter().map(|problem| format!("{problem}\n")).collect();
    let count = report.problems.len();
    let root = store.root().display();
    Err(Failure::failed(format!("the store at `{root}` has {count} wrong paths"))
        .details(details)
        .hint("`rednix store verify --repair` takes them back and makes them again where it can"))
}

fn repair(session: &Session) -> Result<(), Failure> {
    let root = &session.config.store;
    let options = OpenOptions::default().with_events(session.events().clone());
    let damaged = |error: &rednix_store::Error| matches!(error, rednix_store::Error::DamagedDatabase { .. });
    // Opening reads little; listing reads the table that matters.
    let looked = Store::open(root, options.clone()).and_then(|store| store.verify_database());
    match looked {
        Err(error) if damaged(&error) => {
            let (_, rebuilt) = Store::rebuild_database(root, options)?;
            session.view.finish();
            eprintln!(
                "made a new database: {} paths by their old rows, {} by their contents; {} are not valid any more",
                rebuilt.salvaged,
                rebuilt.proven,
                rebuilt.given_up.len()
            );
            eprintln!("the old one is in `{}`", rebuilt.old_database.display());
        }
        other => other?,
    }
    let store = session.store()?;
    let report = store.repair()?;
    for path in &report.restored {
        eprintln!("restored `{path}` from the archive");
    }
    for path in &report.forgotten {
        eprintln!("deleted `{path}` from the archive: it was damaged there");
    }
    for path in report.taken_back.keys() {
        eprintln!("took back `{path}`");
    }
    let derivers: BTreeSet<&StorePath> = report.taken_back.values().flatten().collect();
    let mut wanted = Vec::new();
    for derivation in store.valid_among(derivers)? {
        for output in store.read_derivation(&derivation)?.outputs.into_keys() {
            wanted.push(Wanted { derivation: derivation.clone(), output });
        }
    }
    if !wanted.is_empty() {
        session.build(&wanted)?;
    }
    let valid = store.valid_among(report.taken_back.keys())?;
    let lost: Vec<&StorePath> = report.taken_back.keys().filter(|path| !valid.contains(*path)).collect();
    session.view.finish();
    if lost.is_empty() {
        return check(session, true);
    }
    let details: String = lost.iter().map(|path| format!("{path}\n")).collect();
    Err(Failure::failed(format!("{} paths are lost", lost.len()))
        .details(details)
        .hint("the store is whole without them; build or add them again where they are needed"))
}
