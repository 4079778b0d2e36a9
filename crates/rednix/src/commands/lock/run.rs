//! One run of `rednix lock` or `rednix update` over a tree: what is pinned and still right stays, what is gone is
//! dropped, everything else is resolved and fetched, several at a time; then the lock is replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rednix_fetch::cargo_lock::GitSource;
use rednix_fetch::overrides;
use rednix_store::path::StorePath;
use serde::Deserialize;

use crate::cli::TreeArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::project::{self, Project};
use crate::session::{Session, Wanted};

use super::cargo::{self, Looked};
use super::format::{self, Lock, Source};
use super::source::{self, Recipe};
use super::tools::{Tools, parallel};
use super::{import, toolchain, tree, write_whole};

/// Cargo runs at once: each resolves a whole workspace.
const RESOLVERS: usize = 2;

/// Which pins are resolved anew though they would still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renew {
    Nothing,
    Floating,
}

/// What is asked for.
#[derive(Debug)]
pub struct Request<'r> {
    pub names: &'r [String],
    pub tree: &'r TreeArgs,
    pub output: Option<&'r Path>,
    pub date: Option<&'r str>,
    pub renew: Renew,
    /// The Rust release to lock; none leaves what is locked.
    pub toolchain: Option<&'r str>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub file: PathBuf,
    /// Name, old pin, new pin.
    pub changes: Vec<(String, Option<String>, Option<String>)>,
}

#[derive(Debug, Deserialize)]
struct Lockable {
    recipes: BTreeMap<String, Recipe>,
    /// Every recipe of the tree.
    all: BTreeSet<String>,
}

pub fn run(session: &mut Session, request: &Request) -> Result<Outcome, Failure> {
    if let Some(day) = request.date.filter(|day| !is_day(day)) {
        return Err(Failure::usage(format!("`{day}` is no day")).hint("write it as YYYY-MM-DD"));
    }
    let early = tree::lock_file(request.tree, request.output);
    let mut tree_pin = None;
    if let Some(url) = tree::address(request.tree) {
        let file = early.clone().unwrap_or_else(|| PathBuf::from(tree::LOCK));
        let lock = format::read(&file)?;
        let renew = request.renew == Renew::Floating
            && (request.names.is_empty() || request.names.iter().any(|name| name == "tree"));
        tree_pin = Some(tree::pin(session, url, &lock, request.date, renew)?);
        session.config.tree_checkout = tree_pin.as_ref().map(|(_, folder)| folder.clone());
    }
    // What the lock says of overrides is about to be renewed, so it is not held against them here.
    let wanted = std::mem::take(&mut session.config.overrides);
    let found = Project::find(&session.config, request.tree);
    session.config.overrides = wanted;
    let mut project = found?;
    let file = match (&early, &project.lock) {
        (Some(file), _) | (None, Some(file)) => file.clone(),
        (None, None) if request.tree.tree.is_some() => PathBuf::from(tree::LOCK),
        (None, None) => project.tree.join(tree::LOCK),
    };
    let old = format::read(&file)?;
    let mut lock = old.clone();
    lock.tree = tree_pin.map(|(pin, _)| pin).or(lock.tree);
    match (request.date, request.renew, request.names.is_empty()) {
        (Some(day), _, _) => lock.date = Some(day.to_owned()),
        (None, Renew::Floating, true) => lock.date = None,
        _ => {}
    }
    if let Some(wanted) = request.toolchain {
        let tools = Tools::new(session, None)?;
        lock.toolchain =
            toolchain::pin(&tools, wanted, &project.tree, &project.target, old.toolchain.as_ref())?;
    }
    let only_toolchain = request.toolchain.is_some() && request.names.is_empty();
    if !only_toolchain {
        pin_all(session, &project, request, &mut lock)?;
    }
    write_whole(&file, &format::show(&lock))
        .map_err(|e| Failure::failed(format!("cannot write `{}`: {e}", file.display())))?;
    project.lock = Some(std::path::absolute(&file)?);
    let fetched = if only_toolchain { &["tree".to_owned()][..] } else { request.names };
    fetch_all(session, &project, fetched)?;
    Ok(Outcome { file, changes: changes(&old, &lock) })
}

