//! A disk's scheme: the whole disk and its partitions as files. One request is under way at a time.

use std::collections::BTreeMap;

use event::{EventFlags, RawEventQueue};
use redox_boot::device::{BlockReader, DeviceError};
use redox_boot::limits::BLOCK_BYTES;
use redox_boot::partition::partitions;
use redox_boot::virtio::block::{
    self, FEATURES, HEADER_BYTES, Operation, PIECES, QUEUE, SECTOR_BYTES, STATUS_MISSING, STATUS_OK, header,
    requests,
};
use redox_boot::virtio::ring::{Piece, Queue};
use redox_boot::virtio::transport::{QueuePlace, Transport, negotiate, queue_layout, ready};
use redox_drivers::disk::{Contents, Extent, Name};
use redox_drivers::limits::{DISK_BUFFER_BYTES, DISK_RING_MAX, HANDLES_MAX};
use redox_scheme::scheme::{SchemeSync, register_sync_scheme};
use redox_scheme::{CallerCtx, OpenResult, RequestKind, Response, SignalBehavior, Socket};
use syscall::dirent::{DirEntry, DirentBuf, DirentKind};
use syscall::error::{
    EACCES, EBADF, EINVAL, EIO, EISDIR, EMFILE, ENOENT, ENOLCK, ENOTDIR, EOPNOTSUPP, EROFS, Error, Result,
};
use syscall::flag::{MODE_DIR, MODE_FILE, O_ACCMODE, O_DIRECTORY, O_RDONLY, O_STAT};
use syscall::schemev2::NewFdFlags;
use syscall::{EventFlags as SchemeEvents, Stat};

use super::interrupt::Interrupt;
use super::memory::{Memory, Pages};
use super::{Failure, Found};

/// The device and what belongs to its one request.
struct Device {
    transport: Box<dyn Transport + Send>,
    interrupt: Interrupt,
    events: RawEventQueue,
    queue: Queue<Pages>,
    data: Pages,
    /// The header, then the status byte.
    request: Pages,
    about: block::Disk,
    /// What the device did that it must not do. It is not believed any more.
    broken: Option<Failure>,
}

impl Device {
    fn start(found: Found, memory: &Memory) -> std::result::Result<Device, Failure> {
        let Found { mut transport, interrupt, .. } = found;
        let device = &mut *transport;
        let refused = |refusal: redox_boot::virtio::Refusal| refusal.to_string();
        let features = negotiate(device, FEATURES).map_err(refused)?;
        let layout = queue_layout(device, QUEUE, DISK_RING_MAX, PIECES).map_err(refused)?;
        let ring = memory.allocate(layout.bytes())?;
        let place = QueuePlace { layout, address: ring.address(), vector: 0 };
        device.enable_queue(QUEUE, place).map_err(refused)?;
        let events = RawEventQueue::new().map_err(|error| format!("no event queue: {error}"))?;
        events
            .subscribe(interrupt.descriptor(), 0, EventFlags::READ)
            .map_err(|error| format!("cannot wait for interrupts: {error}"))?;
        let (data, request) = (memory.allocate(DISK_BUFFER_BYTES as usize)?, memory.allocate(BLOCK_BYTES)?);
        ready(device);
        let about = block::Disk::read(device, features, DISK_BUFFER_BYTES);
        let queue = Queue::new(layout, ring);
        Ok(Device { transport, interrupt, events, queue, data, request, about, broken: None })
    }

    /// One request, whose data lies in the buffer before or after it.
    fn request(&mut self, operation: Operation, sector: u64, bytes: u32) -> Result<()> {
        if self.broken.is_some() {
            return Err(Error::new(EIO));
        }
        self.request.write(0, &header(operation, sector));
        self.request.write(HEADER_BYTES, &[STATUS_MISSING]);
        let (request, data) = (self.request.address(), self.data.address());
        let piece = |address, bytes, device_writes| Piece { address, bytes, device_writes };
        let pieces = [
            piece(request, HEADER_BYTES as u32, false),
            piece(data, bytes, operation == Operation::Read),
            piece(request + HEADER_BYTES as u64, 1, true),
        ];
        let sent = if operation == Operation::Flush {
            self.queue.submit(&[pieces[0], pieces[2]])
        } else {
            self.queue.submit(&pieces)
        };
        let done = match sent {
            Some(_) => self.wait(),
            None => Err("its ring has no room for a request".into()),
        };
        if let Err(failure) = done {
            eprintln!("virtiod: the disk does not work any more: {failure}");
            self.broken = Some(failure);
            return Err(Error::new(EIO));
        }
        match self.request.read_byte(HEADER_BYTES) {
            STATUS_OK => Ok(()),
            status => {
                eprintln!(
                    "virtiod: {operation:?} of {bytes} bytes at sector {sector} failed with status {status}"
                );
                Err(Error::new(EIO))
            }
        }
    }

