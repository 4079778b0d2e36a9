//! Limits of the syntax room, each with its unit.

/// Bytes of one source text. Positions are 32 bits wide over all sources of an evaluation.
pub const SOURCE_BYTES_MAX: usize = 256 << 20;

/// Height of a syntax tree in nodes, which is also the deepest recursion of parser, printer and compiler.
pub const TREE_HEIGHT_MAX: u32 = 20_000;

/// Characters a line may have when sources are laid out, its indentation not counted.
pub const LINE_WIDTH: usize = 100;

/// Errors kept for one source; the rest is dropped, since later ones are rarely anything but echoes.
pub const ERRORS_MAX: usize = 64;

/// Host stack that must be left before recursing one level deeper, and what is added when it is not.
pub const STACK_RED_ZONE_BYTES: usize = 128 << 10;
pub const STACK_GROWTH_BYTES: usize = 4 << 20;

/// Runs `step` with enough host stack for one more level of a recursion bounded by [`TREE_HEIGHT_MAX`].
#[inline]
pub fn with_stack<R>(step: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(STACK_RED_ZONE_BYTES, STACK_GROWTH_BYTES, step)
}
