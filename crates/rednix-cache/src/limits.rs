//! Every limit of this crate, with its unit. It holds no logic.

use std::time::Duration;

/// A narinfo, a realisation or a `nix-cache-info` larger than this is refused unread.
pub const SMALL_FILE_BYTES_MAX: u64 = 1 << 20;
/// A small file larger than this gets a share of memory before it is read on: so much, for itself and what is made of it,
/// of so much for all of them.
pub const ANSWER_BYTES_FREE: u64 = 16 << 10;
pub const ANSWER_BYTES_MAX: u64 = 4 << 20;
pub const ANSWERS_BYTES_MAX: u64 = 8 << 20;
/// Entries larger than the first figure are remembered as long as they have no more bytes together than the second, as
/// text. What they refer to is asked for and remembered, which takes about 18 times that.
pub const ENTRY_BYTES_USUAL: usize = 16 << 10;
pub const ENTRIES_LARGE_BYTES_MAX: usize = 1 << 20;
/// Of a text from elsewhere, so much is quoted in messages; of a whole reason, so much is told.
pub const QUOTED_BYTES_MAX: usize = 100;
pub const REASON_BYTES_MAX: usize = 500;
/// Troubles of caches that are told in one run.
pub const WARNINGS_MAX: usize = 100;
/// A realisation: JSON takes many times its size.
pub const REALISATION_BYTES_MAX: u64 = 256 << 10;
/// References of one path.
pub const REFERENCES_MAX: usize = 20_000;
/// Signatures looked at, of one path or realisation.
pub const SIGNATURES_MAX: usize = 64;
/// Places at which contents mention their own path that are remembered.
pub const SELF_OFFSETS_MAX: usize = 64 << 10;
/// Length of the `URL` of a narinfo.
pub const URL_BYTES_MAX: usize = 1024;
/// A path larger than this, as archive, is neither taken from a cache nor by the server.
pub const NAR_BYTES_MAX: u64 = 1 << 40;
/// Paths of one closure that are asked for.
pub const CLOSURE_PATHS_MAX: usize = 200_000;
/// Memory that all decompressors take together: four of `xz -6` (8 MiB each), or one of `xz -8` or of a zstd window of
/// 32 MiB. With everything else the process stays below 64 MiB.
pub const DECODERS_BYTES_MAX: u64 = 36 << 20;
/// What a decompressor takes beside its window, rounded up.
pub const DECODER_OVERHEAD_BYTES: u64 = 512 << 10;
/// Memory that xz may declare; more is a bomb. `xz -9` declares 65 MiB, and takes as much of it as is unpacked.
pub const XZ_MEMORY_BYTES_MAX: u64 = 72 << 20;
/// Base 2 logarithm of the largest window that zstd may declare: that of its highest level.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// The same of brotli, as its format has it.
pub const BROTLI_WINDOW_LOG_MAX: u32 = 24;
/// Buffer for streaming.
pub const BUFFER_BYTES: usize = 64 << 10;

/// Time to connect to a cache.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time a cache may be silent, before its answer and within it.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes per second over [`SLOW_AFTER`] below which a transfer counts as dead.
pub const RATE_BYTES_MIN: u64 = 512;
/// How long a transfer may be slower than [`RATE_BYTES_MIN`].
pub const SLOW_AFTER: Duration = Duration::from_secs(30);
/// Time for the whole of a small file, or of what is said with a refusal.
pub const SMALL_FILE_TIMEOUT: Duration = Duration::from_secs(30);
/// Times one small question is put again after a passing trouble.
pub const RETRIES_MAX: u32 = 2;
/// Times a transfer that broke is taken up again without having moved on.
pub const RESUMES_MAX: u32 = 4;
/// Pause before the first repetition; it doubles.
pub const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How often somebody who waits looks whether he was interrupted.
pub const INTERRUPT_LOOK: Duration = Duration::from_millis(100);
/// Redirects followed.
pub const REDIRECTS_MAX: usize = 5;
/// Failures in a row after which a cache is left alone.
pub const FAILURES_MAX: u32 = 3;
/// How long it is left alone.
pub const REST: Duration = Duration::from_secs(120);
/// A cache that asks for no more than this (`Retry-After`) is waited for.
pub const BUSY_WAITED_MAX: Duration = Duration::from_secs(5);
/// All such waiting for one cache within [`REST`].
pub const BUSY_WAITED_ALL_MAX: Duration = Duration::from_secs(60);
/// One that asks for more is left alone for as long as it asks for, and no longer than this.
pub const BUSY_REST_MAX: Duration = Duration::from_secs(3600);
/// Questions put to one cache at once. Connections hold up to 1.3 MiB each while large answers wait for their share.
pub const QUESTIONS_PARALLEL: usize = 16;
/// Paths transferred at once.
pub const TRANSFERS_PARALLEL: usize = 6;
/// How long "it has it not" is believed.
pub const ABSENT_FOR: Duration = Duration::from_secs(900);
/// Entries of the file of what caches do not have; a longer one is begun anew.
pub const ABSENT_ENTRIES_MAX: usize = 200_000;
/// Priority of another store on this machine: before anything that has to be transferred.
pub const PRIORITY_LOCAL: u32 = 0;
/// A log of a build, as text.
pub const LOG_BYTES_MAX: u64 = 64 << 20;
/// A log that is pushed beside its path; longer ones are not.
pub const PUSHED_LOG_BYTES_MAX: u64 = 12 << 20;
/// Times an archive is sent to a cache that took it and did not have it when its entry came.
pub const ARCHIVE_SENT_MAX: u32 = 4;
/// Text of a refusal that is looked at.
pub const REFUSAL_BYTES_MAX: u64 = 64 << 10;
/// A file larger than this goes to a bucket in parts, which are at least this large.
pub const S3_PART_BYTES_MIN: u64 = 32 << 20;
/// Parts of one file, as S3 has it.
pub const S3_PARTS_MAX: u64 = 10_000;
/// Parts of one file sent at once.
pub const S3_PARTS_PARALLEL: usize = 3;
/// How long a signed address is good for; each is made when it is used.
pub const S3_SIGNATURE_VALID: Duration = Duration::from_secs(15 * 60);
/// Name of a bucket.
pub const BUCKET_NAME_BYTES_MAX: usize = 255;
/// Profiles of the AWS files.
pub const PROFILES_MAX: usize = 1000;
/// A netrc file, or one of AWS's.
pub const NETRC_BYTES_MAX: u64 = 1 << 20;

