//! Ethernet frames and the few headers inside them that the switch's services speak: ARP, IPv4, UDP, ICMP. It reads
//! what a guest sent, so nothing here trusts a length. No fragments, no options, no VLANs, no IPv6.

use std::net::Ipv4Addr;

/// Length of destination, source and type.
pub const HEADER: usize = 14;
pub const TYPE_IPV4: u16 = 0x0800;
pub const TYPE_ARP: u16 = 0x0806;
const IPV4_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
pub const PROTOCOL_ICMP: u8 = 1;
pub const PROTOCOL_UDP: u8 = 17;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Broadcast or multicast: for more than one card.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A frame without its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub destination: Mac,
    pub source: Mac,
    pub kind: u16,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    pub fn parse(bytes: &'a [u8]) -> Option<Frame<'a>> {
        let (header, payload) = bytes.split_at_checked(HEADER)?;
        Some(Frame {
            destination: Mac(array(header)?),
            source: Mac(array(&header[6..])?),
            kind: u16::from_be_bytes(array(&header[12..])?),
            payload,
        })
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.extend(self.destination.0);
        bytes.extend(self.source.0);
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(self.payload);
        bytes
    }
}

/// An ARP message about IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 asks, 2 answers.
    pub operation: u16,
    pub sender: (Mac, Ipv4Addr),
    pub target: (Mac, Ipv4Addr),
}

impl Arp {
    const LENGTH: usize = 28;
    /// Hardware type Ethernet, protocol IPv4, and the lengths of both kinds of address.
    const START: [u8; 6] = [0, 1, 8, 0, 6, 4];

    pub fn parse(bytes: &[u8]) -> Option<Arp> {
        let bytes = bytes.get(..Self::LENGTH)?;
        if bytes[..6] != Self::START {
            return None;
        }
        Some(Arp {
            operation: u16::from_be_bytes(array(&bytes[6..])?),
            sender: (Mac(array(&bytes[8..])?), address(&bytes[14..])?),
            target: (Mac(array(&bytes[18..])?), address(&bytes[24..])?),
        })
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Self::START.to_vec();
        bytes.extend(self.operation.to_be_bytes());
        for (mac, address) in [self.sender, self.target] {
            bytes.extend(mac.0);
            bytes.extend(address.octets());
        }
        bytes
    }
}

