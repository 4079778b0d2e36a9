//! What monitors and firmware hand the loader: PVH's start information, Linux's boot parameters, BIOS's memory ranges and
//! drive parameters, ACPI tables and their copies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redox_boot::acpi::PhysicalReader;
use redox_boot::paging::PhysicalMemory;
use redox_boot::protocol::AreaKind;
use redox_boot::{acpi, acpi_repair, e820, int13, linux, pvh};

/// The input lies at address 0; what is allocated lies behind it.
struct Memory<'a>(&'a [u8]);

impl PhysicalReader for Memory<'_> {
    fn read(&self, address: u64, length: usize) -> Option<&[u8]> {
        let start = usize::try_from(address).ok()?;
        self.0.get(start..start.checked_add(length)?)
    }
}

#[derive(Default)]
struct Pages(Vec<Vec<u8>>);

const PAGES_AT: u64 = 1 << 32;
const PAGE_STEP: u64 = 1 << 24;

impl PhysicalMemory for Pages {
    fn allocate(&mut self, bytes: usize, _: AreaKind) -> Option<u64> {
        self.0.push(vec![0; bytes]);
        Some(PAGES_AT + (self.0.len() as u64 - 1) * PAGE_STEP)
    }

    fn bytes(&mut self, address: u64, length: usize) -> &mut [u8] {
        &mut self.0[((address - PAGES_AT) / PAGE_STEP) as usize][..length]
    }
}

fuzz_target!(|input: &[u8]| {
    let memory = Memory(input);
    for start in [pvh::read(&memory, 0).ok(), linux::read(&memory, 0).ok()].into_iter().flatten() {
        assert!(start.memory.iter().all(|area| area.base.checked_add(area.size).is_some()));
    }
    if let Some(entry) = input.first_chunk() {
        let _ = e820::bios_area(entry, usize::from(input[0]));
    }
    let _ = int13::drive_sectors(input);
    let rsdp = input.get(..36).unwrap_or(input);
    let _ = acpi::power_off(&memory, rsdp);
    if let Ok(repair) = acpi_repair::repair(&memory, rsdp, &mut Pages::default()) {
        assert_eq!(repair.rsdp.is_some(), repair.facs || repair.dsdt_address);
    }
});
