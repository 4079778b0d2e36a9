//! Every limit of this crate, with its unit. It holds no logic.

use std::time::Duration;

/// A request to the sandbox child larger than this is a bug, not a build.
pub const REQUEST_BYTES_MAX: usize = 256 << 20;
/// One message from the sandbox child (an error text at most).
pub const REPORT_BYTES_MAX: usize = 1 << 20;
/// Layers per overlay mount; the kernel stops at 500 and the option string at one page. More are laid in groups,
/// and the groups over each other.
pub const OVERLAY_LAYERS_MAX: usize = 400;
/// How long a killed sandbox may take to disappear before its outer process is killed as well.
pub const KILL_GRACE_MS: u64 = 10_000;
/// How long a builder that is still open for writing somewhere is waited for, and how often it is tried.
pub const BUSY_WAITED_MAX: Duration = Duration::from_secs(30);
pub const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Bytes read from a builder's output at once.
pub const LOG_CHUNK_BYTES: usize = 64 << 10;
/// A line longer than this is cut into several events.
pub const LOG_LINE_BYTES_MAX: usize = 16 << 10;
/// Lines of a failed build's log that its error shows.
pub const LOG_TAIL_LINES: usize = 25;
/// Output of one builder kept in the log; what comes after is read and dropped.
pub const LOG_BYTES_MAX: u64 = 1 << 30;
/// Depth of folders handled when copying or removing a tree.
pub const TREE_DEPTH_MAX: usize = 1_024;
/// Processes one builder may have at a time: far above any `make -j`, far below what stalls a machine.
pub const PROCESSES_MAX_DEFAULT: u64 = 8_192;
/// Open files per process of a builder.
pub const OPEN_FILES_MAX_DEFAULT: u64 = 65_536;
/// Folders between a chroot's root and the real one.
pub const CHROOT_DEPTH_MAX: usize = 256;
/// Differences between two builds of one output that are told one by one; the rest is counted.
pub const DIFFERENCES_TOLD_MAX: usize = 100;
/// Files larger than this are compared byte by byte, but not looked into for sections and members.
pub const LOCATED_BYTES_MAX: u64 = 1 << 30;
/// Archives within archives that are looked into.
pub const LOCATED_DEPTH_MAX: usize = 4;
