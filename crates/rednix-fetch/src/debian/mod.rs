//! Debian archives: versions, indexes, dependency resolution and the lock made of them.

pub mod control;
pub mod gone;
pub mod index;
pub mod lock;
pub mod relation;
pub mod resolve;
pub mod suite;
pub mod version;

pub use lock::{DebianLock, LockSpec, LockedPackage, lock_debian};
pub use suite::SuiteSpec;
