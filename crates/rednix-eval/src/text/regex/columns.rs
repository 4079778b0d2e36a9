//! Columns: what the program can reach from each position of a subject, worked out from the end backwards.
//!
//! A column holds, for one position, which entries lead to a match and in what order those matches end, and
//! which way each branch then takes. There are few different columns, so that they are kept as states of a
//! deterministic automaton that grows as it is used. The module does not look at subjects: it is told a byte
//! class and gives the next column.

use std::collections::HashMap;

use super::program::{Program, Step};

/// A column's number. Numbers are valid until `clear`.
pub(super) type ColumnId = u32;

/// No entry of this column leads to a match.
pub(super) const DEAD: ColumnId = 0;

const UNKNOWN: ColumnId = ColumnId::MAX;
/// The rank of what leads to no match.
const NONE: u32 = u32::MAX;

/// What is special about the position at which an attempt begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempt {
    /// `^` holds here.
    pub at_begin: bool,
    /// A match that ends here is refused.
    pub not_empty: bool,
}

impl Attempt {
    fn index(self) -> usize {
        usize::from(self.at_begin) + 2 * usize::from(self.not_empty)
    }
}

const ATTEMPT_KINDS: usize = 4;

#[derive(Debug)]
pub(super) struct Columns {
    /// Only matches that end at the subject's end count (then all ranks are equal).
    exact: bool,
    classes: usize,
    entries: usize,
    words: usize,
    /// Per column: the column before it, by byte class.
    table: Vec<ColumnId>,
    /// The same for the positions where an attempt begins, kept apart because they are few.
    attempts: HashMap<(ColumnId, u8, u8), ColumnId>,
    /// Per column: the rank of each entry; a higher rank is a later end.
    ranks: Vec<u32>,
    /// Per column: one bit per step, set if a branch takes its second way.
    choices: Vec<u32>,
    index: HashMap<Box<[u32]>, ColumnId>,
    finals: [ColumnId; ATTEMPT_KINDS],
    /// Ranks of all steps while a column is worked out.
    work: Vec<u32>,
    key: Vec<u32>,
}

impl Columns {
    pub fn new(program: &Program, exact: bool) -> Columns {
        let mut columns = Columns {
            exact,
            classes: program.classes,
            entries: program.entries.len(),
            words: program.steps.len().div_ceil(32),
            table: Vec::new(),
            attempts: HashMap::new(),
            ranks: Vec::new(),
            choices: Vec::new(),
            index: HashMap::new(),
            finals: [UNKNOWN; ATTEMPT_KINDS],
            work: vec![NONE; program.steps.len()],
            key: Vec::new(),
        };
        columns.clear();
        columns
    }

    /// Bytes that one column takes, roughly.
    pub fn column_bytes(&self) -> usize {
        4 * (self.classes + 2 * (self.entries + self.words)) + 64
    }

    pub fn len(&self) -> usize {
        self.ranks.len() / self.entries
    }

    /// Forgets all columns.
    pub fn clear(&mut self) {
        self.table.clear();
        self.attempts.clear();
        self.ranks.clear();
        self.choices.clear();
        self.index.clear();
        self.finals = [UNKNOWN; ATTEMPT_KINDS];
        let dead = vec![NONE; self.entries];
        let id = self.restore(&dead);
        debug_assert_eq!(id, DEAD);
    }

    pub fn ranks(&self, id: ColumnId) -> &[u32] {
        &self.ranks[id as usize * self.entries..][..self.entries]
    }

    /// The column with these ranks, to go on backwards from; its choices are not to be used.
    pub fn restore(&mut self, ranks: &[u32]) -> ColumnId {
        self.key.clear();
        self.key.extend_from_slice(ranks);
        self.key.resize(self.entries + self.words, 0);
        self.intern()
    }

    /// Does the program match from its start at this column?
    pub fn matches(&self, id: ColumnId) -> bool {
        self.ranks[id as usize * self.entries] != NONE
    }

    /// Does the branch at this step take its second way?
    pub fn takes_second(&self, id: ColumnId, step: u32) -> bool {
        self.choices[id as usize * self.words + (step / 32) as usize] >> (step % 32) & 1 == 1
    }

