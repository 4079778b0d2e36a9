//! Outputs that need not be built because somebody has them: what the scheduler asks, and the trait that answers. It
//! knows no cache and no protocol.

use rednix_store::path::StorePath;
use rednix_store::store::{RealisationId, Store};

/// An output that is wanted and not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub derivation: StorePath,
    pub output: String,
    /// Known beforehand, unless the output floats.
    pub path: Option<StorePath>,
    /// Names the realisation where the path is not known.
    pub realisation: Option<RealisationId>,
}

/// Somebody who may have outputs.
pub trait Substitute: Send + Sync {
    /// False where asking is a waste of time.
    fn is_any(&self) -> bool;

    /// For each question, how many bytes bringing it would move, with all it refers to; `None` where it cannot be
    /// had. Trouble is told as events and is no reason not to build.
    fn offers(&self, store: &Store, asked: &[Ask]) -> Vec<Option<u64>>;

    /// Makes outputs valid, registers their realisations and roots them for this process; `done` is called once for
    /// each question, by index, with its path or what went wrong.
    fn bring(&self, store: &Store, asked: &[Ask], done: &(dyn Fn(usize, Result<StorePath, String>) + Sync));
}

/// Nobody has anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSubstitute;

impl Substitute for NoSubstitute {
    fn is_any(&self) -> bool {
        false
    }

    fn offers(&self, _: &Store, asked: &[Ask]) -> Vec<Option<u64>> {
        vec![None; asked.len()]
    }

    fn bring(&self, _: &Store, asked: &[Ask], done: &(dyn Fn(usize, Result<StorePath, String>) + Sync)) {
        for index in 0..asked.len() {
            done(index, Err("nobody has it".to_owned()));
        }
    }
}
