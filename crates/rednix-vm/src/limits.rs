//! Every limit of this crate in one place. It holds numbers only.

use std::time::Duration;

/// Console text kept for matching, in bytes.
pub const CONSOLE_TEXT_MAX: usize = 8 << 20;
/// A console's log on the disk, in bytes; a line at its end says that it was cut.
pub const CONSOLE_LOG_MAX: u64 = 256 << 20;
/// How much of its end is shown to whoever takes a console over, in bytes.
pub const CONSOLE_SHOWN_MAX: u64 = 1 << 20;
/// Longest match of a regular expression in text that comes in pieces, in bytes: so much of what was looked through
/// already is looked through again with each piece.
pub const PATTERN_OVERLAP: usize = 4 << 10;
/// Lines of console shown when a test fails.
pub const CONSOLE_TAIL_LINES: usize = 30;
/// Longest console line sent as one event, in bytes; longer ones are cut.
pub const CONSOLE_LINE_MAX: usize = 4096;
/// Diagnostics of the virtual machine monitor kept for error messages, in bytes.
pub const DIAGNOSTICS_MAX: usize = 16 << 10;
/// Longest line accepted on the control socket, in bytes.
pub const CONTROL_LINE_MAX: usize = 1 << 20;
/// Between two looks at a console that says more all the time.
pub const LOOK_PAUSE: Duration = Duration::from_millis(2);
/// Folders for the files of runs of one test at once.
pub const RESULT_FOLDERS_MAX: u32 = 100;
/// Most steps in one test.
pub const STEPS_MAX: usize = 10_000;
/// Longest escape sequence on a console; longer ones are taken as text that was lost.
pub const ESCAPE_MAX: usize = 256;

/// One step of a test, where it names no time-out.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// A whole test, where it names no time-out.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(600);
/// The KVM smoke test; with a working KVM the guest needs about a tenth of a second.
pub const SMOKE_TIMEOUT: Duration = Duration::from_secs(3);
/// A negative smoke-test verdict is asked again after this time: the machine may just have been busy.
pub const NEGATIVE_VERDICT_AGE: Duration = Duration::from_secs(24 * 3600);
/// Asking a program for its version.
pub const VERSION_TIMEOUT: Duration = Duration::from_secs(20);
/// Between asking a machine to end and killing it.
pub const TERMINATION_GRACE: Duration = Duration::from_secs(2);
/// One command on the control socket.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a wait looks at the stop flag.
pub const STOP_POLL: Duration = Duration::from_millis(50);
/// Writing to a guest that does not read its console.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// Guest memory in MiB.
pub const MEMORY_MIN_MIB: u64 = 16;
pub const MEMORY_MAX_MIB: u64 = 1 << 20;
pub const CPUS_MAX: u32 = 255;

/// Memory a system needs beside its image when the image is in memory.
pub const DIRECT_SPARE_MIB: u64 = 96;

/// Between two looks at a text screen for the loader's menu.
pub const SCREEN_POLL: Duration = Duration::from_millis(300);
/// Width and height of a screen in pixels.
pub const RESOLUTION_MIN: u32 = 320;
pub const RESOLUTION_MAX: u32 = 8192;
/// Bytes in the name of a network interface of the host.
pub const INTERFACE_MAX: usize = 15;
/// Bytes in the tag of a shared folder, as virtio-fs has room for.
pub const SHARE_TAG_MAX: usize = 36;

