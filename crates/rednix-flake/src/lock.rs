//! The lock file: a graph of inputs, read from versions 5 to 7 and written as version 7.
//!
//! Decides nothing about what is locked; see [`crate::locking`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::schemes::is_id;
use crate::{Attributes, FlakeError, FlakeRef, Result, limits};

/// Names from the top flake down to an input.
pub type InputPath = Vec<String>;

/// `a/b` as names.
pub fn parse_input_path(text: &str) -> Result<InputPath> {
    let pieces: Vec<&str> = text.split('/').filter(|piece| !piece.is_empty()).collect();
    match pieces.iter().find(|piece| !is_id(piece)) {
        Some(piece) => {
            Err(FlakeError::Flake(format!("invalid flake input attribute path element '{piece}'")))
        }
        None => Ok(pieces.into_iter().map(str::to_owned).collect()),
    }
}

pub fn show_input_path(path: &[String]) -> String {
    path.join("/")
}

#[derive(Clone, Debug)]
pub enum Edge {
    Node(Rc<Node>),
    /// The same as another input, named from the top.
    Follows(InputPath),
}

/// What one input was pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    pub locked: FlakeRef,
    pub original: FlakeRef,
    pub is_flake: bool,
    /// For paths below another flake: that flake.
    pub parent: Option<InputPath>,
}

/// The top flake (without a pin of its own) or an input.
#[derive(Debug, Default)]
pub struct Node {
    pub locked: Option<Locked>,
    pub inputs: RefCell<BTreeMap<String, Edge>>,
}

impl Node {
    pub fn new(locked: Locked) -> Rc<Node> {
        Rc::new(Node { locked: Some(locked), inputs: RefCell::default() })
    }

    pub fn set(&self, name: &str, edge: Edge) {
        self.inputs.borrow_mut().insert(name.to_owned(), edge);
    }

    pub fn get(&self, name: &str) -> Option<Edge> {
        self.inputs.borrow().get(name).cloned()
    }
}

#[derive(Clone, Debug, Default)]
pub struct LockFile {
    pub root: Rc<Node>,
}

impl LockFile {
    /// `name` is the file's, for errors.
    pub fn parse(text: &str, name: &str) -> Result<LockFile> {
        let wrong = |reason: String| FlakeError::Lock(reason);
        let json: Value = serde_json::from_str(text)
            .map_err(|error| wrong(format!("Could not parse '{name}': {error}")))?;
        let version = json.get("version").and_then(Value::as_u64).unwrap_or(0);
        if !(5..=7).contains(&version) {
            return Err(wrong(format!("lock file '{name}' has unsupported version {version}")));
        }
        let nodes = json
            .get("nodes")
            .and_then(Value::as_object)
            .ok_or_else(|| wrong(format!("lock file '{name}' has no nodes")))?;
        if nodes.len() > limits::LOCK_NODES_MAX {
            return Err(wrong(format!("lock file '{name}' has too many nodes")));
        }
        let root_key = json
            .get("root")
            .and_then(Value::as_str)
            .ok_or_else(|| wrong(format!("lock file '{name}' names no root")))?;
        let root = Rc::new(Node::default());
        let mut made: HashMap<&str, Rc<Node>> = HashMap::from([(root_key, root.clone())]);
        // Nodes whose inputs are still to be read: no recursion, as files are foreign.
        let mut pending = vec![(root_key, root.clone())];
        while let Some((key, node)) = pending.pop() {
            let Some(inputs) = nodes.get(key).and_then(|node| node.get("inputs")) else { continue };
            let inputs = inputs
                .as_object()
                .ok_or_else(|| wrong(format!("lock file '{name}': the inputs of '{key}' are no set")))?;
            for (input, target) in inputs {
                let edge = match target {
                    Value::Array(path) => Edge::Follows(texts(path, name)?),
                    Value::String(target) if target == root_key => {
                        return Err(wrong("lock file contains cycle to root node".to_owned()));
                    }
                    Value::String(target) => Edge::Node(match made.get(target.as_str()) {
                        Some(node) => node.clone(),
                        None => {
                            let node = nodes.get(target).ok_or_else(|| {
                                wrong(format!("lock file references missing node '{target}'"))
                            })?;
                            let node = Node::new(read_locked(node)?);
                            made.insert(target, node.clone());
                            pending.push((target, node.clone()));
                            node
                        }
                    }),
                    _ => return Err(wrong(format!("lock file '{name}': the input '{input}' is no name"))),
                };
                node.set(input, edge);
            }
        }
        Ok(LockFile { root })
    }

    /// The file as JSON, and the name each node has in it.
    pub fn to_json(&self) -> (Value, Vec<(String, Rc<Node>)>) {
        let mut dump = Dump::default();
        let root = dump.node("root", &self.root);
        let nodes: Map<String, Value> = dump.nodes.into_iter().collect();
        let mut json = Map::new();
        json.insert("nodes".to_owned(), Value::Object(nodes));
        json.insert("root".to_owned(), Value::String(root));
        json.insert("version".to_owned(), Value::from(7));
        (Value::Object(json), dump.order)
    }

