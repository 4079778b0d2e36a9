//! `rednix flake`: what a flake is made of and provides, and its lock file.

use rednix_eval::{Evaluator, Handle, Type};
use rednix_flake::{Edge, Node, show_input_path};
use serde_json::{Map, Value, json};

use crate::cli::{FlakeCommand, LockFlags, TestOptions, TreeArgs};
use crate::evaluation::explain;
use crate::failure::Failure;
use crate::flake::{self, Loaded};
use crate::project::Project;
use crate::session::{Session, Wanted};

use super::{print, test};

pub fn run(session: &Session, command: &FlakeCommand) -> Result<(), Failure> {
    match command {
        FlakeCommand::Metadata { flake, json, lock } => {
            metadata(session, &load(session, flake, lock)?, *json)
        }
        FlakeCommand::Lock { flake, lock } => {
            load(session, flake, &LockFlags { refresh: true, ..lock.clone() }).map(drop)
        }
        FlakeCommand::Update { inputs, flake, lock } => {
            let mut flags = LockFlags { refresh: true, ..lock.clone() };
            flags.recreate_lock_file |= inputs.is_empty() && flags.update_input.is_empty();
            flags.update_input.extend(inputs.iter().cloned());
            load(session, flake, &flags).map(drop)
        }
        FlakeCommand::Show { flake, json, lock } => show(session, load(session, flake, lock)?, *json),
        FlakeCommand::Check { flake, no_build, trust_machines, lock } => {
            let options =
                TestOptions { patience: 1, trust_machines: *trust_machines, ..TestOptions::default() };
            check(session, load(session, flake, lock)?, *no_build, &options)
        }
    }
}

fn load(session: &Session, text: &str, flags: &LockFlags) -> Result<Loaded, Failure> {
    let (reference, fragment) = flake::parse(text, true)?;
    if !fragment.is_empty() {
        return Err(Failure::usage(format!("unexpected fragment '{fragment}' in flake reference '{text}'")));
    }
    flake::load(session, &reference, flags)
}

fn metadata(session: &Session, loaded: &Loaded, as_json: bool) -> Result<(), Failure> {
    session.view.finish();
    let flake = &loaded.locked.flake;
    let (input, locked) = (&flake.locked.input, flake.locked.to_attributes());
    if as_json {
        let mut object = std::collections::BTreeMap::new();
        if let Some(description) = &flake.declaration.description {
            object.insert("description", json!(description));
        }
        object.insert("originalUrl", json!(flake.original.show()));
        object.insert("original", flake.original.to_attributes().to_json());
        object.insert("resolvedUrl", json!(flake.resolved.show()));
        object.insert("resolved", flake.resolved.to_attributes().to_json());
        object.insert("url", json!(flake.locked.show()));
        let mut locked = locked;
        // C++ Nix 2.34 shows its own mark here.
        locked.set("__final", true);
        object.insert("locked", locked.to_json());
        object.insert("path", json!(flake.path.to_string()));
        object.insert("locks", loaded.locked.lock.to_json().0);
        let rev = input.rev().map_err(flake::flake_failure)?;
        let numbers = [("revCount", input.rev_count()), ("lastModified", input.last_modified())];
        object.extend(rev.map(|rev| ("revision", json!(rev))));
        object.extend(input.text("dirtyRev").map(|rev| ("dirtyRevision", json!(rev))));
        object.extend(numbers.into_iter().filter_map(|(name, number)| Some((name, json!(number?)))));
        let object: Map<String, Value> = object.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        return print(&format!("{}\n", Value::Object(object)));
    }
    let mut text = format!("Resolved URL:  {}\n", flake.resolved.show());
    let mut line = |name: &str, value: &str| text.push_str(&format!("{:<15}{value}\n", format!("{name}:")));
    if input.is_locked() {
        line("Locked URL", &flake.locked.show());
    }
    if let Some(description) = &flake.declaration.description {
        line("Description", description);
    }
    line("Path", &flake.path.to_string());
    if let Some(rev) = input.rev().map_err(flake::flake_failure)? {
        line("Revision", &rev);
    }
    if let Some(rev) = input.text("dirtyRev") {
        line("Revision", rev);
    }
    if let Some(count) = input.rev_count() {
        line("Revisions", &count.to_string());
    }
    if let Some(time) = input.last_modified() {
        line("Last modified", &date_and_time(time));
    }
    if !loaded.locked.lock.root.inputs.borrow().is_empty() {
        text.push_str("Inputs:\n");
        let mut seen = Vec::new();
        input_lines(&loaded.locked.lock.root, "", &mut seen, &mut text);
    }
    print(&text)
}

/// `YYYY-MM-DD hh:mm:ss`, in UTC as all times rednix prints.
fn date_and_time(time_s: u64) -> String {
    let compact = rednix_flake::compact_date(time_s);
    let (hour, minute, second) = (&compact[8..10], &compact[10..12], &compact[12..14]);
    format!("{} {hour}:{minute}:{second}", rednix_flake::date(time_s))
}

