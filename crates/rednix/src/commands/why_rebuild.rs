//! `rednix why-rebuild`: what differs between a thing as it would be built now and as it was built last. Builds
//! nothing, and does not say whether a difference will reach the thing: a change without effect stops on the way.

use rednix_store::path::StorePath;

use crate::cli::WhyRebuildArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::project::Project;
use crate::report::explain::{Cause, Explanation, explain};
use crate::report::graph::{Graph, name};
use crate::report::{files, last, lines};
use crate::session::Session;

use super::print;

/// Lines of one changed text that are shown.
const LINES_MAX: usize = 40;
/// Files of one changed folder that are named.
const FILES_MAX: usize = 12;
/// A file larger than this is named, but its lines are not compared.
const TEXT_BYTES_MAX: u64 = 1 << 20;

pub fn run(session: &Session, arguments: &WhyRebuildArgs) -> Result<(), Failure> {
    let project = Project::find(&session.config, &arguments.tree)?;
    let wanted = evaluation::wanted(session, &[Target::reported(&project, &arguments.of)])?;
    let now = &wanted[0].derivation;
    let graph = Graph::new(session.store_to_read()?);
    let found = last_different(&graph, &project, now)?;
    session.view.finish();
    let (old, how) = match found {
        Found::Never => {
            return print(&format!("{} was not built from this tree yet\n", arguments.of));
        }
        Found::Same => {
            return print(&format!("nothing: {} is what was built last\n", arguments.of));
        }
        Found::Changed(old) => (old, "would be built anew, because"),
        Found::Before(old) => (old, "is what was built last; it differs from the time before, because"),
    };
    let mut text = format!("{} {how}\n", arguments.of);
    for explanation in explain(&graph, &old, now)? {
        text.push_str(&tell(&graph, &explanation)?);
    }
    print(&text)
}

enum Found {
    Never,
    Same,
    Changed(StorePath),
    Before(StorePath),
}

/// The thing itself, or a system with it in, as remembered; the latest counts.
fn last_different(graph: &Graph, project: &Project, now: &StorePath) -> Result<Found, Failure> {
    let within = |root: &StorePath| -> Result<Option<StorePath>, Failure> {
        let target =
            |path: &StorePath| Ok::<_, Failure>(graph.get(path)?.variable("TARGET").map(str::to_owned));
        let wanted = target(now)?;
        for path in graph.closure(root)? {
            if name(&path) == name(now) && target(&path)? == wanted {
                return Ok(Some(path));
            }
        }
        Ok(None)
    };
    for record in last::records(graph.store(), project)? {
        let mut roots = record.derivations();
        let Some(found) = roots.next().map(|root| within(&root)).transpose()?.flatten() else { continue };
        if found != *now {
            return Ok(Found::Changed(found));
        }
        return Ok(match roots.next().map(|root| within(&root)).transpose()?.flatten() {
            Some(before) if before != *now => Found::Before(before),
            _ => Found::Same,
        });
    }
    Ok(Found::Never)
}

fn tell(graph: &Graph, explanation: &Explanation) -> Result<String, Failure> {
    let mut text = format!("\n{}:\n", explanation.chain.join(" ← "));
    let mut line = |content: &str| text.push_str(&format!("  {content}\n"));
    match &explanation.cause {
        Cause::Attribute { name, new: Some(_), .. } if name == "rednixWorkContent" => {
            line("the working copy changed (`rednix work --diff` tells how)");
        }
        Cause::Attribute { name, .. } if name.starts_with("rednixWork") => {
            line("whether it is a working copy")
        }
        Cause::Attribute { name, old: Some(old), new: Some(new) } => {
            line(&format!("`{name}` changed"));
            lines::unified(old, new, LINES_MAX).iter().for_each(|changed| line(&format!("  {changed}")));
        }
        Cause::Attribute { name, old: None, .. } => line(&format!("`{name}` is new")),
        Cause::Attribute { name, new: None, .. } => line(&format!("`{name}` is gone")),
        Cause::Pin { old, new, .. } => {
            line("another thing is pinned");
            line(&format!("  -{old}"));
            line(&format!("  +{new}"));
        }
        Cause::InputAdded { name } => line(&format!("it now needs {name}")),
        Cause::InputRemoved { name } => line(&format!("it needs {name} no more")),
        Cause::Source { roles, old, new } => {
            line(&format!("{} changed ({})", roles.join(", "), name(new)));
            for changed in source_changes(graph, old, new)? {
                line(&format!("  {changed}"));
            }
        }
    }
    Ok(text)
}

/// What changed inside a source, where both are still in the store.
fn source_changes(graph: &Graph, old: &StorePath, new: &StorePath) -> Result<Vec<String>, Failure> {
    let store = graph.store();
    if !store.is_valid(old)? || !store.is_valid(new)? {
        return Ok(vec!["(the old one was collected)".to_owned()]);
    }
    let (old_top, new_top) = (store.real_path(old), store.real_path(new));
    let changes = files::compare(&files::list(&old_top)?, &files::list(&new_top)?);
    let mut told = Vec::new();
    for (path, change) in changes.iter().take(FILES_MAX) {
        let within = |top: &std::path::Path| if path == "." { top.to_owned() } else { top.join(path) };
        let shown = if path == "." { name(new) } else { path };
        match change {
            files::Change::Added { .. } => told.push(format!("{shown} is new")),
            files::Change::Removed { .. } => told.push(format!("{shown} is gone")),
            files::Change::Changed { old_bytes, new_bytes } => {
                told.push(format!("{shown} changed"));
                if old_bytes.max(new_bytes) <= &TEXT_BYTES_MAX
                    && let (Ok(before), Ok(after)) =
                        (std::fs::read_to_string(within(&old_top)), std::fs::read_to_string(within(&new_top)))
                {
                    let lines = lines::unified(&before, &after, LINES_MAX);
                    told.extend(lines.into_iter().map(|line| format!("  {line}")));
                }
            }
        }
    }
    if changes.len() > FILES_MAX {
        told.push(format!("and {} more files", changes.len() - FILES_MAX));
    }
    Ok(told)
}
