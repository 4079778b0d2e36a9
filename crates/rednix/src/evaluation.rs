//! Evaluation for the commands: what the user named becomes an expression, its derivations land in the store,
//! and an error comes back as the user's own lines.

use std::path::Path;
use std::time::Instant;

use rednix_eval::{Evaluator, Origin, SearchEntry, Settings};
use rednix_events::{Event, Events};
use rednix_store::path::StorePath;
use serde_json::Value;

use crate::cli::LockFlags;
use crate::evalcache::{self, Answer, Question};
pub use crate::explaining::{explain, failure, failure_at};
use crate::failure::Failure;
use crate::flake::Installable;
use crate::project::{self, Project};
use crate::session::{Session, Wanted};
use crate::world::{Access, StoreWorld};

/// Where flakes keep systems.
const SYSTEMS: &str = "redoxConfigurations";

/// Something to evaluate.
#[derive(Debug, Clone)]
pub struct Target {
    /// As people would name it.
    label: String,
    what: What,
    /// The text is the user's own, so errors may point into it.
    own: bool,
}

#[derive(Debug, Clone)]
enum What {
    Expression(String),
    Derivation(StorePath),
    /// An attribute of a flake, which flakes keep below `role`; of it the attribute `part`.
    Flake {
        text: String,
        flags: LockFlags,
        role: &'static str,
        part: &'static str,
    },
}

impl Target {
    pub fn expression(text: &str) -> Target {
        Target { label: "the expression".to_owned(), what: What::Expression(text.to_owned()), own: true }
    }

    /// An attribute path of the library, with arguments where they follow it in Nix.
    pub fn attribute(project: &Project, attribute: &str) -> Target {
        let text = format!("({}).{attribute}", project.expression());
        Target { label: attribute.to_owned(), what: What::Expression(text), own: false }
    }

    /// An expression of the program's own, named `label` in what is told.
    pub fn internal(label: &str, text: String) -> Target {
        Target { label: label.to_owned(), what: What::Expression(text), own: false }
    }

    /// The image of a system.
    pub fn image(project: &Project, system: &str) -> Target {
        if Installable::is_named(project, system) {
            return Target::flake_part(system, &LockFlags::default(), SYSTEMS, "image");
        }
        let text = format!("({}).image", system_expression(project, system));
        Target { label: format!("system {system}"), what: What::Expression(text), own: false }
    }

    /// What a report is asked about: a recipe's package, or else a system's image (`system:NAME` is always one).
    pub fn reported(project: &Project, name: &str) -> Target {
        if name.starts_with(".#") {
            return Target::installable(project, name);
        }
        if let Some(system) = name.strip_prefix("system:") {
            return Target::image(project, system);
        }
        let (library, quoted) = (project.expression(), project::quote(name));
        let text = format!(
            "let l = {library}; n = {quoted}; in if !(l.cookbook.folders ? ${{n}}) && l.systems ? ${{n}} then l.systems.${{n}}.image else l.package n"
        );
        Target { label: name.to_owned(), what: What::Expression(text), own: false }
    }

    /// A part of what a repository of these systems or packages is made of.
    pub fn repository(project: &Project, names: &[String], part: &str) -> Target {
        let list: Vec<String> = names.iter().map(|name| project::quote(name)).collect();
        let text = format!("(({}).repository [ {} ]).{part}", project.expression(), list.join(" "));
        Target { label: format!("repository {}", names.join(" ")), what: What::Expression(text), own: false }
    }

    /// The machine that a system asks for, as JSON; null where it asks for none.
    pub fn machine(project: &Project, system: &str) -> Target {
        if Installable::is_named(project, system) {
            return Target::flake_part(system, &LockFlags::default(), SYSTEMS, "machine");
        }
        let text = format!("({}).machine or null", system_expression(project, system));
        Target { label: format!("machine of {system}"), what: What::Expression(text), own: false }
    }

    /// An attribute of a flake.
    pub fn flake(text: &str, flags: &LockFlags) -> Target {
        Target::flake_part(text, flags, "", "")
    }

    fn flake_part(text: &str, flags: &LockFlags, role: &'static str, part: &'static str) -> Target {
        let what = What::Flake { text: text.to_owned(), flags: flags.clone(), role, part };
        Target { label: text.to_owned(), what, own: false }
    }

