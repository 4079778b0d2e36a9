//! Those who use the simulated store: adders, linkers, copiers, collectors, archivers, by the store's own order of steps; and the
//! executor that interleaves them, kills them and cuts the power.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use rednix_store::store::protocol::{self, Entering, Flushing, Leaving, Linking, Recovering};

use crate::world::{
    ALIKE, CollectionLock, Contents, Fault, Guard, PATHS, Path, PathLock, World, guard, lock_collection,
    lock_path, pause, promise, references,
};

/// What cannot happen in a store that keeps its promises.
type Wrong = String;
/// What can: where something was to come from, it is not.
const ABSENT: &str = "absent";

struct Adder {
    world: Rc<World>,
    process: u32,
    paths: Vec<Path>,
    /// Texts are placed without a lock: whoever else adds the same one places the same bytes.
    is_text: bool,
    from: From,
}

/// Where contents come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Builder,
    /// Another store, which may lose them meanwhile.
    Elsewhere,
    Archive,
}

/// Counts who makes a path, until it is made or its maker is dead.
struct Making(Rc<World>, RefCell<Vec<Path>>);

impl Making {
    fn end(&self) {
        self.0.with(|state| {
            for path in self.1.take() {
                if let Some(count) = state.making.get_mut(&path) {
                    *count = count.saturating_sub(1);
                }
            }
        });
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.end();
    }
}

impl Entering for Adder {
    type Error = Wrong;
    type Lock = Vec<PathLock>;
    type Made = Option<Making>;

    async fn promise(&mut self) -> Result<(), Wrong> {
        promise(&self.world, self.process, &self.paths).await;
        Ok(())
    }

    async fn are_valid(&mut self) -> Result<bool, Wrong> {
        pause().await;
        Ok(self.world.with(|state| self.paths.iter().all(|path| state.rows.contains_key(path))))
    }

    async fn lock(&mut self) -> Result<Vec<PathLock>, Wrong> {
        let mut locks = Vec::new();
        if !self.is_text {
            for path in &self.paths {
                locks.push(lock_path(&self.world, self.process, *path).await);
            }
        }
        Ok(locks)
    }

    async fn make(&mut self) -> Result<Option<Making>, Wrong> {
        if self.is_text {
            return Ok(None);
        }
        let missing: Vec<Path> = self.world.with(|state| {
            let paths = self.paths.iter().filter(|path| !state.rows.contains_key(*path)).copied();
            paths
                .collect::<Vec<_>>()
                .into_iter()
                .inspect(|path| *state.making.entry(*path).or_default() += 1)
                .collect()
        });
        let making = Making(self.world.clone(), RefCell::new(missing));
        pause().await;
        let is_there = self.world.with(|state| match self.from {
            From::Builder => true,
            From::Elsewhere => !state.chance(3),
            From::Archive => self.paths.iter().all(|path| state.archive.contains(path)),
        });
        pause().await;
        if is_there { Ok(Some(making)) } else { Err(ABSENT.to_owned()) }
    }

    async fn put_in_place(&mut self, made: &Option<Making>) -> Result<(), Wrong> {
        for path in &self.paths {
            pause().await;
            if self.world.with(|state| state.rows.contains_key(path)) && self.paths.len() > 1 {
                continue;
            }
            if self.world.fault() == Some(Fault::ClearsBeforeReplacing) && !self.is_text {
                self.world.with(|state| state.place(*path, None));
                pause().await;
            }
            self.world.with(|state| {
                // What is right stays.
                let is_right = state.contents(*path) == Some(Contents::Whole);
                if !is_right || state.fault == Some(Fault::ReplacesWhatIsRight) {
                    state.place(*path, Some(Contents::Whole));
                    // Linked while it was made, where the store does that.
                    if ALIKE.contains(path) && state.chance(2) {
                        state.share(*path, false);
                    }
                }
            });
        }
        if let Some(making) = made {
            making.end();
        }
        Ok(())
    }

