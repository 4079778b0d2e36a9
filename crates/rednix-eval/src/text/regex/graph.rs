//! The graph of one pattern: nodes that consume a byte, branch, or mark a group, built fragment by fragment.
//! It knows no syntax (that is `parser`) and no order of evaluation (that is `program`).

use std::collections::HashMap;

use super::super::limits::REGEX_NODES_MAX;
use super::RegexError;

/// A set of byte values.
pub(super) type ByteSet = [u64; 4];

/// Index of a node; `OPEN` marks an exit that is still to be connected.
pub(super) type NodeId = u32;
pub(super) const OPEN: NodeId = NodeId::MAX;

#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    /// Consume one byte of set number `set`.
    Consume {
        set: u32,
        next: NodeId,
    },
    /// Note the position in a slot: `2 * group` for its begin, `2 * group + 1` for its end.
    Save {
        slot: u32,
        next: NodeId,
    },
    /// Go through `more` if that leads to a match, else leave by `exit`.
    Repeat {
        more: NodeId,
        exit: NodeId,
    },
    /// Try both; the longer match wins, `first` on a tie.
    Alternate {
        first: NodeId,
        second: NodeId,
    },
    /// Only at the very beginning of the subject.
    Begin {
        next: NodeId,
    },
    /// Only at the very end of the subject.
    End {
        next: NodeId,
    },
    /// Nothing but a connection.
    Jump {
        next: NodeId,
    },
    Accept,
}

impl Node {
    /// The same node, placed `offset` further in the arena.
    fn moved(self, offset: NodeId) -> Node {
        let shift = |id: NodeId| if id == OPEN { OPEN } else { id + offset };
        match self {
            Node::Consume { set, next } => Node::Consume { set, next: shift(next) },
            Node::Save { slot, next } => Node::Save { slot, next: shift(next) },
            Node::Repeat { more, exit } => Node::Repeat { more: shift(more), exit: shift(exit) },
            Node::Alternate { first, second } => {
                Node::Alternate { first: shift(first), second: shift(second) }
            }
            Node::Begin { next } => Node::Begin { next: shift(next) },
            Node::End { next } => Node::End { next: shift(next) },
            Node::Jump { next } => Node::Jump { next: shift(next) },
            Node::Accept => Node::Accept,
        }
    }
}

/// A part of the graph with one way in and one open way out. All its nodes lie in `low..` up to the next
/// fragment, so that a fragment can be copied as a range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    pub low: NodeId,
    pub start: NodeId,
    pub end: NodeId,
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    pub nodes: Vec<Node>,
    pub sets: Vec<ByteSet>,
    pub start: NodeId,
    /// Number of groups, without the whole match.
    pub groups: u32,
    set_numbers: HashMap<ByteSet, u32>,
}

impl Graph {
    pub fn push(&mut self, node: Node) -> Result<NodeId, RegexError> {
        if self.nodes.len() >= REGEX_NODES_MAX {
            return Err(RegexError::TooLarge);
        }
        self.nodes.push(node);
        Ok((self.nodes.len() - 1) as NodeId)
    }

    pub fn leaf(&mut self, node: Node) -> Result<Fragment, RegexError> {
        let id = self.push(node)?;
        Ok(Fragment { low: id, start: id, end: id })
    }

    pub fn empty(&mut self) -> Result<Fragment, RegexError> {
        self.leaf(Node::Jump { next: OPEN })
    }

    pub fn consume(&mut self, set: ByteSet) -> Result<Fragment, RegexError> {
        let sets = &mut self.sets;
        let set = *self.set_numbers.entry(set).or_insert_with(|| {
            sets.push(set);
            (sets.len() - 1) as u32
        });
        self.leaf(Node::Consume { set, next: OPEN })
    }

    /// Connects the open exit of `from`.
    fn connect(&mut self, from: NodeId, to: NodeId) {
        match &mut self.nodes[from as usize] {
            Node::Consume { next, .. }
            | Node::Save { next, .. }
            | Node::Begin { next }
            | Node::End { next }
            | Node::Jump { next }
            | Node::Repeat { exit: next, .. } => *next = to,
            Node::Alternate { .. } | Node::Accept => unreachable!("a fragment never ends in a branch"),
        }
    }

