//! A network card's scheme: its root reads and writes packets, `mac` has its address.

use std::collections::{BTreeMap, VecDeque};

use event::{EventFlags, RawEventQueue};
use redox_boot::virtio::network::{
    FEATURES, FRAME_BYTES_MAX, HEADER_BYTES, RECEIVE_QUEUE, SEND_QUEUE, address, made_up_address, packet,
};
use redox_boot::virtio::ring::{Piece, Queue};
use redox_boot::virtio::transport::{QueuePlace, Transport, negotiate, queue_layout, ready};
use redox_drivers::limits::{HANDLES_MAX, NETWORK_RING_MAX, PACKET_BYTES, WAITING_PACKETS_MAX};
use redox_scheme::scheme::{IntoTag, Op, SchemeResponse, SchemeSync, register_sync_scheme};
use redox_scheme::{CallerCtx, OpenResult, RequestKind, Response, SignalBehavior, Socket};
use syscall::error::{
    EACCES, EAGAIN, EBADF, EINTR, EINVAL, EIO, EMFILE, EMSGSIZE, ENOENT, EOPNOTSUPP, EWOULDBLOCK, Error,
    Result,
};
use syscall::flag::{EVENT_READ, MODE_FILE};
use syscall::schemev2::NewFdFlags;
use syscall::{EventFlags as SchemeEvents, Stat};

use super::interrupt::Interrupt;
use super::memory::{Memory, Pages};
use super::{Failure, Found};

/// A ring with memory for one packet for each descriptor.
struct PacketQueue {
    index: u16,
    queue: Queue<Pages>,
    packets: Pages,
    /// By the name of a chain: the place of its packet.
    places: Vec<u16>,
    free: Vec<u16>,
}

impl PacketQueue {
    fn start(
        device: &mut (dyn Transport + Send),
        memory: &Memory,
        index: u16,
    ) -> std::result::Result<PacketQueue, Failure> {
        let refused = |refusal: redox_boot::virtio::Refusal| refusal.to_string();
        let layout = queue_layout(device, index, NETWORK_RING_MAX, 1).map_err(refused)?;
        let ring = memory.allocate(layout.bytes())?;
        let place = QueuePlace { layout, address: ring.address(), vector: 0 };
        device.enable_queue(index, place).map_err(refused)?;
        let size = layout.size();
        let packets = memory.allocate(usize::from(size) * PACKET_BYTES)?;
        let free = (0..size).rev().collect();
        Ok(PacketQueue {
            index,
            queue: Queue::new(layout, ring),
            packets,
            places: vec![0; usize::from(size)],
            free,
        })
    }

    /// Hands the memory at a place to the device. There is a descriptor for each.
    fn submit(&mut self, place: u16, bytes: usize, device_writes: bool) {
        let address = self.packets.address() + u64::from(place) * PACKET_BYTES as u64;
        match self.queue.submit(&[Piece { address, bytes: bytes as u32, device_writes }]) {
            Some(head) => self.places[usize::from(head)] = place,
            None => self.free.push(place),
        }
    }

    fn notify(&self, device: &mut (dyn Transport + Send)) {
        if self.queue.wants_notification() {
            device.notify(self.index);
        }
    }
}

/// The card.
struct Card {
    transport: Box<dyn Transport + Send>,
    receive: PacketQueue,
    send: PacketQueue,
    /// Packets that came: their places and the bytes the card wrote.
    waiting: VecDeque<(u16, u32)>,
    address: [u8; 6],
    /// What the card did that it must not do.
    broken: Option<Failure>,
}

impl Card {
    /// Takes what the card gave back.
    fn collect(&mut self) {
        while self.waiting.len() < WAITING_PACKETS_MAX {
            match self.receive.queue.take() {
                Ok(Some(done)) => {
                    self.waiting.push_back((self.receive.places[usize::from(done.head)], done.written));
                }
                Ok(None) => break,
                Err(error) => return self.fail(error.to_string()),
            }
        }
        loop {
            match self.send.queue.take() {
                Ok(Some(done)) => self.send.free.push(self.send.places[usize::from(done.head)]),
                Ok(None) => break,
                Err(error) => return self.fail(error.to_string()),
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.broken.get_or_insert(failure);
    }

    /// The next packet, as far as the buffer reaches.
    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let (place, written) = self.waiting.pop_front()?;
        let mut bytes = [0; PACKET_BYTES];
        self.receive.packets.read(usize::from(place) * PACKET_BYTES, &mut bytes);
        let packet = packet(&bytes, written);
        let length = packet.len().min(buffer.len());
        buffer[..length].copy_from_slice(&packet[..length]);
        self.receive.submit(place, PACKET_BYTES, true);
        self.receive.notify(&mut *self.transport);
        Some(length)
    }

    /// Sends a packet; false where the card has all places.
    fn write(&mut self, packet: &[u8]) -> bool {
        if self.send.free.is_empty() {
            self.send.queue.set_interrupts(true);
            self.collect();
        }
        let Some(place) = self.send.free.pop() else { return false };
        self.send.queue.set_interrupts(false);
        let at = usize::from(place) * PACKET_BYTES;
        self.send.packets.write(at, &[0; HEADER_BYTES]);
        self.send.packets.write(at + HEADER_BYTES, packet);
        self.send.submit(place, HEADER_BYTES + packet.len(), false);
        self.send.notify(&mut *self.transport);
        true
    }
}

#[derive(Clone, Copy)]
enum Handle {
    SchemeRoot,
    Packets,
    Address,
}

struct Scheme {
    name: String,
    card: Card,
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

