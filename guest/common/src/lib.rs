//! What a loader and a kernel of the Redox boot protocol share: the hand-over structures, the boot steps that do not
//! depend on the firmware, and readers for RedoxFS and initfs images.
//!
//! Knows no firmware and no device: blocks, memory and ports enter by traits, so that everything here is tested on the
//! host. Writes nothing to a disk and cannot open encrypted file systems.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod acpi;
pub mod acpi_repair;
pub mod areas;
pub mod boot;
pub mod device;
pub mod device_path;
pub mod e820;
pub mod elf;
pub mod environment;
#[allow(unsafe_code)]
pub mod heap;
pub mod initfs;
pub mod int13;
pub mod limits;
pub mod line;
pub mod linux;
pub mod manifest;
pub mod paging;
pub mod partition;
pub mod pit;
pub mod protocol;
pub mod pvh;
pub mod redoxfs;
pub mod serial;
pub mod sha256;
pub mod start;
pub mod text;
pub mod virtio;
