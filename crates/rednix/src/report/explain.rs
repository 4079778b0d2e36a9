//! What differs between two derivations of one name, down to what nothing else explains: a changed file, a script's
//! text, a pin, an input that came or went. It reads derivations and sources, and builds nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use rednix_store::derivation::Derivation;
use rednix_store::path::StorePath;

use super::graph::{Graph, attributes, name, spellings};

type Result<T> = std::result::Result<T, rednix_store::Error>;

/// Something that differs by itself, not because of what it is made from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// An attribute's text; absent on one side where it came or went.
    Attribute {
        name: String,
        old: Option<String>,
        new: Option<String>,
    },
    /// A folder or file taken into the store; the attributes that name it.
    Source {
        roles: Vec<String>,
        old: StorePath,
        new: StorePath,
    },
    /// What a fetch is of.
    Pin {
        name: String,
        old: String,
        new: String,
    },
    InputAdded {
        name: String,
    },
    InputRemoved {
        name: String,
    },
}

/// A cause and the shortest way to it: names of derivations, the asked one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub chain: Vec<String>,
    pub cause: Cause,
}

/// All causes why `new` is not `old`, nearest first, each told once.
pub fn explain(graph: &Graph, old: &StorePath, new: &StorePath) -> Result<Vec<Explanation>> {
    let mut found: Vec<Explanation> = Vec::new();
    let mut told = BTreeSet::new();
    let mut seen = HashSet::from([(old.clone(), new.clone())]);
    let mut pending = VecDeque::from([(old.clone(), new.clone(), vec![name(new).to_owned()])]);
    while let Some((old, new, chain)) = pending.pop_front() {
        if old == new {
            continue;
        }
        let sides = (Side::read(graph, &old)?, Side::read(graph, &new)?);
        let compared = compare(&sides.0, &sides.1);
        for cause in compared.causes {
            if told.insert(cause.clone()) {
                found.push(Explanation { chain: chain.clone(), cause });
            }
        }
        for pair in compared.inputs {
            if seen.insert(pair.clone()) {
                let mut longer = chain.clone();
                longer.push(name(&pair.1).to_owned());
                pending.push_back((pair.0, pair.1, longer));
            }
        }
    }
    Ok(found)
}

/// One of the two derivations, with what is needed to tell its inputs in its texts.
struct Side {
    derivation: std::sync::Arc<Derivation>,
    /// By the inputs' names, what each is spelled as.
    inputs: BTreeMap<StorePath, BTreeSet<String>>,
    attributes: BTreeMap<String, String>,
}

impl Side {
    fn read(graph: &Graph, path: &StorePath) -> Result<Side> {
        let derivation = graph.get(path)?;
        let mut inputs = BTreeMap::new();
        for input in derivation.input_derivations.keys() {
            let loaded = graph.get(input)?;
            inputs.insert(input.clone(), spellings(input, &derivation, Some(&loaded)));
        }
        for source in &derivation.input_sources {
            inputs.insert(source.clone(), spellings(source, &derivation, None));
        }
        let attributes = attributes(&derivation);
        Ok(Side { derivation, inputs, attributes })
    }

    /// An attribute with its inputs' names in place of their paths.
    fn plain(&self, attribute: &str) -> Option<String> {
        let mut text = self.attributes.get(attribute)?.clone();
        for (path, spellings) in &self.inputs {
            for spelling in
                spellings.iter().filter(|spelling| text.contains(spelling.as_str())).collect::<Vec<_>>()
            {
                text = text.replace(spelling.as_str(), &format!("<{}>", name(path)));
            }
        }
        Some(text)
    }

    fn roles(&self, input: &StorePath) -> Vec<String> {
        let spellings = &self.inputs[input];
        let names = |value: &str| spellings.iter().any(|spelling| value.contains(spelling.as_str()));
        self.attributes.iter().filter(|(_, value)| names(value)).map(|(name, _)| name.clone()).collect()
    }

    /// Inputs the other side has not, by name.
    fn own<'a>(&'a self, other: &Side) -> BTreeMap<&'a str, Vec<&'a StorePath>> {
        let mut own: BTreeMap<&str, Vec<&StorePath>> = BTreeMap::new();
        for path in self.inputs.keys().filter(|path| !other.inputs.contains_key(*path)) {
            own.entry(name(path)).or_default().push(path);
        }
        // Several of one name are told apart by what they are for.
        own.values_mut().for_each(|paths| paths.sort_by_key(|path| self.roles(path)));
        own
    }
}

