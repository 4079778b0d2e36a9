//! A store in memory: places, rows, roots, locks, an archive, and what of all that is on the disk. Each effect is one
//! step, before which others may run or the world may end. Knows no order of steps.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Paths are numbers; each may refer to smaller ones.
pub type Path = usize;
pub const PATHS: usize = 6;

/// What a path refers to: fixed, as contents are.
pub fn references(path: Path) -> &'static [Path] {
    const REFERENCES: [&[Path]; PATHS] = [&[], &[0], &[], &[1, 2], &[2], &[3]];
    REFERENCES[path]
}

/// Those that have a file in common, which can be made one.
pub const ALIKE: [Path; 3] = [0, 2, 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    Half,
    Whole,
}

/// Deliberate mistakes: steps that lie, or another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    RowBeforeContents,
    LooksBeforePromising,
    ContentsBeforeRows,
    ArchivesAfterRows,
    MarksBeforeFlushing,
    PromiseIsNothing,
    PathLockIsNothing,
    CollectionLockIsNothing,
    FlushIsNothing,
    UnregisteringIsNotFlushed,
    ArchivingIsNotFlushed,
    NoRecovery,
    RootsReadBeforeLocking,
    ClearsBeforeReplacing,
    ReplacesWhatIsRight,
    LinksWithWhatIsNotFlushed,
    LinksBesideCollections,
    ForgetsBesideArchiving,
}

impl Fault {
    pub const ALL: [Fault; 18] = [
        Fault::RowBeforeContents,
        Fault::LooksBeforePromising,
        Fault::ContentsBeforeRows,
        Fault::ArchivesAfterRows,
        Fault::MarksBeforeFlushing,
        Fault::PromiseIsNothing,
        Fault::PathLockIsNothing,
        Fault::CollectionLockIsNothing,
        Fault::FlushIsNothing,
        Fault::UnregisteringIsNotFlushed,
        Fault::ArchivingIsNotFlushed,
        Fault::NoRecovery,
        Fault::RootsReadBeforeLocking,
        Fault::ClearsBeforeReplacing,
        Fault::ReplacesWhatIsRight,
        Fault::LinksWithWhatIsNotFlushed,
        Fault::LinksBesideCollections,
        Fault::ForgetsBesideArchiving,
    ];
}

/// A change of the database; rows are numbered in the order they come.
#[derive(Clone, Debug)]
enum Change {
    Insert(Path, i64),
    Delete(Path),
}

/// One value, and all it may be found to be after a power cut: what it was at the last flush and since.
#[derive(Clone, Debug)]
struct Stored<T> {
    now: T,
    earlier: Vec<T>,
}

impl<T: Clone> Stored<T> {
    fn new(value: T) -> Stored<T> {
        Stored { now: value.clone(), earlier: vec![value] }
    }

    fn set(&mut self, value: T) {
        self.now = value.clone();
        self.earlier.push(value);
    }

    fn flush(&mut self) {
        self.earlier = vec![self.now.clone()];
    }
}

#[derive(Debug)]
pub struct State {
    pub fault: Option<Fault>,
    random: u64,
    places: Vec<Stored<Option<Contents>>>,
    /// Number of each valid path's row.
    pub rows: BTreeMap<Path, i64>,
    /// Changes not known to be on the disk, oldest first, and what is.
    changes: Vec<Change>,
    rows_on_disk: BTreeMap<Path, i64>,
    next_row: i64,
    sequence_on_disk: i64,
    /// Which start of the machine, and up to which row contents are on the disk.
    mark: Stored<(u32, i64)>,
    pub start: u32,
    pub archive: BTreeSet<Path>,
    archive_on_disk: BTreeSet<Path>,
    /// Links that users made; they survive everything here.
    pub roots: BTreeSet<Path>,
    /// By process.
    pub promises: BTreeMap<u32, BTreeSet<Path>>,
    path_locks: BTreeMap<Path, u32>,
    collecting: Option<u32>,
    /// Those who keep collections away.
    guards: BTreeSet<u32>,
    /// The file that equal ones become, and whether it is on the disk.
    shared: Option<bool>,
    /// Being made under a lock, by how many.
    pub making: BTreeMap<Path, u32>,
    /// What each process was told is valid, and relies on while it lives.
    pub relied_on: BTreeMap<u32, BTreeSet<Path>>,
    /// What roots have kept since it was valid, and what of it was so at a flush.
    pub kept: BTreeSet<Path>,
    pub kept_on_disk: BTreeSet<Path>,
    /// What was taken from the store with the promise that it is in the archive.
    pub archived_for_good: BTreeSet<Path>,
    /// The last start of the machine in which somebody opened the store.
    pub opened: Option<u32>,
    told: Vec<String>,
}