    /// The column before `after`, over a byte of this class.
    #[inline]
    pub fn before(&mut self, program: &Program, after: ColumnId, class: u8) -> ColumnId {
        let known = self.table[after as usize * self.classes + usize::from(class)];
        if known != UNKNOWN { known } else { self.extend(program, after, class) }
    }

    #[cold]
    fn extend(&mut self, program: &Program, after: ColumnId, class: u8) -> ColumnId {
        let id = self.work_out(program, Some((after, class)), Attempt::default());
        self.table[after as usize * self.classes + usize::from(class)] = id;
        id
    }

    /// The same for a position at which an attempt begins.
    pub fn attempt(&mut self, program: &Program, after: ColumnId, class: u8, attempt: Attempt) -> ColumnId {
        let key = (after, class, attempt.index() as u8);
        if let Some(&known) = self.attempts.get(&key) {
            return known;
        }
        let id = self.work_out(program, Some((after, class)), attempt);
        self.attempts.insert(key, id);
        id
    }

    /// The column at the subject's end.
    pub fn last(&mut self, program: &Program, attempt: Attempt) -> ColumnId {
        let known = self.finals[attempt.index()];
        if known != UNKNOWN {
            return known;
        }
        let id = self.work_out(program, None, attempt);
        self.finals[attempt.index()] = id;
        id
    }

    /// Works out a column from the one after it, or the last one. Every step's targets come before it, so that
    /// one walk over the steps is enough.
    fn work_out(&mut self, program: &Program, from: Option<(ColumnId, u8)>, attempt: Attempt) -> ColumnId {
        let Columns { exact, ranks, work, key, entries, words, .. } = self;
        let after = from.map(|(after, class)| {
            (&ranks[after as usize * *entries..][..*entries], &program.accepts[usize::from(class)])
        });
        key.clear();
        key.resize(*entries + *words, 0);
        for (id, step) in program.steps.iter().enumerate() {
            let mut second_way = false;
            let rank = match *step {
                Step::Consume { set, entry } => match after {
                    Some((ranks, accepts)) if accepts[set as usize] => ranks[entry as usize],
                    _ => NONE,
                },
                Step::Save { next, .. } => work[next as usize],
                Step::Begin { next } if attempt.at_begin => work[next as usize],
                Step::End { next } if after.is_none() => work[next as usize],
                Step::Begin { .. } | Step::End { .. } => NONE,
                Step::Prefer { first, second } => {
                    let (first, second) = (work[first as usize], work[second as usize]);
                    second_way = first == NONE && second != NONE;
                    if second_way { second } else { first }
                }
                Step::Longest { first, second } => {
                    let (first, second) = (work[first as usize], work[second as usize]);
                    second_way = second != NONE && (first == NONE || second > first);
                    if second_way { second } else { first }
                }
                // Ranks from the column after this one start at 1: a match that ends here ends first.
                Step::Accept if attempt.not_empty || (*exact && after.is_some()) => NONE,
                Step::Accept => 0,
            };
            work[id] = rank;
            if second_way {
                key[*entries + id / 32] |= 1 << (id % 32);
            }
        }
        for (entry, &step) in program.entries.iter().enumerate() {
            key[entry] = work[step as usize];
        }
        if !*exact {
            renumber(&mut key[..*entries]);
        }
        self.intern()
    }

    /// The number of the column in `key`.
    fn intern(&mut self) -> ColumnId {
        if let Some(&id) = self.index.get(self.key.as_slice()) {
            return id;
        }
        let id = self.len() as ColumnId;
        self.ranks.extend_from_slice(&self.key[..self.entries]);
        self.choices.extend_from_slice(&self.key[self.entries..]);
        self.table.resize(self.table.len() + self.classes, UNKNOWN);
        self.index.insert(self.key.as_slice().into(), id);
        id
    }
}

/// Replaces ranks by the smallest numbers from 1 on that keep their order.
fn renumber(ranks: &mut [u32]) {
    let mut values: Vec<u32> = ranks.iter().copied().filter(|&rank| rank != NONE).collect();
    values.sort_unstable();
    values.dedup();
    for rank in ranks.iter_mut().filter(|rank| **rank != NONE) {
        let place = values.partition_point(|value| *value < *rank);
        *rank = place as u32 + 1;
    }
}
