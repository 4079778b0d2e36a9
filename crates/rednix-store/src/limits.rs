//! Limits of the store room: sizes in bytes, depths in levels, names in bytes. Nothing here reads or checks.

/// Characters of a store path's name.
pub const NAME_BYTES_MAX: usize = 211;
/// A `.drv` file larger than this is refused before it is parsed.
pub const DERIVATION_BYTES_MAX: usize = 256 << 20;
/// Nodes of a NAR at this depth or deeper are refused, both when reading and when writing (the root is 0).
pub const NAR_DEPTH_MAX: usize = 64;
/// One file name inside a NAR.
pub const NAR_NAME_BYTES_MAX: u64 = 255;
/// The target of one symbolic link inside a NAR.
pub const NAR_TARGET_BYTES_MAX: u64 = 4095;
/// Entries of one NAR, of all directories together.
pub const NAR_ENTRIES_MAX: u64 = 50_000_000;
/// Buffer for listing one folder, in bytes.
pub const LISTING_BUFFER_BYTES: usize = 32 << 10;
/// Buffer for streaming file contents.
pub const COPY_BUFFER_BYTES: usize = 256 << 10;
/// Directory handles kept open at once while a tree is removed; what lies deeper is moved up first.
pub const REMOVE_HANDLES_MAX: usize = 64;
/// Threads that remove trees side by side. One folder takes one change at a time, so more gain little.
pub const REMOVE_THREADS: usize = 4;
/// Directory handles kept open at once while a tree is walked: the depth of the deepest tree walked.
pub const WALK_DEPTH_MAX: usize = 256;
/// Prepared statements kept per store.
pub const STATEMENTS_MAX: usize = 64;
/// How long the database waits for another process's transaction, milliseconds.
pub const DATABASE_WAIT_MS: u64 = 600_000;
/// Write-ahead pages gathered before they go into the database file.
pub const WAL_PAGES: u32 = 4000;
/// Size the write-ahead log is cut back to after a large transaction.
pub const WAL_BYTES_KEPT: i64 = 32 << 20;
/// Trees whose archive is no larger are held in memory while they are added, and read only once.
pub const ADD_IN_MEMORY_BYTES: u64 = 32 << 20;
/// Files larger than this are copied only where there is room for them.
pub const LOOK_FOR_ROOM_BYTES: u64 = 64 << 20;
/// Between two attempts to lock what another process holds, milliseconds.
pub const LOCK_POLL_MS: u64 = 20;
/// Dead paths removed from the database in one transaction, where collection may end early.
pub const COLLECT_BATCH: usize = 256;
/// The same where everything dead goes. Rows lie in no order that batches could follow: each batch writes most pages of
/// the database again, and waits for the disk.
pub const COLLECT_BATCH_ALL: usize = 1 << 18;
/// Pages of the database held while many rows are removed; a transaction that does not fit is written piece by piece.
pub const COLLECT_CACHE_BYTES: i64 = 128 << 20;
/// Paths archived in one transaction.
pub const ARCHIVE_BATCH: usize = 64;
/// Sizes of the chunks that archived paths are cut into, in bytes: least, on average, most.
pub const CHUNK_BYTES: [usize; 3] = [4 << 10, 16 << 10, 64 << 10];
/// New chunks compressed together; a chunk is read by decompressing all of its block.
pub const BLOCK_BYTES: usize = 4 << 20;
/// All new chunks that wait to be compressed.
pub const GATHERED_BYTES_MAX: usize = 32 << 20;
/// How far beyond what it is like a block looks for more in the block it is compressed against.
pub const BASE_MARGIN_BYTES: usize = 256 << 10;
/// Blocks compressed against each other, one behind the other: reading the last decompresses all.
pub const BLOCK_DEPTH_MAX: u32 = 24;
/// Logarithm of the window of blocks that have a base: it must reach over both.
pub const BLOCK_WINDOW_LOG: u32 = 24;
/// Decompressed blocks held while a path is restored.
pub const BLOCKS_HELD_MAX: usize = 8;
/// Level of zstd for the archive.
pub const ARCHIVE_LEVEL: i32 = 12;
/// Chunks of one archived path.
pub const CHUNKS_MAX: usize = 1 << 27;
/// Names that optimising gives one file; file systems have a limit of their own.
pub const LINKS_MAX: usize = 30_000;
/// Links followed from a root to the store.
pub const ROOT_LINKS_MAX: usize = 8;
/// Depth of folders below `gcroots` and `profiles`.
pub const ROOT_DEPTH_MAX: usize = 16;
/// Largest file of temporary roots read.
pub const TEMPORARY_ROOTS_BYTES_MAX: u64 = 256 << 20;
