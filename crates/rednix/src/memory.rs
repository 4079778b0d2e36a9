//! How the C libraries in this program (compressors, the database) get memory. Rust's allocator is another one, and
//! nothing of it is set here.

/// Blocks larger than this come from the kernel and go back to it when they are freed, in bytes.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: std::ffi::c_int = 512 << 10;
/// glibc's name of that threshold (malloc.h).
#[cfg(target_env = "gnu")]
const M_MMAP_THRESHOLD: std::ffi::c_int = -3;

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
mod glibc {
    // SAFETY: declared as malloc.h has it; it may be called at any time, with any numbers.
    unsafe extern "C" {
        pub safe fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
    }
}

/// Left to itself, glibc raises the threshold to the largest block that was freed, up to 32 MiB, and keeps what lies
/// below it for each thread: some windows of decompressors would be kept for ever.
pub fn give_large_blocks_back() {
    #[cfg(target_env = "gnu")]
    glibc::mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
}