    async fn register(&mut self) -> Result<(), Wrong> {
        pause().await;
        let (process, paths) = (self.process, &self.paths);
        self.world.with(|state| {
            for path in paths.iter().filter(|path| !state.rows.contains_key(*path)).collect::<Vec<_>>() {
                if !state.insert(*path) {
                    return Err(format!("process {process} cannot register {path}: a reference is gone"));
                }
            }
            Ok(())
        })
    }

    async fn clear_away(&mut self, _: Option<Making>) -> Result<(), Wrong> {
        pause().await;
        Ok(())
    }
}

async fn enter(adder: &mut Adder) -> Result<(), Wrong> {
    match adder.world.fault() {
        Some(Fault::RowBeforeContents) => {
            adder.promise().await?;
            let lock = adder.lock().await?;
            if adder.are_valid().await? {
                return Ok(());
            }
            let made = adder.make().await?;
            adder.register().await?;
            adder.put_in_place(&made).await?;
            drop(lock);
            adder.clear_away(made).await
        }
        Some(Fault::LooksBeforePromising) => {
            let is_there = adder.are_valid().await?;
            adder.promise().await?;
            if is_there { Ok(()) } else { protocol::enter(adder).await.map(drop) }
        }
        _ => protocol::enter(adder).await.map(drop),
    }
}

struct Collector {
    world: Rc<World>,
    process: u32,
    archives: bool,
    promised: BTreeSet<Path>,
    /// What the fault read too early.
    early: Option<Vec<Path>>,
}

impl Leaving for Collector {
    type Error = Wrong;
    type Lock = CollectionLock;
    type Path = Path;

    async fn lock_all(&mut self) -> Result<CollectionLock, Wrong> {
        Ok(lock_collection(&self.world, self.process).await)
    }

    async fn unneeded(&mut self) -> Result<Vec<Path>, Wrong> {
        if let Some(early) = self.early.take() {
            return Ok(early);
        }
        pause().await;
        self.promised = self.world.with(|state| state.all_promises());
        pause().await;
        let mut pending: Vec<Path> =
            self.world.with(|state| state.roots.union(&self.promised).copied().collect());
        pause().await;
        let rows: BTreeSet<Path> = self.world.with(|state| state.rows.keys().copied().collect());
        let mut alive = BTreeSet::new();
        while let Some(path) = pending.pop() {
            if rows.contains(&path) && alive.insert(path) {
                pending.extend(references(path));
            }
        }
        Ok(rows.iter().rev().filter(|path| !alive.contains(path)).copied().collect())
    }

    async fn sweep(&mut self) -> Result<(), Wrong> {
        for path in 0..PATHS {
            pause().await;
            self.world.with(|state| {
                let is_leftover = !state.rows.contains_key(&path)
                    && !self.promised.contains(&path)
                    && !state.is_path_locked(path);
                if is_leftover {
                    state.place(path, None);
                }
            });
        }
        Ok(())
    }

    async fn keep(&mut self, batch: &[Path]) -> Result<(), Wrong> {
        if self.archives {
            pause().await;
            self.world.with(|state| {
                state.archive.extend(batch);
                if state.fault != Some(Fault::ArchivingIsNotFlushed) {
                    state.flush_archive();
                }
            });
        }
        Ok(())
    }

    async fn unregister(&mut self, batch: &[Path]) -> Result<(), Wrong> {
        pause().await;
        let archives = self.archives;
        self.world.with(|state| {
            let user = state
                .rows
                .keys()
                .find(|user| !batch.contains(user) && references(**user).iter().any(|to| batch.contains(to)));
            if let Some(user) = user {
                return Err(format!("{user} is valid and refers to something that is collected"));
            }
            state.delete(batch);
            if state.fault != Some(Fault::UnregisteringIsNotFlushed) {
                state.flush_rows();
            }
            if archives {
                state.archived_for_good.extend(batch);
            }
            Ok(())
        })
    }

    async fn remove(&mut self, batch: &[Path]) -> Result<(), Wrong> {
        // Side by side: everything may be half gone before anything is.
        for contents in [Some(Contents::Half), None] {
            for path in batch {
                pause().await;
                self.world.with(|state| state.place(*path, contents));
            }
        }
        Ok(())
    }
}

const BATCH: usize = 2;