    fn wait(&mut self) -> std::result::Result<(), Failure> {
        if self.queue.wants_notification() {
            self.transport.notify(QUEUE);
        }
        loop {
            if self.queue.take().map_err(|error| error.to_string())?.is_some() {
                return Ok(());
            }
            match self.events.next_event() {
                Ok(_) => self.interrupt.acknowledge(&mut *self.transport)?,
                Err(error) if error.is_interrupt() => {}
                Err(error) => return Err(format!("cannot wait for an interrupt: {error}")),
            }
        }
    }

    /// Reads from any byte on.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut rest = buffer;
        for part in requests(offset, rest.len() as u64, self.about.request_bytes_max) {
            self.request(Operation::Read, part.sector, part.sectors * SECTOR_BYTES as u32)?;
            let (now, later) = rest.split_at_mut(part.bytes as usize);
            self.data.read(part.skip as usize, now);
            rest = later;
        }
        Ok(())
    }

    /// Writes whole sectors.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        for part in requests(offset, bytes.len() as u64, self.about.request_bytes_max) {
            let (now, later) = rest.split_at(part.bytes as usize);
            self.data.write(0, now);
            self.request(Operation::Write, part.sector, part.bytes)?;
            rest = later;
        }
        Ok(())
    }
}

impl BlockReader for Device {
    fn read_blocks(&mut self, first: u64, buffer: &mut [u8]) -> std::result::Result<(), DeviceError> {
        let offset = first.saturating_mul(BLOCK_BYTES as u64);
        let whole = Extent { start: 0, bytes: self.about.bytes() };
        if whole.clip(offset, buffer.len() as u64).bytes < buffer.len() as u64 {
            return Err(DeviceError { block: first, code: redox_boot::device::BEYOND_END });
        }
        self.read(offset, buffer).map_err(|error| DeviceError { block: first, code: error.errno as u64 })
    }
}

#[derive(Clone, Copy)]
enum Handle {
    SchemeRoot,
    Opened { name: Name, writes: bool },
}

struct Scheme {
    name: String,
    device: Device,
    contents: Contents,
    handles: BTreeMap<usize, Handle>,
    next: usize,
}

impl Scheme {
    fn insert(&mut self, handle: Handle) -> Result<usize> {
        if self.handles.len() >= HANDLES_MAX {
            return Err(Error::new(EMFILE));
        }
        self.next += 1;
        self.handles.insert(self.next, handle);
        Ok(self.next)
    }

    fn opened(&self, id: usize) -> Result<(Name, bool)> {
        match self.handles.get(&id) {
            Some(Handle::Opened { name, writes }) => Ok((*name, *writes)),
            _ => Err(Error::new(EBADF)),
        }
    }

    fn extent(&self, id: usize) -> Result<Extent> {
        self.contents.extent(self.opened(id)?.0).ok_or(Error::new(EISDIR))
    }
}

impl SchemeSync for Scheme {
    fn scheme_root(&mut self) -> Result<usize> {
        self.insert(Handle::SchemeRoot)
    }

    fn openat(
        &mut self,
        folder: usize,
        path: &str,
        flags: usize,
        _: u32,
        caller: &CallerCtx,
    ) -> Result<OpenResult> {
        if !matches!(self.handles.get(&folder), Some(Handle::SchemeRoot)) || caller.uid != 0 {
            return Err(Error::new(EACCES));
        }
        let name = Name::parse(path)
            .filter(|name| *name == Name::List || self.contents.extent(*name).is_some())
            .ok_or(Error::new(ENOENT))?;
        let (wants_folder, only_looks) = (flags & O_DIRECTORY == O_DIRECTORY, flags & O_STAT == O_STAT);
        match name {
            Name::List if !wants_folder && !only_looks => return Err(Error::new(EISDIR)),
            Name::Whole | Name::Part(_) if wants_folder => return Err(Error::new(ENOTDIR)),
            _ => {}
        }
        let is_taken = self
            .handles
            .values()
            .any(|handle| matches!(handle, Handle::Opened { name: other, .. } if name.conflicts(*other)));
        if is_taken {
            return Err(Error::new(ENOLCK));
        }
        // Whoever mounts a disk opens it to write, also one that cannot be written to.
        let writes = flags & O_ACCMODE != O_RDONLY;
        let number = self.insert(Handle::Opened { name, writes })?;
        Ok(OpenResult::ThisScheme { number, flags: NewFdFlags::POSITIONED })
    }

    fn read(&mut self, id: usize, buffer: &mut [u8], offset: u64, _: u32, _: &CallerCtx) -> Result<usize> {
        let part = self.extent(id)?.clip(offset, buffer.len() as u64);
        let buffer = &mut buffer[..part.bytes as usize];
        self.device.read(part.start, buffer)?;
        Ok(buffer.len())
    }

    fn write(&mut self, id: usize, bytes: &[u8], offset: u64, _: u32, _: &CallerCtx) -> Result<usize> {
        if !self.opened(id)?.1 {
            return Err(Error::new(EBADF));
        }
        if self.device.about.read_only {
            return Err(Error::new(EROFS));
        }
        let part = self.extent(id)?.clip(offset, bytes.len() as u64);
        if !part.start.is_multiple_of(SECTOR_BYTES) || !part.bytes.is_multiple_of(SECTOR_BYTES) {
            return Err(Error::new(EINVAL));
        }
        self.device.write(part.start, &bytes[..part.bytes as usize])?;
        Ok(part.bytes as usize)
    }

