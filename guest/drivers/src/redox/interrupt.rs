//! Interrupts: a message of a device's own, or a line of the interrupt controller that others may share. Programs no
//! device.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use redox_boot::virtio::transport::Transport;

use super::Failure;

/// Vectors below these are exceptions of the processor.
const FIRST_VECTOR: u8 = 32;

pub struct Interrupt {
    file: File,
    /// A line stays raised until its device was asked why, and masked until the kernel is told that this was done.
    is_line: bool,
}

/// A message that raises an interrupt, as a device sends it.
pub struct Message {
    pub address: u64,
    pub data: u32,
}

impl Interrupt {
    /// A line by its number.
    pub fn line(number: u32) -> Result<Interrupt, Failure> {
        let path = format!("/scheme/irq/{number}");
        let file = File::open(&path).map_err(|error| format!("cannot open {path}: {error}"))?;
        Ok(Interrupt { file, is_line: true })
    }

    /// A message to the first processor.
    pub fn message() -> Result<(Interrupt, Message), Failure> {
        let processor = first_processor()?;
        let folder = format!("/scheme/irq/cpu-{processor:02x}");
        let fail = |error| format!("cannot list {folder}: {error}");
        for entry in fs::read_dir(&folder).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            let Some(number) = name.to_str().and_then(|name| name.parse::<u8>().ok()) else { continue };
            let Some(vector) = number.checked_add(FIRST_VECTOR) else { continue };
            // Whoever is faster has it.
            let Ok(file) = File::create(format!("{folder}/{number}")) else { continue };
            let message =
                Message { address: 0xFEE0_0000 | u64::from(processor) << 12, data: u32::from(vector) };
            return Ok((Interrupt { file, is_line: false }, message));
        }
        Err(format!("no interrupt is free in {folder}"))
    }

    pub fn descriptor(&self) -> usize {
        self.file.as_raw_fd() as usize
    }

    /// After an event: ends a line's interrupt, so that the next one comes.
    pub fn acknowledge(&mut self, device: &mut (impl Transport + ?Sized)) -> Result<(), Failure> {
        if !self.is_line {
            return Ok(());
        }
        let mut count = [0; size_of::<usize>()];
        let fail = |error| format!("cannot acknowledge an interrupt: {error}");
        if self.file.read(&mut count).map_err(fail)? > 0 {
            device.acknowledge_interrupt();
            self.file.write(&count).map_err(fail)?;
        }
        Ok(())
    }
}

fn first_processor() -> Result<u8, Failure> {
    let path = "/scheme/irq/bsp";
    let mut bytes = [0; 8];
    let read = File::open(path).and_then(|mut file| file.read(&mut bytes));
    read.map_err(|error| format!("cannot read {path}: {error}"))?;
    // Little-endian, in the size of the processor's words.
    u8::try_from(u64::from_le_bytes(bytes))
        .map_err(|_| format!("the number in {path} is none of a processor"))
}
