//! Every limit of this crate in one place. It holds numbers only.

/// Smallest disk image upstream's installer accepts, in MiB.
pub const DISK_SIZE_MIN_MIB: u64 = 32;
/// Largest disk image, in MiB (1 TiB): keeps byte arithmetic far from overflow.
pub const DISK_SIZE_MAX_MIB: u64 = 1 << 20;
/// Default size of the EFI system partition, in MiB: RedoxFS then starts at 2 MiB, where BIOS loaders look.
pub const EFI_SIZE_DEFAULT_MIB: u64 = 1;
/// Largest EFI system partition, in MiB; it is composed in memory.
pub const EFI_SIZE_MAX_MIB: u64 = 512;
/// Largest BIOS loader, in bytes.
pub const BIOS_LOADER_SIZE_MAX: u64 = 384 << 10;

/// Longest file name RedoxFS can hold, in bytes.
pub const NAME_LENGTH_MAX: usize = 252;
/// Longest path inside an image, in bytes.
pub const PATH_LENGTH_MAX: usize = 4096;
/// Longest symlink target, in bytes.
pub const LINK_TARGET_LENGTH_MAX: usize = 4096;
/// Symlinks followed while one path is resolved.
pub const LINK_HOPS_MAX: usize = 40;
/// Deepest directory nesting read from a package.
pub const DIRECTORY_DEPTH_MAX: usize = 256;
/// Most entries (files, directories, symlinks) in one image.
pub const ENTRIES_MAX: usize = 4_000_000;
/// Largest file that `append = true` may extend, in bytes; such files are held in memory.
pub const APPEND_SIZE_MAX: u64 = 16 << 20;

/// Largest initfs image, in bytes (upstream's packer has the same limit).
pub const INITFS_SIZE_MAX: u64 = 64 << 20;
/// Most inodes in an initfs image: the inode number is 16 bits wide.
pub const INITFS_INODES_MAX: usize = 65_535;
/// Deepest directory nesting in an initfs image.
pub const INITFS_DEPTH_MAX: usize = 64;

/// File bytes gathered into one RedoxFS transaction; a transaction holds its blocks in memory until it ends.
pub const TRANSACTION_BYTES_MAX: u64 = 32 << 20;
/// Entries created in one RedoxFS transaction.
pub const TRANSACTION_ENTRIES_MAX: usize = 1024;
/// Largest program `pkg` that is looked into, in bytes.
pub const PACKAGE_MANAGER_SIZE_MAX: u64 = 256 << 20;
/// Threads that hash files.
pub const HASH_THREADS_MAX: usize = 8;

/// Deepest chain of `include` in configuration files.
pub const INCLUDE_DEPTH_MAX: usize = 32;
/// Largest configuration file, in bytes.
pub const CONFIG_SIZE_MAX: u64 = 4 << 20;
/// Differences a verification lists before it stops.
pub const DIFFERENCES_MAX: usize = 50;

/// Longest path inside a pkgar archive, in bytes: its field has 256, the last of them zero.
pub const PKGAR_PATH_LENGTH_MAX: usize = 255;
/// Most entries of a pkgar archive; its table of them is held in memory.
pub const PKGAR_ENTRIES_MAX: usize = 1_000_000;
/// Largest key file, in bytes.
pub const KEY_FILE_SIZE_MAX: u64 = 64 << 10;

/// Most `DT_NEEDED` entries taken from one ELF file.
pub const ELF_NEEDED_MAX: usize = 4096;
/// Longest name of a shared library, in bytes.
pub const ELF_NAME_LENGTH_MAX: usize = 255;
/// Largest dynamic section that is read, in bytes.
pub const ELF_DYNAMIC_SIZE_MAX: u64 = 1 << 20;
/// Most packages a closure is searched in.
pub const CLOSURE_PACKAGES_MAX: usize = 100_000;
/// Warnings of one image; further ones are only counted.
pub const WARNINGS_MAX: usize = 200;
/// Largest Cargo.toml a version is read from, in bytes.
pub const CARGO_TOML_SIZE_MAX: u64 = 1 << 20;
