//! The services of BIOS that the loader uses: the memory map, text on the screen, sectors of a drive.

use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::slice;

use redox_boot::device::{BEYOND_END, BlockReader, DeviceError};
use redox_boot::e820::{LONG_RANGE_BYTES, RANGE_BYTES, bios_area};
use redox_boot::int13::{BLOCK_SECTORS, PACKET_BYTES, Packet, SECTOR_BYTES, drive_sectors, first_sector};
use redox_boot::limits::{BIOS_RANGES_MAX, BLOCK_BYTES};
use redox_boot::protocol::MemoryArea;

use super::interrupt::{BUFFER_BYTES, Registers, buffer_address, call};
use crate::bare::console;

/// Bytes read at a time, to memory that crosses no multiple of 64 KiB.
const BOUNCE_BYTES: usize = 32 << 10;
/// How often a read is tried; drives may need more than one.
const READS_MAX: u32 = 3;

/// The bytes of "SMAP".
const SYSTEM_MAP: u32 = 0x534D_4150;

/// Memory as BIOS describes it, without needing any.
pub struct MemoryMap {
    areas: [MemoryArea; BIOS_RANGES_MAX],
    length: usize,
}

impl MemoryMap {
    pub fn read() -> MemoryMap {
        let mut map = MemoryMap { areas: [MemoryArea::NULL; BIOS_RANGES_MAX], length: 0 };
        let mut next = 0;
        for _ in 0..BIOS_RANGES_MAX {
            let mut buffer = [0; BUFFER_BYTES];
            // Attributes that BIOS does not write say that the range counts.
            buffer[RANGE_BYTES] = 1;
            let question = Registers {
                eax: 0xE820,
                ebx: next,
                ecx: LONG_RANGE_BYTES as u32,
                edx: SYSTEM_MAP,
                edi: buffer_address(),
                ..Registers::default()
            };
            let answer = call(0x15, question, &mut buffer);
            if answer.failed() || answer.eax != SYSTEM_MAP {
                break;
            }
            let mut entry = [0; LONG_RANGE_BYTES];
            entry.copy_from_slice(&buffer[..LONG_RANGE_BYTES]);
            if let Some(area) = bios_area(&entry, (answer.ecx & 0xFF) as usize) {
                map.areas[map.length] = area;
                map.length += 1;
            }
            next = answer.ebx;
            if next == 0 {
                break;
            }
        }
        map
    }

    pub fn areas(&self) -> &[MemoryArea] {
        &self.areas[..self.length]
    }
}

struct Screen;

impl Write for Screen {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let character = Registers { eax: 0x0E00 | u32::from(byte), ebx: 7, ..Registers::default() };
            call(0x10, character, &mut [0; BUFFER_BYTES]);
        }
        Ok(())
    }
}

/// A line on the screen and on the serial port.
pub fn say(line: fmt::Arguments<'_>) {
    let _ = write!(Screen, "{line}\r\n");
    console::say(line);
}

#[repr(C, align(32768))]
struct Bounce(UnsafeCell<[u8; BOUNCE_BYTES]>);

// SAFETY: one processor, and only `Drive::read` uses it, which calls nothing that does.
unsafe impl Sync for Bounce {}

static BOUNCE: Bounce = Bounce(UnsafeCell::new([0; BOUNCE_BYTES]));

/// A drive by its number.
#[derive(Clone, Copy)]
pub struct Drive {
    number: u8,
    sectors: u64,
}

impl Drive {
    /// Nothing where there is no such drive, or one whose sectors this program cannot address.
    pub fn open(number: u8) -> Option<Drive> {
        let mut buffer = [0; BUFFER_BYTES];
        let question = Registers { eax: 0x4100, ebx: 0x55AA, edx: u32::from(number), ..Registers::default() };
        let answer = call(0x13, question, &mut buffer);
        if answer.failed() || answer.ebx & 0xFFFF != 0xAA55 {
            return None;
        }
        // The bytes that may be written.
        buffer[0] = 30;
        let question =
            Registers { eax: 0x4800, edx: u32::from(number), esi: buffer_address(), ..Registers::default() };
        let answer = call(0x13, question, &mut buffer);
        let sectors = drive_sectors(&buffer).filter(|_| !answer.failed())?;
        Some(Drive { number, sectors })
    }

    /// Reads to the bounce buffer, and hands it out.
    fn read(&self, sector: u64, bytes: usize) -> Result<&[u8], u64> {
        let place = BOUNCE.0.get();
        let packet = Packet { sector, count: (bytes / SECTOR_BYTES) as u16, buffer: place as u32 }.to_bytes();
        let mut answer = Registers::default();
        for _ in 0..READS_MAX {
            let mut buffer = [0; BUFFER_BYTES];
            buffer[..PACKET_BYTES].copy_from_slice(&packet);
            let question = Registers {
                eax: 0x4200,
                edx: u32::from(self.number),
                esi: buffer_address(),
                ..Registers::default()
            };
            answer = call(0x13, question, &mut buffer);
            if !answer.failed() {
                // SAFETY: `bytes` is at most the buffer's size, and nothing else is read while it is borrowed: the
                // caller copies at once.
                return Ok(unsafe { slice::from_raw_parts(place.cast(), bytes) });
            }
            let reset = Registers { edx: u32::from(self.number), ..Registers::default() };
            call(0x13, reset, &mut buffer);
        }
        Err(answer.code())
    }
}

impl BlockReader for Drive {
    fn read_blocks(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        if first_sector(first, buffer.len(), self.sectors).is_none() {
            return Err(DeviceError { block: first, code: BEYOND_END });
        }
        for (index, chunk) in buffer.chunks_mut(BOUNCE_BYTES).enumerate() {
            let block = first + (index * BOUNCE_BYTES / BLOCK_BYTES) as u64;
            let bytes = self.read(block * BLOCK_SECTORS, chunk.len());
            chunk.copy_from_slice(bytes.map_err(|code| DeviceError { block, code })?);
        }
        Ok(())
    }
}
