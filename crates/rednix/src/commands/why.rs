//! `rednix why`: how one thing comes to need another, and how large a thing is. Builds nothing.

use std::collections::BTreeSet;

use rednix_store::handle::{Dir, Kind, Walk};
use rednix_store::path::StorePath;
use rednix_store::scan::Scanner;

use crate::cli::WhyArgs;
use crate::failure::Failure;
use crate::project::Project;
use crate::report::graph::{Chain, Graph, attributes, name, roles, shortest};
use crate::session::Session;
use crate::view::size;

use super::print;
use super::subject::{Subject, store_path};

pub fn run(session: &Session, arguments: &WhyArgs) -> Result<(), Failure> {
    let project = Project::find(&session.config, &arguments.tree)?;
    let graph = Graph::new(session.store_to_read()?);
    let of = Subject::find(session, &project, &graph, &arguments.of)?;
    let Some(needs) = &arguments.needs else {
        session.view.finish();
        return print(&sizes(&graph, &of)?);
    };
    let chains = if arguments.runtime {
        let goal = runtime_goal(session, &project, &graph, &of, needs)?;
        let mut next = |path: &StorePath| Ok(graph.store().references(path)?.into_iter().collect());
        shortest(of.built()?, arguments.all, &mut next, &mut |path| Ok(*path == goal))?
    } else {
        let root = of.derivation.as_ref().ok_or_else(|| {
            Failure::failed(format!("it is not known what `{}` was built from", of.label))
                .hint("`--runtime` looks at what its files refer to")
        })?;
        build_chains(session, &project, &graph, root, needs, arguments.all)?
    };
    session.view.finish();
    if chains.is_empty() {
        let how = if arguments.runtime { "refer to" } else { "need" };
        return Err(Failure::failed(format!("`{}` does not {how} `{needs}`", of.label)));
    }
    let mut text = String::new();
    for chain in &chains {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&if arguments.runtime {
            show_files(&graph, chain)?
        } else {
            show_roles(&graph, chain)?
        });
    }
    print(&text)
}

/// By the name of a derivation or source below `root`; only where there is none of that name by evaluation.
fn build_chains(
    session: &Session,
    project: &Project,
    graph: &Graph,
    root: &StorePath,
    needs: &str,
    all: bool,
) -> Result<Vec<Chain>, Failure> {
    if let Some(path) = store_path(graph, needs) {
        let derivers = graph.store().path_info(&path)?.and_then(|info| info.deriver);
        let mut is_goal = |candidate: &StorePath| {
            Ok(*candidate == path
                || (candidate.is_derivation() && Some(candidate) == derivers.as_ref())
                || (candidate.is_derivation() && has_output(graph, candidate, &path)?))
        };
        return Ok(graph.chains(root, all, &mut is_goal)?);
    }
    // A host package's derivation is called `host-NAME`.
    let named = needs.replace("host:", "host-");
    let chains = graph.chains(root, all, &mut |path| Ok(name(path) == named))?;
    if !chains.is_empty() {
        return Ok(chains);
    }
    let goal = Subject::find(session, project, graph, needs)?.derivation;
    Ok(graph.chains(root, all, &mut |path| Ok(Some(path) == goal.as_ref()))?)
}

