//! Limits of the evaluator, each with its unit.

/// Nested calls of functions and builtins, as C++ Nix's `max-call-depth`.
pub const CALL_DEPTH_DEFAULT: u32 = 10_000;

/// Frames of the explicit stack: bounds chains of thunks, which are no calls.
pub const FRAMES_MAX: usize = 2_000_000;

/// Bytes of one string, and elements of one list: lengths are 32 bits wide inside values.
pub const LENGTH_MAX: usize = u32::MAX as usize;

/// Layers of `//` before an attribute set is copied flat.
pub const LAYERS_MAX: u32 = 12;

/// Addresses reserved for the values of one evaluator, in bytes; less where that cannot be had, down to the least.
pub const HEAP_BYTES_MAX: usize = 64 << 30;
pub const HEAP_BYTES_MIN: usize = 256 << 20;

/// How much of that is made writable at a time, and given to small objects at a time.
pub const WRITABLE_STEP_BYTES: usize = 16 << 20;
pub const PIECE_BYTES: usize = 256 << 10;

/// Objects above this many bytes are placed by themselves.
pub const LARGE_BYTES: usize = 1 << 10;

/// Holes smaller than this are not filled; those from the second number on are kept for large objects.
pub const HOLE_BYTES_MIN: usize = 128;
pub const WIDE_BYTES_MIN: usize = 8 << 10;

/// Bytes handed out between two collections: at least this many, and this share of what the last one left; the second
/// share where that one found little to give back.
pub const COLLECT_FROM_BYTES: usize = 40 << 20;
pub const COLLECT_GROWTH_PERCENT: usize = 100;
pub const COLLECT_GROWTH_PERCENT_FULL: usize = 200;

/// Strings and lists at least this long (bytes, elements) are given room to grow when concatenated.
pub const GROW_BYTES_MIN: usize = 256;
pub const GROW_ITEMS_MIN: usize = 32;

/// Slots of a `let` that are placed in the environment of the function around it.
pub const MERGED_SLOTS_MAX: u32 = 32;

/// Curried arguments that are taken in one call.
pub const ARITY_MAX: u32 = 8;

/// Calls between two looks at the interrupt flag.
pub const INTERRUPT_EVERY: u32 = 4096;

/// What a value is cut to in an error message.
pub const SHOWN_DEPTH: usize = 10;
pub const SHOWN_ATTRIBUTES: usize = 10;
pub const SHOWN_ITEMS: usize = 10;
pub const SHOWN_STRING_BYTES: usize = 1024;

/// Items of a list that is made at once instead of as a thunk.
pub const READY_ITEMS_MAX: usize = 16;

/// Attribute sets of up to this many entries are copied by `//`, never put below a layer.
pub const LAYER_BASE_MIN: usize = 12;

/// Messages of `addErrorContext` that are computed one inside of another.
pub const CONTEXT_RUNS_MAX: u32 = 16;

/// Bindings told with one error, and places of one infinite recursion.
pub const BINDINGS_MAX: usize = 64;
pub const CYCLE_PLACES_MAX: usize = 32;

/// Compiled regular expressions kept at a time.
pub const REGEXES_MAX: usize = 1024;