#[derive(Default)]
struct Compared {
    causes: Vec<Cause>,
    /// Input derivations to look into.
    inputs: Vec<(StorePath, StorePath)>,
}

fn compare(old: &Side, new: &Side) -> Compared {
    let mut compared = Compared::default();
    if let (Some((_, old_hash, _)), Some((_, new_hash, _))) =
        (old.derivation.fixed_output(), new.derivation.fixed_output())
    {
        // Two fetches differ in what is fetched; a hash alone would tell nobody anything.
        let pin = |side: &Side, hash: &rednix_store::hash::Hash| {
            let words = ["url", "rev"].map(|name| side.attributes.get(name).cloned().unwrap_or_default());
            format!("{} {}", words.join(" ").trim(), hash.to_sri()).trim().to_owned()
        };
        let (old_pin, new_pin) = (pin(old, old_hash), pin(new, new_hash));
        if old_pin != new_pin {
            let name = new.derivation.name.clone();
            compared.causes.push(Cause::Pin { name, old: old_pin, new: new_pin });
            return compared;
        }
    }
    let (olds, news) = (old.own(new), new.own(old));
    let names: BTreeSet<&str> = olds.keys().chain(news.keys()).copied().collect();
    for name in names {
        let none = Vec::new();
        let (before, after) = (olds.get(name).unwrap_or(&none), news.get(name).unwrap_or(&none));
        for index in 0..before.len().max(after.len()) {
            match (before.get(index).copied(), after.get(index).copied()) {
                (Some(a), Some(b)) if a.is_derivation() && b.is_derivation() => {
                    compared.inputs.push((a.clone(), b.clone()));
                }
                (Some(a), Some(b)) => {
                    compared.causes.push(Cause::Source {
                        roles: new.roles(b),
                        old: a.clone(),
                        new: b.clone(),
                    });
                }
                (Some(_), None) => compared.causes.push(Cause::InputRemoved { name: name.to_owned() }),
                (None, Some(_)) => compared.causes.push(Cause::InputAdded { name: name.to_owned() }),
                (None, None) => {}
            }
        }
    }
    let attributes: BTreeSet<&String> = old.attributes.keys().chain(new.attributes.keys()).collect();
    for attribute in attributes {
        let (before, after) = (old.plain(attribute), new.plain(attribute));
        // Output paths follow from everything else.
        let is_output = new.derivation.outputs.contains_key(attribute);
        if before == after || is_output || (is_list_of_inputs(&before) && is_list_of_inputs(&after)) {
            continue;
        }
        compared.causes.push(Cause::Attribute { name: attribute.clone(), old: before, new: after });
    }
    compared
}