async fn leave(collector: &mut Collector) -> Result<(), Wrong> {
    match collector.world.fault() {
        Some(Fault::RootsReadBeforeLocking) => {
            let unneeded = collector.unneeded().await?;
            collector.early = Some(unneeded);
            protocol::leave(collector, BATCH).await
        }
        Some(fault @ (Fault::ContentsBeforeRows | Fault::ArchivesAfterRows)) => {
            let _lock = collector.lock_all().await?;
            let unneeded = collector.unneeded().await?;
            for batch in unneeded.chunks(BATCH) {
                if fault == Fault::ContentsBeforeRows {
                    collector.remove(batch).await?;
                }
                collector.unregister(batch).await?;
                collector.keep(batch).await?;
                if fault == Fault::ArchivesAfterRows {
                    collector.remove(batch).await?;
                }
            }
            Ok(())
        }
        _ => protocol::leave(collector, BATCH).await,
    }
}

struct Linker {
    world: Rc<World>,
    process: u32,
}

impl Linking for Linker {
    type Error = Wrong;
    type Guard = Guard;
    type Path = Path;

    async fn flush_contents(&mut self) -> Result<(), Wrong> {
        pause().await;
        self.world.with(|state| {
            if state.fault != Some(Fault::LinksWithWhatIsNotFlushed) {
                state.flush_contents();
            }
        });
        Ok(())
    }

    async fn keep_from_collection(&mut self) -> Result<Guard, Wrong> {
        Ok(guard(&self.world, self.process).await)
    }

    async fn is_valid(&mut self, path: &Path) -> Result<bool, Wrong> {
        pause().await;
        Ok(self.world.with(|state| state.rows.contains_key(path)))
    }

    async fn link(&mut self, path: &Path) -> Result<(), Wrong> {
        pause().await;
        self.world.with(|state| {
            if state.contents(*path) != Some(Contents::Whole) {
                return Err(format!("{path} is gone or going while it is linked"));
            }
            state.share(*path, state.fault != Some(Fault::LinksWithWhatIsNotFlushed));
            Ok(())
        })
    }
}

struct Power {
    world: Rc<World>,
    process: u32,
}

impl Flushing for Power {
    type Error = Wrong;

    async fn youngest_row(&mut self) -> Result<i64, Wrong> {
        pause().await;
        Ok(self.world.with(|state| state.youngest_row()))
    }

    async fn flush_contents(&mut self) -> Result<(), Wrong> {
        pause().await;
        self.world.with(|state| {
            if state.fault != Some(Fault::FlushIsNothing) {
                state.flush_contents();
            }
        });
        Ok(())
    }

    async fn mark(&mut self, row: i64) -> Result<(), Wrong> {
        pause().await;
        self.world.with(|state| state.set_mark(row));
        Ok(())
    }
}

impl Recovering for Power {
    type Lock = CollectionLock;
    type Path = Path;

    async fn is_marked_before_start(&mut self) -> Result<bool, Wrong> {
        pause().await;
        Ok(self.world.with(|state| state.mark().0 != state.start))
    }

    async fn lock_all(&mut self) -> Result<CollectionLock, Wrong> {
        Ok(lock_collection(&self.world, self.process).await)
    }

    async fn damaged(&mut self) -> Result<Vec<Path>, Wrong> {
        pause().await;
        Ok(self.world.with(|state| {
            let (_, marked) = state.mark();
            let mut damaged = BTreeSet::new();
            // References are smaller numbers, so one pass finds all that refer to something damaged.
            for (path, row) in &state.rows {
                let is_half = *row > marked && state.contents(*path) != Some(Contents::Whole);
                if is_half || references(*path).iter().any(|to| damaged.contains(to)) {
                    damaged.insert(*path);
                }
            }
            damaged.into_iter().rev().collect()
        }))
    }

    async fn unregister(&mut self, paths: &[Path]) -> Result<(), Wrong> {
        pause().await;
        self.world.with(|state| {
            state.delete(paths);
            state.flush_rows();
        });
        Ok(())
    }
}

