//! Limits of flakes, each with its unit.

/// Nodes of one lock file.
pub const LOCK_NODES_MAX: usize = 100_000;

/// Inputs of inputs of inputs.
pub const INPUT_DEPTH_MAX: usize = 64;

/// Entries of registries that lead on to one another.
pub const REGISTRY_STEPS_MAX: usize = 100;

/// Bytes of a reference.
pub const REFERENCE_BYTES_MAX: usize = 64 << 10;