/// Level of compression for what is pushed and served.
pub const ZSTD_LEVEL: i32 = 3;
/// The same of xz, which only those get who sent it so: the quickest, of the least memory.
pub const XZ_LEVEL: u32 = 0;
/// Compressors kept to be used again; each holds about 4 MiB at that level.
pub const ENCODERS_KEPT: usize = TRANSFERS_PARALLEL;
/// Small files that are put into a folder together, after one wait for the disk: how many, how much, and how long the
/// first may wait.
pub const UNNAMED_MAX: usize = 512;
pub const UNNAMED_BYTES_MAX: usize = 2 << 20;
pub const UNNAMED_FOR: Duration = Duration::from_secs(5);
/// Priority of a cache that names none.
pub const PRIORITY_DEFAULT: u32 = 50;
/// Archives a server compresses, and long logs it unpacks, at once; more wait.
pub const SERVED_PARALLEL: usize = 8;
/// Of those that wait for their client longer than [`STALLED_AFTER`], so many do not count as being compressed. Each
/// holds a compressor.
pub const SERVED_STALLED: usize = 32;
pub const STALLED_AFTER: Duration = Duration::from_millis(250);
/// Of both together, what one address may have.
pub const SERVED_PER_CLIENT: usize = 16;
/// Connections to a server at once, where the process may have twice as many files open; more wait in the kernel.
pub const CONNECTIONS_MAX: usize = 1024;
/// How often a connection is looked at that stands still.
pub const CONNECTION_LOOK: Duration = Duration::from_millis(500);
/// Time for the first request of a connection.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Time between two requests, and for the head of a further one. Longer than clients keep connections, curl's 118 s
/// among them: whoever reuses one should find it open.
pub const KEPT_IDLE: Duration = Duration::from_secs(120);
/// Both, while there are as many connections as there may be.
pub const CROWDED_FOR: Duration = Duration::from_secs(2);
/// Time in which a client has to take or send something.
pub const SENT_SILENCE: Duration = Duration::from_secs(30);
/// Of what is written to a connection, so much may be unsent: what a client takes shows soon.
pub const UNSENT_BYTES: u32 = 128 << 10;
/// Requests of one HTTP/2 connection at once.
pub const SERVED_STREAMS: u32 = 64;
/// Pause where no connection could be accepted.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// One upload, compressed.
pub const UPLOAD_BYTES_MAX: u64 = 64 << 30;
/// Of an upload that is refused, so much is read, so that whoever sends it sees why.
pub const DRAINED_BYTES_MAX: u64 = 64 << 20;
/// Uploads received at once.
pub const UPLOADS_PARALLEL: usize = 16;
/// Requests per second and client, on average, and the burst above it.
pub const REQUESTS_PER_SECOND: f64 = 2000.0;
pub const REQUESTS_BURST: f64 = 10_000.0;
/// What a client beyond that is told to wait.
pub const REQUESTS_RETRY: Duration = Duration::from_secs(1);
/// Clients whose rates are remembered.
pub const CLIENTS_MAX: usize = 10_000;
/// An archive whose narinfo did not follow is removed after this time.
pub const UPLOAD_KEPT: Duration = Duration::from_secs(24 * 3600);
/// A file of an upload that broke off, where the server ended before removing it.
pub const PART_KEPT: Duration = Duration::from_secs(3600);
/// Room that a log or a realisation's file counts as, at least; and a realisation in the database.
pub const FILE_BYTES_MIN: u64 = 4096;
pub const REALISATION_BYTES: u64 = 512;
/// Room that the name of an uploaded archive counts as, which is a link.
pub const ARCHIVE_NAME_BYTES: u64 = 512;
/// What uploads take is counted again where there is no room, but not more often.
pub const RECOUNT_AFTER: Duration = Duration::from_secs(5);
/// How often a server looks whether it shall end, and after how many looks for uploads nobody finished.
pub const STOP_LOOK: Duration = Duration::from_millis(100);
pub const SWEEP_LOOKS: u32 = 36_000;
/// Paths on the overview page.
pub const PAGE_PATHS: usize = 50;
