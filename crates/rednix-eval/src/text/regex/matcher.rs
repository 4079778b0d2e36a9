//! Matching: runs the columns over a subject from its end, then walks forward along the recorded choices.
//! Both passes take time linear in the subject. Memory is bounded: columns are kept for one block of the
//! subject, other blocks are worked out again from checkpoints when the walk gets there.

use std::cell::Cell;
use std::ops::Range;

use super::super::limits::{REGEX_BLOCK_MAX, REGEX_BLOCK_MIN, REGEX_CACHE_BYTES_MAX};
use super::columns::{Attempt, ColumnId, Columns, DEAD};
use super::program::{Program, Step};

/// Positions of the groups of one match: number 0 is the whole match, an unset group is `None`.
pub type Groups = Vec<Option<Range<usize>>>;

const UNSET: usize = usize::MAX;

/// What a pattern keeps from one match to the next.
#[derive(Debug)]
pub(super) struct Cache {
    columns: Columns,
    block: Vec<ColumnId>,
    slots: Vec<usize>,
}

/// The place where a pattern keeps its cache while no match is going on.
pub(super) type CacheCell = Cell<Option<Box<Cache>>>;

/// A subject being matched. It takes the pattern's cache and puts it back when dropped.
pub(super) struct Tape<'a> {
    program: &'a Program,
    subject: &'a [u8],
    home: &'a CacheCell,
    cache: Option<Box<Cache>>,
    /// Positions per block.
    block_length: usize,
    /// Number of columns over which the cache is emptied before another block.
    columns_max: usize,
    /// First position of the block at hand; its columns are in `Cache::block`.
    low: usize,
    /// Every so many blocks there is a checkpoint.
    checkpoint_step: usize,
    /// Ranks of the first column of some later blocks, the nearest last.
    checkpoints: Vec<(usize, Box<[u32]>)>,
    /// A dead column ends it all: only a match of the whole subject counts, and no `^` can hold further on.
    dead_is_final: bool,
}

impl Drop for Tape<'_> {
    fn drop(&mut self) {
        self.home.set(self.cache.take());
    }
}

