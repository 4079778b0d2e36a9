//! Which tests are meant: those of the library by name, of files, of flakes. Evaluates them and builds their images.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rednix_store::path::StorePath;
use serde_json::Value;

use crate::cli::{LockFlags, TestArgs, TestOptions};
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::flake::Installable;
use crate::project::{self, Project};
use crate::relock;
use crate::session::{Session, Wanted};

/// A test whose images are built.
#[derive(Debug)]
pub struct Found {
    /// The test as the library gives it.
    pub data: Value,
    /// Folders with `disk.img`, in the order of the machines.
    pub images: Vec<PathBuf>,
    /// It comes from a flake, whose author need not be somebody to trust.
    pub of_flake: bool,
}

/// Where tests come from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    Library,
    File(String),
    Flake(String),
}

/// The names asked for, by where they come from; no names are all.
fn sources(project: &Project, arguments: &TestArgs) -> Vec<(Source, Vec<String>)> {
    if arguments.names.is_empty() {
        return vec![(Source::Library, Vec::new())];
    }
    let mut sources: Vec<(Source, Vec<String>)> = Vec::new();
    for text in &arguments.names {
        let (before, after) = text.split_once('#').unwrap_or((text, ""));
        let (source, name) = if evaluation::is_system_file(before) && !Path::new(before).is_dir() {
            (Source::File(before.to_owned()), after)
        } else if text.contains('#') && (before != "." || Installable::is_named(project, text)) {
            (Source::Flake(text.clone()), "")
        } else {
            (Source::Library, text.strip_prefix(".#checks.").unwrap_or(text))
        };
        let name = Some(name).filter(|name| !name.is_empty()).map(str::to_owned);
        match sources.iter_mut().find(|(known, names)| *known == source && !names.is_empty()) {
            Some((_, names)) if name.is_some() => names.extend(name),
            _ => sources.push((source, name.into_iter().collect())),
        }
    }
    sources
}

/// The tests there are, as an expression.
fn expression(project: &Project, source: &Source, system: Option<&str>) -> String {
    let library = project.expression();
    match source {
        Source::File(file) => {
            let here = evaluation::working_directory();
            let absolute = |text: &str| project::quote(&Path::new(&here).join(text).to_string_lossy());
            let system = system.map_or("null".to_owned(), |name| {
                if evaluation::is_system_file(name) { absolute(name) } else { project::quote(name) }
            });
            format!(
                "(let l = {library}; in l.testing.tests (l.testing.testsOf {{ rednix = l; file = {}; system = {system}; }}))",
                absolute(file)
            )
        }
        _ => format!("({library}).testing.checks"),
    }
}

/// The names of the tests asked for.
pub fn names(session: &Session, project: &Project, arguments: &TestArgs) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for (source, names) in sources(project, arguments) {
        all.extend(chosen(session, project, &source, names, arguments)?);
    }
    Ok(all)
}

/// Names that there are; all of the source where none is asked for.
fn chosen(
    session: &Session,
    project: &Project,
    source: &Source,
    names: Vec<String>,
    arguments: &TestArgs,
) -> Result<Vec<String>, Failure> {
    let known = known(session, project, source, arguments.system.as_deref())?;
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        let known = known.join(", ");
        return Err(Failure::usage(format!("no test is named `{unknown}`; there are: {known}")));
    }
    Ok(if names.is_empty() { known } else { names })
}

fn known(
    session: &Session,
    project: &Project,
    source: &Source,
    system: Option<&str>,
) -> Result<Vec<String>, Failure> {
    if let Source::Flake(text) = source {
        return Ok(vec![text.clone()]);
    }
    let text = format!("builtins.attrNames {}", expression(project, source, system));
    let names = evaluation::json(session, &Target::internal("tests", text))?;
    serde_json::from_value(names).map_err(|e| Failure::failed(format!("the names of tests are wrong: {e}")))
}

/// The tests asked for, their images built.
pub fn tests(session: &Session, project: &Project, arguments: &TestArgs) -> Result<Vec<Found>, Failure> {
    let mut all = Vec::new();
    for (source, names) in sources(project, arguments) {
        if let Source::Flake(text) = &source {
            all.extend(of_flake(session, text, &arguments.options)?);
            continue;
        }
        let chosen = chosen(session, project, &source, names, arguments)?;
        let found = relock::building(session, project.clone(), arguments.tree.locked, |project| {
            let tests = expression(project, &source, arguments.system.as_deref());
            of_library(session, &tests, &chosen, &arguments.options)
        })?;
        all.extend(found);
    }
    Ok(all)
}

