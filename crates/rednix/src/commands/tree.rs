//! `rednix tree`: looks at a recipe tree. `check` reads every recipe; `graph` prints what a system is built from.
//! Builds and changes nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use rednix_eval::{Evaluator, Handle, Origin};
use rednix_events::Event;
use serde::Deserialize;

use crate::cli::{GraphFormat, TreeCommand};
use crate::evaluation::{self, Target};
use crate::failure::{EXIT_FAILED, Failure};
use crate::project::{self, Project};
use crate::session::Session;

use super::print;

pub fn run(session: &Session, command: &TreeCommand) -> Result<u8, Failure> {
    match command {
        TreeCommand::Check { tree, strict } => {
            let project = Project::find(&session.config, tree)?;
            let report = check(session, &project)?;
            session.view.finish();
            print(&report.text(&project))?;
            Ok(if *strict && !report.is_clean() { EXIT_FAILED } else { 0 })
        }
        TreeCommand::Graph { name, tree, format } => {
            let project = Project::find(&session.config, tree)?;
            let attribute = format!("graph [ {} ]", project::quote(name));
            let value = evaluation::json(session, &Target::attribute(&project, &attribute))?;
            session.view.finish();
            let wrong =
                |e: serde_json::Error| Failure::failed(format!("the library's `graph` is no graph: {e}"));
            match format {
                GraphFormat::Json => print(&format!("{:#}\n", value))?,
                GraphFormat::Text => {
                    print(&serde_json::from_value::<Graph>(value).map_err(wrong)?.text(name))?
                }
                GraphFormat::Dot => print(&serde_json::from_value::<Graph>(value).map_err(wrong)?.dot(name))?,
            }
            Ok(0)
        }
    }
}

/// A recipe as the library sums it up.
#[derive(Debug, Deserialize)]
struct Summary {
    template: String,
    source: String,
    /// A git source without a revision.
    floats: bool,
    /// A tar with its hash.
    hashed: bool,
}

/// What reading the whole tree gave.
#[derive(Debug, Default)]
struct Report {
    recipes: usize,
    templates: BTreeMap<String, usize>,
    sources: BTreeMap<String, usize>,
    floating: usize,
    hashed: usize,
    /// Recipe files that cannot be read, with the reason.
    unreadable: Vec<(String, String)>,
    /// Template → recipes that want it though nobody has it.
    unknown: BTreeMap<String, Vec<String>>,
}

/// Reads every recipe in one evaluation, each by itself: what is wrong with one says nothing of the others.
fn check(session: &Session, project: &Project) -> Result<Report, Failure> {
    let started = Instant::now();
    let what = format!("tree {}", project.tree.display());
    session.events().emit(Event::EvalStarted { what: what.clone() });
    let (mut evaluator, _) = evaluation::evaluator(session, evaluation::settings())?;
    let text = format!(
        "let cookbook = ({}).cookbook; in {{ folders = builtins.mapAttrs (_: toString) (removeAttrs cookbook.folders cookbook.written); inherit (cookbook) summary templates; }}",
        project.expression()
    );
    let directory = evaluation::working_directory();
    let handle = evaluator
        .source(Origin::Internal("the command line"), text.as_bytes(), directory.as_bytes())
        .and_then(|handle| evaluator.force(handle))
        .map_err(|error| evaluation::failure(session, &evaluator, &error))?;
    let folders: BTreeMap<String, String> = attribute(session, &mut evaluator, handle, "folders")?;
    let known: Vec<String> = attribute(session, &mut evaluator, handle, "templates")?;
    let summary = evaluator
        .attribute_of(handle, "summary")
        .ok_or_else(|| Failure::failed("the library has no `cookbook.summary`"))?;
    let mut report = Report { recipes: folders.len(), ..Report::default() };
    for (name, folder) in &folders {
        let argument = evaluator.string(name.as_bytes());
        let found = evaluator.call(summary, &[argument]).and_then(|handle| evaluator.to_json(handle));
        match found {
            Ok(json) => {
                let summary: Summary = serde_json::from_slice(&json)
                    .map_err(|e| Failure::failed(format!("the library's `summary` of {name}: {e}")))?;
                report.add(name, summary, &known);
            }
            Err(error) => {
                let reason = error.message.lines().next().unwrap_or_default().to_owned();
                report.unreadable.push((format!("{folder}/recipe.toml"), reason));
            }
        }
    }
    let duration_ms = started.elapsed().as_millis() as u64;
    session.events().emit(Event::EvalDone { what, duration_ms });
    Ok(report)
}

