//! Every limit of the readers and of the hand-over, with its unit and its reason. Holds no logic.

/// Bytes of one block of a file system and of one page of memory: both are 4096 in RedoxFS and in the protocol.
pub const BLOCK_BYTES: usize = 4096;

/// Bytes below which the loader's page tables map physical memory; every hand-over structure lies below it.
pub const MAPPED_BYTES: u64 = 8 << 30;

/// Blocks of the ring of RedoxFS headers.
pub const HEADER_RING_BLOCKS: u64 = 256;

/// Largest level (power of two of blocks) of a record, stored or decompressed: 128 KiB.
pub const RECORD_LEVEL_MAX: u8 = 5;

/// Height of a directory's hash tree. 204 entries a node: five levels hold more names than there are node ids.
pub const HASH_TREE_HEIGHT_MAX: u8 = 5;

/// Names in one directory. A damaged tree may name the same block again and again; this bounds the memory it can take.
pub const DIRECTORY_ENTRIES_MAX: usize = 1 << 18;

/// Bytes of one name in a directory (RedoxFS allows 252).
pub const NAME_BYTES_MAX: usize = 252;

/// Directories below each other in a walk.
pub const DIRECTORY_DEPTH_MAX: usize = 64;

/// Nodes visited in one walk.
pub const NODES_WALKED_MAX: usize = 1 << 20;

/// Components looked up for one path, those of followed symbolic links included.
pub const PATH_COMPONENTS_MAX: usize = 256;

/// Symbolic links followed for one path.
pub const SYMLINKS_FOLLOWED_MAX: usize = 16;

/// Bytes of a symbolic link's target.
pub const SYMLINK_BYTES_MAX: u64 = 4096;

/// Blocks kept by the reader's cache of tree, node and directory blocks.
pub const CACHED_BLOCKS: usize = 128;

/// Bytes of a kernel file: the protocol maps it with one page directory, that is 1 GiB; no kernel comes near.
pub const KERNEL_BYTES_MAX: u64 = 256 << 20;

/// Bytes of an initfs image: upstream's packer stops at 256 MiB.
pub const INITFS_BYTES_MAX: u64 = 256 << 20;

/// Bytes of a RedoxFS image copied to memory for a live start.
pub const LIVE_BYTES_MAX: u64 = 4 << 30;

/// Bytes of the environment block: Redox's first process refuses 4096 and more.
pub const ENVIRONMENT_BYTES_MAX: usize = 4095;

/// Bytes of a copied RSDP (20 in version 1, 36 in version 2; room for growth).
pub const RSDP_BYTES_MAX: usize = 256;

/// Bytes of the stack handed to the kernel.
pub const STACK_BYTES: usize = 128 << 10;

/// Records of the memory area array of the protocol.
pub const AREAS_MAX: usize = 1024;

/// Areas really filled in. Kernels up to early 2026 stop when more than 512 ranges are known, their own included.
pub const AREAS_HANDED_MAX: usize = 480;

/// Free areas a heap is made of; the largest kernels' maps have a few dozen.
pub const HEAP_REGIONS_MAX: usize = 64;

/// Memory ranges in the boot parameters of Linux's protocol: its table ends there.
pub const LINUX_RANGES_MAX: usize = 128;

/// Memory ranges that BIOS is asked for.
pub const BIOS_RANGES_MAX: usize = 256;

/// Drives of BIOS that are searched for a file system.
pub const BIOS_DRIVES_MAX: u8 = 8;

/// Modules and memory ranges of a PVH start that are looked at.
pub const PVH_MODULES_MAX: u32 = 16;
pub const PVH_RANGES_MAX: u32 = 512;

/// Bytes of a command line that are looked at; Linux takes half of it on this architecture.
pub const COMMAND_LINE_BYTES_MAX: u64 = 4096;

/// Framebuffers named in the environment.
pub const FRAMEBUFFERS_MAX: usize = 4;

/// Inodes of an initfs image (its counter has 16 bits).
pub const INITFS_INODES_MAX: usize = 65535;

/// Entries of a GPT that are looked at, and the largest size of one entry in bytes.
pub const PARTITIONS_MAX: u32 = 128;
pub const PARTITION_ENTRY_BYTES_MAX: u32 = 512;

/// Bytes of one line typed at a console.
pub const LINE_BYTES_MAX: usize = 1024;

/// Bytes of a manifest file.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// Bytes of one ACPI table.
pub const ACPI_TABLE_BYTES_MAX: usize = 4 << 20;

/// Tables named by an RSDT or XSDT.
pub const ACPI_TABLES_MAX: usize = 256;

/// Reads of the old timer's count before it is taken for absent; a real one moves between two of them.
pub const PIT_READS_MAX: usize = 1000;

/// Program headers of a kernel that are looked at.
pub const PROGRAM_HEADERS_MAX: usize = 64;

/// Status reads while a serial port is not ready to send, before the byte is dropped.
pub const SERIAL_SPINS_MAX: usize = 1 << 20;

/// Descriptors of a virtio ring, as the standard has it.
pub const VIRTIO_RING_MAX: u16 = 32768;

/// Status reads until a virtio device counts as one that does not reset.
pub const VIRTIO_RESET_POLLS_MAX: usize = 1_000_000;

/// Reads of a number in two halves, until a virtio device counts as one whose configuration never rests.
pub const VIRTIO_TEAR_READS_MAX: usize = 16;

/// Memory slots of virtio devices that a command line or an environment may name.
pub const VIRTIO_SLOTS_MAX: usize = 32;
