//! What the caller decides about an evaluation.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// One entry of the search path for `<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchEntry {
    /// Empty: `path` is a directory of names.
    pub prefix: String,
    pub path: String,
}

impl SearchEntry {
    /// `PREFIX=PATH`, or `PATH` alone.
    pub fn parse(text: &str) -> SearchEntry {
        match text.split_once('=') {
            Some((prefix, path)) => SearchEntry { prefix: prefix.into(), path: path.into() },
            None => SearchEntry { prefix: String::new(), path: text.into() },
        }
    }
}

/// What becomes of something that parses but some would not have written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lint {
    #[default]
    Ignore,
    Warn,
    Fatal,
}

impl Lint {
    /// `ignore`, `warn` or `fatal`, as C++ Nix's settings are written.
    pub fn parse(text: &str) -> Option<Lint> {
        match text {
            "ignore" => Some(Lint::Ignore),
            "warn" => Some(Lint::Warn),
            "fatal" => Some(Lint::Fatal),
            _ => None,
        }
    }
}

/// Lints of literals.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lints {
    pub urls: Lint,
    pub short_paths: Lint,
    /// Also paths below `~`.
    pub absolute_paths: Lint,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub max_call_depth: u32,
    /// No environment, no time, no files outside of the store.
    pub pure: bool,
    /// Derivations and sources are not written, only named.
    pub read_only: bool,
    pub search_path: Vec<SearchEntry>,
    /// What relative entries of the search path are below.
    pub working_directory: Option<String>,
    /// For paths below `~`.
    pub home: Option<String>,
    /// The experimental `|>` and `<|`.
    pub pipe_operators: bool,
    /// The experimental dates of TOML.
    pub toml_timestamps: bool,
    /// Whether `builtins.trace` with a set or list shows what is inside.
    pub trace_verbose: bool,
    pub lints: Lints,
    /// What `builtins.currentSystem` is; None is the machine's own.
    pub system: Option<String>,
    /// Collects garbage at every opportunity, and overwrites it: for tests of the collector.
    pub collect_always: bool,
    /// When set, evaluation ends soon with an error.
    pub interrupted: Option<Arc<AtomicBool>>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_call_depth: crate::limits::CALL_DEPTH_DEFAULT,
            pure: false,
            read_only: false,
            search_path: Vec::new(),
            working_directory: None,
            home: None,
            pipe_operators: false,
            toml_timestamps: false,
            trace_verbose: false,
            lints: Lints::default(),
            system: None,
            collect_always: false,
            interrupted: None,
        }
    }
}