pub struct World {
    state: RefCell<State>,
}

impl World {
    pub fn new(seed: u64, fault: Option<Fault>) -> World {
        let state = State {
            fault,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d,
            places: vec![Stored::new(None); PATHS],
            rows: BTreeMap::new(),
            changes: Vec::new(),
            rows_on_disk: BTreeMap::new(),
            next_row: 1,
            sequence_on_disk: 0,
            mark: Stored::new((0, 0)),
            start: 0,
            archive: BTreeSet::new(),
            archive_on_disk: BTreeSet::new(),
            roots: BTreeSet::new(),
            promises: BTreeMap::new(),
            path_locks: BTreeMap::new(),
            collecting: None,
            guards: BTreeSet::new(),
            shared: None,
            making: BTreeMap::new(),
            relied_on: BTreeMap::new(),
            kept: BTreeSet::new(),
            kept_on_disk: BTreeSet::new(),
            archived_for_good: BTreeSet::new(),
            opened: None,
            told: Vec::new(),
        };
        World { state: RefCell::new(state) }
    }

    pub fn with<T>(&self, run: impl FnOnce(&mut State) -> T) -> T {
        run(&mut self.state.borrow_mut())
    }

    pub fn fault(&self) -> Option<Fault> {
        self.state.borrow().fault
    }

    pub fn say(&self, text: String) {
        self.state.borrow_mut().told.push(text);
    }

    /// What happened, and how things stand.
    pub fn tell(&self) -> String {
        let state = self.state.borrow();
        let places: Vec<_> = state.places.iter().map(|place| place.now).collect();
        format!("{}\nplaces {places:?}\nrows {:?}", state.told.join("\n"), state.rows)
    }

    /// What must hold at every moment, whoever runs or died.
    pub fn check(&self) -> Result<(), String> {
        let state = self.state.borrow();
        if let Some(path) = state.archived_for_good.iter().find(|path| !state.archive.contains(path)) {
            return Err(format!("{path} was archived and is not in the archive"));
        }
        if let Some((path, _)) = state.making.iter().find(|(_, count)| **count > 1) {
            return Err(format!("{path} is made twice at once"));
        }
        // Between a power cut and the next opening nobody relies on anything.
        if state.opened != Some(state.start) {
            return Ok(());
        }
        let relied_on = state.relied_on.values().flatten().chain(&state.kept);
        if let Some(lost) = relied_on.into_iter().find(|path| !state.rows.contains_key(path)) {
            return Err(format!("{lost} was valid and relied on, and is not valid any more"));
        }
        for path in state.rows.keys() {
            if state.places[*path].now != Some(Contents::Whole) {
                return Err(format!("{path} is valid and its contents are {:?}", state.places[*path].now));
            }
            if let Some(absent) = references(*path).iter().find(|to| !state.rows.contains_key(to)) {
                return Err(format!("{path} is valid and refers to {absent}, which is not"));
            }
        }
        Ok(())
    }

