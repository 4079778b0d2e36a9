//! A visitor that builds a `Tree`.

use std::collections::HashMap;

use super::super::limits::TREE_DEPTH_MAX;
use super::super::tree::Tree;
use super::parser::parse_within;
use super::{JsonError, JsonVisitor};

/// Reads one JSON text as a tree. Of repeated keys the last one counts, in the place of the first.
pub fn parse_tree(text: &[u8]) -> Result<Tree, JsonError> {
    let mut builder = Builder { open: Vec::new(), done: Tree::Null };
    parse_within(text, &mut builder, TREE_DEPTH_MAX)?;
    Ok(builder.done)
}

enum Open {
    List(Vec<Tree>),
    Object { members: Vec<(Vec<u8>, Tree)>, places: HashMap<Vec<u8>, usize>, place: usize },
}

struct Builder {
    open: Vec<Open>,
    done: Tree,
}

impl Builder {
    fn put(&mut self, tree: Tree) {
        match self.open.last_mut() {
            None => self.done = tree,
            Some(Open::List(elements)) => elements.push(tree),
            Some(Open::Object { members, place, .. }) => members[*place].1 = tree,
        }
    }
}

impl JsonVisitor for Builder {
    fn null(&mut self) {
        self.put(Tree::Null);
    }

    fn bool(&mut self, value: bool) {
        self.put(Tree::Bool(value));
    }

    fn int(&mut self, value: i64) {
        self.put(Tree::Int(value));
    }

    fn float(&mut self, value: f64) {
        self.put(Tree::Float(value));
    }

    fn string(&mut self, value: Vec<u8>) {
        self.put(Tree::String(value));
    }

    fn begin_list(&mut self) {
        self.open.push(Open::List(Vec::new()));
    }

    fn end_list(&mut self) {
        if let Some(Open::List(elements)) = self.open.pop() {
            self.put(Tree::List(elements));
        }
    }

    fn begin_object(&mut self) {
        self.open.push(Open::Object { members: Vec::new(), places: HashMap::new(), place: 0 });
    }

    fn key(&mut self, key: Vec<u8>) {
        if let Some(Open::Object { members, places, place }) = self.open.last_mut() {
            *place = *places.entry(key.clone()).or_insert(members.len());
            if *place == members.len() {
                members.push((key, Tree::Null));
            }
        }
    }

    fn end_object(&mut self) {
        if let Some(Open::Object { members, .. }) = self.open.pop() {
            self.put(Tree::Table(members));
        }
    }
}
