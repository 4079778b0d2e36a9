//! How to build: what the binary decides from its options and configuration. Plain values, no defaults that
//! depend on the machine.

use std::time::Duration;

use crate::sandbox::ResourceLimits;

/// Settings of one [`crate::Builder`].
#[derive(Clone, Debug)]
pub struct BuildConfig {
    /// Told to each builder as `NIX_BUILD_CORES`.
    pub cores: usize,
    /// Builds at a time.
    pub max_jobs: usize,
    pub timeout_total: Option<Duration>,
    pub timeout_silence: Option<Duration>,
    /// Leaves the folder of a failed build where it is until the next collection.
    pub keep_failed: bool,
    /// After a failure, still builds everything that does not depend on it.
    pub keep_going: bool,
    /// Never asks the fetcher.
    pub offline: bool,
    /// Systems this machine builds for, such as `x86_64-linux`.
    pub systems: Vec<String>,
    /// Features a derivation may require.
    pub features: Vec<String>,
    /// Working copies that derivations may name.
    pub work: crate::work::WorkFolders,
    /// Of each builder's processes.
    pub limits: ResourceLimits,
}

impl BuildConfig {
    /// Everything on for a machine with so many cores.
    pub fn new(cores: usize, system: &str) -> Self {
        BuildConfig {
            cores: cores.max(1),
            max_jobs: cores.max(1),
            timeout_total: None,
            timeout_silence: None,
            keep_failed: false,
            keep_going: false,
            offline: false,
            systems: vec![system.to_owned()],
            features: vec!["rednix".to_owned(), "big-parallel".to_owned()],
            work: Default::default(),
            limits: ResourceLimits::default(),
        }
    }
}
