//! What the switch itself answers: who has its address, echo requests, and DHCP. It sends nothing unasked.

use std::net::Ipv4Addr;

use super::frame::{Arp, Frame, Ipv4, Mac, PROTOCOL_ICMP, PROTOCOL_UDP, TYPE_ARP, TYPE_IPV4, Udp, checksum};
use super::{GATEWAY, dhcp};

/// The switch's own card.
pub const OWN_MAC: Mac = Mac([0x52, 0x54, 0x00, 0x77, 0x00, 0x01]);

/// The answer to a frame, if the switch has one. `lease` is the address of the card that sent it, where it has one.
pub fn respond(bytes: &[u8], lease: Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let frame = Frame::parse(bytes)?;
    if frame.destination != OWN_MAC && !frame.destination.is_group() {
        return None;
    }
    match frame.kind {
        TYPE_ARP => who_has(&frame),
        TYPE_IPV4 => {
            let packet = Ipv4::parse(frame.payload)?;
            match packet.protocol {
                PROTOCOL_ICMP if packet.destination == GATEWAY => echo(&frame, &packet),
                PROTOCOL_UDP => lend(&frame, &packet, lease?),
                _ => None,
            }
        }
        _ => None,
    }
}

fn who_has(frame: &Frame<'_>) -> Option<Vec<u8>> {
    let question = Arp::parse(frame.payload)?;
    if question.operation != 1 || question.target.1 != GATEWAY {
        return None;
    }
    let answer = Arp { operation: 2, sender: (OWN_MAC, GATEWAY), target: question.sender };
    Some(
        Frame { destination: frame.source, source: OWN_MAC, kind: TYPE_ARP, payload: &answer.bytes() }
            .bytes(),
    )
}

fn echo(frame: &Frame<'_>, packet: &Ipv4<'_>) -> Option<Vec<u8>> {
    // Type 8, code 0.
    if packet.payload.len() < 8 || packet.payload[..2] != [8, 0] {
        return None;
    }
    let mut message = packet.payload.to_vec();
    message[0] = 0;
    message[2..4].fill(0);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let answer =
        Ipv4 { protocol: PROTOCOL_ICMP, source: GATEWAY, destination: packet.source, payload: &message };
    packed(frame.source, &answer)
}

fn lend(frame: &Frame<'_>, packet: &Ipv4<'_>, lease: Ipv4Addr) -> Option<Vec<u8>> {
    let datagram = Udp::parse(packet.payload)?;
    if datagram.destination != dhcp::SERVER_PORT {
        return None;
    }
    let message = dhcp::answer(datagram.payload, lease)?;
    // The asker has no address yet: the card's own may be used, but everybody understands broadcast.
    let udp = Udp { source: dhcp::SERVER_PORT, destination: dhcp::CLIENT_PORT, payload: &message };
    let udp = udp.bytes(GATEWAY, Ipv4Addr::BROADCAST)?;
    let answer =
        Ipv4 { protocol: PROTOCOL_UDP, source: GATEWAY, destination: Ipv4Addr::BROADCAST, payload: &udp };
    packed(if frame.source.is_group() { Mac::BROADCAST } else { frame.source }, &answer)
}

fn packed(destination: Mac, packet: &Ipv4<'_>) -> Option<Vec<u8>> {
    let payload = packet.bytes()?;
    Some(Frame { destination, source: OWN_MAC, kind: TYPE_IPV4, payload: &payload }.bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUEST: (Mac, Ipv4Addr) = (Mac([0x52, 0x54, 0, 0x77, 0, 11]), Ipv4Addr::new(10, 77, 0, 11));

    fn frame(destination: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
        Frame { destination, source: GUEST.0, kind, payload }.bytes()
    }

    #[test]
    fn it_says_where_it_is_and_nobody_else() {
        let ask = |address| {
            let question = Arp { operation: 1, sender: GUEST, target: (Mac([0; 6]), address) };
            respond(&frame(Mac::BROADCAST, TYPE_ARP, &question.bytes()), None)
        };
        let answer = ask(GATEWAY).unwrap();
        let answer = Frame::parse(&answer).unwrap();
        assert_eq!(answer.destination, GUEST.0);
        let answer = Arp::parse(answer.payload).unwrap();
        assert_eq!((answer.operation, answer.sender, answer.target), (2, (OWN_MAC, GATEWAY), GUEST));
        assert_eq!(ask(Ipv4Addr::new(10, 77, 0, 12)), None);
    }

    #[test]
    fn it_echoes() {
        let mut message = vec![8, 0, 0, 0, 1, 2, 0, 7];
        message.extend(b"data");
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let packet =
            Ipv4 { protocol: PROTOCOL_ICMP, source: GUEST.1, destination: GATEWAY, payload: &message };
        let answer = respond(&frame(OWN_MAC, TYPE_IPV4, &packet.bytes().unwrap()), None).unwrap();
        let answer = Ipv4::parse(Frame::parse(&answer).unwrap().payload).unwrap();
        assert_eq!(answer.destination, GUEST.1);
        assert_eq!((answer.payload[0], checksum(answer.payload)), (0, 0));
        assert_eq!(answer.payload[4..], message[4..]);
    }

    proptest! {
        #[test]
        fn no_frame_stops_it(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in prop::sample::select(vec![TYPE_ARP, TYPE_IPV4])) {
            let _ = respond(&bytes, Some(GUEST.1));
            let _ = respond(&frame(Mac::BROADCAST, kind, &bytes), Some(GUEST.1));
        }
    }
}
