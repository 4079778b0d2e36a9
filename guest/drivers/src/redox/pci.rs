//! The PCI function that the PCI daemon hands over: its structures are mapped and its interrupt is set up. Does not
//! start the device.

use std::env;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;

use redox_boot::virtio::Kind;
use redox_boot::virtio::capability::{
    ConfigurationSpace, MSI_X_ENABLE, MSI_X_ENTRY_BYTES, MSI_X_MASK_ALL, MsiX, Place, msi_x, structures,
};
use redox_boot::virtio::transport::{PciTransport, Registers};
use redox_drivers::limits::ANSWER_BYTES_MAX;
use redox_drivers::pci_daemon::{Request, parse_function, parse_value};

use super::interrupt::Interrupt;
use super::memory::{Memory, Window};
use super::{Failure, Found};

const CHANNEL_KEY: &str = "PCID_CLIENT_CHANNEL";

/// The way to the daemon. What fails is kept, because reading configuration space has no room for it.
struct Channel {
    file: File,
    failure: Option<Failure>,
}

impl Channel {
    fn open() -> Result<Channel, Failure> {
        let number = env::var(CHANNEL_KEY).ok().and_then(|text| text.parse().ok());
        let number = number.ok_or_else(|| {
            format!("there is no {CHANNEL_KEY}: the PCI daemon starts this driver, by its table of drivers")
        })?;
        // SAFETY: the daemon opened the channel for this process, and nothing else here uses it.
        Ok(Channel { file: unsafe { File::from_raw_fd(number) }, failure: None })
    }

    fn ask(&mut self, request: Request) -> Result<Vec<u8>, Failure> {
        let fail = |error: std::io::Error| format!("cannot talk to the PCI daemon: {error}");
        self.file.write_all(&request.to_bytes()).map_err(fail)?;
        let mut length = [0; 8];
        self.file.read_exact(&mut length).map_err(fail)?;
        let length = u64::from_le_bytes(length);
        if length > ANSWER_BYTES_MAX {
            return Err(format!("an answer of the PCI daemon has {length} bytes"));
        }
        let mut answer = vec![0; length as usize];
        self.file.read_exact(&mut answer).map_err(fail)?;
        Ok(answer)
    }

    fn value(&mut self, request: Request) -> Result<u32, Failure> {
        let answer = self.ask(request)?;
        parse_value(request, &answer).map_err(|error| error.to_string())
    }

    fn set_message_control(&mut self, found: &MsiX, control: u16) -> Result<(), Failure> {
        let offset = u16::from(found.capability);
        let header = self.value(Request::ReadConfiguration { offset })?;
        let value = header & 0xFFFF | u32::from(control) << 16;
        self.value(Request::WriteConfiguration { offset, value }).map(|_| ())
    }

    /// Whatever went wrong while configuration space was read goes before what came of it.
    fn checked<T>(&mut self, found: T) -> Result<T, Failure> {
        self.failure.take().map_or(Ok(found), Err)
    }
}

impl ConfigurationSpace for Channel {
    fn read_u32(&mut self, offset: u8) -> u32 {
        self.value(Request::ReadConfiguration { offset: offset.into() }).unwrap_or_else(|failure| {
            self.failure.get_or_insert(failure);
            0
        })
    }
}

pub fn find(memory: &Memory) -> Result<Found, Failure> {
    let mut channel = Channel::open()?;
    let function = parse_function(&channel.ask(Request::Function)?).map_err(|error| error.to_string())?;
    let fail = |failure: &dyn std::fmt::Display| format!("{function}: {failure}");
    let (vendor, identity) = (function.vendor, function.identity);
    let kind = Kind::from_pci(vendor, identity).ok_or_else(|| {
        fail(&format!("{vendor:04x}:{identity:04x} is no modern virtio disk or network card"))
    })?;
    let found = structures(&mut channel);
    let found = channel.checked(found)?.map_err(|refusal| fail(&refusal))?;
    let map = |place: Place| memory.map_registers(place.address, place.bytes);
    let (common, notify) = (map(found.common)?, map(found.notify)?);
    let (why, device) = (map(found.interrupt)?, map(found.device)?);
    let transport = PciTransport::new(common, notify, found.notify_step, why, device)
        .map_err(|refusal| fail(&refusal))?;
    let messages = msi_x(&mut channel);
    let interrupt = match (channel.checked(messages)?, function.interrupt_line) {
        (Some(messages), _) => message_interrupt(&mut channel, memory, &messages)?,
        (None, Some(line)) => Interrupt::line(line.into())?,
        (None, None) => return Err(fail(&"it has no interrupt")),
    };
    // As long as the channel is open the device is this driver's. The next run of the daemon's spawner would open a
    // closed one, which turns messages off.
    std::mem::forget(channel);
    let number =
        u32::from(function.bus) << 8 | u32::from(function.device) << 3 | u32::from(function.function);
    Ok(Found { kind, transport: Box::new(transport), interrupt, name: function.to_string(), number })
}

/// The first message of the table raises an interrupt, the others stay masked. All queues use it.
fn message_interrupt(channel: &mut Channel, memory: &Memory, found: &MsiX) -> Result<Interrupt, Failure> {
    let (interrupt, message) = Interrupt::message()?;
    let mut table: Window = memory.map_registers(found.table.address, found.table.bytes)?;
    channel.set_message_control(found, MSI_X_ENABLE | MSI_X_MASK_ALL)?;
    for entry in 0..table.bytes() / MSI_X_ENTRY_BYTES as usize {
        table.write_u32(entry * MSI_X_ENTRY_BYTES as usize + 12, 1);
    }
    table.write_u32(0, message.address as u32);
    table.write_u32(4, (message.address >> 32) as u32);
    table.write_u32(8, message.data);
    table.write_u32(12, 0);
    channel.set_message_control(found, MSI_X_ENABLE)?;
    Ok(interrupt)
}
