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

/// A download whose size nobody told beforehand.
pub const DOWNLOAD_BYTES_MAX: u64 = 16 << 30;
/// Redirects followed for one file.
pub const REDIRECTS_MAX: u32 = 10;
/// Files of one batch.
pub const BATCH_FILES_MAX: usize = 100_000;
/// Between two progress events of one transfer.
pub const PROGRESS_INTERVAL_MS: u64 = 100;
/// Read and write buffer of a transfer.
pub const BUFFER_BYTES: usize = 128 << 10;

/// Output kept of a program rednix starts (git, cargo, gpgv); more is read and dropped.
pub const PROGRAM_OUTPUT_BYTES_MAX: usize = 8 << 20;
/// Longest run of one such program.
pub const PROGRAM_RUN_S_MAX: u64 = 3600;
/// Runs of cargo for each crate that is asked for: halving a batch down to single crates takes less than two, and a
/// crate that is refused alone is tried once more.
pub const CARGO_RUNS_PER_CRATE_MAX: usize = 3;
/// Lines of a failed program's last words shown in an error.
pub const PROGRAM_LINES_MAX: usize = 12;

/// Entries of one archive or tree.
pub const ARCHIVE_ENTRIES_MAX: usize = 2_000_000;
/// Bytes one archive unpacks to.
pub const ARCHIVE_BYTES_MAX: u64 = 64 << 30;
/// A path inside an archive or a link's target.
pub const ARCHIVE_PATH_BYTES_MAX: usize = 4096;
/// Folders inside each other.
pub const ARCHIVE_DEPTH_MAX: usize = 128;
/// A long name or an extended header in a tar.
pub const TAR_EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// Members of an ar archive before the one that is looked for.
pub const AR_MEMBERS_MAX: usize = 64;
/// A `Cargo.toml` or a checksum file.
pub const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// Submodules inside submodules.
pub const SUBMODULE_DEPTH_MAX: usize = 10;
/// Submodules of one tree.
pub const SUBMODULES_MAX: usize = 1000;