/// An IPv4 packet that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4<'a> {
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// None for what is wrong, cut or a fragment.
    pub fn parse(bytes: &'a [u8]) -> Option<Ipv4<'a>> {
        let first = *bytes.first()?;
        let header_length = usize::from(first & 0xf) * 4;
        if first >> 4 != 4 || header_length < IPV4_HEADER {
            return None;
        }
        let header = bytes.get(..header_length)?;
        let length = usize::from(u16::from_be_bytes(array(&header[2..])?));
        let fragment = u16::from_be_bytes(array(&header[6..])?);
        // More fragments, or an offset.
        if fragment & 0x3fff != 0 || checksum(header) != 0 {
            return None;
        }
        Some(Ipv4 {
            protocol: header[9],
            source: address(&header[12..])?,
            destination: address(&header[16..])?,
            // Short frames are padded: what counts is the packet's own length.
            payload: bytes.get(header_length..length)?,
        })
    }

    /// The packet; none when it is longer than a packet can be.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let length = u16::try_from(IPV4_HEADER + self.payload.len()).ok()?;
        let mut bytes = vec![0x45, 0];
        bytes.extend(length.to_be_bytes());
        // No identification, "do not fragment", 64 hops.
        bytes.extend([0, 0, 0x40, 0, 64, self.protocol, 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        let sum = checksum(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(self.payload);
        Some(bytes)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp<'a> {
    pub source: u16,
    pub destination: u16,
    pub payload: &'a [u8],
}

impl<'a> Udp<'a> {
    pub fn parse(bytes: &'a [u8]) -> Option<Udp<'a>> {
        let header = bytes.get(..UDP_HEADER)?;
        let length = usize::from(u16::from_be_bytes(array(&header[4..])?));
        Some(Udp {
            source: u16::from_be_bytes(array(header)?),
            destination: u16::from_be_bytes(array(&header[2..])?),
            payload: bytes.get(UDP_HEADER..length)?,
        })
    }

    /// The datagram between two addresses, with its checksum.
    pub fn bytes(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Option<Vec<u8>> {
        let length = u16::try_from(UDP_HEADER + self.payload.len()).ok()?;
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.payload);
        let mut summed = Vec::new();
        summed.extend(source.octets());
        summed.extend(destination.octets());
        summed.extend([0, PROTOCOL_UDP]);
        summed.extend(length.to_be_bytes());
        summed.extend(&bytes);
        // Zero means "none was made".
        let sum = match checksum(&summed) {
            0 => 0xffff,
            sum => sum,
        };
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        Some(bytes)
    }
}

/// The Internet's checksum: zero over a header that holds a right one.
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&b| b.into()));
    let mut sum: u64 = words.map(u64::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.get(..N)?.try_into().ok()
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    array::<4>(bytes).map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn checksums_are_right() {
        // A header of an everyday packet, with its checksum.
        let header =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(checksum(&header), 0);
        assert_eq!(checksum(&[]), 0xffff);
        assert_eq!(checksum(&[1]), !0x0100);
    }

    #[test]
    fn what_is_wrong_is_nothing() {
        assert!(Frame::parse(&[0; HEADER - 1]).is_none());
        assert!(Arp::parse(&[0; 28]).is_none());
        let good = Ipv4 {
            protocol: PROTOCOL_UDP,
            source: Ipv4Addr::LOCALHOST,
            destination: Ipv4Addr::LOCALHOST,
            payload: b"abc",
        };
        let bytes = good.bytes().unwrap();
        // Padding after the packet's own length is not part of it.
        let mut padded = bytes.clone();
        padded.extend([0; 20]);
        assert_eq!(Ipv4::parse(&padded).unwrap(), good);
        for (at, value) in [(0, 0x65), (0, 0x41), (3, 200), (6, 0x20), (7, 1), (12, 9)] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            assert!(Ipv4::parse(&wrong).is_none(), "byte {at} = {value:#x}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(frame) = Frame::parse(&bytes) {
                prop_assert_eq!(frame.bytes(), bytes.clone());
            }
            let _ = (Arp::parse(&bytes), Ipv4::parse(&bytes), Udp::parse(&bytes));
        }

        #[test]
        fn what_is_written_is_read(
            macs: ([u8; 6], [u8; 6]),
            addresses: ([u8; 4], [u8; 4]),
            ports: (u16, u16),
            operation: u16,
            payload in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let (from, to) = (Ipv4Addr::from(addresses.0), Ipv4Addr::from(addresses.1));
            let udp = Udp { source: ports.0, destination: ports.1, payload: &payload };
            let datagram = udp.bytes(from, to).unwrap();
            prop_assert_eq!(Udp::parse(&datagram).unwrap(), udp);
            let packet = Ipv4 { protocol: PROTOCOL_UDP, source: from, destination: to, payload: &datagram };
            let packet_bytes = packet.bytes().unwrap();
            prop_assert_eq!(Ipv4::parse(&packet_bytes).unwrap(), packet);
            let frame = Frame { destination: Mac(macs.0), source: Mac(macs.1), kind: TYPE_IPV4, payload: &packet_bytes };
            let frame_bytes = frame.bytes();
            prop_assert_eq!(Frame::parse(&frame_bytes).unwrap(), frame);
            let arp = Arp { operation, sender: (Mac(macs.0), from), target: (Mac(macs.1), to) };
            prop_assert_eq!(Arp::parse(&arp.bytes()).unwrap(), arp);
        }
    }
}