/// The longest frame a card of a private network may send, in bytes, without its checksum.
pub const FRAME_MAX: usize = 1518;
/// Frames taken from one card before the others are looked at.
pub const FRAMES_AT_ONCE: usize = 64;
/// Card addresses a switch remembers; it floods what it has no room for.
pub const SWITCH_ADDRESSES_MAX: usize = 1024;
/// How often a switch looks for machines that came or went.
pub const SWITCH_POLL: Duration = Duration::from_millis(20);
/// Bytes of a network's record; later frames are not kept.
pub const CAPTURE_MAX: u64 = 64 << 20;
/// Characters of such a line.
pub const CONSOLE_TAIL_WIDTH: usize = 160;
/// A command typed at a guest's console, in bytes.
pub const COMMAND_MAX: usize = 2000;
/// The longest time-out of one step, in seconds.
pub const STEP_TIMEOUT_MAX_S: u64 = 24 * 3600;
/// The longest time-out of a whole test, in seconds.
pub const TEST_TIMEOUT_MAX_S: u64 = 7 * 24 * 3600;
/// Machines in one test.
pub const TEST_MACHINES_MAX: usize = 32;
/// How long a login waits for a prompt before it tries the shell without having seen one.
pub const LOGIN_PAUSE: Duration = Duration::from_secs(20);
/// Between a prompt and the first line typed at it.
pub const PROMPT_PAUSE: Duration = Duration::from_millis(200);
/// Between two tries of a command that is to succeed at some time.
pub const REPEAT_PAUSE: Duration = Duration::from_millis(500);
/// A file that is copied over a console, in bytes.
pub const COPY_MAX: u64 = 32 << 20;
/// What one command of such a copy takes, in bytes: a console that loses something loses no more.
pub const COPY_PIECE: usize = 256 << 10;
/// Paths in one line of a push to a running machine.
pub const PUSH_PATHS_AT_ONCE: usize = 12;
/// The disk through which host and guest hand each other files, in bytes; as a file of the host it has no more than what
/// is in it.
pub const EXCHANGE_DISK: u64 = 4 << 30;
/// One file handed over by it, in bytes.
pub const EXCHANGE_FILE_MAX: u64 = 1 << 30;
/// Shorter files go over the console, in bytes: typing them costs no more than typing where they lie.
pub const EXCHANGE_FROM: u64 = 1 << 10;
/// How often a copy out of a guest is tried: what a kernel prints meanwhile spoils one.
pub const COPY_TRIES: usize = 3;
/// Lines typed before their echo is waited for, and for how long it is.
pub const PACED_LINES: usize = 8;
pub const ECHO_PATIENCE: Duration = Duration::from_secs(1);
/// Characters in a line of such a copy: terminals take short ones.
pub const COPY_LINE: usize = 76;
/// Characters of a command's output shown when it was not as wanted.
pub const OUTPUT_SHOWN: usize = 2000;
/// How long a connection has to stay open to count as taken.
pub const PORT_PATIENCE: Duration = Duration::from_millis(700);
/// Pixels in one side of a picture.
pub const PICTURE_SIDE_MAX: u32 = 16 << 10;
/// Pixels in a picture.
pub const PICTURE_PIXELS_MAX: u64 = 32 << 20;
/// A picture's file, and a font's, in bytes.
pub const PICTURE_FILE_MAX: u64 = 64 << 20;
pub const FONT_MAX: u64 = 4 << 20;
/// Glyphs in a console font, and rows in one.
pub const GLYPHS_MAX: usize = 1 << 17;
pub const GLYPH_HEIGHT_MAX: u32 = 64;
/// Reading text off a picture by a program.
pub const READING_TIMEOUT: Duration = Duration::from_secs(60);
/// Memory of a monitor beside its guest's, for planning, in MiB.
pub const MACHINE_OVERHEAD_MIB: u64 = 160;

/// Bytes of an image that a layer can be put over: one cluster of a first-level table.
pub const LAYER_IMAGE_MAX: u64 = 4 << 40;
/// Bytes of a disk that are copied before a copy looks whether it is to stop, and those of a buffer where it needs one.
pub const COPIED_AT_ONCE: u64 = 32 << 20;
pub const COPY_BUFFER: u64 = 1 << 20;

/// Head of an answer of a monitor's HTTP interface, and its body, in bytes.
pub const HTTP_HEAD_MAX: usize = 16 << 10;
pub const HTTP_BODY_MAX: usize = 1 << 20;
/// Until a monitor or a helper has made its socket.
pub const SOCKET_TIMEOUT: Duration = Duration::from_secs(10);
/// Saving a machine's state.
pub const SAVE_TIMEOUT: Duration = Duration::from_secs(300);
/// The smoke test of monitors that have nothing but KVM. Even a slow one serves.
pub const SMOKE_TIMEOUT_KVM_ONLY: Duration = Duration::from_secs(10);

/// Bytes typed ahead of a guest that does not read.
pub const TYPED_AHEAD_MAX: usize = 64 << 10;
/// For the guest's last output to reach the terminal after its monitor has ended.
pub const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// How often a reader of a terminal looks again, if nothing wakes it.
pub const CONSOLE_POLL: Duration = Duration::from_secs(1);
