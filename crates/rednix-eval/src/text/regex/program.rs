//! The program of one pattern: the graph's nodes in an order in which everything reachable without consuming a
//! byte comes before what reaches it. It holds no state of a match (that is `columns` and `matcher`).
//!
//! A loop whose body can be empty would make that order impossible. libstdc++ enters such a loop at most twice
//! at one position; the program therefore holds one step per node *and* per number of entries so far.

use std::collections::HashMap;

use super::super::limits::{REGEX_EMPTY_LOOPS_MAX, REGEX_STEPS_MAX};
use super::RegexError;
use super::bracket::contains;
use super::graph::{Graph, Node, NodeId};

pub(super) type StepId = u32;

/// What to do at one point of the program. Targets other than entries have smaller numbers than the step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Consume a byte of the set, go on at the entry.
    Consume {
        set: u32,
        entry: u32,
    },
    Save {
        slot: u32,
        next: StepId,
    },
    /// `first` if a match can be reached that way, else `second`.
    Prefer {
        first: StepId,
        second: StepId,
    },
    /// The way to the longer match, `first` on a tie.
    Longest {
        first: StepId,
        second: StepId,
    },
    Begin {
        next: StepId,
    },
    End {
        next: StepId,
    },
    Accept,
}

#[derive(Debug)]
pub(super) struct Program {
    pub steps: Vec<Step>,
    /// Where the program goes on after a byte; number 0 is its start.
    pub entries: Vec<StepId>,
    /// Number of slots for group positions, the whole match's included.
    pub slots: usize,
    /// Bytes that no set tells apart share a class.
    pub class_of: [u8; 256],
    pub classes: usize,
    /// Row by class, one bit per set.
    pub accepts: Vec<Vec<bool>>,
    /// Does the pattern contain `^`?
    pub has_begin: bool,
    /// Bytes with which a match can begin.
    pub first_bytes: [bool; 256],
    /// Can the pattern match without consuming anything (anchors taken as true)?
    pub nullable: bool,
}

/// How many entries a counted loop allows at one position.
const ENTRIES_MAX: u64 = 2;

pub(super) fn compile(graph: &Graph) -> Result<Program, RegexError> {
    let loops = EmptyLoops::find(graph)?;
    let mut builder = Builder {
        graph,
        loops,
        numbers: HashMap::new(),
        entry_numbers: HashMap::new(),
        pending: Vec::new(),
        steps: Vec::new(),
    };
    let start = builder.resolve(graph.start, Place { node: graph.start, entered: 0 });
    builder.entry(start);
    let mut entries = Vec::new();
    while entries.len() < builder.pending.len() {
        let place = builder.pending[entries.len()];
        entries.push(builder.lay(place)?);
    }
    let steps = builder.steps;
    let (class_of, classes) = byte_classes(graph);
    let accepts = accept_rows(graph, &class_of, classes);
    let (first_bytes, nullable) = first_bytes(graph, &steps, entries[0]);
    Ok(Program {
        has_begin: steps.iter().any(|step| matches!(step, Step::Begin { .. })),
        steps,
        entries,
        slots: 2 * (graph.groups as usize + 1),
        class_of,
        classes,
        accepts,
        first_bytes,
        nullable,
    })
}

/// A node, and how often each loop round it was entered at this position (two bits per loop of the component).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    node: NodeId,
    entered: u64,
}

struct Builder<'a> {
    graph: &'a Graph,
    loops: EmptyLoops,
    numbers: HashMap<Place, StepId>,
    entry_numbers: HashMap<NodeId, u32>,
    /// Entries in the order of their numbers.
    pending: Vec<Place>,
    steps: Vec<Step>,
}

enum Task {
    Visit(Place),
    Finish(Place),
}

