//! Calls of BIOS from long mode: back to real mode for one software interrupt, and forth again. The processor's other
//! interrupts are on only in between.

use core::arch::global_asm;
use core::ptr::addr_of_mut;

/// Registers before and after a call. Segments are 0, so that addresses are offsets below 64 KiB.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Registers {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
    pub esi: u32,
    pub edi: u32,
    /// After a call only.
    pub flags: u32,
}

impl Registers {
    /// The carry flag, by which BIOS tells that it could not.
    pub fn failed(&self) -> bool {
        self.flags & 1 != 0
    }

    /// The upper half of `ax`: what was asked for, and after it why not.
    pub fn code(&self) -> u64 {
        u64::from(self.eax >> 8 & 0xFF)
    }
}

/// Bytes of the buffer that structures for BIOS are passed in.
pub const BUFFER_BYTES: usize = 64;
pub type Buffer = [u8; BUFFER_BYTES];

unsafe extern "C" {
    static mut bios_registers: Registers;
    static mut bios_buffer: Buffer;
}

unsafe extern "sysv64" {
    fn bios_interrupt(number: u64);
}

/// Where BIOS finds the buffer.
pub fn buffer_address() -> u32 {
    addr_of_mut!(bios_buffer) as u32
}

/// One call of BIOS, with what it finds in the buffer and leaves there.
pub fn call(number: u8, registers: Registers, buffer: &mut Buffer) -> Registers {
    // SAFETY: nobody else uses the two places, and the code below leaves this program's state as it found it. What BIOS
    // does with its registers is the callers' business: they read to memory of this program only.
    unsafe {
        addr_of_mut!(bios_registers).write(registers);
        addr_of_mut!(bios_buffer).write(*buffer);
        bios_interrupt(u64::from(number));
        *buffer = addr_of_mut!(bios_buffer).read();
        addr_of_mut!(bios_registers).read()
    }
}

global_asm!(
    ".section .stage, \"ax\"",
    ".balign 8",
    ".globl bios_registers",
    "bios_registers: .skip 28",
    ".globl bios_buffer",
    "bios_buffer: .skip {buffer}",
    ".balign 8",
    "saved_stack: .quad 0",
    "vector: .long 0",
    "real_descriptors: .word 0x3ff",
    ".long 0",
    ".code64",
    ".globl bios_interrupt",
    "bios_interrupt:",
    "pushq %rbx",
    "pushq %rbp",
    "pushq %r12",
    "pushq %r13",
    "pushq %r14",
    "pushq %r15",
    "movl (, %rdi, 4), %eax",
    "movl %eax, vector",
    "movq %rsp, saved_stack",
    "pushq $24",
    "pushq $2f",
    "lretq",
    // Long mode ends by switching paging off, protected mode in a segment of 16 bits.
    ".code32",
    "2:",
    "movl %cr0, %eax",
    "andl $0x7fffffff, %eax",
    "movl %eax, %cr0",
    "movl $0xC0000080, %ecx",
    "rdmsr",
    "andl $~0x100, %eax",
    "wrmsr",
    "ljmpl $32, $3f",
    ".code16",
    "3:",
    "movw $40, %ax",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movw %ax, %ss",
    "movw %ax, %fs",
    "movw %ax, %gs",
    "movl %cr0, %eax",
    "andb $0xfe, %al",
    "movl %eax, %cr0",
    "ljmp $0, $4f",
    "4:",
    "xorw %ax, %ax",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movw %ax, %ss",
    "movw %ax, %fs",
    "movw %ax, %gs",
    "movw $0x7c00, %sp",
    "lidtl real_descriptors",
    "movl bios_registers, %eax",
    "movl bios_registers + 4, %ebx",
    "movl bios_registers + 8, %ecx",
    "movl bios_registers + 12, %edx",
    "movl bios_registers + 16, %esi",
    "movl bios_registers + 20, %edi",
    // As the instruction `int` does: flags with interrupts on, but off at the handler's start.
    "sti",
    "pushfw",
    "cli",
    "lcallw *vector",
    "pushfl",
    "cli",
    "pushw %ax",
    "xorw %ax, %ax",
    "movw %ax, %ds",
    "popw %ax",
    "movl %eax, bios_registers",
    "movl %ebx, bios_registers + 4",
    "movl %ecx, bios_registers + 8",
    "movl %edx, bios_registers + 12",
    "movl %esi, bios_registers + 16",
    "movl %edi, bios_registers + 20",
    "popl bios_registers + 24",
    "cld",
    // BIOS may have had tables of its own.
    "lgdtl descriptors_place",
    "movl %cr0, %eax",
    "orb $1, %al",
    "movl %eax, %cr0",
    "ljmpl $24, $5f",
    ".code32",
    "5:",
    "movw $16, %ax",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movw %ax, %ss",
    "movl %cr4, %eax",
    "orl $0x20, %eax",
    "movl %eax, %cr4",
    "movl $level4, %eax",
    "movl %eax, %cr3",
    "movl $0xC0000080, %ecx",
    "rdmsr",
    "orl $0x100, %eax",
    "wrmsr",
    "movl %cr0, %eax",
    "orl $0x80000001, %eax",
    "movl %eax, %cr0",
    "ljmpl $8, $6f",
    ".code64",
    "6:",
    "movw $16, %ax",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movw %ax, %ss",
    "movw %ax, %fs",
    "movw %ax, %gs",
    "movq saved_stack, %rsp",
    "popq %r15",
    "popq %r14",
    "popq %r13",
    "popq %r12",
    "popq %rbp",
    "popq %rbx",
    "retq",
    buffer = const BUFFER_BYTES,
    options(att_syntax)
);
