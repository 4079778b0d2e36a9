//! Brings the folder a working copy is built in up to date. What did not change keeps its time, what changed gets the
//! present one whatever the user's file says, so that make and cargo do what is needed and no more. What a build
//! changed or added stays, as it does for upstream's cookbook; what it removed is put back. All by handle: earlier
//! builds could write here.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rednix_store::handle::{Dir, Kind};
use rustix::fs::{Timespec, Timestamps};
use serde::{Deserialize, Serialize};

use super::scan::{Entry, Scan};
use crate::error::Reason;

type Result<T> = std::result::Result<T, rednix_store::Error>;

const STATE_NAME: &str = "state.json";
const FORMAT_VERSION: u32 = 1;

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct State {
    format_version: u32,
    fingerprint: String,
    placed: BTreeMap<PathBuf, Placed>,
}

/// An entry as it was put into the build's source.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Placed {
    entry: Entry,
    /// Its time; for files.
    time_ns: u64,
}

/// Returns whether the build begins with nothing.
pub fn bring_up_to_date(
    kept: &Dir,
    folder: &Path,
    scan: &Scan,
    fingerprint: &str,
) -> std::result::Result<bool, Reason> {
    let known = read_state(kept).filter(|state| state.fingerprint == fingerprint);
    let is_fresh = known.is_none();
    let mut state = known.unwrap_or_default();
    // Half-done work must not be taken for done after a crash: without a state all begins anew.
    if kept.exists(STATE_NAME)? {
        kept.remove_file(STATE_NAME)?;
    }
    if is_fresh {
        start_anew(kept)?;
    }
    let from = Dir::open(folder)?;
    let placed = match place(kept, &from, scan, &state.placed) {
        Ok(placed) => placed,
        // A build left something where a source belongs that cannot be got out of the way piece by piece.
        Err(_) if !is_fresh => {
            start_anew(kept)?;
            place(kept, &from, scan, &BTreeMap::new())?
        }
        Err(error) => return Err(changed_meanwhile(folder, error)),
    };
    state = State { format_version: FORMAT_VERSION, fingerprint: fingerprint.to_owned(), placed };
    let text = serde_json::to_vec(&state).expect("a state holds only text and numbers");
    let mut file = kept.create_file(STATE_NAME, 0o600)?;
    let written = file.write_all(&text);
    written.map_err(|error| rednix_store::Error::io("write", kept.path_of(STATE_NAME), error))?;
    Ok(is_fresh)
}

/// A file that was there a moment ago and is not now: the user is at work.
fn changed_meanwhile(folder: &Path, error: rednix_store::Error) -> Reason {
    if error.is_not_found() { Reason::WorkChanged(folder.to_owned()) } else { error.into() }
}

fn start_anew(kept: &Dir) -> Result<()> {
    for name in ["source", "build"] {
        if kept.exists(name)? {
            kept.remove_tree(name)?;
        }
        kept.create_dir(name, 0o755)?;
        kept.set_mode_of(name, 0o755)?;
    }
    Ok(())
}

fn read_state(kept: &Dir) -> Option<State> {
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut kept.open_file(STATE_NAME).ok()?, &mut text).ok()?;
    let state: State = serde_json::from_slice(&text).ok()?;
    (state.format_version == FORMAT_VERSION).then_some(state)
}

fn place(
    kept: &Dir,
    from: &Dir,
    scan: &Scan,
    before: &BTreeMap<PathBuf, Placed>,
) -> Result<BTreeMap<PathBuf, Placed>> {
    let to = kept.open_dir("source")?;
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    // Children before parents; a folder goes only when a build left nothing in it.
    for (path, placed) in before.iter().rev().filter(|(path, _)| !scan.entries.contains_key(*path)) {
        match (&placed.entry, kind_of(&to, path)?) {
            (_, None) => {}
            (Entry::Folder, Some(Kind::Directory)) => drop(to.remove_dir(path)),
            (_, Some(_)) => drop(to.remove_tree(path)?),
        }
    }
    let mut after = BTreeMap::new();
    for (path, entry) in &scan.entries {
        let known = before.get(path).filter(|placed| placed.entry == *entry);
        let time_ns = known.map_or(now_ns, |placed| placed.time_ns);
        if known.is_none() || !is_there(&to, path, entry)? {
            put(from, &to, path, entry, time_ns)?;
        }
        after.insert(path.clone(), Placed { entry: entry.clone(), time_ns });
    }
    Ok(after)
}

fn kind_of(dir: &Dir, path: &Path) -> Result<Option<Kind>> {
    match dir.kind(path) {
        Ok(kind) => Ok(Some(kind)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether what was put there is there still, whatever a build made of it: scripts that edit their source in place, and
/// generated files that a source ships, would otherwise be compiled anew each time.
fn is_there(to: &Dir, path: &Path, entry: &Entry) -> Result<bool> {
    let found = kind_of(to, path)?;
    Ok(match (entry, found) {
        (Entry::Folder, Some(Kind::Directory)) | (Entry::File { .. }, Some(Kind::File)) => true,
        (Entry::Link { .. }, Some(Kind::Symlink)) => true,
        (_, Some(_) | None) => false,
    })
}

fn put(from: &Dir, to: &Dir, path: &Path, entry: &Entry, time_ns: u64) -> Result<()> {
    match (entry, kind_of(to, path)?) {
        (Entry::Folder, Some(Kind::Directory)) => return Ok(()),
        (_, Some(_)) => drop(to.remove_tree(path)?),
        (_, None) => {}
    }
    match entry {
        Entry::Folder => {
            to.create_dir(path, 0o755)?;
            to.open_dir(path)?.set_mode(0o755)
        }
        Entry::Link { target } => to.symlink(target, path),
        Entry::File { executable, .. } => {
            let failed = |error: std::io::Error| rednix_store::Error::io("copy", to.path_of(path), error);
            let mut source = from.open_file(path)?;
            let mut copy = to.create_file(path, 0o600)?;
            std::io::copy(&mut source, &mut copy).map_err(failed)?;
            let mode = rustix::fs::Mode::from_raw_mode(if *executable { 0o755 } else { 0o644 });
            rustix::fs::fchmod(&copy, mode).map_err(|errno| failed(errno.into()))?;
            let time = Timespec {
                tv_sec: (time_ns / 1_000_000_000) as i64,
                tv_nsec: (time_ns % 1_000_000_000) as _,
            };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::futimens(&copy, &times).map_err(|errno| failed(errno.into()))
        }
    }
}