    /// Power goes: everything may be as at the last flush, or as at any moment since.
    pub fn cut_power(&self) {
        let mut state = self.state.borrow_mut();
        for path in 0..PATHS {
            let found = state.pick_earlier(|state| &state.places[path].earlier);
            // Whole, but perhaps not all of it reached the disk.
            let is_flushed = state.places[path].earlier.len() == 1;
            let found = match found {
                Some(Contents::Whole) if !is_flushed && state.chance(3) => Some(Contents::Half),
                other => other,
            };
            state.places[path] = Stored::new(found);
        }
        let most = state.changes.len() as u64 + 1;
        let kept = state.below(most) as usize;
        let changes: Vec<Change> = state.changes.drain(..).take(kept).collect();
        let mut rows = std::mem::take(&mut state.rows_on_disk);
        changes.iter().for_each(|change| apply(&mut rows, change));
        // Numbers whose rows were lost come again.
        let inserted = changes.iter().filter_map(|change| match change {
            Change::Insert(_, row) => Some(*row),
            Change::Delete(_) => None,
        });
        state.next_row = inserted.fold(state.sequence_on_disk, i64::max) + 1;
        state.sequence_on_disk = state.next_row - 1;
        state.rows_on_disk = rows.clone();
        state.rows = rows;
        let mark = state.pick_earlier(|state| &state.mark.earlier);
        state.mark = Stored::new(mark);
        state.archive = state.archive_on_disk.clone();
        state.start += 1;
        state.promises.clear();
        state.path_locks.clear();
        state.making.clear();
        state.relied_on.clear();
        state.collecting = None;
        state.guards.clear();
        // One that may be torn is found to be so by its bytes, and is not used.
        if state.shared == Some(false) {
            state.shared = None;
        }
        state.kept = &state.kept_on_disk & &state.roots;
        state.told.push(format!("-- power cut, {kept} changes of the database kept"));
    }
}

fn apply(rows: &mut BTreeMap<Path, i64>, change: &Change) {
    match change {
        Change::Insert(path, row) => drop(rows.insert(*path, *row)),
        Change::Delete(path) => drop(rows.remove(path)),
    }
}