/// Nothing but names of inputs: that these differ is told of the inputs themselves.
fn is_list_of_inputs(text: &Option<String>) -> bool {
    let Some(text) = text else { return true };
    let is_input = |word: &str| word.starts_with('<') && word.ends_with('>');
    !text.is_empty() && text.split_whitespace().all(is_input)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rednix_store::derivation::{Output, upstream_placeholder};
    use rednix_store::hash::{Hash, HashAlgorithm};
    use rednix_store::path::ContentMethod;
    use rednix_store::store::{OpenOptions, Store};

    use super::*;

    struct World {
        store: Arc<Store>,
        _folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> World {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path().join("s"), OpenOptions::default()).unwrap();
            World { store: Arc::new(store), _folder: folder }
        }

        fn text(&self, name: &str, text: &str) -> StorePath {
            self.store.add_text(name, text.as_bytes(), &BTreeSet::new()).unwrap()
        }

        fn derivation(
            &self,
            name: &str,
            variables: &[(&str, &str)],
            inputs: &[(&str, &StorePath)],
        ) -> StorePath {
            let mut derivation = Derivation::new(name, "x86_64-linux", "/usr/bin/bash");
            for (name, value) in variables {
                derivation.environment.insert(name.as_bytes().to_vec(), value.as_bytes().to_vec());
            }
            for (role, path) in inputs {
                let value = if path.is_derivation() {
                    derivation.input_derivations.entry((*path).clone()).or_default().insert("out".to_owned());
                    upstream_placeholder(path, "out")
                } else {
                    derivation.input_sources.insert((*path).clone());
                    path.to_string()
                };
                let variable = derivation.environment.entry(role.as_bytes().to_vec()).or_default();
                *variable = [&variable[..], b" ", value.as_bytes()].concat();
            }
            let output =
                Output::Floating { method: ContentMethod::Recursive, algorithm: HashAlgorithm::Sha256 };
            derivation.outputs.insert("out".to_owned(), output);
            self.store.write_derivation(&derivation).unwrap()
        }

        fn fetch(&self, name: &str, url: &str) -> StorePath {
            let mut derivation = Derivation::new(name, "builtin", "builtin:fetchurl");
            derivation.environment.insert(b"url".to_vec(), url.as_bytes().to_vec());
            let hash = Hash::sha256(url.as_bytes());
            let output = Output::fixed(ContentMethod::Flat, hash, name, "out").unwrap();
            derivation.outputs.insert("out".to_owned(), output);
            self.store.write_derivation(&derivation).unwrap()
        }

        fn told(&self, old: &StorePath, new: &StorePath) -> Vec<String> {
            let graph = Graph::new(self.store.clone());
            let show = |one: Explanation| {
                let cause = match one.cause {
                    Cause::Attribute { name, old, new } => {
                        format!("{name} {} -> {}", old.unwrap_or_default(), new.unwrap_or_default())
                    }
                    Cause::Source { roles, .. } => format!("source {}", roles.join(",")),
                    Cause::Pin { name, old, .. } => format!("pin {name} {}", old.split(' ').next().unwrap()),
                    Cause::InputAdded { name } => format!("added {name}"),
                    Cause::InputRemoved { name } => format!("removed {name}"),
                };
                format!("{}: {cause}", one.chain.join(" "))
            };
            explain(&graph, old, new).unwrap().into_iter().map(show).collect()
        }
    }

    #[test]
    fn only_what_nothing_else_explains_is_told() {
        let world = World::new();
        let library = |text: &str, tool: &str| {
            let source = world.text("source", text);
            let tool = world.fetch("deb-tool", tool);
            world.derivation("lib", &[("script", "make")], &[("source", &source), ("root", &tool)])
        };
        let user = |library: &StorePath, script: &str| {
            let middle = world.derivation("middle", &[], &[("sysroot", library)]);
            world.derivation("user", &[("script", script)], &[("sysroot", library), ("tools", &middle)])
        };
        let base = user(&library("1", "u/1"), "s");
        let cases: [(StorePath, &[&str]); 4] = [
            (user(&library("2", "u/1"), "s"), &["user lib: source source"]),
            (user(&library("1", "u/2"), "s"), &["user lib deb-tool: pin deb-tool u/1"]),
            (user(&library("1", "u/1"), "t"), &["user: script s -> t"]),
            (base.clone(), &[]),
        ];
        for (new, expected) in cases {
            assert_eq!(world.told(&base, &new), expected);
        }
    }

    #[test]
    fn inputs_come_and_go_and_attributes_too() {
        let world = World::new();
        let (a, b) = (world.text("a", "a"), world.text("b", "b"));
        let old = world.derivation("x", &[("flag", "1")], &[("sysroot", &a)]);
        let new = world.derivation("x", &[("other", "2")], &[("sysroot", &a), ("sysroot", &b)]);
        assert_eq!(world.told(&old, &new), ["x: added b", "x: flag 1 -> ", "x: other  -> 2"]);
        assert_eq!(world.told(&new, &old), ["x: removed b", "x: flag  -> 1", "x: other 2 -> "]);
    }

    #[test]
    fn structured_attributes_are_told_one_by_one() {
        let world = World::new();
        let old = world.derivation("x", &[("__json", r#"{"config":{"a":1},"name":"x"}"#)], &[]);
        let new = world.derivation("x", &[("__json", r#"{"config":{"a":2},"name":"x"}"#)], &[]);
        let told = world.told(&old, &new);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("x: config {"), "{told:?}");
    }
}
