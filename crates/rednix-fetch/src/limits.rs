//! Every limit of this crate, in one place, with its unit in its name.
//!
//! A limit is reached only by damaged or hostile input; each is far above what Debian, crates and Redox need.

/// How much of a wrong line an error quotes.
pub const EXCERPT_CHARACTERS_MAX: usize = 120;

/// Fields in one deb822 paragraph.
pub const CONTROL_FIELDS_MAX: usize = 256;
/// Groups in one relation field.
pub const RELATIONS_MAX: usize = 8192;
/// A suite's `InRelease`.
pub const RELEASE_BYTES_MAX: u64 = 16 << 20;
/// An index file of a suite, packed and unpacked.
pub const INDEX_PACKED_BYTES_MAX: u64 = 256 << 20;
pub const INDEX_BYTES_MAX: u64 = 1 << 30;
/// Packages in one index.
pub const PACKAGES_MAX: usize = 1 << 20;
/// Times the resolver starts over after it learned that a package cannot be had.
pub const RESOLVE_ROUNDS_MAX: usize = 10_000;
/// Steps of the chain shown for a failing resolution.
pub const CHAIN_STEPS_MAX: usize = 64;
