//! What changed between two lock files, in words.

use crate::{Edge, FlakeRef, InputPath, LockFile, show_input_path};

/// One entry for each input that was added, removed or changed; empty where none was.
pub fn difference(old: &LockFile, new: &LockFile) -> String {
    let (old, new) = (old.all_inputs(), new.all_inputs());
    let mut paths: Vec<&InputPath> = old.keys().chain(new.keys()).collect();
    paths.sort();
    paths.dedup();
    let mut text = String::new();
    for path in paths {
        let name = show_input_path(path);
        match (old.get(path), new.get(path)) {
            (None, Some(edge)) => text.push_str(&format!("• Added input '{name}':\n    {}\n", show(edge))),
            (Some(_), None) => text.push_str(&format!("• Removed input '{name}'\n")),
            (Some(before), Some(after)) if !are_equal(before, after) => text.push_str(&format!(
                "• Updated input '{name}':\n    {}\n  → {}\n",
                show(before),
                show(after)
            )),
            _ => {}
        }
    }
    text
}

fn are_equal(a: &Edge, b: &Edge) -> bool {
    match (a, b) {
        (Edge::Node(a), Edge::Node(b)) => {
            a.locked.as_ref().map(|l| &l.locked) == b.locked.as_ref().map(|l| &l.locked)
        }
        (Edge::Follows(a), Edge::Follows(b)) => a == b,
        _ => false,
    }
}

fn show(edge: &Edge) -> String {
    match edge {
        Edge::Node(node) => node.locked.as_ref().map_or_else(String::new, |l| describe(&l.locked)),
        Edge::Follows(path) => format!("follows '{}'", show_input_path(path)),
    }
}

fn describe(reference: &FlakeRef) -> String {
    match reference.input.last_modified() {
        Some(time) => format!("'{reference}' ({})", crate::locking::date(time)),
        None => format!("'{reference}'"),
    }
}