fn input_lines(node: &Node, prefix: &str, seen: &mut Vec<*const Node>, text: &mut String) {
    let inputs = node.inputs.borrow();
    for (number, (name, edge)) in inputs.iter().enumerate() {
        let is_last = number + 1 == inputs.len();
        text.push_str(&format!("{prefix}{}{name}", if is_last { "└───" } else { "├───" }));
        match edge {
            Edge::Follows(path) => text.push_str(&format!(" follows input '{}'\n", show_input_path(path))),
            Edge::Node(child) => {
                if let Some(pin) = &child.locked {
                    text.push_str(&format!(": {}", pin.locked.show()));
                    if let Some(time) = pin.locked.input.last_modified() {
                        text.push_str(&format!(" ({})", date_and_time(time)));
                    }
                }
                text.push('\n');
                let pointer = std::rc::Rc::as_ptr(child);
                if !seen.contains(&pointer) {
                    seen.push(pointer);
                    input_lines(
                        child,
                        &format!("{prefix}{}", if is_last { "    " } else { "│   " }),
                        seen,
                        text,
                    );
                }
            }
        }
    }
}

/// What one attribute of a flake is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Sets of derivations by system, then by name.
    Packages,
    /// A derivation by system.
    Package,
    Apps,
    Configurations,
    Overlays,
    Modules,
    Templates,
    /// Shown by name only: may hold anything.
    Opaque,
}

fn role(name: &str) -> Role {
    match name {
        "packages" | "checks" | "devShells" | "hydraJobs" => Role::Packages,
        "formatter" | "defaultPackage" | "devShell" => Role::Package,
        "apps" => Role::Apps,
        "nixosConfigurations" | "redoxConfigurations" => Role::Configurations,
        "overlays" => Role::Overlays,
        "nixosModules" | "redoxModules" => Role::Modules,
        "templates" => Role::Templates,
        _ => Role::Opaque,
    }
}

/// Walks a flake's outputs.
struct Walk<'w> {
    session: &'w Session,
    evaluator: &'w mut Evaluator,
    system: String,
}