fn pin_all(session: &Session, project: &Project, request: &Request, lock: &mut Lock) -> Result<(), Failure> {
    let names: Vec<String> = request.names.iter().filter(|name| *name != "tree").cloned().collect();
    if names.is_empty() && !request.names.is_empty() {
        return Ok(());
    }
    // Updating everything means everything that is locked, not everything a tree has.
    let wanted = match (request.renew, names.is_empty()) {
        (Renew::Floating, true) => lock.sources.keys().cloned().collect(),
        _ => names,
    };
    let lockable = lockable(session, project, &wanted, request.renew)?;
    lock.sources.retain(|name, _| lockable.all.contains(name));
    // A day that was asked for, or a renewal, holds for what was pinned before too.
    let day = match request.renew {
        Renew::Floating => request.date,
        Renew::Nothing => lock.date.as_deref(),
    };
    let tools = Tools::new(session, day)?;
    let renew = request.renew == Renew::Floating || request.date.is_some();
    let revisions = import::cookbook_lock(&project.tree)?;
    let recipes: Vec<(String, Recipe)> = lockable
        .recipes
        .into_iter()
        .map(|(name, mut recipe)| {
            if let Some(rev) = revisions.get(&name).filter(|_| recipe.source.git.is_some()) {
                recipe.source.rev = Some(rev.clone());
            }
            (name, recipe)
        })
        .collect();
    let threads = session.config.max_jobs.max(8);
    let looked = parallel(&recipes, threads, |(name, recipe)| {
        let pinned = source::pin(&tools, name, recipe, lock, renew)?;
        pinned.map(|pinned| cargo::look(&tools, pinned, recipe)).transpose()
    })?;
    let looked: Vec<Looked> = looked.into_iter().flatten().collect();
    let lines: Vec<_> = cargo::git_lines(&looked).into_iter().collect();
    let git = parallel(&lines, threads, |(line, packages)| cargo::pin_git(&tools, line, packages, lock))?;
    let git: BTreeMap<String, cargo::PinnedGit> =
        git.into_iter().map(|git| (git.line.clone(), git)).collect();
    let entries = parallel(&looked, RESOLVERS, |looked| cargo::finish(&tools, looked, &git))?;
    gather(lock, looked, git, entries);
    Ok(())
}

/// Puts everything together and drops what nothing refers to any more.
fn gather(
    lock: &mut Lock,
    looked: Vec<Looked>,
    git: BTreeMap<String, cargo::PinnedGit>,
    entries: Vec<BTreeMap<String, format::CargoLock>>,
) {
    lock.version = format::VERSION;
    let mut used = Vec::new();
    for (looked, cargo) in looked.into_iter().zip(entries) {
        let mut pinned = looked.pinned;
        if let Some(tree) = &pinned.tree {
            pinned.pin.cargo = cargo;
            pinned.pin.rust_targets = cargo::rust_targets(tree);
        }
        used.extend(pinned.used);
        let is_empty =
            pinned.pin.source == Source::Path && pinned.pin.cargo.values().all(|c| c.git.is_empty());
        if is_empty {
            lock.sources.remove(&pinned.name);
        } else {
            lock.sources.insert(pinned.name, pinned.pin);
        }
    }
    for (line, pinned) in git {
        used.extend(pinned.used);
        let entry = lock.cargo_git.entry(line).or_default();
        let mut packages = std::mem::take(&mut entry.packages);
        if entry.nar_hash == pinned.entry.nar_hash {
            packages.extend(pinned.entry.packages);
        } else {
            packages = pinned.entry.packages;
        }
        *entry = format::CargoGit { packages, ..pinned.entry };
    }
    let named: BTreeSet<(String, String)> = lock
        .sources
        .values()
        .flat_map(|pin| pin.cargo.values())
        .flat_map(|cargo| &cargo.git)
        .map(|p| (p.source.clone(), format!("{}-{}", p.name, p.version)))
        .collect();
    for (line, entry) in &mut lock.cargo_git {
        entry.packages.retain(|package, _| named.contains(&(line.clone(), package.clone())));
    }
    lock.cargo_git.retain(|_, entry| !entry.packages.is_empty());
    lock.overrides.extend(used);
    let holding = keys_in_use(lock);
    lock.overrides.retain(|key, _| holding.contains(key));
}