impl Builder<'_> {
    /// Follows connections to the next node that does something. `from` is where the way comes from.
    fn resolve(&self, from: NodeId, place: Place) -> Place {
        let mut from = from;
        let mut place = place;
        loop {
            if self.loops.component[from as usize] != self.loops.component[place.node as usize] {
                place.entered = 0;
            }
            let next = match self.graph.nodes[place.node as usize] {
                Node::Jump { next } => next,
                Node::Repeat { exit, .. } if self.entries_so_far(place) == Some(ENTRIES_MAX) => exit,
                _ => return place,
            };
            from = place.node;
            place.node = next;
        }
    }

    /// How often this place's loop was entered here, if it is one that is counted.
    fn entries_so_far(&self, place: Place) -> Option<u64> {
        let bit = self.loops.counter[place.node as usize]?;
        Some(place.entered >> bit & 3)
    }

    /// The number of the entry at this place.
    fn entry(&mut self, place: Place) -> u32 {
        let pending = &mut self.pending;
        *self.entry_numbers.entry(place.node).or_insert_with(|| {
            pending.push(place);
            (pending.len() - 1) as u32
        })
    }

    /// The places that this one leads to without consuming anything.
    fn successors(&self, place: Place) -> (Option<Place>, Option<Place>) {
        let follow = |node, entered| Some(self.resolve(place.node, Place { node, entered }));
        match self.graph.nodes[place.node as usize] {
            Node::Consume { .. } | Node::Accept => (None, None),
            Node::Save { next, .. } | Node::Begin { next } | Node::End { next } | Node::Jump { next } => {
                (follow(next, place.entered), None)
            }
            Node::Alternate { first, second } => {
                (follow(first, place.entered), follow(second, place.entered))
            }
            Node::Repeat { more, exit } => {
                let once_more = match self.loops.counter[place.node as usize] {
                    Some(bit) => place.entered + (1 << bit),
                    None => place.entered,
                };
                (follow(more, once_more), follow(exit, place.entered))
            }
        }
    }

    /// Lays down the steps for a place and all it leads to, those first. Gives its step.
    fn lay(&mut self, root: Place) -> Result<StepId, RegexError> {
        let mut tasks = vec![Task::Visit(root)];
        while let Some(task) = tasks.pop() {
            match task {
                Task::Visit(place) if self.numbers.contains_key(&place) => {}
                Task::Visit(place) => {
                    tasks.push(Task::Finish(place));
                    let (first, second) = self.successors(place);
                    tasks.extend(second.into_iter().chain(first).map(Task::Visit));
                }
                Task::Finish(place) if self.numbers.contains_key(&place) => {}
                Task::Finish(place) => self.write(place)?,
            }
        }
        Ok(self.numbers[&root])
    }

    fn write(&mut self, place: Place) -> Result<(), RegexError> {
        if self.steps.len() >= REGEX_STEPS_MAX {
            return Err(RegexError::TooComplex);
        }
        let (first, second) = self.successors(place);
        let number = |place: Option<Place>| place.map_or(0, |place| self.numbers[&place]);
        let (first, second) = (number(first), number(second));
        let step = match self.graph.nodes[place.node as usize] {
            Node::Consume { set, next } => {
                // A consumed byte forgets all entries.
                let target = self.resolve(place.node, Place { node: next, entered: 0 });
                Step::Consume { set, entry: self.entry(target) }
            }
            Node::Save { slot, .. } => Step::Save { slot, next: first },
            Node::Begin { .. } => Step::Begin { next: first },
            Node::End { .. } => Step::End { next: first },
            Node::Alternate { .. } => Step::Longest { first, second },
            Node::Repeat { .. } => Step::Prefer { first, second },
            Node::Jump { .. } => unreachable!("connections are resolved before they are written"),
            Node::Accept => Step::Accept,
        };
        self.numbers.insert(place, self.steps.len() as StepId);
        self.steps.push(step);
        Ok(())
    }
}

/// Which nodes lie on a cycle that consumes nothing, and which loops there must be counted.
struct EmptyLoops {
    component: Vec<u32>,
    /// For a counted loop, the first of its two bits.
    counter: Vec<Option<u8>>,
}

impl EmptyLoops {
    fn find(graph: &Graph) -> Result<EmptyLoops, RegexError> {
        let component = components(graph);
        let mut counter = vec![None; graph.nodes.len()];
        let mut used: HashMap<u32, u8> = HashMap::new();
        for (id, node) in graph.nodes.iter().enumerate() {
            let Node::Repeat { more, .. } = *node else { continue };
            if component[more as usize] != component[id] {
                continue;
            }
            let loops = used.entry(component[id]).or_insert(0);
            if *loops >= REGEX_EMPTY_LOOPS_MAX {
                return Err(RegexError::TooComplex);
            }
            counter[id] = Some(2 * *loops);
            *loops += 1;
        }
        Ok(EmptyLoops { component, counter })
    }
}

