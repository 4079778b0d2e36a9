//! Limits of the text functions, each with its unit and reason.

/// Nodes of a pattern's graph. libstdc++ refuses patterns of more than 100,000 states.
pub const REGEX_NODES_MAX: usize = 100_000;

/// Steps of a pattern's program; more than nodes only if repetitions of what can be empty are nested.
pub const REGEX_STEPS_MAX: usize = 400_000;

/// Nested repetitions of what can be empty (two bits of a u64 each).
pub const REGEX_EMPTY_LOOPS_MAX: u8 = 32;

/// Bytes of columns that a pattern keeps, counted twice: once kept, once grown while a block is worked out.
pub const REGEX_CACHE_BYTES_MAX: usize = 2 << 20;

/// Positions of a subject whose columns are held at a time, at most and at least.
pub const REGEX_BLOCK_MAX: usize = 4096;
pub const REGEX_BLOCK_MIN: usize = 16;

/// Lists and objects open at once in a JSON text.
pub const JSON_DEPTH_MAX: usize = 100_000;

/// The same where a `Tree` is built, which is dropped by recursion.
pub const TREE_DEPTH_MAX: usize = 1000;