    fn opened(&self, id: usize) -> Result<Handle> {
        match self.handles.get(&id) {
            None | Some(Handle::SchemeRoot) => Err(Error::new(EBADF)),
            Some(handle) => Ok(*handle),
        }
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
        _: usize,
        _: u32,
        caller: &CallerCtx,
    ) -> Result<OpenResult> {
        if !matches!(self.handles.get(&folder), Some(Handle::SchemeRoot)) || caller.uid != 0 {
            return Err(Error::new(EACCES));
        }
        let (handle, flags) = match path.trim_matches('/') {
            "" => (Handle::Packets, NewFdFlags::empty()),
            "mac" => (Handle::Address, NewFdFlags::POSITIONED),
            _ => return Err(Error::new(ENOENT)),
        };
        Ok(OpenResult::ThisScheme { number: self.insert(handle)?, flags })
    }

    fn read(&mut self, id: usize, buffer: &mut [u8], offset: u64, _: u32, _: &CallerCtx) -> Result<usize> {
        if let Handle::Address = self.opened(id)? {
            let rest = &self.card.address[offset.min(6) as usize..];
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            return Ok(length);
        }
        if self.card.broken.is_some() {
            return Err(Error::new(EIO));
        }
        self.card.collect();
        self.card.read(buffer).ok_or(Error::new(EWOULDBLOCK))
    }

    fn write(&mut self, id: usize, bytes: &[u8], _: u64, _: u32, _: &CallerCtx) -> Result<usize> {
        let Handle::Packets = self.opened(id)? else { return Err(Error::new(EINVAL)) };
        if self.card.broken.is_some() {
            return Err(Error::new(EIO));
        }
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(Error::new(EMSGSIZE));
        }
        if self.card.write(bytes) { Ok(bytes.len()) } else { Err(Error::new(EWOULDBLOCK)) }
    }

    fn fevent(&mut self, id: usize, _: SchemeEvents, _: &CallerCtx) -> Result<SchemeEvents> {
        let Handle::Packets = self.opened(id)? else { return Ok(SchemeEvents::empty()) };
        self.card.collect();
        Ok(if self.card.waiting.is_empty() { SchemeEvents::empty() } else { EVENT_READ })
    }

    fn fpath(&mut self, id: usize, buffer: &mut [u8], _: &CallerCtx) -> Result<usize> {
        let below = if let Handle::Address = self.opened(id)? { "mac" } else { "" };
        let path = format!("/scheme/{}/{below}", self.name);
        let length = path.len().min(buffer.len());
        buffer[..length].copy_from_slice(&path.as_bytes()[..length]);
        Ok(length)
    }

    fn fstat(&mut self, id: usize, stat: &mut Stat, _: &CallerCtx) -> Result<()> {
        match self.opened(id)? {
            Handle::Address => {
                stat.st_mode = MODE_FILE | 0o400;
                stat.st_size = 6;
            }
            _ => stat.st_mode = MODE_FILE | 0o600,
        }
        Ok(())
    }

    fn fsync(&mut self, id: usize, _: &CallerCtx) -> Result<()> {
        self.opened(id).map(|_| ())
    }

    fn on_close(&mut self, id: usize) {
        self.handles.remove(&id);
    }
}

pub struct Network {
    socket: Socket,
    scheme: Scheme,
    interrupt: Interrupt,
    events: RawEventQueue,
}

/// Requests that wait for a packet, or for room for one.
type Parked = Vec<(Op, CallerCtx)>;

const FROM_SOCKET: usize = 0;
const FROM_CARD: usize = 1;