fn attribute<T: serde::de::DeserializeOwned>(
    session: &Session,
    evaluator: &mut Evaluator,
    set: Handle,
    name: &str,
) -> Result<T, Failure> {
    let missing = || Failure::failed(format!("the library has no `cookbook.{name}`"));
    let handle = evaluator.attribute_of(set, name).ok_or_else(missing)?;
    let json = evaluator.to_json(handle);
    let json = json.map_err(|error| evaluation::failure(session, evaluator, &error))?;
    serde_json::from_slice(&json).map_err(|e| Failure::failed(format!("the library's `{name}`: {e}")))
}

impl Report {
    fn add(&mut self, name: &str, summary: Summary, known: &[String]) {
        self.floating += usize::from(summary.floats);
        self.hashed += usize::from(summary.hashed);
        if !known.contains(&summary.template) {
            self.unknown.entry(summary.template.clone()).or_default().push(name.to_owned());
        }
        *self.templates.entry(summary.template).or_default() += 1;
        *self.sources.entry(summary.source).or_default() += 1;
    }

    fn is_clean(&self) -> bool {
        self.unreadable.is_empty() && self.unknown.is_empty()
    }

    fn text(&self, project: &Project) -> String {
        let counts = |map: &BTreeMap<String, usize>| {
            let mut list: Vec<(&String, &usize)> = map.iter().collect();
            list.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            list.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        let mut text =
            format!("{} recipes, {} can be read\n", self.recipes, self.recipes - self.unreadable.len());
        let _ = writeln!(text, "templates: {}", counts(&self.templates));
        let _ = writeln!(
            text,
            "sources: {} ({} git without a revision, {} tar with its hash)",
            counts(&self.sources),
            self.floating,
            self.hashed
        );
        if !self.unreadable.is_empty() {
            let _ = writeln!(text, "\n{} are no TOML:", self.unreadable.len());
            let root = format!("{}/", project.tree.display());
            for (file, reason) in &self.unreadable {
                let _ = writeln!(text, "  {}: {reason}", file.strip_prefix(&root).unwrap_or(file));
            }
        }
        for (template, recipes) in &self.unknown {
            let _ = writeln!(text, "\n{} want the template `{template}`, which nobody has:", recipes.len());
            let _ = writeln!(text, "  {}", recipes.join(", "));
        }
        text
    }
}

/// What packages are built from.
#[derive(Debug, Deserialize)]
struct Graph {
    packages: Vec<String>,
    recipes: BTreeMap<String, Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    template: String,
    source: String,
    dependencies: Vec<String>,
}

impl Graph {
    /// Whether a package of this recipe is installed.
    fn is_installed(&self, recipe: &str) -> bool {
        self.packages.iter().any(|package| package.split('.').next() == Some(recipe))
    }

    fn text(&self, name: &str) -> String {
        let mut text = format!("{name}: {} packages, {} recipes\n", self.packages.len(), self.recipes.len());
        for (recipe, node) in &self.recipes {
            let mark = if self.is_installed(recipe) { ' ' } else { '*' };
            let _ = write!(text, "{mark} {recipe} ({}, {})", node.template, node.source);
            if !node.dependencies.is_empty() {
                let _ = write!(text, " from {}", node.dependencies.join(", "));
            }
            text.push('\n');
        }
        if self.recipes.keys().any(|recipe| !self.is_installed(recipe)) {
            text.push_str("* only built, not installed\n");
        }
        text
    }

    fn dot(&self, name: &str) -> String {
        let mut text = format!("digraph {} {{\n  rankdir = LR;\n", quoted(name));
        for (recipe, node) in &self.recipes {
            let shape = if self.is_installed(recipe) { "box" } else { "ellipse" };
            let _ = writeln!(text, "  {} [shape = {shape}];", quoted(recipe));
            for dependency in &node.dependencies {
                let _ = writeln!(text, "  {} -> {};", quoted(recipe), quoted(dependency));
            }
        }
        text.push_str("}\n");
        text
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_as_text() {
        let node = |dependencies: &[&str]| Node {
            template: "custom".to_owned(),
            source: "git".to_owned(),
            dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
        };
        let graph = Graph {
            packages: vec!["a".to_owned(), "c.dev".to_owned()],
            recipes: BTreeMap::from([
                ("a".to_owned(), node(&["host:b"])),
                ("c".to_owned(), node(&[])),
                ("host:b".to_owned(), node(&[])),
            ]),
        };
        let text = graph.text("s");
        assert!(text.contains("s: 2 packages, 3 recipes\n  a (custom, git) from host:b\n"), "{text}");
        assert!(text.contains("* host:b"), "{text}");
        assert!(graph.dot("s").contains("\"a\" -> \"host:b\";"));
    }
}
