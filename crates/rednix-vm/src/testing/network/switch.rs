//! The switch: a thread that hands frames from card to card. It learns where a card is from what it sends, floods
//! what it does not know, and drops what a slow card does not take, as a wire would.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::capture::Capture;
use super::frame::{Frame, Mac};
use super::services;
use crate::limits::{FRAME_MAX, FRAMES_AT_ONCE, SWITCH_ADDRESSES_MAX, SWITCH_POLL};

/// A running switch; it ends when this is dropped.
pub struct Switch {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ports: Mutex<Vec<Port>>,
    statistics: Mutex<Statistics>,
    ends: AtomicBool,
}

/// One card's place; its socket goes and comes with the machine.
struct Port {
    lease: Ipv4Addr,
    socket: Option<Arc<UnixDatagram>>,
}

/// What went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub frames: u64,
    /// Frames that a card did not take in time, that were longer than a card sends, or that were none.
    pub dropped: u64,
    /// Answers of the switch itself.
    pub answered: u64,
}

impl Switch {
    /// A switch with a place for each card, of these addresses. Frames are also written to `capture`.
    pub fn start(leases: &[Ipv4Addr], capture: Option<&Path>) -> io::Result<Switch> {
        let capture = capture.map(Capture::create).transpose()?;
        let shared = Arc::new(Shared::default());
        shared.ports().extend(leases.iter().map(|&lease| Port { lease, socket: None }));
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("switch".into())
            .spawn(move || Bridge { capture, ..Bridge::new() }.run(&theirs))?;
        Ok(Switch { shared, thread: Some(thread) })
    }

    /// Plugs in the card with this number: the other end of the answer is the switch. What was plugged in before is
    /// out then.
    pub fn plug(&self, number: usize) -> io::Result<UnixDatagram> {
        let (ours, theirs) = UnixDatagram::pair()?;
        ours.set_nonblocking(true)?;
        let mut ports = self.shared.ports();
        let port = ports.get_mut(number).ok_or_else(|| io::Error::other("the switch has no such place"))?;
        port.socket = Some(Arc::new(ours));
        Ok(theirs)
    }

    pub fn statistics(&self) -> Statistics {
        *self.shared.statistics.lock().expect("no holder panics")
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn ports(&self) -> MutexGuard<'_, Vec<Port>> {
        self.ports.lock().expect("no holder panics")
    }

    /// The sockets that are plugged in, by number.
    fn sockets(&self) -> Vec<(usize, Arc<UnixDatagram>, Ipv4Addr)> {
        let ports = self.ports();
        let plugged = ports.iter().enumerate();
        plugged.filter_map(|(at, port)| Some((at, port.socket.clone()?, port.lease))).collect()
    }

    fn count(&self, change: impl FnOnce(&mut Statistics)) {
        change(&mut self.statistics.lock().expect("no holder panics"));
    }
}

/// The thread's own state.
struct Bridge {
    places: HashMap<Mac, usize>,
    capture: Option<Capture>,
    started: Instant,
}

impl Bridge {
    fn new() -> Self {
        Bridge { places: HashMap::new(), capture: None, started: Instant::now() }
    }

    fn run(mut self, shared: &Shared) {
        let mut buffer = vec![0; FRAME_MAX + 1];
        while !shared.ends.load(Ordering::Relaxed) {
            let sockets = shared.sockets();
            for at in readable(&sockets) {
                let (number, socket, lease) = &sockets[at];
                for _ in 0..FRAMES_AT_ONCE {
                    match socket.recv(&mut buffer) {
                        // An empty datagram, or the end of a machine: neither is a frame.
                        Ok(0) => break,
                        Ok(count) if count > FRAME_MAX => shared.count(|all| all.dropped += 1),
                        Ok(count) => self.frame(shared, &sockets, *number, *lease, &buffer[..count]),
                        Err(_) => break,
                    }
                }
            }
        }
        if let Some(capture) = &mut self.capture {
            // What is missing at its end is only the record.
            let _ = capture.flush();
        }
    }

    fn frame(
        &mut self,
        shared: &Shared,
        sockets: &[(usize, Arc<UnixDatagram>, Ipv4Addr)],
        from: usize,
        lease: Ipv4Addr,
        bytes: &[u8],
    ) {
        let Some(frame) = Frame::parse(bytes) else {
            return shared.count(|all| all.dropped += 1);
        };
        shared.count(|all| all.frames += 1);
        self.record(bytes);
        if !frame.source.is_group()
            && (self.places.len() < SWITCH_ADDRESSES_MAX || self.places.contains_key(&frame.source))
        {
            self.places.insert(frame.source, from);
        }
        if let Some(answer) = services::respond(bytes, Some(lease)) {
            shared.count(|all| all.answered += 1);
            self.record(&answer);
            send(shared, sockets, |number| number == from, &answer);
        }
        if frame.destination == services::OWN_MAC {
            return;
        }
        match self.places.get(&frame.destination).copied() {
            Some(place) if !frame.destination.is_group() => {
                send(shared, sockets, |number| number == place && number != from, bytes);
            }
            _ => send(shared, sockets, |number| number != from, bytes),
        }
    }

    fn record(&mut self, bytes: &[u8]) {
        let at = self.started.elapsed();
        if let Some(capture) = &mut self.capture
            && capture.frame(at, bytes).is_err()
        {
            // A full disk ends the record, not the network.
            self.capture = None;
        }
    }
}

