//! The order in which paths enter and leave a store, as code over any world that can carry the steps out: the real
//! store, or a seeded simulator that crashes between any two of them (`tests/simulation`). Touches nothing itself.
//!
//! The rules, each of which the simulator sees broken when the code here is changed:
//!
//! - A path is promised (a temporary root) before anyone asks whether it is valid.
//! - Contents stand in their place, whole, before the row that makes them valid.
//! - A row is gone for good, through a power cut, before its contents are touched.
//! - What is archived is kept for good before its row goes.
//! - What is on the disk never comes to depend on what is not.
//! - After a power cut nothing younger than the last flush is believed before it was hashed.
//!
//! Steps are futures so that a simulator can suspend them; the real store's are ready at once ([`at_once`]).

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Paths on their way in: one, or the outputs of one build.
pub trait Entering {
    type Error;
    /// Released when dropped.
    type Lock;
    /// Finished contents outside their place.
    type Made;

    /// Keeps the paths from being collected from now on, valid or not, while this process lives.
    fn promise(&mut self) -> impl Future<Output = Result<(), Self::Error>>;
    /// Whether nothing is left to do.
    fn are_valid(&mut self) -> impl Future<Output = Result<bool, Self::Error>>;
    /// Waits until nobody else makes these paths.
    fn lock(&mut self) -> impl Future<Output = Result<Self::Lock, Self::Error>>;
    /// Makes the contents and checks them against what they must be.
    fn make(&mut self) -> impl Future<Output = Result<Self::Made, Self::Error>>;
    /// Removes what stands unregistered where the contents belong, and moves them there.
    fn put_in_place(&mut self, made: &Self::Made) -> impl Future<Output = Result<(), Self::Error>>;
    /// Makes all of them valid, or none.
    fn register(&mut self) -> impl Future<Output = Result<(), Self::Error>>;
    /// Clears away where the contents were made.
    fn clear_away(&mut self, made: Self::Made) -> impl Future<Output = Result<(), Self::Error>>;
}

/// Brings paths in; false where they were valid before.
pub async fn enter<W: Entering>(world: &mut W) -> Result<bool, W::Error> {
    world.promise().await?;
    if world.are_valid().await? {
        return Ok(false);
    }
    let lock = world.lock().await?;
    // While we waited for the lock, somebody else may have made them.
    if world.are_valid().await? {
        return Ok(false);
    }
    let made = world.make().await?;
    world.put_in_place(&made).await?;
    world.register().await?;
    drop(lock);
    world.clear_away(made).await?;
    Ok(true)
}

/// Paths on their way out, into nothing or into the archive.
pub trait Leaving {
    type Error;
    type Lock;
    type Path;

    /// Waits until nobody adds a temporary root or collects, and keeps everybody from doing so.
    fn lock_all(&mut self) -> impl Future<Output = Result<Self::Lock, Self::Error>>;
    /// What no root needs, referrers before what they refer to.
    fn unneeded(&mut self) -> impl Future<Output = Result<Vec<Self::Path>, Self::Error>>;
    /// Removes leftovers of crashes.
    fn sweep(&mut self) -> impl Future<Output = Result<(), Self::Error>>;
    /// Archives paths, through a power cut; plain collection keeps nothing.
    fn keep(&mut self, batch: &[Self::Path]) -> impl Future<Output = Result<(), Self::Error>>;
    /// Takes the rows away, through a power cut.
    fn unregister(&mut self, batch: &[Self::Path]) -> impl Future<Output = Result<(), Self::Error>>;
    /// Removes the contents of a batch, in any order and side by side.
    fn remove(&mut self, batch: &[Self::Path]) -> impl Future<Output = Result<(), Self::Error>>;
    /// Asked before each batch.
    fn is_enough(&self) -> bool {
        false
    }
}

/// Takes out what nothing needs, `batch_len` paths at a time.
pub async fn leave<W: Leaving>(world: &mut W, batch_len: usize) -> Result<(), W::Error> {
    let lock = world.lock_all().await?;
    let unneeded = world.unneeded().await?;
    world.sweep().await?;
    for batch in unneeded.chunks(batch_len.max(1)) {
        if world.is_enough() {
            break;
        }
        world.keep(batch).await?;
        world.unregister(batch).await?;
        world.remove(batch).await?;
    }
    drop(lock);
    Ok(())
}

/// Knowing what survives a power cut.
pub trait Flushing {
    type Error;

    /// The number of the youngest row; rows are numbered in the order they come.
    fn youngest_row(&mut self) -> impl Future<Output = Result<i64, Self::Error>>;
    /// Returns when all contents in place are on the disk.
    fn flush_contents(&mut self) -> impl Future<Output = Result<(), Self::Error>>;
    /// Notes, for good, that rows up to this one need no look after the machine's next start.
    fn mark(&mut self, row: i64) -> impl Future<Output = Result<(), Self::Error>>;
}

pub async fn flush<W: Flushing>(world: &mut W) -> Result<(), W::Error> {
    let row = world.youngest_row().await?;
    world.flush_contents().await?;
    world.mark(row).await
}

/// Opening a store after the machine was started again.
pub trait Recovering: Flushing {
    type Lock;
    type Path;

    /// Whether the store was marked in an earlier start of the machine.
    fn is_marked_before_start(&mut self) -> impl Future<Output = Result<bool, Self::Error>>;
    fn lock_all(&mut self) -> impl Future<Output = Result<Self::Lock, Self::Error>>;
    /// Those of the rows after the mark whose contents are not what they must be, and all that refer to them.
    fn damaged(&mut self) -> impl Future<Output = Result<Vec<Self::Path>, Self::Error>>;
    fn unregister(&mut self, paths: &[Self::Path]) -> impl Future<Output = Result<(), Self::Error>>;
}

/// Takes back what a power cut made untrue, before anyone relies on it.
pub async fn recover<W: Recovering>(world: &mut W) -> Result<(), W::Error> {
    if !world.is_marked_before_start().await? {
        return Ok(());
    }
    let lock = world.lock_all().await?;
    if !world.is_marked_before_start().await? {
        return Ok(());
    }
    let damaged = world.damaged().await?;
    world.unregister(&damaged).await?;
    flush(world).await?;
    drop(lock);
    Ok(())
}

/// Making equal files of valid paths one file.
pub trait Linking {
    type Error;
    type Guard;
    type Path;

    /// Returns when all contents in place are on the disk. What others offer to link with since then is not, and is
    /// flushed when it is used.
    fn flush_contents(&mut self) -> impl Future<Output = Result<(), Self::Error>>;
    /// Waits until nobody collects, and keeps everybody from doing so.
    fn keep_from_collection(&mut self) -> impl Future<Output = Result<Self::Guard, Self::Error>>;
    fn is_valid(&mut self, path: &Self::Path) -> impl Future<Output = Result<bool, Self::Error>>;
    /// Puts older files in the place of equal ones of this path, each in one step.
    fn link(&mut self, path: &Self::Path) -> impl Future<Output = Result<(), Self::Error>>;
}

pub async fn link<W: Linking>(
    world: &mut W,
    paths: impl IntoIterator<Item = W::Path>,
) -> Result<(), W::Error> {
    world.flush_contents().await?;
    for path in paths {
        let guard = world.keep_from_collection().await?;
        // One that is gone is passed over.
        if world.is_valid(&path).await? {
            world.link(&path).await?;
        }
        drop(guard);
    }
    Ok(())
}

/// Runs steps that never wait for a waker: those of the real store, which block where they must.
pub fn at_once<T>(steps: impl Future<Output = T>) -> T {
    match pin!(steps).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("the real store's steps are ready when they return"),
    }
}
