//! The part of UEFI that the loader calls: layouts and identifiers after the UEFI specification, version 2.10. Plain
//! declarations; safe use is built on them in the other modules.

use core::ffi::c_void;
use core::fmt;

/// A handle is the firmware's own; null names nothing.
pub type Handle = *mut c_void;

#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(pub usize);

impl Status {
    pub const LOAD_ERROR: Status = Status::error(1);
    pub const NOT_FOUND: Status = Status::error(14);
    pub const BUFFER_TOO_SMALL: Status = Status::error(5);

    const fn error(number: usize) -> Status {
        Status(1 << (usize::BITS - 1) | number)
    }

    /// Warnings count as success: what was asked for was done.
    pub fn succeeded(self) -> bool {
        self.0 >> (usize::BITS - 1) == 0
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "UEFI status {:#x}", self.0)
    }
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Guid(pub u32, pub u16, pub u16, pub [u8; 8]);

pub const LOADED_IMAGE: Guid =
    Guid(0x5b1b31a1, 0x9562, 0x11d2, [0x8e, 0x3f, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b]);
pub const BLOCK_IO: Guid = Guid(0x964e5b21, 0x6459, 0x11d2, [0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b]);
pub const DEVICE_PATH: Guid = Guid(0x09576e91, 0x6d3f, 0x11d2, [0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b]);
pub const GRAPHICS_OUTPUT: Guid =
    Guid(0x9042a9de, 0x23dc, 0x4a38, [0x96, 0xfb, 0x7a, 0xde, 0xd0, 0x80, 0x51, 0x6a]);
pub const ACPI_20_TABLE: Guid =
    Guid(0x8868e871, 0xe4f1, 0x11d3, [0xbc, 0x22, 0, 0x80, 0xc7, 0x3c, 0x88, 0x81]);
pub const ACPI_10_TABLE: Guid =
    Guid(0xeb9d2d30, 0x2d88, 0x11d3, [0x9a, 0x16, 0, 0x90, 0x27, 0x3f, 0xc1, 0x4d]);

#[repr(C)]
pub struct TableHeader {
    signature: u64,
    revision: u32,
    header_size: u32,
    crc32: u32,
    reserved: u32,
}

#[repr(C)]
pub struct SystemTable {
    header: TableHeader,
    firmware_vendor: *const u16,
    firmware_revision: u32,
    console_in_handle: Handle,
    console_in: *mut c_void,
    console_out_handle: Handle,
    pub console_out: *mut TextOutput,
    standard_error_handle: Handle,
    standard_error: *mut TextOutput,
    runtime_services: *mut c_void,
    pub boot_services: *mut BootServices,
    pub configuration_table_count: usize,
    pub configuration_tables: *const ConfigurationTable,
}

#[repr(C)]
pub struct ConfigurationTable {
    pub guid: Guid,
    pub table: *const c_void,
}

#[repr(C)]
pub struct TextOutput {
    reset: *const c_void,
    pub output_string: extern "efiapi" fn(*mut TextOutput, *const u16) -> Status,
}

pub const ALLOCATE_ANY_PAGES: u32 = 0;
pub const ALLOCATE_MAX_ADDRESS: u32 = 1;
pub const LOADER_DATA: u32 = 2;
pub const LOCATE_BY_PROTOCOL: u32 = 2;

#[repr(C)]
pub struct BootServices {
    header: TableHeader,
    task_priority: [*const c_void; 2],
    pub allocate_pages: extern "efiapi" fn(u32, u32, usize, *mut u64) -> Status,
    pub free_pages: extern "efiapi" fn(u64, usize) -> Status,
    pub get_memory_map:
        extern "efiapi" fn(*mut usize, *mut c_void, *mut usize, *mut usize, *mut u32) -> Status,
    pub allocate_pool: extern "efiapi" fn(u32, usize, *mut *mut u8) -> Status,
    pub free_pool: extern "efiapi" fn(*mut u8) -> Status,
    events: [*const c_void; 6],
    protocol_interfaces: [*const c_void; 3],
    pub handle_protocol: extern "efiapi" fn(Handle, *const Guid, *mut *mut c_void) -> Status,
    reserved: *const c_void,
    register_protocol_notify: *const c_void,
    pub locate_handle: extern "efiapi" fn(u32, *const Guid, *const c_void, *mut usize, *mut Handle) -> Status,
    locate_device_path: *const c_void,
    install_configuration_table: *const c_void,
    images: [*const c_void; 4],
    pub exit_boot_services: extern "efiapi" fn(Handle, usize) -> Status,
    get_next_monotonic_count: *const c_void,
    stall: *const c_void,
    pub set_watchdog_timer: extern "efiapi" fn(usize, u64, usize, *const u16) -> Status,
}

#[repr(C)]
pub struct LoadedImage {
    revision: u32,
    parent: Handle,
    system_table: *const SystemTable,
    pub device: Handle,
}

#[repr(C)]
pub struct BlockIo {
    revision: u64,
    pub media: *const BlockMedia,
    reset: *const c_void,
    pub read_blocks: extern "efiapi" fn(*mut BlockIo, u32, u64, usize, *mut c_void) -> Status,
}

#[repr(C)]
pub struct BlockMedia {
    pub media_id: u32,
    removable: bool,
    pub present: bool,
    pub logical_partition: bool,
    read_only: bool,
    write_caching: bool,
    pub block_size: u32,
    pub io_align: u32,
    pub last_block: u64,
}

#[repr(C)]
pub struct GraphicsOutput {
    query_mode: *const c_void,
    set_mode: *const c_void,
    blt: *const c_void,
    pub mode: *const GraphicsMode,
}

#[repr(C)]
pub struct GraphicsMode {
    max_mode: u32,
    mode: u32,
    pub info: *const GraphicsInfo,
    size_of_info: usize,
    pub framebuffer_base: u64,
    pub framebuffer_size: usize,
}

#[repr(C)]
pub struct GraphicsInfo {
    version: u32,
    pub horizontal_resolution: u32,
    pub vertical_resolution: u32,
    /// 0 to 2 are linear with 32 bits; 3 has no memory to write to.
    pub pixel_format: u32,
    pixel_masks: [u32; 4],
    pub pixels_per_scan_line: u32,
}

pub const PIXELS_BLT_ONLY: u32 = 3;

/// One range of the firmware's memory map; the firmware may make records longer than this.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemoryDescriptor {
    pub kind: u32,
    pub physical_start: u64,
    virtual_start: u64,
    pub page_count: u64,
    attribute: u64,
}
