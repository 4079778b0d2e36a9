//! The daemon's start: which devices there are, their drivers, readiness, and the loss of everything not needed any
//! more. Knows no registers.

mod disk;
mod interrupt;
mod memory;
mod network;
mod pci;

use std::env;
use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::process;

use redox_boot::virtio::Kind;
use redox_boot::virtio::slots::{ENVIRONMENT_KEY, Slot};
use redox_boot::virtio::transport::{SlotTransport, Transport};

use crate::redox::interrupt::Interrupt;
use crate::redox::memory::Memory;

/// What went wrong, for the log.
pub type Failure = String;

/// A device that was found, as its driver gets it.
pub struct Found {
    pub kind: Kind,
    pub transport: Box<dyn Transport + Send>,
    pub interrupt: Interrupt,
    /// What schemes are named after.
    pub name: String,
    /// Tells devices of one machine apart.
    pub number: u32,
}

/// A driver whose device works and whose scheme is there.
enum Driver {
    Disk(disk::Disk),
    Network(network::Network),
}

impl Driver {
    fn start(found: Found, memory: &Memory) -> Result<Driver, Failure> {
        match found.kind {
            Kind::Block => disk::Disk::start(found, memory).map(Driver::Disk),
            Kind::Network => network::Network::start(found, memory).map(Driver::Network),
        }
    }

    /// Answers until something fails, and then ends the daemon.
    fn serve(self) -> ! {
        let failure = match self {
            Driver::Disk(mut disk) => disk.serve(),
            Driver::Network(mut network) => network.serve(),
        };
        fail(&failure)
    }
}

fn fail(failure: &str) -> ! {
    eprintln!("virtiod: {failure}");
    process::exit(1)
}

pub fn main() {
    let drivers = match env::args().nth(1).as_deref() {
        None => pci_driver().map(|driver| vec![driver]),
        Some("slots") => slot_drivers(),
        Some(other) => {
            Err(format!("unknown argument `{other}`; there is `slots`, and none for a PCI device"))
        }
    };
    let mut drivers = drivers.unwrap_or_else(|failure| fail(&failure));
    tell_ready();
    // Nothing is opened by name from here on.
    if let Err(error) = libredox::call::setrens(0, 0) {
        fail(&format!("cannot enter the empty namespace: {error}"));
    }
    let Some(last) = drivers.pop() else { return };
    for driver in drivers {
        std::thread::spawn(move || driver.serve());
    }
    last.serve()
}

fn pci_driver() -> Result<Driver, Failure> {
    let memory = Memory::open()?;
    let found = pci::find(&memory)?;
    Driver::start(found, &memory)
}

/// Drivers for the slots in the environment. What is wrong with one of them does not keep the others from working.
fn slot_drivers() -> Result<Vec<Driver>, Failure> {
    let list = env::var(ENVIRONMENT_KEY).unwrap_or_default();
    let (slots, unreadable) = Slot::parse_list(&list);
    for text in unreadable {
        eprintln!("virtiod: `{text}` in {ENVIRONMENT_KEY} is no memory slot");
    }
    if slots.is_empty() {
        return Ok(Vec::new());
    }
    let memory = Memory::open()?;
    let mut drivers = Vec::new();
    for slot in slots {
        match slot_driver(&slot, &memory) {
            Ok(driver) => drivers.extend(driver),
            Err(failure) => eprintln!("virtiod: memory slot {slot}: {failure}"),
        }
    }
    Ok(drivers)
}

fn slot_driver(slot: &Slot, memory: &Memory) -> Result<Option<Driver>, Failure> {
    let window = memory.map_registers(slot.address, slot.bytes)?;
    let Some((kind, transport)) = SlotTransport::new(window).map_err(|refusal| refusal.to_string())? else {
        return Ok(None);
    };
    let found = Found {
        kind,
        transport: Box::new(transport),
        interrupt: Interrupt::line(slot.interrupt)?,
        name: format!("mmio-{:x}", slot.address),
        number: (slot.address >> 8) as u32,
    };
    Driver::start(found, memory).map(Some)
}

/// Tells who started this daemon that its schemes are there.
fn tell_ready() {
    let Some(pipe) = env::var("INIT_NOTIFY").ok().and_then(|text| text.parse().ok()) else { return };
    // SAFETY: whoever started the daemon opened the pipe for it, and nothing else here uses it.
    let mut pipe = unsafe { File::from_raw_fd(pipe) };
    if let Err(error) = pipe.write_all(&[0]) {
        eprintln!("virtiod: cannot tell init of its readiness: {error}");
    }
}