    pub fn concatenate(&mut self, left: Fragment, right: Fragment) -> Fragment {
        self.connect(left.end, right.start);
        Fragment { low: left.low, start: left.start, end: right.end }
    }

    pub fn alternate(&mut self, left: Fragment, right: Fragment) -> Result<Fragment, RegexError> {
        let join = self.push(Node::Jump { next: OPEN })?;
        self.connect(left.end, join);
        self.connect(right.end, join);
        let start = self.push(Node::Alternate { first: left.start, second: right.start })?;
        Ok(Fragment { low: left.low, start, end: join })
    }

    /// Any number of times, zero too.
    pub fn star(&mut self, inner: Fragment) -> Result<Fragment, RegexError> {
        let repeat = self.push(Node::Repeat { more: inner.start, exit: OPEN })?;
        self.connect(inner.end, repeat);
        Ok(Fragment { low: inner.low, start: repeat, end: repeat })
    }

    /// Once or more.
    pub fn plus(&mut self, inner: Fragment) -> Result<Fragment, RegexError> {
        let repeat = self.push(Node::Repeat { more: inner.start, exit: OPEN })?;
        self.connect(inner.end, repeat);
        Ok(Fragment { low: inner.low, start: inner.start, end: repeat })
    }

    pub fn optional(&mut self, inner: Fragment) -> Result<Fragment, RegexError> {
        let join = self.push(Node::Jump { next: OPEN })?;
        self.connect(inner.end, join);
        let start = self.push(Node::Repeat { more: inner.start, exit: join })?;
        Ok(Fragment { low: inner.low, start, end: join })
    }

    /// Between `minimum` and `maximum` times; no maximum means any number. Groups inside keep their numbers.
    pub fn times(
        &mut self,
        inner: Fragment,
        minimum: u32,
        maximum: Option<u32>,
    ) -> Result<Fragment, RegexError> {
        let template = Template::of(self, inner);
        self.nodes.truncate(inner.low as usize);
        let mut whole = self.empty()?;
        for _ in 0..minimum {
            let copy = template.instantiate(self)?;
            whole = self.concatenate(whole, copy);
        }
        match maximum {
            None => {
                let copy = template.instantiate(self)?;
                let rest = self.star(copy)?;
                Ok(self.concatenate(whole, rest))
            }
            Some(maximum) => {
                let end = self.push(Node::Jump { next: OPEN })?;
                for _ in minimum..maximum {
                    let copy = template.instantiate(self)?;
                    let start = self.push(Node::Repeat { more: copy.start, exit: end })?;
                    self.connect(whole.end, start);
                    whole.end = copy.end;
                }
                self.connect(whole.end, end);
                Ok(Fragment { end, ..whole })
            }
        }
    }

    /// Closes the graph: what comes after `whole` is the match.
    pub fn finish(&mut self, whole: Fragment) -> Result<(), RegexError> {
        let accept = self.push(Node::Accept)?;
        self.connect(whole.end, accept);
        self.start = whole.start;
        Ok(())
    }
}

/// The nodes of a fragment, taken out of the graph to be put back any number of times.
struct Template {
    nodes: Vec<Node>,
    from: Fragment,
}

impl Template {
    fn of(graph: &Graph, from: Fragment) -> Template {
        Template { nodes: graph.nodes[from.low as usize..].to_vec(), from }
    }

    fn instantiate(&self, graph: &mut Graph) -> Result<Fragment, RegexError> {
        if graph.nodes.len() + self.nodes.len() > REGEX_NODES_MAX {
            return Err(RegexError::TooLarge);
        }
        // The template's first node lay at `low`; nodes only ever move up, because the graph was cut at
        // `low` before the first copy and an empty node stands there now.
        let offset = graph.nodes.len() as NodeId - self.from.low;
        graph.nodes.extend(self.nodes.iter().map(|node| node.moved(offset)));
        Ok(Fragment {
            low: self.from.low + offset,
            start: self.from.start + offset,
            end: self.from.end + offset,
        })
    }
}