/// The ways out of a node that consume nothing.
fn ways(node: Node) -> [Option<NodeId>; 2] {
    match node {
        Node::Consume { .. } | Node::Accept => [None, None],
        Node::Save { next, .. } | Node::Begin { next } | Node::End { next } | Node::Jump { next } => {
            [Some(next), None]
        }
        Node::Repeat { more, exit } => [Some(more), Some(exit)],
        Node::Alternate { first, second } => [Some(first), Some(second)],
    }
}

/// Strongly connected components of the ways that consume nothing (Tarjan's method with its own stack).
fn components(graph: &Graph) -> Vec<u32> {
    const UNSEEN: u32 = u32::MAX;
    let count = graph.nodes.len();
    let mut component = vec![UNSEEN; count];
    let mut order = vec![UNSEEN; count];
    let mut low = vec![0u32; count];
    let mut members: Vec<NodeId> = Vec::new();
    let (mut next_order, mut next_component) = (0, 0);
    for root in 0..count as NodeId {
        if order[root as usize] != UNSEEN {
            continue;
        }
        let mut path: Vec<(NodeId, usize)> = vec![(root, 0)];
        while let Some((node, way)) = path.last_mut() {
            let id = *node as usize;
            if *way == 0 && order[id] == UNSEEN {
                order[id] = next_order;
                low[id] = next_order;
                next_order += 1;
                members.push(*node);
            }
            if *way < 2 {
                let target = ways(graph.nodes[id])[*way];
                *way += 1;
                match target {
                    Some(target) if order[target as usize] == UNSEEN => path.push((target, 0)),
                    Some(target) if component[target as usize] == UNSEEN => {
                        low[id] = low[id].min(order[target as usize]);
                    }
                    _ => {}
                }
                continue;
            }
            path.pop();
            if let Some((parent, _)) = path.last() {
                low[*parent as usize] = low[*parent as usize].min(low[id]);
            }
            if low[id] == order[id] {
                while let Some(member) = members.pop() {
                    component[member as usize] = next_component;
                    if member as usize == id {
                        break;
                    }
                }
                next_component += 1;
            }
        }
    }
    component
}

/// Numbers the bytes so that two get the same number exactly if every set treats them alike.
fn byte_classes(graph: &Graph) -> ([u8; 256], usize) {
    let mut class_of = [0u8; 256];
    let mut classes = 1usize;
    for set in &graph.sets {
        let mut renamed: HashMap<(u8, bool), u8> = HashMap::new();
        for byte in 0..=255u8 {
            let next = renamed.len() as u8;
            let class = &mut class_of[usize::from(byte)];
            *class = *renamed.entry((*class, contains(set, byte))).or_insert(next);
        }
        classes = renamed.len();
    }
    (class_of, classes)
}

fn accept_rows(graph: &Graph, class_of: &[u8; 256], classes: usize) -> Vec<Vec<bool>> {
    let mut rows = vec![vec![false; graph.sets.len()]; classes];
    for byte in 0..=255u8 {
        let row = &mut rows[usize::from(class_of[usize::from(byte)])];
        for (accepts, set) in row.iter_mut().zip(&graph.sets) {
            *accepts = contains(set, byte);
        }
    }
    rows
}

/// The bytes that the start can consume, and whether it can reach the end without any.
fn first_bytes(graph: &Graph, steps: &[Step], start: StepId) -> ([bool; 256], bool) {
    let mut bytes = [false; 256];
    let mut nullable = false;
    let mut seen = vec![false; steps.len()];
    let mut stack = vec![start];
    while let Some(id) = stack.pop() {
        if std::mem::replace(&mut seen[id as usize], true) {
            continue;
        }
        match steps[id as usize] {
            Step::Consume { set, .. } => {
                let set = &graph.sets[set as usize];
                for byte in 0..=255u8 {
                    bytes[usize::from(byte)] |= contains(set, byte);
                }
            }
            Step::Save { next, .. } | Step::Begin { next } | Step::End { next } => stack.push(next),
            Step::Prefer { first, second } | Step::Longest { first, second } => {
                stack.extend([first, second]);
            }
            Step::Accept => nullable = true,
        }
    }
    (bytes, nullable)
}