    fn expression_of((at, target): (usize, &Target)) -> Option<(usize, &str)> {
        match &target.what {
            What::Expression(text) => Some((at, text)),
            What::Derivation(_) | What::Flake { .. } => None,
        }
    }

    /// What an answer is remembered by: errors apart, which are not, only the expression counts.
    fn question(&self, expression: &str) -> String {
        format!("{:?} {expression}", self.origin())
    }

    fn origin(&self) -> Origin {
        if self.own { Origin::Text } else { Origin::Internal("the command line") }
    }

    /// `.#attribute`, a derivation's path, or a package's name.
    pub fn installable(project: &Project, name: &str) -> Target {
        if let Some(attribute) = name.strip_prefix(".#") {
            return Target::attribute(project, attribute);
        }
        if name.ends_with(".nix") {
            return Target::image(project, name);
        }
        match StorePath::parse(name) {
            Ok(path) if path.is_derivation() => {
                Target { label: name.to_owned(), what: What::Derivation(path), own: false }
            }
            _ => {
                let text = format!("({}).package {}", project.expression(), project::quote(name));
                Target { label: name.to_owned(), what: What::Expression(text), own: false }
            }
        }
    }
}

/// Whether a system is named by a Nix file that gives it (`./system.nix`), and not by its configuration.
pub fn is_system_file(name: &str) -> bool {
    name.ends_with(".nix") || ["./", "../", "/"].iter().any(|start| name.starts_with(start))
}

/// A configuration's name, a Nix file, or `.#attribute` → an expression for the system.
fn system_expression(project: &Project, name: &str) -> String {
    let library = project.expression();
    if let Some(attribute) = name.strip_prefix(".#") {
        return format!("({library}).{attribute}");
    }
    if is_system_file(name) {
        let file = project::quote(&Path::new(&working_directory()).join(name).to_string_lossy());
        return format!("({library}).systemOf {file}");
    }
    format!("({library}).system {}", project::quote(name))
}

/// An evaluator over the session's store, and the world to flush afterwards.
pub fn evaluator(session: &Session, settings: Settings) -> Result<(Evaluator, StoreWorld), Failure> {
    let access = if settings.pure { Access::Pure } else { Access::All };
    evaluator_with(session, settings, access)
}

/// As [`evaluator`], with what files may be read.
pub fn evaluator_with(
    session: &Session,
    settings: Settings,
    access: Access,
) -> Result<(Evaluator, StoreWorld), Failure> {
    let world = StoreWorld::new(session.store()?, session.events().clone(), session.outside()?, access)
        .names_only(settings.read_only);
    if access == Access::Restricted {
        for entry in &settings.search_path {
            world.allow_path(Path::new(&working_directory()).join(&entry.path));
        }
    }
    Ok((Evaluator::new(Box::new(world.clone()), settings), world))
}

/// Settings as the environment has them.
pub fn settings() -> Settings {
    let search_path = std::env::var("NIX_PATH").unwrap_or_default();
    Settings {
        search_path: split_search_path(&search_path).into_iter().map(SearchEntry::parse).collect(),
        working_directory: Some(working_directory()),
        home: std::env::var("HOME").ok(),
        interrupted: Some(crate::interrupt::flag()),
        ..Settings::default()
    }
}

/// Entries of `NIX_PATH`; a colon that belongs to an address ends none.
fn split_search_path(text: &str) -> Vec<&str> {
    let mut entries = Vec::new();
    let mut start = 0;
    let ends = text.match_indices(':').map(|(at, _)| at).chain([text.len()]);
    for end in ends {
        if end < start {
            continue;
        }
        let entry = &text[start..end];
        let value = entry.split_once('=').map_or(entry, |(_, value)| value);
        let begins_address =
            text[end..].starts_with("://") || (end < text.len() && ["flake", "channel"].contains(&value));
        if begins_address {
            continue;
        }
        if !entry.is_empty() {
            entries.push(entry);
        }
        start = end + 1;
    }
    entries
}

pub fn working_directory() -> String {
    std::env::current_dir().map(|d| d.to_string_lossy().into_owned()).unwrap_or_else(|_| "/".to_owned())
}