impl State {
    pub fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    /// One in `of`.
    pub fn chance(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn pick_earlier<T: Clone>(&mut self, of: impl Fn(&State) -> &Vec<T>) -> T {
        let count = of(self).len() as u64;
        let at = self.below(count) as usize;
        of(self)[at].clone()
    }

    pub fn contents(&self, path: Path) -> Option<Contents> {
        self.places[path].now
    }

    pub fn place(&mut self, path: Path, contents: Option<Contents>) {
        self.places[path].set(contents);
    }

    /// False where a reference is not valid: then nothing is registered.
    pub fn insert(&mut self, path: Path) -> bool {
        if references(path).iter().any(|to| !self.rows.contains_key(to)) {
            return false;
        }
        let row = self.next_row;
        self.next_row += 1;
        self.rows.insert(path, row);
        self.changes.push(Change::Insert(path, row));
        true
    }

    pub fn delete(&mut self, paths: &[Path]) {
        for path in paths {
            self.rows.remove(path);
            self.changes.push(Change::Delete(*path));
        }
    }

    pub fn flush_rows(&mut self) {
        let mut rows = std::mem::take(&mut self.rows_on_disk);
        self.changes.drain(..).for_each(|change| apply(&mut rows, &change));
        self.rows_on_disk = rows;
        self.sequence_on_disk = self.next_row - 1;
    }

    /// The whole file system, so the database's log too.
    pub fn flush_contents(&mut self) {
        self.places.iter_mut().for_each(Stored::flush);
        self.shared = self.shared.map(|_| true);
        self.flush_rows();
        self.kept_on_disk = self.kept.clone();
    }

    /// Offers a path's file, or takes the one that is offered in its place.
    pub fn share(&mut self, path: Path, is_flushed_first: bool) {
        let is_flushed = self.places[path].earlier.len() == 1;
        match self.shared {
            None => self.shared = Some(is_flushed),
            Some(on_disk) => {
                if is_flushed_first {
                    self.shared = Some(true);
                }
                // What was on the disk is now as safe as the file it shares.
                if !(on_disk || is_flushed_first) {
                    self.place(path, Some(Contents::Whole));
                }
            }
        }
    }

    pub fn flush_archive(&mut self) {
        self.archive_on_disk = self.archive.clone();
    }

    pub fn mark(&self) -> (u32, i64) {
        self.mark.now
    }

    pub fn set_mark(&mut self, row: i64) {
        let start = self.start;
        self.mark.set((start, row));
    }

    pub fn youngest_row(&self) -> i64 {
        self.rows.values().max().copied().unwrap_or(0)
    }

    pub fn is_path_locked(&self, path: Path) -> bool {
        self.path_locks.contains_key(&path)
    }

    /// Its locks go with what holds them.
    pub fn end_process(&mut self, process: u32) {
        self.promises.remove(&process);
        self.guards.remove(&process);
        self.relied_on.remove(&process);
    }

    pub fn unlink(&mut self, path: Path) {
        self.roots.remove(&path);
        self.kept.remove(&path);
        self.kept_on_disk.remove(&path);
    }

    pub fn all_promises(&self) -> BTreeSet<Path> {
        self.promises.values().flatten().copied().collect()
    }
}

/// Lets everybody else run, or the world end, before what comes next.
pub struct Pause(bool);

pub fn pause() -> Pause {
    Pause(false)
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match std::mem::replace(&mut self.0, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

/// A lock on a path, gone with whoever holds it.
pub struct PathLock {
    world: Rc<World>,
    path: Path,
    process: u32,
}

impl Drop for PathLock {
    fn drop(&mut self) {
        self.world.with(|state| {
            if state.path_locks.get(&self.path) == Some(&self.process) {
                state.path_locks.remove(&self.path);
            }
        });
    }
}

pub async fn lock_path(world: &Rc<World>, process: u32, path: Path) -> PathLock {
    loop {
        pause().await;
        let taken = world.with(|state| {
            let is_free = !state.path_locks.contains_key(&path);
            if is_free {
                state.path_locks.insert(path, process);
            }
            is_free || state.fault == Some(Fault::PathLockIsNothing)
        });
        if taken {
            return PathLock { world: world.clone(), path, process };
        }
    }
}

/// The collection's lock, gone with whoever holds it.
pub struct CollectionLock {
    world: Rc<World>,
    process: u32,
}

impl Drop for CollectionLock {
    fn drop(&mut self) {
        self.world.with(|state| {
            if state.collecting == Some(self.process) {
                state.collecting = None;
            }
        });
    }
}

pub async fn lock_collection(world: &Rc<World>, process: u32) -> CollectionLock {
    loop {
        pause().await;
        let taken = world.with(|state| {
            let is_free = state.collecting.is_none() && state.guards.is_empty();
            if is_free {
                state.collecting = Some(process);
            }
            is_free || state.fault == Some(Fault::CollectionLockIsNothing)
        });
        if taken {
            return CollectionLock { world: world.clone(), process };
        }
    }
}

/// Keeps collections away, until it is dropped with whoever holds it.
pub struct Guard {
    world: Rc<World>,
    process: u32,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.world.with(|state| state.guards.remove(&self.process));
    }
}

pub async fn guard(world: &Rc<World>, process: u32) -> Guard {
    loop {
        pause().await;
        let taken = world.with(|state| {
            let is_nothing = state.fault == Some(Fault::LinksBesideCollections);
            let is_free = state.collecting.is_none();
            if is_free && !is_nothing {
                state.guards.insert(process);
            }
            is_free || is_nothing || state.fault == Some(Fault::CollectionLockIsNothing)
        });
        if taken {
            return Guard { world: world.clone(), process };
        }
    }
}

/// Waits until nobody collects, and promises in the same step: the real store holds the lock shared meanwhile.
pub async fn promise(world: &Rc<World>, process: u32, paths: &[Path]) {
    loop {
        pause().await;
        let done = world.with(|state| {
            if state.collecting.is_some() && state.fault != Some(Fault::CollectionLockIsNothing) {
                return false;
            }
            if state.fault != Some(Fault::PromiseIsNothing) {
                state.promises.entry(process).or_default().extend(paths);
            }
            true
        });
        if done {
            return;
        }
    }
}