/// Keys of overrides that something in the lock was made with.
fn keys_in_use(lock: &Lock) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let replaced = |submodules: &BTreeMap<String, String>| -> Vec<String> {
        let is_replaced = |pinned: &String| !rednix_fetch::git::is_rev(pinned);
        submodules.iter().filter(|(_, pinned)| is_replaced(pinned)).map(|(key, _)| key.clone()).collect()
    };
    for pin in lock.sources.values() {
        keys.extend(pin.source.overridden().map(str::to_owned));
        keys.extend(replaced(&pin.submodules));
    }
    for (line, entry) in &lock.cargo_git {
        if entry.rev.is_some() {
            keys.extend(GitSource::parse(line).map(|source| overrides::normalise(source.url)));
        }
        keys.extend(replaced(&entry.submodules));
    }
    keys
}

fn is_day(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_digit);
    bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-' && digits(0..4) && digits(5..7) && digits(8..10)
}

/// The recipes by name, as parsed. A system's name stands for every recipe its image needs.
fn lockable(
    session: &Session,
    project: &Project,
    names: &[String],
    renew: Renew,
) -> Result<Lockable, Failure> {
    let list: Vec<String> = names.iter().map(|name| project::quote(name)).collect();
    // What is renewed is what was named; what is locked is everything it is built from too.
    let function = if renew == Renew::Floating { "renewable" } else { "lockable" };
    let attribute = format!("{function} [ {} ]", list.join(" "));
    let value = evaluation::json(session, &Target::attribute(project, &attribute))?;
    serde_json::from_value(value)
        .map_err(|e| Failure::failed(format!("the library's `{function}` is no set of recipes: {e}")))
}

/// Fetches what the lock names and is not here yet, so that building works offline.
fn fetch_all(session: &Session, project: &Project, names: &[String]) -> Result<(), Failure> {
    let names: Vec<String> =
        names.iter().filter(|name| *name != "tree").map(|name| project::quote(name)).collect();
    let attribute = format!("fetches [ {} ]", names.join(" "));
    let value = evaluation::json(session, &Target::attribute(project, &attribute))?;
    let paths: Vec<String> = serde_json::from_value(value)
        .map_err(|e| Failure::failed(format!("the library's `fetches` is no list of derivations: {e}")))?;
    let wanted =
        paths.iter().map(|path| Ok(Wanted { derivation: StorePath::parse(path)?, output: "out".to_owned() }));
    let wanted: Vec<Wanted> = wanted.collect::<Result<_, Failure>>()?;
    if !wanted.is_empty() {
        session.build(&wanted)?;
    }
    Ok(())
}

fn changes(old: &Lock, new: &Lock) -> Vec<(String, Option<String>, Option<String>)> {
    let shown = |lock: &Lock| -> BTreeMap<String, String> {
        let tree = lock.tree.iter().map(|tree| ("tree".to_owned(), tree.rev.clone()));
        let toolchain = lock.toolchain.iter().map(|t| ("toolchain".to_owned(), t.channel.clone()));
        let sources = lock.sources.iter().filter(|(_, pin)| pin.source != Source::Path);
        tree.chain(toolchain)
            .chain(sources.map(|(name, pin)| (name.clone(), pin.source.shown().to_owned())))
            .collect()
    };
    let (old, new) = (shown(old), shown(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| (name.clone(), old.get(name).cloned(), new.get(name).cloned()))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn days() {
        assert!(super::is_day("2026-02-06"));
        for wrong in ["", "2026-2-6", "2026-02-06T00", "yesterday!", "2026/02/06"] {
            assert!(!super::is_day(wrong), "{wrong}");
        }
    }
}
