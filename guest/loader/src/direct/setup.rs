//! The first sectors of a file in the format of Linux's kernels: the header of boot protocol 2.12, and the code that runs
//! where the monitor enters in real mode: asks BIOS for the memory map, switches address line 20 on, and goes on to the
//! 32-bit entry. Monitors that enter in protected or long mode do the same themselves and run none of it.
//!
//! The page that the sectors begin with is itself the page of boot parameters that is handed on.

use core::arch::global_asm;

/// Bytes of the sectors that monitors load apart from the rest: a page, and the code.
const SETUP_BYTES: usize = 0x1400;

global_asm!(
    ".section .setup, \"ax\"",
    ".code16",
    "setup:",
    ".org setup + 0x1f1, 0",
    "header:",
    // Sectors after the first; flags of the root; size of the rest in units of 16 bytes.
    ".byte {setup} / 512 - 1",
    ".word 1",
    ".long protected_units",
    // RAM disk, video mode: as the monitor likes. Root device.
    ".word 0, 0xffff, 0",
    ".word 0xaa55",
    "real_mode_start: jmp 1f",
    ".ascii \"HdrS\"",
    ".word 0x20c",
    ".long 0",
    // Start segment (obsolete), name and version of the program.
    ".word 0x1000",
    ".word name - setup - 0x200",
    // Kind of the loader, to be filled in; loaded high.
    ".byte 0, 1",
    ".word 0",
    "code32_start: .long linux_start_32",
    // The initial ramdisk, to be filled in.
    ".long 0, 0",
    ".long 0",
    // End of the heap for the code here, which needs none; versions of loaders; command line.
    ".word 0",
    ".byte 0, 0",
    ".long 0",
    // Highest address of the ramdisk's last byte.
    ".long 0x7fffffff",
    // Alignment, not relocatable, 2^20; entered in long mode too, and what it is handed may lie above 4 GiB.
    ".long 0x100000",
    ".byte 0, 20",
    ".word 3",
    // Longest command line; no paravirtual hardware; no payload; no further data.
    ".long 2047, 0",
    ".quad 0",
    ".long 0, 0",
    ".quad 0",
    // Where the rest likes to be, and bytes it needs from there; what later versions have.
    ".quad linux_start_32",
    ".long protected_bytes",
    ".long 0, 0",
    "1: jmp setup_start",
    ".org setup + 0x1000, 0",
    "setup_start:",
    // Some enter 512 bytes into the segment, some in a segment 512 bytes further on.
    "pushw %ds",
    "pushw $2f - setup",
    "lretw",
    "2:",
    "cld",
    "movw %ds, %ax",
    "movw %ax, %es",
    "xorl %ebx, %ebx",
    "movw $0x2d0, %di",
    "3:",
    "movl $0xe820, %eax",
    "movl $20, %ecx",
    "movl $0x534d4150, %edx",
    "int $0x15",
    "jc 4f",
    "cmpl $0x534d4150, %eax",
    "jne 4f",
    "addw $20, %di",
    "incb 0x1e8",
    "cmpb $128, 0x1e8",
    "je 4f",
    "testl %ebx, %ebx",
    "jnz 3b",
    "4:",
    "movw $0x2401, %ax",
    "int $0x15",
    "inb $0x92, %al",
    "orb $2, %al",
    "andb $0xfe, %al",
    "outb %al, $0x92",
    "cli",
    "xorl %esi, %esi",
    "movw %ds, %si",
    "shll $4, %esi",
    "leal setup_descriptors - setup(%esi), %eax",
    "movl %eax, setup_descriptors_place - setup + 2",
    "lgdtl setup_descriptors_place - setup",
    "movl %cr0, %eax",
    "orb $1, %al",
    "movl %eax, %cr0",
    "movw $0x18, %ax",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movw %ax, %ss",
    "ljmpl $0x10, $linux_start_32",
    ".balign 8",
    // Code and data of 32 bits, at the places the protocol names.
    "setup_descriptors: .quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff",
    "setup_descriptors_place: .word 31",
    ".long 0",
    concat!("name: .asciz \"rednix loader ", env!("CARGO_PKG_VERSION"), "\""),
    ".org setup + {setup}, 0",
    setup = const SETUP_BYTES,
    options(att_syntax)
);
