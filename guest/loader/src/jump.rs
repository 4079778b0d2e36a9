//! The jump into the kernel on x86-64: processor state, page tables, stack, argument. Returns to nobody.

use core::arch::asm;

use redox_boot::boot::HandOver;
use redox_boot::elf::MACHINE_X86_64;

pub const MACHINE: u16 = MACHINE_X86_64;
pub const NAME: &str = "x86_64";

const CR0_PROTECTED: u64 = 1;
const CR0_WRITE_PROTECT: u64 = 1 << 16;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAGE_SIZE: u64 = 1 << 4;
const CR4_PHYSICAL_ADDRESS: u64 = 1 << 5;
const CR4_GLOBAL_PAGES: u64 = 1 << 7;
const CR4_FXSAVE: u64 = 1 << 9;
const EFER: u32 = 0xC000_0080;
const EFER_LONG_MODE: u64 = 1 << 8;
const EFER_NO_EXECUTE: u64 = 1 << 11;

/// Enters the kernel.
///
/// # Safety
/// Boot services must have been left, and `hand_over` must describe page tables that map this code one to one.
pub unsafe fn enter(hand_over: &HandOver) -> ! {
    // SAFETY: the caller vouches for the tables; all values come in registers, and the old stack is not used again.
    unsafe {
        asm!(
            "cli",
            "cld",
            "mov rax, cr4",
            "or rax, {cr4}",
            "mov cr4, rax",
            "mov ecx, {efer}",
            "rdmsr",
            "or eax, {efer_bits}",
            "wrmsr",
            "mov cr3, r8",
            "mov rax, cr0",
            "or rax, r11",
            "mov cr0, rax",
            "mov rsp, r9",
            "xor ebp, ebp",
            "call r10",
            "2:",
            "hlt",
            "jmp 2b",
            cr4 = const CR4_FXSAVE | CR4_GLOBAL_PAGES | CR4_PHYSICAL_ADDRESS | CR4_PAGE_SIZE,
            efer = const EFER,
            efer_bits = const EFER_LONG_MODE | EFER_NO_EXECUTE,
            in("r11") CR0_PAGING | CR0_WRITE_PROTECT | CR0_PROTECTED,
            in("r8") hand_over.page_table,
            in("r9") hand_over.stack_top,
            in("r10") hand_over.entry,
            in("rdi") hand_over.arguments,
            options(noreturn)
        )
    }
}