impl Walk<'_> {
    fn children(&mut self, handle: Handle) -> Result<Vec<(String, Handle)>, Failure> {
        let forced = self.evaluator.force(handle);
        let handle = explain(self.session, self.evaluator, forced)?;
        Ok(self.evaluator.attributes_of(handle).unwrap_or_default())
    }

    fn text(&mut self, set: Handle, name: &str) -> Result<Option<String>, Failure> {
        let forced = self.evaluator.force(set);
        let set = explain(self.session, self.evaluator, forced)?;
        let Some(handle) = self.evaluator.attribute_of(set, name) else { return Ok(None) };
        let forced = self.evaluator.force(handle);
        let handle = explain(self.session, self.evaluator, forced)?;
        Ok(self.evaluator.string_of(handle).map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    fn derivation(&mut self, handle: Handle) -> Result<Value, Failure> {
        if self.text(handle, "type")?.as_deref() != Some("derivation") {
            return Err(Failure::usage("expected a derivation"));
        }
        let name = self.text(handle, "name")?.unwrap_or_default();
        let meta = match self.evaluator.attribute_of(handle, "meta") {
            Some(meta) => self.text(meta, "description")?,
            None => None,
        };
        Ok(json!({ "description": meta.unwrap_or_default(), "name": name, "type": "derivation" }))
    }

    fn output(&mut self, name: &str, handle: Handle) -> Result<Value, Failure> {
        let mut found = Map::new();
        let role = role(name);
        match role {
            Role::Opaque => return Ok(json!({ "type": "unknown" })),
            Role::Packages | Role::Apps => {
                for (system, set) in self.children(handle)? {
                    let mut inner = Map::new();
                    // Other systems' packages may need builds that this machine cannot do.
                    if system == self.system || name == "hydraJobs" {
                        for (package, value) in self.children(set)? {
                            let shown = if role == Role::Apps {
                                json!({ "type": "app" })
                            } else {
                                self.derivation(value)?
                            };
                            inner.insert(package, shown);
                        }
                    } else {
                        for (package, _) in self.children(set)? {
                            inner.insert(package, json!({}));
                        }
                    }
                    found.insert(system, Value::Object(inner));
                }
            }
            Role::Package => {
                for (system, value) in self.children(handle)? {
                    let shown = if system == self.system { self.derivation(value)? } else { json!({}) };
                    found.insert(system, shown);
                }
            }
            Role::Configurations | Role::Overlays | Role::Modules => {
                let kind = match (role, name) {
                    (Role::Configurations, "nixosConfigurations") => "nixos-configuration",
                    (Role::Configurations, _) => "redox-configuration",
                    (Role::Overlays, _) => "nixpkgs-overlay",
                    (_, "nixosModules") => "nixos-module",
                    _ => "redox-module",
                };
                for (one, _) in self.children(handle)? {
                    found.insert(one, json!({ "type": kind }));
                }
            }
            Role::Templates => {
                for (one, value) in self.children(handle)? {
                    let description = self.text(value, "description")?.unwrap_or_default();
                    found.insert(one, json!({ "description": description, "type": "template" }));
                }
            }
        }
        Ok(Value::Object(found))
    }
}

fn show(session: &Session, mut loaded: Loaded, as_json: bool) -> Result<(), Failure> {
    let top = loaded.value(session)?;
    let title = loaded.locked.flake.locked.show();
    let system = format!("{}-linux", std::env::consts::ARCH);
    let mut walk = Walk { session, evaluator: &mut loaded.evaluator, system };
    let mut found = Map::new();
    let outputs = walk.evaluator.attribute_of(top, "outputs");
    let outputs = match outputs {
        Some(outputs) => walk.children(outputs)?,
        None => Vec::new(),
    };
    for (name, handle) in outputs {
        let shown = walk.output(&name, handle)?;
        found.insert(name, shown);
    }
    loaded.world.flush()?;
    session.view.finish();
    if as_json {
        return print(&format!("{}\n", Value::Object(found)));
    }
    let mut text = format!("{title}\n");
    lines(&found, "", &mut text);
    print(&text)
}

fn lines(found: &Map<String, Value>, prefix: &str, text: &mut String) {
    for (number, (name, value)) in found.iter().enumerate() {
        let is_last = number + 1 == found.len();
        text.push_str(&format!("{prefix}{}{name}", if is_last { "└───" } else { "├───" }));
        let Value::Object(inner) = value else { continue };
        match inner.get("type").and_then(Value::as_str) {
            Some("derivation") => {
                text.push_str(&format!(": package '{}'\n", inner["name"].as_str().unwrap_or_default()));
            }
            Some("template") => {
                text.push_str(&format!(
                    ": template: {}\n",
                    inner["description"].as_str().unwrap_or_default()
                ));
            }
            Some(kind) => text.push_str(&format!(": {}\n", kind.replace('-', " "))),
            None if inner.is_empty() => text.push_str(" omitted\n"),
            None => {
                text.push('\n');
                lines(inner, &format!("{prefix}{}", if is_last { "    " } else { "│   " }), text);
            }
        }
    }
}

/// Evaluates what has a known shape, builds the checks, and runs the machine tests among them.
fn check(
    session: &Session,
    mut loaded: Loaded,
    no_build: bool,
    options: &TestOptions,
) -> Result<(), Failure> {
    let top = loaded.value(session)?;
    let system = format!("{}-linux", std::env::consts::ARCH);
    let mut walk = Walk { session, evaluator: &mut loaded.evaluator, system: system.clone() };
    let Some(outputs) = walk.evaluator.attribute_of(top, "outputs") else { return Ok(()) };
    for (name, handle) in walk.children(outputs)? {
        let context = |mut failure: Failure| {
            failure.message = format!("flake output `{name}`: {}", failure.message);
            failure
        };
        walk.output(&name, handle).map_err(context)?;
        if role(&name) == Role::Overlays {
            for (overlay, value) in walk.children(handle)? {
                let forced = walk.evaluator.force(value);
                let value = explain(session, walk.evaluator, forced)?;
                if walk.evaluator.type_of(value) != Some(Type::Function) {
                    return Err(Failure::usage(format!(
                        "flake output `overlays.{overlay}` is not a function"
                    )));
                }
            }
        }
    }
    let (mut wanted, mut machine_tests) = (Vec::new(), Vec::new());
    let path = ["outputs".to_owned(), "checks".to_owned(), system];
    let checks = flake::find(&mut loaded.evaluator, top, &path);
    if let Some(checks) = explain(session, &loaded.evaluator, checks)? {
        for (_, check) in loaded.evaluator.attributes_of(checks).unwrap_or_default() {
            let forced = loaded.evaluator.force(check);
            let check = explain(session, &loaded.evaluator, forced)?;
            machine_tests.extend(loaded.evaluator.attribute_of(check, "machineTest"));
            let found = loaded.evaluator.derivations(check, &[]);
            for one in explain(session, &loaded.evaluator, found)? {
                wanted.push(Wanted { derivation: one.derivation, output: one.output });
            }
        }
    }
    loaded.world.flush()?;
    if no_build {
        return Ok(());
    }
    if !wanted.is_empty() {
        session.build(&wanted)?;
    }
    if machine_tests.is_empty() {
        return Ok(());
    }
    let Loaded { evaluator, world, .. } = loaded;
    let found = test::of_handles(session, evaluator, world, machine_tests, options)?;
    let tree = TreeArgs { target: crate::cli::DEFAULT_TARGET.to_owned(), ..TreeArgs::default() };
    let project = Project::find(&session.config, &tree)?;
    test::execute(session, &project, found, options)
}