impl<'a> Tape<'a> {
    fn new(program: &'a Program, home: &'a CacheCell, subject: &'a [u8], exact: bool) -> Tape<'a> {
        let mut cache = home.take().unwrap_or_else(|| {
            Box::new(Cache {
                columns: Columns::new(program, exact),
                block: Vec::new(),
                slots: vec![UNSET; program.slots],
            })
        });
        cache.block.clear();
        let columns_max = REGEX_CACHE_BYTES_MAX / cache.columns.column_bytes();
        let block_length = (columns_max / 2).clamp(REGEX_BLOCK_MIN, REGEX_BLOCK_MAX);
        let checkpoint_bytes = subject.len() / block_length * (4 * program.entries.len() + 32);
        Tape {
            program,
            subject,
            home,
            cache: Some(cache),
            block_length,
            checkpoint_step: 1 + checkpoint_bytes / REGEX_CACHE_BYTES_MAX,
            columns_max: columns_max / 2,
            low: 0,
            checkpoints: Vec::new(),
            dead_is_final: exact && !program.has_begin,
        }
    }

    #[inline]
    fn cache(&mut self) -> &mut Cache {
        self.cache.as_mut().expect("a tape holds its cache until it is dropped")
    }

    /// Works out the columns of one block, which must not lie before the one at hand. `None` if there can be no
    /// exact match.
    ///
    /// The way from the end to the block is kept in checkpoints: one for every `checkpoint_step` blocks, and between
    /// them some that halve the distance each time. A walk over n blocks so works out each block twice while all
    /// checkpoints fit, and n log n blocks at worst.
    fn load(&mut self, target: usize) -> Option<()> {
        self.checkpoints.retain(|&(block, _)| block > target);
        let Tape { checkpoints, cache, .. } = self;
        let columns = &mut cache.as_mut().expect("a tape holds its cache until it is dropped").columns;
        let (mut block, mut after) = match checkpoints.last() {
            Some((block, ranks)) => (block - 1, Some(columns.restore(ranks))),
            None => (self.subject.len() / self.block_length, None),
        };
        let halfway = |block: usize| target + (block - target) / 2;
        let mut mark = halfway(block);
        loop {
            let first = self.fill(block, after)?;
            if block == target {
                return Some(());
            }
            if block == mark || block.is_multiple_of(self.checkpoint_step) {
                let ranks = self.cache().columns.ranks(first).into();
                self.checkpoints.push((block, ranks));
            }
            if block == mark {
                mark = halfway(block);
            }
            after = Some(first);
            block -= 1;
        }
    }

    /// Fills the block at hand, given the column that comes after it. Gives its first column, or `None` if there
    /// can be no exact match.
    fn fill(&mut self, block: usize, after: Option<ColumnId>) -> Option<ColumnId> {
        self.low = block * self.block_length;
        let Tape { program, subject, cache, low, .. } = self;
        let cache = cache.as_mut().expect("a tape holds its cache until it is dropped");
        let columns = &mut cache.columns;
        let high = subject.len().min(*low + self.block_length);
        cache.block.clear();
        cache.block.resize(high - *low, DEAD);
        let mut column = match after {
            Some(after) if columns.len() > self.columns_max => {
                let ranks: Box<[u32]> = columns.ranks(after).into();
                columns.clear();
                columns.restore(&ranks)
            }
            Some(after) => after,
            None => {
                if columns.len() > self.columns_max {
                    columns.clear();
                }
                let last = columns.last(program, Attempt::default());
                cache.block.push(last);
                last
            }
        };
        for (slot, &byte) in cache.block[..high - *low].iter_mut().zip(&subject[*low..high]).rev() {
            column = columns.before(program, column, program.class_of[usize::from(byte)]);
            *slot = column;
            if column == DEAD && self.dead_is_final {
                return None;
            }
        }
        Some(column)
    }

    /// The column at a position, which must not lie before the block at hand.
    #[inline]
    fn column(&mut self, position: usize) -> ColumnId {
        let low = self.low;
        match self.cache().block.get(position.wrapping_sub(low)) {
            Some(&column) => column,
            None => self.next_column(position),
        }
    }

    #[cold]
    fn next_column(&mut self, position: usize) -> ColumnId {
        let block = position / self.block_length;
        self.load(block).expect("what lies after a live column is alive");
        let low = self.low;
        self.cache().block[position - low]
    }

    /// The column for an attempt that begins here.
    fn attempt_column(&mut self, position: usize, attempt: Attempt) -> ColumnId {
        let program = self.program;
        let Some(&byte) = self.subject.get(position) else {
            return self.cache().columns.last(program, attempt);
        };
        let after = self.column(position + 1);
        let class = program.class_of[usize::from(byte)];
        self.cache().columns.attempt(program, after, class, attempt)
    }

    /// Walks along the choices from a position and its column to the match's end, noting the groups in `slots`.
    fn walk(&mut self, from: usize, column: ColumnId) -> usize {
        let program = self.program;
        self.cache().slots.fill(UNSET);
        let mut position = from;
        let mut column = column;
        let mut id = program.entries[0];
        loop {
            match program.steps[id as usize] {
                Step::Consume { entry, .. } => {
                    position += 1;
                    column = self.column(position);
                    id = program.entries[entry as usize];
                }
                Step::Prefer { first, second } | Step::Longest { first, second } => {
                    id = if self.cache().columns.takes_second(column, id) { second } else { first };
                }
                Step::Save { slot, next } => {
                    self.cache().slots[slot as usize] = position;
                    id = next;
                }
                Step::Begin { next } | Step::End { next } => id = next,
                Step::Accept => return position,
            }
        }
    }

    /// The groups of the match from a position and its column.
    fn groups(&mut self, from: usize, column: ColumnId) -> Groups {
        let end = self.walk(from, column);
        let slots = &self.cache().slots;
        let pairs = slots[2..].chunks_exact(2);
        let groups = pairs.map(|pair| (pair[1] != UNSET).then_some(pair[0]..pair[1]));
        std::iter::once(Some(from..end)).chain(groups).collect()
    }
}

/// Matches the whole subject.
pub(super) fn full_match(program: &Program, home: &CacheCell, subject: &[u8]) -> Option<Groups> {
    let possible = match subject.first() {
        Some(&byte) => program.first_bytes[usize::from(byte)],
        None => program.nullable,
    };
    if !possible {
        return None;
    }
    let mut tape = Tape::new(program, home, subject, true);
    tape.load(0)?;
    let column = if program.has_begin {
        tape.attempt_column(0, Attempt { at_begin: true, not_empty: false })
    } else {
        tape.column(0)
    };
    if !tape.cache().columns.matches(column) {
        return None;
    }
    // Without groups there is nothing to walk for.
    let has_groups = program.slots > 2;
    Some(if has_groups { tape.groups(0, column) } else { vec![Some(0..subject.len())] })
}

/// The matches of a pattern in a subject, from left to right, not overlapping.
pub(super) struct Matches<'a> {
    tape: Tape<'a>,
    /// Where to look next; behind the subject's end when all is found.
    from: usize,
    /// The last match was empty and ended at `from`.
    was_empty: bool,
}

pub(super) fn find_iter<'a>(program: &'a Program, home: &'a CacheCell, subject: &'a [u8]) -> Matches<'a> {
    let mut tape = Tape::new(program, home, subject, false);
    tape.load(0);
    Matches { tape, from: 0, was_empty: false }
}

impl Matches<'_> {
    /// The column of a match that begins at this position, if there is one.
    fn attempt(&mut self, position: usize, not_empty: bool) -> Option<ColumnId> {
        let at_begin = position == 0;
        let column = if not_empty || (at_begin && self.tape.program.has_begin) {
            self.tape.attempt_column(position, Attempt { at_begin, not_empty })
        } else {
            self.tape.column(position)
        };
        self.tape.cache().columns.matches(column).then_some(column)
    }

    fn find(&mut self) -> Option<(usize, ColumnId)> {
        let end = self.tape.subject.len();
        // After an empty match: something longer at the same place, or else further on.
        if std::mem::take(&mut self.was_empty) {
            if self.from == end {
                return None;
            }
            if let Some(column) = self.attempt(self.from, true) {
                return Some((self.from, column));
            }
            self.from += 1;
        }
        (self.from..=end).find_map(|position| Some((position, self.attempt(position, false)?)))
    }
}

impl Iterator for Matches<'_> {
    type Item = Groups;

    fn next(&mut self) -> Option<Groups> {
        let Some((position, column)) = self.find() else {
            self.from = self.tape.subject.len() + 1;
            return None;
        };
        let groups = self.tape.groups(position, column);
        let end = groups[0].as_ref().map_or(position, |whole| whole.end);
        self.from = end;
        self.was_empty = end == position;
        Some(groups)
    }
}
