//! Remembered evaluations: a result, and all that was read to get it. It holds as long as the same would be read
//! again; then nothing is evaluated. Failed evaluations are not remembered, nor those that used the time.
//!
//! An entry is one file below the cache folder, named by a hash of what was asked: the expression, the settings, the
//! store, and this program itself. One that is damaged, of another version, or no longer true counts as absent.

mod entry;
mod reads;
mod recording;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rednix_eval::{Evaluator, Settings};
use rednix_events::Event;
use rednix_store::hash::Hash;
use rednix_store::path::StorePath;

use crate::failure::Failure;
use crate::session::Session;
use crate::world::{Access, StoreWorld};
use entry::{Entry, VERSION};
use reads::{Identity, Read};
use recording::{Noted, RecordingWorld};

/// Entries kept; the oldest go first.
const ENTRIES_MAX: usize = 256;
/// Bytes of one entry.
const ENTRY_BYTES_MAX: u64 = 64 << 20;

/// What is asked: everything beside the world that a result depends on.
pub struct Question<'a> {
    /// Which kind of answer is wanted.
    pub kind: &'a str,
    pub texts: &'a [String],
    pub settings: &'a Settings,
}

/// A part of the answer, and the derivations it names.
pub struct Answer {
    pub text: String,
    pub derivations: Vec<StorePath>,
}

/// The remembered answers, or else those of `evaluate`, which gets an evaluator and the number of a part, and has to
/// come to the same for the same question and world. Parts are evaluated by several evaluators at once where that
/// is allowed; order and errors are those of one after the other.
pub fn answer(
    session: &Session,
    question: &Question<'_>,
    parts: usize,
    evaluate: impl Fn(&mut Evaluator, usize) -> Result<Answer, Failure> + Sync,
) -> Result<Vec<String>, Failure> {
    let file = if session.global.no_eval_cache { None } else { entry_file(session, question) };
    if let Some(file) = &file
        && let Some(answers) = remembered(session, file)
    {
        return Ok(answers);
    }
    let (answers, noted) = side_by_side(session, question.settings, parts, &evaluate)?;
    let named = answers.iter().flat_map(|answer| &answer.derivations);
    let valid = noted.valid.iter().chain(named).map(StorePath::to_string).collect();
    let results: Vec<String> = answers.iter().map(|answer| answer.text.clone()).collect();
    if let Some(file) = file
        && !noted.fleeting
    {
        let (reads, messages) = (noted.reads.into_values().collect(), noted.messages);
        // A cache that cannot be written is only slow.
        let _ = keep(&file, &Entry { version: VERSION, reads, valid, messages, results: results.clone() });
    }
    Ok(results)
}

/// All parts, by as many evaluators as there may be. The error is that of the first part that has one.
fn side_by_side(
    session: &Session,
    settings: &Settings,
    parts: usize,
    evaluate: &(impl Fn(&mut Evaluator, usize) -> Result<Answer, Failure> + Sync),
) -> Result<(Vec<Answer>, Noted), Failure> {
    let (store, events) = (session.store()?, session.events());
    let outside = session.outside_maker()?;
    let access = if settings.pure { Access::Pure } else { Access::All };
    // Numbers are given out in order, so whatever comes before a part that fails was begun and will be finished.
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let work = || -> Result<(Vec<(usize, Result<Answer, Failure>)>, Noted), Failure> {
        let world = StoreWorld::new(store.clone(), events.clone(), outside.make(), access)
            .names_only(settings.read_only);
        let (recording, noted) = RecordingWorld::new(world.clone());
        let mut evaluator = Evaluator::new(Box::new(recording), settings.clone());
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                break;
            }
            let answer = evaluate(&mut evaluator, part);
            failed.fetch_or(answer.is_err(), Ordering::Relaxed);
            done.push((part, answer));
        }
        world.flush()?;
        drop(evaluator);
        Ok((done, noted.take()))
    };
    let jobs = session.eval_jobs().clamp(1, parts.max(1));
    let mut all = Vec::with_capacity(parts);
    let mut noted = Noted::default();
    if jobs == 1 {
        let (done, found) = work()?;
        all.extend(done);
        noted.unite(found);
    } else {
        std::thread::scope(|scope| -> Result<(), Failure> {
            let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            for thread in threads {
                let (done, found) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                all.extend(done);
                noted.unite(found);
            }
            Ok(())
        })?;
    }
    all.sort_by_key(|(part, _)| *part);
    let answers: Result<Vec<Answer>, Failure> = all.into_iter().map(|(_, answer)| answer).collect();
    Ok((answers?, noted))
}

/// Where the answer would be; nothing where the question cannot be told apart from others.
fn entry_file(session: &Session, question: &Question<'_>) -> Option<PathBuf> {
    let program = Identity::of(&std::env::current_exe().ok()?)?;
    let settings = question.settings;
    let key = format!(
        "{VERSION} {program:?} {:?} {:?} {:?} {:?}",
        session.config.store,
        question.kind,
        question.texts,
        (
            (settings.max_call_depth, settings.pure, settings.read_only, &settings.search_path),
            (&settings.working_directory, &settings.home),
            (settings.pipe_operators, settings.toml_timestamps, settings.trace_verbose),
            (&settings.lints, &settings.system),
        ),
    );
    let folder = session.cache_folder("evaluations").ok()?;
    Some(folder.join(Hash::sha256(key.as_bytes()).to_nix32()))
}

fn remembered(session: &Session, file: &std::path::Path) -> Option<Vec<String>> {
    if std::fs::metadata(file).ok()?.len() > ENTRY_BYTES_MAX {
        return None;
    }
    let entry = Entry::parse(&std::fs::read(file).ok()?)?;
    if !entry.reads.iter().all(Read::holds) {
        return None;
    }
    let valid: Result<Vec<StorePath>, _> = entry.valid.iter().map(|path| StorePath::parse(path)).collect();
    let valid = valid.ok()?;
    let store = session.store().ok()?;
    // Kept from collection first, as what an evaluation writes is.
    store.add_temp_roots(&valid).ok()?;
    let found = store.valid_among(&valid).ok()?;
    if !valid.iter().all(|path| found.contains(path)) {
        return None;
    }
    for message in entry.messages {
        session.events().emit(Event::Notice { message });
    }
    Some(entry.results)
}

fn keep(file: &std::path::Path, entry: &Entry) -> std::io::Result<()> {
    use std::io::Write;
    let folder = file.parent().ok_or(std::io::ErrorKind::NotFound)?;
    let mut scratch = tempfile::NamedTempFile::new_in(folder)?;
    scratch.write_all(&entry.write()?)?;
    scratch.persist(file)?;
    let mut entries: Vec<_> = std::fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    entries.sort();
    for (_, path) in entries.iter().rev().skip(ENTRIES_MAX) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}