fn has_output(graph: &Graph, derivation: &StorePath, path: &StorePath) -> Result<bool, rednix_store::Error> {
    let found = graph.get(derivation)?;
    // Names first: looking a realisation up means hashing all that is below.
    for output in found.outputs.keys() {
        let called = rednix_store::path::output_name(&found.name, output);
        if called == path.name() && graph.output(derivation, output)?.as_ref() == Some(path) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn runtime_goal(
    session: &Session,
    project: &Project,
    graph: &Graph,
    of: &Subject,
    needs: &str,
) -> Result<StorePath, Failure> {
    if let Some(path) = store_path(graph, needs) {
        return Ok(path);
    }
    let closure = graph.store().closure([of.built()?])?;
    match closure.into_keys().find(|path| path.name() == needs) {
        Some(path) => Ok(path),
        None => Subject::find(session, project, graph, needs)?.built().cloned(),
    }
}

/// A chain with the attributes by which each link needs the next.
fn show_roles(graph: &Graph, chain: &Chain) -> Result<String, Failure> {
    let mut text = format!("{}\n", name(&chain[0]));
    for (depth, pair) in chain.windows(2).enumerate() {
        let derivation = graph.get(&pair[0])?;
        let loaded = if pair[1].is_derivation() { Some(graph.get(&pair[1])?) } else { None };
        let roles = roles(&derivation, &pair[1], loaded.as_deref());
        let by = if roles.is_empty() { String::new() } else { format!("  ({})", roles.join(", ")) };
        text.push_str(&format!("{}└─ {}{by}\n", "   ".repeat(depth), name(&pair[1])));
    }
    Ok(text)
}

/// A chain with the first file of each link that names the next.
fn show_files(graph: &Graph, chain: &Chain) -> Result<String, Failure> {
    let mut text = format!("{}\n", chain[0]);
    for (depth, pair) in chain.windows(2).enumerate() {
        let by = match naming_file(graph, &pair[0], &pair[1])? {
            Some(file) => format!("  ({file})"),
            None => String::new(),
        };
        text.push_str(&format!("{}└─ {}{by}\n", "   ".repeat(depth), pair[1]));
    }
    Ok(text)
}

fn naming_file(graph: &Graph, from: &StorePath, to: &StorePath) -> Result<Option<String>, Failure> {
    let contents = graph.store().contents();
    let mut found = None;
    let mut look = |parent: &Dir, name: &std::ffi::OsStr, kind: Kind, relative: String| {
        let mut scanner = Scanner::new([to]);
        match kind {
            Kind::File => {
                let mut file = parent.open_file(name)?;
                let mut buffer = vec![0; 128 << 10];
                while let Ok(length @ 1..) = std::io::Read::read(&mut file, &mut buffer) {
                    scanner.update(&buffer[..length]);
                }
            }
            Kind::Symlink => scanner.update(parent.read_link(name)?.as_encoded_bytes()),
            Kind::Directory | Kind::Other => return Ok(Walk::Continue),
        }
        if found.is_none() && !scanner.finish().is_empty() {
            found = Some(relative);
        }
        Ok(if found.is_some() { Walk::Skip } else { Walk::Continue })
    };
    let top = std::ffi::OsStr::new(from.basename());
    let kind = contents.kind(top)?;
    if kind == Kind::Directory {
        contents.open_dir(top)?.walk(&mut |visit| {
            look(visit.parent, &visit.entry.name, visit.entry.kind, visit.relative.display().to_string())
        })?;
    } else {
        look(contents, top, kind, "the file itself".to_owned()).map_err(|e: rednix_store::Error| e)?;
    }
    Ok(found)
}

/// Largest first. For a system, the packages and other things its image is put together from: the image itself refers
/// to nothing. For anything else, all that its files refer to.
fn sizes(graph: &Graph, of: &Subject) -> Result<String, Failure> {
    let path = of.built()?;
    let mut parts: BTreeSet<(u64, String)> = BTreeSet::new();
    let info = graph.store().path_info(path)?.expect("a built path is valid");
    let mut total = 0;
    let derivation = of.derivation.as_ref().map(|path| graph.get(path)).transpose()?;
    let is_system = derivation.as_ref().is_some_and(|d| attributes(d).contains_key("configName"));
    if let (true, Some(derivation)) = (is_system, derivation) {
        for (input, outputs) in &derivation.input_derivations {
            for output in outputs {
                let Some(path) = graph.output(input, output)? else { continue };
                let bytes = graph.store().path_info(&path)?.map_or(0, |info| info.nar_size);
                total += bytes;
                parts.insert((bytes, path.name().to_owned()));
            }
        }
        parts.insert((info.nar_size, format!("{} (the image, holes included)", path.name())));
    } else {
        for (path, info) in graph.store().closure([path])? {
            total += info.nar_size;
            parts.insert((info.nar_size, path.to_string()));
        }
    }
    let mut text = String::new();
    for (bytes, name) in parts.iter().rev() {
        text.push_str(&format!("{:>9}  {name}\n", size(*bytes)));
    }
    let what = if is_system { "all parts" } else { "together" };
    text.push_str(&format!("{:>9}  {what}\n", size(total)));
    Ok(text)
}
