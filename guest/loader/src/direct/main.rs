//! Starts a Redox image that a monitor without firmware put into memory: entered by the PVH boot protocol or by that of
//! Linux, takes the first module or the initial ramdisk as the image (a disk, or a bare RedoxFS), and enters the kernel
//! with the file system as live memory. Shows no menu, knows no disk, needs no firmware.
#![no_std]
#![no_main]

extern crate alloc;

#[path = "../bare/mod.rs"]
mod bare;
#[path = "../jump.rs"]
mod jump;
mod live;
mod start;
mod timer;

pub use live::loader_main;