    /// The file's text, without a newline at its end.
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(&self.to_json().0).expect("JSON of our own making can be written")
    }

    pub fn find(&self, path: &[String]) -> Result<Option<Rc<Node>>> {
        self.find_from(path, &mut Vec::new())
    }

    fn find_from(&self, path: &[String], visited: &mut Vec<InputPath>) -> Result<Option<Rc<Node>>> {
        if let Some(start) = visited.iter().position(|other| other == path) {
            let mut cycle: Vec<String> = visited[start..].iter().map(|p| show_input_path(p)).collect();
            cycle.push(show_input_path(path));
            return Err(FlakeError::Lock(format!("follow cycle detected: [{}]", cycle.join(" -> "))));
        }
        visited.push(path.to_vec());
        let mut node = self.root.clone();
        for name in path {
            node = match node.get(name) {
                None => return Ok(None),
                Some(Edge::Node(node)) => node,
                Some(Edge::Follows(path)) => match self.find_from(&path, visited)? {
                    Some(node) => node,
                    None => return Ok(None),
                },
            };
        }
        Ok(Some(node))
    }

    /// Every input by its path; a node that is there twice is entered once.
    pub fn all_inputs(&self) -> BTreeMap<InputPath, Edge> {
        let mut seen: BTreeSet<*const Node> = BTreeSet::new();
        let mut all = BTreeMap::new();
        fn walk(
            prefix: &InputPath,
            node: &Rc<Node>,
            seen: &mut BTreeSet<*const Node>,
            all: &mut BTreeMap<InputPath, Edge>,
        ) {
            if !seen.insert(Rc::as_ptr(node)) || prefix.len() > limits::INPUT_DEPTH_MAX {
                return;
            }
            for (name, edge) in node.inputs.borrow().iter() {
                let mut path = prefix.clone();
                path.push(name.clone());
                if let Edge::Node(child) = edge {
                    walk(&path, child, seen, all);
                }
                all.insert(path, edge.clone());
            }
        }
        walk(&Vec::new(), &self.root, &mut seen, &mut all);
        all
    }

    /// Whether everything that follows something follows what is there.
    pub fn check(&self) -> Result<()> {
        for (path, edge) in self.all_inputs() {
            if let Edge::Follows(target) = edge
                && !target.is_empty()
                && self.find(&target)?.is_none()
            {
                return Err(FlakeError::Lock(format!(
                    "input '{}' follows a non-existent input '{}'",
                    show_input_path(&path),
                    show_input_path(&target)
                )));
            }
        }
        Ok(())
    }

    /// An input that stands for something else tomorrow.
    pub fn unlocked(&self) -> Option<FlakeRef> {
        self.to_json().1.into_iter().find_map(|(_, node)| {
            let locked = &node.locked.as_ref()?.locked;
            let is_pinned = locked.input.is_locked() || locked.input.relative_path().is_some();
            (!is_pinned).then(|| locked.clone())
        })
    }
}

fn texts(values: &[Value], name: &str) -> Result<Vec<String>> {
    let text = |value: &Value| {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| FlakeError::Lock(format!("lock file '{name}': a path of inputs holds no name")))
    };
    values.iter().map(text).collect()
}

fn read_locked(json: &Value) -> Result<Locked> {
    let attributes = |name: &str| match json.get(name) {
        Some(value) => Attributes::from_json(value),
        None => Err(FlakeError::Lock(format!("attribute '{name}' missing in lock file"))),
    };
    let mut pinned = attributes("locked")?;
    // Version 5 kept the hash apart.
    if let Some(info) = json.get("info") {
        pinned.0.extend(Attributes::from_json(info)?.0);
    }
    let locked = FlakeRef::from_attributes(pinned)?;
    if !locked.input.is_locked()
        && locked.input.relative_path().is_none()
        && !locked.input.attributes.has("narHash")
    {
        return Err(FlakeError::Lock(format!(
            "Lock file contains unlocked input '{}'. Use '--allow-dirty-locks' to accept this lock file.",
            locked.input.attributes
        )));
    }
    let parent = match json.get("parent") {
        None => None,
        Some(Value::Array(path)) => Some(texts(path, "flake.lock")?),
        Some(_) => return Err(FlakeError::Lock("'parent' in the lock file is no list".to_owned())),
    };
    Ok(Locked {
        locked,
        original: FlakeRef::from_attributes(attributes("original")?)?,
        is_flake: json.get("flake").and_then(Value::as_bool).unwrap_or(true),
        parent,
    })
}

#[derive(Default)]
struct Dump {
    nodes: BTreeMap<String, Value>,
    keys: HashMap<*const Node, String>,
    taken: BTreeSet<String>,
    order: Vec<(String, Rc<Node>)>,
}

impl Dump {
    fn node(&mut self, name: &str, node: &Rc<Node>) -> String {
        if let Some(key) = self.keys.get(&Rc::as_ptr(node)) {
            return key.clone();
        }
        let mut key = name.to_owned();
        let mut number = 2;
        while !self.taken.insert(key.clone()) {
            key = format!("{name}_{number}");
            number += 1;
        }
        self.keys.insert(Rc::as_ptr(node), key.clone());
        self.order.push((key.clone(), node.clone()));
        let mut inputs = Map::new();
        for (input, edge) in node.inputs.borrow().iter() {
            let value = match edge {
                Edge::Node(child) => Value::String(self.node(input, child)),
                Edge::Follows(path) => path.iter().cloned().map(Value::String).collect(),
            };
            inputs.insert(input.clone(), value);
        }
        let mut json = BTreeMap::new();
        if !inputs.is_empty() {
            json.insert("inputs", Value::Object(inputs));
        }
        if let Some(locked) = &node.locked {
            json.insert("original", locked.original.to_attributes().to_json());
            json.insert("locked", locked.locked.to_attributes().to_json());
            if !locked.is_flake {
                json.insert("flake", Value::Bool(false));
            }
            if let Some(parent) = &locked.parent {
                json.insert("parent", parent.iter().cloned().map(Value::String).collect());
            }
        }
        let json = json.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.nodes.insert(key.clone(), Value::Object(json));
        key
    }
}
