//! A package's files into a running guest: those whose contents are other ones are sent beside their place, made
//! executable where they are, compared by the guest's `sha256sum`, and moved into place. It builds nothing, and removes
//! nothing that an earlier version had.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::guest::{Done, Guest, guest};
use super::transfer::{self, copy_command, hash, word};
use crate::error::Error;
use crate::limits::PUSH_PATHS_AT_ONCE;

/// What a package has at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    Link(String),
    File { source: PathBuf, hash: String, executable: bool },
}

/// What became of a package's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    pub sent: usize,
    pub bytes: u64,
    /// Files that the guest had already.
    pub same: usize,
}

/// The package's files by their place in the guest, folders before what is in them.
fn entries(root: &Path) -> Result<BTreeMap<String, Entry>, Error> {
    let mut all = BTreeMap::new();
    let mut pending = vec![(root.to_path_buf(), String::new())];
    while let Some((folder, place)) = pending.pop() {
        let failed = || Error::io("read", &folder);
        for item in std::fs::read_dir(&folder).map_err(failed())? {
            let item = item.map_err(failed())?;
            let place = format!("{place}/{}", item.file_name().to_string_lossy());
            let kind = item.file_type().map_err(failed())?;
            let entry = if kind.is_dir() {
                pending.push((item.path(), place.clone()));
                Entry::Folder
            } else if kind.is_symlink() {
                let target = std::fs::read_link(item.path()).map_err(failed())?;
                Entry::Link(target.to_string_lossy().into_owned())
            } else {
                let executable = item.metadata().map_err(failed())?.permissions().mode() & 0o111 != 0;
                Entry::File { hash: hash(&item.path())?, source: item.path(), executable }
            };
            all.insert(place, entry);
        }
    }
    Ok(all)
}

/// Puts the files below `root` into the guest, whose shell is at its prompt. `say` hears of each one that is sent.
pub fn push(
    machine: &mut Guest<'_>,
    root: &Path,
    say: &mut dyn FnMut(&str),
    deadline: Instant,
) -> Done<Pushed> {
    let entries = entries(root)?;
    let known = known(machine, &entries, deadline)?;
    let mut pushed = Pushed::default();
    let mut files = Vec::new();
    let mut places = Lines::default();
    for (path, entry) in &entries {
        let at = word(machine.shell, path)?;
        match entry {
            Entry::Folder => places.add(format!("test -d {at} || mkdir {at}"), format!("making `{path}`")),
            Entry::Link(target) => {
                let target = word(machine.shell, target)?;
                // A folder of the system may be a link to where the package has it, and stays.
                let line = format!("test -d {at} || ln -sf {target} {at}");
                places.add(line, format!("making the link `{path}`"));
            }
            Entry::File { hash, .. } if known.get(path) == Some(hash) => pushed.same += 1,
            Entry::File { source, hash, executable } => {
                files.push(Sending { path, source, hash, executable: *executable });
            }
        }
    }
    places.run(machine, deadline)?;
    for file in &files {
        say(file.path);
        pushed.sent += 1;
        pushed.bytes += std::fs::metadata(file.source).map_or(0, |found| found.len());
    }
    send(machine, &files, deadline)?;
    Ok(pushed)
}

/// A file on its way.
struct Sending<'e> {
    path: &'e str,
    source: &'e Path,
    hash: &'e str,
    executable: bool,
}

impl Sending<'_> {
    /// Where it is until all of it is there.
    fn beside(&self) -> String {
        format!("{}.pushed", self.path)
    }
}

/// The hashes of those files that are there.
fn known(
    machine: &mut Guest<'_>,
    entries: &BTreeMap<String, Entry>,
    deadline: Instant,
) -> Done<BTreeMap<String, String>> {
    let is_file = |entry: &Entry| matches!(entry, Entry::File { .. });
    let paths: Vec<&str> =
        entries.iter().filter(|(_, entry)| is_file(entry)).map(|(path, _)| path.as_str()).collect();
    hashes(machine, &paths, deadline)
}

fn hashes(machine: &mut Guest<'_>, paths: &[&str], deadline: Instant) -> Done<BTreeMap<String, String>> {
    let mut lines = Lines::default();
    for some in paths.chunks(PUSH_PATHS_AT_ONCE) {
        let words: Vec<String> =
            some.iter().map(|path| word(machine.shell, path)).collect::<Done<Vec<String>>>()?;
        // What is not there is no failure.
        lines.add(format!("sha256sum {} || true", words.join(" ")), "comparing files".into());
    }
    let output = lines.run(machine, deadline)?;
    let hashes = output.lines().filter_map(|line| {
        let (hash, path) = line.split_once(' ').filter(|(hash, _)| hash.len() == 64)?;
        Some((path.trim_start_matches([' ', '*']).to_owned(), hash.to_owned()))
    });
    Ok(hashes.collect())
}

