//! The entries of a program that a monitor puts into memory: the one of the PVH protocol, in protected mode, with the note
//! that tells where it is, and the one of Linux's protocol in long mode, which is the file's own entry.

use core::arch::global_asm;

/// The second argument of `loader_main`: whose start information the first one is the address of.
pub const PVH: u64 = 0;
pub const LINUX: u64 = 1;

global_asm!(
    // Note 18 of the owner "Xen" holds the address of the 32-bit entry.
    ".section .note.pvh, \"a\", @note",
    ".balign 4",
    ".long 4, 8, 18",
    ".asciz \"Xen\"",
    ".quad pvh_start",
    ".section .text.start, \"ax\"",
    ".code32",
    ".globl linux_start_32",
    "linux_start_32:",
    "cli",
    "movl %esi, %edi",
    "movl ${linux}, %esi",
    "jmp enter_long_mode",
    ".globl pvh_start",
    "pvh_start:",
    "cli",
    "movl %ebx, %edi",
    "movl ${pvh}, %esi",
    "jmp enter_long_mode",
    // Monitors enter 512 bytes after the 32-bit entry, with tables that map as much as they think fit: back to where
    // both entries meet.
    ".org linux_start_32 + 0x200, 0x90",
    ".code64",
    ".globl linux_start_64",
    "linux_start_64:",
    "cli",
    "lgdt descriptors_place",
    "movl $stack_end, %esp",
    "pushq $24",
    "pushq $2f",
    "lretq",
    ".code32",
    "2:",
    "movl $16, %eax",
    "movl %eax, %ds",
    "movl %eax, %es",
    "movl %eax, %ss",
    "movl %cr0, %eax",
    "andl $0x7fffffff, %eax",
    "movl %eax, %cr0",
    // Five levels of tables can only be left here.
    "movl %cr4, %eax",
    "andl $~0x1000, %eax",
    "movl %eax, %cr4",
    "movl $0xC0000080, %ecx",
    "rdmsr",
    "andl $~0x100, %eax",
    "wrmsr",
    "jmp linux_start_32",
    pvh = const PVH,
    linux = const LINUX,
    options(att_syntax)
);