/// Tests of an expression by name, in that order.
fn of_library(
    session: &Session,
    tests: &str,
    names: &[String],
    options: &TestOptions,
) -> Result<Vec<Found>, Failure> {
    let list: Vec<String> = names.iter().map(|name| project::quote(name)).collect();
    let chosen = format!("let tests = {tests}; in map (name: tests.${{name}}) [ {} ]", list.join(" "));
    let data = format!("map (test: {{ inherit (test) data sources; }}) ({chosen})");
    let data = evaluation::json(session, &Target::internal("tests", data))?;
    let images = format!(
        "builtins.filter (image: image ? drvPath) (builtins.concatMap (test: test.images) ({chosen}))"
    );
    let prepared = read(data)?;
    check_plans(session, options, &prepared, false)?;
    let wanted = if prepared.iter().any(|(_, sources)| sources.iter().any(|one| is_derivation(one))) {
        evaluation::wanted(session, &[Target::internal("images of tests", images)])?
    } else {
        Vec::new()
    };
    with_images(session, prepared, &wanted, false)
}

/// One test of a flake, or a set of them.
fn of_flake(session: &Session, text: &str, options: &TestOptions) -> Result<Vec<Found>, Failure> {
    let installable = Installable::parse(text, &LockFlags::default())?;
    let (mut evaluator, world, handle) = installable.evaluate(session, "checks")?;
    let made = evaluator.attribute_of(handle, "machineTest");
    let tests = match made {
        Some(test) => vec![test],
        None => {
            let mut tests = Vec::new();
            for (_, value) in evaluator.attributes_of(handle).unwrap_or_default() {
                let value = evaluator.force(value);
                let value = evaluation::explain(session, &evaluator, value)?;
                tests.extend(evaluator.attribute_of(value, "machineTest"));
            }
            tests
        }
    };
    if tests.is_empty() {
        return Err(Failure::usage(format!("`{}` is no machine test", installable.show()))
            .hint("make it with the library's `machineTest NAME { … }`"));
    }
    of_handles(session, evaluator, world, tests, options)
}

/// Values of a flake's `machineTest` attributes.
pub fn of_handles(
    session: &Session,
    mut evaluator: rednix_eval::Evaluator,
    world: crate::world::StoreWorld,
    tests: Vec<rednix_eval::Handle>,
    options: &TestOptions,
) -> Result<Vec<Found>, Failure> {
    let mut prepared = Vec::new();
    let mut wanted = Vec::new();
    for test in tests {
        let mut json = serde_json::Map::new();
        for part in ["data", "sources"] {
            let value = evaluator.select(test, part, &[]).and_then(|value| evaluator.to_json(value));
            let text = evaluation::explain(session, &evaluator, value)?;
            json.insert(part.to_owned(), serde_json::from_slice(&text)?);
        }
        let found = evaluator.select(test, "images", &[]).and_then(|value| evaluator.derivations(value, &[]));
        for one in evaluation::explain(session, &evaluator, found)? {
            wanted.push(Wanted { derivation: one.derivation, output: one.output });
        }
        prepared.extend(read(Value::Array(vec![Value::Object(json)]))?);
    }
    world.flush()?;
    check_plans(session, options, &prepared, true)?;
    with_images(session, prepared, &wanted, true)
}

fn is_derivation(source: &str) -> bool {
    source.ends_with(".drv")
}

/// `[ { data; sources; } … ]` → data with the sources of its images.
fn read(value: Value) -> Result<Vec<(Value, Vec<String>)>, Failure> {
    #[derive(serde::Deserialize)]
    struct One {
        data: Value,
        sources: Vec<String>,
    }
    let all: Vec<One> = serde_json::from_value(value)
        .map_err(|e| Failure::usage(format!("a test is not what the library makes: {e}")))?;
    Ok(all.into_iter().map(|one| (one.data, one.sources)).collect())
}

/// What is wrong with tests is told before images are built for them.
fn check_plans(
    session: &Session,
    options: &TestOptions,
    prepared: &[(Value, Vec<String>)],
    of_flake: bool,
) -> Result<(), Failure> {
    prepared.iter().try_for_each(|(data, _)| super::check_plan(session, options, data, of_flake))
}

fn with_images(
    session: &Session,
    prepared: Vec<(Value, Vec<String>)>,
    wanted: &[Wanted],
    of_flake: bool,
) -> Result<Vec<Found>, Failure> {
    let unique: Vec<Wanted> = wanted.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let paths = if unique.is_empty() { Vec::new() } else { session.build(&unique)? };
    let store = session.store()?;
    let mut all = Vec::new();
    for (data, sources) in prepared {
        let name = data["name"].as_str().unwrap_or_default().to_owned();
        let mut images = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            if !is_derivation(source) {
                let is_stored = source.starts_with("/nix/store/");
                let root = if is_stored { session.config.store.as_path() } else { Path::new("/") };
                images.push(root.join(source.trim_start_matches('/')));
                continue;
            }
            let derivation = StorePath::parse(source)?;
            let at = unique.iter().position(|one| one.derivation == derivation);
            let path = at.map(|at| &paths[at]).ok_or_else(|| {
                Failure::failed(format!("the test `{name}` names an image that was not evaluated"))
            })?;
            store.add_root(&format!("test-{}-{number}", name.replace('/', "-")), path)?;
            images.push(store.real_path(path));
        }
        all.push(Found { data, images, of_flake });
    }
    Ok(all)
}