async fn flush(power: &mut Power) -> Result<(), Wrong> {
    if power.world.fault() == Some(Fault::MarksBeforeFlushing) {
        let row = power.youngest_row().await?;
        power.mark(row).await?;
        return power.flush_contents().await;
    }
    protocol::flush(power).await
}

/// One process from opening the store to its end.
async fn live(world: Rc<World>, process: u32) -> Result<(), Wrong> {
    let mut power = Power { world: world.clone(), process };
    if world.fault() != Some(Fault::NoRecovery) {
        protocol::recover(&mut power).await?;
    }
    world.with(|state| state.opened = Some(state.start));
    let rounds = 1 + world.with(|state| state.below(3));
    for _ in 0..rounds {
        match world.with(|state| state.below(11)) {
            0 | 1 => collect(&world, process, false).await?,
            2 => collect(&world, process, true).await?,
            3 => flush(&mut power).await?,
            4 => link(&world, process).await?,
            5 => copy_out(&world, process).await?,
            6 => forget(&world, process).await,
            _ => build(&world, process).await?,
        }
    }
    Ok(())
}

async fn collect(world: &Rc<World>, process: u32, archives: bool) -> Result<(), Wrong> {
    world.say(format!("process {process} {}", if archives { "archives" } else { "collects" }));
    // Sometimes the user has no use for something any more.
    world.with(|state| {
        let path = state.below(PATHS as u64) as Path;
        if state.chance(3) {
            state.unlink(path);
        }
    });
    let promised = BTreeSet::new();
    leave(&mut Collector { world: world.clone(), process, archives, promised, early: None }).await
}

async fn link(world: &Rc<World>, process: u32) -> Result<(), Wrong> {
    world.say(format!("process {process} links equal files"));
    protocol::link(&mut Linker { world: world.clone(), process }, ALIKE).await
}

/// Reads paths for another store: what was valid once they were promised stays, whole, as long as reading takes.
async fn copy_out(world: &Rc<World>, process: u32) -> Result<(), Wrong> {
    let path = world.with(|state| state.below(PATHS as u64)) as Path;
    world.say(format!("process {process} copies {path} elsewhere"));
    promise(world, process, &[path]).await;
    pause().await;
    if !world.with(|state| state.rows.contains_key(&path)) {
        return Ok(());
    }
    for _ in 0..4 {
        pause().await;
        let contents = world.with(|state| state.contents(path));
        if contents != Some(Contents::Whole) {
            return Err(format!("{path} is {contents:?} while it is copied"));
        }
    }
    Ok(())
}

/// Deletes something from the archive that nobody needs there.
async fn forget(world: &Rc<World>, process: u32) {
    let path = world.with(|state| state.below(PATHS as u64)) as Path;
    world.say(format!("process {process} deletes {path} from the archive"));
    let _guard = match world.fault() {
        Some(Fault::ForgetsBesideArchiving) => None,
        _ => Some(guard(world, process).await),
    };
    pause().await;
    world.with(|state| {
        state.archive.remove(&path);
        state.archived_for_good.remove(&path);
        state.flush_archive();
    });
}

/// Adds a path after everything it refers to, and perhaps links it.
async fn build(world: &Rc<World>, process: u32) -> Result<(), Wrong> {
    let goal = world.with(|state| state.below(PATHS as u64)) as Path;
    let mut needed = BTreeSet::from([goal]);
    for path in (0..=goal).rev() {
        if needed.contains(&path) {
            needed.extend(references(path));
        }
    }
    world.say(format!("process {process} adds {needed:?}"));
    for path in needed {
        // The last two are outputs of one build; the first are texts, which may come from the archive as well.
        let paths = if path == goal && goal >= 3 && goal != 5 { vec![3, 4] } else { vec![path] };
        if paths.len() > 1 {
            for below in [0, 1, 2] {
                add(world, process, vec![below]).await?;
            }
        }
        add(world, process, paths).await?;
    }
    pause().await;
    world.with(|state| {
        if state.chance(2) && state.rows.contains_key(&goal) {
            state.roots.insert(goal);
            state.kept.insert(goal);
        }
    });
    Ok(())
}