    fn fsize(&mut self, id: usize, _: &CallerCtx) -> Result<u64> {
        Ok(self.extent(id)?.bytes)
    }

    fn fsync(&mut self, id: usize, _: &CallerCtx) -> Result<()> {
        self.opened(id)?;
        if self.device.about.can_flush { self.device.request(Operation::Flush, 0, 0) } else { Ok(()) }
    }

    fn fstat(&mut self, id: usize, stat: &mut Stat, _: &CallerCtx) -> Result<()> {
        if self.opened(id)?.0 == Name::List {
            stat.st_mode = MODE_DIR;
            return Ok(());
        }
        let extent = self.extent(id)?;
        stat.st_mode = MODE_FILE;
        stat.st_size = extent.bytes;
        stat.st_blksize = self.device.about.block_bytes;
        stat.st_blocks = extent.bytes / SECTOR_BYTES;
        Ok(())
    }

    fn fpath(&mut self, id: usize, buffer: &mut [u8], _: &CallerCtx) -> Result<usize> {
        let path = format!("/scheme/{}/{}", self.name, self.opened(id)?.0.path());
        let length = path.len().min(buffer.len());
        buffer[..length].copy_from_slice(&path.as_bytes()[..length]);
        Ok(length)
    }

    fn fevent(&mut self, id: usize, _: SchemeEvents, _: &CallerCtx) -> Result<SchemeEvents> {
        self.opened(id)?;
        Ok(SchemeEvents::empty())
    }

    fn getdents<'buf>(
        &mut self,
        id: usize,
        mut buffer: DirentBuf<&'buf mut [u8]>,
        first: u64,
    ) -> Result<DirentBuf<&'buf mut [u8]>> {
        if self.opened(id)?.0 != Name::List {
            return Err(Error::new(ENOTDIR));
        }
        let skipped = usize::try_from(first).unwrap_or(usize::MAX);
        for (index, name) in self.contents.names().enumerate().skip(skipped) {
            let entry = DirEntry {
                inode: 0,
                next_opaque_id: index as u64 + 1,
                name: &name.path(),
                kind: DirentKind::BlockDev,
            };
            if let Err(error) = buffer.entry(entry) {
                // What is there already is given; the rest is asked for again.
                if index == skipped {
                    return Err(error);
                }
                break;
            }
        }
        Ok(buffer)
    }

    fn on_close(&mut self, id: usize) {
        self.handles.remove(&id);
    }
}

pub struct Disk {
    socket: Socket,
    scheme: Scheme,
}

impl Disk {
    pub fn start(found: Found, memory: &Memory) -> std::result::Result<Disk, Failure> {
        let name = format!("disk.{}_virtio_blk", found.name);
        let mut device = Device::start(found, memory).map_err(|failure| format!("{name}: {failure}"))?;
        let partitions = partitions(&mut device).unwrap_or_else(|error| {
            eprintln!("virtiod: {name}: no partitions: {error}");
            Vec::new()
        });
        let about = device.about;
        eprintln!(
            "virtiod: {name}: {} MiB{}, {} partitions, a queue of {}",
            about.bytes() >> 20,
            if about.read_only { " to be read only" } else { "" },
            partitions.len(),
            device.queue.size(),
        );
        let contents = Contents::new(about.bytes(), &partitions);
        let mut scheme = Scheme { name, device, contents, handles: BTreeMap::new(), next: 0 };
        let name = scheme.name.clone();
        let fail = |error| format!("cannot register the scheme {name}: {error}");
        let socket = Socket::create().map_err(fail)?;
        register_sync_scheme(&socket, &name, &mut scheme).map_err(fail)?;
        Ok(Disk { socket, scheme })
    }

    /// Answers until something fails, and says what.
    pub fn serve(&mut self) -> Failure {
        loop {
            let response = match self.socket.next_request(SignalBehavior::Restart) {
                Ok(Some(request)) => match request.kind() {
                    RequestKind::Call(call) => call.handle_sync(&mut self.scheme),
                    RequestKind::OnClose { id } => {
                        self.scheme.on_close(id);
                        continue;
                    }
                    RequestKind::SendFd(request) => Response::err(EOPNOTSUPP, request),
                    RequestKind::RecvFd(request) => Response::err(EOPNOTSUPP, request),
                    // Requests are answered before the next one is read, so there is nothing to cancel.
                    _ => continue,
                },
                Ok(None) => return format!("{} was unmounted", self.scheme.name),
                Err(error) => return format!("{}: cannot read requests: {error}", self.scheme.name),
            };
            if let Err(error) = self.socket.write_response(response, SignalBehavior::Restart) {
                return format!("{}: cannot answer: {error}", self.scheme.name);
            }
        }
    }
}