impl Network {
    pub fn start(found: Found, memory: &Memory) -> std::result::Result<Network, Failure> {
        let Found { mut transport, interrupt, name, number, .. } = found;
        let name = format!("network.{name}_virtio_net");
        let fail = |failure: &dyn std::fmt::Display| format!("{name}: {failure}");
        let device = &mut *transport;
        let features = negotiate(device, FEATURES).map_err(|refusal| fail(&refusal))?;
        let address = address(device, features).unwrap_or_else(|| made_up_address(number));
        let mut receive =
            PacketQueue::start(device, memory, RECEIVE_QUEUE).map_err(|failure| fail(&failure))?;
        let mut send = PacketQueue::start(device, memory, SEND_QUEUE).map_err(|failure| fail(&failure))?;
        // Packets sent are collected when the next one is.
        send.queue.set_interrupts(false);
        while let Some(place) = receive.free.pop() {
            receive.submit(place, PACKET_BYTES, true);
        }
        ready(device);
        receive.notify(device);
        let [a, b, c, d, e, f] = address;
        eprintln!(
            "virtiod: {name}: {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}, queues of {} and {}",
            receive.queue.size(),
            send.queue.size()
        );
        let card = Card { transport, receive, send, waiting: VecDeque::new(), address, broken: None };
        let mut scheme = Scheme { name, card, handles: BTreeMap::new(), next: 0 };
        let name = scheme.name.clone();
        let fail = |error| format!("cannot register the scheme {name}: {error}");
        let socket = Socket::nonblock().map_err(fail)?;
        // Later nothing can be opened by name any more, and an event queue is.
        let events = RawEventQueue::new().map_err(|error| format!("no event queue: {error}"))?;
        for (descriptor, from) in [(socket.inner().raw(), FROM_SOCKET), (interrupt.descriptor(), FROM_CARD)] {
            events
                .subscribe(descriptor, from, EventFlags::READ)
                .map_err(|error| format!("cannot wait for events: {error}"))?;
        }
        register_sync_scheme(&socket, &name, &mut scheme).map_err(fail)?;
        Ok(Network { socket, scheme, interrupt, events })
    }

    /// Answers until something fails, and says what.
    pub fn serve(&mut self) -> Failure {
        let failure = self.try_serve().err().unwrap_or_else(|| "it was unmounted".into());
        format!("{}: {failure}", self.scheme.name)
    }

    fn try_serve(&mut self) -> std::result::Result<(), Failure> {
        let mut parked = Parked::new();
        // What came before anybody waited for it.
        let mut is_there = self.answer_all(&mut parked)?;
        while is_there {
            match self.events.next_event() {
                Ok(event) if event.user_data == FROM_CARD => {
                    self.interrupt.acknowledge(&mut *self.scheme.card.transport)?;
                }
                Ok(_) => {}
                Err(error) if error.is_interrupt() => continue,
                Err(error) => return Err(format!("cannot wait for events: {error}")),
            }
            is_there = self.answer_all(&mut parked)?;
        }
        Ok(())
    }

    /// Everything that can be done now. False once nobody can ask any more.
    fn answer_all(&mut self, parked: &mut Parked) -> std::result::Result<bool, Failure> {
        self.scheme.card.collect();
        if let Some(failure) = self.scheme.card.broken.clone() {
            return Err(failure);
        }
        for (operation, caller) in std::mem::take(parked) {
            self.answer(operation, caller, parked)?;
        }
        loop {
            let request = match self.socket.next_request(SignalBehavior::Restart) {
                Ok(Some(request)) => request,
                Ok(None) => return Ok(false),
                Err(error) if error.errno == EAGAIN => break,
                Err(error) => return Err(format!("cannot read requests: {error}")),
            };
            match request.kind() {
                RequestKind::Call(call) => {
                    let caller = call.caller();
                    match call.op() {
                        Ok(operation) => self.answer(operation, caller, parked)?,
                        Err(call) => self.respond(Response::err(EOPNOTSUPP, call))?,
                    }
                }
                RequestKind::OnClose { id } => self.scheme.on_close(id),
                RequestKind::SendFd(request) => self.respond(Response::err(EOPNOTSUPP, request))?,
                RequestKind::RecvFd(request) => self.respond(Response::err(EOPNOTSUPP, request))?,
                RequestKind::Cancellation(cancelled) => {
                    let found = parked.iter().position(|(operation, _)| operation.req_id() == cancelled.id);
                    if let Some(index) = found {
                        let (operation, _) = parked.remove(index);
                        self.respond(Response::err(EINTR, operation))?;
                    }
                }
                _ => {}
            }
        }
        self.tell_readers()?;
        Ok(true)
    }

    fn answer(
        &mut self,
        mut operation: Op,
        caller: CallerCtx,
        parked: &mut Parked,
    ) -> std::result::Result<(), Failure> {
        let response = match operation.handle_sync_dont_consume(&caller, &mut self.scheme) {
            SchemeResponse::Regular(Err(Error { errno: EWOULDBLOCK }))
                if !operation.is_explicitly_nonblock() =>
            {
                parked.push((operation, caller));
                return Ok(());
            }
            SchemeResponse::Regular(result) => Response::new(result, operation),
            SchemeResponse::Opened(result) => Response::open_dup_like(result, operation),
        };
        self.respond(response)
    }

    fn respond(&mut self, response: Response) -> std::result::Result<(), Failure> {
        match self.socket.write_response(response, SignalBehavior::Restart) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("cannot answer: {error}")),
        }
    }

    /// Says to those who wait for events that there are packets.
    fn tell_readers(&mut self) -> std::result::Result<(), Failure> {
        self.scheme.card.collect();
        if self.scheme.card.waiting.is_empty() {
            return Ok(());
        }
        let readers: Vec<usize> = self
            .scheme
            .handles
            .iter()
            .filter(|(_, handle)| matches!(handle, Handle::Packets))
            .map(|(id, _)| *id)
            .collect();
        for id in readers {
            self.respond(Response::post_fevent(id, EVENT_READ.bits()))?;
        }
        Ok(())
    }
}