/// Sends all files, compares them, and only then moves them into place.
fn send(machine: &mut Guest<'_>, files: &[Sending<'_>], deadline: Instant) -> Done {
    let mut laid = Vec::new();
    let result = lay_down(machine, files, &mut laid, deadline);
    laid.iter().for_each(|range| transfer::clear(machine, range));
    result?;
    let beside: Vec<String> = files.iter().map(Sending::beside).collect();
    let paths: Vec<&str> = beside.iter().map(String::as_str).collect();
    let arrived = hashes(machine, &paths, deadline)?;
    let mut moves = Lines::default();
    for (file, beside) in files.iter().zip(&beside) {
        if arrived.get(beside).map(String::as_str) != Some(file.hash) {
            return guest(format!(
                "`{}` did not come through whole: it is `{beside}` in the guest; push again",
                file.path
            ));
        }
        let (from, to) = (word(machine.shell, beside)?, word(machine.shell, file.path)?);
        moves.add(format!("mv {from} {to}"), format!("moving `{}` into place", file.path));
    }
    moves.run(machine, deadline).map(drop)
}

/// Every file beside its place: through the exchange disk where there is one, else over the console.
fn lay_down(
    machine: &mut Guest<'_>,
    files: &[Sending<'_>],
    laid: &mut Vec<Range<u64>>,
    deadline: Instant,
) -> Done {
    let by_disk = transfer::has_disk(machine, deadline)?;
    let mut lines = Lines::default();
    for file in files {
        let at = word(machine.shell, &file.beside())?;
        let mode = if file.executable { "755" } else { "644" };
        let what = format!("writing `{}`", file.beside());
        let mode = format!("chmod {mode} {at}");
        if !by_disk {
            transfer::copy_in(machine, file.source, &file.beside(), deadline)?;
            lines.add(mode, what);
            continue;
        }
        let mut source = File::open(file.source).map_err(Error::io("read", file.source))?;
        let length = source.metadata().map_err(Error::io("read", file.source))?.len();
        let place = transfer::place(machine, deadline)?;
        let range = transfer::disk(machine)?.lay(&mut source, length)?.range;
        lines.add(format!("{} && {mode}", copy_command(&place, &range, &at)), what);
        laid.push(range);
    }
    lines.run(machine, deadline).map(drop)
}

/// Commands that all have to succeed, each with what it does.
#[derive(Default)]
struct Lines(Vec<(String, String)>);

impl Lines {
    fn add(&mut self, line: String, what: String) {
        self.0.push((line, what));
    }

    /// Runs them one after another and answers what they printed.
    fn run(self, machine: &mut Guest<'_>, deadline: Instant) -> Done<String> {
        if self.0.is_empty() {
            return Ok(String::new());
        }
        if !transfer::has_disk(machine, deadline)? {
            return self.type_each(machine, deadline);
        }
        // A script says by itself which of its lines failed, and that it came to its end.
        let mut script = vec![format!("echo {FAILED}begin.")];
        for (number, (line, _)) in self.0.iter().enumerate() {
            script.push(format!("{line} || echo {FAILED}{number}."));
        }
        script.push(format!("echo {FAILED}end."));
        let output = transfer::run_script(machine, &script, deadline)?;
        let failed: BTreeSet<&str> =
            output.lines().filter_map(|line| line.trim().strip_prefix(FAILED)?.strip_suffix('.')).collect();
        if !failed.contains("begin") {
            // The shell at the console still runs when its program, just replaced by one that does not, starts no more.
            return self.type_each(machine, deadline);
        }
        let first = self.0.iter().enumerate().find(|(number, _)| failed.contains(&*number.to_string()));
        match first {
            Some((_, (_, what))) => guest(format!("{what} failed: {}", output.trim())),
            None if !failed.contains("end") => {
                guest(format!("the guest's shell did not run a script to its end: {}", output.trim()))
            }
            None => Ok(output),
        }
    }

    fn type_each(self, machine: &mut Guest<'_>, deadline: Instant) -> Done<String> {
        let mut output = String::new();
        for (line, what) in self.0 {
            let answer = machine.run(&line, deadline)?;
            if answer.status != 0 {
                return guest(format!(
                    "{what} ended with status {}: {}",
                    answer.status,
                    answer.output.trim()
                ));
            }
            output.push_str(&answer.output);
        }
        Ok(output)
    }
}

/// Begins what a script says of its lines.
const FAILED: &str = "rednix-line-";