fn send(
    shared: &Shared,
    sockets: &[(usize, Arc<UnixDatagram>, Ipv4Addr)],
    takes: impl Fn(usize) -> bool,
    bytes: &[u8],
) {
    for (_, socket, _) in sockets.iter().filter(|(number, ..)| takes(*number)) {
        if socket.send(bytes).is_err() {
            shared.count(|all| all.dropped += 1);
        }
    }
}

/// The places in `sockets` that have something to read; none after a while, so that new sockets are seen.
fn readable(sockets: &[(usize, Arc<UnixDatagram>, Ipv4Addr)]) -> Vec<usize> {
    if sockets.is_empty() {
        std::thread::sleep(SWITCH_POLL);
        return Vec::new();
    }
    let mut polled: Vec<PollFd<'_>> = sockets
        .iter()
        .map(|(_, socket, _)| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN))
        .collect();
    let pause = Timespec { tv_sec: 0, tv_nsec: SWITCH_POLL.subsec_nanos().into() };
    if poll(&mut polled, Some(&pause)).is_err() {
        return Vec::new();
    }
    let found: Vec<usize> = polled
        .iter()
        .enumerate()
        .filter(|(_, one)| one.revents().contains(PollFlags::IN))
        .map(|(at, _)| at)
        .collect();
    if found.is_empty() && polled.iter().any(|one| !one.revents().is_empty()) {
        // The other end of a socket is gone: `poll` answers at once from here on.
        std::thread::sleep(Duration::from_millis(5));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::network::{GATEWAY, address_of, mac_of};

    fn receive(socket: &UnixDatagram) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 2000];
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket.recv(&mut buffer).ok().map(|count| buffer[..count].to_vec())
    }

    fn nothing(socket: &UnixDatagram) -> bool {
        socket.set_read_timeout(Some(Duration::from_millis(80))).unwrap();
        socket.recv(&mut [0; 10]).is_err()
    }

    fn frame(from: usize, to: Mac) -> Vec<u8> {
        Frame { destination: to, source: mac_of(from), kind: 0x88b5, payload: &[from as u8; 50] }.bytes()
    }

    #[test]
    fn it_learns_where_cards_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("network.pcap");
        let switch = Switch::start(&[address_of(0), address_of(1), address_of(2)], Some(&file)).unwrap();
        let cards: Vec<UnixDatagram> = (0..3).map(|number| switch.plug(number).unwrap()).collect();
        // Nobody has heard of card 1 yet.
        cards[0].send(&frame(0, mac_of(1))).unwrap();
        assert_eq!(receive(&cards[1]).unwrap(), frame(0, mac_of(1)));
        assert_eq!(receive(&cards[2]).unwrap(), frame(0, mac_of(1)));
        // Card 0 is known, and then so is card 1.
        cards[1].send(&frame(1, mac_of(0))).unwrap();
        assert_eq!(receive(&cards[0]).unwrap(), frame(1, mac_of(0)));
        cards[0].send(&frame(0, mac_of(1))).unwrap();
        assert_eq!(receive(&cards[1]).unwrap(), frame(0, mac_of(1)));
        assert!(nothing(&cards[2]));
        // A group is for everybody else.
        cards[2].send(&frame(2, Mac::BROADCAST)).unwrap();
        assert!(receive(&cards[0]).is_some() && receive(&cards[1]).is_some());
        assert!(nothing(&cards[2]), "nobody hears himself");
        let counted = switch.statistics();
        assert_eq!((counted.frames, counted.dropped, counted.answered), (4, 0, 0));
        drop(switch);
        assert_eq!(std::fs::metadata(file).unwrap().len(), 24 + 4 * (16 + 64));
    }

    #[test]
    fn what_is_no_frame_is_dropped_and_a_machine_may_go_and_come() {
        let switch = Switch::start(&[address_of(0), address_of(1)], None).unwrap();
        let (first, second) = (switch.plug(0).unwrap(), switch.plug(1).unwrap());
        first.send(&[1; 5]).unwrap();
        first.send(&vec![1; FRAME_MAX + 1]).unwrap();
        first.send(&frame(0, mac_of(1))).unwrap();
        assert_eq!(receive(&second).unwrap(), frame(0, mac_of(1)));
        assert_eq!(switch.statistics().dropped, 2);
        drop(second);
        first.send(&frame(0, mac_of(1))).unwrap();
        let again = switch.plug(1).unwrap();
        // Until the switch has seen that it came.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            first.send(&frame(0, mac_of(1))).unwrap();
            if !nothing(&again) {
                break;
            }
        }
        first.send(&frame(0, mac_of(1))).unwrap();
        assert_eq!(receive(&again).unwrap(), frame(0, mac_of(1)));
        assert!(switch.plug(2).is_err());
    }

    #[test]
    fn it_answers_for_its_own_address() {
        use super::super::frame::{Arp, TYPE_ARP};
        let switch = Switch::start(&[address_of(0)], None).unwrap();
        let card = switch.plug(0).unwrap();
        let question =
            Arp { operation: 1, sender: (mac_of(0), address_of(0)), target: (Mac([0; 6]), GATEWAY) };
        let payload = question.bytes();
        let asked =
            Frame { destination: Mac::BROADCAST, source: mac_of(0), kind: TYPE_ARP, payload: &payload };
        card.send(&asked.bytes()).unwrap();
        let answer = receive(&card).unwrap();
        assert_eq!(Arp::parse(Frame::parse(&answer).unwrap().payload).unwrap().sender.1, GATEWAY);
    }
}