/// The derivations of all targets, written to the store.
pub fn wanted(session: &Session, targets: &[Target]) -> Result<Vec<Wanted>, Failure> {
    let settings = settings();
    let expressions: Vec<(usize, &str)> =
        targets.iter().enumerate().filter_map(Target::expression_of).collect();
    let texts: Vec<String> = expressions.iter().map(|(at, text)| targets[*at].question(text)).collect();
    let (all_frames, events) = (session.global.show_trace, session.events().clone());
    let question = Question { kind: "derivations", texts: &texts, settings: &settings };
    let answers = evalcache::answer(session, &question, expressions.len(), |evaluator, part| {
        let (at, expression) = expressions[part];
        let target = &targets[at];
        timed(&events, &target.label, || {
            let found = evaluator
                .source(target.origin(), expression.as_bytes(), working_directory().as_bytes())
                .and_then(|handle| evaluator.force(handle))
                .and_then(|handle| evaluator.derivations(handle, &[]));
            let found = found.map_err(|error| failure_at(all_frames, evaluator, &error))?;
            if found.is_empty() {
                return Err(Failure::usage(format!("`{}` is nothing that can be built", target.label)));
            }
            let lines: Vec<String> = found.iter().map(|f| format!("{}!{}", f.derivation, f.output)).collect();
            let derivations = found.into_iter().map(|f| f.derivation).collect();
            Ok(Answer { text: lines.join("\n"), derivations })
        })
    })?;
    let mut answers = answers.into_iter();
    let mut all = Vec::new();
    for target in targets {
        match &target.what {
            What::Derivation(path) => {
                let outputs = session.store()?.read_derivation(path)?.outputs.into_keys();
                all.extend(outputs.map(|output| Wanted { derivation: path.clone(), output }));
            }
            What::Flake { text, flags, role, part } => {
                let installable = Installable::parse(text, flags)?;
                all.extend(timed(session.events(), &target.label, || {
                    installable.wanted(session, role, part)
                })?);
            }
            What::Expression(_) => {
                for line in answers.next().unwrap_or_default().lines() {
                    let (path, output) = line.split_once('!').unwrap_or((line, "out"));
                    all.push(Wanted { derivation: StorePath::parse(path)?, output: output.to_owned() });
                }
            }
        }
    }
    Ok(all)
}

/// A target's value as JSON.
pub fn json(session: &Session, target: &Target) -> Result<Value, Failure> {
    if let What::Flake { text, flags, role, part } = &target.what {
        return flake_json(session, &Installable::parse(text, flags)?, role, part);
    }
    let What::Expression(expression) = &target.what else {
        return Err(Failure::usage(format!("`{}` has no value", target.label)));
    };
    let settings = settings();
    let (all_frames, events) = (session.global.show_trace, session.events().clone());
    let texts = [target.question(expression)];
    let question = Question { kind: "json", texts: &texts, settings: &settings };
    let answers = evalcache::answer(session, &question, 1, |evaluator, _| {
        let text = timed(&events, &target.label, || {
            evaluator
                .source(target.origin(), expression.as_bytes(), working_directory().as_bytes())
                .and_then(|handle| evaluator.to_json(handle))
                .map_err(|error| failure_at(all_frames, evaluator, &error))
        })?;
        Ok(Answer { text: String::from_utf8_lossy(&text).into_owned(), derivations: Vec::new() })
    })?;
    let text = answers.into_iter().next().unwrap_or_default();
    serde_json::from_str(&text).map_err(|e| Failure::failed(format!("`{}` gives no JSON: {e}", target.label)))
}

/// An attribute of what a flake gives, as JSON; null where it is not there.
fn flake_json(
    session: &Session,
    installable: &Installable,
    role: &str,
    part: &str,
) -> Result<Value, Failure> {
    let (mut evaluator, world, handle) = installable.evaluate(session, role)?;
    let Some(handle) = evaluator.attribute_of(handle, part) else { return Ok(Value::Null) };
    let text = evaluator.to_json(handle);
    let text = explain(session, &evaluator, text)?;
    world.flush()?;
    serde_json::from_slice(&text)
        .map_err(|e| Failure::failed(format!("`{}` gives no JSON: {e}", installable.show())))
}

fn timed<T>(events: &Events, what: &str, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let started = Instant::now();
    events.emit(Event::EvalStarted { what: what.to_owned() });
    let result = work();
    let duration_ms = started.elapsed().as_millis() as u64;
    events.emit(Event::EvalDone { what: what.to_owned(), duration_ms });
    result
}
