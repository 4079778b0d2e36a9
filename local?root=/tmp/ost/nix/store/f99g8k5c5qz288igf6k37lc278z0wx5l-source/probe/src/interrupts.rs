//! Own segments and interrupt table: exceptions are reported on the console and stop the machine; a slow timer ends
//! waits, so that an idle prompt costs the host nothing. Devices are polled and have no interrupts.

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use redox_boot::protocol::PHYSICAL_OFFSET;

use crate::console::say;
use crate::{cpu, power};

/// Null, 64-bit code, data.
static SEGMENTS: [u64; 3] = [0, 0x00AF_9A00_0000_FFFF, 0x00CF_9200_0000_FFFF];
const CODE_SEGMENT: u64 = 8;

const TIMER_VECTOR: u8 = 32;

#[repr(C, align(16))]
struct Table(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: written once by `start`, with one processor running and interrupts off; then only the processor reads it.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; 256]));

static TIMER_RUNS: AtomicBool = AtomicBool::new(false);

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

// One stub of 16 bytes for each exception: those without an error code push a zero, so that all frames look alike.
// The mask has a bit for each vector that brings its own code. The timer's stub acknowledges and returns.
global_asm!(
    ".balign 16",
    "exception_stubs:",
    ".set vector, 0",
    ".rept 32",
    ".balign 16",
    ".if ((0x60227D00 >> vector) & 1) == 0",
    "pushq $0",
    ".endif",
    "pushq $vector",
    "jmp exception_common",
    ".set vector, vector + 1",
    ".endr",
    "exception_common:",
    "pushq %rax; pushq %rbx; pushq %rcx; pushq %rdx; pushq %rsi; pushq %rdi; pushq %rbp",
    "pushq %r8; pushq %r9; pushq %r10; pushq %r11; pushq %r12; pushq %r13; pushq %r14; pushq %r15",
    "cld",
    "movq %rsp, %rdi",
    "andq $-16, %rsp",
    "call {report}",
    "timer_stub:",
    "pushq %rax",
    "movabsq ${acknowledge}, %rax",
    "movl $0, (%rax)",
    "popq %rax",
    "iretq",
    report = sym report_exception,
    acknowledge = const PHYSICAL_OFFSET + LOCAL_APIC + APIC_END_OF_INTERRUPT,
    options(att_syntax)
);

unsafe extern "C" {
    static exception_stubs: u8;
    static timer_stub: u8;
}

/// What the stubs push, in memory order.
#[repr(C)]
struct Frame {
    registers: [u64; 15],
    vector: u64,
    error: u64,
    instruction: u64,
    code_segment: u64,
    flags: u64,
    stack: u64,
}

const REGISTER_NAMES: [&str; 15] =
    ["r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "rbp", "rdi", "rsi", "rdx", "rcx", "rbx", "rax"];

const EXCEPTION_NAMES: [&str; 32] = [
    "division by zero",
    "debug",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range",
    "invalid opcode",
    "no coprocessor",
    "double fault",
    "coprocessor overrun",
    "invalid task segment",
    "segment not present",
    "stack segment fault",
    "general protection fault",
    "page fault",
    "reserved",
    "floating point",
    "alignment check",
    "machine check",
    "vector floating point",
    "virtualization",
    "control protection",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "hypervisor injection",
    "VMM communication",
    "security",
    "reserved",
];

extern "C" fn report_exception(frame: &Frame) -> ! {
    let name = EXCEPTION_NAMES.get(frame.vector as usize).unwrap_or(&"unknown");
    say!("\nexception {} ({name}), error {:#x}, at {:#x}", frame.vector, frame.error, frame.instruction);
    say!("  fault address {:#x}, stack {:#x}, flags {:#x}", cpu::fault_address(), frame.stack, frame.flags);
    for (name, value) in REGISTER_NAMES.iter().zip(frame.registers).rev() {
        say!("  {name:3} {value:#018x}");
    }
    power::stop_failed()
}

/// Loads own segments and the interrupt table, and starts the timer where there is a local APIC.
pub fn start() {
    let (stubs, timer) = (&raw const exception_stubs as u64, &raw const timer_stub as u64);
    let gate = |address: u64| {
        let low = address & 0xFFFF | CODE_SEGMENT << 16 | 0x8E00 << 32 | (address >> 16 & 0xFFFF) << 48;
        [low, address >> 32]
    };
    // SAFETY: interrupts are off and nothing else runs.
    let table = unsafe { &mut *TABLE.0.get() };
    for (vector, entry) in table.iter_mut().enumerate() {
        *entry = gate(if vector < 32 { stubs + 16 * vector as u64 } else { timer });
    }
    let segments =
        TablePointer { limit: size_of_val(&SEGMENTS) as u16 - 1, base: (&raw const SEGMENTS) as u64 };
    let interrupts = TablePointer { limit: size_of_val(table) as u16 - 1, base: TABLE.0.get() as u64 };
    // SAFETY: both tables are static; the far return continues at the next line with the new code segment.
    unsafe {
        asm!(
            "lgdt [{segments}]",
            "lidt [{interrupts}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {data:x}",
            "mov es, {data:x}",
            "mov ss, {data:x}",
            segments = in(reg) &segments,
            interrupts = in(reg) &interrupts,
            code = const CODE_SEGMENT,
            data = in(reg) 16u64,
            scratch = out(reg) _,
        );
    }
    start_timer();
}

const LOCAL_APIC: u64 = 0xFEE0_0000;
const APIC_END_OF_INTERRUPT: u64 = 0xB0;
const APIC_SPURIOUS: u64 = 0xF0;
const APIC_TIMER: u64 = 0x320;
const APIC_LINE_0: u64 = 0x350;
const APIC_INITIAL_COUNT: u64 = 0x380;
const APIC_DIVIDE: u64 = 0x3E0;
const APIC_MASKED: u32 = 1 << 16;
const APIC_PERIODIC: u32 = 1 << 17;
const APIC_BASE_REGISTER: u32 = 0x1B;
const APIC_ENABLED: u64 = 1 << 11;
const APIC_EXTENDED: u64 = 1 << 10;
/// Ticks of the bus clock by 16: about ten milliseconds at one gigahertz, and nothing depends on how long exactly.
const TIMER_COUNT: u32 = 625_000;

fn start_timer() {
    // SAFETY: masks both old interrupt controllers, which this kernel does not use.
    unsafe {
        cpu::write_port_u8(0x21, 0xFF);
        cpu::write_port_u8(0xA1, 0xFF);
    }
    let base = cpu::read_model_register(APIC_BASE_REGISTER);
    if base & APIC_ENABLED == 0 || base & APIC_EXTENDED != 0 || base & 0x000F_FFFF_FFFF_F000 != LOCAL_APIC {
        return;
    }
    for (register, value) in [
        (APIC_LINE_0, APIC_MASKED),
        (APIC_SPURIOUS, 0x1FF),
        (APIC_DIVIDE, 0b0011),
        (APIC_TIMER, APIC_PERIODIC | u32::from(TIMER_VECTOR)),
        (APIC_INITIAL_COUNT, TIMER_COUNT),
    ] {
        // SAFETY: the local APIC lies below 8 GiB, which is mapped; this kernel alone uses it.
        unsafe { ((PHYSICAL_OFFSET + LOCAL_APIC + register) as *mut u32).write_volatile(value) };
    }
    TIMER_RUNS.store(true, Ordering::Relaxed);
}

/// Rests until something may have happened.
pub fn idle() {
    if TIMER_RUNS.load(Ordering::Relaxed) {
        cpu::wait_for_interrupt();
    } else {
        core::hint::spin_loop();
    }
}