async fn add(world: &Rc<World>, process: u32, paths: Vec<Path>) -> Result<(), Wrong> {
    let is_text = paths.len() == 1 && paths[0] < 2 && !world.with(|state| state.chance(2));
    // Where it is nowhere else, it is built.
    let from = match world.with(|state| state.below(4)) {
        0 => From::Elsewhere,
        1 => From::Archive,
        _ => From::Builder,
    };
    for from in [from, From::Builder] {
        let mut adder = Adder { world: world.clone(), process, paths: paths.clone(), is_text, from };
        match enter(&mut adder).await {
            Err(message) if message == ABSENT => {}
            other => {
                other?;
                break;
            }
        }
    }
    world.with(|state| state.relied_on.entry(process).or_default().extend(paths));
    Ok(())
}

struct Process {
    number: u32,
    steps: Pin<Box<dyn Future<Output = Result<(), Wrong>>>>,
}

pub struct Executor {
    world: Rc<World>,
    processes: Vec<Process>,
    next: u32,
}

/// Steps of one history, before all is ended and looked at once more.
const STEPS: u32 = 400;
const PROCESSES_MAX: usize = 3;
/// More than any end needs; a history that takes longer hangs.
const STEPS_LAST: u32 = 10_000;

impl Executor {
    pub fn new(world: Rc<World>) -> Executor {
        Executor { world, processes: Vec::new(), next: 1 }
    }

    pub fn run(&mut self) -> Result<(), Wrong> {
        for _ in 0..STEPS {
            let choice = self.world.with(|state| state.below(300));
            match choice {
                0 => {
                    self.processes.clear();
                    self.world.cut_power();
                }
                1..=4 if !self.processes.is_empty() => self.kill(),
                5..=40 if self.processes.len() < PROCESSES_MAX => self.start(),
                _ if self.processes.is_empty() => self.start(),
                _ => self.step()?,
            }
            self.world.check()?;
        }
        self.end()
    }

    fn start(&mut self) {
        let number = self.next;
        self.next += 1;
        let steps = Box::pin(live(self.world.clone(), number));
        self.processes.push(Process { number, steps });
    }

    fn kill(&mut self) {
        let at = self.world.with(|state| state.below(self.processes.len() as u64)) as usize;
        let killed = self.processes.swap_remove(at);
        self.world.say(format!("-- process {} killed", killed.number));
        drop(killed.steps);
        self.world.with(|state| state.end_process(killed.number));
    }

    fn step(&mut self) -> Result<(), Wrong> {
        let at = self.world.with(|state| state.below(self.processes.len() as u64)) as usize;
        let process = &mut self.processes[at];
        if let std::task::Poll::Ready(result) =
            process.steps.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            let number = process.number;
            self.processes.swap_remove(at);
            self.world.with(|state| state.end_process(number));
            result?;
        }
        Ok(())
    }

    /// Nobody needs anything: a collection leaves nothing behind.
    fn end(&mut self) -> Result<(), Wrong> {
        while !self.processes.is_empty() {
            self.kill();
        }
        (0..PATHS).for_each(|path| self.world.with(|state| state.unlink(path)));
        let world = self.world.clone();
        let last = async move {
            let mut power = Power { world: world.clone(), process: 0 };
            protocol::recover(&mut power).await?;
            world.with(|state| state.opened = Some(state.start));
            let promised = BTreeSet::new();
            let mut collector = Collector { world, process: 0, archives: false, promised, early: None };
            protocol::leave(&mut collector, BATCH).await
        };
        self.processes.push(Process { number: 0, steps: Box::pin(last) });
        for _ in 0..STEPS_LAST {
            if self.processes.is_empty() {
                return self.world.with(|state| {
                    let left = (0..PATHS).find(|path| state.contents(*path).is_some());
                    match (state.rows.is_empty(), left) {
                        (true, None) => Ok(()),
                        (false, _) => Err("rows are left after the last collection".to_owned()),
                        (_, Some(path)) => Err(format!("{path} is left after the last collection")),
                    }
                });
            }
            self.step()?;
            self.world.check()?;
        }
        Err("the last collection hangs".to_owned())
    }
}
