//! `rednix diff`: two systems, packages, store paths or derivations: which packages, and which files, differ. Builds
//! nothing: what is not built is compared as far as it is known.

use std::collections::{BTreeMap, BTreeSet};

use rednix_store::path::StorePath;

use crate::cli::DiffArgs;
use crate::failure::Failure;
use crate::project::Project;
use crate::report::files::{self, Change};
use crate::report::graph::{Graph, name};
use crate::session::Session;
use crate::view::size;

use super::print;
use super::subject::Subject;

/// Changes listed without `--all`.
const SHOWN_MAX: usize = 40;

pub fn run(session: &Session, arguments: &DiffArgs) -> Result<(), Failure> {
    let project = Project::find(&session.config, &arguments.tree)?;
    let graph = Graph::new(session.store_to_read()?);
    let old = Subject::find(session, &project, &graph, &arguments.old)?;
    let new = Subject::find(session, &project, &graph, &arguments.new)?;
    session.view.finish();
    let mut text = String::new();
    if let (Some(old), Some(new)) = (&old.derivation, &new.derivation) {
        let (before, after) = (Inputs::of(&graph, old)?, Inputs::of(&graph, new)?);
        text.push_str(&section("packages", &before.packages, &after.packages, arguments.all));
        if arguments.all {
            text.push_str(&section("other inputs", &before.others, &after.others, true));
        } else {
            let changes = changes(&before.others, &after.others);
            text.push_str(&format!("other inputs: {} (`--all` lists them)\n", summary(&changes)));
        }
    }
    match (&old.path, &new.path) {
        (Some(old), Some(new)) => {
            let (before, after) = (list(&graph, old)?, list(&graph, new)?);
            text.push_str(&file_section(&files::compare(&before, &after), arguments.all));
        }
        (old_path, _) => {
            let label = if old_path.is_none() { &old.label } else { &new.label };
            text.push_str(&format!("files: not compared, `{label}` is not built\n"));
        }
    }
    print(&text)
}

fn list(graph: &Graph, path: &StorePath) -> Result<files::Files, Failure> {
    files::list(&graph.store().real_path(path))
}

/// Something by name: what it is, and how large where it is built.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// The built path, else the derivation: equal where a change stopped before it.
    identity: BTreeSet<StorePath>,
    bytes: Option<u64>,
}

/// What a derivation is made from, itself included: recipes' packages apart from everything else.
#[derive(Default)]
struct Inputs {
    packages: BTreeMap<String, Part>,
    others: BTreeMap<String, Part>,
}

impl Inputs {
    fn of(graph: &Graph, root: &StorePath) -> Result<Inputs, Failure> {
        let mut inputs = Inputs::default();
        for path in graph.closure(root)?.into_iter().filter(|path| path != root || is_package(graph, root)) {
            let derivation = graph.get(&path)?;
            let is_package = is_package(graph, &path);
            let mut part = Part { identity: BTreeSet::new(), bytes: None };
            for output in derivation.outputs.keys() {
                // Realisations are looked up for packages alone: there are hundreds of the others.
                let built = if is_package { graph.output(&path, output)? } else { None };
                if let Some(built) = &built {
                    let bytes = graph.store().path_info(built)?.map_or(0, |info| info.nar_size);
                    part.bytes = Some(part.bytes.unwrap_or(0) + bytes);
                }
                part.identity.insert(built.unwrap_or_else(|| path.clone()));
            }
            let into = if is_package { &mut inputs.packages } else { &mut inputs.others };
            // Several of one name (sources, mostly) count as one.
            let known =
                into.entry(name(&path).to_owned()).or_insert(Part { identity: BTreeSet::new(), bytes: None });
            known.identity.extend(part.identity);
            known.bytes = match (known.bytes, part.bytes) {
                (None, None) => None,
                (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
            };
        }
        Ok(inputs)
    }
}

fn is_package(graph: &Graph, path: &StorePath) -> bool {
    graph.get(path).is_ok_and(|derivation| derivation.variable("cookbookName").is_some())
}

type Changes<'a> = BTreeMap<&'a String, (Option<&'a Part>, Option<&'a Part>)>;

fn changes<'a>(old: &'a BTreeMap<String, Part>, new: &'a BTreeMap<String, Part>) -> Changes<'a> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let pair = |name: &'a String| (name, (old.get(name), new.get(name)));
    let differs = |(_, (old, new)): &(_, (Option<&Part>, Option<&Part>))| {
        old.map(|part| &part.identity) != new.map(|part| &part.identity)
    };
    names.into_iter().map(pair).filter(differs).collect()
}

fn summary(changes: &Changes<'_>) -> String {
    let count =
        |wanted: fn(&(Option<&Part>, Option<&Part>)) -> bool| changes.values().filter(|c| wanted(c)).count();
    let (added, removed) = (count(|c| c.0.is_none()), count(|c| c.1.is_none()));
    format!("{added} added, {removed} removed, {} changed", changes.len() - added - removed)
}

fn section(title: &str, old: &BTreeMap<String, Part>, new: &BTreeMap<String, Part>, all: bool) -> String {
    let changes = changes(old, new);
    let same = new.len() - changes.values().filter(|(_, new)| new.is_some()).count();
    let mut text = format!("{title}: {}, {same} the same\n", summary(&changes));
    let bytes = |part: &Part| part.bytes.map_or("not built".to_owned(), size);
    let lines = changes.iter().map(|(name, change)| match change {
        (None, Some(part)) => format!("+ {name}  {}", bytes(part)),
        (Some(part), None) => format!("- {name}  {}", bytes(part)),
        (Some(old), Some(new)) => format!("~ {name}  {}", grown(old.bytes, new.bytes)),
        (None, None) => unreachable!("a name comes from one of the two"),
    });
    push_lines(&mut text, lines, all);
    text
}

fn grown(old: Option<u64>, new: Option<u64>) -> String {
    match (old, new) {
        (Some(old), Some(new)) if old == new => size(new),
        (Some(old), Some(new)) => {
            let sign = if new > old { '+' } else { '-' };
            format!("{} → {} ({sign}{})", size(old), size(new), size(old.abs_diff(new)))
        }
        (Some(old), None) => format!("{} → not built", size(old)),
        (None, Some(new)) => format!("not built → {}", size(new)),
        (None, None) => "not built".to_owned(),
    }
}

fn file_section(changes: &BTreeMap<String, Change>, all: bool) -> String {
    let count = |wanted: fn(&Change) -> bool| changes.values().filter(|change| wanted(change)).count();
    let added = count(|change| matches!(change, Change::Added { .. }));
    let removed = count(|change| matches!(change, Change::Removed { .. }));
    let changed = changes.len() - added - removed;
    let mut text = format!("files: {added} added, {removed} removed, {changed} changed\n");
    let lines = changes.iter().map(|(path, change)| match change {
        Change::Added { bytes } => format!("+ {path}  {}", size(*bytes)),
        Change::Removed { bytes } => format!("- {path}  {}", size(*bytes)),
        Change::Changed { old_bytes, new_bytes } => {
            format!("~ {path}  {}", grown(Some(*old_bytes), Some(*new_bytes)))
        }
    });
    push_lines(&mut text, lines, all);
    text
}

fn push_lines(text: &mut String, lines: impl ExactSizeIterator<Item = String>, all: bool) {
    let (total, shown_max) = (lines.len(), if all { usize::MAX } else { SHOWN_MAX });
    lines.take(shown_max).for_each(|line| text.push_str(&format!("{line}\n")));
    if total > shown_max {
        text.push_str(&format!("… and {} more (`--all` lists them)\n", total - shown_max));
    }
}
